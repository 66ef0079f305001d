"""The sample set: painted pictures and composed piano pieces whose valence and arousal are known by construction.

How an emotion becomes a picture stands in pictures.py, how it becomes music in music.py. Here the
emotions are spread evenly over the valence-arousal square, and neighbours in composition share a group: pictures of
one scene and layout in different light, or variations of one theme in different characters (minore, adagio, presto),
so that a split by group never has the same scene or theme on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from huesong import contracts
from huesong.data.sample.melody import SLOWEST
from huesong.data.sample.music import compose_by_rule
from huesong.data.sample.pictures import SCENES, paint
from huesong.data.tables import as_table, write_table
from huesong.runtime.files import replacing_folder, written_whole
from huesong.runtime.progress import track

EDGE = 0.95
"""Largest absolute valence or arousal asked for."""
LICENCE = "CC0-1.0"
JPEG_QUALITY = 90
LONGEST_S = 34.0
"""Pieces are not longer than about this, so that preprocessing keeps each in one segment."""


@dataclass(frozen=True)
class Plan:
    """One item to make: its emotion, its group and the seeds of its composition and of itself."""

    id: str
    group: str
    valence: float
    arousal: float
    layout_seed: int
    seed: int
    scene: str = ""
    bars: int = 8


def make_sample(out: Path, seed: int = 0, pictures: int = 128, pieces: int = 320) -> None:
    """Write the sample set in the raw layout: images.csv, music.csv, images/sample/*.jpg, music/sample/*.mid.

    The same arguments give the same bytes on the same machine. Labels are the emotions asked for, label_kind is
    `construction`, `split` is left empty.

    Args:
        out: data folder; replaced as a whole, and only if it is absent, empty or a sample set.
        seed: everything follows from it.
        pictures, pieces: how many to make.

    Raises:
        UserError: `out` holds something else, is not writable, or the disk is full.
    """
    image_plans = plan_pictures(pictures, seed)
    piece_plans = plan_pieces(pieces, seed)
    with replacing_folder(out, ("images/sample", "music/sample")) as data:
        for folder in ("images/sample", "music/sample"):
            (data / folder).mkdir(parents=True)
        for plan in track(image_plans, "painting", len(image_plans)):
            image = paint(plan.valence, plan.arousal, plan.seed, scene=plan.scene, layout_seed=plan.layout_seed)
            with written_whole(data / "images/sample" / f"{plan.id}.jpg") as stream:
                image.save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True)
        for plan in track(piece_plans, "composing", len(piece_plans)):
            score = compose_by_rule(plan.valence, plan.arousal, plan.seed, bars=plan.bars, theme_seed=plan.layout_seed)
            (data / "music/sample" / f"{plan.id}.mid").write_bytes(score.dumps_midi())
        write_table(table(image_plans, "images/sample", "jpg"), data, contracts.IMAGES_CSV)
        write_table(table(piece_plans, "music/sample", "mid"), data, contracts.MUSIC_CSV)


def spread_emotions(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`count` points [count, 2] spread evenly over the square (the R2 sequence, randomly shifted), in random order.

    The steps of the sequence are the powers of the inverse of the plastic number (Roberts 2018).
    """
    plastic = 1.32471795724474602596
    steps = np.array([1 / plastic, 1 / plastic**2])
    points = (rng.random(2) + np.arange(1, count + 1)[:, None] * steps) % 1.0
    return np.round(rng.permutation(points) * 2 * EDGE - EDGE, 3)


def plan_pictures(count: int, seed: int) -> list[Plan]:
    """Emotions with a scene that is at home near each; scenes evenly used, 2 to 4 pictures a layout."""
    rng = np.random.default_rng([seed, 21])
    emotions = spread_emotions(count, rng)
    names = list(SCENES)
    homes = np.array([SCENES[name][1:] for name in names])
    used = np.zeros(len(names))
    scenes = np.zeros(count, dtype=int)
    for i, emotion in enumerate(emotions):
        fit = -((homes - emotion) ** 2).sum(axis=1) / 0.25 - 1.2 * used / max(used.mean(), 1.0)
        weight = np.exp(fit - fit.max())
        scenes[i] = rng.choice(len(names), p=weight / weight.sum())
        used[scenes[i]] += 1
    plans = []
    for which, name in enumerate(names):
        for number, members in enumerate(chunks(np.flatnonzero(scenes == which), rng), start=1):
            layout = int(rng.integers(2**31))
            for letter, index in zip("abcdefgh", members, strict=False):
                valence, arousal = (float(x) for x in emotions[index])
                item, own = f"{name}-{number}{letter}", int(rng.integers(2**31))
                plans.append(Plan(item, f"sample-{name}-{number}", valence, arousal, layout, own, scene=name))
    return plans


def plan_pieces(count: int, seed: int) -> list[Plan]:
    """Emotions in themes of 2 to 4 variations; livelier pieces may have more bars."""
    rng = np.random.default_rng([seed, 22])
    emotions = spread_emotions(count, rng)
    plans = []
    for number, members in enumerate(chunks(np.arange(count), rng), start=1):
        theme = int(rng.integers(2**31))
        for letter, index in zip("abcdefgh", members, strict=False):
            valence, arousal = (float(x) for x in emotions[index])
            longest = LONGEST_S * max(SLOWEST, 107 + 46 * arousal) / 240
            choices = [bars for bars in (8, 8, 12, 12, 16) if bars <= longest] or [8]
            if arousal > 0.6:  # many notes a bar: keep the token sequences of all pieces alike in length
                choices = [8, 8, 12]
            bars, own = int(rng.choice(choices)), int(rng.integers(2**31))
            name = f"theme-{number:03d}"
            plans.append(Plan(f"{name}{letter}", f"sample-{name}", valence, arousal, theme, own, bars=bars))
    return plans


def chunks(indices: NDArray[np.int_], rng: np.random.Generator) -> list[list[int]]:
    """Cut into groups of 2 to 4 (a single left-over joins the last group)."""
    groups, left = [], [int(i) for i in indices]
    while left:
        size = int(rng.integers(2, 5))
        if len(left) - size == 1:
            size += 1 if size < 4 else -1
        groups.append(left[:size])
        left = left[size:]
    return groups


def table(plans: list[Plan], folder: str, suffix: str) -> pd.DataFrame:
    """Rows of a raw table (contracts.RAW_COLUMNS)."""
    same: dict[str, str | float]
    same = {"n_raters": 0.0, "label_kind": "construction", "source": "sample", "licence": LICENCE}
    return as_table(
        [
            same
            | {"id": plan.id, "path": f"{folder}/{plan.id}.{suffix}", "group": plan.group}
            | {"valence": plan.valence, "arousal": plan.arousal}
            for plan in plans
        ]
    )
