"""Colour and texture statistics of a picture that are known to carry emotion.

Sources: P. Valdez, A. Mehrabian, "Effects of color on emotions", J. Exp. Psychology: General 123, 1994 (pleasure,
arousal, dominance from brightness B and saturation S); J. Machajdik, A. Hanbury, "Affective image classification using
features inspired by psychology and art theory", ACM Multimedia 2010 (which statistics to take); D. Hasler,
S. Suesstrunk, "Measuring colourfulness in natural images", SPIE 5007, 2003.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

LONGER_SIDE = 160
"""Pictures are brought to this size first: edges and texture must not depend on the resolution of the file."""
HUES = 12
"""Bins of the hue circle; bin 0 is centred on red, 4 on green, 8 on blue."""
EDGE = 0.1
"""Least gradient of brightness (a share of the full range a pixel) that counts as an edge."""
GREY = 2e-3
"""Mean chroma below which a picture counts as grey: what is left is compression noise."""
SCALES = (1, 2, 4, 8)
"""Radii in pixels of the blurs between which texture energy is taken."""

COLOUR_NAMES: tuple[str, ...] = (
    "brightness_mean", "brightness_sd", "brightness_p05", "brightness_p50", "brightness_p95", "brightness_entropy",
    "saturation_mean", "saturation_sd", "saturation_p90",
    "pleasure", "arousal", "dominance",
    "hue_cos", "hue_sin", "hue_concentration", "warmth",
    *(f"hue_{k:02d}" for k in range(HUES)),
    "colourfulness", "contrast", "edge_density", "gradient_mean",
    *(f"texture_{radius}" for radius in SCALES),
    "brightness_top_bottom", "brightness_centre_border", "saturation_top_bottom", "saturation_centre_border",
    "asymmetry",
)  # fmt: skip
"""Names of the numbers of `colours`, in order."""


def colours(image: Image.Image) -> np.ndarray:
    """The statistics COLOUR_NAMES of an RGB picture as float32 [K]; all finite.

    Brightness is luma (ITU-R 601) in [0, 1], saturation that of HSV. Hue statistics weigh a pixel by its chroma and
    are 0 for grey pictures; the histogram's bins share a pixel linearly, with the last and the first as neighbours.
    """
    scale = LONGER_SIDE / max(image.size)
    size = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
    rgb = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX), dtype=np.float32) / 255.0
    luma = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    high, low = rgb.max(axis=2), rgb.min(axis=2)
    chroma = high - low
    saturation = chroma / np.maximum(high, 1e-6)
    values = {
        **_brightness(luma),
        "saturation_mean": saturation.mean(),
        "saturation_sd": saturation.std(),
        "saturation_p90": np.quantile(saturation, 0.9),
        **_valdez_mehrabian(float(luma.mean()), float(saturation.mean())),
        **_hue(rgb, high, chroma),
        "colourfulness": _colourfulness(rgb),
        **_texture(luma),
        **_layout(luma, saturation),
    }
    assert tuple(sorted(values)) == tuple(sorted(COLOUR_NAMES))
    return np.array([values[name] for name in COLOUR_NAMES], dtype=np.float32)


def _brightness(luma: np.ndarray) -> dict[str, float]:
    p05, p50, p95 = np.quantile(luma, [0.05, 0.5, 0.95])
    share = np.histogram(luma, bins=32, range=(0.0, 1.0))[0] / luma.size
    share = share[share > 0]
    return {
        "brightness_mean": luma.mean(),
        "brightness_sd": luma.std(),
        "brightness_p05": p05,
        "brightness_p50": p50,
        "brightness_p95": p95,
        "brightness_entropy": -(share * np.log2(share)).sum() / 5.0,  # of 32 bins: 0..1
        "contrast": (p95 - p05) / (p95 + p05 + 1e-3),  # Michelson's, robust against single pixels
    }


def _valdez_mehrabian(brightness: float, saturation: float) -> dict[str, float]:
    """Pleasure, arousal and dominance by Valdez and Mehrabian's regressions on brightness and saturation in [0, 1]."""
    return {
        "pleasure": 0.69 * brightness + 0.22 * saturation,
        "arousal": -0.31 * brightness + 0.60 * saturation,
        "dominance": -0.76 * brightness + 0.32 * saturation,
    }


def _hue(rgb: np.ndarray, high: np.ndarray, chroma: np.ndarray) -> dict[str, float]:
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    step = np.maximum(chroma, 1e-6)
    sixths = np.select(
        [high == red, high == green],
        [((green - blue) / step) % 6.0, (blue - red) / step + 2.0],
        default=(red - green) / step + 4.0,
    )
    place = (sixths / 6.0 * HUES).ravel()
    weight = chroma.ravel().astype(np.float64)
    if weight.mean() < GREY:
        weight[:] = 0.0
    total = max(weight.sum(), 1e-6)
    left = np.floor(place).astype(int)
    share = place - left
    histogram = np.bincount(left % HUES, weight * (1 - share), HUES) + np.bincount(
        (left + 1) % HUES, weight * share, HUES
    )
    histogram = histogram / total
    angle = place * (2 * np.pi / HUES)
    cos, sin = (weight * np.cos(angle)).sum() / total, (weight * np.sin(angle)).sum() / total
    warm = np.cos(2 * np.pi * np.arange(HUES) / HUES - np.pi / 6)  # 1 at orange, -1 at azure
    return {
        "hue_cos": cos,
        "hue_sin": sin,
        "hue_concentration": float(np.hypot(cos, sin)),
        "warmth": float(histogram @ warm),
        **{f"hue_{k:02d}": float(histogram[k]) for k in range(HUES)},
    }


def _colourfulness(rgb: np.ndarray) -> float:
    """Hasler and Suesstrunk's M3 of RGB in [0, 1]: 0 = grey, 0.43 (their 109) = extremely colourful."""
    red_green = rgb[..., 0] - rgb[..., 1]
    yellow_blue = 0.5 * (rgb[..., 0] + rgb[..., 1]) - rgb[..., 2]
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))


def _texture(luma: np.ndarray) -> dict[str, float]:
    """Edges (central differences) and the energy lost from each blur to the next wider one."""
    down, right = np.gradient(luma)
    gradient = np.hypot(down, right)
    values: dict[str, float] = {"edge_density": (gradient > EDGE).mean(), "gradient_mean": gradient.mean()}
    sharper = luma
    for radius in SCALES:
        blurred = _box_blur(luma, radius)
        values[f"texture_{radius}"] = (sharper - blurred).std()
        sharper = blurred
    return values


def _box_blur(plane: np.ndarray, radius: int) -> np.ndarray:
    width = 2 * radius + 1
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(plane, padding, mode="edge"), axis=axis, dtype=np.float64)
        plane = (np.take(total, np.arange(width, total.shape[axis]), axis) - total.take(
            np.arange(total.shape[axis] - width), axis)) / width  # fmt: skip
    return plane


def _layout(luma: np.ndarray, saturation: np.ndarray) -> dict[str, float]:
    """Where light and colour are: top third against bottom third, the middle against the rest, mirror symmetry."""
    height, width = luma.shape
    third = max(1, height // 3)
    middle = np.zeros(luma.shape, dtype=bool)
    middle[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return {
        "brightness_top_bottom": luma[:third].mean() - luma[-third:].mean(),
        "brightness_centre_border": luma[middle].mean() - luma[~middle].mean(),
        "saturation_top_bottom": saturation[:third].mean() - saturation[-third:].mean(),
        "saturation_centre_border": saturation[middle].mean() - saturation[~middle].mean(),
        "asymmetry": np.abs(luma - luma[:, ::-1]).mean(),
    }
