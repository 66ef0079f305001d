"""The label of every picture and every piece of music: people's where there is one, else the labeller's.

Shapes: N items; points are [N, 2], valence first.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.emotion.labelled import MEASURED

RATER_SD = 0.36
"""Standard deviation of single ratings around their mean on [-1, 1]: EIMG .37 / .32, VGMIDI .32 / .32, OASIS .36 / .56."""
HALF_AXIS_SD = 12**-0.5
"""Standard deviation of a value of which only the sign is known: uniform on a half axis of length 1."""
PREDICTED_WEIGHT = 0.5
"""The most that a predicted label is trusted; a measured one has 1."""


def va_of(table: pd.DataFrame) -> np.ndarray:
    """The labels [N, 2]; NaN where there is none."""
    return table[["valence", "arousal"]].to_numpy(dtype=np.float64)


def label_items(table: pd.DataFrame, predicted: np.ndarray, sd: np.ndarray) -> pd.DataFrame:
    """contracts.LABEL_COLUMNS for every row of `table`.

    Args:
        table: with `valence`, `arousal`, `label_kind`, `n_raters`.
        predicted: the labeller's [N, 2]; out-of-fold where it was trained on the row.
        sd: its uncertainty [N, 2].

    A measured label stays; its sd is the standard error of a mean of `n_raters` ratings, 0 by construction. Of a
    nominal one (quadrant, tag) the sign is kept: see `within_quadrant`. Where there is no label, the prediction is it, and
    its weight falls from PREDICTED_WEIGHT to 0 as the uncertainty reaches the spread of the measured labels
    (without any: of the labels that the predictions and their errors imply).
    """
    given, kind = va_of(table), table["label_kind"].fillna("").to_numpy(dtype=str)
    has = ~np.isnan(given).any(axis=1)
    measured = has & np.isin(kind, MEASURED)
    nominal = has & ~measured & np.isin(kind, [name for name, weight in contracts.LABEL_WEIGHTS.items() if weight > 0])
    va, spread = np.array(predicted, dtype=np.float64), np.array(sd, dtype=np.float64)
    # Where nothing is measured the spread of the true labels is what the predictions have and what their errors add.
    implied = va.var(axis=0) + (spread**2).mean(axis=0) if len(va) else np.ones(2)
    prior = given[measured].var(axis=0) if measured.sum() > 1 else implied
    explained = 1.0 - np.min([spread**2 / np.maximum(prior, 1e-9), np.ones_like(spread)], axis=0)
    weight = PREDICTED_WEIGHT * explained.min(axis=1)
    va[measured] = given[measured]
    raters = np.maximum(pd.to_numeric(table["n_raters"], errors="coerce").fillna(1).to_numpy(dtype=np.float64), 1.0)
    error = np.where(kind == "construction", 0.0, RATER_SD / np.sqrt(raters))
    spread[measured] = error[measured, None]
    va[nominal], spread[nominal] = within_quadrant(given[nominal], va[nominal], spread[nominal])
    weight = np.where(measured | nominal, [contracts.LABEL_WEIGHTS.get(name, 0.0) for name in kind], weight)
    return pd.DataFrame(
        {
            "id": table["id"].to_numpy(), "split": table["split"].to_numpy(), "valence": va[:, 0], "arousal": va[:, 1],
            "valence_sd": spread[:, 0], "arousal_sd": spread[:, 1],
            "origin": np.where(measured | nominal, kind, "predicted"), "weight": weight,
        }
    )[list(contracts.LABEL_COLUMNS)]  # fmt: skip


def within_quadrant(nominal: np.ndarray, predicted: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N, 2] and sd [N, 2] where only a nominal centre is known, refined by the labeller within its quadrant.

    The mean of centre and prediction weighted by precision (a value known by its sign only has sd HALF_AXIS_SD around the
    centre): (centre / HALF_AXIS_SD^2 + predicted / sd^2) / (1 / HALF_AXIS_SD^2 + 1 / sd^2). It never leaves the quadrant:
    beyond the axis it is put at a tenth of the centre. A centre of exactly 0 has no sign to keep.
    """
    trust = HALF_AXIS_SD**-2, np.maximum(sd, 1e-3) ** -2
    blend = (nominal * trust[0] + predicted * trust[1]) / (trust[0] + trust[1])
    side = np.sign(nominal)
    kept = np.where(side == 0, blend, side * np.maximum(side * blend, 0.1 * np.abs(nominal)))
    return np.clip(kept, -1.0, 1.0), (trust[0] + trust[1]) ** -0.5
