"""How two soundfonts sound, note by note; how composed pieces sound; and how long rendering them takes.

Usage: python benchmarks/sound.py OTHER.sf2 [PIECE.json ...] [--report docs/results/sound.md --picture OUT.png]
Of a piece its audio is read beside its record. A picture of each piece's spectrum and level goes beside it, too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import soundfile
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.signal import resample_poly
from symusic import Note, Score, Tempo, Track

from huesong.music.reading import read_score
from huesong.music.rendering.audio import render_wav, synthesize
from huesong.music.rendering.loudness import RATE, loudness, target_lufs
from huesong.music.rendering.soundfont import find_soundfont
from huesong.report.tables import put_into, table

OCTAVES = (24, 36, 48, 60, 72, 84, 96)
VELOCITIES = (20, 35, 50, 65, 80, 95, 110, 125)
KEYS = range(21, 109)
DECAY_DB = 20.0
RUNS = 5


def note(soundfont: Path, pitch: int, velocity: int, seconds: float = 6.0) -> np.ndarray:
    """One held note, mono float [N]."""
    score = Score(480)
    score.tempos.append(Tempo(0, 60))
    track = Track(program=0)
    track.notes.append(Note(0, round(seconds * 480), pitch, velocity))
    score.tracks.append(track)
    return synthesize(score, soundfont, tail_s=0.5)


def centroid_hz(sound: np.ndarray) -> float:
    """The middle of the spectrum's energy over the first half second."""
    part = sound[: RATE // 2].mean(axis=1)
    power = np.abs(np.fft.rfft(part * np.hanning(len(part)))) ** 2
    return float((power * np.fft.rfftfreq(len(part), 1 / RATE)).sum() / power.sum())


def decay_s(sound: np.ndarray) -> float:
    """Seconds from the loudest 50 ms until the level has fallen by DECAY_DB for good."""
    frames = sound.mean(axis=1)[: len(sound) // 2400 * 2400].reshape(-1, 2400)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    top = int(level.argmax())
    above = np.flatnonzero(level > level[top] - DECAY_DB)
    return float((above[-1] - top + 1) * 0.05)


def levels(soundfont: Path) -> np.ndarray:
    """Loudness (LUFS) of every key's first second at velocity 80."""
    return np.array([loudness(note(soundfont, key, 80, 1.0)[:RATE]) for key in KEYS])


def spectrogram(axes: Any, sound: np.ndarray) -> None:
    """Of mono samples, 110 dB deep."""
    faint = 1e-9 * np.random.default_rng(0).standard_normal(len(sound))  # digital silence has no logarithm
    axes.specgram(sound / np.abs(sound).max() + faint, NFFT=2048, Fs=RATE, noverlap=1024, vmin=-150, vmax=-40)


def drawn(fonts: dict[str, Path], out: Path) -> None:
    """Spectrograms of middle C soft and loud, and the three curves."""
    figure = Figure(figsize=(13, 8), dpi=64, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(fonts) + 1, 3)
    for row, (name, font) in enumerate(fonts.items()):
        for column, velocity in enumerate((35, 80, 125)):
            sound = note(font, 60, velocity, 3.0).mean(axis=1)
            spectrogram(axes[row, column], sound)
            axes[row, column].set(ylim=(0, 8000), title=f"{name}: middle C, velocity {velocity}", ylabel="Hz")
        bright, fall, level = axes[-1]
        bright.plot(VELOCITIES, [centroid_hz(note(font, 60, v, 1.0)) for v in VELOCITIES], "o-", label=name)
        fall.plot(OCTAVES, [decay_s(note(font, key, 80)) for key in OCTAVES], "o-", label=name)
        values = levels(font)
        level.plot(KEYS, values - values.mean(), label=name)
    bright.set(xlabel="velocity", title="brightness of middle C", ylabel="spectral centroid, Hz")
    fall.set(xlabel="key", title="decay", ylabel=f"seconds to -{DECAY_DB:.0f} dB")
    level.set(xlabel="key", title="level over the keys, velocity 80", ylabel="LU from the mean")
    for one in axes[-1]:
        one.legend()
    figure.savefig(out)


def rows(fonts: dict[str, Path]) -> list[list[str]]:
    """A row a soundfont."""
    found = []
    for name, font in fonts.items():
        sound = partial(note, font)
        values = levels(font)
        found.append(
            [
                name,
                f"{font.stat().st_size / 1e6:.1f}",
                *(" / ".join(f"{centroid_hz(sound(key, v, 1.0)):.0f}" for v in (35, 80, 125)) for key in (36, 60, 84)),
                " / ".join(f"{decay_s(sound(key, 80)):.1f}" for key in OCTAVES),
                f"{np.abs(np.diff(values)).mean():.1f} / {np.abs(np.diff(values)).max():.1f}",
            ]
        )
    return found


def decibels(sound: np.ndarray) -> float:
    """Mean level, dBFS."""
    return float(10 * np.log10((sound.astype(float) ** 2).mean() + 1e-15))


def piece_row(record: Path) -> list[str]:
    """What is heard of a composed piece, with a picture of it as NAME-sound.png."""
    told, wav = json.loads(record.read_text(encoding="utf-8")), record.with_suffix(".wav")
    sound, _ = soundfile.read(wav, dtype="float32")
    score = read_score(record.with_suffix(".mid"))
    figure = Figure(figsize=(13, 6), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    spectrogram(above, sound.mean(axis=1))
    above.set(ylim=(0, 6000), ylabel="Hz", title=record.stem)
    level = [decibels(part) for part in np.array_split(sound, len(sound) // 4800)]
    below.plot(0.1 * np.arange(len(level)), level)
    below.set(ylim=(-90, 0), ylabel="dBFS in 0.1 s", xlabel="seconds")
    figure.savefig(record.with_name(f"{record.stem}-sound.png"))
    arousal = told["requested"][1]
    held = sum(pedal.duration for track in score.tracks for pedal in track.pedals) / score.end()
    return [
        record.stem,
        f"{arousal:+.2f}",
        f"{target_lufs(arousal):.1f}",
        f"{pyloudnorm.Meter(RATE).integrated_loudness(sound):.1f}",
        f"{20 * np.log10(np.abs(resample_poly(sound, 4, 1)).max()):.1f}",
        f"{decibels(sound[:2400]):.0f}",
        " ".join(f"{decibels(part):.0f}" for part in np.array_split(sound[-RATE:], 4)),
        f"{100 * held:.0f} %",
    ]


def seconds_to_render(records: Sequence[Path], soundfont: Path) -> str:
    """Seconds of processor time a piece: median and range of RUNS renderings of all."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(RUNS):
            for record in records:
                score, begun = read_score(record.with_suffix(".mid")), time.process_time()
                render_wav(score, Path(folder) / "a.wav", soundfont)
                taken.append(time.process_time() - begun)
    return f"{np.median(taken):.2f} ({min(taken):.2f} to {max(taken):.2f})"


PIECE_HEAD = (
    "piece", "arousal asked", "LUFS asked", "LUFS", "true peak, dBFS", "first 50 ms, dBFS", "last second in quarters, dBFS",
    "pedal down",
)  # fmt: skip
HEAD = (
    "soundfont", "MB", "C2: centroid (Hz) at velocity 35 / 80 / 125", "C4", "C6", "seconds to -20 dB, C1 to C7",
    "step of level from key to key (LU): mean / largest",
)  # fmt: skip


def main() -> None:
    """Measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("records", type=Path, nargs="*")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    fonts = {"this piano": find_soundfont(), arguments.other.stem: arguments.other}
    parts = {"soundfonts": table(HEAD, rows(fonts)) + "\n"}
    if arguments.records:
        parts["pieces"] = table(PIECE_HEAD, [piece_row(record) for record in arguments.records]) + "\n"
        times = [[name, seconds_to_render(arguments.records, font)] for name, font in fonts.items()]
        parts["times"] = table(("soundfont", f"seconds a piece, n = {RUNS * len(arguments.records)}"), times) + "\n"
    for part, page in parts.items():
        print(page)
        if arguments.report:
            put_into(arguments.report, part, page)
    if arguments.picture:
        drawn(fonts, arguments.picture)


if __name__ == "__main__":
    main()
