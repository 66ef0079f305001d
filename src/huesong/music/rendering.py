"""Audio and pictures of a score: WAV through a soundfont, piano roll as PNG."""

from __future__ import annotations

import importlib.util
import io
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy.signal import resample_poly
from symusic import ControlChange, Score, Track

from huesong.music.reading import listen, seconds_at, tempo_map
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file

SOUNDFONT_VARIABLE = "HUESONG_SOUNDFONT"
SAMPLE_RATE = 48000
PREVIEW_RATE = 24000
GAIN = 4.0
"""The synthesizer leaves room for an orchestra; this brings one loud piano near full scale."""
LOUDEST_PEAK, QUIETEST_PEAK = 10 ** (-1 / 20), 10 ** (-20 / 20)
FADE_S = 0.5
LONGEST_TITLE = 110
MOST_BAR_LINES = 120


def find_soundfont(given: Path | None = None) -> Path:
    """The soundfont to play with: `given`, else the environment's HUESONG_SOUNDFONT, else pretty_midi's TimGM6mb.

    Raises:
        UserError: the file is missing or is no soundfont.
    """
    variable = os.environ.get(SOUNDFONT_VARIABLE)
    if given is not None:
        path, origin = given, "--soundfont"
    elif variable:
        path, origin = Path(variable), SOUNDFONT_VARIABLE
    else:
        spec = importlib.util.find_spec("pretty_midi")
        folder = Path(spec.origin).parent if spec and spec.origin else Path("pretty_midi")
        path, origin = folder / "TimGM6mb.sf2", "the package pretty_midi"
    remedy = f"name an .sf2 file with --soundfont or {SOUNDFONT_VARIABLE}, or `pip install pretty_midi`"
    try:
        with path.open("rb") as stream:
            head = stream.read(12)
    except OSError as error:
        raise UserError(f"soundfont {path} (from {origin}) cannot be read ({error.strerror}): {remedy}") from error
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise UserError(f"{path} (from {origin}) is not a soundfont: {remedy}")
    return path


@lru_cache(maxsize=1)
def _soundfont_bytes(soundfont: Path) -> bytes:
    return soundfont.read_bytes()


def synthesize(score: Score, soundfont: Path, *, tail_s: float = 1.5) -> np.ndarray:
    """The score's sound as float32 [samples, 2] at SAMPLE_RATE, ending `tail_s` seconds after its last note.

    Full scale is 1, which loud music may exceed. Piano strings and the room ring out in the tail.

    Raises:
        UserError: the synthesizer is not installed, or cannot use the soundfont.
    """
    try:
        import midirenderer
    except ImportError:
        raise UserError("audio needs the package midirenderer: `pip install midirenderer`") from None
    end_s = float(listen(score).end_s.max(initial=0.0)) + tail_s
    try:
        # Of symusic's own synthesizer 0.5.9 every note is out of tune and none minds its velocity (its issue 55).
        data = midirenderer.render_wave_from(_soundfont_bytes(soundfont), _with_tail(score, tail_s))
    except RuntimeError as error:
        raise UserError(f"{soundfont} cannot be played ({error}): choose another .sf2 file") from error
    sound, rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    assert (sound.shape[1], rate) == (2, SAMPLE_RATE)
    audio = np.zeros((round(end_s * SAMPLE_RATE), 2), np.float32)
    audio[: len(sound)] = sound[: len(audio)] * np.float32(GAIN / 32768)
    return audio


def _with_tail(score: Score, tail_s: float) -> bytes:
    """The score as MIDI whose last event, a controller nothing listens to, lies `tail_s` behind its end."""
    score = score.copy()
    ticks = round(tail_s * tempo_map(score)[1][-1] / 60 * score.tpq)
    tail = Track(program=0)
    tail.controls.append(ControlChange(score.end() + ticks, 3, 0))
    score.tracks.append(tail)
    return score.dumps_midi()


def render_wav(score: Score, out: Path, soundfont: Path | None = None, *, tail_s: float = 1.5) -> float:
    """Write `out`: stereo, 48 kHz, 16 bit, the same bytes for the same score and soundfont. Returns its seconds.

    `soundfont` None means `find_soundfont()`. A louder piece stays louder, as loudness carries arousal: only peaks above
    -1 dBFS are brought down to it (it never clips) and peaks below -20 dBFS up to that.
    """
    audio = synthesize(score, soundfont or find_soundfont(), tail_s=tail_s)
    with replacing_file(out) as part:
        part.write_bytes(_wav(audio, SAMPLE_RATE))
    return len(audio) / SAMPLE_RATE


