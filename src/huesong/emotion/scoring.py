"""How well predictions agree with people: one item a piece, whole groups resampled. For labellers, critic and judges."""

from __future__ import annotations

import numpy as np
import pandas as pd

from huesong.emotion.labelled import MEASURED
from huesong.va import Bootstrap, agreement

LEAST_BY_SOURCE = 10
"""Items a source needs for figures of its own."""


def scores_by_source(items: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, float]:
    """`agree` over all items with a measured label, and over every source by itself; `items` are those of `by_piece`.

    Figures of one source carry its name as a prefix and no confusion counts. Sources with nominal labels only
    (quadrants, tags) enter by their prefix alone: a distance from a nominal centre is no error.
    """
    scores = agree(items[items["label_kind"].isin(MEASURED)], bootstrap)
    for source, part in items.groupby("source"):
        if len(part) >= LEAST_BY_SOURCE:
            own = agree(part, bootstrap)
            scores |= {f"{source}_{key}": value for key, value in own.items() if "confusion" not in key}
    return scores


def by_piece(pieces: pd.DataFrame, predicted: np.ndarray) -> pd.DataFrame:
    """One row a piece: its label, and `predicted` [N, 2] averaged over its segments (segments share the label)."""
    columns = ["id", "valence", "arousal", "label_kind", "source", "split", "group"]
    table = pieces[columns].assign(
        piece=pieces["piece"] if "piece" in pieces else pieces["id"],
        predicted_valence=predicted[:, 0],
        predicted_arousal=predicted[:, 1],
    )
    grouped = table.groupby("piece", sort=False)
    found = grouped[columns].first()
    found[["predicted_valence", "predicted_arousal"]] = grouped[["predicted_valence", "predicted_arousal"]].mean()
    return found.reset_index()


def agree(items: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, float]:
    """`va.agreement` of the label columns with the predicted ones; whole groups (songs, picture themes) are resampled."""
    label, predicted = (
        items[[f"{start}valence", f"{start}arousal"]].to_numpy(dtype=np.float64) for start in ("", "predicted_")
    )
    return agreement(label, predicted, bootstrap.over(items["group"].to_numpy()))
