"""Invented plans: length, form, returns, cadences, what the user settles, and what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huesong.music.form.heard.cadences import kind_of
from huesong.music.form.plan import Plan
from huesong.music.form.planner import invent, key_of
from huesong.music.form.progressions import Arrival, chain_of
from huesong.music.form.settings import METRES, STYLES, Settings, parse_chords, parse_form, parse_metre
from huesong.music.form.statistics import statistics
from huesong.runtime.errors import UserError
from tests.examples import examples

VA = st.floats(-1, 1)


def chords_of(plan: Plan) -> list[list[tuple[int, str]]]:
    return [[(chord.root, chord.quality) for chord in bar.chords] for bar in plan.bars]


@examples(100)
@given(VA, VA, st.floats(8, 200), st.integers(-(2**70), 2**70))
def test_any_plan_has_its_length_prepares_its_end_and_repeats_what_it_says(
    valence: float, arousal: float, seconds: float, seed: int
) -> None:
    plan = invent(valence, arousal, seconds, seed)
    assert plan.seconds == pytest.approx(seconds)
    assert plan.bars[-1].cadence in ("authentic", "plagal")
    before = plan.bars[-1].chords[-2] if len(plan.bars[-1].chords) > 1 else plan.bars[-2].chords[-1]
    assert kind_of(before, plan.bars[-1].chords[-1], plan.key) == plan.bars[-1].cadence
    for index, bar in enumerate(plan.bars):
        if bar.relation == "repeat":
            assert bar.chords == plan.bars[index - bar.back].chords
    assert Plan.from_dict(plan.to_dict()) == plan


def test_every_cadence_is_what_its_chords_make() -> None:
    wrong = 0
    for seed in range(30):
        plan = invent(0.2, 0.1, 60, seed)
        for index, bar in enumerate(plan.bars):
            if bar.cadence:
                before = bar.chords[-2] if len(bar.chords) > 1 else plan.bars[index - 1].chords[-1]
                wrong += kind_of(before, bar.chords[-1], plan.key) != bar.cadence
    assert wrong == 0


def test_the_same_seed_gives_the_same_plan_another_one_another() -> None:
    assert invent(0.3, -0.2, 30, 5) == invent(0.3, -0.2, 30, 5)
    assert len({str(invent(0.3, -0.2, 30, seed).to_dict()) for seed in range(10)}) == 10


def test_short_pieces_have_four_to_eight_bars_and_longer_ones_returns() -> None:
    bars = [len(invent(0, arousal, 15, seed).bars) for seed, arousal in enumerate(np.linspace(-1, 0.5, 30))]
    assert np.mean([4 <= count <= 8 for count in bars]) > 0.9
    for seed in range(20):
        plan = invent(0, 0, 60, seed)
        letters = [phrase.label[0] for phrase in plan.phrases]
        assert len(set(letters)) < len(letters)
        assert np.mean([bar.relation != "new" for bar in plan.bars]) >= 0.2


def test_emotion_shapes_the_plan() -> None:
    def mean(valence: float, arousal: float) -> tuple[float, float, float, float]:
        plans = [invent(valence, arousal, 30, seed) for seed in range(25)]
        return (
            float(np.mean([plan.mode == "major" for plan in plans])),
            float(np.mean([plan.tempo for plan in plans])),
            float(np.mean(next(plan.dynamics for plan in plans for _ in [0] if plan.dynamics))),
            float(np.mean([np.mean(plan.density) * plan.tempo for plan in plans])),
        )

    sad, happy, calm, excited = mean(-0.9, 0), mean(0.9, 0), mean(0, -0.9), mean(0, 0.9)
    assert sad[0] < 0.3 < 0.7 < happy[0]
    assert calm[1] * 1.3 < excited[1]
    assert calm[2] < excited[2]
    assert calm[3] * 1.5 < excited[3]


def test_a_course_of_arousal_shapes_the_levels() -> None:
    plan = invent(0.0, (-0.8, 0.8), 60, 3)
    half = len(plan.bars) // 2
    assert np.mean(plan.dynamics[half:]) > np.mean(plan.dynamics[:half]) + 0.05
    assert np.mean(plan.density[half:]) > np.mean(plan.density[:half])


def test_new_bars_differ_in_density_and_repeats_are_as_full_as_they_were() -> None:
    new, repeated = [], []
    for seed in range(40):
        plan = invent(0.2, 0.0, 40.0, seed)
        density = np.log2(plan.density)
        for index, bar in enumerate(plan.bars[:-1]):
            if bar.left == 1 or plan.bars[index - bar.back].left == 1:
                continue  # the last bar of a phrase is less full by itself
            if bar.relation == "new" and bar.phrase == "A":
                new.append(density[index])
            if bar.relation == "repeat" and bar.phrase == plan.bars[index - bar.back].phrase:
                repeated.append(density[index] - density[index - bar.back])
    assert 0.3 < np.std(new) < 0.6
    assert len(repeated) > 40
    assert np.abs(repeated).max() < 0.1


def test_a_loop_ends_open() -> None:
    kinds = {invent(0.1, 0, 30, seed, Settings(loop=True)).bars[-1].cadence for seed in range(20)}
    assert kinds == {"half", "deceptive"}


@pytest.mark.parametrize("metre", METRES)
def test_all_metres(metre: tuple[int, int]) -> None:
    plan = invent(0.1, 0.0, 40, 2, Settings(metre=metre))
    assert {bar.metre for bar in plan.bars} == {metre}
    assert plan.seconds == pytest.approx(40)


@pytest.mark.parametrize("style", STYLES)
def test_all_styles(style: str) -> None:
    assert invent(0.1, 0.0, 30, 2, Settings(style=style)).seconds == pytest.approx(30)


def test_a_form_is_kept() -> None:
    plan = invent(0, 0, 60, 1, Settings(form=parse_form("i2 A4 A'4 B4 A4 o2")))
    assert plan.form == "i2 A4 A'4 B4 A4 o2"
    plan = invent(0, 0, 40, 1, Settings(form=parse_form("AABA"), metre=(3, 4)))
    assert [phrase.label for phrase in plan.phrases] == ["A", "A", "B", "A"]
    assert len({phrase.bars for phrase in plan.phrases}) == 1
    first, second = (chords_of(plan)[phrase.start : phrase.start + phrase.bars] for phrase in plan.phrases[:2])
    assert first[:-2] == second[:-2]


def test_tempo_key_and_bars_are_kept() -> None:
    plan = invent(0.9, 0, 30, 1, Settings(tempo=96, key=(9, False)))
    assert plan.tempo == 96
    assert plan.key == (9, False)
    assert plan.seconds == pytest.approx(30, rel=0.1)
    for bars in range(1, 40):
        assert len(invent(0, 0, 30, 1, Settings(bars=bars)).bars) == bars


def test_the_users_chords_come_back_in_every_phrase_and_the_tonic_ends() -> None:
    plan = invent(0.9, 0, 30, 1, Settings(chords=parse_chords("Am | F | C | G"), form=parse_form("AB")))
    assert plan.key == (9, False)
    four = [[(9, "min")], [(5, "maj")], [(0, "maj")], [(7, "maj")]]
    found = chords_of(plan)
    for phrase in plan.phrases:
        assert found[phrase.start : phrase.start + 4][:3] == four[:3]
    assert found[-1] == [(9, "min")]
    loop = invent(0.9, 0, 30, 1, Settings(chords=parse_chords("Am F C G"), form=parse_form("A4 A4"), loop=True))
    assert chords_of(loop)[-1] == four[-1]


def test_chords_are_read_as_they_are_written() -> None:
    found = parse_chords("Am F#m7b5 | Bb/D Csus4 Ebmaj7 G7 | N")
    assert found is not None
    assert [[chord[1:] for chord in bar] for bar in found] == [
        [(9, "min"), (6, "hdim")], [(10, "maj"), (0, "sus4"), (3, "maj7"), (7, "7")], [(0, "N")],
    ]  # fmt: skip
    assert [chord.position for chord in found[1]] == [0, 1, 2, 3]
    in_three = invent(0, 0, 20, 1, Settings(chords=found, metre=(3, 4)))
    assert [chord.position for chord in in_three.bars[1].chords] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "key"),
    [("Am F C G", (9, False)), ("C F G C", (0, True)), ("Dm Gm A7 Dm", (2, False)), ("N", (0, True))],
)
def test_the_key_of_chords(text: str, key: tuple[int, bool]) -> None:
    bars = parse_chords(text)
    assert bars is not None
    assert key_of([chord for bar in bars for chord in bar]) == key


def test_a_progression_arrives() -> None:
    rng = np.random.default_rng(0)
    for major in (True, False):
        chain = chain_of(("pop", "classical"), major)
        for cadence, last in (("authentic", {0}), ("half", {7}), ("plagal", {0}), ("deceptive", {9 if major else 8})):
            for count in (1, 2, 3, 8):
                names = chain.sample(count, Arrival(cadence, major, 0.0), rng)  # type: ignore[arg-type]
                assert len(names) == count
                assert {names[-1][0]} <= last
                assert all(a != b for a, b in itertools.pairwise(names))


def test_valence_tilts_the_chords() -> None:
    chain = chain_of(("pop",), True)

    def minor(valence: float) -> float:
        rng = np.random.default_rng(1)
        names = [name for _ in range(60) for name in chain.sample(8, Arrival("", True, valence), rng)]
        return float(np.mean([quality.startswith(("min", "dim")) for _, quality in names]))

    assert minor(-1) > minor(1) + 0.1


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_form, ""), (parse_form, "A A2"), (parse_form, "12"), (parse_form, "A0 B8"), (parse_form, "A99"),
        (parse_form, "A+B"), (parse_form, "A" * 70), (parse_form, "A''''"),
        (parse_chords, ""), (parse_chords, "Am H C"), (parse_chords, "Am | | C"), (parse_chords, "C/X"),
        (parse_chords, "C D E F G | C"), (parse_chords, "c"), (parse_chords, "Cfoo"),
        (parse_metre, "4"), (parse_metre, "4/5"), (parse_metre, "13/4"), (parse_metre, "0/4"), (parse_metre, "x"),
    ],
)  # fmt: skip
def test_words_that_mean_nothing_are_refused_in_one_line(parse: object, text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--")
    assert "give" in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "options", "said"),
    [
        (10, {"form": "A8 A8 B8 A8"}, "--form of 32 bars does not fit 10 s"),
        (300, {"form": "A2"}, "--form of 2 bars does not fit 300 s"),
        (30, {"form": "A8 A8 B8 A8", "tempo": 60.0}, "--form of 32 bars at --tempo 60 take 128.0 s"),
        (4, {"tempo": 40.0, "metre": (12, 8)}, "at --tempo 40 take 9.0 s, not 4"),
        (30, {"form": "A8 A8", "bars": 15}, "--form has 16 bars and --bars 15"),
        (30, {"form": "AAB", "bars": 16}, "--form has 3 phrases"),
        (30, {"metre": (13, 4)}, "--meter 13/4"),
        (30, {"style": "jazz"}, "--style jazz"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_a_remedy(seconds: float, options: dict[str, Any], said: str) -> None:
    def asked() -> Plan:
        return invent(0, 0, seconds, 1, Settings(**{**options, "form": parse_form(options.get("form"))}))

    with pytest.raises(UserError) as caught:
        asked()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_statistics_name_their_sources_and_licences() -> None:
    assert {source["licence"] for source in statistics()["sources"]} == {"MIT", "CC BY-NC-SA 4.0"}
