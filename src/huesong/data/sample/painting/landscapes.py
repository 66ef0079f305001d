"""Painted scenes of the day: sea, sunset, harbour, mountains, forest, desert, meadow, tulips, trees, snow.

Every scene is a function that paints a Canvas. Its layout follows from the canvas's layout generator, its colours
from the palette, its unrest (waves, branches, flowers, rain) from the canvas's energy.
"""

from __future__ import annotations

import numpy as np

from huesong.data.sample.painting.canvas import Canvas, Point, Stroke, smoothstep
from huesong.data.sample.painting.elements import branches, conifer, hills, sky, sun_disc, water, waves


def sea(c: Canvas) -> None:
    """Open sea: from glitter under the sun to rows of waves."""
    horizon = c.draw(0.38, 0.55)
    sun = (c.draw(0.2, 0.8), horizon * 0.55)
    sky(c, horizon, sun, 0.35 + 0.5 * c.energy)
    water(c, horizon, sun[0], c.energy)
    if c.energy > 0.45:
        waves(c, horizon, 4 + int(4 * c.energy), 0.01 + 0.1 * (c.energy - 0.35))


def sunset(c: Canvas) -> None:
    """The sun on the horizon over water."""
    horizon = c.draw(0.55, 0.66)
    x = c.draw(0.3, 0.7)
    sky(c, horizon, (x, horizon - 0.07), 0.55)
    c.fill(c.glow(x, horizon - 0.07, 0.25), c["accent2"], 0.35)
    sun_disc(c, x, horizon - 0.07, 0.075)
    line = c.ridge(horizon - 0.01, 0.035, 4)
    c.fill(c.below(line), c.mix("far", "dark", 0.4))
    water(c, horizon, x, 0.1 + 0.7 * c.energy)


def harbour(c: Canvas) -> None:
    """Sails before a coast."""
    horizon = c.draw(0.45, 0.55)
    sun = (c.draw(0.15, 0.85), 0.2)
    sky(c, horizon, sun, 0.4)
    hills(c, 2, horizon - 0.05, horizon - 0.01, 0.08)
    paints = [c["accent"], c["accent2"], c["light"], c["light"]]
    boats = []
    for i in range(int(c.layout.integers(3, 7))):
        x, y = c.draw(0.08, 0.92), horizon + 0.02 + 0.1 * i / 6
        size = 0.1 + 0.28 * (y - horizon) / 0.12 * c.layout.uniform(0.7, 1.1)
        boats.append((x, y, float(size), paints[i % 4], c.draw(0.5, 0.8)))
    water(c, horizon, sun[0], 0.15 + 0.6 * c.energy)
    for x, y, size, paint, lean in boats:
        half = size * 0.35 / c.aspect
        sails = [
            [(x, y - size), (x, y - 0.03 * size), (x + half * lean * 1.6, y - 0.05 * size)],
            [(x - 0.004, y - 0.9 * size), (x - 0.004, y - 0.05 * size), (x - half, y - 0.06 * size)],
        ]
        hull = [
            (x - half, y),
            (x + half * 1.2, y),
            (x + half * 0.9, y + 0.07 * size),
            (x - half * 0.7, y + 0.07 * size),
        ]
        mirror = [[(px, 2 * y + 0.07 * size - py) for px, py in s] for s in sails]
        c.fill(c.shapes(mirror) * smoothstep(0.3, 0.6, c.noise(6, 60, 2)), paint, 0.35)
        c.fill(c.shapes(sails), paint)
        c.fill(c.shapes([sails[1]]), c["light"], 0.5)
        c.fill(c.shape(hull), c["dark"])


