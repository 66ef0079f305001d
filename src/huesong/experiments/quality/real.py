"""Real pieces for the tables of quality: whole files on their bars, of groups that nobody learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from symusic import Score

from huesong import contracts
from huesong.evaluate.quality.piece import Piece, piece_of
from huesong.metre.align import align
from huesong.metre.bars import BarLines
from huesong.music.reading import read_score
from huesong.runtime.errors import UserError
from huesong.runtime.files import require
from huesong.runtime.progress import track


@dataclass(frozen=True)
class RealPiece:
    """A piece of a set: `piece` on its bars, `score` as the file has it."""

    source: str
    group: str
    piece: Piece
    score: Score


def real_pieces(data: Path, preprocess: Path, splits: Sequence[str], most: int, seed: int) -> list[RealPiece]:
    """At most `most` pieces of each set, drawn by `seed` among those that preprocess kept, groups spread.

    Raises:
        UserError: the artifacts or a file are missing.
    """
    table = pd.read_parquet(require(preprocess / contracts.PIECES_TABLE, "huesong preprocess"))
    table = table[table["split"].isin(splits)].drop_duplicates("piece")
    chosen = table.sample(frac=1, random_state=seed)
    # One piece of each group before a second one of any.
    chosen = chosen.assign(turn=chosen.groupby("group").cumcount()).sort_values(["source", "turn"], kind="stable")
    chosen = chosen.groupby("source").head(most)
    found = []
    for row in track(list(chosen.itertuples()), "quality: reading real pieces", total=len(chosen)):
        score = read_score(data / str(row.path))
        known = str(getattr(row, "bars", "") or "")
        aligned = align(score, BarLines.parse(known) if known else None)
        barred = aligned.bars.source != "none"
        found.append(RealPiece(str(row.source), str(row.group), piece_of(aligned.score, barred), score))
    return found


def long_enough(pieces: Sequence[RealPiece], seconds: float) -> list[RealPiece]:
    """Those that last `seconds`."""
    return [one for one in pieces if len(one.piece) and one.piece.seconds >= seconds]


def sources_of(pieces: Sequence[RealPiece], fewest: int) -> list[str]:
    """Sets with at least `fewest` of these pieces.

    Raises:
        UserError: there is none.
    """
    names, counts = np.unique([one.source for one in pieces], return_counts=True)
    kept = [str(name) for name, count in zip(names, counts, strict=True) if count >= fewest]
    if not kept:
        raise UserError(f"no set has {fewest} held-out pieces that are long enough: ask for fewer --seconds")
    return kept
