"""Beats and bars of a performance whose file knows none: candidates at several levels, the best of them, made smooth.

A beat is a quarter (simple metres) or a dotted quarter (compound ones). E = events, B = beats, X = what a level is chosen by.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded

from huesong.metre.accents import accents, marks
from huesong.metre.bars import Bar
from huesong.metre.beats import FRAME, Beats, kinds, track
from huesong.metre.downbeats import HEARD, HYPOTHESES, fit, weights

STEPS = {"simple": 4, "compound": 6}
"""Sixteenths a beat."""
LEVELS = (
    ("simple", "simple", 1), ("simple", "simple", 1 / 2), ("simple", "simple", 2), ("simple", "compound", 1 / 3),
    ("simple", "compound", 2 / 3), ("compound", "compound", 1), ("compound", "compound", 1 / 2),
    ("compound", "compound", 2), ("compound", "simple", 3), ("compound", "simple", 3 / 2),
)  # fmt: skip
"""Candidates: the kind of beat, and its usual length as a multiple of that which was tracked as another kind."""
EXCERPT_S = 120.0
"""Seconds in the middle of a longer piece that its level is chosen by."""
AROUND = 1.3
"""A candidate's beats last between its usual length divided and multiplied by this."""
SPAN = (0.3, 1.9)
"""Seconds that the usual beat of a candidate may last."""
CERTAIN = 0.7
"""How far an event's sound is trusted beside its time."""
FEWEST = 12
"""Events below which nothing is tracked."""
EVIDENCE, SURE = 0.45, (0.2, 0.5)
"""There are beats if the log likelihood an event is so much above that of events at random times, and half of what
the bars are surer than 0.2 counted with it. Events at random times reach at most 0.44."""
EVENT_S, BEND_S = 0.012, 0.02
"""Standard deviations in seconds: of an event around its place, and of a beat's length around the one before."""


@dataclass(frozen=True)
class Tracked:
    """time_s: beats (seconds, ascending), which go on beyond the music. first: of the beats, where a bar begins.
    metre: of all bars. sure: 0 to 1."""

    time_s: np.ndarray
    first: int
    metre: tuple[int, int]
    sure: float


@dataclass(frozen=True)
class Candidate:
    """Beats at one of LEVELS (usual: seconds) with the bars that fit them best. seen: what the level is chosen by [X].
    evidence: log likelihood an event above that at random."""

    level: int
    usual: float
    beats: Beats
    metre: tuple[int, int]
    first_step: int
    seen: np.ndarray
    sure: float
    evidence: float


def track_bars(
    onset_s: np.ndarray, end_s: np.ndarray, pitch: np.ndarray, velocity: np.ndarray
) -> tuple[Tracked | None, str]:
    """Beats and bars of N notes (onsets ascending, seconds), or None and the reason."""
    time_s, heard = marks(onset_s, end_s, pitch, velocity)
    if len(time_s) < FEWEST:
        return None, f"too few onsets to hear a beat ({len(time_s)} of at least {FEWEST})"
    odds = CERTAIN * event_odds(heard)
    notes = (onset_s, end_s, pitch, velocity)
    spare = max(0.0, float(time_s[-1] - time_s[0]) - EXCERPT_S) / 2
    low, high = time_s[0] + spare, time_s[-1] - spare
    event, note = (time_s >= low) & (time_s <= high), (onset_s >= low) & (onset_s <= high)
    found = candidates(tuple(part[note] for part in notes), time_s[event], odds[event])
    best = max(found, key=lambda candidate: float(candidate.seen @ weights().choice))
    if spare:
        best = _candidate(best.level, best.usual, notes, time_s, odds)
    evidence = best.evidence + SURE[1] * (best.sure - SURE[0])
    if evidence < EVIDENCE:
        return None, f"no beat: the onsets follow the best one hardly better than by chance ({max(evidence, 0):.2f})"
    per = STEPS[LEVELS[best.level][0]]
    shift, first = divmod(best.first_step, per)
    # A bar line between beats means that the beats are there: half a beat (or a sixteenth) beside those tracked.
    beats = best.beats.time_s
    at = np.arange(-1, len(beats) + 1) + first / per
    beats = _smooth(_beyond(beats, at), time_s, per)
    return Tracked(beats, shift + 1, best.metre, best.sure), ""


def event_odds(heard: np.ndarray) -> np.ndarray:
    """Log likelihood ratios of events by their MARKS [E, X], for `beats.track`: [E, C]."""
    learnt = weights()
    joint = heard @ learnt.mark.T + np.log(learnt.share)
    return joint - np.logaddexp.reduce(joint, axis=1, keepdims=True) - np.log(learnt.share)


def candidates(notes: tuple[np.ndarray, ...], time_s: np.ndarray, odds: np.ndarray) -> list[Candidate]:
    """One candidate for each of LEVELS."""
    rough = {name: float(np.median(np.diff(track(time_s, odds, kind).time_s))) for name, kind in kinds().items()}
    return [
        _candidate(level, float(np.clip(rough[other] * times, *SPAN)), notes, time_s, odds)
        for level, (_, other, times) in enumerate(LEVELS)
    ]


