"""Audio that can be heard and never clips, piano rolls that show the notes; the same bytes every time."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from symusic import Note, Score, Tempo, Track

from huesong.music import rendering
from huesong.music.rendering import (
    THEMES,
    find_soundfont,
    piano_roll,
    piano_roll_png,
    render_preview,
    render_wav,
    synthesize,
)
from huesong.runtime.errors import UserError


def piece(velocity: int = 80, chord: tuple[int, ...] = (48, 60, 64, 67), bars: int = 2) -> Score:
    score = Score(480)
    score.tempos.append(Tempo(0, 120))
    track = Track(program=0)
    for i in range(bars * 4):
        for pitch in chord:
            track.notes.append(Note(i * 480, 460, pitch, velocity))
    score.tracks.append(track)
    return score


def samples(wav: bytes) -> tuple[np.ndarray, int, int]:
    with wave.open(io.BytesIO(wav)) as stream:
        assert stream.getsampwidth() == 2
        sound = np.frombuffer(stream.readframes(stream.getnframes()), "<i2").reshape(-1, stream.getnchannels())
        return sound, stream.getframerate(), stream.getnchannels()


def test_the_wav_holds_the_music_and_its_tail(tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    seconds = render_wav(piece(), out, tail_s=2.0)
    sound, rate, channels = samples(out.read_bytes())
    assert (rate, channels) == (48000, 2)
    assert len(sound) / rate == pytest.approx(seconds)
    assert seconds == pytest.approx(4.0 + 2.0, abs=0.05)
    level = np.abs(sound.astype(int)).max(axis=1)
    assert all(level[second * rate : (second + 1) * rate].max() > 1000 for second in range(4))
    assert level[-1] == 0
    assert level[-rate // 100 :].max() < 50  # no click at the end


def test_the_same_score_gives_the_same_bytes(tmp_path: Path) -> None:
    render_wav(piece(), tmp_path / "a.wav")
    render_wav(piece(velocity=30), tmp_path / "other.wav")
    render_wav(piece(), tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert render_preview(piece()) == render_preview(piece())


def test_rendering_leaves_the_score_alone(tmp_path: Path) -> None:
    score = piece()
    before = score.dumps_midi()
    render_wav(score, tmp_path / "a.wav")
    assert score.dumps_midi() == before


def test_loud_music_does_not_clip_and_louder_stays_louder(tmp_path: Path) -> None:
    loud = piece(velocity=127, chord=tuple(range(36, 96, 2)))
    assert np.abs(synthesize(loud, find_soundfont())).max() > 1  # would clip
    peaks = []
    for number, score in enumerate((piece(velocity=25), piece(velocity=50), piece(velocity=90), loud)):
        render_wav(score, tmp_path / f"{number}.wav")
        peaks.append(np.abs(samples((tmp_path / f"{number}.wav").read_bytes())[0].astype(int)).max() / 32767)
    assert peaks == sorted(peaks)
    assert peaks[0] == pytest.approx(10 ** (-20 / 20), abs=1e-3)
    assert peaks[2] > 2 * peaks[1]
    assert peaks[3] == pytest.approx(10 ** (-1 / 20), abs=1e-3)


def test_the_preview_is_small_and_mono() -> None:
    sound, rate, channels = samples(render_preview(piece()))
    assert (rate, channels) == (24000, 1)
    assert np.abs(sound.astype(int)).max() > 1000


@pytest.mark.parametrize("pitch", [45, 57, 60, 69, 72, 81])
def test_notes_sound_at_their_pitch(pitch: int) -> None:
    score = Score(480)
    score.tempos.append(Tempo(0, 120))
    score.tracks.append(Track(program=0))
    score.tracks[0].notes.append(Note(0, 1920, pitch, 90))
    sound, rate, _ = samples(render_preview(score))
    heard = sound[rate // 10 : 2 * rate, 0].astype(float)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)), 2**18))
    loudest = np.fft.rfftfreq(2**18, 1 / rate)[spectrum.argmax()]
    pitch_hz = 440 * 2 ** ((pitch - 69) / 12)
    # A piano's loudest partial is one of the first few; a semitone is 6 %.
    assert min(abs(loudest / (pitch_hz * partial) - 1) for partial in (1, 2, 3)) < 0.01


def test_an_empty_score_gives_silence(tmp_path: Path) -> None:
    assert render_wav(Score(480), tmp_path / "a.wav") > 0
    assert np.abs(samples((tmp_path / "a.wav").read_bytes())[0]).max() == 0


def test_the_soundfont_is_looked_up_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(rendering.SOUNDFONT_VARIABLE, raising=False)
    carried = find_soundfont()
    assert carried.name == "TimGM6mb.sf2"
    given, named = tmp_path / "given.sf2", tmp_path / "named.sf2"
    for path in (given, named):
        path.write_bytes(carried.read_bytes()[:64])
    monkeypatch.setenv(rendering.SOUNDFONT_VARIABLE, str(named))
    assert find_soundfont() == named
    assert find_soundfont(given) == given


@pytest.mark.parametrize("content", [None, b"", b"RIFF1234WAVE", b"text"])
def test_a_bad_soundfont_is_refused_with_a_remedy(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.sf2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="--soundfont or HUESONG_SOUNDFONT") as caught:
        find_soundfont(path)
    assert str(path) in str(caught.value)


def test_a_broken_soundfont_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.sf2"
    path.write_bytes(find_soundfont().read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be played"):
        render_wav(piece(), tmp_path / "a.wav", path)
    assert not (tmp_path / "a.wav").exists()


def test_the_soundfont_of_the_environment_is_named_in_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(rendering.SOUNDFONT_VARIABLE, str(tmp_path / "none.sf2"))
    with pytest.raises(UserError, match="HUESONG_SOUNDFONT"):
        find_soundfont()


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


@pytest.mark.parametrize("theme", THEMES)
def test_the_piano_roll_shows_velocity_as_colour(tmp_path: Path, theme: str) -> None:
    out = piano_roll(piece(velocity=110), tmp_path / "a.png", "Dusk, valence +0.50, arousal -0.20", theme)
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert image.size == (1320, 504)
    look = THEMES[theme]
    assert (pixels[0] == rgb(look.paper)).all()
    loud, soft = (np.abs(pixels.astype(int) - rgb(look.velocity[i])).sum(axis=1) < 12 for i in (-1, 0))
    assert loud.sum() > 10 * soft.sum()


def test_piano_rolls_differ_with_the_notes_and_repeat_in_bytes() -> None:
    assert piano_roll_png(piece()) == piano_roll_png(piece())
    assert piano_roll_png(piece()) != piano_roll_png(piece(chord=(48, 60, 63, 67)))


@pytest.mark.parametrize("title", ["costs $5 or $6_a^b", "x" * 400, ""])
def test_any_title_and_an_empty_score_are_drawn(title: str) -> None:
    assert piano_roll_png(Score(480), title).startswith(b"\x89PNG")


def test_a_long_piece_is_drawn() -> None:
    assert len(piano_roll_png(piece(bars=400))) > 1000
