"""Colour statistics follow the literature's signs, and are finite and reproducible for any picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from huesong.pictures.colours import COLOUR_NAMES, HUES, colours
from tests.examples import examples


def named(image: Image.Image) -> dict[str, float]:
    return dict(zip(COLOUR_NAMES, colours(image).tolist(), strict=True))


def plain(colour: str | tuple[int, int, int]) -> dict[str, float]:
    return named(Image.new("RGB", (50, 30), colour))


def noise(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (96, 128, 3), dtype=np.uint8))


def test_one_number_a_name() -> None:
    values = colours(noise())
    assert values.shape == (len(COLOUR_NAMES),)
    assert values.dtype == np.float32
    assert len(set(COLOUR_NAMES)) == len(COLOUR_NAMES)


def test_valdez_and_mehrabian() -> None:
    """Brightness pleases and calms; saturation pleases and excites; darkness dominates."""
    pale, deep, dark = plain((255, 200, 200)), plain((255, 0, 0)), plain((60, 40, 40))
    assert pale["pleasure"] > dark["pleasure"]
    assert deep["arousal"] > pale["arousal"]
    assert dark["dominance"] > pale["dominance"]
    white = plain("white")
    assert (white["pleasure"], white["arousal"], white["dominance"]) == pytest.approx((0.69, -0.31, -0.76), abs=1e-4)


@pytest.mark.parametrize(("colour", "bin_"), [((255, 0, 0), 0), ((0, 255, 0), HUES // 3), ((0, 0, 255), 2 * HUES // 3)])
def test_hue_histogram(colour: tuple[int, int, int], bin_: int) -> None:
    got = plain(colour)
    assert got[f"hue_{bin_:02d}"] == pytest.approx(1.0)
    assert got["hue_concentration"] == pytest.approx(1.0)
    angle = 2 * np.pi * bin_ / HUES
    assert (got["hue_cos"], got["hue_sin"]) == pytest.approx((np.cos(angle), np.sin(angle)), abs=1e-5)


def test_the_hue_circle_is_closed() -> None:
    """Hues just left and right of red lie side by side, not at the two ends."""
    one, other = plain((255, 0, 20)), plain((255, 20, 0))
    assert abs(one["hue_cos"] - other["hue_cos"]) < 0.01
    assert one["hue_00"] > 0.8
    assert other["hue_00"] > 0.8
    assert one["hue_11"] == pytest.approx(other["hue_01"], abs=1e-5)


def test_grey_has_no_hue() -> None:
    got = plain((120, 120, 120))
    assert sum(got[f"hue_{k:02d}"] for k in range(HUES)) == 0
    assert got["hue_concentration"] == got["warmth"] == got["colourfulness"] == 0
    assert plain("orange")["warmth"] > 0.9
    assert plain("deepskyblue")["warmth"] < -0.7


def test_texture_and_edges() -> None:
    flat, rough = plain("teal"), noise()
    smooth = named(rough.filter(ImageFilter.GaussianBlur(4)))
    busy = named(rough)
    assert flat["edge_density"] == flat["texture_1"] == 0
    assert busy["edge_density"] > smooth["edge_density"]
    assert busy["texture_1"] > 4 * smooth["texture_1"]
    assert smooth["texture_1"] < smooth["texture_4"], "what is left after a blur is coarse"
    assert busy["colourfulness"] > smooth["colourfulness"] > flat["colourfulness"] - 1


def test_layout() -> None:
    image = Image.new("RGB", (60, 60), "black")
    image.paste("white", (0, 0, 60, 30))
    got = named(image)
    assert got["brightness_top_bottom"] == pytest.approx(1.0)
    assert got["asymmetry"] == pytest.approx(0.0)
    assert named(image.rotate(90))["asymmetry"] == pytest.approx(1.0)
    spot = Image.new("RGB", (60, 60), "black")
    spot.paste("white", (20, 20, 40, 40))
    assert named(spot)["brightness_centre_border"] > 0.4


def test_the_resolution_of_the_file_hardly_matters() -> None:
    small = Image.fromarray(np.random.default_rng(1).integers(0, 255, (6, 8, 3), dtype=np.uint8))
    one = colours(small.resize((160, 120), Image.Resampling.BICUBIC))
    two = colours(small.resize((640, 480), Image.Resampling.BICUBIC))
    assert np.abs(one - two).max() < 0.05


@examples(40)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 1000))
def test_any_size_gives_finite_numbers_within_bounds(width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    values = colours(Image.fromarray(pixels))
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 1.01
