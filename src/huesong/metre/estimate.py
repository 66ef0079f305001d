"""Where the bars are, by the file and its notes alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from symusic import Score

from huesong.metre.bars import BarLines

ON_GRID = 0.15
"""Share of a sixteenth by which an onset may miss the grid and still lie on it (chance: twice that)."""
GOOD_GRID = 0.75
"""Share of onsets that lie on a grid that is one."""


@dataclass(frozen=True)
class Estimate:
    """bars: in quarters of the score. beats: those that were tracked, in its quarters. reason: why there are none."""

    bars: BarLines
    beats: np.ndarray | None = None
    reason: str = ""


def estimate(score: Score) -> Estimate:
    """The bar lines of a score with notes: its own where they fit, else moved, else tracked, else `none`."""
    onset = np.concatenate([track.notes.numpy()["time"] for track in score.tracks if len(track.notes)]) / score.tpq
    metres = file_metres(score)
    if share_on_grid(onset) >= GOOD_GRID:
        return Estimate(BarLines(0.0, metres, "file"))
    shift = best_shift(onset)
    if share_on_grid(onset - shift) >= GOOD_GRID:
        count = np.bincount(np.rint((onset - shift) * 4).astype(int) % 16, minlength=16)
        first = shift + int(count.argmax()) / 4
        return Estimate(BarLines(first, ((first, *metres[0][1:]),), "shift", 0.3))
    return Estimate(BarLines(0.0, ((0.0, 4, 4),), "none", 0.0), reason="its onsets lie on no grid")


def file_metres(score: Score) -> tuple[tuple[float, int, int], ...]:
    """The metres that the file says (4/4 where it says none, as MIDI does), by their start in quarters."""
    found = {0: (4, 4)}
    for change in score.time_signatures:
        found[change.time] = (change.numerator, change.denominator)
    return tuple((time / score.tpq, *found[time]) for time in sorted(found))


def share_on_grid(onset_q: np.ndarray) -> float:
    """Share of onsets (quarters) within ON_GRID of a sixteenth of a sixteenth's place."""
    steps = onset_q * 4
    return float(np.mean(np.abs(steps - np.rint(steps)) <= ON_GRID))


def best_shift(onset_q: np.ndarray) -> float:
    """The shift of the grid, 0 to a sixteenth (quarters), by which most onsets lie on it; of equals their middle."""
    phase = np.sort((onset_q * 4) % 1)
    both = np.concatenate((phase, phase + 1))
    last = np.searchsorted(both, phase + 2 * ON_GRID, side="right")
    count = last - np.arange(len(phase))
    index = int(count.argmax())
    return float(np.median(both[index : last[index]]) % 1 / 4)
