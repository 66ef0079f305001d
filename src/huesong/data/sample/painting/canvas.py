"""Paint, canvas and palettes of the sample pictures: vectorised numpy, colours mixed in OKLab.

Arrays are float32: `canvas` is [H, W, 3] in OKLab, a mask is [H, W] in [0, 1]. Positions are relative to the
picture (x to the right, y down, 0 to 1). Palettes hold colours for roles (sky, far, near, light ...), each made by eye
for one region of the valence-arousal square; `pictures.grade` afterwards brings brightness and saturation to
what Valdez & Mehrabian (1994) ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.floating[Any]]
Point = tuple[float, float]
Stroke = tuple[Sequence[Point], float]
"""The points of a polyline and its width relative to the picture's height."""

ROLES = ("top", "mid", "low", "light", "far", "near", "dark", "accent", "accent2", "water")
PALETTES: dict[str, tuple[float, float, str]] = {
    # name: valence, arousal, colours of ROLES
    "summer": (0.7, 0.5, "1f7fe0 5fb8ff ffe7a3 fff3c0 5aa6a0 3fae49 1d5c2e ff4f3a ffc72e 17a2c8"),
    "tropic": (0.85, 0.75, "0090e0 29c5f6 ffd36b fff0a8 00a39a 2fc14f 0a6b4a ff3d7f ff9d0a 00b5c9"),
    "fiesta": (0.6, 0.9, "ff7a1a ffa62b ffe14d fff7b0 e8467c d7263d 7a1040 00b8a9 3d5aff ff8f3f"),
    "golden": (0.5, 0.3, "4a8fd6 ffb56b ffdf8a fff2b8 c98a5f 8a9a3b 5a4a1f f25c2a ffd23f e8a35c"),
    "spring": (0.8, 0.1, "58b4f0 9fdcff fdf5c9 fffbe0 8fc7a8 7cc84d 3d7d34 ff6fa3 ffd93d 5cc2d9"),
    "orchid": (0.35, 0.6, "3b3fd0 b04fd8 ff9fb0 ffe6c8 7a4fc0 d0408f 3c1a6a ff5a3c ffd040 5a5fe0"),
    "dawn": (0.6, -0.5, "a9c7e8 d8d9ee fde3cf fff6e3 b9bfd4 a5c0a3 6f8f86 f3a6a0 f7d9a0 b7d3e3"),
    "pastel": (0.85, -0.8, "cfe3f2 e9e6f3 fdeee6 fffaf0 d3d6e4 c6d8c0 93aa9c f2c2c4 f6e5b5 cfe2ea"),
    "mint": (0.6, -0.2, "8fd0e0 c3ebe4 f5f5d8 fffbe8 9ccfbf 8cc59a 4f8f7d f4a58a ffe08a 8ed3d6"),
    "rose": (0.35, -0.6, "b9a9cf e2c1cf f9dcc7 fff1de b7a4bd a3a98f 6c6a6f e2899a f0c58d c4b5cf"),
    "apricot": (0.5, -0.85, "e3d3c3 f3e2cc fff0da fffaee d6c7b8 c9bfa0 94866f eab692 f3dca6 dcd6cc"),
    "autumn": (0.1, 0.1, "7d9db5 c9c2a8 f0d9a6 fff0c4 94897a a8682f 4e3a2a c9462b e0a030 7d98a0"),
    "dusk": (0.0, 0.35, "2b2d6b 8a4a8f f2845c ffd08a 5b3f75 3a2d55 1b1838 ff6b4a ffc857 4a3f7d"),
    "overcast": (0.0, -0.45, "8d9aa8 aab3ba cfd2cc ecebe0 8f9a9f 75806f 4b524c a3705f c2ae82 8396a0"),
    "heath": (-0.1, -0.1, "5f7288 9a8fa0 d3b8a6 efdcc4 74708a 6a6a4a 35352c 96526a c09a52 66788c"),
    "fog": (-0.5, -0.75, "6f7880 8b9297 a7aaa8 bfc0ba 858c90 62676a 3f4447 6e5f66 8a8478 737c83"),
    "slate": (-0.5, -0.4, "2c3a52 4a5a73 7d8796 a5abb2 455168 2f3848 1a202c 5a4d66 8c8272 3b495e"),
    "winter": (-0.85, -0.7, "1c222b 323a45 555d66 82888c 2d343d 20252c 12151a 4a4048 66604f 2a313a"),
    "mire": (-0.7, -0.25, "3a3f3a 565a50 7a786a 9a9684 4b4f4a 383a34 1f211d 5f4a3f 7a6f4a 43483f"),
    "inferno": (-0.7, 0.85, "16060a 5c0d10 d2341a ff8a2a 3a0a10 22060a 0b0305 ff3b14 ff9d1f 5a0c12"),
    "blood": (-0.85, 0.5, "1a0f1c 4a1628 8e1f2a d9483a 2d1020 1c0a14 0c050a c2182a e8722a 3a1024"),
    "toxic": (-0.55, 0.6, "0f1a14 23452a 7a8f1f cfe03a 1c3320 12211a 070d0a b8d61a e0581a 1f3d2a"),
    "electric": (-0.3, 0.85, "0a0a2a 2a1466 7a1fa0 e03ad0 1c0f4a 120a33 06041a ff2a6f 2ae0ff 24127a"),
    "tempest": (-0.5, 0.3, "141c2c 2c3a5a 5a5f8a c0b8e0 222c45 171e30 0a0e18 8a2a4a d0a02a 1f3050"),
    "rust": (-0.2, 0.5, "2a2430 7a3a34 d0683a f5b060 5a3038 401f20 1a0e12 e0401f f0a030 5c3038"),
}

