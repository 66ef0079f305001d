"""Real pieces for the tables of quality: whole files on their bars, held-out ones first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from symusic import Score

from huesong import contracts
from huesong.data.tables import read_table
from huesong.evaluate.quality.piece import Piece, piece_of
from huesong.metre.align import align
from huesong.metre.bars import BarLines
from huesong.music.reading import read_score
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log, track


@dataclass(frozen=True)
class RealPiece:
    """A piece of a set, on its bars, and its score on them; whether a generator learns from its group."""

    source: str
    group: str
    learnt: bool
    piece: Piece
    score: Score


def real_pieces(data: Path, pieces: pd.DataFrame, most: int, seed: int, taught: bool = False) -> list[RealPiece]:
    """At most `most` pieces of each set, drawn by `seed`, groups spread.

    Args:
        data: raw data; its sets need not be those that anything was learnt from.
        pieces: PIECES_TABLE of what was learnt from; its groups of split `train` are learnt.
        most: of each set.
        seed: of the draw.
        taught: learnt pieces alone; else pieces of other groups, and learnt ones only where a set has too few others.

    Raises:
        UserError: the table is missing.
    """
    learnt = pieces[pieces["split"] == "train"]
    table = read_table(data, contracts.MUSIC_CSV)
    known = table["id"].isin(learnt["piece"]) | table["group"].isin(learnt["group"])
    table = table.assign(learnt=known).sample(frac=1, random_state=seed)
    if taught:
        table = table[table["learnt"]]
    # One piece of each group before a second one of any.
    table["turn"] = table.groupby("group").cumcount()
    table = table.sort_values(["source", "learnt", "turn"], kind="stable").groupby("source").head(most)
    found = []
    for row in track(list(table.itertuples()), "quality: reading real pieces", total=len(table)):
        try:
            score = read_score(data / str(row.path))
        except UserError as error:
            log.warning("left out: %s", error)
            continue
        bars = str(getattr(row, "bars", "") or "")
        aligned = align(score, BarLines.parse(bars) if bars else None)
        piece = piece_of(aligned.score, aligned.bars.source != "none")
        if len(piece):
            found.append(RealPiece(str(row.source), str(row.group), bool(row.learnt), piece, aligned.score))
    return found


def long_enough(pieces: Sequence[RealPiece], seconds: float) -> list[RealPiece]:
    """Those that last `seconds`."""
    return [one for one in pieces if one.piece.seconds >= seconds]


def sources_of(pieces: Sequence[RealPiece], fewest: int) -> list[str]:
    """Sets with at least `fewest` of these pieces.

    Raises:
        UserError: there is none.
    """
    names, counts = np.unique([one.source for one in pieces], return_counts=True)
    kept = [str(name) for name, count in zip(names, counts, strict=True) if count >= fewest]
    if not kept:
        raise UserError(f"no set has {fewest} pieces that are long enough: ask for fewer --seconds")
    return kept
