"""What the numbers in a picture file mean: samples of any depth as 8 bits, and colours of any profile as sRGB.

A file says what its samples range over (bits, sign, smallest and largest sample), and how its colours are meant (an ICC
profile, or PNG's gamma). What it does not say is guessed as stated here.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""TIFF tags; photometric 0: white is zero; sample format 1 unsigned, 2 signed, 3 floating point."""
RANGES = ((340, 341), (280, 281))
"""TIFF tags of the smallest and the largest sample."""
SRGB_GAMMA = 1 / 2.2
HDR = 16.0
"""Floating-point samples whose largest is above 1 and at most this are light, not 0..255."""


def is_deep(image: Image.Image) -> bool:
    """Whether a picture that is not loaded yet has colours of 16 bits, of which Pillow keeps the upper 8."""
    return any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))


def eight_bits(image: Image.Image, deep: bool = False) -> Callable[[Image.Image], Image.Image]:
    """What makes 8 bits a sample of any part of a loaded picture; `deep`: see `is_deep`.

    Integers are scaled from the range that the file tells: smallest and largest sample, else the number of bits and the
    sign; 32-bit integers up to 65535 are 16-bit samples in a wider type. Floating point: up to 1 a share of full
    brightness; up to 16 light, tone-mapped by x / (1 + x) (Reinhard et al. 2002) and coded as sRGB; up to 255 as it is;
    above, divided by the largest.
    """
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image), nan=0.0, posinf=1.0, neginf=0.0)
        return _scaled(_float_curve(float(values.max(initial=0.0))))
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _with_key(image, _scaled(_integer_curve(image)))
    key = image.info.get("transparency")
    if isinstance(key, tuple) and deep:
        image.info["transparency"] = tuple(
            value >> 8 for value in key
        )  # the samples are 8 bits already, the key is not
    return lambda part: part


def _scaled(curve: Callable[[np.ndarray], np.ndarray]) -> Callable[[Image.Image], Image.Image]:
    def apply(part: Image.Image) -> Image.Image:
        values = curve(np.asarray(part).astype(np.float32))
        return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))

    return apply


def _with_key(image: Image.Image, scale: Callable[[Image.Image], Image.Image]) -> Callable[[Image.Image], Image.Image]:
    """`scale`, with the one grey that the file calls transparent as alpha."""
    key = image.info.pop("transparency", None)
    if not isinstance(key, int):
        return scale

    def apply(part: Image.Image) -> Image.Image:
        alpha = Image.fromarray(np.where(np.asarray(part) == key, 0, 255).astype(np.uint8))
        return Image.merge("LA", (scale(part), alpha))

    return apply


def _float_curve(largest: float) -> Callable[[np.ndarray], np.ndarray]:
    def finite(values: np.ndarray) -> np.ndarray:
        return np.maximum(np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0), 0.0)

    if largest <= 1.0:
        return lambda values: finite(values) * 255.0
    if largest <= HDR:
        return lambda values: 255.0 * (finite(values) / (1.0 + finite(values))) ** SRGB_GAMMA
    return lambda values: finite(values) * (255.0 / max(largest, 255.0))


def _integer_curve(image: Image.Image) -> Callable[[np.ndarray], np.ndarray]:
    tags: Any = getattr(image, "tag_v2", {})
    low, high = _integer_range(image, tags)
    scale = 255.0 / max(high - low, 1.0)
    if _number(tags, PHOTOMETRIC, 1) == 0 and image.mode != "I":  # Pillow turns 8-bit samples itself
        return lambda values: 255.0 - (values - low) * scale
    return lambda values: (values - low) * scale


def _integer_range(image: Image.Image, tags: Any) -> tuple[float, float]:
    for smallest, largest in RANGES:
        low, high = _number(tags, smallest), _number(tags, largest)
        if low is not None and high is not None and low < high:
            return low, high
    smallest_found, largest_found = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
    bits = int(_number(tags, BITS, 16 if image.mode != "I" else 32) or 16)
    if smallest_found < 0 or (bits <= 16 and _number(tags, SAMPLE_FORMAT, 1) == 2):
        if bits > 16 and max(-smallest_found, largest_found) <= 32768:
            bits = 16
        return -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    if bits > 16:
        return 0.0, 65535.0 if largest_found <= 65535 else 2.0**31 - 1
    return 0.0, 2.0**bits - 1


def _number(tags: Any, tag: int, default: float | None = None) -> float | None:
    """A tag's (first) value; the default where it is missing or no number."""
    value = tags.get(tag, default)
    try:
        return float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return default


def srgb(part: Image.Image, source: Image.Image) -> Image.Image:
    """A part of a picture, without transparency, as RGB in sRGB; `source` has the profile or gamma of the file.

    A profile that cannot be used (damaged, or of another kind of colours) is left out.
    """
    profile = source.info.get("icc_profile")
    if isinstance(profile, bytes) and profile:
        mode = {"1": "L", "P": "RGB", "LA": "L", "PA": "RGB", "RGBA": "RGB", "RGBX": "RGB"}.get(part.mode, part.mode)
        if (transform := _transform(profile, mode)) is not None:
            found: Image.Image = transform.apply(part.convert(mode))
            return found
        return part.convert("RGB")
    part = part.convert("RGB")
    gamma = source.info.get("gamma")
    told = "srgb" in source.info or source.format != "PNG"
    if told or not isinstance(gamma, float) or not 0.01 < gamma < 10 or abs(gamma / SRGB_GAMMA - 1) < 0.05:
        return part
    ramp = np.linspace(0, 1, 256) ** (SRGB_GAMMA / gamma)  # light = sample ^ (1 / gamma), coded anew
    return part.point([round(255 * value) for value in ramp] * 3)


@lru_cache(maxsize=4)
def _transform(profile: bytes, mode: str) -> Any:
    """The transform from an ICC profile to sRGB; None if it cannot be used."""
    try:
        ours = ImageCms.createProfile("sRGB")
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(theirs, ours, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
