"""Two-sample test by classifier: can one tell composed pieces from real ones? (C2ST, Lopez-Paz & Oquab 2017)

Two families of features, neither of which any scorer of training sees: `shape` (form, line, harmony, rhythm; boosted
trees) and `notes` (which short runs of notes occur; logistic regression). An area under the ROC curve of .5 says that
they cannot be told apart. Tempo, dynamics, timing finer than a twelfth of a quarter, and endings are left out: real sets
differ from each other in these more than music does.

Shapes: N pieces of both samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from huesong.evaluate.quality.cadences import cadence_figures
from huesong.evaluate.quality.harmony import TRIADS, best_chords, chord_edges, classes_in, harmony_figures
from huesong.evaluate.quality.melody import gap_classes, line, line_figures
from huesong.evaluate.quality.piece import TOGETHER, Piece, cut, on_grid
from huesong.evaluate.quality.structure import form_figures
from huesong.va import USUAL, Bootstrap

FOLDS = 5
KEPT = 0.85
"""Share of the asked length that pieces of both samples are cut to: neither lengths nor endings tell."""
LENGTHS = (1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1, 3 / 2, 2, 3, 4)
"""Quarters: classes of times."""
WORDS = 2**14
"""Hashed runs of notes."""
RUNS = (1, 3)
"""Notes of a run: fewest, most."""


@dataclass(frozen=True)
class Sample:
    """Pieces, and for each its group: pieces of one group are never on both sides of a fold."""

    pieces: Sequence[Piece]
    groups: Sequence[str]


def told_apart(
    composed: Sample, real: Sample, seconds: float, bootstrap: Bootstrap = USUAL, prefix: str = "c2st_"
) -> dict[str, float]:
    """`<prefix>shape`, `<prefix>notes`: area under the ROC curve of scores from folds, with intervals over groups.

    Args:
        composed, real: the two samples.
        seconds: the asked length; all pieces are cut to KEPT of it.
        bootstrap: for the intervals; its seed also draws the folds.
        prefix: of the figures; `<prefix>n`, `<prefix>n_real`: pieces of each sample.

    Returns:
        Nothing where a sample has fewer than FOLDS groups.
    """
    if min(len(set(composed.groups)), len(set(real.groups))) < FOLDS:
        return {}
    pieces = [on_grid(cut(piece, KEPT * seconds)) for piece in (*composed.pieces, *real.pieces)]
    label_N = np.repeat([1, 0], [len(composed.pieces), len(real.pieces)])
    groups = [f"composed {one}" for one in composed.groups] + [f"real {one}" for one in real.groups]
    _, group_N = np.unique(groups, return_inverse=True)
    found: dict[str, float] = {f"{prefix}n": len(composed.pieces), f"{prefix}n_real": len(real.pieces)}
    for name, (features, model) in FAMILIES.items():
        score_N = fold_scores(features(pieces), label_N, group_N, model, bootstrap.seed)
        found[prefix + name] = float(roc_area(label_N, score_N))
        interval = bootstrap.over(group_N).interval(roc_area, label_N, score_N)
        if interval is not None:
            found[f"{prefix}{name}_low"], found[f"{prefix}{name}_high"] = interval
    return found


def fold_scores(
    rows: Any, label_N: np.ndarray, group_N: np.ndarray, model: Callable[[int], Any], seed: int
) -> np.ndarray:
    """For each piece the probability that it is composed, by a model that has seen no piece of its group [N]."""
    from sklearn.model_selection import StratifiedGroupKFold

    score_N = np.zeros(len(label_N))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(np.zeros(len(label_N)), label_N, group_N):
        score_N[test] = model(seed).fit(rows[train], label_N[train]).predict_proba(rows[test])[:, 1]
    return score_N


def roc_area(label: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Area under the ROC curve over the last axis (Mann-Whitney); NaN where one label is missing."""
    from scipy.stats import rankdata

    ones, items = label.sum(axis=-1), label.shape[-1]
    ranks = (rankdata(score, axis=-1) * label).sum(axis=-1)
    pairs = ones * (items - ones)
    area = (ranks - ones * (ones + 1) / 2) / np.maximum(pairs, 1)
    found: np.ndarray = np.where(pairs > 0, area, np.nan)
    return found


# --- shape: form, line, harmony, rhythm ----------------------------------------------------------


def shape_rows(pieces: Sequence[Piece]) -> np.ndarray:
    """Features [N, F] of `shape`; NaN where undefined, which boosted trees take as it is."""
    rows = [shape_features(piece) for piece in pieces]
    names = sorted({name for row in rows for name in row})
    return np.array([[row.get(name, np.nan) for name in names] for row in rows], dtype=float)


