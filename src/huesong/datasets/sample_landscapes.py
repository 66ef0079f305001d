"""Painted scenes of the sample set: sea, mountains, forest, city, storm, sunset, desert, meadow and others.

Every scene is a function that paints a Canvas. Its layout follows from the canvas's layout generator, its colours
from the palette, its unrest (waves, branches, flowers, rain) from the canvas's energy.
"""

from __future__ import annotations

import numpy as np

from huesong.datasets.sample_canvas import Canvas, smoothstep


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
    """Rows of waves with crests of foam, larger towards the viewer."""
    for i in range(count):
        t = (i + 1) / count
        y = horizon + (1.02 - horizon) * t**1.4
        size = height * (0.25 + t)
        line = c.ridge(y, size, 3.0 + 5 * (1 - t), 4)
        line = line + size * 0.25 * np.abs(np.sin(c.x * (26 - 14 * t) + c.layout.uniform(0, 6)))
        body = c.below(line)
        paint = c.mix("water", "dark", 0.15 + 0.55 * ((i * 5) % 3) / 2)
        c.fill(body, paint, 0.75)
        crest = np.exp(-(((c.y - line - 0.004) / (0.004 + 0.008 * t)) ** 2)) * smoothstep(0.42, 0.7, c.noise(12, 20, 3))
        c.fill(crest, c["light"], 0.75)


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


def branches(c: Canvas, x: float, y: float, length: float, angle: float, depth: int) -> list:
    """Strokes of a bare tree, grown from the trunk by branching."""
    end = (x + np.cos(angle) * length / c.aspect, y - np.sin(angle) * length)
    bend = ((x + end[0]) / 2 + c.layout.normal(0, 0.01), (y + end[1]) / 2)
    strokes = [([(x, y), bend, end], 0.0035 * 1.75**depth)]
    if depth:
        for _ in range(2 + (c.layout.random() < 0.35)):
            turn = c.layout.normal(0, 0.5)
            strokes += branches(c, *end, length * c.layout.uniform(0.62, 0.8), angle + turn, depth - 1)
    return strokes


def sea(c: Canvas) -> None:
    horizon = float(c.layout.uniform(0.38, 0.55))
    sun = (float(c.layout.uniform(0.2, 0.8)), horizon * 0.55)
    sky(c, horizon, sun, 0.35 + 0.5 * c.energy)
    water(c, horizon, sun[0], c.energy)
    if c.energy > 0.35:
        waves(c, horizon, 4 + int(5 * c.energy), 0.02 + 0.09 * c.energy)


def sunset(c: Canvas) -> None:
    horizon = float(c.layout.uniform(0.55, 0.66))
    x = float(c.layout.uniform(0.3, 0.7))
    sky(c, horizon, (x, horizon - 0.07), 0.55)
    c.fill(c.glow(x, horizon - 0.07, 0.25), c["accent2"], 0.35)
    sun_disc(c, x, horizon - 0.07, 0.075)
    line = c.ridge(horizon - 0.01, 0.035, 4)
    c.fill(c.below(line), c.mix("far", "dark", 0.4))
    water(c, horizon, x, 0.1 + 0.7 * c.energy)


def harbour(c: Canvas) -> None:
    horizon = float(c.layout.uniform(0.45, 0.55))
    sun = (float(c.layout.uniform(0.15, 0.85)), 0.2)
    sky(c, horizon, sun, 0.4)
    hills(c, 2, horizon - 0.05, horizon - 0.01, 0.08)
    paints = [c["accent"], c["accent2"], c["light"], c["light"]]
    boats = []
    for i in range(int(c.layout.integers(3, 7))):
        x, y = float(c.layout.uniform(0.08, 0.92)), horizon + 0.02 + 0.1 * i / 6
        size = 0.1 + 0.28 * (y - horizon) / 0.12 * c.layout.uniform(0.7, 1.1)
        boats.append((x, y, float(size), paints[i % 4], float(c.layout.uniform(0.5, 0.8))))
    water(c, horizon, sun[0], 0.15 + 0.6 * c.energy)
    for x, y, size, paint, lean in boats:
        half = size * 0.35 / c.aspect
        sails = [
            [(x, y - size), (x, y - 0.03 * size), (x + half * lean * 1.6, y - 0.05 * size)],
            [(x - 0.004, y - 0.9 * size), (x - 0.004, y - 0.05 * size), (x - half, y - 0.06 * size)],
        ]
        hull = [(x - half, y), (x + half * 1.2, y), (x + half * 0.9, y + 0.07 * size), (x - half * 0.7, y + 0.07 * size)]
        mirror = [[(px, 2 * y + 0.07 * size - py) for px, py in s] for s in sails]
        c.fill(c.shapes(mirror) * smoothstep(0.3, 0.6, c.noise(6, 60, 2)), paint, 0.35)
        c.fill(c.shapes(sails), paint)
        c.fill(c.shapes([sails[1]]), c["light"], 0.5)
        c.fill(c.shape(hull), c["dark"])


