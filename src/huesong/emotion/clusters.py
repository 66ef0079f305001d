"""Which pieces of the evaluation are resampled together when an interval is drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd


def clusters(rows: pd.DataFrame) -> np.ndarray:
    """A number for each piece [N], equal for pieces that are drawn together (`space.bootstrap_interval`).

    The pieces for one picture, of whatever seed and model, share its request and what its features lead the model to,
    and nine pictures of sharks are much alike: they say little about the next picture, and the pictures are a sample of
    all there could be. So whole groups of pictures are drawn, the same that splits and folds keep together. The grid is
    a fixed design: all evaluations ask for the same 25 emotions, and no claim is made about others; what varies is the
    piece, and each is drawn on its own.

    Args:
        rows: `set` and, where any is of the set `pictures`, `image_group`.
    """
    pictures = (rows["set"] == "pictures").to_numpy()
    found = len(rows) + np.arange(len(rows))
    if pictures.any():
        found[pictures] = pd.factorize(rows.loc[pictures, "image_group"])[0]
    return found
