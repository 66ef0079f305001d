"""Notes as they are written down: on a grid, in voices, in values that have a sign of their own, and spelled.

Time is counted in units of a twelfth of a quarter, in which sixteenths (3) and triplet eighths (4) are whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

UNITS = 12
"""A quarter."""
EIGHTH, SIXTEENTH, TRIPLET = 6, 3, 4
VALUES = (48, 36, 24, 18, 12, 9, 6, 3)
"""Whole to sixteenth note, with dotted half, quarter and eighth."""
FILLED = 0.5
"""A note that sounds for this share of the time to the next one is written up to it: the pedal, or its finger, leads over."""
STACCATO = 0.45
HELD = UNITS
"""A note that sounds this long beyond the next one of its hand is written in a voice of its own."""
LETTERS = "FCGDAEB"
"""The line of fifths."""


@dataclass(frozen=True)
class Event:
    """Notes of one voice that are struck together, or a rest (no pitches).

    start, end: in units from the beginning. pitches: MIDI numbers, ascending. velocity: the loudest one's. short: played
    shorter than written. tied: goes on in the next event. continued: goes on from the one before.
    """

    start: int
    end: int
    pitches: tuple[int, ...] = ()
    velocity: int = 0
    short: bool = False
    tied: bool = False
    continued: bool = False


@dataclass(frozen=True)
class Bar:
    """start: in units. metre: numerator and denominator. left, right: the voices of a hand, each as events that fill it."""

    start: int
    metre: tuple[int, int]
    left: tuple[tuple[Event, ...], ...]
    right: tuple[tuple[Event, ...], ...]

    @property
    def units(self) -> int:
        """Its length."""
        return bar_units(self.metre)


def bar_units(metre: tuple[int, int]) -> int:
    """The length of a bar in units."""
    return 4 * UNITS * metre[0] // metre[1]


def beat_units(metre: tuple[int, int]) -> int:
    """The length of a beat: a dotted quarter in 6/8, 9/8 and 12/8, else the denominator's note."""
    upper, lower = metre
    return 3 * EIGHTH if lower == 8 and upper % 3 == 0 else 4 * UNITS // lower


def quantised(onset_q: np.ndarray, simple: bool) -> np.ndarray:
    """Onsets [N] in quarters as units: each beat on sixteenths or on triplets, whichever is nearer (triplets if `simple`)."""
    units = onset_q * UNITS
    beat = np.floor(units / UNITS + 1e-6).astype(int)
    sixteenths = np.rint(units / SIXTEENTH).astype(int) * SIXTEENTH
    triplets = np.rint(units / TRIPLET).astype(int) * TRIPLET
    found = sixteenths.copy()
    for one in np.unique(beat) if simple else ():
        inside = beat == one
        error = [np.abs(units[inside] - grid[inside]).sum() for grid in (sixteenths, triplets)]
        apart = [len(np.unique(grid[inside])) for grid in (sixteenths, triplets)]
        if error[1] + 1e-6 < error[0] and apart[1] >= apart[0]:
            found[inside] = triplets[inside]
    return found


def voices_of(notes: np.ndarray) -> tuple[list[Event], list[Event]]:
    """The chords of one hand as one stream, and those that are held beneath or above it as another one.

    Args:
        notes: rows [N, 4] of onset and end in units, pitch, velocity; sorted by onset.
    """
    onsets = np.unique(notes[:, 0])
    following = dict(pairwise([*onsets.tolist(), int(notes[:, 1].max(initial=0)) + UNITS]))
    held_until = 0
    moving: list[np.ndarray] = []
    held: list[np.ndarray] = []
    for onset in onsets:
        rows = notes[notes[:, 0] == onset]
        long = rows[:, 1] >= following[int(onset)] + HELD
        if onset >= held_until and long.any() and not (len(rows) > 1 and long.all()):
            held.append(rows[long])
            held_until = int(rows[long][:, 1].max())
            rows = rows[~long]
        moving.append(rows)
    return _stream([rows for rows in moving if len(rows)]), _stream(held)