def mountains(c: Canvas) -> None:
    lake = float(c.layout.uniform(0.66, 0.74))
    sun = (float(c.layout.uniform(0.1, 0.9)), 0.16)
    sky(c, 0.6, sun, 0.35 + 0.3 * c.energy)
    hills(c, 2, 0.42, 0.5, 0.4, 0.9)
    peaks = c.ridge(0.4, 0.5, 3, 6, 0.52)
    layer = c["far"] + 0.5 * (c["near"] - c["far"]) + np.zeros((c.height, c.width, 3), np.float32)
    facets = c.noise(10, 7, 5, 0.6) - 0.5
    slope = np.clip(np.gradient(peaks[0]) * c.width * 0.3, -0.5, 0.5)[None, :]
    layer[..., 0] += facets * 0.16 + slope * 0.12
    c.fill(c.below(peaks), layer)
    snow = smoothstep(0.06, -0.06, c.y - 0.36 + (c.noise(9, 8, 4) - 0.5) * 0.22) * c.below(peaks)
    c.fill(snow, c["light"] + 0.25 * (facets[..., None] * 2) * (c["light"] - c["far"]), 0.85)
    hills(c, 2, lake - 0.09, lake - 0.02, 0.09)
    trees = [conifer(c, float(x), lake + 0.01, float(s)) for x, s in
             zip(c.layout.random(46), c.layout.uniform(0.05, 0.12, 46), strict=True)]  # fmt: skip
    c.fill(c.shapes(trees), c.mix("dark", "near", 0.25), 0.95)
    water(c, lake, None, 0.08 + 0.5 * c.energy)


def forest(c: Canvas) -> None:
    glade = float(c.layout.uniform(0.3, 0.7))
    c.lab[:] = c.gradient([c["mid"], c["low"], c["near"]], [0, 0.6, 1])
    c.fill(c.glow(glade, 0.45, 0.3), c["light"], 0.75)
    for depth in range(5):
        t = depth / 4
        strokes = []
        for x in c.layout.random(9 - depth):
            x = float(x)
            if depth > 2 and abs(x - glade) < 0.16:
                continue
            wide = 0.012 + 0.05 * t**1.6 * float(c.layout.uniform(0.6, 1.2))
            lean = float(c.layout.normal(0, 0.02 + 0.05 * c.energy))
            strokes.append(([(x, 1.0), (x + lean * 0.6, 0.5), (x + lean, -0.05)], wide))
            if t > 0.3:
                for _ in range(3):
                    y = float(c.layout.uniform(0.05, 0.6))
                    side = float(c.layout.choice([-1, 1])) * float(c.layout.uniform(0.05, 0.13))
                    strokes.append(([(x + lean * (1 - y), y), (x + side, y - 0.06), (x + 1.7 * side, y - 0.1)], wide * 0.25))
        paint = c["far"] + t * (c["dark"] - c["far"])
        c.fill(c.lines(strokes), paint)
        ground = c.ridge(0.7 + 0.07 * depth, 0.05, 3)
        c.fill(c.below(ground, 0.02), c["low"] + (0.3 + 0.7 * t) * (c["near"] - c["low"]), 0.85)
        leaves = smoothstep(0.55, 0.7, c.noise(14, 10, 4)) * smoothstep(0.55, 0.0, c.y + 0.1 * (1 - t))
        c.fill(leaves, c["near"] + t * (c["dark"] - c["near"]), 0.3 + 0.35 * t)
        c.fill(c.glow(glade, 0.5, 0.22), c["light"], 0.16 * (1 - t))
    rays = smoothstep(0.5, 0.8, np.sin((c.x - glade + 0.35 * (c.y - 0.2)) * 34) * 0.5 + 0.5) * c.glow(glade, 0.4, 0.3)
    c.fill(rays, c["light"], 0.18)


