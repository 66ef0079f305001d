"""Bars are found: in files that say them, in files whose grid is moved, in performances; and not where there are none."""

from __future__ import annotations

import mir_eval
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from symusic import Note, Score, Tempo, TimeSignature, Track

from huesong.metre.align import TICKS_PER_QUARTER, Aligned, align
from huesong.metre.bars import METRES
from huesong.music.reading import listen, seconds_at
from tests.examples import examples
from tests.played_tunes import played, tune, written

THREE = [(4, 4), (3, 4), (6, 8)]


def places(aligned: Aligned, onsets: np.ndarray) -> np.ndarray:
    """Where in its bar each onset (quarters of the original) lies."""
    ((_, numerator, denominator),) = aligned.bars.metres
    return aligned.place(onsets) % (4 * numerator / denominator)


@pytest.mark.parametrize("metre", THREE)
@pytest.mark.parametrize("upbeat", [False, True])
def test_bars_that_the_file_says_are_kept(metre: tuple[int, int], upbeat: bool) -> None:
    bar = 4 * metre[0] / metre[1]
    aligned = align(written(tune(metre, upbeat=upbeat), metre, later=bar))
    assert (aligned.bars.source, aligned.bars.metres) == ("file", ((0.0, *metre),))
    assert places(aligned, np.array([bar, 5 * bar])) == pytest.approx(0)
    assert min(note.time for track in aligned.score.tracks for note in track.notes) == (
        round((bar - (0.5 if metre[1] == 8 else 1)) * TICKS_PER_QUARTER) if upbeat else 0
    )


@pytest.mark.parametrize("metre", THREE)
@pytest.mark.parametrize("later", [0.37, 1.0, 2.5, 3.0833])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_grid_that_was_moved_is_found(metre: tuple[int, int], later: float, seed: int) -> None:
    aligned = align(written(tune(metre, seed, upbeat=True), None, later=later + 6))
    assert aligned.bars.metres == ((0.0, *metre),)
    assert aligned.bars.source == "shift"
    off = places(aligned, np.array([later + 6]))[0]
    assert min(off, 4 * metre[0] / metre[1] - off) < 0.01


def test_the_grid_of_a_file_with_wrong_bars_is_moved_by_beats() -> None:
    aligned = align(written(tune((4, 4)), (4, 4), later=1.0))
    assert aligned.bars.source == "shift"
    assert places(aligned, np.array([1.0])) == pytest.approx(0)


def f_measure(aligned: Aligned, every: float, truth: np.ndarray) -> float:
    """Of marks at each `every` quarters of the aligned score, against `truth` (seconds of the original)."""
    found = np.arange(0, aligned.score.end() / TICKS_PER_QUARTER, every)
    found_s = seconds_at(aligned.score, found * TICKS_PER_QUARTER) - aligned.later_s
    return float(mir_eval.beat.f_measure(truth, found_s[found_s > 0]))


@pytest.mark.parametrize("metre", THREE)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_beats_and_bars_of_a_performance_are_found(metre: tuple[int, int], seed: int) -> None:
    tempo = {(4, 4): 76, (3, 4): 110, (6, 8): 130}[metre]
    score, truth = played(tune(metre, seed), tempo, seed)
    aligned = align(score)
    assert aligned.bars.source == "tracked"
    beat, bar = (1.5, 3.0) if metre[1] == 8 else (1.0, float(metre[0]))
    beats, downs = (np.interp(np.arange(0, len(truth) - 1, by), np.arange(len(truth)), truth) for by in (beat, bar))
    qpm = float(np.median([change.qpm for change in aligned.score.tempos]))
    if metre == (4, 4) and qpm < 50:  # a half note heard as the beat is as good, of these tunes: two bars are one
        beats, downs, tempo = beats[::2], downs[::2], tempo / 2
    else:
        assert aligned.bars.metres == ((0.0, *metre),)
        assert f_measure(aligned, bar, downs) > 0.9
    assert f_measure(aligned, beat, beats) > 0.9
    assert qpm == pytest.approx(tempo, rel=0.1)


def test_a_performance_sounds_as_before_and_lies_on_the_grid() -> None:
    score, _ = played(tune((4, 4), 3), 84, bend=0.12)
    aligned = align(score)
    old, new = listen(score), listen(aligned.score)
    assert np.abs(np.sort(new.onset_s) - np.sort(old.onset_s) - aligned.later_s).max() < 0.005
    assert np.abs(np.sort(new.end_s) - np.sort(old.end_s) - aligned.later_s).max() < 0.005
    off = new.onset_q * 4 - np.rint(new.onset_q * 4)
    assert (np.abs(off) < 0.15).mean() > 0.8
    off = old.onset_q * 4 - np.rint(old.onset_q * 4)
    assert (np.abs(off) < 0.15).mean() < 0.5


def test_what_has_no_beat_keeps_its_nominal_grid_and_says_why() -> None:
    rng = np.random.default_rng(5)
    onsets = np.cumsum(rng.exponential(1.3, 200) + 0.1)
    score = written([(float(on), 6.0, 40 + int(rng.integers(3)) * 12, 70) for on in onsets], (3, 4), 120.0)
    aligned = align(score)
    assert aligned.bars.source == "none"
    assert aligned.bars.confidence == 0
    assert "no beat" in aligned.reason
    assert aligned.bars.metres == ((0.0, 3, 4),)
    few = align(written([(float(on), 1, 60, 70) for on in onsets[:10]], None))
    assert (few.bars.source, few.reason[:15]) == ("none", "too few onsets ")


def test_the_same_score_gives_the_same_result() -> None:
    score, _ = played(tune((3, 4)), 120)
    assert align(score).score == align(score).score


NOTE = st.tuples(st.integers(0, 5000), st.integers(0, 3000), st.integers(0, 127), st.integers(0, 127))


@given(
    notes=st.lists(NOTE, max_size=60),
    tpq=st.sampled_from([1, 24, 96, 384, 960]),
    metres=st.lists(
        st.tuples(st.integers(0, 4000), st.integers(1, 40), st.sampled_from([1, 2, 4, 8, 16, 32])), max_size=4
    ),
    tempos=st.lists(st.tuples(st.integers(0, 4000), st.integers(20, 300)), max_size=4),
    drum=st.booleans(),
)
@examples(60)
def test_whatever_comes_keeps_its_times(
    notes: list[tuple[int, int, int, int]],
    tpq: int,
    metres: list[tuple[int, int, int]],
    tempos: list[tuple[int, int]],
    drum: bool,
) -> None:
    score = Score(tpq)
    score.time_signatures.extend(TimeSignature(*metre) for metre in sorted(metres))
    score.tempos.extend(Tempo(time, float(qpm)) for time, qpm in sorted(tempos))
    score.tracks.append(Track("", 0, drum))
    score.tracks[0].notes.extend(Note(*note) for note in notes)
    aligned = align(score)
    assert {metre[1:] for metre in aligned.bars.metres} <= set(METRES)
    assert 0 <= aligned.bars.confidence <= 1
    old, new = listen(score), listen(aligned.score)
    if len(old) and not drum:
        assert 0 <= new.onset_q.min() < 12
        # Notes that end up on one tick may change places in the list: their times are compared, sorted.
        assert np.abs(np.sort(new.onset_s) - np.sort(old.onset_s) - aligned.later_s).max() < 0.02
