"""`huesong explain`: regions that move the reading, the piece among the training music, in words and as a page."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from huesong.compose.composer import Composer
from huesong.compose.explain import GRID, Neighbour, Trait, _told, explain, occluded, readings
from huesong.compose.moods import in_words
from huesong.compose.output.explanation import page
from tests.console import huesong


def test_each_cell_is_painted_over_in_turn() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8))
    found = occluded(picture)
    assert len(found) == GRID * GRID
    change = np.array([np.abs(np.asarray(one, int) - np.asarray(picture, int)).sum(axis=2) for one in found])
    rows, columns = 60 // GRID, 90 // GRID
    for number in range(GRID * GRID):
        row, column = divmod(number, GRID)
        inside = change[number, row * rows : (row + 1) * rows, column * columns : (column + 1) * columns].sum()
        assert inside > 0.6 * change[number].sum(), "most of what changes lies in the cell"
    assert len(occluded(Image.new("RGB", (1, 1)))) == GRID * GRID, "a picture of one pixel"


def test_a_map_says_where() -> None:
    cells = np.zeros((GRID, GRID))
    assert _told(cells) == "no single region moves it much"
    cells[0, GRID - 1], cells[GRID // 2, GRID // 2] = 0.2, -0.1
    assert _told(cells) == "raised most at the top right (+0.20), lowered most at the centre (-0.10)"


def test_an_explanation_is_of_this_picture_and_piece(folder: Path) -> None:
    composer = Composer(folder)
    picture = Image.new("RGB", (64, 48), (250, 240, 60))
    picture.paste((5, 5, 20), (0, 0, 32, 48))
    piece = composer.compose(picture, seconds=5)
    explained = explain(composer, picture, piece)
    assert explained.seen == pytest.approx(piece.predicted, abs=1e-4)
    other = occluded(picture)[7]
    assert explained.regions[0].flat[7] == pytest.approx(
        explained.seen[0] - readings(composer, [other])[0, 0], abs=1e-5
    )
    assert explained.colours["warmth"][1] == "warm colours"
    assert "seen       " in str(explained)
    shares = [trait.below for trait in explained.traits]
    assert all(0 <= share <= 1 for share in shares)
    assert "most like  not known: this model folder names no rated pictures; --data names a data folder" in str(
        explained
    )
    near = Neighbour("a long name " * 9, 0.5, (0.3, -0.2), True)
    named = replace(explained, nearest=(near,))
    assert "  a long name " in str(named)
    assert f", likeness 0.50, rated {in_words((0.3, -0.2))}" in str(named)
    assert page(named, "it's") != page(explained, "it's")
    with Image.open(io.BytesIO(page(named, "it's"))) as made:
        assert made.size == (1200, 840)
        assert len(set(made.convert("L").resize((60, 42)).getdata())) > 20, "not blank"


def test_a_trait_in_words() -> None:
    assert str(Trait("notes a second", 5.123, 0.914, "dense")) == (
        "dense: 5.12 notes a second, more than 91 of 100 training pieces"
    )


@pytest.mark.slow
def test_the_command_writes_a_page_beside_the_picture(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (20, 120, 60)).save(tmp_path / "a b.png")
    done = huesong("explain", "a b.png", "--seconds", "5", "--model", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "page       a b-why.png" in done.stdout
    again = huesong("explain", "a b.png", "--seconds", "5", "--model", folder, cwd=tmp_path)
    assert again.returncode == 2
    assert "a b-why.png is already there" in again.stderr
    (tmp_path / "no.jpg").write_text("no picture")
    assert huesong("explain", "no.jpg", "--model", folder, cwd=tmp_path).returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b-why.png", "a b.png", "no.jpg"]
