"""Painted scenes of night and fire: city, storm, volcano, aurora, starry sky, fireworks (see `landscapes`)."""

from __future__ import annotations

import numpy as np

from huesong.data.sample.painting.canvas import Canvas, Point, smoothstep
from huesong.data.sample.painting.elements import conifer, hills, sky, water, waves


def city(c: Canvas) -> None:
    """Towers with lit windows over a river."""
    quay = c.draw(0.68, 0.76)
    sky(c, quay, (c.draw(0.2, 0.8), 0.25), 0.4)
    windows: list[list[Point]] = []
    lamps: list[list[Point]] = []
    for depth in range(3):
        t = depth / 2
        towers = []
        x = -0.02
        while x < 1.02:
            wide = c.draw(0.04, 0.1) * (0.8 + 0.5 * t)
            tall = c.draw(0.12, 0.5) * (1 - 0.35 * t)
            towers.append([(x, quay), (x, quay - tall), (x + wide, quay - tall), (x + wide, quay)])
            if c.layout.random() < 0.3:
                towers.append(
                    [
                        (x + wide * 0.45, quay - tall),
                        (x + wide * 0.5, quay - tall - 0.08),
                        (x + wide * 0.55, quay - tall),
                    ]
                )
            if t:
                columns, storeys = int(wide / 0.013), int(tall / 0.026)
                for i in range(columns):
                    for j in range(storeys):
                        if c.detail.random() < 0.12 + 0.55 * c.energy:
                            wx, wy = x + 0.006 + i * 0.0125, quay - tall + 0.012 + j * 0.025
                            pane = [(wx, wy), (wx + 0.006, wy), (wx + 0.006, wy + 0.012), (wx, wy + 0.012)]
                            (windows if c.detail.random() < 0.7 else lamps).append(pane)
            x += wide + c.draw(0, 0.02)
        c.fill(c.shapes(towers), c.mix("far", "dark", 0.25 + 0.65 * t))
        c.fill(c.below(quay - 0.2, 0.2), c["low"], 0.18 * (1 - t))
    c.fill(c.shapes(windows), c["accent2"], 0.95)
    c.fill(c.shapes(lamps), c.mix("light", "accent", 0.35 * c.energy), 0.95)
    water(c, quay, None, 0.15 + 0.6 * c.energy)


