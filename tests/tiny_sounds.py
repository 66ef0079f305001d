"""Chords to render, and what a WAV holds."""

from __future__ import annotations

import importlib.util
import io
import wave
from pathlib import Path

import numpy as np
from symusic import Note, Score, Tempo, Track


def chords(velocity: int = 80, chord: tuple[int, ...] = (48, 60, 64, 67), bars: int = 2, first: int = 0) -> Score:
    """A chord a quarter at 120 quarters a minute in 4/4, the first one after `first` quarters of rest."""
    score = Score(480)
    score.tempos.append(Tempo(0, 120))
    track = Track(program=0)
    for i in range(first, first + bars * 4):
        for pitch in chord:
            track.notes.append(Note(i * 480, 460, pitch, velocity))
    score.tracks.append(track)
    return score


def samples(wav: bytes) -> tuple[np.ndarray, int, int]:
    """Frames as int16 [N, channels], rate, channels."""
    with wave.open(io.BytesIO(wav)) as stream:
        assert stream.getsampwidth() == 2
        sound = np.frombuffer(stream.readframes(stream.getnframes()), "<i2").reshape(-1, stream.getnchannels())
        return sound, stream.getframerate(), stream.getnchannels()


def level_db(sound: np.ndarray) -> float:
    """RMS of samples in [-1, 1], dBFS."""
    return float(10 * np.log10((np.asarray(sound, float) ** 2).mean() + 1e-20))


def other_soundfont() -> Path:
    """The .sf2 of the package pretty_midi (TimGM6mb)."""
    spec = importlib.util.find_spec("pretty_midi")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "TimGM6mb.sf2"