_TO_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]], np.float32,
)  # fmt: skip
_TO_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]], np.float32,
)  # fmt: skip


def to_lab(rgb: Array) -> Array:
    """OKLab of gamma-encoded sRGB in [0, 1] (Ottosson 2020); last axis 3."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return (np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T).astype(np.float32)


def to_rgb(lab: Array) -> Array:
    """Gamma-encoded sRGB in [0, 1] of OKLab; out-of-gamut colours are clipped."""
    lms = (lab @ np.linalg.inv(_TO_LAB).T) ** 3
    linear = np.clip(lms @ np.linalg.inv(_TO_LMS).T, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


def colour(text: str) -> Array:
    """OKLab of a hexadecimal colour."""
    return to_lab(np.array([int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)], np.float32))


class Canvas:
    """A picture in the making.

    Attributes:
        lab: float32 [H, W, 3], OKLab.
        x, y: float32 [1, W] and [H, 1], relative positions; `aspect` = W / H.
        layout: random generator of the composition (shared by the pictures of one group).
        detail: random generator of texture and small things.
        energy: arousal mapped to [0, 1].
    """

    def __init__(self, width: int, height: int, valence: float, arousal: float, layout: int, seed: int) -> None:
        self.width, self.height = width, height
        self.aspect = width / height
        self.valence, self.arousal = valence, arousal
        self.energy = (arousal + 1) / 2
        self.layout = np.random.default_rng([layout, 11])
        self.detail = np.random.default_rng([seed, 12])
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) / width)[None, :]
        self.y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
        self.lab = np.zeros((height, width, 3), np.float32)
        self.palette = choose_palette(valence, arousal, self.detail)

    def __getitem__(self, role: str) -> Array:
        return self.palette[role]

    def draw(self, low: float, high: float) -> float:
        """A number of the composition, the same in all pictures of a group."""
        return float(self.layout.uniform(low, high))

    def accents(self) -> list[Array]:
        """The colours that abstract shapes are drawn from."""
        return [self[r] for r in ("accent", "accent2", "near", "water", "top", "low", "far", "light", "dark")]

    def mix(self, first: str, second: str, t: float) -> Array:
        """A colour between two roles."""
        return self[first] + np.float32(t) * (self[second] - self[first])

    # --- masks -----------------------------------------------------------------------------------

    def noise(self, across: float, down: float, octaves: int = 4, gain: float = 0.5, fixed: bool = False) -> Array:
        """Fractal noise in [0, 1] with `across` x `down` blobs in its first octave.

        Args:
            fixed: draw from the layout's generator (the same in all pictures of a group).
        """
        # a generator of its own: how much noise is drawn must not move what the layout draws next
        rng = np.random.default_rng(int(self.layout.integers(2**31))) if fixed else self.detail
        total = np.zeros((self.height, self.width), np.float32)
        weight = 1.0
        for octave in range(octaves):
            size = (max(round(across * 2**octave) + 3, 4), max(round(down * 2**octave) + 3, 4))
            grid = Image.fromarray(rng.random((size[1], size[0]), np.float32))
            box = (1.0, 1.0, size[0] - 1.0, size[1] - 1.0)
            total += weight * np.asarray(grid.resize((self.width, self.height), Image.Resampling.BICUBIC, box))
            weight *= gain
        low, high = float(total.min()), float(total.max())
        return (total - low) / (high - low)

    def ridge(self, base: float, amplitude: float, cells: float, octaves: int = 5, gain: float = 0.5) -> Array:
        """A skyline [1, W] in relative height: fractal noise of one dimension around `base`."""
        line = np.zeros(self.width, np.float32)
        weight, total = 1.0, 0.0
        for octave in range(octaves):
            count = max(round(cells * 2**octave) + 4, 5)
            knots = self.layout.random(count) - 0.5
            at = np.linspace(1, count - 2, self.width)
            i = np.clip(at.astype(int), 1, count - 3)
            t = at - i
            smooth = t * t * (3 - 2 * t)
            line += (weight * (knots[i] * (1 - smooth) + knots[i + 1] * smooth)).astype(np.float32)
            total += weight
            weight *= gain
        return (base + amplitude * line / total * 2)[None, :].astype(np.float32)

    def below(self, line: Array | float, soft: float = 0.004) -> Array:
        """Mask of what lies below a skyline."""
        return smoothstep(-soft, soft, self.y - line) * np.ones_like(self.x)

    def disc(self, x: float, y: float, radius: float, soft: float = 0.004) -> Array:
        """Mask of a disc; the radius is relative to the picture's height."""
        r = np.hypot((self.x - x) * self.aspect, self.y - y)
        return 1 - smoothstep(radius - soft, radius + soft, r)

    def glow(self, x: float, y: float, radius: float) -> Array:
        """A soft halo that falls off like a Gaussian."""
        square = ((self.x - x) * self.aspect) ** 2 + (self.y - y) ** 2
        return np.exp(-square / (2 * radius**2)).astype(np.float32)

    def shape(self, points: Sequence[Point]) -> Array:
        """Mask of a polygon."""
        return self.shapes([points])

    def shapes(self, polygons: Sequence[Sequence[Point]]) -> Array:
        """Mask of several polygons."""
        image = Image.new("L", (self.width, self.height))
        draw = ImageDraw.Draw(image)
        for points in polygons:
            draw.polygon([(px * self.width, py * self.height) for px, py in points], fill=255)
        return np.asarray(image, np.float32) / 255

    def lines(self, strokes: Sequence[Stroke]) -> Array:
        """Mask of polylines: (points, width relative to the picture's height) each."""
        image = Image.new("L", (self.width, self.height))
        draw = ImageDraw.Draw(image)
        for points, thickness in strokes:
            path = [(px * self.width, py * self.height) for px, py in points]
            draw.line(path, fill=255, width=max(round(thickness * self.height), 1), joint="curve")
        return np.asarray(image, np.float32) / 255

    # --- painting --------------------------------------------------------------------------------

    def fill(self, mask: Array | float, paint: Array, opacity: float = 1.0) -> None:
        """Blend a colour ([3]) or a painted layer ([H, W, 3]) over the canvas."""
        m = np.asarray(mask, np.float32) * np.float32(opacity)
        self.lab += (m[..., None] if m.ndim else m) * (paint - self.lab)

    def gradient(self, colours: Sequence[Array], stops: Sequence[float], along: Array | None = None) -> Array:
        """A layer [H, W, 3] that runs through `colours` at `stops` (by default from top to bottom)."""
        t = (self.y if along is None else along) * np.ones_like(self.x)
        table = np.stack([np.interp(np.linspace(0, 1, 1024), stops, [c[k] for c in colours]) for k in range(3)], 1)
        return table.astype(np.float32)[np.clip((t * 1023).astype(int), 0, 1023)]

    def daub(self, polygons: Sequence[Sequence[Point]], paints: Sequence[Array]) -> None:
        """Opaque polygons, each in its own colour, in one pass."""
        rgb = (to_rgb(self.lab) * 255).round().astype(np.uint8)
        image = Image.fromarray(rgb)
        draw = ImageDraw.Draw(image)
        for points, paint in zip(polygons, paints, strict=True):
            r, g, b = (int(v) for v in (to_rgb(paint) * 255).round())
            draw.polygon([(px * self.width, py * self.height) for px, py in points], fill=(r, g, b))
        changed = np.asarray(image)
        where = (changed != rgb).any(axis=2)
        self.lab[where] = to_lab(changed[where].astype(np.float32) / 255)

    def warp(self, amount: float, cells: float) -> None:
        """Displace the canvas by smooth noise of `amount` (relative to the height): a hand that is not a ruler."""
        dx = (self.noise(cells * self.aspect, cells, 2) - 0.5) * amount * self.height * 2
        dy = (self.noise(cells * self.aspect, cells, 2) - 0.5) * amount * self.height * 2
        rows = np.clip(np.arange(self.height)[:, None] + dy, 0, self.height - 1).round().astype(int)
        columns = np.clip(np.arange(self.width)[None, :] + dx, 0, self.width - 1).round().astype(int)
        self.lab = self.lab[rows, columns]

    def brush(self) -> None:
        """Bristles: streaks along bending strokes and a grain of canvas, stronger with energy."""
        strength = 0.02 + 0.05 * self.energy
        bend = (self.noise(4, 3, 2) - 0.5) * 0.2 * self.height
        rows = np.clip(np.arange(self.height)[:, None] + bend, 0, self.height - 1).astype(int)
        streaks = self.noise(9, 90, 2)[rows, np.arange(self.width)[None, :]] - 0.5
        patches = smoothstep(0.3, 0.7, self.noise(5, 4, 2))
        grain = self.noise(110, 80, 1) - 0.5
        self.lab[..., 0] += strength * (0.9 * streaks * patches + 0.3 * grain) * (0.35 + self.lab[..., 0])


def smoothstep(low: float, high: float, value: Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def choose_palette(valence: float, arousal: float, rng: np.random.Generator) -> dict[str, Array]:
    """One of the palettes near an emotion (nearer ones are likelier), with a slight turn of its hues."""
    names = list(PALETTES)
    square = np.array([(PALETTES[n][0] - valence) ** 2 + (PALETTES[n][1] - arousal) ** 2 for n in names])
    weight = np.exp(-square / 0.045) + 1e-9
    text = PALETTES[names[int(rng.choice(len(names), p=weight / weight.sum()))]][2]
    angle = rng.normal(0, 0.12)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]], np.float32)
    return {role: turn @ colour(c) for role, c in zip(ROLES, text.split(), strict=True)}
