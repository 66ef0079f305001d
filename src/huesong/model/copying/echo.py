"""What the plan says returns is heard to return: while a bar that repeats, varies or transposes an earlier one is sampled,
what that bar has next is made likelier.

A network that has learnt to look back does so by itself, a young one does not. The bonus is an amount of nats and not a
rule: the network may depart from the earlier bar at any note, and is expected back at the next one.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from huesong.music.form.plan import BarPlan, Plan
from huesong.music.grammar import Grammar, LastRead, State
from huesong.music.keys import SCALES


@dataclass(frozen=True)
class Bonus:
    """Nats on the logits of the next position (or bar line), pitch, and length of a note."""

    place: float
    pitch: float
    length: float


BONUS = {"repeat": Bonus(6.0, 6.0, 5.0), "variation": Bonus(4.0, 2.5, 3.0), "sequence": Bonus(5.0, 5.0, 4.0)}
"""By what a bar has to do with the earlier one. Measured: docs/lab-diary.md."""


def echo_bias(grammar: Grammar, plan: Plan, state: State, strength: float = 1.0) -> np.ndarray | None:
    """What logits gain where the present bar has to do with an earlier one [V]; None where it has not, where the
    earlier bar is silent, and for models that know no plans."""
    if (
        not strength
        or not state.constraints.heads
        or state.planned
        or state.last_read >= LastRead.LAST_BAR
        or not 0 <= state.bar < len(plan.bars)
    ):
        return None
    bar = plan.bars[state.bar]
    earlier = state.bar - bar.back
    if bar.relation == "new" or earlier < 0 or not state.played[earlier]:
        return None
    bonus, bias_V = BONUS[bar.relation], np.zeros(grammar.vocabulary.size)
    model, table = plan.bars[earlier], grammar.table
    heard = ((place, moved(pitch, plan, model, bar), length) for place, pitch, length in state.played[earlier])
    notes = sorted(note for note in heard if note[1] in table.ids["Pitch"])
    if state.last_read in (LastRead.PITCH, LastRead.VELOCITY):
        lengths = {length for place, pitch, length in notes if (place, pitch) == (state.position, state.pitch)}
        if lengths:
            bias_V[table.lead_duration == min(lengths)] = strength * bonus.length
            bias_V[list(table.ids["Velocity"].values())] = (
                strength * bonus.length
            )  # the length may be a token of its own
        return bias_V
    following = notes[bisect_right(notes, (state.position, state.pitch, 10**9)) :]
    if not following:
        bias_V[grammar.bar_token(bar.metre)] = strength * bonus.place
        return bias_V
    place, pitch, _ = following[0]
    if place != state.position:
        bias_V[table.ids["Position"][place]] = strength * bonus.place
    elif fits(pitch, place / grammar.beat, model, bar):
        bias_V[table.ids["Pitch"][pitch]] = strength * bonus.pitch
    return bias_V


def fits(pitch: int, quarter: float, model: BarPlan, bar: BarPlan) -> bool:
    """Whether the earlier bar's note suits the chord that the plan has here: it is of it, has moved with it, or the chord
    is the same.
    """
    if bar.relation == "sequence":
        return True
    there, here = (sounding(one, quarter) for one in (model, bar))
    return there == here or not here or pitch % 12 in here


def sounding(bar: BarPlan, quarter: float) -> frozenset[int]:
    """The tones of the chord that sounds so many quarters after the bar line."""
    return [chord for chord in bar.chords if chord.position <= quarter][-1].tones


def moved(pitch: int, plan: Plan, model: BarPlan, bar: BarPlan) -> int:
    """A pitch of the earlier bar where this one has it: for a sequence as many steps of the scale higher or lower as
    the root of the chord has gone (four at most), else as it is.
    """
    if bar.relation != "sequence":
        return pitch
    scale = sorted(SCALES[plan.mode == "major"][:7])
    degrees = [degree_of(one.chords[0].root - plan.tonic, scale) for one in (model, bar)]
    steps = (degrees[1] - degrees[0] + 3) % 7 - 3
    place = degree_of(pitch - plan.tonic, scale) + steps
    octave, place = divmod(place, 7)
    base = (pitch - plan.tonic) // 12 * 12 + plan.tonic
    accidental = (pitch - plan.tonic) % 12 - scale[degree_of(pitch - plan.tonic, scale)]
    return base + 12 * octave + scale[place] + accidental


def degree_of(pitch_class: int, scale: list[int]) -> int:
    """The step of the scale, 0 to 6, that a pitch class above the tonic is or raises."""
    return bisect_right(scale, pitch_class % 12) - 1