def _stream(chords: list[np.ndarray]) -> list[Event]:
    """Chords one after the other, each written up to the next where it sounds long enough.

    A brief one on an eighth is an eighth with a dot: a sixteenth with its dotted rest says the same and is harder to read.
    """
    found = []
    starts = [int(rows[0, 0]) for rows in chords]
    for rows, start, after in zip(chords, starts, [*starts[1:], None], strict=False):
        sounds = int(rows[:, 1].max()) - start
        room = (after - start) if after is not None else None
        brief = False
        if room is not None and sounds >= FILLED * room:
            length = room
        else:
            brief = start % EIGHTH == 0 and sounds <= SIXTEENTH and (room is None or room >= EIGHTH)
            steps = (EIGHTH, UNITS) if brief else (SIXTEENTH, EIGHTH, UNITS)
            step = next(step for step in steps if start % step or step == UNITS or sounds <= step)
            length = max(step, -(-(start + sounds) // step) * step - start)
            length = length if room is None else min(length, room)
        short = length <= UNITS and (brief or sounds < STACCATO * length)
        pitches = tuple(sorted({int(pitch) for pitch in rows[:, 2]}))
        found.append(Event(start, start + length, pitches, int(rows[:, 3].max()), short))
    return found


def in_bars(voice: list[Event], starts: list[int], metres: list[tuple[int, int]]) -> list[list[Event]]:
    """The events of a voice bar by bar, cut at bar lines and into values that have a sign, with rests between."""
    found = []
    for start, metre in zip(starts, metres, strict=True):
        end, filled = start + bar_units(metre), start
        inside: list[Event] = []
        for event in (one for one in voice if one.start < end and one.end > start):
            first, last = max(event.start, start), min(event.end, end)
            if first > filled:
                inside += _cut(Event(filled, first), start, metre)
            part = replace(event, start=first, end=last, tied=event.end > end, continued=event.start < start)
            inside += _cut(part, start, metre)
            filled = last
        if filled < end:
            inside += [Event(filled, end)] if filled == start else _cut(Event(filled, end), start, metre)
        found.append(inside)
    return found


def _cut(event: Event, bar: int, metre: tuple[int, int]) -> list[Event]:
    """An event as events with values that have a sign, where a reader expects them; tied unless they are rests."""
    found, at = [], event.start
    while at < event.end:
        value = _value(at - bar, event.end - at, metre)
        last = at + value >= event.end
        found.append(
            replace(
                event,
                start=at,
                end=at + value,
                tied=bool(event.pitches) and (event.tied or not last),
                continued=bool(event.pitches) and (event.continued or at > event.start),
            )
        )
        at += value
    return found


def _value(place: int, left: int, metre: tuple[int, int]) -> int:
    """The value to write at `place` units of a bar where `left` units are to be filled."""
    beat = beat_units(metre)
    to_beat = beat - place % beat
    if place % SIXTEENTH or (left % SIXTEENTH and left < to_beat):  # within a triplet
        return min(left, to_beat, 2 * TRIPLET if (to_beat % TRIPLET == 0) else left)
    if place % beat:
        if beat == UNITS and left == UNITS and place % UNITS == EIGHTH:
            return UNITS  # the usual syncopation
        return next(value for value in VALUES if value <= min(left, to_beat))
    if left < beat:
        fits = [value for value in VALUES if value <= left]
        return fits[0] if fits else left
    half = bar_units(metre) // 2 if metre[0] % 2 == 0 and beat == UNITS else bar_units(metre)
    room = half - place % half
    if metre == (4, 4) and place == UNITS and left == 2 * UNITS:
        return 2 * UNITS
    if place == 0 and left >= bar_units(metre):
        room = bar_units(metre)
    whole = [value for value in VALUES if value <= min(left, room) and value % beat == 0]
    return whole[0] if whole else next(value for value in VALUES if value <= min(left, room))


def fifths_of(tonic: int, major: bool) -> int:
    """Sharps (positive) or flats of a key signature."""
    parent = tonic if major else (tonic + 3) % 12
    sharps = parent * 7 % 12
    return sharps if sharps <= 6 else sharps - 12


def spelled(pitch: int, fifths: int, major: bool) -> tuple[str, int, int]:
    """Letter, alteration in semitones and octave of a MIDI pitch in a key (its signature's fifths).

    From the twelve neighbours on the line of fifths that its scale and chords are made of: the raised fourth, which leads to
    the dominant, and in minor the raised sixth and seventh, are sharpened.
    """
    lowest = fifths - 5 if major else fifths - 2
    place = lowest + (pitch * 7 - lowest) % 12
    letter, alter = LETTERS[(place + 1) % 7], (place + 1) // 7
    return letter, alter, (pitch - alter) // 12 - 1