def mountains(c: Canvas) -> None:
    """Snowy ranges over a lake with firs."""
    lake = c.draw(0.66, 0.74)
    sun = (c.draw(0.1, 0.9), 0.16)
    sky(c, 0.6, sun, 0.35 + 0.3 * c.energy)
    for far, base, tall in ((1.0, 0.42, 0.3), (0.35, 0.46, 0.55)):
        peaks = c.ridge(base, tall, 2.6, 6, 0.5)
        depth = c.y - peaks
        # light falls from the sun's side on facets that are noise sheared along the slopes
        facets = c.noise(7, 5, 5, 0.6, fixed=True)
        lit = np.clip((np.roll(facets, round((0.5 - sun[0]) * 30), axis=1) - facets) * 5, -1, 1)
        rock = c["near"] + far * (c["far"] - c["near"])
        rock = rock + 0.3 * (c["far"] - rock) + np.zeros((c.height, c.width, 3), np.float32)
        rock[..., 0] += 0.13 * lit + 0.08 * (facets - 0.5)
        cap = smoothstep(0.03, -0.05, depth - 0.05 + (facets - 0.5) * 0.3 + (peaks - base + 0.06) * 1.2)
        snow_paint = c["light"] + np.clip(-lit, 0, 1)[..., None] * np.float32(0.5) * (c["far"] - c["light"])
        rock += (0.9 * cap)[..., None] * (snow_paint - rock)
        haze = np.clip(depth * 1.6 + 0.3 * far, 0, 0.75)[..., None]
        c.fill(c.below(peaks), rock + haze * (c["low"] - rock))
    hills(c, 2, lake - 0.09, lake - 0.02, 0.09)
    sizes = c.layout.uniform(0.05, 0.13, 46).tolist()
    trees = [conifer(c, x, lake + 0.01, size) for x, size in zip(c.layout.random(46).tolist(), sizes, strict=True)]
    c.fill(c.shapes(trees), c.mix("dark", "near", 0.25), 0.95)
    water(c, lake, None, 0.08 + 0.5 * c.energy)


def forest(c: Canvas) -> None:
    """Trunks in mist around a glade."""
    glade = c.draw(0.3, 0.7)
    c.lab[:] = c.gradient([c["mid"], c["low"], c["near"]], [0, 0.6, 1])
    c.fill(c.glow(glade, 0.45, 0.3), c["light"], 0.75)
    for depth in range(5):
        t = depth / 4
        strokes: list[Stroke] = []
        for x in c.layout.random(9 - depth):
            x = float(x)
            if depth > 2 and abs(x - glade) < 0.16:
                continue
            wide = 0.012 + 0.05 * t**1.6 * c.draw(0.6, 1.2)
            lean = float(c.layout.normal(0, 0.02 + 0.05 * c.energy))
            strokes.append(([(x, 1.0), (x + lean * 0.6, 0.5), (x + lean, -0.05)], wide))
            if t > 0.3:
                for _ in range(3):
                    y = c.draw(0.05, 0.6)
                    side = float(c.layout.choice([-1, 1])) * c.draw(0.05, 0.13)
                    strokes.append(
                        ([(x + lean * (1 - y), y), (x + side, y - 0.06), (x + 1.7 * side, y - 0.1)], wide * 0.25)
                    )
        paint = c["far"] + t * (c["dark"] - c["far"])
        c.fill(c.lines(strokes), paint)
        ground = c.ridge(0.7 + 0.07 * depth, 0.05, 3)
        c.fill(c.below(ground, 0.02), c["low"] + (0.3 + 0.7 * t) * (c["near"] - c["low"]), 0.85)
        leaves = smoothstep(0.55, 0.7, c.noise(14, 10, 4)) * smoothstep(0.55, 0.0, c.y + 0.1 * (1 - t))
        c.fill(leaves, c["near"] + t * (c["dark"] - c["near"]), 0.3 + 0.35 * t)
        c.fill(c.glow(glade, 0.5, 0.22), c["light"], 0.16 * (1 - t))
    rays = smoothstep(0.5, 0.8, np.sin((c.x - glade + 0.35 * (c.y - 0.2)) * 34) * 0.5 + 0.5) * c.glow(glade, 0.4, 0.3)
    c.fill(rays, c["light"], 0.18)


