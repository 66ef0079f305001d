"""Which hand plays a note: a split point that moves slowly, so that neither hand has to reach too far.

A dynamic programme over the onsets: at each, every split pitch costs what the two hands would have to do; moving the split
costs, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from symusic import Score

SPLITS = np.arange(43, 80)
"""Pitches: those below the split are the left hand's."""
MIDDLE = 60
REACH = 14
"""Semitones that a hand spans, a ninth."""
FAR, MOVE, AWAY, EMPTY, GAP = 3.0, 0.35, 0.06, 1.5, 0.15
"""Costs: a semitone beyond reach; moving the split by one; its distance from the middle; a hand without notes while the
other has three; and what a semitone of free space around the split is worth."""


def right_hand(onset: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Whether each note [N] is the right hand's. `onset`: where it begins, in any unit; `pitch`: MIDI numbers."""
    if not len(onset):
        return np.zeros(0, dtype=bool)
    times, which = np.unique(onset, return_inverse=True)
    costs = np.array([_costs(np.sort(pitch[which == index])) for index in range(len(times))])
    step = MOVE * np.abs(SPLITS[:, None] - SPLITS[None, :])
    best, back = costs[0], np.zeros((len(times), len(SPLITS)), dtype=int)
    for index in range(1, len(times)):
        through = best[:, None] + step
        back[index] = through.argmin(axis=0)
        best = through.min(axis=0) + costs[index]
    path = [int(best.argmin())]
    for index in range(len(times) - 1, 0, -1):
        path.append(int(back[index, path[-1]]))
    return pitch >= SPLITS[path[::-1]][which]


def in_hands(score: Score) -> Score:
    """A copy with two tracks, right hand and left hand, of the notes of all tracks; each has all pedals and the first program."""
    score = score.copy()
    rows = [
        (note.time, note.pitch, track, index)
        for track, part in enumerate(score.tracks)
        for index, note in enumerate(part.notes)
    ]
    if not rows:
        return score
    rows.sort()
    onset, pitch, track, index = np.array(rows).T
    right = right_hand(onset, pitch)
    hands = []
    for name, chosen in (("Right hand", right), ("Left hand", ~right)):
        hand = score.tracks[0].copy()
        hand.name = name
        hand.notes = [score.tracks[int(t)].notes[int(i)] for t, i in zip(track[chosen], index[chosen], strict=True)]
        hands.append(hand)
    score.tracks = hands
    return score


def _costs(pitches: np.ndarray) -> np.ndarray:
    """What each split costs for notes that are struck together, lowest first."""
    found = AWAY * np.abs(SPLITS - MIDDLE).astype(float)
    for index, split in enumerate(SPLITS):
        low, high = pitches[pitches < split], pitches[pitches >= split]
        for hand, other in ((low, high), (high, low)):
            if len(hand):
                found[index] += FAR * max(0, int(hand[-1] - hand[0]) - REACH)
            elif len(other) >= 3:
                found[index] += EMPTY
        if len(low) and len(high):
            found[index] -= GAP * min(12, int(high[0] - low[-1]))
    return found
