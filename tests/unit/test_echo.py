"""model/copying/echo.py: what the plan says returns is heard to return."""

from __future__ import annotations

import numpy as np
import pytest

from huesong.config import EvaluationSampling
from huesong.model.copying.echo import echo_bias, moved
from huesong.model.requests import Request
from huesong.model.sampling import roll_out
from huesong.music.form.plan import BarPlan, Chord, Plan, Relation
from huesong.music.grammar import LastRead
from tests.tiny_music import grammar, model, planned

HOME, DOMINANT = Chord(0.0, 0, "maj"), Chord(0.0, 7, "maj")


def plan(*bars: tuple[Relation, int, Chord]) -> Plan:
    """C major, 4/4, 120 quarters a minute, one phrase; a closing bar is added."""
    rows = [*bars, ("new", 0, HOME)]
    made = tuple(
        BarPlan((4, 4), relation, back, "A", len(rows) - at, "authentic" if at == len(rows) - 1 else "", (chord,))
        for at, (relation, back, chord) in enumerate(rows)
    )
    return Plan(0, "major", 120.0, made, (0.5,) * len(made), (0.2,) * len(made))


def played(given: Plan, echo: float) -> list[list[tuple[int, int, int]]]:
    """Bars of a piece of random weights that follows a plan, as position, pitch, length."""
    asked = Request(None, valence=0.3, arousal=0.2, seed=4, plan=given)
    [hypothesis] = roll_out(model(1024), [asked], EvaluationSampling(guidance=1.0, echo=echo))
    return [sorted(bar) for bar in hypothesis.state.played]


def test_bars_that_repeat_are_the_same_notes_where_the_echo_is_strong() -> None:
    new: tuple[Relation, int, Chord] = ("new", 0, HOME)  # the last one cuts off what sounds into the last chord
    given = plan(new, ("repeat", 1, HOME), new, ("repeat", 3, HOME), ("repeat", 2, HOME), new)
    bars = played(given, 10.0)
    assert len(bars[0]) > 2
    assert bars[1] == bars[0] == bars[3]
    assert bars[4] == bars[2] != bars[0]
    free = played(given, 0.0)
    assert free[0] == bars[0], "what is new does not depend on it"
    assert free[1] != free[0]


def test_a_sequence_is_the_earlier_bar_as_many_steps_away_as_its_chord() -> None:
    bars = played(plan(("new", 0, HOME), ("sequence", 1, Chord(0.0, 2, "min"))), 10.0)
    steps = {0: 2, 2: 2, 4: 1, 5: 2, 7: 2, 9: 2, 11: 1}  # to the next degree of C major
    places = [(place, pitch) for place, pitch, _ in bars[0] if pitch % 12 in steps and pitch < 106]
    answered = {(place, pitch) for place, pitch, _ in bars[1]}
    assert places
    assert {(place, pitch + steps[pitch % 12]) for place, pitch in places} <= answered


@pytest.mark.parametrize(
    ("pitch", "root", "wanted"), [(60, 2, 62), (64, 2, 65), (61, 2, 63), (72, 11, 71), (48, 9, 45), (59, 4, 62)]
)
def test_pitches_move_along_the_scale(pitch: int, root: int, wanted: int) -> None:
    given = plan(("new", 0, HOME), ("sequence", 1, Chord(0.0, root, "min")))
    assert moved(pitch, given, *given.bars[:2]) == wanted
    assert moved(pitch, given, given.bars[0], given.bars[0]) == pitch


def test_a_varied_bar_leaves_out_what_its_own_chord_has_not() -> None:
    given, rules = plan(("new", 0, HOME), ("variation", 1, DOMINANT)), grammar()
    state = rules.start(planned(3))
    state.planned, state.bar, state.position, state.last_read = [], 1, 0, LastRead.POSITION
    for pitch, wanted in ((67, True), (64, False)):
        state.played = [[(0, pitch, 4)], []]
        bias_V = echo_bias(rules, given, state)
        assert bias_V is not None
        assert (bias_V[rules.table.ids["Pitch"][pitch]] > 0) == wanted
    state.played = [[(0, 67, 4), (8, 64, 4)], []]
    state.position, state.pitch, state.last_read = 0, 67, LastRead.NOTE
    bias_V = echo_bias(rules, given, state)
    assert bias_V is not None
    assert np.flatnonzero(bias_V).tolist() == [rules.table.ids["Position"][8]]
    state.position, state.pitch = 8, 70
    bias_V = echo_bias(rules, given, state)
    assert bias_V is not None
    assert np.flatnonzero(bias_V).tolist() == [rules.bar_token((4, 4))]


def test_new_bars_and_silent_models_have_no_echo() -> None:
    given, rules = plan(("new", 0, HOME), ("repeat", 1, HOME)), grammar()
    state = rules.start(planned(3))
    state.planned, state.bar, state.played = [], 1, [[], []]
    assert echo_bias(rules, given, state) is None
    state.played[0] = [(0, 60, 4)]
    assert echo_bias(rules, given, state) is not None
    assert echo_bias(rules, given, state, 0.0) is None
    state.bar = 0
    assert echo_bias(rules, given, state) is None
