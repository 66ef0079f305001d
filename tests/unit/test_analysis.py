"""Plans read from pieces whose bars, chords, phrases and cadences are known by construction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from symusic import Note, TimeSignature

from huesong.music.form.analysis import analyse
from huesong.music.form.heard.cadences import kind_of
from huesong.music.form.plan import Chord, Plan
from huesong.runtime.errors import UserError
from tests.tiny_tunes import A1, B1, Tune, piece, quarters


def in_three(bars: list[tuple[Tune, Sequence[str]]]) -> list[tuple[Tune, Sequence[str]]]:
    """The same tune with bars of three quarters: what came on the fourth goes, what is longer is cut."""
    return [
        ([(onset, min(lasts, 3 - onset), pitch) for onset, lasts, pitch in tune if onset < 3], chords[-1:])
        for tune, chords in bars
    ]


@pytest.mark.parametrize("metre", [(4, 4), (3, 4)])
def test_an_aaba_tune(metre: tuple[int, int]) -> None:
    bars = A1 + A1 + B1 + A1
    plan = analyse(piece(bars if metre == (4, 4) else in_three(bars), metre))
    assert plan.key == (0, True)
    # Its halves begin alike, so a phrase of eight bars may as well be heard as two of four.
    letters = {phrase.start: phrase.label[0] for phrase in plan.phrases}
    assert {0, 8, 16, 24} <= set(letters) <= set(range(0, 32, 4))
    assert [letters[start] for start in (0, 8, 16, 24)] == ["A", "A", "B", "A"]
    assert {bar.metre for bar in plan.bars} == {metre}
    for bar in [*range(8, 16), *range(24, 32)]:
        assert plan.bars[bar].relation == "repeat"
        assert (bars[bar - plan.bars[bar].back]) == bars[bar]
    assert [plan.bars[bar].cadence for bar in (15, 23, 31)] == ["authentic", "half", "authentic"]
    first = [[plan.numeral(chord) for chord in bar.chords] for bar in plan.bars[:8]]
    if metre == (4, 4):
        assert first == [["I"], ["I"], ["V"], ["I"], ["I"], ["IV"], ["ii", "V7"], ["I"]]
        assert [chord.position for chord in plan.bars[6].chords] == [0, 2]
    assert plan.tempo == pytest.approx(100)
    assert plan.seconds == pytest.approx(32 * 60 * metre[0] / 100)


def test_a_figure_that_moves_up_the_scale_is_a_sequence() -> None:
    def figure(start: int) -> Tune:
        scale = [60, 62, 64, 65, 67, 69, 71, 72, 74, 76, 77, 79]
        return [
            (onset, 0.5, scale[start + step]) for onset, step in ((0, 0), (0.5, 2), (1, 1), (1.5, 3), (2, 2), (3, 4))
        ]

    plan = analyse(piece([(figure(0), ["C"]), (figure(1), ["Dm"]), (figure(3), ["F"]), (figure(4), ["G"])]))
    assert [bar.relation for bar in plan.bars] == ["new", "sequence", "sequence", "sequence"]
    assert [bar.back for bar in plan.bars[1:]] == [1, 1, 1]


def test_a_bar_with_most_notes_kept_is_a_variation() -> None:
    tune = [(0.5 * i, 0.5, 72 + (0, 4, 7, 4, 5, 2, 4, 0)[i]) for i in range(8)]
    changed = [(on, ln, pitch + (3 if i in (2, 5) else 0)) for i, (on, ln, pitch) in enumerate(tune)]
    plan = analyse(piece([(tune, ["C"]), (changed, ["C"])]))
    assert (plan.bars[1].relation, plan.bars[1].back) == ("variation", 1)


def test_random_notes_repeat_nothing() -> None:
    rng = np.random.default_rng(1)
    score = piece([])
    for onset in np.sort(rng.uniform(0, 64, 200)):
        score.tracks[0].notes.append(Note(int(onset * 480), 240, int(rng.integers(40, 90)), 64))
    plan = analyse(score)
    assert [bar.relation for bar in plan.bars] == ["new"] * len(plan.bars)
    assert len(plan.bars) in (16, 17)


def test_levels_are_those_of_the_notes() -> None:
    plan = analyse(piece([(quarters(72, 74, 76, 77), ["C"]), ([], ["C"])], velocity=90))
    assert plan.density == (round(7 / 4 / 8, 3), round(3 / 4 / 8, 3))
    assert plan.dynamics[0] == round((4 * 90 + 3 * 70) / 7 / 127, 3)
    assert plan.dynamics[1] == round(70 / 127, 3)


def test_metres_change_where_the_signatures_say() -> None:
    score = piece(A1[:4])
    score.time_signatures.append(TimeSignature(480 * 8, 3, 4))
    plan = analyse(score)
    assert [bar.metre for bar in plan.bars] == [(4, 4), (4, 4), (3, 4), (3, 4), (3, 4)]


def test_another_key_gives_the_same_plan_moved() -> None:
    score = piece(A1 + B1)
    plan = analyse(score)
    for track in score.tracks:
        track.shift_pitch(3, inplace=True)
    assert analyse(score) == plan.transposed(3)
    assert Plan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize(
    ("before", "chord", "major", "kind"),
    [
        ((7, "7"), (0, "maj"), True, "authentic"),
        ((11, "dim7"), (0, "min"), False, "authentic"),
        ((5, "maj"), (0, "maj"), True, "plagal"),
        ((2, "min"), (7, "maj"), True, "half"),
        ((7, "7"), (9, "min"), True, "deceptive"),
        ((7, "maj"), (8, "maj"), False, "deceptive"),
        ((9, "7"), (2, "min"), True, "authentic"),
        ((4, "min"), (9, "min"), True, ""),
        ((0, "maj"), (5, "maj"), True, ""),
        ((0, "N"), (0, "maj"), True, ""),
    ],
)
def test_cadences_by_their_last_two_chords(
    before: tuple[int, str], chord: tuple[int, str], major: bool, kind: str
) -> None:
    assert kind_of(Chord(0.0, *before), Chord(0.0, *chord), (0, major)) == kind


def test_a_piece_without_notes_is_refused() -> None:
    with pytest.raises(UserError, match="no note"):
        analyse(piece([]))
