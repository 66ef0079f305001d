"""Cadences: how a phrase ends, by its last chords in the local key."""

from __future__ import annotations

from itertools import pairwise

from huesong.music.form.heard.grid import Grid
from huesong.music.form.plan import Cadence, Chord
from huesong.music.keys import Key

DOMINANTS = ("maj", "7", "sus4")
LEADING = ("dim", "hdim", "dim7")
MAJOR, MINOR = ("maj", "7", "maj7", "sus4", "sus2"), ("min", "min7")
ARRIVAL = 0.5
"""Share of the last bar that a chord lasts at least to be where the phrase arrives, if others follow."""


def cadence_of(chords: list[tuple[Chord, ...]], grid: Grid, keys: list[Key], begin: int, end: int) -> Cadence:
    """Of the phrase of bars `begin`..`end` - 1, given chords and local key of each bar: where it arrives, and whence.

    A chord that follows the arrival for a short time only leads on to the next phrase and is passed over.
    """
    timed: list[tuple[float, Chord]] = []
    for bar in range(max(0, begin, end - 3), end):
        for chord in chords[bar]:
            if not timed or timed[-1][1][1:] != chord[1:]:
                timed.append((float(grid.starts[bar]) + chord.position, chord))
    last_line, close = float(grid.starts[end - 1]), float(grid.starts[end])
    times = [time for time, _ in timed] + [close]
    found: list[tuple[Cadence, float]] = []
    for index, ((_, before), (_, chord)) in enumerate(pairwise(timed), start=1):
        lasts = times[index + 1] - max(times[index], last_line)
        if times[index + 1] > last_line:
            found.append((kind_of(before, chord, keys[end - 1]), lasts / (close - last_line)))
    for kind, share in reversed(found):
        if kind and (share >= ARRIVAL or kind == found[-1][0]):
            return kind
    return ""


def kind_of(before: Chord, chord: Chord, key: Key) -> Cadence:
    """Of the step from one chord to the next; a dominant seventh also closes on another chord than the tonic."""
    if "N" in (before.quality, chord.quality):
        return ""
    tonic, major = key
    here, there = (chord.root - tonic) % 12, (before.root - tonic) % 12
    stable = chord.quality in MAJOR + MINOR and chord.quality != "7"
    dominant = (there == 7 and before.quality in DOMINANTS) or (there == 11 and before.quality in LEADING)
    if stable and here == 0 and dominant:
        return "authentic"
    if here == 7 and chord.quality in DOMINANTS and there != 11:
        return "half"
    if stable and before.quality == "7" and (before.root - chord.root) % 12 == 7:
        return "authentic"
    if stable and here == 0 and there in (5, 2) and before.quality not in ("7", "dim7"):
        return "plagal"
    if dominant and here == (9 if major else 8) and stable:
        return "deceptive"
    return ""
