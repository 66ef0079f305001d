import numpy as np
import pytest

from huesong.data.sample.pictures import (
    SCENES,
    SIZE,
    asked_brightness_saturation,
    brightness_saturation,
    grade,
    paint,
    pleasure_arousal,
)


def pixels(image) -> np.ndarray:
    return np.asarray(image, np.float32) / 255


def unrest(rgb: np.ndarray) -> float:
    grey = rgb.mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def redness(rgb: np.ndarray) -> float:
    return float((rgb[..., 0] - rgb[..., 2]).mean() / max(rgb.mean(), 1e-6))


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, list[np.ndarray]]:
    emotions = np.random.default_rng(1).uniform(-0.95, 0.95, (64, 2))
    return emotions, [pixels(paint(v, a, seed=i, size=(96, 72))) for i, (v, a) in enumerate(emotions)]


def test_valdez_and_mehrabian_is_in_the_pixels(pictures):
    emotions, images = pictures
    measured = np.array([pleasure_arousal(rgb) for rgb in images])
    assert np.corrcoef(emotions[:, 0], measured[:, 0])[0, 1] > 0.9
    assert np.corrcoef(emotions[:, 1], measured[:, 1])[0, 1] > 0.9
    assert abs(np.corrcoef(emotions[:, 0], measured[:, 1])[0, 1]) < 0.35


def test_arousal_is_in_contrast_and_unrest(pictures):
    emotions, images = pictures
    assert np.corrcoef(emotions[:, 1], [unrest(rgb) for rgb in images])[0, 1] > 0.4
    assert np.corrcoef(emotions[:, 1], [rgb.mean(axis=2).std() for rgb in images])[0, 1] > 0.25


def test_pictures_are_not_all_alike(pictures):
    _, images = pictures
    hues = [redness(rgb) for rgb in images]
    assert np.std(hues) > 0.1
    small = np.stack([rgb[::8, ::8].ravel() for rgb in images])
    distance = np.sqrt(((small[:, None] - small[None]) ** 2).mean(axis=-1)) + np.eye(len(small))
    assert distance.min() > 0.02


def test_formula():
    grey = np.full((4, 4, 3), 0.5, np.float32)
    assert brightness_saturation(grey) == pytest.approx((0.5, 0.0), abs=1e-6)
    assert pleasure_arousal(grey) == pytest.approx((0.345, -0.155), abs=1e-6)
    red = np.zeros((4, 4, 3), np.float32)
    red[..., 0] = 1
    assert pleasure_arousal(red) == pytest.approx((0.69 * 0.2126 + 0.22, -0.31 * 0.2126 + 0.60), abs=1e-5)


def test_asked_colours_solve_the_equations():
    brightness, saturation = asked_brightness_saturation(0.0, 0.0)
    assert 0.69 * brightness + 0.22 * saturation == pytest.approx(0.42)
    assert -0.31 * brightness + 0.60 * saturation == pytest.approx(0.05)
    assert asked_brightness_saturation(0.8, 0)[0] > brightness > asked_brightness_saturation(-0.8, 0)[0]
    assert asked_brightness_saturation(0, 0.8)[1] > saturation > asked_brightness_saturation(0, -0.8)[1]


def test_grading_reaches_its_target():
    rgb = np.random.default_rng(0).random((64, 64, 3), np.float32) * 0.6 + 0.1
    brightness, saturation = brightness_saturation(grade(rgb, 0.6, 0.2))
    assert brightness == pytest.approx(0.6, abs=0.02)
    assert saturation == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_paints_at_every_corner(scene):
    for valence, arousal in ((-0.95, -0.95), (-0.95, 0.95), (0.95, -0.95), (0.95, 0.95)):
        image = paint(valence, arousal, seed=4, size=(48, 36), scene=scene)
        assert image.mode == "RGB"
        assert image.size == (48, 36)
        assert pixels(image).std() > 0.01


def test_same_seed_same_pixels():
    first, second, other = (paint(0.3, 0.3, seed=s) for s in (1, 1, 2))
    assert first.size == SIZE
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != other.tobytes()


def test_one_layout_in_two_lights_is_one_composition():
    def shape(valence: float, arousal: float, seed: int, layout: int) -> np.ndarray:
        """The picture without its light: grey and standardised."""
        grey = pixels(paint(valence, arousal, seed, scene="snow", layout_seed=layout)).mean(axis=2)[60:]
        return ((grey - grey.mean()) / grey.std()).ravel()

    day, dusk, elsewhere = shape(0.5, -0.4, 1, 3), shape(-0.4, -0.8, 2, 3), shape(-0.4, -0.8, 2, 5)
    assert np.corrcoef(day, dusk)[0, 1] > 0.5
    assert np.corrcoef(day, dusk)[0, 1] > np.corrcoef(day, elsewhere)[0, 1] + 0.2


@pytest.mark.parametrize("arguments", [(1.5, 0.0, 0), (0.0, float("nan"), 0)])
def test_refuses_what_it_cannot_paint(arguments):
    with pytest.raises(ValueError):
        paint(*arguments)


def test_unknown_scene_names_the_known_ones():
    with pytest.raises(ValueError, match="choose one of sea"):
        paint(0, 0, 0, scene="moon base")
