"""Teach the project's own small encoder (student.py) what a large frozen backbone, the teacher, sees in pictures.

A fixed pool of views is drawn from the training pictures: cropped, turned, recoloured, and mixed with one another, so
that a few hundred pictures teach more than themselves. The teacher sees every view once; its standardised features,
projected on their first principal components, are what the student learns to give for the same view, and people's
ratings of the pictures in the view come on top, where the view still has the colours that they rated. Pictures of the
validation and test groups take no part in any of it.

Shapes: N pictures or views, S image tokens, C the student's channels, D the teacher's channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageEnhance
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, mse_loss

from huesong import contracts
from huesong.experiments.pupil import Pupil
from huesong.model.trainer import Part, Schedule, Trainer
from huesong.pictures.decode import decode
from huesong.pictures.encoders import Encoder, squash
from huesong.pictures.student import Architecture, Student
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log, track

SIDE = 112
MEAN, SD = (0.45, 0.45, 0.45), (0.27, 0.27, 0.27)
"""The student's input: side in pixels, and what its pixels are normalised with."""
LIGHT_KEPT, HUE_KEPT = 0.2, 4
"""How far brightness, contrast and saturation (shares) and hue (of 256) may be from the picture's own for its rating to
hold: colour carries emotion. Chosen, not measured: about what two cameras differ by, while the views reach .35 and 12."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a distillation. views: a training picture. mixed: share of the views that hold two pictures."""

    seed: int = 0
    views: int = 20
    mixed: float = 0.5
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    va_weight: float = 0.3
    precision: str = "bfloat16"
    architecture: Architecture = field(default_factory=Architecture)


@dataclass
class Pictures:
    """Rated and unrated pictures: RGB, va_N2 in [-1, 1] (0 where unrated), and the weight of the rating (0: unrated)."""

    images: list[Image.Image]
    va_N2: np.ndarray
    rated_N: np.ndarray
    source_N: np.ndarray

    @classmethod
    def read(cls, table: pd.DataFrame, data: Path, max_pixels: int) -> Pictures:
        """Decode the pictures of a table's rows; bad files are left out with a log line."""
        images, rows = [], []
        for row, path in enumerate(table["path"]):
            try:
                image = decode(data / path, max_pixels)
            except UserError as error:
                log.warning("left out: %s", error)
                continue
            image.thumbnail((512, 512))
            images.append(image)
            rows.append(row)
        va_N2 = table[["valence", "arousal"]].to_numpy(float)[rows]
        rated_N = table["label_kind"].map(contracts.LABEL_WEIGHTS).to_numpy(float)[rows]
        rated_N[np.isnan(va_N2).any(axis=1)] = 0.0
        return cls(images, np.nan_to_num(va_N2), rated_N, table["source"].to_numpy()[rows])


@dataclass
class Pool:
    """Views: pixels_NHW3 uint8, the teacher's projected tokens_NSC, what the pictures in them were rated, and its weight.

    A view whose colours are no longer those that people rated has weight 0: it teaches what the teacher sees in it.
    """

    pixels_NHW3: np.ndarray
    tokens_NSC: np.ndarray
    va_N2: np.ndarray
    rated_N: np.ndarray


@dataclass
class Projection:
    """The teacher's tokens -> C numbers of about unit size: standardise, rotate on principal components, scale."""

    mean_D: np.ndarray
    scale_D: np.ndarray
    components_DC: np.ndarray

    @classmethod
    def fit(cls, tokens_NSD: np.ndarray, channels: int) -> Projection:
        """From the teacher's tokens of the training pictures as they are."""
        tokens = tokens_NSD.reshape(-1, tokens_NSD.shape[-1]).astype(np.float64)
        mean_D, scale_D = tokens.mean(axis=0), np.maximum(tokens.std(axis=0), 1e-3)
        values_C, vectors_DC = np.linalg.eigh(np.cov((tokens - mean_D) / scale_D, rowvar=False))
        largest = np.argsort(values_C)[::-1][:channels]
        # Half whitened: the first components still weigh most, the last ones are more than noise to the student.
        scale_C = np.maximum(values_C[largest], 1e-6) ** 0.25
        share = values_C[largest].sum() / values_C.sum()
        log.info("distill: %d components hold %.0f %% of the teacher's variance", len(largest), 100 * share)
        scale_C *= math.sqrt(float((values_C[largest] / scale_C**2).mean()))
        return cls(mean_D, scale_D, vectors_DC[:, largest] / scale_C)

    def __call__(self, tokens_NSD: np.ndarray) -> np.ndarray:
        """The tokens projected: float16 [N, S, C]."""
        return (((tokens_NSD - self.mean_D) / self.scale_D) @ self.components_DC).astype(np.float16)


def draw_pool(train: Pictures, teacher: Encoder, projection: Projection, recipe: Recipe) -> Pool:
    """`recipe.views` views of every training picture, with what the teacher sees in them."""
    rng = np.random.default_rng(recipe.seed)
    n = len(train.images)
    pixels, tokens, va, rated = [], [], [], []
    for _ in track(range(recipe.views), "rounds of views"):
        views = []
        for first in range(n):
            (view, kept), share, second = augment(train.images[first], teacher.side, rng), 1.0, first
            if rng.random() < recipe.mixed:
                second = int(rng.integers(n))
                other, other_kept = augment(train.images[second], teacher.side, rng)
                view, share = mix(view, other, rng)
                kept = kept and other_kept
            views.append(view)
            pixels.append(squash(Image.fromarray(view), SIDE))
            va.append(share * train.va_N2[first] + (1 - share) * train.va_N2[second])
            rated.append(min(train.rated_N[first], train.rated_N[second]) if kept else 0.0)
        tokens.append(projection(teacher.encode_pixels(np.stack(views))))
    log.info("distill: %d of %d views carry people's ratings", np.count_nonzero(rated), len(rated))
    return Pool(np.stack(pixels), np.concatenate(tokens), np.stack(va), np.array(rated))