def _candidate(
    level: int, usual: float, notes: tuple[np.ndarray, ...], time_s: np.ndarray, odds: np.ndarray
) -> Candidate:
    kind = LEVELS[level][0]
    beats = track(time_s, odds, kinds()[kind], (usual / AROUND, usual * AROUND))
    per = STEPS[kind]
    index = np.arange(len(beats.time_s))
    at, until = (np.interp(times, beats.time_s, index) * per for times in notes[:2])
    step = np.rint(at).astype(np.int64)
    order = np.lexsort((notes[2], step))
    steps = int(step.max()) + 9
    accent = accents(step[order], np.maximum(until - at, 1e-3)[order], notes[2][order], notes[3][order], steps)
    score = fit(accent)
    # Nobody hears whether a performance is in 3/8 or in 6/8: it is written in 6/8.
    score[[metre == (3, 8) or (metre[1] == 8) != (kind == "compound") for metre, _ in HYPOTHESES]] = -np.inf
    best = int(score.argmax())
    total = float(np.logaddexp.reduce(score))
    place = np.interp(time_s, beats.time_s, index) * per
    events = len(time_s) / max(float(time_s[-1] - time_s[0]), 1e-3) * usual
    sixteenth = float((np.abs(place - np.rint(place)) < 0.15).mean())
    longer, denser = np.log2(usual / 0.55), np.log2(events / 2)
    seen = [
        beats.likelihood / len(time_s),
        score[best] / 10,
        total / 10,
        longer,
        longer**2,
        denser,
        denser**2,
        sixteenth,
    ]
    posterior = np.exp((score - score[best]) * min(1.0, steps / 256))
    by_chance = np.log(FRAME * events / usual) - 1
    return Candidate(
        level, usual, beats, *HYPOTHESES[best], np.array([*seen, *np.eye(len(LEVELS))[level]]), float(1 / posterior.sum()),
        beats.likelihood / len(time_s) - float(by_chance),
    )  # fmt: skip


def _beyond(beats: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Times at places among the beats (0 = the first), the first and last beat's length going on outside."""
    low = beats[0] + (at - 0) * (beats[1] - beats[0])
    last = len(beats) - 1
    high = beats[-1] + (at - last) * (beats[-1] - beats[-2])
    return np.where(at < 0, low, np.where(at > last, high, np.interp(at, np.arange(last + 1), beats)))


def _smooth(beats: np.ndarray, time_s: np.ndarray, per: int) -> np.ndarray:
    """Beats [B] moved so that events lie on their steps, while the length of a beat changes little: least squares."""
    last = len(beats) - 1
    place = np.interp(time_s, beats, np.arange(last + 1))
    step = np.rint(place * per) / per
    near = np.abs(place - step) * per < 0.4
    low = np.clip(np.floor(step).astype(np.int64), 0, last - 1)
    share = step - low
    weight = near / EVENT_S**2
    band = np.zeros((3, last + 1))  # upper diagonals of the normal equations: two, one, main
    right = np.zeros(last + 1)
    for column, part in ((low, 1 - share), (low + 1, share)):
        np.add.at(band[2], column, weight * part**2)
        np.add.at(right, column, weight * part * time_s)
    np.add.at(band[1], low + 1, weight * share * (1 - share))
    bend = 1 / BEND_S**2
    for offset, value in ((0, 1.0), (1, -2.0), (2, 1.0)):
        band[2, offset : last - 1 + offset] += bend * value**2
    band[1, 1:last] += -2 * bend
    band[1, 2 : last + 1] += -2 * bend
    band[0, 2 : last + 1] += bend
    band[2] += 1e-3
    right += 1e-3 * beats
    moved = solveh_banded(band, right)
    steady = np.diff(moved) > 0.3 * np.diff(beats)
    return moved if steady.all() else beats


def bars_of(tracked: Tracked, low_s: float, high_s: float) -> tuple[list[tuple[float, float]], np.ndarray]:
    """Bars (start, end in seconds) that hold the music from `low_s` to `high_s`, and all beats of theirs."""
    beats = tracked.time_s
    per = len(HEARD[tracked.metre]) // STEPS["compound" if tracked.metre[1] == 8 else "simple"]
    first_length, last_length = beats[1] - beats[0], beats[-1] - beats[-2]
    before = max(0, int(np.ceil((beats[0] - low_s) / first_length))) + per
    after = max(0, int(np.ceil((high_s - beats[-1]) / last_length))) + 2 * per
    beats = np.concatenate(
        (beats[0] - first_length * np.arange(before, 0, -1), beats, beats[-1] + last_length * np.arange(1, after + 1))
    )
    lines = np.arange((tracked.first + before) % per, len(beats), per)
    spans = [(float(beats[a]), float(beats[b])) for a, b in itertools.pairwise(lines)]
    spans = [span for span in spans if span[1] > low_s + 1e-3 and span[0] < high_s]
    inside = (beats >= spans[0][0] - 1e-9) & (beats <= spans[-1][1] + 1e-9)
    return spans, beats[inside]


def as_bars(spans: list[tuple[float, float]], metre: tuple[int, int]) -> list[Bar]:
    """The spans (in any unit) as bars of a metre."""
    return [Bar(start, end, *metre) for start, end in spans]
