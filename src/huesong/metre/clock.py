"""Ticks and seconds: the tempo map of a score, and the times of ticks under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from symusic import Score

DEFAULT_TEMPO = 120.0
"""Of a file that says none (MIDI 1.0)."""


def tempo_map(score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Ticks (int64, the first 0, ascending, unique) and tempos (quarters a minute) in force from there on."""
    tempos = score.tempos.numpy()
    tick, length = tempos["time"].astype(np.int64), tempos["mspq"].astype(float)
    order = np.argsort(tick, kind="stable")
    tick, length = tick[order], length[order]
    last = np.append(tick[1:] != tick[:-1], True)[: len(tick)]  # of several at one tick the last one counts
    tick, qpm = tick[last], 6e7 / length[last]
    if not len(tick) or tick[0] > 0:
        tick, qpm = np.append(0, tick), np.append(DEFAULT_TEMPO, qpm)
    return tick, qpm


class Clock:
    """Ticks to seconds under a tempo map; `tick` and `qpm` as `tempo_map` gives them."""

    def __init__(self, tick: np.ndarray, qpm: np.ndarray, ticks_per_quarter: int) -> None:
        self.tick, self.qpm = tick, qpm
        self._per_tick = 60.0 / (qpm * ticks_per_quarter)
        self._began = np.concatenate(([0.0], np.cumsum(np.diff(tick) * self._per_tick[:-1])))

    def seconds(self, ticks: np.ndarray) -> np.ndarray:
        """The times of `ticks` (float64)."""
        index = np.maximum(np.searchsorted(self.tick, ticks, side="right") - 1, 0)  # before tick 0 as after it
        return self._began[index] + (ticks - self.tick[index]) * self._per_tick[index]

    def ticks(self, seconds: np.ndarray) -> np.ndarray:
        """The ticks (float64, not whole) at `seconds`: the inverse of `seconds`."""
        index = np.maximum(np.searchsorted(self._began, seconds, side="right") - 1, 0)
        return self.tick[index] + (seconds - self._began[index]) / self._per_tick[index]

    def between(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The part of the map in force from `start` to `stop`, with `start` as tick 0."""
        first = np.searchsorted(self.tick, start, side="right") - 1
        inside = slice(first, np.searchsorted(self.tick, stop, side="left"))
        return np.maximum(self.tick[inside] - start, 0), self.qpm[inside]


def seconds_at(score: Score, ticks: np.ndarray) -> np.ndarray:
    """The times in seconds (float64) of `ticks` under the score's tempo map."""
    return Clock(*tempo_map(score), score.tpq).seconds(ticks)
