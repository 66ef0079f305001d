"""Piano rolls that show the notes; the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from symusic import Score

from huesong.music.rendering.roll import THEMES, piano_roll, piano_roll_png
from tests.tiny_sounds import chords


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


@pytest.mark.parametrize("theme", THEMES)
def test_the_piano_roll_shows_velocity_as_colour(tmp_path: Path, theme: str) -> None:
    out = piano_roll(chords(velocity=110), tmp_path / "a.png", "Dusk, valence +0.50, arousal -0.20", theme)
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert image.size == (1320, 504)
    look = THEMES[theme]
    assert (pixels[0] == rgb(look.paper)).all()
    loud, soft = (np.abs(pixels.astype(int) - rgb(look.velocity[i])).sum(axis=1) < 12 for i in (-1, 0))
    assert loud.sum() > 10 * soft.sum()


def test_piano_rolls_differ_with_the_notes_and_repeat_in_bytes() -> None:
    assert piano_roll_png(chords()) == piano_roll_png(chords())
    assert piano_roll_png(chords()) != piano_roll_png(chords(chord=(48, 60, 63, 67)))


@pytest.mark.parametrize("title", ["costs $5 or $6_a^b", "x" * 400, ""])
def test_any_title_and_an_empty_score_are_drawn(title: str) -> None:
    assert piano_roll_png(Score(480), title).startswith(b"\x89PNG")


def test_a_long_piece_is_drawn() -> None:
    assert len(piano_roll_png(chords(bars=400))) > 1000