def augment(image: Image.Image, side: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """A view of a picture, uint8 [side, side, 3]: crop, squash, mirror, small turn, light and colour, a hole.

    And whether what people said of the picture's emotion holds for it: its colours are nearly the picture's own.
    """
    width, height = image.size
    share, stretch = rng.uniform(0.35, 1.0) ** 0.5, math.exp(rng.uniform(-0.25, 0.25))
    w, h = min(width, width * share * stretch), min(height, height * share / stretch)
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    if rng.random() < 0.3:
        image = image.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR, fillcolor=(128, 128, 128))
    view = image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))
    if rng.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    kept = True
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        factor = rng.uniform(0.65, 1.35)
        view = enhance(view).enhance(factor)
        kept = kept and abs(factor - 1) <= LIGHT_KEPT
    if rng.random() < 0.3:
        hue, saturation, value = view.convert("HSV").split()
        turn = int(rng.integers(-12, 13))
        kept = kept and abs(turn) <= HUE_KEPT
        view = Image.merge("HSV", (hue.point(lambda v: (v + turn) % 256), saturation, value)).convert("RGB")
    pixels = np.array(view)
    if rng.random() < 0.2:
        _hole(pixels, rng)[:] = rng.integers(0, 256, 3)
    return pixels, kept


def mix(one: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Two views as one, blended or one pasted into the other, and the share of the first."""
    if rng.random() < 0.5:
        share = float(rng.uniform(0.3, 1.0))
        return (share * one + (1 - share) * other).round().astype(np.uint8), share
    mixed = one.copy()
    hole = _hole(mixed, rng, 0.3, 0.7)
    top, left = (int(rng.integers(side - part + 1)) for side, part in zip(one.shape, hole.shape[:2], strict=False))
    hole[:] = other[top : top + hole.shape[0], left : left + hole.shape[1]]
    return mixed, 1 - hole.size / one.size


def _hole(pixels: np.ndarray, rng: np.random.Generator, least: float = 0.1, most: float = 0.4) -> np.ndarray:
    """A random rectangle of the pixels, to write into; its sides as shares of the picture's."""
    height, width = (int(side * rng.uniform(least, most)) for side in pixels.shape[:2])
    top, left = int(rng.integers(pixels.shape[0] - height)), int(rng.integers(pixels.shape[1] - width))
    return pixels[top : top + height, left : left + width]


def train_student(pool: Pool, recipe: Recipe) -> Student:
    """Train on the pool; the same pool and recipe give the same weights on the same machine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        pupil = Pupil(recipe.architecture)
        va_head = nn.Linear(recipe.architecture.channels, 2)
    trained = nn.ModuleList([pupil, va_head])
    steps = recipe.epochs * math.ceil(len(pool.va_N2) / recipe.batch_size)
    optimizer = torch.optim.AdamW(trained.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.1)
    grid = math.isqrt(pool.tokens_NSC.shape[1])
    batches = _batches(pool, recipe, grid)

    def rate(step: int) -> float:
        if step:
            cycle.step()
        return float(cycle.get_last_lr()[0])

    def parts(step: int) -> Iterator[Part]:
        pixels_N3HW, tokens_NCgg, va_N2, rated_N = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            map_NChw = pupil.train()(pixels_N3HW)
        seen_NCgg = adaptive_avg_pool2d(map_NChw.float(), grid)
        pooled_NC = seen_NCgg.mean(dim=(2, 3))
        feature_loss = mse_loss(seen_NCgg, tokens_NCgg) + mse_loss(pooled_NC, tokens_NCgg.mean(dim=(2, 3)))
        # The mean over the views that keep a rating, which are few: recoloured ones do not.
        error_N = (va_head(pooled_NC) - va_N2).square().sum(dim=1)
        va_loss = (rated_N * error_N).sum() / rated_N.sum().clamp_min(1.0)
        yield {"loss": feature_loss + recipe.va_weight * va_loss, "features": feature_loss, "va": va_loss}

    schedule = Schedule(steps, rate, log_every=max(1, steps // 10))
    Trainer("distill", trained, [optimizer], schedule, parts, remedy="lower Recipe.learning_rate").run()
    return pupil.graduated()


def _batches(pool: Pool, recipe: Recipe, grid: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Shuffled batches of all epochs; every second view is mirrored, and its tokens with it."""
    rng = np.random.default_rng([recipe.seed, 1])
    mean, sd = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(SD).view(3, 1, 1)
    n = len(pool.va_N2)
    for _ in range(recipe.epochs):
        order = rng.permutation(n)
        for start in range(0, n, recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            pixels_N3HW = (torch.from_numpy(pool.pixels_NHW3[rows]).permute(0, 3, 1, 2).float() / 255 - mean) / sd
            tokens_NCgg = torch.from_numpy(pool.tokens_NSC[rows]).float().transpose(1, 2).unflatten(2, (grid, grid))
            mirrored = torch.from_numpy(rng.random(len(rows)) < 0.5).view(-1, 1, 1, 1)
            yield (
                torch.where(mirrored, pixels_N3HW.flip(3), pixels_N3HW).contiguous(memory_format=torch.channels_last),
                torch.where(mirrored, tokens_NCgg.flip(3), tokens_NCgg),
                torch.from_numpy(pool.va_N2[rows]).float(),
                torch.from_numpy(pool.rated_N[rows]).float(),
            )
