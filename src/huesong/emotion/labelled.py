"""People's labels as fits take them (values, trust, groups that no fold splits), and how well predictions agree with them.

Shapes: N items; va [N, 2] is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from huesong import contracts
from huesong.runtime.errors import UserError
from huesong.va import Bootstrap, agreement

if TYPE_CHECKING:
    import pandas as pd

MEASURED = ("mean_rating", "mean_slider", "construction")
"""Kinds of label that are a number for this very item; the others are nominal."""
MIN_ITEMS, MIN_GROUPS = contracts.LEAST_RATED
"""From fewer labelled items or groups than these nothing is learnt that could be checked."""
Folds = list[tuple[np.ndarray, np.ndarray]]
"""(train rows, test rows)."""


@dataclass(frozen=True)
class Labelled:
    """Labels of N items.

    weights: above 0; only their ratio counts.
    groups: such as a song with its versions.
    measured: bool; False for nominal labels (quadrant centres), whose distance from a prediction is no error.
    """

    va: np.ndarray
    weights: np.ndarray
    groups: Sequence[str] | np.ndarray
    measured: np.ndarray | None = None

    @classmethod
    def of(cls, table: pd.DataFrame, weights: np.ndarray | None = None) -> Labelled:
        """The labels of a table's rows, all of which have one; `weights` None: `label_weights` of the rows."""
        return cls(
            table[["valence", "arousal"]].to_numpy(dtype=np.float64),
            label_weights(table) if weights is None else weights,
            table["group"].to_numpy(dtype=str),
            table["label_kind"].isin(MEASURED).to_numpy(),
        )

    def folds(self, count: int) -> Folds:
        """`group_folds` of the items."""
        return group_folds(self.groups, count)

    def errors_shown_by(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows (bool) whose distance from a prediction is an error, and their shares of the weight: measured ones, or
        all where those are too few.
        """
        rows = np.ones(len(self.va), dtype=bool) if self.measured is None else np.asarray(self.measured, dtype=bool)
        if rows.sum() < MIN_ITEMS:
            rows = np.ones(len(self.va), dtype=bool)
        return rows, self.weights[rows] / self.weights[rows].sum()


def label_weights(table: pd.DataFrame) -> np.ndarray:
    """Weight [N] of every row in a fit: trust in its kind of label / segments of its piece; 0 = unlabelled."""
    kind = table["label_kind"].map(contracts.LABEL_WEIGHTS).to_numpy(dtype=np.float64)
    labelled = table[["valence", "arousal"]].notna().all(axis=1).to_numpy()
    share = 1.0 / table.groupby("piece")["piece"].transform("size").to_numpy() if "piece" in table else 1.0
    return np.where(labelled, kind * share, 0.0)


def group_folds(groups: Sequence[str] | np.ndarray, folds: int) -> Folds:
    """At most `folds` (train rows, test rows) that never split a group; fewer where there are fewer groups.

    Raises:
        UserError: too few items or groups.
    """
    from sklearn.model_selection import GroupKFold

    groups = np.asarray(groups, dtype=str)
    count = len(np.unique(groups))
    if len(groups) < MIN_ITEMS or count < MIN_GROUPS:
        raise UserError(
            f"only {len(groups)} labelled items in {count} groups: at least {MIN_ITEMS} in {MIN_GROUPS} groups are "
            "needed; import a rated set (`huesong data import`)"
        )
    return list(GroupKFold(min(folds, count)).split(groups, groups=groups))


# --- agreement with people --------------------------------------------------------------------

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
