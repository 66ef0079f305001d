"""The plan of a piece as its notes show it: bars, key, chords, phrases, what returns, cadences, levels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from huesong.form.plan import DENSEST, BarPlan, Chord, Plan
from huesong.music.keys import find_key
from huesong.music.reading import Notes, listen, tempo_map
from huesong.runtime.errors import UserError

if TYPE_CHECKING:
    from symusic import Score


@dataclass(frozen=True)
class Grid:
    """The bars of a piece, B of them. starts: quarters [B + 1], the last one the end. metres: numerator, denominator."""

    starts: np.ndarray
    metres: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.metres)


def grid_of(score: Score, end: float) -> Grid:
    """The bars up to the one that holds `end` (quarters), tick 0 being a bar line; 4/4 up to the first signature.

    A signature that comes within a bar begins a new one there.
    """
    changes = {0.0: (4, 4)}
    for sign in sorted(score.time_signatures, key=lambda sign: sign.time):
        changes[sign.time / score.tpq] = (sign.numerator, sign.denominator)
    times = [*sorted(changes), max(end, max(changes) + 1e-6)]
    starts: list[float] = []
    metres: list[tuple[int, int]] = []
    for begin, stop in itertools.pairwise(times):
        upper, lower = changes[begin]
        length = 4 * upper / lower
        count = max(1, int(np.ceil((stop - begin) / length - 1e-6)))
        starts += [begin + length * bar for bar in range(count)]
        metres += [changes[begin]] * count
    starts.append(starts[-1] + 4 * metres[-1][0] / metres[-1][1])
    return Grid(np.array(starts), tuple(metres))


def analyse(score: Score) -> Plan:
    """The plan that a score's notes show.

    Args:
        score: with its true time signatures, tick 0 a bar line; drums are not heard.

    Raises:
        UserError: it holds no note.
    """
    notes = listen(score)
    if not len(notes):
        raise UserError("the piece holds no note: give one with notes")
    grid = grid_of(score, float(notes.end_q.max()))
    weights = np.bincount(notes.pitch % 12, weights=notes.end_q - notes.onset_q, minlength=12)
    tonic, major = find_key(weights, "albrecht")
    count = len(grid)
    bars = tuple(
        BarPlan(grid.metres[bar], "new", 0, "A", (count - 1 - bar) % 8 + 1, "", (Chord(0.0, tonic, "maj"),))
        for bar in range(count)
    )
    dynamics, density = levels(notes, grid)
    return Plan(tonic, "major" if major else "minor", mean_tempo(score), bars, dynamics, density)


def mean_tempo(score: Score) -> float:
    """Quarters a minute over the whole piece."""
    tick, qpm = tempo_map(score)
    length = np.diff(np.append(tick, max(score.end(), int(tick[-1]) + 1)))
    return float(np.clip(length.sum() / (length / qpm).sum(), 1, 1000))


def levels(notes: Notes, grid: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Dynamics and density of each bar; a bar without a note takes the dynamics of the one before."""
    bar = np.clip(np.searchsorted(grid.starts, notes.onset_q + 1e-6, side="right") - 1, 0, len(grid) - 1)
    count = np.bincount(bar, minlength=len(grid))
    loud = np.bincount(bar, weights=notes.velocity / 127, minlength=len(grid)) / np.maximum(count, 1)
    heard = np.maximum.accumulate(np.where(count > 0, np.arange(len(grid)), 0))
    dense = np.minimum(count / np.diff(grid.starts) / DENSEST, 1)
    return tuple(loud[heard].round(3).tolist()), tuple(dense.round(3).tolist())
