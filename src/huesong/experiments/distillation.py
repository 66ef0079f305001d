"""Distil the project's own picture encoder and hold it against its teacher on pictures that neither was fitted to."""

from __future__ import annotations

import math
from pathlib import Path

from huesong import contracts
from huesong.config import PreprocessConfig
from huesong.data.splits import assign_splits
from huesong.data.tables import read_table
from huesong.emotion.kernel import PictureKernelVA
from huesong.experiments.distill import MEAN, SD, SIDE, Pictures, Projection, Recipe, draw_pool, train_student
from huesong.pictures.encoders import Encoder, Settings
from huesong.pictures.student import Figures
from huesong.runtime.errors import UserError
from huesong.runtime.files import check_replaceable, replacing_folder, write_json
from huesong.va import agreement_figures

FIGURES = "figures.json"
"""In the encoder's folder: how well student and teacher tell people's ratings of the validation pictures."""


def distill(data: Path, teacher: Encoder, out: Path, recipe: Recipe, preprocess: PreprocessConfig) -> Figures:
    """Train a student on the training pictures of `data` and write its encoder folder, ready for preprocess.encoder.

    Args:
        data: the data folder; only images.csv and its pictures are read.
        teacher: an encoder of kind `features`.
        out: folder to write, replaced as a whole: encoder.json, weights, figures.json.
        recipe: the settings.
        preprocess: its seed and splits say which pictures are held out, its picture_grid is the grid.

    Returns:
        Per source of rated validation pictures, what figures.json says: n, and r, ccc and mae of student and teacher.

    Raises:
        UserError: no pictures, a bad table, a teacher without features, or fewer training pictures than can be learnt from.
    """
    check_replaceable(out, (FIGURES,), [data])
    if teacher.kind != "features":
        raise UserError(f"encoder '{teacher.name}' gives pixels, which teach nothing: name a folder or a hub model")
    images = read_table(data, contracts.IMAGES_CSV)
    split = assign_splits(images, preprocess.splits, preprocess.seed, with_judge=False)
    train, val = (Pictures.read(images[split == name], data, preprocess.max_pixels) for name in ("train", "val"))
    if len(train.images) < 8:
        raise UserError(f"{data} has {len(train.images)} training pictures: import more with `huesong data import`")
    projection = Projection.fit(teacher.encode(train.images), recipe.architecture.channels)
    pool = draw_pool(train, teacher, projection, recipe)
    student = train_student(pool, recipe)
    probe = Settings(out.resolve().name, "features", (), SIDE, 1, MEAN, SD)
    encoder = Encoder(probe, student).with_pooling(preprocess.picture_grid)
    student.figures = figures = compare({"student": encoder, "teacher": teacher}, train, val)
    with replacing_folder(out, (FIGURES,), [data]) as work:
        encoder.save(work)
        write_json(work / FIGURES, figures)
    return figures


def compare(encoders: dict[str, Encoder], train: Pictures, val: Pictures) -> Figures:
    """How well each encoder's pooled features tell the ratings, by source, with the picture head that models have."""
    figures: Figures = {}
    for name, encoder in encoders.items():
        pooled_NC, seen_NC = (encoder.encode(part.images).astype(float).mean(axis=1) for part in (train, val))
        for source in sorted(set(val.source_N[val.rated_N > 0])):
            known, asked = ((part.source_N == source) & (part.rated_N > 0) for part in (train, val))
            own = figures.setdefault(str(source), {"val_pictures": float(asked.sum())})
            if known.sum() < 2 or asked.sum() < 2:
                continue
            head = PictureKernelVA.fit(pooled_NC[known], train.va_N2[known], train.rated_N[known])
            own |= agreement_figures(val.va_N2[asked], head.predict(seen_NC[asked]), f"{name}_")
    return figures


def table(figures: Figures) -> str:
    """The figures as lines for the console: r of valence and arousal, student and teacher side by side."""
    lines = []
    for source, own in figures.items():
        shown = [
            f"{axis} r {own.get(f'student_{axis}_r', math.nan):.2f} (teacher {own.get(f'teacher_{axis}_r', math.nan):.2f})"
            for axis in ("valence", "arousal")
        ]
        lines.append(f"{source}, {own['val_pictures']:.0f} validation pictures: {', '.join(shown)}")
    return "\n".join(lines)
