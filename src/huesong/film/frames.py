"""The frames of a film: each picture moves gently, and the next one fades in around the bar line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from huesong.compose.composer import image_of
from huesong.film.course import Section

ASPECTS = {"16:9": (1280, 720), "9:16": (720, 1280), "1:1": (720, 720)}
"""Width and height in pixels."""
USUAL_ASPECT = "16:9"
RATE = 30
"""Frames a second."""
ZOOM = 0.08
"""How much nearer a picture comes (or goes) while it is shown."""
ALIKE = 1.35
"""A picture whose shape differs from the film's by less than this factor fills the frame; another one stands before a
blurred copy of itself."""
FADE_S = 0.5
"""How long a cross-fade lasts at most; its middle is the bar line."""
DARK, BLUR = 0.55, 24


def frames_of(sections: Sequence[Section], size: tuple[int, int], beat: float, titles: bool) -> Iterator[np.ndarray]:
    """Every frame of the film, uint8 [H, W, 3]. `beat`: seconds; a fade lasts one at most."""
    shots = _shots(size, titles)
    total = round(sections[-1].end * RATE)
    index = 0
    for frame in range(total):
        at = (frame + 0.5) / RATE
        while index + 1 < len(sections) and at >= sections[index].end:
            index += 1
        section = sections[index]
        shown = shots(section, index, at)
        share, other = _fade(sections, index, at, beat)
        if share > 0:
            coming = shots(sections[other], other, at)
            shown = Image.blend(shown, coming, share)
        yield np.asarray(shown)


def _fade(sections: Sequence[Section], index: int, at: float, beat: float) -> tuple[float, int]:
    """How much of the neighbour is seen: half at the bar line, nothing half a fade before and after it."""
    section = sections[index]
    best = (0.0, index)
    for other, line in ((index + 1, section.end), (index - 1, section.start)):
        if 0 <= other < len(sections):
            neighbour = sections[other]
            shortest = min(section.end - section.start, neighbour.end - neighbour.start)
            half = min(FADE_S, beat, shortest / 2) / 2
            share = 0.5 * (1 - abs(at - line) / half)
            if share > best[0]:
                best = (share, other)
    return best


def _shots(size: tuple[int, int], titles: bool):  # type: ignore[no-untyped-def]
    """What gives a section's picture at a moment; only the pictures that are shown are held."""

    @lru_cache(maxsize=2)
    def canvas(path: Path) -> Image.Image:
        return on_canvas(image_of(path), (round(size[0] * (1 + ZOOM)), round(size[1] * (1 + ZOOM))))

    def shot(section: Section, index: int, at: float) -> Image.Image:
        drawn = canvas(section.picture)
        share = min(max((at - section.start) / (section.end - section.start), 0.0), 1.0)
        nearness = share if index % 2 == 0 else 1 - share
        scale = 1 - ZOOM / (1 + ZOOM) * nearness
        width, height = drawn.width * scale, drawn.height * scale
        left = (drawn.width - width) * (0.5 + 0.5 * np.sin(2.4 * index) * share)
        top = (drawn.height - height) / 2
        made = drawn.resize(size, Image.Resampling.BILINEAR, (left, top, left + width, top + height))
        return titled(made, section.picture.stem) if titles else made

    return shot


def on_canvas(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture of any shape on a canvas of this size."""
    ratio = (picture.width / picture.height) / (size[0] / size[1])
    if 1 / ALIKE <= ratio <= ALIKE:
        return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    small = ImageOps.fit(picture, (size[0] // 8, size[1] // 8), Image.Resampling.BOX)
    behind = small.filter(ImageFilter.GaussianBlur(BLUR / 8)).resize(size, Image.Resampling.BICUBIC)
    behind = ImageEnhance.Brightness(behind).enhance(DARK)
    whole = ImageOps.contain(picture, size, Image.Resampling.LANCZOS)
    behind.paste(whole, ((size[0] - whole.width) // 2, (size[1] - whole.height) // 2))
    return behind


def titled(frame: Image.Image, text: str) -> Image.Image:
    """The frame with a line at its bottom; characters that the font lacks show as boxes, line breaks as spaces."""
    plain = text.encode("utf-8", "replace").decode()
    shown = "".join(letter if letter.isprintable() else " " for letter in plain)
    side = max(16, frame.height // 24)
    draw = ImageDraw.Draw(frame)
    font = ImageFont.load_default(side)
    while draw.textlength(shown, font=font) > frame.width * 0.9 and len(shown) > 4:
        shown = f"{shown[: len(shown) * 9 // 10 - 1]}…"
    place = (frame.width / 2, frame.height - side * 1.6)
    draw.text(place, shown, font=font, fill="white", anchor="mm", stroke_width=max(1, side // 12), stroke_fill="black")
    return frame
