"""A plan is checked, written as JSON and read back, moved to another key, and told in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from huesong.music.form.plan import BarPlan, Chord, Plan
from huesong.runtime.errors import UserError


def tiny() -> Plan:
    """Two phrases of two bars in A minor; the third bar repeats the first, the fourth varies the second."""
    am, dm, e7 = Chord(0.0, 9, "min"), Chord(0.0, 2, "min"), Chord(2.0, 4, "7")
    bars = (
        BarPlan((4, 4), "new", 0, "A", 2, "", (am,)),
        BarPlan((4, 4), "new", 0, "A", 1, "half", (dm, e7)),
        BarPlan((4, 4), "repeat", 2, "A'", 2, "", (am,)),
        BarPlan((4, 4), "variation", 2, "A'", 1, "authentic", (Chord(0.0, 4, "7"), Chord(2.0, 9, "min"))),
    )
    return Plan(9, "minor", 96.0, bars, (0.5, 0.5, 0.6, 0.4), (0.2, 0.2, 0.3, 0.1))


def test_json_and_back() -> None:
    assert Plan.from_dict(json.loads(json.dumps(tiny().to_dict()))) == tiny()


def test_lengths_phrases_and_key() -> None:
    plan = tiny()
    assert plan.quarters == 16
    assert plan.seconds == 10
    assert plan.form == "A2 A'2"
    assert [tuple(phrase) for phrase in plan.phrases] == [(0, 2, "A"), (2, 2, "A'")]
    assert plan.key == (9, False)


def test_another_key_moves_tonic_and_roots_and_nothing_else() -> None:
    moved = tiny().transposed(5)
    assert moved.tonic == 2
    assert [chord.root for bar in moved.bars for chord in bar.chords] == [2, 7, 9, 2, 9, 2]
    assert moved.transposed(-5) == tiny()
    assert [moved.numeral(chord) for bar in moved.bars for chord in bar.chords] == ["i", "iv", "V7", "i", "V7", "i"]


def test_it_is_told_in_words() -> None:
    assert tiny().describe().splitlines() == [
        "A minor, 4/4, 96 quarters a minute, 4 bars, 10 s",
        "form: A2 A'2",
        "A       1-2: i | iv V7  (half cadence)",
        "A'      3-4: i | V7 i  (authentic cadence; 3 repeats 1; 4 varies 2)",
    ]


@pytest.mark.parametrize(
    ("bar", "field", "value", "said"),
    [
        (None, "tonic", 12, "tonic 12"),
        (None, "mode", "dorian", "mode 'dorian'"),
        (None, "tempo", 0, "tempo 0"),
        (None, "tempo", float("nan"), "tempo nan"),
        (None, "bars", [], "0 bars"),
        (None, "colour", 1, "'colour' is no field"),
        (0, "metre", [4], "bar 1: metre: [4]"),
        (0, "metre", [4, 5], "bar 1: metre 4/5"),
        (0, "relation", "copy", "bar 1: relation 'copy'"),
        (0, "back", 1, "bar 1: back 1"),
        (2, "back", 3, "bar 3: back 3"),
        (2, "back", "2", "bar 3: back: '2': give a whole number"),
        (2, "back", True, "bar 3: back: True: give a whole number"),
        (1, "phrase", "B", "bar 2: phrase B"),
        (1, "phrase", "", "bar 2: phrase ''"),
        (3, "left", 2, "bar 4: phrase A', left 2"),
        (2, "cadence", "half", "bar 3: cadence half"),
        (3, "cadence", "perfect", "bar 4: cadence 'perfect'"),
        (0, "chords", [], "bar 1: chords at []"),
        (0, "chords", [[1.0, 0, "maj"]], "bar 1: chords at [1.0]"),
        (0, "chords", [[0, 0, "maj"], [4, 0, "maj"]], "bar 1: chords at [0.0, 4.0]"),
        (0, "chords", [[0, 12, "maj"]], "bar 1: root 12"),
        (0, "chords", [[0, 0, "min13"]], "bar 1: quality 'min13'"),
        (0, "chords", [[0, 0]], "bar 1: chord: [0, 0]"),
        (0, "dynamics", 1.5, "bar 1: dynamics 1.5"),
        (0, "density", float("nan"), "bar 1: density nan"),
    ],
)
def test_what_no_piece_can_be_is_refused_in_one_line(bar: int | None, field: str, value: Any, said: str) -> None:
    data = json.loads(json.dumps(tiny().to_dict()))
    (data if bar is None else data["bars"][bar])[field] = value
    with pytest.raises(UserError) as caught:
        Plan.from_dict(data)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "plan", {"tonic": 1}])
def test_what_is_no_plan_is_refused(data: Any) -> None:
    with pytest.raises(UserError, match="plan"):
        Plan.from_dict(data)
