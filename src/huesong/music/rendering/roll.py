"""Piano rolls: pictures of a score's notes over time.

Drawn with NumPy and Pillow: to import matplotlib takes longer than to compose some seconds of music.
"""

from __future__ import annotations

import importlib.util
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont
from symusic import Score

from huesong.music.reading import listen, seconds_at
from huesong.runtime.files import replacing_file

LONGEST_TITLE = 110
MOST_BAR_LINES = 120
MOST_LABELS = 9
"""Along the axis of time."""
DOTS = 120
"""An inch; a point is a 72nd of one."""
QUIET, LOUD = 20, 110
"""Velocities at the ends of the colours."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


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
    look, notes = THEMES[theme], listen(score)
    width, height = (round(side * DOTS) for side in size)
    left, top, right, bottom = 0.055 * width, (0.12 if title else 0.05) * height, 0.93 * width, 0.87 * height
    end_s = float(notes.end_s.max(initial=1.0))
    low = min(int(notes.pitch.min(initial=60)) - 3, 48)
    high = max(int(notes.pitch.max(initial=60)) + 3, 72)

    def box(begin: float, end: float, lower: float, upper: float) -> Box:
        """Of seconds and pitches."""
        x = (left + (right - left) * at / end_s for at in (begin, end))
        y = (bottom - (bottom - top) * (pitch - low + 0.5) / (high - low + 1) for pitch in (upper, lower))
        (first, last), (above, below) = x, y
        return first, above, last, below

    canvas = np.full((height, width, 3), rgb(look.paper))
    for pitch in range(low, high + 1):
        if pitch % 12 in (1, 3, 6, 8, 10):
            fill(canvas, box(0, end_s, pitch - 0.5, pitch + 0.5), rgb(look.black_key))
    ticks_per_bar = 4 * score.tpq
    bars = seconds_at(score, np.arange(0, score.end() + ticks_per_bar, ticks_per_bar))
    for bar in bars[:: -(-len(bars) // MOST_BAR_LINES)]:
        if bar <= end_s:
            at, above, _, below = box(bar, bar, low - 0.5, high + 0.5)
            fill(canvas, (round(at), above, round(at) + 1, below), rgb(look.bar))
    octaves = {pitch: box(0, end_s, pitch - 0.5, pitch - 0.5) for pitch in range(low, high + 1) if pitch % 12 == 0}
    for begin, at, end, _ in octaves.values():
        fill(canvas, (begin, round(at), end, round(at) + 1), rgb(look.octave))
    colours, gap = shades(look, notes.velocity), end_s * 0.0006
    ends = np.maximum(notes.end_s - gap, notes.onset_s + 2 * gap)
    for onset, end, pitch, colour in zip(notes.onset_s, ends, notes.pitch, colours, strict=True):
        fill(canvas, box(onset, end, pitch - 0.42, pitch + 0.42), colour)
    scale = np.linspace(LOUD, QUIET, round(bottom - top))
    bar_left = 0.945 * width
    canvas[round(top) : round(top) + len(scale), round(bar_left) : round(bar_left + 0.012 * width)] = shades(
        look, scale
    )[:, None]

    image = Image.fromarray(canvas.round().astype(np.uint8))
    words = ImageDraw.Draw(image)
    for pitch in octaves:
        words.text((left - 8, box(0, 0, pitch, pitch)[1]), f"C{pitch // 12 - 1}", look.soft, font(9), "rm")
    for second in seconds_to_name(end_s):
        words.text((box(second, second, 0, 0)[0], bottom + 7), f"{second:g}", look.soft, font(9), "mt")
    words.text(((left + right) / 2, bottom + 28), "seconds", look.soft, font(9), "mt")
    for velocity in range(QUIET, LOUD + 1, 10):
        at = bottom - (bottom - top) * (velocity - QUIET) / (LOUD - QUIET)
        words.text((bar_left + 0.012 * width + 7, at), f"{velocity}", look.soft, font(8), "lm")
    words.text((bar_left + 0.006 * width, top - 9), "velocity", look.soft, font(8), "ms")
    if title:
        shown = title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 1] + "…"
        words.text((left, top - 16), shown, look.ink, font(12), "ls")
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()


def rgb(colour: str) -> np.ndarray:
    """Red, green and blue of `#rrggbb`."""
    return np.array(ImageColor.getrgb(colour), dtype=float)


def shades(look: Theme, velocity_N: np.ndarray) -> np.ndarray:
    """The colours [N, 3] of velocities."""
    known = np.array([rgb(colour) for colour in look.velocity])
    places = np.linspace(QUIET, LOUD, len(known))
    return np.stack([np.interp(velocity_N, places, channel) for channel in known.T], axis=-1)


def fill(canvas: np.ndarray, box: Box, colour: np.ndarray) -> None:
    """Paint a rectangle onto float [H, W, 3]; a pixel that it covers in part is mixed by that part."""
    (rows, row_share), (columns, column_share) = covered(box[1], box[3]), covered(box[0], box[2])
    inside = canvas[rows, columns]
    share = np.outer(row_share, column_share)[: inside.shape[0], : inside.shape[1], None]
    inside += (colour - inside) * share


def covered(begin: float, end: float) -> tuple[slice, np.ndarray]:
    """The pixels that an interval touches, and how much of each it covers."""
    first, last = int(np.floor(begin)), int(np.ceil(end))
    edges = np.arange(first, last + 1)
    return slice(first, last), np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin)


def seconds_to_name(end_s: float) -> list[float]:
    """Round numbers of seconds, at most MOST_LABELS."""
    step = next(
        step * 10.0**power for power in range(-2, 7) for step in (1, 2, 5) if end_s / (step * 10.0**power) < MOST_LABELS
    )
    return [step * count for count in range(int(end_s / step + 1e-9) + 1)]


@lru_cache
def font(points: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which has most alphabets, from matplotlib's files; else Pillow's own."""
    side, found = points * DOTS / 72, importlib.util.find_spec("matplotlib")
    if found is not None and found.origin is not None:
        path = Path(found.origin).with_name("mpl-data") / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(path, side)
    return ImageFont.load_default(side)
