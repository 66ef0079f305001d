"""What a model reads the valence and arousal of a picture by, and what it asks of music for it; fitted in closed form.

The kernel ridge head on frozen features and the map from picture VA to music VA. `train` puts both into the model
(train/picture_head.py); only the `builtin` CNN learns its VA head by gradient, with the network. Beside them, how sure a
reading is.

Shapes: N rated pictures, I pictures, S image tokens, C channels, P pairs, K knots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from huesong.emotion.certainty import Certainty, Distance
from huesong.emotion.kernel import PictureKernelVA
from huesong.emotion.labelled import MIN_GROUPS, MIN_ITEMS, group_folds
from huesong.label.va_map import VAMap, request_map

MOST_KEPT = 2048
"""Rated pictures that a head keeps, so that a model stays small: 5 MB of float16 with 1,280 channels."""
FOLDS = 5


def picture_reader(
    rows: np.ndarray, va_I2: np.ndarray, rated_I: np.ndarray, split_I: np.ndarray,
    picture_P: np.ndarray, split_P: np.ndarray, va_P2: np.ndarray, group_I: np.ndarray | None = None, kind: str = "rank",
) -> dict[str, np.ndarray]:  # fmt: skip
    """Buffers of `model.image_encoder` by their name in its state, float32; those that cannot be fitted are left out.

    Args:
        rows: features [I, S, C], or pixels [I, H, W, 3], which have no head in closed form.
        va_I2, rated_I, split_I: the pictures' labels, the trust in people's label (0: none), and their splits.
        picture_P, split_P, va_P2: the pairs' pictures, their splits, and the pictures' labels after the pairing's map.
        group_I: the pictures' groups (themes). None: each picture is one.
        kind: of `label.request_map`.
    """
    found: dict[str, np.ndarray] = {}
    predicted_N2 = None
    kept = kept_by_head(rated_I, split_I)
    if rows.ndim == 3 and len(kept):
        pooled_NC = np.stack([np.asarray(rows[row], dtype=np.float64).mean(axis=0) for row in kept])
        head = PictureKernelVA.fit(pooled_NC, va_I2[kept], rated_I[kept])
        found = {
            "va_head.mean_C": head.mean_F, "va_head.scale_C": head.scale_F,
            "va_head.known_KC": head.known_KF, "va_head.dual_K2": head.dual_K2,
            "va_head.bias_2": head.centre,
        }  # fmt: skip
        predicted_N2 = out_of_fold(pooled_NC, va_I2[kept], rated_I[kept])
    train_P = split_P == "train"
    request = rank_map(va_I2[picture_P[train_P]], va_P2[train_P], predicted_N2) if kind == "rank" else None
    if kind != "rank" and predicted_N2 is not None:
        request = request_of(kind, pooled_NC, va_I2[kept], rated_I[kept], None if group_I is None else group_I[kept])
    if request is not None:
        found["map_from_K2"], found["map_to_K2"] = (np.stack(ends, axis=1) for ends in zip(*request.knots, strict=True))
    return {name: values.astype(np.float32) for name, values in found.items()}


def kept_by_head(rated_I: np.ndarray, split_I: np.ndarray) -> np.ndarray:
    """Rows of the rated training pictures that a head in closed form keeps."""
    return thinned(np.flatnonzero((split_I == "train") & (rated_I > 0)))


def names_of(ids: Sequence[str], groups: Sequence[str]) -> dict[str, list[str]]:
    """The content of contracts.PICTURE_NAMES: of each picture its id, and its group where that is another word."""
    pairs = zip(ids, groups, strict=True)
    return {"names": [str(one) if one == group else f"{one} ({group})" for one, group in pairs]}


def picture_certainty(
    rows: np.ndarray, va_I2: np.ndarray, rated_I: np.ndarray, split_I: np.ndarray, group_I: np.ndarray
) -> Certainty | None:
    """How sure the head's readings are, learnt from rated training pictures whose whole groups (themes) it was not shown.

    None where the pictures are pixels, or too few pictures or groups are rated: of nominal labels the error is not known.
    """
    kept = thinned(np.flatnonzero((split_I == "train") & (rated_I >= 1.0)))
    if rows.ndim != 3 or len(kept) < 2 * MIN_ITEMS or len(np.unique(group_I[kept])) < 2 * MIN_GROUPS:
        return None
    pooled_NC = np.stack([np.asarray(rows[row], dtype=np.float64).mean(axis=0) for row in kept])
    read_N2, variance_N = read_as_new(pooled_NC, va_I2[kept], rated_I[kept], group_I[kept])
    return Certainty.fit(read_N2, variance_N, va_I2[kept].astype(np.float64), len(np.unique(group_I[kept])))


def read_as_new(
    pooled_NC: np.ndarray, va_N2: np.ndarray, weight_N: np.ndarray, group_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Readings [N, 2] and variances [N] of each picture by a head that saw nothing of its group."""
    read_N2, variance_N = np.zeros((len(pooled_NC), 2)), np.zeros(len(pooled_NC))
    for known, new in group_folds(group_N, FOLDS):
        head = PictureKernelVA.fit(pooled_NC[known], va_N2[known], weight_N[known])
        read_N2[new] = head.predict(pooled_NC[new])
        variance_N[new] = Distance(head.known_KF, head.PENALTY).variance(head.standardised(pooled_NC[new]))
    return read_N2, variance_N


