"""Reading and cleaning: what is refused, what is dropped, and that segments hold the music that was there."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from symusic import Note, Score, Tempo, TimeSignature, Track

from huesong.config import PreprocessConfig
from huesong.music import reading
from huesong.music.reading import (
    Bar,
    Limits,
    Unusable,
    bars_of,
    changes_of_metre,
    clean,
    listen,
    parse_score,
    read_score,
    seconds_at,
    tempo_map,
)
from huesong.runtime.errors import UserError
from tests.examples import examples, many

LOOSE = Limits(min_notes=1, min_seconds=0.1)


def piece(notes: list[tuple[int, int, int, int]], tempo: float = 120.0, tpq: int = 480, drums: bool = False) -> Score:
    score = Score(tpq)
    score.tempos.append(Tempo(0, tempo))
    track = Track(program=0, is_drum=drums)
    for note in notes:
        track.notes.append(Note(*note))
    score.tracks.append(track)
    return score


def scale(count: int, step: int = 480) -> Score:
    return piece([(i * step, step, 48 + i % 24, 40 + i % 60) for i in range(count)])


def rows(score: Score) -> list[tuple[int, int, int, int]]:
    return [(n.time, n.duration, n.pitch, n.velocity) for track in score.tracks for n in track.notes]


def test_the_limits_are_those_of_the_settings() -> None:
    config = PreprocessConfig()
    for name, value in vars(Limits()).items():
        assert getattr(config, name) == value


def test_a_file_is_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    scale(20).dump_midi(path)
    assert rows(read_score(path)) == rows(scale(20))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty file"),
        (b"no music", "not a MIDI file"),
        (scale(4).dumps_midi()[:-9], "truncated"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_file_is_one_line_with_file_and_remedy(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "bad.mid"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=what) as caught:
        read_score(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    path = tmp_path / "huge.mid"
    path.write_bytes(bytes(101))
    with pytest.raises(UserError, match="too big"):
        read_score(path)


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(UserError, match="endless"):
        parse_score(piece([(0, 480, 60, 80), (200_000_000, 480, 60, 80)], tempo=20).dumps_midi())


def test_a_folder_is_no_midi_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_score(tmp_path)


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (Score(480), "empty"),
        (piece([(0, 480, 12, 80), (0, 480, 120, 80)]), "empty"),
        (piece([(0, 480, 36, 80)] * 20, drums=True), "drums only"),
        (scale(5), "too few notes"),
        (scale(12, step=10), "too short"),
        (scale(4000), "too long"),
        (piece([(i * 480, 480, 60, 80) for i in range(200)], tempo=900), "absurd tempo"),
        (piece([(i * 4800, 4800, 60, 80) for i in range(20)], tempo=6), "absurd tempo"),
        (piece([(bar * 1920, 1920, 30 + key, 80) for bar in range(4) for key in range(40)]), "too dense"),
    ],
)
def test_unusable_music_has_its_reason(score: Score, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        clean(score)


def test_tracks_are_merged_without_drums_and_doubles() -> None:
    score = piece([(0, 480, 60, 70), (480, 480, 62, 70), (960, 1920, 64, 70)])
    score.tracks.append(piece([(0, 960, 60, 90), (960, 480, 109, 70), (1920, 480, 64, 60), (960, 0, 50, 9)]).tracks[0])
    score.tracks.append(piece([(0, 480, 36, 99)], drums=True).tracks[0])
    (segment,) = clean(score, LOOSE)
    # One C4 (the louder velocity, the longer length), the E4 struck again ends its first sounding.
    assert rows(segment.score) == [(0, 960, 60, 90), (480, 480, 62, 70), (960, 960, 64, 70), (1920, 480, 64, 60)]
    assert len(segment.score.tracks) == 1
    assert segment.score.tracks[0].program == 0
    assert segment.notes == 4
    assert segment.bars == 2


def test_silence_before_the_first_bar_is_cut() -> None:
    (segment,) = clean(piece([(1920 * 3 + 480 * (i + 1), 480, 60 + i, 80) for i in range(12)]), LOOSE)
    assert rows(segment.score)[0][0] == 480
    assert segment.start_s == pytest.approx(6.0)
    assert segment.seconds == pytest.approx(6.5)


def test_other_resolutions_become_480() -> None:
    (segment,) = clean(piece([(i * 96, 48, 60 + i, 80) for i in range(12)], tpq=96), LOOSE)
    assert segment.score.tpq == 480
    assert rows(segment.score)[1] == (480, 240, 61, 80)


def test_a_long_piece_is_cut_into_equal_segments_at_bar_lines() -> None:
    segments = clean(scale(4 * 45), Limits(segment_seconds=20))  # 45 bars of 2 s
    assert [s.bars for s in segments] in ([11, 11, 11, 12], [11, 11, 12, 11], [11, 12, 11, 11], [12, 11, 11, 11])
    assert sum(s.notes for s in segments) == 180
    assert segments[1].start_s == pytest.approx(segments[0].seconds)
    assert all(rows(s.score)[0][0] == 0 for s in segments)


def test_a_segment_starts_with_the_tempo_in_force() -> None:
    score = scale(4 * 40)
    score.tempos.append(Tempo(1920 * 10, 60))
    first, second = clean(score, Limits(segment_seconds=70))
    assert [(t.time, t.qpm) for t in second.score.tempos] == [(0, pytest.approx(60))]
    assert first.seconds + second.seconds == pytest.approx(20 + 120)
    assert listen(second.score).end_s.max() == pytest.approx(second.seconds)


def test_a_note_over_a_cut_ends_there_and_a_thin_segment_is_left_out() -> None:
    notes = [(i * 480, 480, 60, 80) for i in range(40)] + [(1920 * 9, 1920 * 11, 40, 80)]
    segments = clean(piece(notes), Limits(segment_seconds=20))
    assert len(segments) == 1  # in the second half nothing begins
    assert max(a + b for a, b, _, _ in rows(segments[0].score)) == 1920 * 10


def signed(score: Score, *signs: tuple[int, int, int]) -> Score:
    """The score with time signatures (tick, upper, lower)."""
    for sign in signs:
        score.time_signatures.append(TimeSignature(*sign))
    return score


def signs(score: Score) -> list[tuple[int, int, int]]:
    return [(sign.time, sign.numerator, sign.denominator) for sign in score.time_signatures]


def test_bars_are_those_of_the_time_signatures() -> None:
    score = signed(Score(480), (0, 3, 4), (3600, 6, 8), (5040, 2, 2))
    bars = bars_of(score, 7000)
    # The third bar of 3/4 is cut short by the change; 2/2 is written as 4/4; the last bar is whole.
    assert bars == [
        Bar(0, 1440, 3, 4), Bar(1440, 2880, 3, 4), Bar(2880, 3600, 3, 4), Bar(3600, 5040, 6, 8), Bar(5040, 6960, 4, 4),
        Bar(6960, 8880, 4, 4),
    ]  # fmt: skip
    assert changes_of_metre(bars) == [bars[0], bars[3], bars[4]]
    assert bars_of(score, 14000, scale=2.0) == [Bar(2 * a, 2 * b, upper, lower) for a, b, upper, lower in bars]
    assert bars_of(signed(Score(480), (1920, 3, 4)), 2000) == [Bar(0, 1920, 4, 4), Bar(1920, 3360, 3, 4)]
    assert bars_of(Score(96), 0) == [Bar(0, 384, 4, 4)]


def test_a_waltz_is_cut_at_its_own_bar_lines() -> None:
    segments = clean(signed(scale(3 * 40), (0, 3, 4)), Limits(segment_seconds=20))  # 40 bars of 1.5 s
    assert [segment.bars for segment in segments] == [13, 14, 13]
    assert [segment.first_bar for segment in segments] == [0, 13, 27]
    assert [segment.start_s for segment in segments] == [0, 19.5, 40.5]
    assert all(signs(segment.score) == [(0, 3, 4)] for segment in segments)


def test_a_change_of_metre_stands_at_its_bar_in_its_segment() -> None:
    notes = [(1920 * 2 + i * 480, 480, 48 + i % 24, 80) for i in range(4 * 8 + 3 * 8)]
    score = signed(piece(notes), (0, 4, 4), (1920 * 10, 3, 4))
    (whole,) = clean(score, Limits(segment_seconds=60))
    assert (whole.first_bar, whole.bars) == (2, 16)  # the silent bars are cut away, and counted
    assert signs(whole.score) == [(0, 4, 4), (1920 * 8, 3, 4)]
    first, second = clean(score, Limits(segment_seconds=14))
    assert [first.first_bar, second.first_bar] == [2, 2 + first.bars]
    assert signs(first.score)[0] == (0, 4, 4)
    assert signs(second.score)[-1][1:] == (3, 4)
    assert first.notes + second.notes == len(notes)


def test_a_moment_of_absurd_tempo_is_kept() -> None:
    score = scale(100)
    score.tempos.append(Tempo(480 * 50, 5))
    score.tempos.append(Tempo(480 * 51, 120))
    assert clean(score)


def test_seconds_follow_the_tempo_map() -> None:
    score = scale(12)
    score.tempos.append(Tempo(960, 60))
    score.tempos.append(Tempo(960, 30))  # of two at one tick the last holds
    assert seconds_at(score, np.array([0, 960, 1440])).tolist() == pytest.approx([0, 1, 3])
    assert tempo_map(Score(480))[1].tolist() == [120]


@examples(60)
@given(
    st.lists(
        st.tuples(st.integers(0, 40_000), st.integers(0, 4000), st.integers(0, 127), st.integers(1, 127)),
        min_size=1, max_size=120,
    )
)  # fmt: skip
def test_segments_hold_every_clean_note_once(notes: list[tuple[int, int, int, int]]) -> None:
    limits = Limits(min_notes=1, min_seconds=0.01, segment_seconds=8, max_polyphony=200)
    kept = {(onset, pitch) for onset, length, pitch, _ in notes if length and 21 <= pitch <= 108}
    try:
        segments = clean(piece(notes), limits)
    except Unusable:
        assert not kept or max(a + b for a, b, p, _ in notes if b and 21 <= p <= 108) < 20
        return
    found = [(round(s.start_s * 960) + onset, pitch) for s in segments for onset, _, pitch, _ in rows(s.score)]
    assert len(found) == len(set(found))
    assert set(found) == kept
    for segment in segments:
        ends: dict[int, int] = {}
        for onset, length, pitch, _ in rows(segment.score):
            assert length > 0
            assert onset >= ends.get(pitch, 0)
            ends[pitch] = onset + length


@pytest.mark.fuzz
@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get("HUESONG_REAL_DATA"), reason="HUESONG_REAL_DATA is not set")
def test_real_files_are_read_and_damaged_ones_do_no_harm() -> None:
    files = sorted(Path(os.environ["HUESONG_REAL_DATA"]).glob("music*/**/*.mid"))
    chosen = random.Random(0).sample(files, 200)
    segments, reasons = 0, []
    for path in chosen:
        try:
            segments += len(clean(read_score(path)))
        except Unusable as reason:
            reasons.append(str(reason))
    assert segments > 300
    assert len(reasons) < 10
    dice = random.Random(1)
    for path in chosen[:60] * many(1):
        data = bytearray(path.read_bytes())
        for _ in range(dice.randint(1, 8)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            first = parse_score(bytes(data[: dice.randint(len(data) // 2, len(data))] if dice.random() < 0.3 else data))
        except UserError:
            continue
        assert rows(first) is not None
