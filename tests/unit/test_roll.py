"""Piano rolls that show the notes; the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from symusic import Score

from huesong.music.rendering.roll import MOST_LABELS, THEMES, fill, piano_roll, piano_roll_png, seconds_to_name
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


def test_a_pixel_is_painted_by_the_part_that_is_covered() -> None:
    canvas = np.zeros((3, 4, 3))
    fill(canvas, (0.5, 1.25, 2.0, 2.0), np.full(3, 100.0))
    assert canvas[:, :, 0].tolist() == [[0, 0, 0, 0], [37.5, 75, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("end_s", "named"),
    [(0.5, [0, 0.1, 0.2, 0.3, 0.4, 0.5]), (30, [0, 5, 10, 15, 20, 25, 30]), (61.3, [0, 10, 20, 30, 40, 50, 60])],
)
def test_round_seconds_are_named(end_s: float, named: list[float]) -> None:
    assert seconds_to_name(end_s) == pytest.approx(named)
    assert len(seconds_to_name(3600)) <= MOST_LABELS
