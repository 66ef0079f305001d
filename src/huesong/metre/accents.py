"""What is heard as an accent, for every step of a grid: a new harmony, a low note, a long one, many, a loud one.

T = steps, N = notes, K = accents. A step is a sixteenth (a quarter of a beat, or a sixth of a dotted one).
"""

from __future__ import annotations

import numpy as np

ACCENTS = (
    "notes", "low", "bass length", "melody length", "longest", "loud", "held over",
    "harmony 4", "harmony 8", "harmony 16", "bass moves", "repeat ends",
)  # fmt: skip
LONGEST = 16
"""Steps; what lasts longer counts as long as that."""


def accents(step: np.ndarray, length: np.ndarray, pitch: np.ndarray, velocity: np.ndarray, steps: int) -> np.ndarray:
    """The ACCENTS of every step, each with mean 0 and standard deviation 1 over the piece: [T, K].

    step: the notes' steps (int [N], ascending, below `steps`); length: in steps (float [N]); pitch, velocity [N].
    """
    out = np.zeros((steps, len(ACCENTS)))
    count = np.bincount(step, minlength=steps)
    struck = np.flatnonzero(count)
    lowest, highest, longest = np.full(steps, 200.0), np.full(steps, -1.0), np.zeros(steps)
    np.minimum.at(lowest, step, pitch)
    np.maximum.at(highest, step, pitch)
    np.maximum.at(longest, step, np.minimum(length, LONGEST))
    loud = np.bincount(step, velocity, minlength=steps) / np.maximum(count, 1)
    out[:, 0] = np.log1p(count)
    out[struck, 1] = np.maximum(np.median(pitch) - lowest[struck], 0) / 12
    out[struck, 2] = np.log2(1 + _until_next(struck, lowest[struck], 3.0, steps))
    out[struck, 3] = np.log2(1 + _until_next(struck, -highest[struck], 3.0, steps))
    out[:, 4] = np.log2(1 + longest)
    out[struck, 5] = loud[struck] - _running_mean(loud[struck], 16)
    end = np.minimum(np.maximum(np.rint(step + length).astype(np.int64), step + 1), steps)
    sounding = np.cumsum(np.bincount(step, minlength=steps + 1) - np.bincount(end, minlength=steps + 1))[:steps]
    out[:, 6] = (sounding - count) / np.maximum(sounding, 1)
    chroma = _chroma(step, end, pitch, steps)
    for place, width in enumerate((4, 8, 16), start=7):
        out[:, place] = _novelty(chroma, width)
    bass = _held(struck, lowest[struck] % 12, steps)
    out[1:, 10] = (bass[1:] != bass[:-1]) & (count[1:] > 0)
    out[:, 11] = _novelty(_rhythm(count, highest, lowest), 16)
    spread = out.std(axis=0)
    return (out - out.mean(axis=0)) / np.where(spread > 1e-9, spread, 1)