def storm(c: Canvas) -> None:
    """Lightning, rain and a high sea."""
    horizon = c.draw(0.6, 0.72)
    sky(c, horizon, None, 0.9)
    mass = c.noise(2.5, 3.5, 6, 0.55, fixed=True)
    lit = np.clip((mass - np.roll(mass, c.height // 30, axis=0)) * 4 + 0.4, 0, 1)[..., None]
    heavy = c["dark"] + lit * (c.mix("mid", "low", 0.4) - c["dark"])
    c.fill(smoothstep(0.2, 0.6, mass + 0.25 - 0.5 * c.y), heavy, 0.85)
    for _ in range(1 + int(2.2 * c.energy)):
        x, y = c.draw(0.15, 0.85), 0.08
        path = [(x, y)]
        while y < horizon:
            x, y = x + float(c.layout.normal(0, 0.028)), y + c.draw(0.02, 0.05)
            path.append((x, y))
        side = [(px + 0.012 * k, py + 0.03 * k) for k, (px, py) in enumerate(path[len(path) // 3 :][:6])]
        c.fill(c.glow(path[4][0], 0.3, 0.2), c["light"], 0.22)
        c.fill(c.lines([(path, 0.009), (side, 0.004)]), c["light"])
    water(c, horizon, None, 0.5 + 0.5 * c.energy)
    waves(c, horizon, 6, 0.03 + 0.09 * c.energy)
    slant = c.draw(-0.04, 0.04)
    drops = c.detail.random((int(90 + 400 * c.energy), 3))
    rain = [([(x, y), (x + slant * (0.5 + z), y + 0.07 * (0.5 + z))], 0.002) for x, y, z in drops.tolist()]
    c.fill(c.lines(rain), c["light"], 0.16)


def volcano(c: Canvas) -> None:
    """An eruption: lava, smoke and sparks."""
    x = c.draw(0.35, 0.65)
    top = c.draw(0.34, 0.42)
    sky(c, 0.8, (x, top), 0.6)
    plume = c.noise(3, 4, 6, 0.58, fixed=True)
    column = np.exp(-(((c.x - x) * c.aspect) ** 2) / (2 * (0.06 + 0.35 * np.clip(top - c.y, 0, 1)) ** 2)) * (
        c.y < top + 0.02
    )
    smoke = smoothstep(0.3, 0.75, plume) * column
    billows = c.mix("dark", "far", 0.6) + plume[..., None] * np.float32(0.7) * (c["low"] - c.mix("dark", "far", 0.6))
    c.fill(smoke, billows, 0.9)
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
        flows.append((path, c.draw(0.008, 0.02)))
    c.fill(c.lines(flows), c["accent"])
    c.fill(c.lines([(p, w * 0.4) for p, w in flows]), c["light"])
    sparks = c.detail.normal(0, 1, (int(40 + 160 * c.energy), 2))
    dots = [
        ([(x + sx * 0.09, top - abs(sy) * 0.14), (x + sx * 0.093, top - abs(sy) * 0.147)], 0.006)
        for sx, sy in sparks.tolist()
    ]
    c.fill(c.lines(dots), c["accent2"])


def aurora(c: Canvas) -> None:
    """Curtains of light over firs and water."""
    c.lab[:] = c.gradient([c["dark"], c["top"], c["mid"]], [0, 0.55, 1])
    stars = c.detail.random((160, 2)).tolist()
    c.fill(c.lines([([(x, y * 0.7), (x + 0.002, y * 0.7)], 0.004) for x, y in stars]), c["light"], 0.7)
    for i in range(4):
        base = c.ridge(0.36 + 0.1 * i, 0.16, 1.6, 2)
        base = base + 0.03 * np.sin(c.x * 14 + c.layout.uniform(0, 6) + 2 * i)
        above = base - c.y
        folds = c.noise(22 + 26 * c.energy, 0.6, 3)
        curtain = np.exp(-np.clip(above, 0, None) * (4 + 9 * folds)) * smoothstep(-0.09, 0.03, above)
        paint = c[("water", "accent2", "light", "accent")[i]]
        c.fill(curtain * (0.25 + 0.75 * folds), paint + 0.25 * (c["light"] - paint), 0.55 + 0.3 * c.energy)
    hills(c, 1, 0.8, 0.8, 0.12, 0.6)
    c.fill(c.below(c.ridge(0.84, 0.04, 3)), c["dark"])
    sizes = c.layout.uniform(0.06, 0.16, 40).tolist()
    firs = [conifer(c, x, 0.86, size) for x, size in zip(c.layout.random(40).tolist(), sizes, strict=True)]
    c.fill(c.shapes(firs), c["dark"])
    water(c, 0.85, None, 0.1 + 0.4 * c.energy)


def starry(c: Canvas) -> None:
    """A sky of whirls around stars."""
    xs, ys = c.layout.random(7), c.layout.random(7) * 0.6
    angle = np.zeros((c.height, c.width), np.float32)
    for x, y, sign in zip(xs.tolist(), ys.tolist(), c.layout.choice([-1, 1], 7).tolist(), strict=True):
        dx, dy = (c.x - x) * c.aspect, c.y - y
        angle += sign * np.exp(-(dx**2 + dy**2) / 0.06) * np.arctan2(dy, dx)
    swirl = c.noise(3, 3, 3, fixed=True)
    bands = np.sin(angle * 5 + swirl * 22 + c.y * 16) * 0.5 + 0.5
    c.lab[:] = c.gradient([c["top"], c["mid"], c["low"]], [0, 0.6, 1])
    c.fill(bands, c["water"] + 0.35 * (c["light"] - c["water"]), 0.3 + 0.4 * c.energy)
    hills(c, 3, 0.7, 0.86, 0.14, 0.3)
    c.warp(0.008 + 0.012 * c.energy, 16)
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        c.fill(c.glow(x, y, 0.06), c["accent2"], 0.7)
        c.fill(np.abs(np.sin(np.hypot((c.x - x) * c.aspect, c.y - y) * 90)) * c.glow(x, y, 0.06), c["light"], 0.5)
        c.fill(c.disc(x, y, 0.02), c["light"])


def fireworks(c: Canvas) -> None:
    """Fireworks over a town at the water."""
    c.lab[:] = c.gradient([c["dark"], c.mix("dark", "top", 0.6), c["mid"]], [0, 0.5, 1])
    quay = 0.8
    for i in range(5 + int(8 * c.energy)):
        x, y = c.draw(0.1, 0.9), c.draw(0.1, 0.55)
        size = c.draw(0.1, 0.24)
        paint = c[("accent", "accent2", "light", "low", "water")[i % 5]]
        c.fill(c.glow(x, y, size * 0.8), paint, 0.4)
        rays = []
        for k in np.linspace(0, 2 * np.pi, 26, endpoint=False).tolist():
            reach = size * float(c.detail.uniform(0.7, 1.05))
            path = [
                (x + np.cos(k) * reach * s / c.aspect, y + np.sin(k) * reach * s + 0.05 * s * s)
                for s in (0.2, 0.5, 0.8, 1)
            ]
            rays.append((path, 0.005))
        c.fill(c.lines(rays), paint + 0.25 * (c["light"] - paint))
    towers = []
    for x in np.arange(0, 1, 0.05).tolist():
        tall = c.draw(0.02, 0.14)
        towers.append([(x, quay), (x, quay - tall), (x + 0.045, quay - tall), (x + 0.045, quay)])
    c.fill(c.shapes(towers), c["dark"])
    water(c, quay, None, 0.3 + 0.4 * c.energy)


NOCTURNES = {
    # scene: painter, valence, arousal where it is most at home
    "city": (city, -0.15, 0.4),
    "storm": (storm, -0.65, 0.6),
    "volcano": (volcano, -0.65, 0.85),
    "aurora": (aurora, 0.1, 0.25),
    "starry": (starry, 0.2, 0.6),
    "fireworks": (fireworks, 0.15, 0.9),
}
