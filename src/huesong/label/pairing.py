"""Pairing pictures with music by nearness in VA space, after the map of va_map.py.

The load is balanced, so that no piece stands for half of all pictures.

Shapes: N pictures, M pieces, k pieces a picture; points are [.., 2], valence first.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from huesong import contracts
from huesong.config import LabelConfig
from huesong.emotion.labelled import MEASURED
from huesong.label.labels import va_of
from huesong.label.va_map import VAMap
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log

PAIRED = ("train", "val", "test")
"""Splits that are paired, each with music of its own; `judge` music is the judge's alone."""
LEAST_MEASURED = 50
"""So many measured items show a set's distribution by themselves."""
NEAR = 64
"""Neighbours looked up at once; only a picture whose neighbours are all taken looks at every piece."""


def make_pairs(images: pd.DataFrame, pieces: pd.DataFrame, config: LabelConfig) -> pd.DataFrame:
    """contracts.PAIR_COLUMNS: pictures with their nearest segments, each split by itself.

    The map into the music's distribution is read off the labelled items of the training split (`range_shown`) and applied to
    all, as it is to new pictures. A split without pictures or music has no pairs, which is logged.

    Raises:
        UserError: the training split has none.
    """
    counts = [int((table["split"] == "train").sum()) for table in (images, pieces)]
    if not all(counts):
        raise UserError(
            f"split train has {counts[0]} pictures and {counts[1]} pieces of music: pairing needs both; "
            "import more of what is missing (`huesong data import`)"
        )
    va_map = VAMap.fit(range_shown(images), range_shown(pieces), config.pairing_map)
    parts = []
    for split in PAIRED:
        shown, music = images[images["split"] == split], pieces[pieces["split"] == split]
        if shown.empty or music.empty:
            log.warning("label: no pairs in split %s (%d pictures, %d pieces)", split, len(shown), len(music))
            continue
        mapped = va_map.apply(va_of(shown))
        index, distance = pair(mapped, va_of(music), config.pairs_per_image, config.max_load)
        n, k = index.shape
        parts.append(
            pd.DataFrame(
                {
                    "image_id": np.repeat(shown["id"].to_numpy(), k), "piece_id": music["id"].to_numpy()[index.ravel()],
                    "split": split, "rank": np.tile(np.arange(k), n), "distance": distance.ravel(),
                    "valence": np.repeat(mapped[:, 0], k), "arousal": np.repeat(mapped[:, 1], k),
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)[list(contracts.PAIR_COLUMNS)]


def range_shown(labels: pd.DataFrame) -> np.ndarray:
    """The points [N, 2] of split `train` that show how far a set reaches: measured ones, where there are enough.

    Predictions are drawn towards the mean, so that a set of mostly predicted items looks narrower than it is.
    """
    train = labels[labels["split"] == "train"]
    measured = train[train["origin"].isin(MEASURED)]
    return va_of(measured if len(measured) >= LEAST_MEASURED else train)


def pair_figures(pairs: pd.DataFrame) -> dict[str, float]:
    """How near the training pairs are, and how evenly the music is used."""
    train = pairs[pairs["split"] == "train"]
    load = train["piece_id"].value_counts()
    return {
        "pairs": len(pairs),
        **{f"pairs_{split}": int((pairs["split"] == split).sum()) for split in PAIRED},
        "pairs_mean_distance": float(train["distance"].mean()),
        "pairs_nearest_mean_distance": float(train.loc[train["rank"] == 0, "distance"].mean()),
        "pairs_p95_distance": float(train["distance"].quantile(0.95)),
        "pairs_pieces_used": int(load.size),
        "pairs_most_used": int(load.max()),
    }


def load_limit(pictures: int, pieces: int, k: int, max_load: float) -> int:
    """How often one piece may be taken: ceil(max_load * fair share), with fair share N * k / M, at least 1."""
    return math.ceil(max_load * max(1.0, pictures * k / pieces) - 1e-9)


def pair(image_va: np.ndarray, piece_va: np.ndarray, k: int, max_load: float) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest pieces of every picture, no piece taken more often than `load_limit`.

    Greedy in rounds: every picture gets its first piece before any gets its second, and within a round pictures that
    lie nearest to music choose first. Deterministic. Memory is N * NEAR, never N * M.

    Args:
        image_va: [N, 2], already mapped.
        piece_va: [M, 2].
        k: distinct pieces a picture; M where M < k.
        max_load: >= 1, times the fair share.

    Returns:
        Rows of `piece_va` and Euclidean distances, both [N, k], nearest first.
    """
    pictures, pieces = np.asarray(image_va, dtype=np.float64), np.asarray(piece_va, dtype=np.float64)
    if max_load < 1 or k < 1:
        raise ValueError(f"pair needs k >= 1 and max_load >= 1, got {k} and {max_load}")
    k = min(k, len(pieces))
    if not len(pictures) or not k:
        return np.zeros((len(pictures), k), dtype=np.int64), np.zeros((len(pictures), k))
    room = np.full(len(pieces), load_limit(len(pictures), len(pieces), k, max_load))
    tree = NearestNeighbors(algorithm="kd_tree").fit(pieces)
    near_distance, near = tree.kneighbors(pictures, n_neighbors=min(len(pieces), max(NEAR, 4 * k)))
    taken: list[list[int]] = [[] for _ in pictures]
    for rank in range(k):
        for row in np.argsort(near_distance[:, rank], kind="stable"):
            piece = next((p for p in near[row].tolist() if room[p] > 0 and p not in taken[row]), None)
            if piece is None:
                piece = _look_further(row, pictures, pieces, room, taken)
            taken[row].append(piece)
            room[piece] -= 1
    chosen = np.array(taken, dtype=np.int64)
    distance = np.sqrt(((pieces[chosen] - pictures[:, None]) ** 2).sum(axis=2))
    order = np.lexsort((chosen, distance), axis=1)
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(distance, order, axis=1)


def _look_further(row: int, pictures: np.ndarray, pieces: np.ndarray, room: np.ndarray, taken: list[list[int]]) -> int:
    """The nearest piece with room beyond the neighbours of picture `row`; another picture may have to swap for it."""
    squared = ((pieces - pictures[row]) ** 2).sum(axis=1)
    squared[taken[row]] = np.inf
    with_room = np.where(room > 0, squared, np.inf)
    if np.isfinite(with_room.min()):
        return int(with_room.argmin())
    # Every piece with room is this picture's already. A full piece has more takers than one with room, so one of them
    # can take the piece with room instead.
    wanted, spare = int(squared.argmin()), int(room.argmax())
    assert room[spare] > 0, "the load limit leaves room for all"
    other = next(held for held in taken if wanted in held and spare not in held)
    other[other.index(wanted)] = spare
    room[spare] -= 1
    room[wanted] += 1
    return wanted