def desert(c: Canvas) -> None:
    """Rippled dunes with a light and a shaded side."""
    sun = (c.draw(0.15, 0.85), c.draw(0.14, 0.3))
    sky(c, 0.55, sun, 0.1 + 0.4 * c.energy)
    sun_disc(c, *sun, 0.05)
    for i in range(5):
        t = i / 4
        line = c.ridge(0.5 + 0.1 * i, 0.1 + 0.05 * t, 1.2 + 0.6 * i, 2, 0.3)
        layer = c["low"] + (0.35 + 0.65 * t) * (c.mix("accent2", "near", 0.45 * t) - c["low"])
        side = np.clip(np.gradient(line[0]) * c.width * 1.2, -1, 1)[None, :] * np.exp(-np.clip(c.y - line, 0, None) * 7)
        sand = np.sin((c.y - line) * (260 - 90 * t) + c.noise(5, 5, 3) * 14) * (0.006 + 0.02 * c.energy) * (0.3 + t)
        paint = np.broadcast_to(layer, (c.height, c.width, 3)).copy()
        paint[..., 0] += 0.13 * side + sand
        shade = np.clip(-side, 0, 1)[..., None] * np.float32(0.35)
        paint += shade * (c["far"] - paint)
        c.fill(c.below(line), paint)


def meadow(c: Canvas) -> None:
    """A meadow of flowers before hills."""
    horizon = c.draw(0.36, 0.48)
    sun = (c.draw(0.1, 0.9), 0.14)
    sky(c, horizon, sun, 0.4)
    hills(c, 3, horizon - 0.02, horizon + 0.1, 0.09, 0.2)
    ground = c.below(c.ridge(horizon + 0.14, 0.04, 2, 3), 0.01)
    grass = c.noise(50, 18, 3)
    layer = c.gradient([c["near"], c.mix("near", "dark", 0.35)], [horizon, 1])
    layer[..., 0] += (grass - 0.5) * 0.16 * (0.5 + c.y)
    c.fill(ground, layer)
    count = int(250 + 1500 * c.energy)
    depth = np.sort(c.detail.random(count)) ** 0.8
    xs = c.detail.random(count)
    clump = c.noise(5, 5, 3, fixed=True)
    petals = [c["accent"], c["accent2"], c["light"], c["accent"]]
    polygons, paints = [], []
    for t, x, pick in zip(depth.tolist(), xs.tolist(), c.detail.integers(0, 4, count).tolist(), strict=True):
        y = horizon + 0.17 + (0.88 - horizon) * t
        if y >= 1 or clump[int(y * c.height), int(x * c.width)] < 0.42:
            continue
        r = 0.003 + 0.014 * t
        polygons.append([(x + r / c.aspect * np.cos(k), y + r * 0.8 * np.sin(k)) for k in np.linspace(0, 6.28, 7)])
        paints.append(petals[pick])
    c.daub(polygons, paints)


def tulips(c: Canvas) -> None:
    """Fields of flowers in rows to the horizon."""
    horizon = c.draw(0.3, 0.4)
    sky(c, horizon, (c.draw(0.2, 0.8), 0.12), 0.5)
    hills(c, 2, horizon - 0.02, horizon, 0.04, 0.1)
    x0 = c.draw(0.3, 0.7)
    t = np.clip((c.y - horizon) / (1 - horizon), 1e-3, 1)
    across = (c.x - x0) / (0.06 + t) * 9 + 40
    band = across.astype(int)
    order = c.layout.permutation(80)
    paints = np.stack([c["accent"], c["accent2"], c["near"], c["light"], c["accent"], c["near"]])
    layer = paints[order[np.clip(band, 0, 79)] % 6].copy()
    edge = np.abs(across - band - 0.5) * 2
    layer += (smoothstep(0.7, 1, edge) * 0.8)[..., None] * (c["dark"] - layer)
    layer[..., 0] += (c.noise(110, 90, 2) - 0.5) * (0.1 + 0.18 * c.energy)
    c.fill(c.below(horizon), layer)
    c.fill(np.exp(-np.clip(c.y - horizon, 0, None) * 14) * c.below(horizon), c["low"], 0.5)