def shape_features(piece: Piece) -> dict[str, float]:
    """The figures of quality but those that need long pieces, and how intervals, times, chords and voices are spread.

    Every piece counts as barred here: who has no bars would be known by that alone.
    """
    if len(piece) < 2:
        return {}
    barred = Piece(piece.notes, piece.starts, piece.beats)
    found = line_figures(barred) | form_figures(barred) | harmony_figures(barred) | cadence_figures(barred)
    interval, _ = line(barred)
    notes, melody = piece.notes, piece.melody
    onset = notes.onset_q[np.flatnonzero(np.diff(notes.onset_q, prepend=-np.inf) > TOGETHER)]
    sizes = np.bincount(np.searchsorted(onset, notes.onset_q + 1e-6) - 1)
    beat = np.round((notes.onset_q - piece.starts[barred.bar]) % 1 * 12).astype(int) % 12
    edges = chord_edges(piece)
    windows = classes_in(piece, edges)
    chords, _ = best_chords(windows[windows.sum(axis=1) > 0])
    roots = np.diff(chords % 12) % 12
    bass = np.minimum.reduceat(notes.pitch, np.flatnonzero(np.diff(notes.onset_q, prepend=-np.inf) > TOGETHER))
    top = notes.pitch[melody]
    per_bar = np.bincount(barred.bar, minlength=len(piece.starts) - 1)
    return {
        **{name: value for name, value in found.items() if not name.startswith("si_")},
        **_shares("interval", np.clip(interval, -13, 13) + 13, 27),
        **_shares("size", np.minimum(np.abs(interval), 20), 21),
        **_shares("gap", _class_of(np.diff(onset)), len(LENGTHS)),
        **_shares("length", _class_of(notes.end_q - notes.onset_q), len(LENGTHS)),
        **_shares("beat", beat, 12),
        **_shares("together", np.minimum(sizes, 6), 7),
        **_shares("chord", chords // 12, len(TRIADS)),
        **_shares("root", roots, 12),
        **_shares("bass", np.minimum(np.abs(np.diff(bass)), 13), 14),
        "root_stays": float((roots == 0).mean()) if len(roots) else np.nan,
        "top_mean": float(top.mean()), "top_sd": float(top.std()), "bass_mean": float(bass.mean()), "bass_sd": float(bass.std()),
        "turns": float((np.diff(np.sign(interval)) != 0).mean()) if len(interval) > 1 else np.nan,
        "bar_notes": float(per_bar.mean()), "bar_notes_sd": float(per_bar.std() / max(per_bar.mean(), 1e-9)),
        "gap_kinds": float(len(np.unique(gap_classes(np.diff(onset))))) if len(onset) > 1 else np.nan,
        "beat_quarters": float(piece.beats.mean()),
    }  # fmt: skip


def _shares(name: str, values: np.ndarray, size: int) -> dict[str, float]:
    counts = np.bincount(values.astype(int), minlength=size)[:size] / max(len(values), 1)
    return {f"{name}_{index}": float(share) for index, share in enumerate(counts)}


def _class_of(quarters: np.ndarray) -> np.ndarray:
    """The nearest of LENGTHS, in ratio."""
    found: np.ndarray = np.abs(np.log(np.maximum(quarters, 1 / 24))[:, None] - np.log(LENGTHS)).argmin(axis=1)
    return found


def _trees(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.1, min_samples_leaf=8, class_weight="balanced", random_state=seed
    )


# --- notes: which short runs of notes occur ------------------------------------------------------


def run_rows(pieces: Sequence[Piece]) -> Any:
    """How often hashed runs of RUNS notes occur in each piece, as logs, of length 1: sparse [N, WORDS]."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.preprocessing import normalize

    hashed = HashingVectorizer(
        n_features=WORDS, analyzer="word", ngram_range=RUNS, token_pattern=r"\S+", norm=None, alternate_sign=False
    ).transform([words(piece) for piece in pieces])
    hashed.data = np.log1p(hashed.data)
    return normalize(hashed)


def words(piece: Piece) -> str:
    """A word a note, by onset, then pitch: interval from the note before, time since then, length."""
    notes = piece.notes
    interval = np.clip(np.diff(notes.pitch, prepend=notes.pitch[:1]), -24, 24)
    gap = np.diff(notes.onset_q, prepend=notes.onset_q[:1])
    gap_class = np.where(gap < TOGETHER, -1, _class_of(gap))
    length = _class_of(notes.end_q - notes.onset_q)
    return " ".join(f"{i}/{g}/{n}" for i, g, n in zip(interval, gap_class, length, strict=True))


def _logistic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10.0, class_weight="balanced", max_iter=500, random_state=seed)


FAMILIES: dict[str, tuple[Callable[[Sequence[Piece]], Any], Callable[[int], Any]]] = {
    "shape": (shape_rows, _trees),
    "notes": (run_rows, _logistic),
}
"""What a family makes of pieces, and what learns from it."""


def balanced(sources: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Rows of about `count` pieces, equally many of each source (no more than the smallest has), drawn by `seed`."""
    rng = np.random.default_rng(seed)
    names = np.asarray(sources)
    kinds = sorted(set(sources))
    each = min([-(-count // max(len(kinds), 1)), *(int((names == kind).sum()) for kind in kinds)]) if kinds else 0
    rows = [rng.permutation(np.flatnonzero(names == kind))[:each] for kind in kinds]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *rows]))
