"""Abstract compositions of the sample set: colour fields, grids, circles, shards, mosaics and others.

Arrangements of the project's own in the manner of abstract painting; unrest (number, size and tilt of the shapes)
follows the canvas's energy, colours its palette.
"""

from __future__ import annotations

import numpy as np

from huesong.data.sample.painting.canvas import Canvas, smoothstep


def ground(c: Canvas, first: str = "low", second: str = "mid") -> None:
    """A mottled ground between two colours."""
    t = c.noise(2, 2, 4)
    c.lab[:] = c[first] + (0.25 + 0.5 * t)[..., None] * (c[second] - c[first])


def polygon(c: Canvas, x: float, y: float, radius: float, corners: int, angle: float) -> list[tuple[float, float]]:
    """A regular polygon."""
    return [
        (x + radius * np.cos(angle + k) / c.aspect, y + radius * np.sin(angle + k))
        for k in np.linspace(0, 2 * np.pi, corners, endpoint=False)
    ]


def fields(c: Canvas) -> None:
    """Two to four soft rectangles of colour that float on a ground."""
    c.lab[:] = c["mid"]
    c.lab[..., 0] += (c.noise(3, 3, 4) - 0.5) * 0.06
    count = int(c.layout.integers(2, 5))
    heights = c.layout.dirichlet(np.full(count, 3.0)) * 0.86
    roles = c.layout.permutation(["top", "low", "accent", "near", "far", "water", "accent2"])
    y = 0.06
    for role, height in zip(roles, heights.tolist(), strict=False):
        wobble = (c.noise(5, 5, 4) - 0.5) * (0.05 + 0.05 * c.energy)
        soft = 0.035 - 0.018 * c.energy
        box = smoothstep(0, soft * 2, c.x - 0.07 + wobble) * smoothstep(0, soft * 2, 0.93 - c.x + wobble)
        box = (
            box * smoothstep(0, soft * 2, c.y - y + wobble) * smoothstep(0, soft * 2, y + height - 0.015 - c.y + wobble)
        )
        wash = 0.78 + 0.22 * c.noise(4, 4, 5, 0.6)
        c.fill(box * wash, c[str(role)])
        y += height


def grid(c: Canvas) -> None:
    """A lattice of dark bars with some cells in pure colour."""
    c.lab[:] = c["light"] + 0.25 * (c["low"] - c["light"])
    count = 3 + int(5 * c.energy)
    xs = [0.0, *np.sort(c.layout.random(count)).tolist(), 1.0]
    ys = [0.0, *np.sort(c.layout.random(count - 1)).tolist(), 1.0]
    paints = [c["accent"], c["accent2"], c["top"], c["dark"], c["near"]]
    boxes, colours = [], []
    for i in range(len(xs) - 1):
        for j in range(len(ys) - 1):
            pick = int(c.layout.integers(0, 11 - int(4 * c.energy)))
            if pick < len(paints):
                boxes.append([(xs[i], ys[j]), (xs[i + 1], ys[j]), (xs[i + 1], ys[j + 1]), (xs[i], ys[j + 1])])
                colours.append(paints[pick])
    c.daub(boxes, colours)
    bars = [([(x, 0), (x, 1)], 0.014 + 0.014 * c.energy) for x in xs[1:-1]]
    bars += [([(0, y), (1, y)], 0.014 + 0.014 * c.energy) for y in ys[1:-1]]
    c.fill(c.lines(bars), c["dark"])


