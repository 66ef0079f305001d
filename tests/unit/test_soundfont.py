"""The piano that comes along and other soundfonts: which one plays, and .sf3 files as the synthesizer reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from symusic import Note, Score, Tempo, Track

from huesong.music.rendering import soundfont
from huesong.music.rendering.audio import synthesize
from huesong.music.rendering.loudness import loudness
from huesong.music.rendering.soundfont import PIANO, SAMPLE_HEAD, find_soundfont, playable
from huesong.runtime.errors import UserError
from tests.tiny_sounds import other_soundfont

MOST_BYTES = 10_000_000


def note(pitch: int, velocity: int) -> np.ndarray:
    score = Score(480)
    score.tempos.append(Tempo(0, 60))
    score.tracks.append(Track(program=0))
    score.tracks[0].notes.append(Note(0, 480, pitch, velocity))
    return synthesize(score, PIANO)


def brightness_hz(sound: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(sound[:24000].mean(axis=1) * np.hanning(24000))) ** 2
    frequency = np.fft.rfftfreq(24000, 1 / 48000)
    return float((power * frequency)[frequency < 8000].sum() / power[frequency < 8000].sum())


def test_the_piano_is_small_and_says_whose_it_is() -> None:
    assert PIANO.stat().st_size < MOST_BYTES
    said = (PIANO.parent / "README.md").read_text(encoding="utf-8")
    for word in ("Salamander", "Alexander Holm", "creativecommons.org/licenses/by/3.0", "benchmarks/piano.py"):
        assert word in said


@pytest.mark.parametrize("pitch", [36, 60, 84])
def test_louder_notes_are_brighter(pitch: int) -> None:
    soft, middle, loud = (brightness_hz(note(pitch, velocity)) for velocity in (30, 75, 120))
    assert soft * 1.02 < middle < loud
    assert loud > soft * 1.1


def test_every_step_of_velocity_makes_a_note_louder() -> None:
    levels = [loudness(note(60, velocity)[:48000]) for velocity in range(20, 128, 4)]
    assert (np.diff(levels) > 0).all()
    assert levels[-1] - levels[0] > 25


def test_neighbouring_keys_are_about_as_loud() -> None:
    levels = [loudness(note(pitch, 80)[:48000]) for pitch in range(21, 109, 2)]
    assert np.abs(np.diff(levels)).max() < 4
    assert max(levels) - min(levels) < 9


def test_only_what_is_played_is_unpacked() -> None:
    few, many = (playable(PIANO, {(pitch, 80) for pitch in keys}) for keys in ((60,), range(21, 109)))
    assert len(few) < len(many) / 10
    table = few[few.index(b"shdr") + 8 :]
    heads = np.frombuffer(table[: len(table) // SAMPLE_HEAD.itemsize * SAMPLE_HEAD.itemsize], SAMPLE_HEAD)
    assert (heads["end"] > heads["start"]).sum() == 1
    assert not (heads["kind"] & soundfont.COMPRESSED).any()
    plain = other_soundfont()
    assert playable(plain, {(60, 80)}) == plain.read_bytes()


def test_an_odd_chunk_without_its_byte_is_read(tmp_path: Path) -> None:
    data = PIANO.read_bytes()
    lists = dict(soundfont._chunks(data[12:]))
    odd = dict(soundfont._chunks(lists[b"sdta"]))[b"smpl"] + b"odd"
    odd = odd[: len(odd) - 1 + len(odd) % 2]
    unpadded = b"smpl" + len(odd).to_bytes(4, "little") + odd
    body = soundfont.chunk(b"LIST", b"INFO" + lists[b"INFO"])
    body += b"LIST" + (4 + len(unpadded)).to_bytes(4, "little") + b"sdta" + unpadded
    body += soundfont.chunk(b"LIST", b"pdta" + lists[b"pdta"])
    path = tmp_path / "odd.sf3"
    path.write_bytes(b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"sfbk" + body)
    assert playable(path, {(60, 80)}) == playable(PIANO, {(60, 80)})


def test_every_key_and_velocity_sounds() -> None:
    for velocity in (10, 41, 42, 57, 58, 79, 80, 103, 104, 127):
        assert np.abs(note(61, velocity)).max() > 0
    assert all(np.abs(note(pitch, 100)[:4800]).max() > 0.01 for pitch in (21, 22, 64, 107, 108))


def test_the_soundfont_is_looked_up_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(soundfont.SOUNDFONT_VARIABLE, raising=False)
    assert find_soundfont() == PIANO
    given, named = tmp_path / "given.sf2", tmp_path / "named.sf2"
    for path in (given, named):
        path.write_bytes(PIANO.read_bytes()[:64])
    monkeypatch.setenv(soundfont.SOUNDFONT_VARIABLE, str(named))
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
    monkeypatch.setenv(soundfont.SOUNDFONT_VARIABLE, str(tmp_path / "none.sf2"))
    with pytest.raises(UserError, match="HUESONG_SOUNDFONT"):
        find_soundfont()
