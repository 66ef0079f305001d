"""A piece in a notebook: its picture, its place on the valence-arousal plane, its piano roll, and a player."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from huesong.compose.output.formats import write_audio
from huesong.report.html import data_uri

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

Dots = Mapping[str, tuple[float, float] | None]
"""Names of `DOTS` -> valence and arousal."""

THUMBNAIL, PLANE = 220, 220
"""Pixels of a side."""
DOTS = {"predicted": ("seen", "#5d6678"), "requested": ("asked for", "#3d5a99"), "obtained": ("heard", "#d8433c")}
"""Field of an Emotion -> its word and colour."""


def shown(picture: Image | None, dots: Dots, words: Sequence[str], roll: bytes, sound: str) -> str:
    """HTML that needs nothing from outside: picture, plane, words, a piano roll (PNG), a player."""
    first = Markup("") if picture is None else _small(picture)
    row = Markup('<div style="display:flex;gap:12px;align-items:center">{}{}</div>').format(first, plane(dots))
    text = Markup("<p>{}</p>").format(Markup("<br>").join(words))
    notes = Markup('<img alt="piano roll" style="max-width:100%" src="{}">').format(data_uri(roll, "image/png"))
    return str(Markup("<div>{}{}{}{}</div>").format(row, text, notes, Markup(sound)))


def player(samples: np.ndarray, rate: int) -> str:
    """A player with the sound embedded, as MP3."""
    buffer = io.BytesIO()
    write_audio(samples, rate, buffer, "mp3")
    uri = data_uri(buffer.getvalue(), "audio/mpeg")
    return str(Markup('<audio controls style="width:100%" src="{}"></audio>').format(uri))


def _small(picture: Image) -> Markup:
    small, buffer = picture.copy(), io.BytesIO()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(buffer, "JPEG", quality=85)
    return Markup('<img alt="the picture" src="{}">').format(data_uri(buffer.getvalue(), "image/jpeg"))


def plane(dots: Dots) -> Markup:
    """The valence-arousal plane as SVG, with a dot for each emotion that is known."""
    half = PLANE / 2
    parts = [
        Markup('<rect width="{0}" height="{0}" fill="#fbfbfd" stroke="#bcc5d3"/>').format(PLANE),
        Markup('<path d="M0 {0}H{1}M{0} 0V{1}" stroke="#d3d9e3"/>').format(half, PLANE),
    ]
    corners = (("tense", 6, 16, "start"), ("happy", PLANE - 6, 16, "end"), ("sad", 6, PLANE - 8, "start"),
               ("content", PLANE - 6, PLANE - 8, "end"))  # fmt: skip
    text = Markup('<text x="{}" y="{}" text-anchor="{}" font-size="11" fill="#5d6678">{}</text>')
    parts += [text.format(x, y, anchor, word) for word, x, y, anchor in corners]
    for name, (word, colour) in DOTS.items():
        if (va := dots.get(name)) is not None:
            x, y = half * (1 + 0.9 * va[0]), half * (1 - 0.9 * va[1])
            title = f"{word}: valence {va[0]:+.2f}, arousal {va[1]:+.2f}"
            parts.append(
                Markup('<circle cx="{:.1f}" cy="{:.1f}" r="6" fill="{}"><title>{}</title></circle>').format(
                    x, y, colour, title
                )
            )
    return Markup('<svg width="{0}" height="{0}" viewBox="0 0 {0} {0}" role="img">{1}</svg>').format(
        PLANE, Markup("").join(parts)
    )
