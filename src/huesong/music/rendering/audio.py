"""Audio of a score: a synthesizer with a soundfont, a room around it, and a loudness that follows arousal."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from symusic import ControlChange, Score, Track

from huesong.music.reading import listen, tempo_map
from huesong.music.rendering.loudness import RATE, levelled, target_lufs
from huesong.music.rendering.room import in_room
from huesong.music.rendering.soundfont import find_soundfont, playable
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file

PREVIEW_STEP = 2
"""Of a preview every second sample is kept, at 24 kHz."""
TAIL_S = 4.0
"""What is rendered behind the last note, in which it dies away."""
SILENT, FADE_S, STEP_S = 10 ** (-80 / 20), 0.3, 0.1
"""The audio ends where nothing is louder than that, in whole steps; its end is faded out."""
REVERB, CHORUS, VOLUME, UNHEARD = 91, 93, 7, 3
"""Controllers; the last one is heard by nothing."""
VOLUMES = (127, 90, 64)
"""Tried in turn until nothing clips within the synthesizer, which writes 16 bits."""


def synthesize(score: Score, soundfont: Path, *, tail_s: float = TAIL_S) -> np.ndarray:
    """The score's sound without room as float32 [N, 2] at RATE: from its first note to `tail_s` seconds after its last.

    Raises:
        UserError: the synthesizer is not installed, or cannot use the soundfont.
    """
    try:
        import midirenderer
    except ImportError:
        raise UserError("audio needs the package midirenderer: `pip install midirenderer`") from None
    notes = listen(score)
    first_s, end_s = float(notes.onset_s.min(initial=np.inf)), float(notes.end_s.max(initial=0.0))
    if not len(notes):
        return np.zeros((round(tail_s * RATE), 2), np.float32)
    struck = set(zip(notes.pitch.tolist(), notes.velocity.tolist(), strict=True))
    sound = np.zeros((0, 2), np.int16)
    try:
        font = playable(soundfont, struck, {track.program for track in score.tracks})
        for volume in VOLUMES:
            # Of symusic's own synthesizer 0.5.9 every note is out of tune and none minds its velocity (its issue 55).
            data = midirenderer.render_wave_from(font, _played(score, volume, tail_s))
            sound, rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
            assert (sound.shape[1], rate) == (2, RATE)
            if np.abs(sound.astype(np.int32)).max(initial=0) < 32767:
                break
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{soundfont} cannot be played ({error}): choose another .sf2 or .sf3 file") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of the synthesizer, which is written in Rust
            raise
        raise UserError(f"{soundfont} cannot be played (damaged): choose another .sf2 or .sf3 file") from None
    first = round(first_s * RATE)
    audio = np.zeros((round((end_s + tail_s) * RATE) - first, 2), np.float32)
    heard = sound[first : first + len(audio)]
    audio[: len(heard)] = heard / np.float32(32768)
    return audio


def _played(score: Score, volume: int, tail_s: float) -> bytes:
    """The score as MIDI, without the synthesizer's own room; its last event, which nothing hears, `tail_s` behind its end."""
    score = score.copy()
    for track in score.tracks:
        for controller, value in ((VOLUME, volume), (REVERB, 0), (CHORUS, 0)):
            track.controls.append(ControlChange(0, controller, value))
    ticks = round(tail_s * tempo_map(score)[1][-1] / 60 * score.tpq)
    tail = Track(program=0)
    tail.controls.append(ControlChange(score.end() + ticks, UNHEARD, 0))
    score.tracks.append(tail)
    return score.dumps_midi()


def render_wav(score: Score, out: Path, soundfont: Path | None = None, arousal: float = 0.0) -> float:
    """Write `out`: stereo, 48 kHz, 16 bit, the same bytes for the same score and soundfont. Returns its seconds.

    It begins with the first note and ends when the last one has died away. Its integrated loudness follows `arousal`
    (loudness.target_lufs), its true peak stays below -1 dBFS. `soundfont` None means `find_soundfont()`.
    """
    audio = heard(score, soundfont, arousal)
    with replacing_file(out) as part:
        part.write_bytes(_wav(audio, RATE))
    return len(audio) / RATE


def render_preview(
    score: Score, soundfont: Path | None = None, arousal: float = 0.0, *, compressed: bool = False
) -> bytes:
    """A small WAV (mono, 24 kHz, 16 bit: 48 kB a second) to embed in a page; `compressed`: MP3, an eighth of it."""
    mono = heard(score, soundfont, arousal).mean(axis=1)
    reach = np.arange(-32, 33)
    low_pass = np.sinc(reach / PREVIEW_STEP) / PREVIEW_STEP * np.hanning(len(reach) + 2)[1:-1]
    small, rate = np.convolve(mono, low_pass, "same")[::PREVIEW_STEP], RATE // PREVIEW_STEP
    if not compressed:
        return _wav(small, rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, small, rate, "MPEG_LAYER_III", format="MP3")
    return buffer.getvalue()


def heard(score: Score, soundfont: Path | None = None, arousal: float = 0.0) -> np.ndarray:
    """What `render_wav` writes, as float32 [N, 2]."""
    dry = synthesize(score, soundfont or find_soundfont())
    audio = levelled(in_room(dry, arousal), target_lufs(arousal))
    loud = np.flatnonzero(np.abs(audio).max(axis=1) > SILENT)
    step = round(STEP_S * RATE)
    audio = audio[: (loud[-1] // step + 1) * step] if len(loud) else audio
    fade = min(round(FADE_S * RATE), len(audio))
    audio[-fade:] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32))[:, None] ** 2
    return audio


def _wav(audio: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, as_int16(audio), rate, "PCM_16", format="WAV")
    return buffer.getvalue()


def as_int16(audio: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as 16 bit integers."""
    return np.round(audio * 32767).astype(np.int16)
