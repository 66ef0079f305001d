"""Rendered audio: as loud as its arousal asks, never clipped, from the first note until the last one has died away."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
from scipy.signal import resample_poly
from symusic import ControlChange, Note, Score, Tempo, Track

from huesong.music.rendering.audio import TAIL_S, heard, render_preview, render_wav, synthesize
from huesong.music.rendering.soundfont import PIANO
from huesong.runtime.errors import UserError
from tests.tiny_sounds import chords, level_db, other_soundfont, samples

METER = pyloudnorm.Meter(48000)


def rendered(score: Score, out: Path, arousal: float = 0.0, soundfont: Path | None = None) -> np.ndarray:
    render_wav(score, out, soundfont, arousal)
    sound, rate, channels = samples(out.read_bytes())
    assert (rate, channels) == (48000, 2)
    return sound / 32768


def one(pitch: int, velocity: int, seconds: float = 2.0) -> Score:
    score = Score(480)
    score.tempos.append(Tempo(0, 60))
    score.tracks.append(Track(program=0))
    score.tracks[0].notes.append(Note(0, round(480 * seconds), pitch, velocity))
    return score


@pytest.mark.parametrize(("arousal", "lufs"), [(-1, -28), (-0.5, -25.5), (0, -23), (1, -18)])
@pytest.mark.parametrize("velocity", [30, 110])
def test_loudness_follows_arousal_and_no_peak_passes_the_limit(
    tmp_path: Path, arousal: float, lufs: float, velocity: int
) -> None:
    sound = rendered(chords(velocity), tmp_path / "a.wav", arousal)
    assert METER.integrated_loudness(sound) == pytest.approx(lufs, abs=0.2)
    assert np.abs(resample_poly(sound, 4, 1, axis=0)).max() < 10 ** (-1 / 20)


@pytest.mark.parametrize(
    "score",
    [one(96, 127, 0.1), one(24, 12), chords(127, tuple(range(36, 96, 2))), chords(127, (100,), bars=8)],
    ids=["a high stroke", "a low soft note", "all keys at once", "hammering"],
)
def test_whatever_is_played_stays_below_the_limit(tmp_path: Path, score: Score) -> None:
    sound = rendered(score, tmp_path / "a.wav", 1.0)
    assert np.abs(resample_poly(sound, 4, 1, axis=0)).max() < 10 ** (-1 / 20)
    assert -25 < METER.integrated_loudness(sound) < -17.8


@pytest.mark.parametrize("soundfont", [None, other_soundfont()], ids=["own piano", "another"])
def test_it_begins_at_once_and_dies_away(tmp_path: Path, soundfont: Path | None) -> None:
    sound = rendered(chords(first=3), tmp_path / "a.wav", -0.5, soundfont)
    assert 5.0 < len(sound) / 48000 < 4.0 + TAIL_S
    loud = level_db(sound[: 4 * 48000])
    assert level_db(sound[:2400]) > loud - 12
    assert level_db(sound[480:960]) > loud - 20
    tail = [level_db(part) for part in np.split(sound[-48000:], 5)]
    assert all(later < earlier for earlier, later in pairwise(tail))
    assert tail[0] > loud - 60
    assert level_db(sound[-480:]) < loud - 60, "a cut"
    assert level_db(sound[-9600:-4800]) > -115, "silence behind it"


def test_both_ears_hear_another_room(tmp_path: Path) -> None:
    sound = rendered(chords(), tmp_path / "a.wav")
    assert 0.1 < np.corrcoef(sound.T)[0, 1] < 0.97
    assert abs(level_db(sound[:, 0]) - level_db(sound[:, 1])) < 3


def test_calm_music_has_more_room() -> None:
    def rings(arousal: float) -> float:
        sound = heard(one(72, 80, 0.3), None, arousal)
        return level_db(sound[48000:72000]) - level_db(sound[:14400])

    assert rings(-1) > rings(0) + 2 > rings(1) + 4


def test_the_pedal_is_heard() -> None:
    dry, held = one(60, 80, 0.5), one(60, 80, 0.5)
    for at, value in ((0.1, 127), (2.0, 0)):
        held.tracks[0].controls.append(ControlChange(round(480 * at), 64, value))
    without, with_pedal = (synthesize(score, PIANO) for score in (dry, held))
    ringing = slice(72000, 96000)  # a second after the key was let go
    assert level_db(with_pedal[ringing]) > level_db(without[ringing]) + 20
    assert level_db(with_pedal[48000 * 3 :]) < level_db(with_pedal[ringing]) - 20


def test_the_same_score_gives_the_same_bytes(tmp_path: Path) -> None:
    render_wav(chords(), tmp_path / "a.wav")
    render_wav(chords(velocity=30), tmp_path / "other.wav")
    render_wav(chords(), tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert render_preview(chords()) == render_preview(chords())


def test_rendering_leaves_the_score_alone(tmp_path: Path) -> None:
    score = chords()
    before = score.dumps_midi()
    render_wav(score, tmp_path / "a.wav")
    assert score.dumps_midi() == before


def test_the_synthesizer_does_not_clip() -> None:
    sound = synthesize(chords(velocity=127, chord=tuple(range(36, 96, 2))), PIANO)
    highest = np.abs(sound).max(axis=1)
    assert highest.max() > 0.3
    assert (highest > 0.999).sum() < 3


def test_the_preview_is_small_and_mono() -> None:
    sound, rate, channels = samples(render_preview(chords()))
    assert (rate, channels) == (24000, 1)
    assert np.abs(sound.astype(int)).max() > 1000


@pytest.mark.parametrize("pitch", [33, 45, 57, 60, 69, 72, 81, 93])
def test_notes_sound_at_their_pitch(pitch: int) -> None:
    sound, rate, _ = samples(render_preview(one(pitch, 90, 2.0)))
    middle = sound[rate // 10 : 2 * rate, 0].astype(float)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 2**18))
    loudest = np.fft.rfftfreq(2**18, 1 / rate)[spectrum.argmax()]
    pitch_hz = 440 * 2 ** ((pitch - 69) / 12)
    # A piano's loudest partial is one of the first few; a semitone is 6 %.
    assert min(abs(loudest / (pitch_hz * partial) - 1) for partial in (1, 2, 3, 4, 5)) < 0.01


def test_an_empty_score_gives_silence(tmp_path: Path) -> None:
    assert render_wav(Score(480), tmp_path / "a.wav") > 0
    assert np.abs(samples((tmp_path / "a.wav").read_bytes())[0]).max() == 0


@pytest.mark.parametrize("source", [PIANO, other_soundfont()], ids=lambda path: path.suffix)
@pytest.mark.parametrize("table", [b"INFO", b"phdr", b"pbag", b"pgen", b"inst", b"ibag", b"igen", b"shdr"])
@pytest.mark.parametrize("how", ["no name", "all ones", "all zeros"])
def test_damage_in_any_table_is_one_line_or_plays(tmp_path: Path, source: Path, table: bytes, how: str) -> None:
    data = bytearray(source.read_bytes())
    at = data.index(table, 12 if table == b"INFO" else data.index(b"pdta"))
    if how == "no name":
        data[at : at + 4] = b"xxxx"
    elif table != b"INFO":
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        data[at + 8 : at + 8 + size] = (b"\xff" if how == "all ones" else b"\0") * size
    path = tmp_path / f"damaged{source.suffix}"
    path.write_bytes(data)
    with contextlib.suppress(UserError):
        assert len(synthesize(one(60, 80, 0.2), path))
    if how == "no name":
        with pytest.raises(UserError, match="cannot be played"):
            synthesize(one(60, 80, 0.2), path)


def test_a_broken_soundfont_is_one_line(tmp_path: Path) -> None:
    for source, length in ((other_soundfont(), 5000), (PIANO, 5000), (PIANO, PIANO.stat().st_size - 3000)):
        path = tmp_path / f"broken{source.suffix}"
        path.write_bytes(source.read_bytes()[:length])
        with pytest.raises(UserError, match="cannot be played"):
            render_wav(chords(), tmp_path / "a.wav", path)
        assert not (tmp_path / "a.wav").exists()
