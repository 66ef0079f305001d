"""Painted pictures whose valence and arousal are known by construction.

Valdez & Mehrabian (1994), Effects of color on emotions, Journal of Experimental Psychology: General 123(4), 394-409:

    pleasure =  .69 brightness + .22 saturation
    arousal  = -.31 brightness + .60 saturation

Brightness and saturation (each in [0, 1]) are taken as Machajdik & Hanbury (2010, ACM Multimedia, 83-92) take them for
pictures: luminance and max(R, G, B) - min(R, G, B). The two equations are solved for the brightness and saturation
that an emotion asks for, and the finished painting is graded towards them. Hue adds to it: red arouses more than blue
and green (Wilms & Oberfeld 2018, Psychological Research 82, 896-914); so does complexity (Berlyne 1971, Aesthetics and
Psychobiology): contrast, number of shapes and unrest rise with arousal.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from huesong.data.sample.painting.abstracts import ABSTRACTS
from huesong.data.sample.painting.canvas import Array, Canvas, to_rgb
from huesong.data.sample.painting.landscapes import LANDSCAPES
from huesong.data.sample.painting.nocturnes import NOCTURNES

SIZE = (256, 192)
SCENES = {**LANDSCAPES, **NOCTURNES, **ABSTRACTS}
"""Scene name -> (painter, valence, arousal where the scene is most at home)."""

PLEASURE = (0.69, 0.22)
AROUSAL = (-0.31, 0.60)
PLEASURE_CENTRE, PLEASURE_SPAN = 0.42, 0.24
AROUSAL_CENTRE, AROUSAL_SPAN = 0.05, 0.13
"""What valence and arousal of 0 and the steps to 1 mean on the two equations' scales: as far as pixels can go."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
FIDELITY = 0.85
"""How far a painting is moved from its own to the asked brightness and saturation (1 = all the way)."""


def brightness_saturation(rgb: Array) -> tuple[float, float]:
    """Mean luminance and mean saturation of [H, W, 3] pixels in [0, 1]."""
    return float((rgb @ LUMINANCE).mean()), float((rgb.max(axis=-1) - rgb.min(axis=-1)).mean())


def pleasure_arousal(rgb: Array) -> tuple[float, float]:
    """Valdez & Mehrabian's pleasure and arousal of [H, W, 3] pixels in [0, 1] (their scales, not [-1, 1])."""
    brightness, saturation = brightness_saturation(rgb)
    return (
        PLEASURE[0] * brightness + PLEASURE[1] * saturation,
        AROUSAL[0] * brightness + AROUSAL[1] * saturation,
    )


def asked_brightness_saturation(valence: float, arousal: float) -> tuple[float, float]:
    """The brightness and saturation that carry an emotion in [-1, 1], kept within what looks like a picture."""
    wanted = np.array([PLEASURE_CENTRE + PLEASURE_SPAN * valence, AROUSAL_CENTRE + AROUSAL_SPAN * arousal])
    brightness, saturation = np.linalg.solve(np.array([PLEASURE, AROUSAL]), wanted)
    return float(np.clip(brightness, 0.14, 0.88)), float(np.clip(saturation, 0.03, 0.72))


def grade(rgb: Array, brightness: float, saturation: float) -> Array:
    """Bring mean luminance (by gamma) and mean saturation (by scaling the chroma) to given values.

    Args:
        rgb: float32 [H, W, 3] in [0, 1].
    """
    small = rgb[::4, ::4]
    gamma, chroma = 1.0, 1.0
    for _ in range(12):
        b, s = brightness_saturation(_graded(small, gamma, chroma))
        gamma *= np.log(np.clip(brightness, 0.02, 0.98)) / np.log(np.clip(b, 0.02, 0.98))
        chroma *= (saturation / max(s, 1e-3)) ** 0.8
        gamma, chroma = float(np.clip(gamma, 0.25, 4)), float(np.clip(chroma, 0.05, 4))
    return _graded(rgb, gamma, chroma)


def _graded(rgb: Array, gamma: float, chroma: float) -> Array:
    toned = rgb**gamma
    grey = (toned @ LUMINANCE)[..., None]
    gain: Array | float = chroma
    if chroma > 1:  # dull pixels gain most: no neon
        vivid = (toned.max(axis=-1) - toned.min(axis=-1))[..., None]
        gain = 1 + (chroma - 1) * (1 - vivid)
    return np.clip(grey + gain * (toned - grey), 0, 1)


def scene_for(valence: float, arousal: float, rng: np.random.Generator) -> str:
    """A scene at home near an emotion (nearer ones are likelier)."""
    names = list(SCENES)
    square = np.array([(SCENES[n][1] - valence) ** 2 + (SCENES[n][2] - arousal) ** 2 for n in names])
    weight = np.exp(-square / 0.12) + 1e-6
    return names[int(rng.choice(len(names), p=weight / weight.sum()))]


def paint(
    valence: float,
    arousal: float,
    seed: int,
    size: tuple[int, int] = SIZE,
    scene: str | None = None,
    layout_seed: int | None = None,
) -> Image.Image:
    """Paint a picture that carries an emotion by brightness, saturation, hue, contrast and unrest.

    Args:
        valence, arousal: the emotion, each in [-1, 1].
        seed: everything free in the picture follows from it; the same arguments give the same pixels.
        size: width and height in pixels.
        scene: a name of SCENES (default: one at home near the emotion).
        layout_seed: pictures with the same scene and layout seed share their composition (default: `seed`).

    Returns:
        An RGB image.

    Raises:
        ValueError: an emotion outside [-1, 1] or an unknown scene.
    """
    if not (-1 <= valence <= 1 and -1 <= arousal <= 1):
        raise ValueError(f"valence {valence} and arousal {arousal} must lie in [-1, 1]")
    name = scene or scene_for(valence, arousal, np.random.default_rng([seed, 10]))
    if name not in SCENES:
        raise ValueError(f"unknown scene '{name}': choose one of {', '.join(SCENES)}")
    layout = seed if layout_seed is None else layout_seed
    canvas = Canvas(2 * size[0], 2 * size[1], valence, arousal, layout, seed)
    SCENES[name][0](canvas)
    canvas.warp(0.002 + 0.003 * canvas.energy, 26)
    contrast = 0.85 + 0.4 * canvas.energy
    middle = canvas.lab[..., :1].mean()
    canvas.lab[..., :1] = middle + contrast * (canvas.lab[..., :1] - middle)
    canvas.brush()
    rgb = to_rgb(canvas.lab)
    rgb = rgb.reshape(size[1], 2, size[0], 2, 3).mean(axis=(1, 3))  # supersampled: 2 x 2 pixels make one
    own = brightness_saturation(rgb)
    asked = asked_brightness_saturation(valence, arousal)
    target = [o + FIDELITY * (a - o) for o, a in zip(own, asked, strict=True)]
    rgb = grade(rgb, target[0], target[1])
    return Image.fromarray((rgb * 255).round().astype(np.uint8))
