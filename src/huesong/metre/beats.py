"""Beats of a performance: dynamic programming over beat times and beat lengths at once.

As Ellis ("Beat tracking by dynamic programming", JNMR 36, 2007), but every beat has its own length, which changes little
from beat to beat (the idea of the bar pointer: Whiteley, Cemgil and Godsill, ISMIR 2006; Krebs, Böck and Widmer, ISMIR
2015), and events are a point process whose rate, and what is heard in them, depend on the place within the beat.

E = events (onsets that are heard as one), F = frames, P = beat lengths, C = classes of places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huesong.metre.downbeats import weights

FRAME = 0.02
"""Seconds."""
SPAN = (0.28, 1.5)
"""Seconds that a beat may last."""
RATIO = 1.035
"""Of neighbouring beat lengths."""
BEAT, DIVISION, OTHER = range(3)
"""Classes of places: the beat, its half or its thirds, any other."""


PLACES = {
    "simple": ((0, BEAT), (1 / 2, DIVISION), (1 / 4, OTHER), (3 / 4, OTHER), (1 / 3, OTHER), (2 / 3, OTHER)),
    "compound": ((0, BEAT), (1 / 3, DIVISION), (2 / 3, DIVISION), (1 / 6, OTHER), (1 / 2, OTHER), (5 / 6, OTHER)),
}
"""How beats are divided: places within the beat and their classes. `weights.json` says how many events lie at each."""
USUAL = {"simple": 0.55, "compound": 0.75}
"""Seconds of the likeliest beat."""


@dataclass(frozen=True)
class Kind:
    """places: (place within the beat, its class, events expected there); usual: seconds of the likeliest beat."""

    places: tuple[tuple[float, int, float], ...]
    usual: float


def kinds() -> dict[str, Kind]:
    """Simple and compound beats, with the events that were learnt for their PLACES."""
    events = weights().events
    return {
        name: Kind(tuple((*place, share) for place, share in zip(places, events[name], strict=True)), USUAL[name])
        for name, places in PLACES.items()
    }


SCATTER = 0.022
"""Standard deviation, in seconds, of an event around its place."""
ELSEWHERE = 0.06
"""Events that are expected in a beat at no place at all."""
STEADY = 30.0
"""Cost of a beat whose length differs from the last one's, by the logarithm of their ratio."""
FREE = 0.05
"""... beyond this, which is what the grid of frames and lengths makes."""
PRIOR = 0.35
"""Cost, a beat, of the squared number of octaves between its length and the usual one."""


@dataclass(frozen=True)
class Beats:
    """time_s: ascending, at least two; the first is not after the first event, the last not before the last one.
    likelihood: log likelihood of the events."""

    time_s: np.ndarray
    likelihood: float


def track(time_s: np.ndarray, odds: np.ndarray, kind: Kind, span: tuple[float, float] = SPAN) -> Beats:
    """The likeliest beats of a kind for events at `time_s` (ascending, seconds, [E]).

    odds: log likelihood ratio of each event's sound, if it is at a place of a class, to that at any place [E, C].
    span: seconds that a beat may last, from and to.
    """
    lengths = _lengths(span)
    block, longest = int(lengths[0]), int(lengths[-1])
    begin = float(time_s[0]) - longest * FRAME
    needed = int(np.ceil((time_s[-1] - begin) / FRAME)) + longest + 2
    frames = -(-needed // block) * block  # a block at a time: no beat is shorter, so none begins and ends within one
    within = _likelihoods(time_s - begin, odds, lengths, frames, kind)
    change = -STEADY * np.maximum(np.abs(np.log(lengths[:, None] / lengths[None])) - FREE, 0).astype(np.float32)
    best = np.full((frames, len(lengths)), -np.inf, dtype=np.float32)  # of all beats up to one that ends at a frame
    ready = np.full(
        (longest + frames, len(lengths)), -np.inf, dtype=np.float32
    )  # the same, and the next has this length
    came = np.zeros((frames, len(lengths)), dtype=np.int16)
    for first in range(0, frames, block):
        rows = np.arange(first, first + block)
        value = ready[longest + rows[:, None] - lengths[None], np.arange(len(lengths))[None]] + within[rows]
        both = value[:, None, :] + change  # last the length that was, before it the one to come
        chosen, following = both.argmax(axis=-1), both.max(axis=-1)
        if first <= longest:  # the first beat may begin here
            chosen[following < 0] = -1
            following = np.maximum(following, 0)
        best[rows], came[rows], ready[longest + rows] = value, chosen, following
    final = best[needed - longest :]
    end, length = divmod(int(final.argmax()), len(lengths))
    frame = needed - longest + end
    found = [frame]
    while length >= 0:
        frame -= int(lengths[length])
        found.append(frame)
        length = int(came[frame, length])
    return Beats(np.array(found[::-1]) * FRAME + begin, float(final.max()))


def _lengths(span: tuple[float, float]) -> np.ndarray:
    """Frames a beat may last, each about RATIO times the one before."""
    count = int(np.log(span[1] / span[0]) / np.log(RATIO)) + 1
    return np.unique(np.rint(span[0] / FRAME * RATIO ** np.arange(count + 1))).astype(np.int64)


def _likelihoods(time_s: np.ndarray, odds: np.ndarray, lengths: np.ndarray, frames: int, kind: Kind) -> np.ndarray:
    """For a beat that ends at a frame and has a length: log likelihood of the events within it, [F, P]."""
    longest = int(lengths[-1])
    frame = np.clip(np.rint(time_s / FRAME).astype(np.int64), 0, frames - 1) + longest
    signals = [np.ones(len(time_s)), odds[:, BEAT], odds[:, DIVISION], odds[:, OTHER]]
    kernels = np.zeros((len(signals), longest, len(lengths)), dtype=np.float32)
    for column, length in enumerate(lengths.tolist()):
        kernels[:, longest - length :, column] = _rates(length, kind)
    out = np.zeros((frames, len(lengths)), dtype=np.float32)
    for signal, kernel in zip(signals, kernels, strict=True):
        line = np.bincount(frame, signal, minlength=frames + longest).astype(np.float32)
        out += np.lib.stride_tricks.sliding_window_view(line, longest)[:frames] @ kernel
    expected = sum(share for _, _, share in kind.places) + ELSEWHERE
    return out - (expected + PRIOR * np.log2(lengths * FRAME / kind.usual) ** 2).astype(np.float32)


def _rates(length: int, kind: Kind) -> np.ndarray:
    """For every frame of a beat: log of the events expected there, and how likely they belong to each class: [1 + C, length]."""
    at = np.arange(length)
    rate = np.zeros((3, length))
    rate[OTHER] = ELSEWHERE / length
    for place, of_class, share in kind.places:
        off = np.abs(at - place * length)
        off = np.minimum(off, length - off) * FRAME
        rate[of_class] += share * FRAME / (SCATTER * np.sqrt(2 * np.pi)) * np.exp(-0.5 * (off / SCATTER) ** 2)
    total = rate.sum(axis=0)
    return np.concatenate((np.log(total)[None], rate / total))
