"""What the analysis and the planner learn from annotated music: counts, written as one small JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from huesong.experiments.structure.annotated import Annotated
from huesong.music.form.analysis import hear
from huesong.music.form.heard.chords import KINDS, beat_weights
from huesong.music.form.heard.grid import Grid, grid_of
from huesong.music.form.heard.phrases import LONGEST, USUAL, boundary_features
from huesong.music.reading import listen

SMOOTHING = 0.02
"""Added to every share of a pitch class."""
READINESS, LENGTHS, LONG = 1.5, 0.7, 2.0
"""Added to the log odds of a boundary, so that as many are found as people hear; weight of the lengths beside it; what
is taken from lengths above the usual.
Chosen on pieces of split `train` that the weights were not fitted to."""


def chord_sounds(pieces: Iterable[Annotated]) -> dict[str, dict[str, Any]]:
    """Of each kind of chord: shares of the pitch classes above its root, of the bass, and of all chords."""
    sounds, basses, shares = np.zeros((len(KINDS), 12)), np.zeros((len(KINDS), 12)), np.zeros(len(KINDS))
    for piece in pieces:
        notes = listen(piece.score)
        grid = grid_of(piece.score, float(notes.end_q.max()))
        sound, bass = beat_weights(notes, grid)
        middles = (grid.beats.starts[:-1] + grid.beats.starts[1:]) / 2
        for span in piece.chords:
            if span.chord is None:
                continue
            inside = (middles > span.start) & (middles < span.end)
            kind = KINDS.index(span.chord.quality)
            # A beat counts the same however many notes it has.
            total = np.maximum(sound[inside].sum(axis=1, keepdims=True), 1e-9)
            sounds[kind] += np.roll((sound[inside] / total).sum(axis=0), -span.chord.root)
            low = bass[inside] / np.maximum(bass[inside].sum(axis=1, keepdims=True), 1e-9)
            basses[kind] += np.roll(low.sum(axis=0), -span.chord.root)
            shares[kind] += inside.sum()
    found = {}
    for index, name in enumerate(KINDS):
        found[name] = {
            "sound": _shares(sounds[index]),
            "bass": _shares(basses[index]),
            "share": round(float(shares[index] / shares.sum()), 4),
        }
    return found


def _shares(counts: np.ndarray) -> list[float]:
    """Counts as shares that sum to 1, none of them 0."""
    even = counts / max(counts.sum(), 1e-9) + SMOOTHING
    return [round(float(share), 4) for share in even / even.sum()]


def phrases_model(pieces: Iterable[Annotated]) -> dict[str, list[float]]:
    """Weights of the boundary features (the first is the constant), and the log share of each length of 1..16 bars."""
    from sklearn.linear_model import LogisticRegression

    rows, wanted, weights, lengths = [], [], [], np.ones(LONGEST)
    for piece in pieces:
        heard = hear(piece.score)
        features = boundary_features(heard)[1:]
        for lines in phrase_lines(piece, heard.grid):
            rows.append(features)
            wanted.append(np.isin(np.arange(1, len(heard.grid)), lines))
            # A piece counts by its length, and scores, of which there are fewer, three times.
            weights.append(np.full(len(features), 1.0 if piece.forms else 3.0))
            for length in np.diff(np.array(lines)).tolist():
                lengths[min(length, LONGEST) - 1] += 1 if piece.forms else 3
    model = LogisticRegression(C=0.3, max_iter=3000)
    model.fit(np.concatenate(rows), np.concatenate(wanted), sample_weight=np.concatenate(weights))
    shares = LENGTHS * np.log(lengths / lengths.sum())
    shares[USUAL:] -= LONG
    return {
        "weights": np.round([*(model.intercept_ + READINESS), *model.coef_[0]], 3).tolist(),
        "lengths": np.round(shares, 3).tolist(),
    }


def phrase_lines(piece: Annotated, grid: Grid) -> list[list[int]]:
    """Per annotator the bars that begin a phrase, the first one left out; of scores the bars after phrase ends."""
    if piece.forms:
        return [
            sorted({bar for bar in (int(grid.bar_of(np.array(start))) for start, _, _ in form) if bar > 0})
            for form in piece.forms
            if form
        ]
    ends = {int(grid.bar_of(np.array(end))) + 1 for end in piece.phrase_ends}
    return [sorted(bar for bar in ends if bar < len(grid))]