def circles(c: Canvas) -> None:
    """Circles, rings, triangles, chequers and lines in a free balance on a light or dark ground."""
    ground(c, "low", "mid")
    x, y = c.draw(0.25, 0.4), c.draw(0.3, 0.45)
    radius = c.draw(0.17, 0.24)
    c.fill(c.glow(x, y, radius * 1.1), c["accent2"], 0.6)
    for k, role in enumerate(("dark", "accent", "water", "light")):
        c.fill(c.disc(x, y, radius * (1 - 0.25 * k)), c[role], 0.95)
    paints = c.accents()
    polygons, colours = [], []
    for _ in range(4 + int(10 * c.energy)):
        px, py = c.layout.random(2).tolist()
        size = c.draw(0.03, 0.13)
        polygons.append(polygon(c, px, py, size, int(c.layout.choice([3, 3, 4, 24])), c.draw(0, 6)))
        colours.append(paints[int(c.layout.integers(0, len(paints)))])
    c.daub(polygons, colours)
    strokes = []
    for _ in range(4 + int(9 * c.energy)):
        px, py = c.layout.random(2).tolist()
        a = c.draw(0, np.pi)
        reach = c.draw(0.15, 0.5)
        strokes.append(([(px, py), (px + reach * np.cos(a) / c.aspect, py - reach * np.sin(a))], c.draw(0.003, 0.012)))
    arc = c.draw(0.5, 0.8)
    for k in range(3):
        t = np.linspace(0.1, 1.7, 30)
        strokes.append(
            ([(arc + (0.2 + 0.04 * k) * np.cos(u), 0.9 - (0.3 + 0.05 * k) * np.sin(u)) for u in t.tolist()], 0.006)
        )
    c.fill(c.lines(strokes), c["dark"], 0.9)
    bx, by, cell = c.draw(0.6, 0.8), c.draw(0.15, 0.6), 0.035
    board = [
        [(bx + (i + u) * cell / c.aspect, by + (j + v) * cell) for u, v in ((0, 0), (1, 0.2), (1, 1.2), (0, 1))]
        for i in range(5) for j in range(5) if (i + j) % 2
    ]  # fmt: skip
    c.fill(c.shapes(board), c["dark"])


def rings(c: Canvas) -> None:
    """Overlapping wheels of concentric arcs, cut into quarters of changing colour."""
    ground(c, "low", "light")
    paints = np.stack(c.accents())
    for _ in range(3 + int(3 * c.energy)):
        x, y = c.layout.random(2).tolist()
        radius = c.draw(0.25, 0.5)
        r = np.hypot((c.x - x) * c.aspect, c.y - y) / radius
        count = 4 + int(4 * c.energy)
        band = np.clip((r * count).astype(int), 0, count)
        quarter = ((np.arctan2(c.y - y, (c.x - x) * c.aspect) + np.pi) / (np.pi / 2)).astype(int)
        order = c.layout.integers(0, len(paints), 64)
        layer = paints[order[(band * 5 + quarter) % 64]]
        c.fill(smoothstep(1.0, 0.99, r), layer, 0.9)


def shards(c: Canvas) -> None:
    """Sharp splinters that burst from one point."""
    ground(c, "mid", "dark")
    x, y = c.draw(0.3, 0.7), c.draw(0.35, 0.65)
    c.fill(c.glow(x, y, 0.28), c["low"], 0.8)
    paints = [c[r] for r in ("accent", "dark", "accent2", "low", "far", "dark", "light", "near")]
    polygons, colours = [], []
    for i in range(16 + int(46 * c.energy)):
        a = c.draw(0, 2 * np.pi)
        inner, outer = c.draw(0.02, 0.3), c.draw(0.35, 1.0)
        spread = c.draw(0.02, 0.14)
        points = []
        for radius, angle in ((inner, a), (outer, a - spread), (outer * c.draw(0.7, 1.2), a + spread)):
            points.append((x + radius * np.cos(angle) / c.aspect, y + radius * np.sin(angle)))
        polygons.append(points)
        colours.append(paints[i % len(paints)])
    c.daub(polygons, colours)
    c.fill(c.glow(x, y, 0.09), c["light"], 0.85)


def drips(c: Canvas) -> None:
    """Layers of thrown paint: long wandering threads and splashes."""
    ground(c, "low", "mid")
    for role in ("dark", "accent", "far", "light", "accent2", "dark"):
        strokes = []
        for _ in range(2 + int(7 * c.energy)):
            steps = 60
            turn = np.cumsum(c.detail.normal(0, 0.28, steps)) + c.detail.uniform(0, 6.28)
            px = c.detail.random() + np.cumsum(np.cos(turn)) * 0.022
            py = c.detail.random() + np.cumsum(np.sin(turn)) * 0.022 * c.aspect
            strokes.append((list(zip(px.tolist(), py.tolist(), strict=True)), float(c.detail.uniform(0.003, 0.012))))
        spots = c.detail.random((int(10 + 70 * c.energy), 3))
        c.fill(c.lines(strokes), c[role], 0.9)
        c.fill(c.shapes([polygon(c, x, y, 0.002 + 0.011 * z**3, 8, 0) for x, y, z in spots.tolist()]), c[role], 0.9)


