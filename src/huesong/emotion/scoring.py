"""How well predictions of music agree with people: one item a piece, whole groups resampled."""

from __future__ import annotations

import numpy as np
import pandas as pd

from huesong.emotion.labellers import MEASURED
from huesong.va import agreement

LEAST_BY_SOURCE = 10
"""Held-out pieces a source needs for figures of its own."""


def held_out_scores(pieces: pd.DataFrame, heard: np.ndarray, bootstrap: int, seed: int) -> dict[str, float]:
    """`space.agreement` of labelled segments with `heard` [N, 2], one item a piece: the mean over its segments.

    Figures of one source carry its name as a prefix and no confusion counts. Sources with nominal labels only
    (quadrants, tags) enter by their prefix alone.
    """
    found = by_piece(pieces, heard)
    scores = agree(found[found["label_kind"].isin(MEASURED)], bootstrap, seed)
    for source, part in found.groupby("source"):
        if len(part) >= LEAST_BY_SOURCE:
            own = agree(part, bootstrap, seed)
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


def agree(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, float]:
    """`space.agreement` of the label columns with the predicted ones; whole groups (songs, picture themes) are resampled."""
    return agreement(
        rows[["valence", "arousal"]].to_numpy(dtype=np.float64),
        rows[["predicted_valence", "predicted_arousal"]].to_numpy(dtype=np.float64),
        bootstrap,
        seed,
        rows["group"].to_numpy(),
    )
