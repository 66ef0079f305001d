"""Metre and downbeat: which steps of a grid begin bars, by how well the accents fit the levels of each metre.

A log-linear model of all (metre, first bar line) at once: every step of a bar has a level (downbeat, half bar, beat,
eighth, sixteenth; Lerdahl and Jackendoff, A Generative Theory of Tonal Music, 1983), each level weighs the accents
(accents.ACCENTS) in its own way, and metres differ in how usual they are and in how alike neighbouring bars sound.
`huesong experiment bars --learn` learns the weights from scores whose bars are known.

T = steps, K = accents, L = levels, M = metres, H = (metre, first bar line in steps).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

WEIGHTS = Path(__file__).with_name("weights.json")
LEVELS = ("downbeat", "half bar", "beat", "eighth", "third")
"""A sixteenth weighs nothing; `third` are the eighths of compound metres."""
_SIXTEENTH = len(LEVELS)


def _levels(steps: int, halves: tuple[int, ...], beats: tuple[int, ...], eighth: str = "eighth") -> np.ndarray:
    """The level of each step of a bar [steps]."""
    out = np.full(steps, _SIXTEENTH)
    out[::2] = LEVELS.index(eighth)
    out[list(beats)] = LEVELS.index("beat")
    out[list(halves)] = LEVELS.index("half bar")
    out[0] = 0
    return out


HEARD = {
    (2, 4): _levels(8, (), (4,)), (3, 4): _levels(12, (), (4, 8)), (4, 4): _levels(16, (8,), (4, 12)),
    (3, 8): _levels(6, (), (), "third"), (6, 8): _levels(12, (6,), (), "third"), (9, 8): _levels(18, (), (6, 12), "third"),
    (12, 8): _levels(24, (12,), (6, 18), "third"), (5, 4): _levels(20, (12,), (4, 8, 16)),
}  # fmt: skip
"""The metres that are told from notes; 2/2 sounds as 4/4, and the others are too rare."""
METRES = tuple(HEARD)
HYPOTHESES = tuple((metre, first) for metre in METRES for first in range(len(HEARD[metre])))


@dataclass(frozen=True)
class Weights:
    """level: [L, K]. usual: [M]. alike: [M]. Of a performance: events a beat at beats.PLACES; mark [C, X] of accents.MARKS
    for the classes of places, with share [C] of the events; choice: of a candidate's level [X] (tracking.Candidate)."""

    level: np.ndarray
    usual: np.ndarray
    alike: np.ndarray
    events: dict[str, list[float]]
    mark: np.ndarray
    share: np.ndarray
    choice: np.ndarray


@lru_cache
def weights() -> Weights:
    """The learnt weights."""
    read = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    arrays = {field.name: np.array(read[field.name]) for field in fields(Weights) if field.name != "events"}
    return Weights(events=read["events"], **arrays)


def sums(accent: np.ndarray) -> np.ndarray:
    """What the model weighs for each hypothesis, as means over 16 steps: [H, L x K + M + M]."""
    steps, kinds = accent.shape
    out = np.zeros((len(HYPOTHESES), len(LEVELS) * kinds + 2 * len(METRES)))
    row = 0
    for number, metre in enumerate(METRES):
        levels = np.eye(_SIXTEENTH + 1)[HEARD[metre]][:, :_SIXTEENTH]
        bar = len(levels)
        padded = np.zeros((-(-steps // bar) * bar, kinds))
        padded[:steps] = accent
        folded = padded.reshape(-1, bar, kinds).sum(axis=0) * (16 / steps)
        alike = float((accent[bar:, :4] * accent[:-bar, :4]).mean()) if steps > bar else 0.0
        for first in range(bar):
            out[row, : len(LEVELS) * kinds] = (np.roll(levels, first, axis=0).T @ folded).ravel()
            out[row, len(LEVELS) * kinds + number] = 1.0
            out[row, len(LEVELS) * kinds + len(METRES) + number] = alike
            row += 1
    return out


def fit(accent: np.ndarray) -> np.ndarray:
    """How well each hypothesis fits [H], as a log likelihood for 16 bars of 16 steps, whatever the length."""
    learnt = weights()
    return sums(accent) @ np.concatenate((learnt.level.ravel(), learnt.usual, learnt.alike))


def fit_bars(accent: np.ndarray, bars: Sequence[tuple[int, tuple[int, int]]], shifts: Sequence[int]) -> np.ndarray:
    """How well bars that are given, each moved by as many steps, fit, comparable with `fit`: [len(shifts)].

    bars: (first step, metre), ascending; what is before the first and after the last is no bar. Metres that are not HEARD
    are taken for 4/4 (2/2) or for bars of beats.
    """
    learnt = weights()
    steps = len(accent)
    level = np.full(steps, _SIXTEENTH)
    usual = alike = 0.0
    for (start, metre), (end, _) in zip(bars, [*bars[1:], (steps, (4, 4))], strict=True):
        known = (4, 4) if metre == (2, 2) else metre
        shape = HEARD[known] if known in HEARD else _levels(16, (), (4, 8, 12))
        low, high = max(start, 0), min(end, steps)
        if high > low:
            level[low:high] = np.resize(shape, end - start)[low - start : high - start]
            if known in HEARD:
                usual += learnt.usual[METRES.index(known)] * (high - low) / steps
    kinds = [(4, 4) if metre == (2, 2) else metre for _, metre in bars]
    main = max(sorted(set(kinds)), key=kinds.count)
    if main in HEARD and steps > (bar := len(HEARD[main])):
        alike = learnt.alike[METRES.index(main)] * float((accent[bar:, :4] * accent[:-bar, :4]).mean())
    worth = np.concatenate((learnt.level, np.zeros((1, accent.shape[1]))))
    scores = accent @ worth.T  # [T, L + 1]
    out = []
    for shift in shifts:
        moved = np.roll(level, shift)
        out.append(float(scores[np.arange(steps), moved].sum()) * 16 / steps)
    return np.array(out) + usual + alike