def city(c: Canvas) -> None:
    quay = float(c.layout.uniform(0.68, 0.76))
    sky(c, quay, (float(c.layout.uniform(0.2, 0.8)), 0.25), 0.4)
    windows, lamps = [], []
    for depth in range(3):
        t = depth / 2
        towers = []
        x = -0.02
        while x < 1.02:
            wide = float(c.layout.uniform(0.04, 0.1)) * (0.8 + 0.5 * t)
            tall = float(c.layout.uniform(0.12, 0.5)) * (1 - 0.35 * t)
            towers.append([(x, quay), (x, quay - tall), (x + wide, quay - tall), (x + wide, quay)])
            if c.layout.random() < 0.3:
                towers.append([(x + wide * 0.45, quay - tall), (x + wide * 0.5, quay - tall - 0.08), (x + wide * 0.55, quay - tall)])
            if t:
                columns, storeys = int(wide / 0.013), int(tall / 0.026)
                for i in range(columns):
                    for j in range(storeys):
                        if c.detail.random() < 0.12 + 0.55 * c.energy:
                            wx, wy = x + 0.006 + i * 0.0125, quay - tall + 0.012 + j * 0.025
                            pane = [(wx, wy), (wx + 0.006, wy), (wx + 0.006, wy + 0.012), (wx, wy + 0.012)]
                            (windows if c.detail.random() < 0.7 else lamps).append(pane)
            x += wide + float(c.layout.uniform(0, 0.02))
        c.fill(c.shapes(towers), c.mix("far", "dark", 0.25 + 0.65 * t))
        c.fill(c.below(quay - 0.2, 0.2), c["low"], 0.18 * (1 - t))
    c.fill(c.shapes(windows), c["accent2"], 0.95)
    c.fill(c.shapes(lamps), c.mix("light", "accent", 0.35 * c.energy), 0.95)
    water(c, quay, None, 0.15 + 0.6 * c.energy)


