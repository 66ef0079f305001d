"""What landscapes are made of: sky, sun, water, waves, hills and trees."""

from __future__ import annotations

import numpy as np

from huesong.data.sample.painting.canvas import Canvas, Point, Stroke, smoothstep


def sky(c: Canvas, horizon: float, sun: tuple[float, float] | None = None, clouds: float = 0.5) -> None:
    """Sky gradient, the sun's halo and clouds that are lit from the sun's side."""
    c.lab[:] = c.gradient([c["top"], c["mid"], c["low"]], [0, 0.55, 1], c.y / horizon)
    if sun is not None:
        c.fill(c.glow(*sun, 0.32), c["light"], 0.55)
        c.fill(c.glow(*sun, 0.11), c["light"], 0.6)
    depth = np.clip(c.y / horizon, 0, 1)
    shapes = c.noise(2.2, 3.2 + 3 * c.energy, 5, 0.52, fixed=True)
    cover = smoothstep(0.62 - 0.25 * clouds, 0.95 - 0.25 * clouds, shapes - 0.1 * depth)
    shade = np.roll(shapes, c.height // 40, axis=0)
    lit = np.clip((shapes - shade) * 6 + 0.5, 0, 1)[..., None]
    dark_side = c.mix("mid", "far", 0.6)
    c.fill(cover * (0.45 + 0.4 * clouds), dark_side + lit * (c["light"] - dark_side))


def sun_disc(c: Canvas, x: float, y: float, radius: float) -> None:
    """The sun or the moon itself."""
    c.fill(c.disc(x, y, radius, 0.006), c["light"])


def water(c: Canvas, horizon: float, sun_x: float | None, unrest: float) -> None:
    """Water below `horizon`: mirrored scene, deeper towards the viewer, ripples and the sun's glitter."""
    row = int(horizon * c.height)
    depth = c.height - row
    mirror = c.lab[np.clip(row - 1 - (np.arange(depth) * 0.9).astype(int), 0, c.height - 1)]
    t = np.linspace(0, 1, depth, dtype=np.float32)[:, None]
    ripples = c.noise(5, 60, 3)[row:]
    shift = ((ripples - 0.5) * (4 + 50 * unrest) * (0.3 + t)).astype(int)
    columns = np.clip(np.arange(c.width)[None, :] + shift, 0, c.width - 1)
    mirror = np.take_along_axis(mirror, columns[..., None], axis=1)
    deep = c["water"] + t[..., None] * 0.45 * (c["dark"] - c["water"])
    share = np.clip(0.62 - 0.45 * t - 0.25 * unrest, 0.08, 1)[..., None]
    layer = deep + share * (mirror - deep)
    layer[..., 0] += (ripples - 0.5) * (0.08 + 0.22 * unrest) * (0.4 + 0.6 * t)
    c.lab[row:] = layer
    if sun_x is not None:
        spread = 0.03 + 0.16 * t
        column = np.exp(-(((c.x - sun_x) * c.aspect) ** 2) / (2 * spread**2))
        sparkle = smoothstep(0.52, 0.72, c.noise(16, 90, 2)[row:]) * column
        full = np.zeros((c.height, c.width), np.float32)
        full[row:] = sparkle
        c.fill(full, c["light"], 0.85)


def waves(c: Canvas, horizon: float, count: int, height: float) -> None:
    """Rows of waves, light at the crest and dark in the trough, larger towards the viewer, with foam."""
    for i in range(count):
        t = (i + 1) / count
        y = horizon + (1.0 - horizon) * t**1.5 - 0.02
        size = height * (0.2 + 0.8 * t)
        swell = c.ridge(y, size, 4 + 7 * (1 - t), 3, 0.35)
        line = swell + size * 0.09 * np.sin(c.x * (40 - 16 * t) + c.layout.uniform(0, 6) + swell * 60)
        fall = np.clip((c.y - line) / (size * 1.6 + 0.02), 0, 1)[..., None]
        crest_paint = c.mix("water", "light", 0.28)
        layer = crest_paint + np.sqrt(fall) * (c.mix("water", "dark", 0.75) - crest_paint)
        layer[..., 0] += (c.noise(8, 40, 3) - 0.5) * 0.1
        c.fill(c.below(line.astype(np.float32), 0.006) * (1 - 0.45 * fall[..., 0]), layer, 0.85)
        foam = np.exp(-(((c.y - line - 0.006) / (0.004 + 0.012 * t * c.energy)) ** 2))
        lace = smoothstep(0.5 - 0.2 * c.energy, 0.75, c.noise(14, 24, 4))
        c.fill(foam * lace, c["light"], 0.55 + 0.35 * c.energy)


def hills(c: Canvas, rows: int, first: float, last: float, rough: float, jagged: float = 0.5) -> None:
    """Ranges from far to near with atmospheric perspective and light on one side."""
    for i in range(rows):
        t = i / max(rows - 1, 1)
        base = first + (last - first) * t
        line = c.ridge(base, rough * (1 - 0.35 * t), 2.2 + 2.2 * t, 6, 0.42 + 0.14 * jagged)
        body = c.below(line)
        paint = c["far"] + t * (c["near"] - c["far"])
        haze = c["low"] + np.zeros((c.height, c.width, 3), np.float32)
        layer = paint + (1 - t) * 0.5 * (haze - paint)
        slope = np.gradient(line[0]) * c.width
        lit = np.clip(slope * 0.35, -0.5, 0.5)[None, :] * np.exp(-np.clip(c.y - line, 0, None) * 9)
        texture = c.noise(16, 12, 4) - 0.5
        layer[..., 0] += lit * 0.16 + texture * 0.09 * (0.4 + t)
        mist = np.clip(c.y - line, 0, None) * 1.6 * (1 - t)
        layer += np.clip(mist, 0, 0.6)[..., None] * (c["low"] - layer)
        c.fill(body, layer)


def conifer(c: Canvas, x: float, foot: float, size: float) -> list[tuple[float, float]]:
    """Outline of a fir tree."""
    points = []
    tiers = 7
    for side in (-1, 1):
        order = range(tiers) if side < 0 else reversed(range(tiers))
        for tier in order:
            t = tier / tiers
            y = foot - size * (1 - t)
            wide = size * 0.2 * (t + 0.12) / c.aspect * c.detail.uniform(0.8, 1.2)
            pair = [(x + side * wide * 0.45, y), (x + side * wide, y + size * 0.1)]
            points += pair if side < 0 else pair[::-1]
    return points


def branches(
    c: Canvas, x: float, y: float, length: float, angle: float, depth: int
) -> tuple[list[Stroke], list[Point]]:
    """Strokes of a tree, grown from the trunk by branching, and the tips of its twigs."""
    end = (x + np.cos(angle) * length / c.aspect, y - np.sin(angle) * length)
    bend = ((x + end[0]) / 2 + c.layout.normal(0, 0.006), (y + end[1]) / 2)
    strokes: list[Stroke] = [([(x, y), bend, end], 0.0032 * 1.5**depth)]
    tips: list[Point] = [] if depth > 1 else [end]
    if depth:
        turns = (c.layout.uniform(0.25, 0.6), -c.layout.uniform(0.25, 0.6), c.layout.normal(0, 0.25))
        for turn in turns[: 2 + int(c.layout.random() < 0.4)]:
            grown, ends = branches(c, *end, length * c.layout.uniform(0.66, 0.84), angle + turn, depth - 1)
            strokes += grown
            tips += ends
    return strokes, tips