def mosaic(c: Canvas) -> None:
    """Squares of harmonising colours with trembling edges."""
    rows = int(5 + 7 * c.energy)
    columns = round(rows * c.aspect)
    roles = ["top", "mid", "low", "far", "near", "water", "accent", "accent2", "light"]
    weights = np.array([3, 3, 3, 2, 3, 3, 1.5, 1.5, 1.5])
    paints = np.stack([c[r] for r in roles])
    drift = c.noise(2, 2, 2, fixed=True)
    i = np.clip((c.y * rows).astype(int), 0, rows - 1)
    j = np.clip((c.x * columns).astype(int), 0, columns - 1)
    picks = c.layout.choice(len(roles), (rows, columns), p=weights / weights.sum())
    near = c.layout.choice(len(roles), (rows, columns), p=weights / weights.sum())
    blend = c.layout.random((rows, columns, 1)).astype(np.float32) * 0.5
    cells = paints[picks] + blend * (paints[near] - paints[picks])
    c.lab[:] = cells[i, j]
    c.lab[..., 0] += (drift - 0.5) * 0.12
    seam = np.minimum(np.abs(c.y * rows - np.round(c.y * rows)), np.abs(c.x * columns - np.round(c.x * columns)))
    c.fill(smoothstep(0.05, 0.0, seam), c["dark"], 0.25 + 0.3 * c.energy)
    c.warp(0.01, 14)


def strata(c: Canvas) -> None:
    """Soft overlapping waves of colour from top to bottom."""
    c.lab[:] = c["light"]
    roles = ["low", "mid", "top", "far", "water", "near", "accent", "far", "near", "dark"]
    rows = 6 + int(4 * c.energy)
    for k in range(rows):
        line = c.ridge(0.1 + 0.9 * k / rows, 0.1 + 0.12 * c.energy, 1.3 + c.energy, 2, 0.4)
        t = k / rows
        paint = c[roles[int(t * len(roles))]]
        shade = np.exp(-np.clip(c.y - line, 0, None) * 10)[..., None] * np.float32(0.3)
        layer = paint + shade * (c["light"] - paint)
        c.fill(c.below(line, 0.004), layer, 0.85)


def veils(c: Canvas) -> None:
    """Heavy veils of paint that sink down the canvas."""
    c.lab[:] = c.gradient([c["mid"], c["far"], c["dark"]], [0, 0.5, 1])
    for role in ("far", "dark", "accent", "near", "low"):
        fold = c.noise(5 + 8 * c.energy, 0.8, 4, 0.55, fixed=True)
        fall = c.noise(7, 2, 4)
        mask = smoothstep(0.5, 0.75, fold) * smoothstep(0.25, 0.8, fall)
        c.fill(mask, c[role], 0.65)
    c.fill(c.glow(c.draw(0.2, 0.8), 0.2, 0.18), c["light"], 0.5)


def planes(c: Canvas) -> None:
    """A few tilted bars and blocks that float on a pale ground."""
    ground(c, "light", "low")
    tilt = c.draw(-0.7, 0.7)
    paints = [c[r] for r in ("accent", "dark", "accent2", "top", "near", "water")]
    polygons, colours = [], []
    for i in range(5 + int(9 * c.energy)):
        x, y = c.draw(0.12, 0.88), c.draw(0.12, 0.88)
        long, thick = c.draw(0.08, 0.42), c.draw(0.012, 0.1)
        if i == 0:
            long, thick = 0.34, 0.2
        a = tilt + float(c.layout.choice([0, 0, np.pi / 2, 0.35]))
        corners = [(-long, -thick), (long, -thick), (long, thick), (-long, thick)]
        polygons.append(
            [(x + (u * np.cos(a) - v * np.sin(a)) / c.aspect, y + u * np.sin(a) + v * np.cos(a)) for u, v in corners]
        )
        colours.append(paints[i % len(paints)])
    c.daub(polygons, colours)
    c.fill(c.disc(c.draw(0.2, 0.8), c.draw(0.2, 0.8), 0.07), c["accent"])


ABSTRACTS = {
    # composition: painter, valence, arousal where it is most at home
    "fields": (fields, -0.05, -0.35), "grid": (grid, 0.45, 0.35), "circles": (circles, 0.45, 0.7),
    "rings": (rings, 0.7, 0.65), "shards": (shards, -0.6, 0.8), "drips": (drips, -0.35, 0.75),
    "mosaic": (mosaic, 0.5, -0.1), "strata": (strata, 0.55, -0.65), "veils": (veils, -0.7, -0.4),
    "planes": (planes, 0.25, 0.1),
}  # fmt: skip
