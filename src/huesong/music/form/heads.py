"""A plan as the tokens at the head of bars (header.py); and what heads ask of the notes: where a cadence arrives, its chord.

Without that the network plays the root in two of three arrivals, as in any other bar, and a phrase is not heard to end.

V = vocabulary size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from huesong.music.form import header
from huesong.music.form.plan import QUALITIES, BarPlan, Plan
from huesong.music.vocabulary import TokenTable

NONE = -1
"""In place of the pitch class of a token without notes."""


def heads_of(plan: Plan, first: int = 0, count: int | None = None) -> list[list[str]]:
    """The heads of `count` bars of a plan, from bar `first` on (None: to its end).

    A relation to a bar before `first` stays as it is: the network knows what was to come back, if not how it went.
    """
    end = len(plan.bars) if count is None else first + count
    return [head_of(plan, index) for index in range(first, end)]


def head_of(plan: Plan, index: int) -> list[str]:
    """The head of one bar."""
    bar = plan.bars[index]
    return header.head(
        left=bar.left, relation=bar.relation, back=bar.back, density=plan.density[index],
        loudness=plan.dynamics[index], chords=beats_of(bar), cadence=bar.cadence,
    )  # fmt: skip


def beats_of(bar: BarPlan) -> list[tuple[int, int, str]]:
    """Its chords, each at the nearest beat of its metre; of several at one beat the first."""
    lower = 4 if bar.metre[1] == 2 else bar.metre[1]
    found: dict[int, tuple[int, int, str]] = {}
    for chord in bar.chords:
        beat = round(chord.position * lower / 4)
        found.setdefault(beat, (beat, chord.root, chord.quality))
    return list(found.values())


class Arrival(NamedTuple):
    """tick: from the bar line. root: pitch class 0..11. quality: a key of `QUALITIES`, not N."""

    tick: int
    root: int
    quality: str


def arrival_of(head: Sequence[str], beat_ticks: int) -> Arrival | None:
    """Where a bar with this head (header.head) arrives: on its last chord. None: it has no cadence, or no chord."""
    if not any(name.startswith("Cadence_") for name in head):
        return None
    beat, chord = 0, "0.N"
    for name in head:
        kind, _, value = name.partition("_")
        if kind == "At":
            beat = int(value)
        elif kind == "Chord":
            chord = value
    root, _, quality = chord.partition(".")
    return None if quality == "N" else Arrival(beat * beat_ticks, int(root), quality)


class Arrivals:
    """Which tokens an arrival allows; what depends on its chord alone is kept."""

    def __init__(self, table: TokenTable) -> None:
        self.table = table
        self._chords: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]] = {}
        struck = table.first_struck_VP
        self._lowest_class = np.where(struck.any(axis=1), struck.argmax(axis=1) % 12, NONE)

    def mask(self, arrival: Arrival, position: int, notes_here: int) -> np.ndarray:
        """Allowed tokens, bool [V]; may be empty.

        Args:
            arrival: of the present bar.
            position: the open position, ticks from the bar line; -1: none yet.
            notes_here: how many notes it has.
        """
        table, tick = self.table, arrival.tick
        within, rooted = self._of_chord(arrival.root, arrival.quality)
        opens = (table.first_position == tick) & (table.first_onset == tick)
        if position == tick:
            adds = table.lead_notes > 0
            return ~adds | (within & rooted) if not notes_here else ~adds | within
        allowed = ~opens | (within & rooted)
        if tick == 0 and position < 0:  # the bar line itself is not passed over
            allowed &= table.first_position == 0
        return allowed

    def _of_chord(self, root: int, quality: str) -> tuple[np.ndarray, np.ndarray]:
        """Of each token whether its first notes are all of the chord, and whether the lowest of them is the root [V]."""
        if (root, quality) not in self._chords:
            tones = {(root + step) % 12 for step in QUALITIES[quality]}
            outside = [pitch for pitch in range(128) if pitch % 12 not in tones]
            within = np.logical_not(self.table.first_struck_VP[:, outside].any(axis=1))
            self._chords[root, quality] = within, np.isin(self._lowest_class, (root, NONE))
        return self._chords[root, quality]
