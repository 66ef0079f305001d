"""Other instruments: their program, their range, no pedal where they have none; their sound is another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from symusic import ControlChange, Note, Score, Tempo, Track

from huesong.music.reading import listen, parse_score
from huesong.music.rendering import instruments
from huesong.music.rendering.audio import heard
from huesong.music.rendering.instruments import INSTRUMENTS, arranged, soundfont_of, within
from huesong.music.rendering.soundfont import PIANO
from huesong.runtime.errors import UserError
from huesong.score.hands import in_hands
from tests.tiny_sounds import other_soundfont


def wide() -> Score:
    """The whole keyboard, two keys an octave apart at a time, with a pedal."""
    score = Score(480)
    score.tempos.append(Tempo(0, 120))
    track = Track(program=0)
    for step, pitch in enumerate(range(21, 97, 5)):
        track.notes.extend([Note(240 * step, 400, pitch, 80), Note(240 * step, 400, pitch + 12, 60)])
    track.controls.extend([ControlChange(0, 64, 127), ControlChange(2000, 64, 0)])
    score.tracks.append(track)
    return score


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_range_program_and_pedal(name: str) -> None:
    own, before = INSTRUMENTS[name], wide()
    score = parse_score(bytes(arranged(before, name).dumps_midi()))
    notes = listen(score)
    assert notes.pitch.min() >= own.lowest
    assert notes.pitch.max() <= own.highest
    assert {int(pitch) % 12 for pitch in notes.pitch} == {int(pitch) % 12 for pitch in listen(before).pitch}
    assert {track.program for track in score.tracks} == {own.program}
    assert any(one.number == 64 for track in score.tracks for one in track.controls) == own.pedal
    order = np.lexsort((notes.onset_s, notes.pitch))
    again = np.diff(notes.pitch[order]) == 0
    assert (notes.end_s[order][:-1] <= notes.onset_s[order][1:] + 1e-9)[again].all(), "no key is struck while it sounds"
    assert listen(before).pitch.min() == 21, "the score itself stays"


def test_pitches_move_by_octaves_only_where_they_must() -> None:
    pitch = np.arange(128)
    moved = within(pitch, 40, 88)
    assert ((moved - pitch) % 12 == 0).all()
    inside = (pitch >= 40) & (pitch <= 88)
    assert (moved[inside] == pitch[inside]).all()
    assert moved.min() == 40
    assert moved.max() == 88


@pytest.mark.slow
def test_instruments_sound_different() -> None:
    font = other_soundfont()
    sounds = [heard(arranged(wide(), name), font) for name in INSTRUMENTS]
    centres = []
    for sound in sounds:
        power = np.abs(np.fft.rfft(sound[:96000].mean(axis=1))) ** 2
        assert np.abs(sound).max() > 0.02
        centres.append(float((power * np.arange(len(power))).sum() / power.sum()))
    assert len({round(centre / 10) for centre in centres}) == len(centres)


def test_which_soundfont_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUESONG_SOUNDFONT", raising=False)
    assert soundfont_of("piano") == PIANO
    assert soundfont_of("organ", other_soundfont()) == other_soundfont()
    monkeypatch.setattr(instruments, "PLACES", (str(tmp_path / "none.sf2"),))
    assert soundfont_of("organ") == other_soundfont(), "what pretty_midi brings"
    monkeypatch.setattr(instruments.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"no General MIDI soundfont is here: `pip install .huesong\[instruments\]"):
        soundfont_of("organ")
    with pytest.raises(UserError, match="--instrument kazoo: give one of piano, strings, music-box, guitar, organ"):
        soundfont_of("kazoo")


def test_two_hands_are_the_same_music() -> None:
    before = parse_score(bytes(wide().dumps_midi()))
    after = parse_score(bytes(in_hands(wide()).dumps_midi()))
    named = Score.from_midi(bytes(in_hands(wide()).dumps_midi()))
    assert [track.name for track in named.tracks] == ["Right hand", "Left hand"]
    assert min(note.pitch for note in after.tracks[0].notes) < max(note.pitch for note in after.tracks[0].notes)
    for own, other in zip(vars(listen(before)).values(), vars(listen(after)).values(), strict=True):
        assert np.array_equal(own, other)
    for track in after.tracks:
        assert [(one.time, one.value) for one in track.controls if one.number == 64] == [(0, 127), (2000, 0)]
    assert len(in_hands(Score(480)).tracks) == 0
