"""Piano rolls: pictures of a score's notes over time."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from symusic import Score

from huesong.music.reading import listen, seconds_at
from huesong.runtime.files import replacing_file

LONGEST_TITLE = 110
MOST_BAR_LINES = 120


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