def render_preview(score: Score, soundfont: Path | None = None) -> bytes:
    """A small WAV (mono, 24 kHz, 16 bit: 48 kB a second) to embed in a page."""
    audio = synthesize(score, soundfont or find_soundfont(), tail_s=1.0)
    small = resample_poly(audio.mean(axis=1, keepdims=True), 1, SAMPLE_RATE // PREVIEW_RATE, axis=0)
    return _wav(small.astype(np.float32), PREVIEW_RATE)


def _wav(audio: np.ndarray, sample_rate: int) -> bytes:
    """Level, fade out and pack float samples [samples, channels]."""
    peak = float(np.abs(audio).max(initial=0.0))
    audio = audio * (np.clip(peak, QUIETEST_PEAK, LOUDEST_PEAK) / peak) if peak else audio.copy()
    fade = min(len(audio), round(FADE_S * sample_rate))
    audio[len(audio) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)[:, None] ** 2
    buffer = io.BytesIO()
    soundfile.write(buffer, np.round(audio * 32767).astype(np.int16), sample_rate, "PCM_16", format="WAV")
    return buffer.getvalue()


@dataclass(frozen=True)
class Theme:
    """Colours of a piano roll: those of the project's pages, and velocity from soft to loud."""

    paper: str
    black_key: str
    ink: str
    soft: str
    bar: str
    octave: str
    velocity: tuple[str, ...]


THEMES = {
    "light": Theme(
        paper="#fbfbfd", black_key="#f0f2f6", ink="#1d2330", soft="#5d6678", bar="#d3d9e3", octave="#bcc5d3",
        velocity=("#a9c4ec", "#5b8fd9", "#5a4fb8", "#9c2f7f", "#d8433c"),
    ),
    "dark": Theme(
        paper="#161a22", black_key="#1b202a", ink="#e8eaf0", soft="#a3abbb", bar="#2d3442", octave="#434c5e",
        velocity=("#36589c", "#5d8de0", "#a58af0", "#f08fb4", "#ffd27a"),
    ),
}  # fmt: skip


def piano_roll(score: Score, out: Path, title: str = "", theme: str = "light") -> Path:
    """Write a PNG of the notes over time in seconds: colour is velocity, lines are 4/4 bars and the octaves' Cs.

    theme: "light" or "dark", in the colours of the project's pages.
    """
    with replacing_file(out) as part:
        part.write_bytes(piano_roll_png(score, title, theme))
    return out


def piano_roll_png(
    score: Score, title: str = "", theme: str = "light", size: tuple[float, float] = (11.0, 4.2)
) -> bytes:
    """`piano_roll` as bytes; `size` is width and height in inches at 120 dots an inch."""
    look = THEMES[theme]
    notes = listen(score)
    figure = Figure(figsize=size, dpi=120, facecolor=look.paper)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.055, 0.13, 0.875, 0.75 if title else 0.82), facecolor=look.paper)
    end_s = float(notes.end_s.max(initial=1.0))
    low = min(int(notes.pitch.min(initial=60)) - 3, 48)
    high = max(int(notes.pitch.max(initial=60)) + 3, 72)
    for pitch in range(low, high + 1):
        if pitch % 12 in (1, 3, 6, 8, 10):
            axes.axhspan(pitch - 0.5, pitch + 0.5, color=look.black_key, linewidth=0, zorder=0)
    ticks_per_bar = 4 * score.tpq
    bars = seconds_at(score, np.arange(0, score.end() + ticks_per_bar, ticks_per_bar))
    bars = bars[:: -(-len(bars) // MOST_BAR_LINES)]
    axes.vlines(bars, low - 0.5, high + 0.5, color=look.bar, linewidth=0.8, zorder=1)
    octaves = [pitch for pitch in range(low, high + 1) if pitch % 12 == 0]
    axes.hlines([pitch - 0.5 for pitch in octaves], 0, end_s, color=look.octave, linewidth=0.8, zorder=1)
    colours = LinearSegmentedColormap.from_list("velocity", look.velocity)
    gap = end_s * 0.0006
    boxes = [
        ((a, p - 0.42), (a, p + 0.42), (b, p + 0.42), (b, p - 0.42))
        for a, b, p in zip(
            notes.onset_s, np.maximum(notes.end_s - gap, notes.onset_s + 2 * gap), notes.pitch, strict=True
        )
    ]
    drawn = PolyCollection(boxes, cmap=colours, linewidths=0, zorder=2)
    drawn.set_array(notes.velocity)
    drawn.set_clim(20, 110)
    axes.add_collection(drawn)
    axes.set_xlim(0, end_s)
    axes.set_ylim(low - 0.5, high + 0.5)
    axes.set_yticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves])
    axes.set_xlabel("seconds", color=look.soft, fontsize=9)
    axes.tick_params(colors=look.soft, labelsize=9, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        shown = title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 1] + "…"
        # A title may hold a file's name, in which a dollar sign is no formula.
        axes.set_title(shown, loc="left", color=look.ink, fontsize=12, pad=10, parse_math=False)
    key = figure.colorbar(drawn, cax=figure.add_axes((0.945, 0.13, 0.012, 0.75 if title else 0.82)))
    key.outline.set_visible(False)
    key.ax.tick_params(colors=look.soft, labelsize=8, length=0)
    key.ax.set_title("velocity", color=look.soft, fontsize=8, pad=6)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=look.paper, metadata={"Software": None})
    return buffer.getvalue()
