"""What a player adds to the notes: the sustain pedal by harmony; and, by metre and phrase, small timing and dynamics."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from symusic import ControlChange, Note, Score

from huesong.metre.clock import tempo_map
from huesong.music.form.plan import Chord, Plan
from huesong.music.midi import SUSTAIN

LATE_Q = 1 / 16
"""The pedal goes down this much (quarters) after a chord begins and up this much before the next one."""
SHORTEST_Q = 1 / 4
"""A shorter pedal is not worth it."""
HELD = ((-1.0, 0.0, 1.0), (1.0, 0.9, 0.4))
"""Arousal -> the share of a chord's time in which the pedal may stay down."""
FOREIGN = ((-1.0, 1.0), (5.0, 1.0))
"""Arousal -> how many notes that are not of the chord may sound into the pedal before it is lifted."""
STACCATO = 0.5
"""Lively music whose notes fill less than this share of a chord's time stays without."""
FARTHEST_S = 0.019
"""How far an onset may move, with room for rounding to ticks."""
CHORD_S, NOTE_S, END_S = 0.004, 0.0015, 0.010
"""Deviation of the notes of one onset together and each, and how late they are at a phrase's end."""
GOAL, BROADENS = 0.7, 0.6
"""Where in a phrase its goal is, and where it begins to broaden."""
PHRASE, DOWNBEAT, BEAT, OFFBEAT, DEVIATION = 0.12, 0.05, 0.015, -0.03, 0.02
"""Shares of a note's velocity: how much a phrase swells, what its place in the bar adds, and the deviation by chance."""


def pedalled(score: Score, plan: Plan, arousal: float) -> Score:
    """A copy with sustain pedals (controller 64) on its first track: down after each chord of the plan, up before the next.

    The calmer, the longer they are held and the more notes may sound into each other.
    """
    score = score.copy()
    if not len(score.tracks):
        return score
    notes = score.tracks[0].notes.numpy()
    order = np.argsort(notes["time"], kind="stable")
    onset_q, end_q = (at[order] / score.tpq for at in (notes["time"], notes["time"] + notes["duration"]))
    pitch, last_q = notes["pitch"][order], float((notes["time"] + notes["duration"]).max(initial=0)) / score.tpq
    for (start, chord), (stop, _) in pairwise([*_chords(plan), (plan.quarters, None)]):
        stop = min(stop, last_q)
        inside = (onset_q >= start - 1e-6) & (onset_q < stop)
        filled = np.minimum(end_q[inside], stop) - onset_q[inside]
        if chord is None or chord.quality == "N" or not inside.any():
            continue
        if arousal > 0 and filled.sum() < STACCATO * (stop - start):
            continue
        down, up = start + LATE_Q, start + (stop - start) * float(np.interp(arousal, *HELD)) - LATE_Q
        foreign = onset_q[inside][[tone % 12 not in chord.tones for tone in pitch[inside]]]
        if len(foreign) > (most := int(np.interp(arousal, *FOREIGN))):
            up = min(up, float(foreign[most]) - LATE_Q)
        if up - down >= SHORTEST_Q:
            for at, value in ((down, 127), (up, 0)):  # symusic does not write its `pedals`
                score.tracks[0].controls.append(ControlChange(round(at * score.tpq), SUSTAIN, value))
    return score


def _chords(plan: Plan) -> list[tuple[float, Chord | None]]:
    """Every chord with its quarter in the piece; one that goes on in the next bar begins there again."""
    found: list[tuple[float, Chord | None]] = []
    start = 0.0
    for bar in plan.bars:
        found += [(start + chord.position, chord) for chord in bar.chords]
        start += bar.quarters
    return found


def humanized(score: Score, plan: Plan, seed: int) -> Score:
    """A copy as somebody plays it: no onset moves by more than 20 ms, and the velocities swell toward a phrase's goal.

    Both depend on the place in the bar and in the phrase, and a little on `seed`; the same seed gives the same.
    """
    score = score.copy()
    random = np.random.default_rng(seed)
    for track in score.tracks:
        notes = track.notes.numpy()
        if not len(notes["time"]):
            continue
        onset_q = notes["time"] / score.tpq
        place, in_phrase = _places(plan, onset_q)
        onsets, same = np.unique(notes["time"], return_inverse=True)
        shift_s = np.clip(random.normal(0, CHORD_S, len(onsets)), -2 * CHORD_S, 2 * CHORD_S)[same]
        shift_s += np.clip(random.normal(0, NOTE_S, len(onset_q)), -2 * NOTE_S, 2 * NOTE_S)
        shift_s += END_S * np.clip((in_phrase - BROADENS) / (1 - BROADENS), 0, 1) ** 2
        tick, qpm = tempo_map(score)
        per_second = qpm[np.searchsorted(tick, notes["time"], "right") - 1] / 60 * score.tpq
        time = np.maximum(notes["time"] + np.round(np.clip(shift_s, -FARTHEST_S, FARTHEST_S) * per_second), 0)
        share = 1 + PHRASE * _swell(in_phrase) + place + np.clip(random.normal(0, DEVIATION, len(place)), -0.05, 0.05)
        velocity = np.clip(np.round(notes["velocity"] * share), 1, 127)
        length = _free(time.astype(int), notes["duration"].astype(int), notes["pitch"])
        track.notes = Note.from_numpy(
            time.astype(np.int32), length.astype(np.int32), notes["pitch"], velocity.astype(np.int8), "tick"
        )
    return score


def _swell(in_phrase: np.ndarray) -> np.ndarray:
    """-1/2 at a phrase's beginning, +1/2 at its goal, less again to its end."""
    rise = np.sin(np.pi / 2 * in_phrase / GOAL)
    fall = np.cos(np.pi / 2 * (in_phrase - GOAL) / (1 - GOAL))
    return np.where(in_phrase < GOAL, rise, 1.2 * fall - 0.2) - 0.5


def _places(plan: Plan, onset_q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each onset: what its place in the bar adds to its velocity, and where in its phrase it is, 0..1."""
    lines = np.cumsum([0.0, *(bar.quarters for bar in plan.bars)])
    bar = np.clip(np.searchsorted(lines, onset_q + 1e-6, "right") - 1, 0, len(plan.bars) - 1)
    beat = np.array([4 / one.metre[1] for one in plan.bars])[bar]
    position = (onset_q - lines[bar]) / beat
    on_beat = np.abs(position - np.round(position)) < 1e-3
    place = np.where(np.abs(position) < 1e-3, DOWNBEAT, np.where(on_beat, BEAT, OFFBEAT))
    starts = np.array([lines[phrase.start] for phrase in plan.phrases] + [lines[-1]])
    phrase = np.clip(np.searchsorted(starts, onset_q + 1e-6, "right") - 1, 0, len(starts) - 2)
    within = (onset_q - starts[phrase]) / np.diff(starts)[phrase]
    return place, np.clip(within, 0, 1)


def _free(time: np.ndarray, length: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Lengths cut where the same key is struck again."""
    order = np.lexsort((time, pitch))
    room = np.diff(time[order])
    again = np.flatnonzero(np.diff(pitch[order]) == 0)
    length = length.copy()
    length[order[again]] = np.maximum(np.minimum(length[order[again]], room[again]), 1)
    return length
