"""Rated pictures as an encoder sees them; those of the splits `judge` and `test` are never looked at.

Shapes: N pictures, C channels; va [N, 2] is valence, arousal.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from huesong import contracts
from huesong.config import PreprocessConfig
from huesong.data.splits import assign_splits
from huesong.data.tables import read_table
from huesong.emotion.labelled import MIN_GROUPS, MIN_ITEMS
from huesong.pictures.decode import decode
from huesong.pictures.encoders import Encoder
from huesong.pictures.zero_shot import ZeroShot
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log, track

LEAST_PICTURES, LEAST_THEMES = 4 * MIN_ITEMS, 5 * MIN_GROUPS
"""So that folds within folds hold enough."""
THUMBNAIL = 128


def rated_table(data: Path, preprocess: PreprocessConfig) -> pd.DataFrame:
    """The rows of images.csv that people rated, of splits train and val, with their `split`."""
    table = read_table(data, contracts.IMAGES_CSV)
    table["split"] = assign_splits(table, preprocess.splits, preprocess.seed, with_judge=False)
    measured = table["label_kind"].map(contracts.LABEL_WEIGHTS).fillna(0.0) >= 1.0
    rated = table["valence"].notna() & table["arousal"].notna() & measured
    return table[rated & table["split"].isin(("train", "val"))]


@dataclass
class Rated:
    """Pictures with a mean rating: pooled features, ratings, themes, small copies, and how long reading them took."""

    ids: np.ndarray
    pooled_NC: np.ndarray
    va_N2: np.ndarray
    theme_N: np.ndarray
    split_N: np.ndarray
    thumbnails: list[Image.Image]
    milliseconds: float

    @classmethod
    def read(cls, data: Path, encoder: Encoder | ZeroShot, preprocess: PreprocessConfig) -> Rated:
        """The rated pictures of `data` in splits train and val; files that do not open are left out with a log line.

        Args:
            data: the data folder; only images.csv and its pictures are read.
            encoder: of kind `features`, or what reads without ratings: its readings are the features.
            preprocess: its seed and splits say which pictures are held out.

        Raises:
            UserError: an encoder without features, a bad table, or too few rated pictures or themes.
        """
        if encoder.kind != "features":
            raise UserError(
                f"encoder '{encoder.name}' gives pixels, which are read by a trained network alone: name another"
            )
        table = rated_table(data, preprocess)
        rows, pooled, thumbnails, seconds = [], [], [], []
        for row, path in enumerate(track(table["path"], "reading pictures", len(table))):
            started = time.perf_counter()
            try:
                image = decode(data / path, preprocess.max_pixels)
            except UserError as error:
                log.warning("left out: %s", error)
                continue
            pooled.append(encoder.encode([image])[0].astype(np.float64).mean(axis=0))
            seconds.append(time.perf_counter() - started)
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            rows.append(row)
            thumbnails.append(image)
        table = table.iloc[rows]
        themes = table["group"].nunique()
        if len(table) < LEAST_PICTURES or themes < LEAST_THEMES:
            raise UserError(
                f"{data} has {len(table)} rated pictures of {themes} themes outside the test split, and at least "
                f"{LEAST_PICTURES} of {LEAST_THEMES} are needed: import a rated set (`huesong data import`)"
            )
        return cls(
            table["id"].to_numpy(str), np.stack(pooled), table[["valence", "arousal"]].to_numpy(float),
            table["group"].to_numpy(str), table["split"].to_numpy(str), thumbnails, 1e3 * float(np.median(seconds)),
        )  # fmt: skip
