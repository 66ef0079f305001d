"""A score written on its bars sounds as before, and its bars are whole."""

from __future__ import annotations

import numpy as np
import pytest
from symusic import Note, Pedal, Score, Tempo, TimeSignature, Track

from huesong.metre.align import TICKS_PER_QUARTER, align
from huesong.metre.bars import METRES, BarLines
from huesong.music.reading import listen


def score_of(onsets: np.ndarray, pitches: np.ndarray | int = 60, tpq: int = 384, tempo: float = 90.0) -> Score:
    """Notes of half a quarter at `onsets` (quarters), in two tracks."""
    score = Score(tpq)
    score.tempos.append(Tempo(0, tempo))
    pitches = np.broadcast_to(pitches, onsets.shape)
    for part in range(2):
        track = Track("part", 0)
        for onset, pitch in zip(onsets[part::2], pitches[part::2], strict=True):
            track.notes.append(Note(round(onset * tpq), tpq // 2, int(pitch), 80))
        track.pedals.append(Pedal(round(onsets[0] * tpq), tpq))
        score.tracks.append(track)
    return score


def assert_sounds_alike(score: Score, known: BarLines | None = None) -> None:
    aligned = align(score, known)
    old, new = listen(score), listen(aligned.score)
    assert len(old) == len(new)
    assert np.abs(new.onset_s - old.onset_s - aligned.later_s).max() < 0.005
    assert np.abs(new.end_s - old.end_s - aligned.later_s).max() < 0.005
    assert np.abs(aligned.place(old.onset_q) - new.onset_q).max() < 0.01
    assert aligned.score.tpq == TICKS_PER_QUARTER
    assert {metre[1:] for metre in aligned.bars.metres} <= set(METRES)
    signatures = [(t.time / TICKS_PER_QUARTER, t.numerator, t.denominator) for t in aligned.score.time_signatures]
    assert signatures == [pytest.approx(metre) for metre in aligned.bars.metres]
    first_bar = 4 * signatures[0][1] / signatures[0][2]
    assert 0 <= new.onset_q.min() < first_bar


@pytest.mark.parametrize("text", ["0;4/4@0", "0.5;3/4@0.5", "-2.25;6/8@-2.25;5/16@9;2/4@30", "7;1/4@7;9/16@8"])
def test_known_bars_keep_every_time(text: str) -> None:
    onsets = np.arange(80) * 0.5 + 2
    score = score_of(onsets)
    score.tempos.append(Tempo(384 * 11, 60.0))
    score.tempos.append(Tempo(384 * 20 + 100, 140.0))
    assert_sounds_alike(score, BarLines.parse(text))


def test_bars_as_the_file_says_are_not_judged() -> None:
    score = score_of(np.arange(0, 48, 0.5))
    score.time_signatures.append(TimeSignature(0, 7, 8))
    aligned = align(score, BarLines.parse("file"))
    assert aligned.bars == BarLines(0.0, ((0.0, 7, 8),), "annotation")


def test_an_upbeat_stays_one() -> None:
    aligned = align(score_of(np.array([0, *range(1, 9)], dtype=float)), BarLines.parse("1;4/4@1"))
    onset = [note.time for track in aligned.score.tracks for note in track.notes]
    assert min(onset) == 3 * TICKS_PER_QUARTER
    assert aligned.later_s == pytest.approx(3 * 60 / 90)
    assert aligned.bars == BarLines(0.0, ((0.0, 4, 4),), "annotation")


def test_pedals_names_and_instruments_stay() -> None:
    score = score_of(np.arange(8.0) + 4)
    score.tracks[1].program = 3
    aligned = align(score, BarLines.parse("0;4/4@0"))
    assert [(track.name, track.program) for track in aligned.score.tracks] == [("part", 0), ("part", 3)]
    assert [(pedal.time, pedal.duration) for pedal in aligned.score.tracks[0].pedals] == [(0, TICKS_PER_QUARTER)]


def test_a_file_whose_bars_are_right_keeps_them() -> None:
    score = score_of(np.arange(0, 48, 0.5))
    score.time_signatures.append(TimeSignature(0, 3, 4))
    aligned = align(score)
    assert (aligned.bars.source, aligned.bars.metres) == ("file", ((0.0, 3, 4),))
    assert_sounds_alike(score)


def test_a_score_without_notes_has_no_bars() -> None:
    for score in (Score(480), Score(96)):
        score.tracks.append(Track())
        aligned = align(score)
        assert (aligned.bars.source, aligned.reason) == ("none", "no notes")
        assert len(listen(aligned.score)) == 0
