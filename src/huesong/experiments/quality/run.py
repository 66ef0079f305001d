"""`huesong experiment quality`: composed pieces of several lengths beside baselines and real music of each set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from symusic import Score

from huesong import contracts
from huesong.evaluate.novelty import Corpus, Library, symbols_of
from huesong.evaluate.quality.cadences import HEADS, weights
from huesong.evaluate.quality.figures import piece_figures, set_figures
from huesong.evaluate.quality.piece import Piece, cut, piece_of
from huesong.evaluate.quality.two_sample import FOLDS, KEPT, Sample, balanced, told_apart
from huesong.experiments.quality.arms import Arm, Asked, composed, requests_of
from huesong.experiments.quality.baselines import copier, markov
from huesong.experiments.quality.page import markdown
from huesong.experiments.quality.real import RealPiece, long_enough, real_pieces, sources_of
from huesong.model.copying.losses import copy_figures
from huesong.model.copying.passages import copy_rows
from huesong.model.folder import load_modules
from huesong.music import tokens
from huesong.music.form import header
from huesong.music.form.analysis import analyse
from huesong.music.form.heads import heads_of
from huesong.music.reading import read_score
from huesong.runtime.files import require, write_json
from huesong.runtime.progress import log
from huesong.va import Bootstrap

FIGURES, PAGE = "quality.json", "quality.md"
TAUGHT = 40
"""Training pieces of each set that the baselines copy and learn from."""
COPY_PIECES = 64
"""Held-out pieces that the copy test takes its passages from."""


@dataclass(frozen=True)
class Plan:
    """What is measured. real: pieces of each set, at most. workers: processes that compose; 0 = one a core."""

    seconds: tuple[float, ...] = (15.0, 30.0, 60.0, 120.0)
    n: int = 200
    asked: Asked = "grid"
    seed: int = 0
    real: int = 60
    bootstrap: int = 1000
    workers: int = 0


@dataclass(frozen=True)
class Measured:
    """Pieces of one kind at one length, with the group of each."""

    pieces: Sequence[Piece]
    groups: Sequence[str]


def run(arms: Sequence[Arm], plan: Plan, *, data: Path, preprocess: Path, out: Path, music: Path | None = None) -> Path:
    """Compose what `out` lacks, measure everything, and write FIGURES and PAGE into `out`; returns the page.

    Args:
        arms: models and settings; may be none: then only baselines and real music are measured.
        plan: lengths, numbers, requests.
        data: raw data that was learnt from, for pictures and baselines.
        preprocess: its artifacts: splits, and the training music that may have been copied.
        out: folder of the experiment; its music/ is used again.
        music: raw data of the real sets to compare with; None = `data`.

    Raises:
        UserError: something is missing, or no real piece is long enough.
    """
    table = pd.read_parquet(require(preprocess / contracts.PIECES_TABLE, "huesong preprocess"))
    log.info("quality: reading what may have been copied")
    train = np.flatnonzero((table["split"] == "train").to_numpy())
    corpus = Corpus(Library(preprocess, table).symbols(train))
    real = real_pieces(music or data, table, plan.real, plan.seed)
    taught = [one.piece for one in real_pieces(data, table, TAUGHT, plan.seed, taught=True)]
    lengths: dict[str, Any] = {}
    for seconds in plan.seconds:
        requests = requests_of(plan.asked, plan.n, seconds, plan.seed, data, preprocess) if arms else []
        made: dict[str, Measured] = {}
        for arm in arms:
            files = composed(arm, requests, out / "music" / arm.folder(seconds, plan.asked, plan.seed), plan.workers)
            pieces = [piece_of(read_score(file)) for file in files]
            made[arm.name] = Measured(pieces, request_groups(requests))
        alone = [str(number) for number in range(plan.n)]
        made["copier"] = Measured(copier(taught, seconds, plan.n, plan.seed), alone)
        made["Markov chain"] = Measured(markov(taught, seconds, plan.n, plan.seed), alone)
        lengths[f"{seconds:g}"] = length_figures(made, long_enough(real, KEPT * seconds), seconds, plan, corpus)
    copying = {str(arm.model.name): copy_test(arm.model, real, plan.seed) for arm in arms}
    detector = {head: weights()[head]["val"] for head in HEADS}
    found = {"plan": vars(plan), "lengths": lengths, "copying": copying, "detector": detector}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / FIGURES, found)
    (out / PAGE).write_text(markdown(found), encoding="utf-8")
    return out / PAGE


def request_groups(requests: Sequence[Any]) -> list[str]:
    """Pieces for one picture are one group; those of the grid stand alone."""
    return [str(one.picture) if one.picture is not None else str(number) for number, one in enumerate(requests)]


def length_figures(
    made: dict[str, Measured], real: Sequence[RealPiece], seconds: float, plan: Plan, corpus: Corpus
) -> dict[str, dict[str, float]]:
    """By name the figures of every arm and baseline, of all real sets pooled (`real`) and of each (`real SET`)."""
    bootstrap = Bootstrap(plan.bootstrap, plan.seed)
    sources = sources_of(real, FOLDS)
    kept = [one for one in real if one.source in sources]
    found = {}
    for name, sample in made.items():
        if sample.pieces:
            found[name] = figures_of(sample, seconds, bootstrap, corpus) | told(
                sample, pool(kept, plan), seconds, bootstrap
            )
    found["real"] = figures_of(pool(kept, plan), seconds, bootstrap, corpus) | halves(kept, seconds, plan)
    found["real"]["n_learnt"] = sum(one.learnt for one in kept)
    for source in sources:
        own = [one for one in kept if one.source == source]
        others = [one for one in kept if one.source != source]
        sample = Measured([one.piece for one in own], [one.group for one in own])
        found[f"real {source}"] = figures_of(sample, seconds, bootstrap, corpus)
        found[f"real {source}"]["n_learnt"] = sum(one.learnt for one in own)
        if others:
            found[f"real {source}"] |= told(sample, pool(others, plan), seconds, bootstrap)
    return found


def pool(real: Sequence[RealPiece], plan: Plan) -> Measured:
    """About `plan.n` pieces, equally many of each set."""
    rows = balanced([one.source for one in real], plan.n, plan.seed)
    return Measured([real[row].piece for row in rows], [real[row].group for row in rows])


def halves(real: Sequence[RealPiece], seconds: float, plan: Plan) -> dict[str, float]:
    """The two-sample test of one half of the real groups against the other: .5 but for chance."""
    names = sorted({one.group for one in real})
    first = set(np.random.default_rng(plan.seed).permutation(names)[: len(names) // 2].tolist())
    sides = [[one for one in real if (one.group in first) == side] for side in (True, False)]
    if not all(sides):
        return {}
    return told(pool(sides[0], plan), pool(sides[1], plan), seconds, Bootstrap(plan.bootstrap, plan.seed))


def figures_of(sample: Measured, seconds: float, bootstrap: Bootstrap, corpus: Corpus) -> dict[str, float]:
    """n, the figures of quality, and what was copied from training pieces; all of pieces cut to `seconds`."""
    pieces = [cut(piece, seconds) for piece in sample.pieces]
    copied = corpus.longest_copies([symbols_of(piece.notes) for piece in pieces])
    rows = [
        piece_figures(piece) | {"copied_notes": float(notes), "copied_share": float(notes) / max(len(piece), 1)}
        for piece, notes in zip(pieces, copied, strict=True)
    ]
    names = rows[0] if rows else {}
    return {"n": len(pieces)} | set_figures(rows, bootstrap.over(np.array(sample.groups)), names=names)


def told(sample: Measured, real: Measured, seconds: float, bootstrap: Bootstrap) -> dict[str, float]:
    """`told_apart` of two samples."""
    return told_apart(Sample(sample.pieces, sample.groups), Sample(real.pieces, real.groups), seconds, bootstrap)


def as_learnt(tokenizer: Any, score: Score, heads: bool) -> list[int]:
    """Token ids of a score on its bars, as training has them: with the heads of its plan, if the vocabulary has any."""
    if not heads:
        return tokens.encode(tokenizer, score)
    plan = analyse(score)
    beginning = header.beginning("mixed", plan.tonic, plan.mode)
    return tokens.apply_bpe(tokenizer, tokens.encode_base(tokenizer, score, heads_of(plan), beginning))


def copy_test(folder: Path, real: Sequence[RealPiece], seed: int) -> dict[str, float]:
    """The copy test of a model folder, with passages of held-out pieces under the heads that their own plans give them."""
    model = load_modules(folder)
    tokenizer = tokens.load(folder / contracts.TOKENIZER)
    rows = np.random.default_rng(seed).permutation(len(real))[:COPY_PIECES]
    heads = model.vocabulary.has_heads
    encoded = [np.array(as_learnt(tokenizer, real[row].score, heads), dtype=np.int64) for row in rows]
    encoded = [ids for ids in encoded if len(ids)]
    count = np.array([len(ids) for ids in encoded], dtype=np.int64)
    passages = copy_rows(
        model.vocabulary, np.concatenate([np.zeros(0, np.int64), *encoded]), np.cumsum(count) - count, count,
        context=model.network.config.context, seed=seed,
    )  # fmt: skip
    return copy_figures(model.network, passages, model.device)
