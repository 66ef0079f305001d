"""Bars and beats as the time signatures give them, and the melody on top.

B bars, S beats, N notes; times in quarters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from symusic import Score

    from huesong.music.reading import Notes

EARLY = 0.04
"""Quarters by which an onset may come before the line that it belongs to."""


@dataclass(frozen=True)
class Beats:
    """starts: [S + 1]. bar: the bar of each [S]. strength: 0 a bar line, 1 the middle of a bar, 2 any other beat [S]."""

    starts: np.ndarray
    bar: np.ndarray
    strength: np.ndarray


@dataclass(frozen=True)
class Grid:
    """starts: where each bar begins [B + 1], the last one the end. metres: numerator, denominator of each."""

    starts: np.ndarray
    metres: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.metres)

    def bar_of(self, time: np.ndarray) -> np.ndarray:
        """The bar that each time falls into, 0..B-1."""
        return np.clip(np.searchsorted(self.starts, time + EARLY, side="right") - 1, 0, len(self) - 1)

    @cached_property
    def beats(self) -> Beats:
        """Their beats: of three eighths where the metre is compound, else what the denominator says."""
        starts, bars, strengths = [], [], []
        for bar, (start, (upper, lower)) in enumerate(zip(self.starts[:-1].tolist(), self.metres, strict=True)):
            beat = beat_of(upper, lower)
            count = max(1, int(np.ceil(4 * upper / lower / beat - 1e-6)))
            starts += [start + beat * index for index in range(count)]
            bars += [bar] * count
            strengths += [0 if i == 0 else 1 if 2 * i == count else 2 for i in range(count)]
        return Beats(np.array([*starts, self.starts[-1]]), np.array(bars), np.array(strengths))


def beat_of(upper: int, lower: int) -> float:
    """Quarters of a beat of a metre."""
    if upper > 3 and upper % 3 == 0 and lower >= 8:
        return 12 / lower
    return 1.0 if lower == 2 or upper > 12 else 4 / lower


def grid_of(score: Score, end: float) -> Grid:
    """The bars up to the one that holds `end` (quarters), tick 0 being a bar line; 4/4 up to the first signature.

    A signature that comes within a bar begins a new one there.
    """
    changes = {0.0: (4, 4)}
    for sign in sorted(score.time_signatures, key=lambda sign: sign.time):
        if sign.time / score.tpq < end or sign.time == 0:
            changes[sign.time / score.tpq] = (sign.numerator, sign.denominator)
    times = [*sorted(changes), max(end, max(changes) + 1e-3)]
    starts: list[float] = []
    metres: list[tuple[int, int]] = []
    for begin, stop in pairwise(times):
        upper, lower = changes[begin]
        length = 4 * upper / lower
        count = max(1, int(np.ceil((stop - begin) / length - 1e-6)))
        starts += [begin + length * bar for bar in range(count)]
        metres += [(upper, lower)] * count
    starts.append(starts[-1] + 4 * metres[-1][0] / metres[-1][1])
    return Grid(np.array(starts), tuple(metres))


def melody_of(notes: Notes) -> np.ndarray:
    """Indices of the notes on top: the highest of each onset, unless a higher one still sounds that began before.

    A higher note sounds on for at most two quarters: what is held longer is no longer followed as the melody.
    """
    onset = np.round(notes.onset_q * 24).astype(np.int64)
    order = np.lexsort((-notes.pitch, onset))
    first = np.append(True, onset[order][1:] != onset[order][:-1])[: len(order)]
    top = order[first]
    kept: list[int] = []
    begins, ends, pitches = notes.onset_q[top].tolist(), notes.end_q[top].tolist(), notes.pitch[top].tolist()
    until, above = -1.0, 0
    for index, (begin, end, pitch) in enumerate(zip(begins, ends, pitches, strict=True)):
        if pitch >= above or begin > until - 0.1:
            kept.append(index)
            until, above = min(end, begin + 2), pitch
    return top[kept]
