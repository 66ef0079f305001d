"""The counts of the pictures that a model was made with, as the model itself sees them."""

from __future__ import annotations

from pathlib import Path

from huesong import contracts
from huesong.compose.drift.counts import LOOKS, Counts, of_values
from huesong.runtime.files import require

ENOUGH = 200
"""So many pictures of split `val` stand for all."""
MOST = 2000
"""Pictures are spread evenly over all, at most so many: more tell no more about a histogram."""


def learnt_counts(preprocess: Path, train: Path) -> Counts:
    """Counts of the pictures of split `val`, which the reading was not fitted to; where they are too few, of `train`, too.

    The emotion is the model's reading, as it is of what is asked: people's ratings spread wider than any reading.

    Args:
        preprocess, train: artifact folders.

    Raises:
        UserError: one is missing or damaged.
    """
    import numpy as np
    import pandas as pd

    from huesong.model.folder import load_model
    from huesong.model.requests import Request, conditioning_of
    from huesong.pictures.colours import COLOUR_NAMES

    images = pd.read_parquet(require(preprocess / contracts.IMAGES_TABLE, "huesong preprocess"))
    held_out = (images["split"] == "val").to_numpy()
    rows = np.flatnonzero(held_out if held_out.sum() >= ENOUGH else images["split"].isin(["train", "val"]))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(int))]
    model = load_model(require(train / contracts.MODEL, "huesong train"))
    pictures = np.load(preprocess / contracts.PICTURE_FEATURES, mmap_mode="r", allow_pickle=False)
    statistics = np.load(preprocess / contracts.PICTURE_COLOURS, allow_pickle=False)
    values = []
    for row in rows.tolist():
        seen = conditioning_of(model, Request(pictures[row])).predicted
        assert seen is not None, "it has a picture"
        own = dict(zip(COLOUR_NAMES, statistics[row].tolist(), strict=True))
        values.append({"valence": seen[0], "arousal": seen[1], **{name: own[name] for name in LOOKS}})
    return of_values(values)