def storm(c: Canvas) -> None:
    horizon = float(c.layout.uniform(0.6, 0.72))
    sky(c, horizon, None, 0.9)
    mass = c.noise(2.5, 2.5, 6, 0.58, fixed=True)
    c.fill(smoothstep(0.35, 0.75, mass) * smoothstep(0.75, 0.2, c.y), c["dark"], 0.7)
    for _ in range(1 + int(2.2 * c.energy)):
        x, y = float(c.layout.uniform(0.15, 0.85)), 0.08
        path = [(x, y)]
        while y < horizon:
            x, y = x + float(c.layout.normal(0, 0.028)), y + float(c.layout.uniform(0.02, 0.05))
            path.append((x, y))
        side = [(px + 0.012 * k, py + 0.03 * k) for k, (px, py) in enumerate(path[len(path) // 3 :][:6])]
        c.fill(c.glow(path[4][0], 0.3, 0.2), c["light"], 0.22)
        c.fill(c.lines([(path, 0.009), (side, 0.004)]), c["light"])
    water(c, horizon, None, 0.5 + 0.5 * c.energy)
    waves(c, horizon, 5, 0.04 + 0.09 * c.energy)
    slant = float(c.layout.uniform(-0.04, 0.04))
    drops = c.detail.random((int(90 + 400 * c.energy), 3))
    rain = [([(x, y), (x + slant * (0.5 + z), y + 0.07 * (0.5 + z))], 0.002) for x, y, z in drops.tolist()]
    c.fill(c.lines(rain), c["light"], 0.16)


def desert(c: Canvas) -> None:
    sun = (float(c.layout.uniform(0.15, 0.85)), float(c.layout.uniform(0.14, 0.3)))
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
    horizon = float(c.layout.uniform(0.36, 0.48))
    sun = (float(c.layout.uniform(0.1, 0.9)), 0.14)
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
    horizon = float(c.layout.uniform(0.3, 0.4))
    sky(c, horizon, (float(c.layout.uniform(0.2, 0.8)), 0.12), 0.5)
    hills(c, 2, horizon - 0.02, horizon, 0.04, 0.1)
    x0 = float(c.layout.uniform(0.3, 0.7))
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
    x = float(c.layout.uniform(0.25, 0.75))
    sun = (1 - x, float(c.layout.uniform(0.2, 0.42)))
    sky(c, 0.75, sun, 0.3 + 0.4 * c.energy)
    sun_disc(c, *sun, 0.055)
    hills(c, 3, 0.62, 0.74, 0.1, 0.2)
    crest = 0.76 + 0.5 * (c.x - x) ** 2
    layer = c.gradient([c["near"], c["dark"]], [0.7, 1])
    layer[..., 0] += (c.noise(50, 24, 3) - 0.5) * 0.1
    c.fill(c.below(crest.astype(np.float32)), layer)
    c.fill(c.lines(branches(c, x, 0.78, 0.15, np.pi / 2, 6)), c["dark"])
    if c.valence > -0.3:
        crown = smoothstep(0.5, 0.62, c.noise(14, 10, 4) + 0.75 * c.glow(x, 0.42, 0.15) - 0.45)
        tint = c.noise(20, 16, 3)[..., None]
        c.fill(crown, c.mix("near", "dark", 0.3) + tint * (c.mix("near", "accent2", 0.6) - c.mix("near", "dark", 0.3)), 0.92)


def snow(c: Canvas) -> None:
    sky(c, 0.6, (float(c.layout.uniform(0.2, 0.8)), 0.25), 0.5)
    hills(c, 3, 0.5, 0.62, 0.12, 0.4)
    field = c.ridge(0.66, 0.05, 2, 3)
    layer = c.gradient([c["low"], c.mix("light", "far", 0.25)], [0.6, 1])
    layer[..., 0] += (c.noise(6, 14, 4) - 0.5) * 0.08
    c.fill(c.below(field), layer)
    firs = []
    for xx, size in zip(c.layout.random(12), c.layout.uniform(0.1, 0.26, 12), strict=True):
        firs.append(conifer(c, float(xx), 0.64 + float(size) * 0.35, float(size)))
    c.fill(c.shapes(firs), c["dark"], 0.9)
    x = float(c.layout.choice([0.2, 0.78]))
    c.fill(c.lines(branches(c, x, 0.97, 0.2, np.pi / 2 + 0.1, 6)), c["dark"])
    flakes = c.detail.random((int(60 + 500 * c.energy), 3))
    c.fill(c.lines([([(x, y), (x + 0.003, y + 0.003)], 0.004 + 0.007 * z) for x, y, z in flakes.tolist()]), c["light"], 0.6)


def volcano(c: Canvas) -> None:
    x = float(c.layout.uniform(0.35, 0.65))
    top = float(c.layout.uniform(0.34, 0.42))
    sky(c, 0.8, (x, top), 0.6)
    plume = c.noise(3, 4, 6, 0.58, fixed=True)
    column = np.exp(-(((c.x - x) * c.aspect) ** 2) / (2 * (0.06 + 0.35 * np.clip(top - c.y, 0, 1)) ** 2)) * (c.y < top + 0.02)
    smoke = smoothstep(0.3, 0.75, plume) * column
    c.fill(smoke, c.mix("dark", "far", 0.5), 0.9)
    c.fill(c.glow(x, top, 0.16), c["accent2"], 0.8)
    cone = top + np.abs(c.x - x) * 1.05 + (c.noise(12, 10, 4) - 0.5) * 0.05
    cone = np.maximum(cone, top + 0.015)
    rock = c.gradient([c["near"], c["dark"]], [0.3, 1])
    rock[..., 0] += (c.noise(20, 10, 4) - 0.5) * 0.1
    c.fill(smoothstep(-0.004, 0.004, c.y - cone), rock)
    flows = []
    for _ in range(3 + int(5 * c.energy)):
        px, py, path = x + float(c.layout.normal(0, 0.015)), top + 0.01, []
        drift = float(c.layout.normal(0, 0.018))
        while py < 1.02:
            path.append((px, py))
            px, py = px + drift + float(c.layout.normal(0, 0.008)), py + 0.035
        flows.append((path, float(c.layout.uniform(0.008, 0.02))))
    c.fill(c.lines(flows), c["accent"])
    c.fill(c.lines([(p, w * 0.4) for p, w in flows]), c["light"])
    sparks = c.detail.normal(0, 1, (int(40 + 160 * c.energy), 2))
    dots = [([(x + sx * 0.09, top - abs(sy) * 0.14), (x + sx * 0.093, top - abs(sy) * 0.147)], 0.006) for sx, sy in sparks.tolist()]
    c.fill(c.lines(dots), c["accent2"])


def aurora(c: Canvas) -> None:
    c.lab[:] = c.gradient([c["top"], c["mid"], c["low"]], [0, 0.7, 1])
    stars = c.detail.random((160, 2))
    c.fill(c.lines([([(x, y * 0.7), (x + 0.002, y * 0.7)], 0.004) for x, y in stars.tolist()]), c["light"], 0.7)
    for i in range(3):
        base = c.ridge(0.42 + 0.08 * i, 0.22, 2.0, 3)
        above = base - c.y
        curtain = np.exp(-np.clip(above, 0, None) * (5 - 2 * c.energy)) * smoothstep(-0.03, 0.01, above)
        folds = 0.45 + 0.55 * c.noise(26 + 20 * c.energy, 1, 3)
        paint = c[("water", "accent2", "accent")[i]]
        c.fill(curtain * folds, paint + 0.3 * (c["light"] - paint), 0.55 + 0.25 * c.energy)
    hills(c, 2, 0.72, 0.8, 0.14, 0.8)
    firs = [conifer(c, float(x), 0.86, float(s)) for x, s in zip(c.layout.random(40), c.layout.uniform(0.06, 0.16, 40), strict=True)]
    c.fill(c.shapes(firs), c["dark"])
    water(c, 0.85, None, 0.1 + 0.4 * c.energy)


def starry(c: Canvas) -> None:
    xs, ys = c.layout.random(7), c.layout.random(7) * 0.6
    angle = np.zeros((c.height, c.width), np.float32)
    for x, y, sign in zip(xs.tolist(), ys.tolist(), c.layout.choice([-1, 1], 7).tolist(), strict=True):
        dx, dy = (c.x - x) * c.aspect, c.y - y
        angle += sign * np.exp(-(dx**2 + dy**2) / 0.06) * np.arctan2(dy, dx)
    swirl = c.noise(3, 3, 3, fixed=True)
    bands = np.sin(angle * 5 + swirl * 22 + c.y * 16) * 0.5 + 0.5
    c.lab[:] = c.gradient([c["top"], c["mid"], c["low"]], [0, 0.6, 1])
    c.fill(bands, c["water"] + 0.35 * (c["light"] - c["water"]), 0.3 + 0.4 * c.energy)
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        c.fill(c.glow(x, y, 0.06), c["accent2"], 0.75)
        c.fill(c.disc(x, y, 0.022), c["light"])
    hills(c, 3, 0.7, 0.86, 0.14, 0.3)
    c.warp(0.012 + 0.02 * c.energy, 16)


def fireworks(c: Canvas) -> None:
    c.lab[:] = c.gradient([c["top"], c.mix("top", "mid", 0.5), c["mid"]], [0, 0.6, 1])
    quay = 0.8
    for i in range(4 + int(7 * c.energy)):
        x, y = float(c.layout.uniform(0.1, 0.9)), float(c.layout.uniform(0.1, 0.55))
        size = float(c.layout.uniform(0.1, 0.24))
        paint = c[("accent", "accent2", "light", "low", "water")[i % 5]]
        c.fill(c.glow(x, y, size * 0.8), paint, 0.4)
        rays = []
        for k in np.linspace(0, 2 * np.pi, 26, endpoint=False).tolist():
            reach = size * float(c.detail.uniform(0.7, 1.05))
            path = [(x + np.cos(k) * reach * s / c.aspect, y + np.sin(k) * reach * s + 0.05 * s * s) for s in (0.2, 0.5, 0.8, 1)]
            rays.append((path, 0.005))
        c.fill(c.lines(rays), paint + 0.25 * (c["light"] - paint))
    towers = []
    for x in np.arange(0, 1, 0.05).tolist():
        tall = float(c.layout.uniform(0.02, 0.14))
        towers.append([(x, quay), (x, quay - tall), (x + 0.045, quay - tall), (x + 0.045, quay)])
    c.fill(c.shapes(towers), c["dark"])
    water(c, quay, None, 0.3 + 0.4 * c.energy)


LANDSCAPES = {
    # scene: painter, valence, arousal where it is most at home
    "sea": (sea, 0.0, 0.05), "sunset": (sunset, 0.45, 0.1), "harbour": (harbour, 0.65, 0.1),
    "mountains": (mountains, 0.3, -0.5), "forest": (forest, -0.2, -0.5), "city": (city, -0.15, 0.4),
    "storm": (storm, -0.65, 0.6), "desert": (desert, 0.15, -0.1), "meadow": (meadow, 0.7, 0.3),
    "tulips": (tulips, 0.8, 0.6), "lone_tree": (lone_tree, 0.1, -0.3), "snow": (snow, -0.35, -0.75),
    "volcano": (volcano, -0.65, 0.85), "aurora": (aurora, 0.1, 0.25), "starry": (starry, 0.2, 0.6),
    "fireworks": (fireworks, 0.45, 0.9),
}  # fmt: skip