def _until_next(struck: np.ndarray, height: np.ndarray, reach: float, steps: int) -> np.ndarray:
    """For each struck step: steps until one follows that is at most `reach` higher, LONGEST at most."""
    out = np.minimum(steps - struck, LONGEST).astype(np.float64)
    open_ = np.ones(len(struck), dtype=bool)
    for ahead in range(1, LONGEST + 1):
        if ahead >= len(struck):
            break
        hit = open_[:-ahead] & (height[ahead:] <= height[:-ahead] + reach)
        out[:-ahead][hit] = np.minimum(out[:-ahead][hit], (struck[ahead:] - struck[:-ahead])[hit])
        open_[:-ahead] &= ~hit
    return out


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    total = np.concatenate(([0.0], np.cumsum(values)))
    index = np.arange(len(values))
    low, high = np.maximum(index - width, 0), np.minimum(index + width + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def _chroma(step: np.ndarray, end: np.ndarray, pitch: np.ndarray, steps: int) -> np.ndarray:
    """How many notes of each pitch class sound at each step: [T, 12]; a note counts for a beat more where it is struck."""
    flat = np.zeros((steps + 1) * 12)
    np.add.at(flat, step * 12 + pitch % 12, 1.0)
    np.add.at(flat, end * 12 + pitch % 12, -1.0)
    sounding = np.cumsum(flat.reshape(steps + 1, 12), axis=0)[:steps]
    np.add.at(sounding, (step, pitch % 12), 1.0)
    return sounding


def _rhythm(count: np.ndarray, highest: np.ndarray, lowest: np.ndarray) -> np.ndarray:
    """What a step does, coarsely: [T, 4] whether it is struck, thickly, high, low."""
    struck = count > 0
    return np.stack(
        (
            struck,
            count > 2,
            struck & (highest > np.median(highest[struck])),
            struck & (lowest < np.median(lowest[struck])),
        ),
        axis=1,
    ).astype(np.float64)


def _novelty(content: np.ndarray, width: int) -> np.ndarray:
    """1 - the cosine of the content (..., of `width` steps) before and from each step on: [T]."""
    total = np.concatenate((np.zeros((1, content.shape[1])), np.cumsum(content, axis=0)))
    steps = len(content)
    at = np.arange(steps)
    before = total[at] - total[np.maximum(at - width, 0)]
    after = total[np.minimum(at + width, steps)] - total[at]
    norm = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return np.where(norm > 0, 1 - (before * after).sum(axis=1) / np.maximum(norm, 1e-9), 0.0)


def _held(struck: np.ndarray, value: np.ndarray, steps: int) -> np.ndarray:
    """The value of the last struck step, at every step (-1 before the first)."""
    last = np.searchsorted(struck, np.arange(steps), side="right") - 1
    return np.where(last >= 0, value[np.maximum(last, 0)], -1)


MARKS = (
    "notes", "low", "time after", "time before", "bass length", "melody length", "longest", "loud", "harmony 4", "harmony 8",
)  # fmt: skip
"""What is heard in an event of a performance; lengths by their logarithm."""
TOGETHER = 0.035
"""Seconds within which onsets are one event (a rolled chord, two hands)."""
LONG_S, SHORT_S = 4.0, 0.03
"""Seconds; what lasts longer or shorter counts as long as that."""


def marks(
    onset_s: np.ndarray, end_s: np.ndarray, pitch: np.ndarray, velocity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Events of N notes (onsets ascending, seconds): their times [E] and MARKS, mean 0 and deviation 1 over the piece [E, X]."""
    event, begun = np.zeros(len(onset_s), dtype=np.int64), -np.inf
    for index, time in enumerate(onset_s.tolist()):
        if time - begun > TOGETHER:
            event[index], begun = 1, time
    event = np.cumsum(event) - 1
    count = np.bincount(event)
    time_s = np.bincount(event, onset_s) / count
    events = len(count)
    lowest, highest, longest = np.full(events, 200.0), np.full(events, -1.0), np.zeros(events)
    np.minimum.at(lowest, event, pitch)
    np.maximum.at(highest, event, pitch)
    np.maximum.at(longest, event, np.minimum(end_s - onset_s, LONG_S))
    loud = np.bincount(event, velocity) / count
    gap = np.minimum(np.diff(time_s), 2.0)
    classes = np.zeros((events, 12))
    np.add.at(classes, (event, pitch % 12), 1.0)
    every = (
        np.log(count), -lowest, np.log(np.append(gap, 1.0)), np.log(np.append(1.0, gap)),
        _log(_next_after(lowest, time_s)), _log(_next_after(-highest, time_s)), _log(longest),
        loud - _running_mean(loud, 12), _novelty(classes, 4), _novelty(classes, 8),
    )  # fmt: skip
    out = np.stack(every, axis=1)
    spread = out.std(axis=0)
    return time_s, (out - out.mean(axis=0)) / np.where(spread > 1e-6, spread, 1)


def _log(seconds: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(seconds, SHORT_S))


def _next_after(height: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """For each event: seconds until one follows that is at most a third higher, LONG_S at most."""
    out = np.full(len(time_s), LONG_S)
    waiting = np.ones(len(time_s), dtype=bool)
    for ahead in range(1, min(24, len(time_s) - 1) + 1):
        hit = waiting[:-ahead] & (height[ahead:] <= height[:-ahead] + 3)
        out[:-ahead][hit] = np.minimum(LONG_S, (time_s[ahead:] - time_s[:-ahead])[hit])
        waiting[:-ahead] &= ~hit
    return out