def lone_tree(c: Canvas) -> None:
    """A single tree on a hill, bare in sad pictures."""
    x = c.draw(0.25, 0.75)
    sun = (1 - x, c.draw(0.2, 0.42))
    sky(c, 0.75, sun, 0.3 + 0.4 * c.energy)
    sun_disc(c, *sun, 0.055)
    hills(c, 3, 0.62, 0.74, 0.1, 0.2)
    crest = 0.76 + 0.5 * (c.x - x) ** 2
    layer = c.gradient([c["near"], c["dark"]], [0.7, 1])
    layer[..., 0] += (c.noise(50, 24, 3) - 0.5) * 0.1
    c.fill(c.below(crest.astype(np.float32)), layer)
    strokes, tips = branches(c, x, 0.79, 0.14, np.pi / 2, 6)
    c.fill(c.lines(strokes), c["dark"])
    if c.valence < -0.35:
        return
    leaves, paints = [], []
    palette = [c.mix("near", "dark", 0.55), c["near"], c.mix("near", "accent2", 0.45), c.mix("near", "light", 0.35)]
    for k, paint in enumerate(palette):  # from the shade inside to the light outside
        for px, py in tips:
            dx, dy = c.detail.normal(0, 0.02 + 0.008 * c.energy, 2).tolist()
            r = float(c.detail.uniform(0.008, 0.02)) * (1.25 - 0.2 * k)
            centre = (px + (dx + 0.006 * k * np.sign(0.5 - x)) / c.aspect, py + dy - 0.008 * k)
            leaves.append(
                [(centre[0] + r / c.aspect * np.cos(u), centre[1] + r * np.sin(u)) for u in np.arange(0, 6.2, 0.9)]
            )
            paints.append(paint)
    c.daub(leaves, paints)


def snow(c: Canvas) -> None:
    """A snow field with firs and a bare tree."""
    sky(c, 0.6, (c.draw(0.2, 0.8), 0.25), 0.5)
    hills(c, 3, 0.5, 0.62, 0.12, 0.4)
    field = c.ridge(0.66, 0.05, 2, 3)
    layer = c.gradient([c["low"], c.mix("light", "far", 0.25)], [0.6, 1])
    layer[..., 0] += (c.noise(6, 14, 4) - 0.5) * 0.08
    c.fill(c.below(field), layer)
    firs: list[list[Point]] = []
    for xx, size in zip(c.layout.random(12), c.layout.uniform(0.1, 0.26, 12), strict=True):
        firs.append(conifer(c, float(xx), 0.64 + float(size) * 0.35, float(size)))
    c.fill(c.shapes(firs), c["dark"], 0.9)
    x = float(c.layout.choice([0.2, 0.78]))
    c.fill(c.lines(branches(c, x, 0.97, 0.17, np.pi / 2 + 0.1, 7)[0]), c["dark"])
    flakes = c.detail.random((int(60 + 500 * c.energy), 3))
    c.fill(
        c.lines([([(x, y), (x + 0.003, y + 0.003)], 0.004 + 0.007 * z) for x, y, z in flakes.tolist()]), c["light"], 0.6
    )


LANDSCAPES = {
    # scene: painter, valence, arousal where it is most at home
    "sea": (sea, 0.0, 0.05),
    "sunset": (sunset, 0.45, 0.1),
    "harbour": (harbour, 0.65, 0.1),
    "mountains": (mountains, 0.3, -0.5),
    "forest": (forest, -0.2, -0.5),
    "desert": (desert, 0.15, -0.1),
    "meadow": (meadow, 0.7, 0.3),
    "tulips": (tulips, 0.8, 0.6),
    "lone_tree": (lone_tree, 0.1, -0.3),
    "snow": (snow, -0.35, -0.75),
}