def thinned(rows: np.ndarray) -> np.ndarray:
    """At most MOST_KEPT of these rows, every so-many-th: the table's order has nothing to do with emotion."""
    return rows[np.linspace(0, len(rows) - 1, MOST_KEPT).round().astype(int)] if len(rows) > MOST_KEPT else rows


def request_of(
    kind: str, pooled_NC: np.ndarray, va_N2: np.ndarray, weight_N: np.ndarray, group_N: np.ndarray | None
) -> VAMap:
    """The map of that kind (`va_map.request_map`), from readings by heads that saw nothing of a picture's group."""
    if group_N is None or len(np.unique(group_N)) < 2 * FOLDS:
        read_N2 = out_of_fold(pooled_NC, va_N2, weight_N)
    else:
        read_N2, _ = read_as_new(pooled_NC, va_N2, weight_N, group_N)
    return request_map(kind, read_N2, va_N2)


def rank_map(own_P2: np.ndarray, mapped_P2: np.ndarray, predicted_N2: np.ndarray | None) -> VAMap | None:
    """From what the head predicts for a picture to what is asked of the music; None where too little is known.

    Where it leads is read off the pairs, the mapped labels of the training pictures. It starts from the same quantiles
    of `predicted_N2`, the head's out-of-fold predictions: a regression draws towards the mean, and without giving the
    spread back, nothing but mild music would ever be asked for (the concordance with the truth is the better for it:
    at correlation r it is r with the spread given back, and 2 r^2 / (1 + r^2) without). None: from the labels.
    """
    known = ~(np.isnan(own_P2).any(axis=1) | np.isnan(mapped_P2).any(axis=1))
    if known.sum() < 2:
        return None
    spread = predicted_N2 is not None and bool((np.ptp(predicted_N2, axis=0) > 1e-3).all())
    start_N2 = predicted_N2 if predicted_N2 is not None and spread else own_P2[known]
    return VAMap.between_quantiles(start_N2, mapped_P2[known])


def out_of_fold(pooled_NC: np.ndarray, va_N2: np.ndarray, weight_N: np.ndarray) -> np.ndarray:
    """What a head that has not seen the picture predicts for it [N, 2]; the mean rating where N < 2 FOLDS."""
    if len(pooled_NC) < 2 * FOLDS:
        return np.tile(np.average(va_N2, axis=0, weights=weight_N), (len(pooled_NC), 1))
    predicted_N2 = np.empty((len(pooled_NC), 2))
    for fold in range(FOLDS):
        held_N = np.arange(len(pooled_NC)) % FOLDS == fold
        head = PictureKernelVA.fit(pooled_NC[~held_N], va_N2[~held_N], weight_N[~held_N])
        predicted_N2[held_N] = head.predict(pooled_NC[held_N])
    return predicted_N2
