"""Heads of bars: what the plan says of a bar, as tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huesong.music.form import header
from huesong.music.form import plan as form
from huesong.music.form.heads import beats_of, head_of, heads_of
from huesong.music.form.plan import BarPlan, Chord, Plan
from huesong.music.vocabulary import RANKS, violations

HEAD = {
    "left": 3,
    "relation": "new",
    "back": 0,
    "density": 0.3,
    "loudness": 0.6,
    "chords": [(0, 9, "min")],
    "cadence": "",
}
VALUES = {name: place for place, name in enumerate(header.names())}


def kinds(names: list[str]) -> list[tuple[str, int]]:
    return [(name.partition("_")[0], VALUES[name]) for name in names]


def test_names_are_each_once_and_of_known_kinds() -> None:
    names = header.names()
    assert len(set(names)) == len(names)
    assert {name.partition("_")[0] for name in names} == header.KINDS
    assert header.KINDS - {"Style", "Key"} == RANKS.keys() - {"TimeSig"}


def test_the_words_of_plans_are_those_of_heads() -> None:
    assert set(form.QUALITIES) == set(header.QUALITIES)
    assert tuple(relation.lower() for relation in header.RELATIONS) == form.RELATIONS
    assert form.CADENCES[1:] == header.CADENCES
    assert header.MODES == form.MODES
    assert header.FARTHEST == form.FARTHEST
    assert set(header.STYLE_OF_SOURCE.values()) <= set(header.STYLES)


def test_the_beginning() -> None:
    assert header.beginning("folk", 14, "minor") == ["Style_folk", "Key_2.minor"]


def test_a_head_in_full() -> None:
    found = header.head(
        left=1, relation="variation", back=8, density=0.04, loudness=0.99, chords=[(0, 9, "min"), (2, 4, "7")],
        cadence="half",
    )  # fmt: skip
    assert found == [
        "Left_1", "Variation_8", "Density_2", "Loudness_11", "Chord_9.min", "At_2", "Chord_4.7", "Cadence_half",
    ]  # fmt: skip
    assert header.head(**HEAD) == ["Left_3", "New_0", "Density_5", "Loudness_7", "Chord_9.min"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"left": 40}, "Left_8"),
        ({"left": 0}, "Left_1"),
        ({"relation": "repeat", "back": 32}, "Repeat_32"),
        ({"relation": "repeat", "back": 33}, "New_0"),  # further than can be said
        ({"relation": "sequence", "back": 1}, "Sequence_1"),
        ({"density": 0.0}, "Density_0"),
        ({"density": 1.0}, "Density_9"),
        ({"density": 7.5}, "Density_9"),
        ({"density": -1.0}, "Density_0"),
        ({"loudness": 0.0}, "Loudness_0"),
        ({"loudness": 1.0}, "Loudness_11"),
        ({"chords": [(0, 5, "N")]}, "Chord_0.N"),  # no chord has no root
    ],
)
def test_what_is_beyond_the_levels_is_said_by_the_last(change: dict[str, object], wanted: str) -> None:
    assert wanted in header.head(**(HEAD | change))  # type: ignore[arg-type]


def test_chords_that_cannot_be_said_are_left_out() -> None:
    many = [(beat, beat % 12, "maj") for beat in range(14)]
    found = header.head(**(HEAD | {"chords": many}))  # type: ignore[arg-type]
    assert sum(name.startswith("Chord_") for name in found) == header.MOST_CHORDS
    late = header.head(**(HEAD | {"chords": [(0, 0, "maj"), (11, 1, "maj"), (11, 2, "maj"), (12, 3, "maj")]}))  # type: ignore[arg-type]
    assert late[-3:] == ["Chord_0.maj", "At_11", "Chord_1.maj"]


@given(
    left=st.integers(-3, 40), relation=st.sampled_from(form.RELATIONS), back=st.integers(0, 40),
    density=st.floats(-1, 2), loudness=st.floats(-1, 2), cadence=st.sampled_from(["", *header.CADENCES]),
    beats=st.lists(st.integers(1, 15), max_size=6, unique=True).map(sorted),
    chord=st.tuples(st.integers(0, 11), st.sampled_from(header.QUALITIES)),
)  # fmt: skip
def test_every_head_is_of_the_vocabulary_and_in_order(
    beats: list[int], chord: tuple[int, str], **asked: object
) -> None:
    found = header.head(chords=[(beat, *chord) for beat in (0, *beats)], **asked)  # type: ignore[arg-type]
    assert set(found) <= VALUES.keys()
    assert violations([("Bar", 0), ("TimeSig", 404), *kinds(found)])[0] == 0


@given(st.sampled_from(header.names()), st.integers(-12, 12))
def test_a_head_moved_to_another_key_and_back_is_itself(name: str, semitones: int) -> None:
    moved = header.transposed(name, semitones)
    assert moved in VALUES
    assert moved.partition("_")[0] == name.partition("_")[0]
    assert header.transposed(moved, -semitones) == name
    if not name.startswith(("Chord_", "Key_")):
        assert moved == name


def test_keys_chords_and_pitches_move() -> None:
    assert header.transposed("Key_11.minor", 2) == "Key_1.minor"
    assert header.transposed("Chord_1.hdim", -3) == "Chord_10.hdim"
    assert header.transposed("Chord_0.N", 5) == "Chord_0.N"
    assert header.transposed("Pitch_60", 6) == "Pitch_66"
    assert header.transposed("Pitch_108", 1) is None
    assert header.transposed("Pitch_21", -1) is None
    assert header.transposed("Velocity_60", 6) == "Velocity_60"


# --- of plans --------------------------------------------------------------------------------------


def bar(metre: tuple[int, int], *chords: tuple[float, int, str], left: int = 1, **changes: object) -> BarPlan:
    values: dict[str, object] = {"relation": "new", "back": 0, "phrase": "A", "cadence": ""}
    return BarPlan(metre=metre, left=left, chords=tuple(Chord(*chord) for chord in chords), **(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metre", "position", "beat"),
    [((4, 4), 2.0, 2), ((4, 4), 1.6, 2), ((6, 8), 1.5, 3), ((12, 8), 4.5, 9), ((2, 2), 2.0, 2), ((3, 4), 2.2, 2)],
)
def test_chords_stand_at_the_nearest_beat_of_the_metre(metre: tuple[int, int], position: float, beat: int) -> None:
    assert beats_of(bar(metre, (0.0, 0, "maj"), (position, 7, "7"))) == [(0, 0, "maj"), (beat, 7, "7")]


def test_of_two_chords_at_one_beat_the_first_is_said() -> None:
    assert beats_of(bar((4, 4), (0.0, 0, "maj"), (0.4, 2, "min"), (2.0, 7, "7"))) == [(0, 0, "maj"), (2, 7, "7")]


def test_heads_of_some_bars_of_a_plan() -> None:
    plan = Plan(
        9, "minor", 100.0,
        (
            bar((3, 4), (0.0, 9, "min"), left=2), bar((3, 4), (0.0, 4, "7"), (2.0, 9, "min"), cadence="authentic"),
            bar((3, 4), (0.0, 9, "min"), relation="repeat", back=2),
        ),
        (0.5, 0.6, 0.7), (0.1, 0.2, 0.3),
    )  # fmt: skip
    assert heads_of(plan) == [head_of(plan, index) for index in range(3)]
    assert heads_of(plan, 1) == heads_of(plan)[1:]
    assert heads_of(plan, 2, 1) == [["Left_1", "Repeat_2", "Density_5", "Loudness_8", "Chord_9.min"]]
    assert head_of(plan, 1)[-4:] == ["Chord_4.7", "At_2", "Chord_9.min", "Cadence_authentic"]
