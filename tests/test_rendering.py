"""Audio that can be heard and never clips, piano rolls that show the notes; the same bytes every time."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from symusic import Note, Score, Tempo, Track

from huesong.errors import UserError
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
    assert (rate, channels) == (44100, 2)
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


def test_loud_music_does_not_clip_and_soft_music_is_heard(tmp_path: Path) -> None:
    loud = piece(velocity=127, chord=tuple(range(36, 96, 2)))
    assert np.abs(synthesize(loud, find_soundfont())).max() > 1  # would clip
    peaks = {}
    for name, score in (("loud", loud), ("soft", piece(velocity=5)), ("usual", piece())):
        render_wav(score, tmp_path / f"{name}.wav")
        peaks[name] = np.abs(samples((tmp_path / f"{name}.wav").read_bytes())[0].astype(int)).max() / 32767
    assert peaks["loud"] == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    assert peaks["soft"] == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    assert 10 ** (-12 / 20) <= peaks["usual"] <= 10 ** (-1 / 20) + 1e-3


def test_the_preview_is_small_and_mono() -> None:
    sound, rate, channels = samples(render_preview(piece()))
    assert (rate, channels) == (22050, 1)
    assert np.abs(sound.astype(int)).max() > 1000


def test_the_note_that_is_asked_for_sounds() -> None:
    sound, rate, _ = samples(render_preview(piece(chord=(69,), bars=4)))
    spectrum = np.abs(np.fft.rfft(sound[: 4 * rate, 0].astype(float)))
    loudest = np.fft.rfftfreq(4 * rate, 1 / rate)[spectrum.argmax()]
    assert min(abs(loudest / (440 * harmonic) - 1) for harmonic in (1, 2, 3)) < 0.01


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


def test_the_soundfont_of_the_environment_is_named_in_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(rendering.SOUNDFONT_VARIABLE, str(tmp_path / "none.sf2"))
    with pytest.raises(UserError, match="HUESONG_SOUNDFONT"):
        find_soundfont()


@pytest.mark.parametrize("theme", THEMES)
def test_the_piano_roll_shows_velocity_as_colour(tmp_path: Path, theme: str) -> None:
    out = piano_roll(piece(velocity=110), tmp_path / "a.png", "Dusk, valence +0.50, arousal -0.20", theme)
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert image.size == (1320, 504)
    look = THEMES[theme]
    paper, loud, soft = (
        np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (look.paper, look.velocity[-1], look.velocity[0])
    )
    assert (pixels[0] == paper).all()
    count_loud, count_soft = (
        int((np.abs(pixels.astype(int) - colour).sum(axis=1) < 12).sum()) for colour in (loud, soft)
    )
    assert count_loud > 10 * count_soft


def test_piano_rolls_differ_with_the_notes_and_repeat_in_bytes() -> None:
    assert piano_roll_png(piece()) == piano_roll_png(piece())
    assert piano_roll_png(piece()) != piano_roll_png(piece(chord=(48, 60, 63, 67)))


@pytest.mark.parametrize("title", ["costs $5 or $6_a^b", "x" * 400, ""])
def test_any_title_and_an_empty_score_are_drawn(title: str) -> None:
    assert piano_roll_png(Score(480), title).startswith(b"\x89PNG")


def test_a_long_piece_is_drawn() -> None:
    assert len(piano_roll_png(piece(bars=400))) > 1000
