"""What training reads of the tables, packed into plain arrays, so that training needs no pandas.

Shapes: N pieces (music segments), I pictures, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.label.picture_reader import kept_by_head, names_of, picture_certainty, picture_reader
from huesong.runtime.files import write_json


def write_training_table(
    folder: Path,
    *,
    images: pd.DataFrame,
    pieces: pd.DataFrame,
    image_labels: pd.DataFrame,
    piece_labels: pd.DataFrame,
    pairs: pd.DataFrame,
    pictures: np.ndarray,
    head: Mapping[str, np.ndarray],
    request_map: str = "rank",
) -> None:
    """Write contracts.TRAINING_TABLE, SOURCES and, where pictures are rated, PICTURE_CERTAINTY and _NAMES into `folder`.

    Args:
        folder: of the label stage.
        images, pieces: contracts.IMAGES_TABLE and PIECES_TABLE.
        image_labels, piece_labels: contracts.LABEL_COLUMNS, row by row as in those tables.
        pairs: contracts.PAIR_COLUMNS.
        pictures: PICTURE_FEATURES, row by row as `images`: what a model reads pictures by is fitted to them.
        request_map: label.request_map.
        head: buffers of the head that reads pictures, where another model's labels them (label.lent); else empty.
    """
    assert image_labels["id"].tolist() == images["id"].tolist(), "labels are in the order of their table"
    assert piece_labels["id"].tolist() == pieces["id"].tolist(), "labels are in the order of their table"
    offset = pieces["segment_start_s"].to_numpy(float)
    last = pieces.groupby("piece")["segment_start_s"].transform("max").to_numpy(float)
    arrays = {
        "token_start_N": pieces["token_start"].to_numpy(np.int64),
        "token_count_N": pieces["token_count"].to_numpy(np.int64),
        "closes_N": offset >= last,
        "on_bars_N": on_bars(pieces),
        **{f"piece_{key}": value for key, value in _labels(piece_labels).items()},
        **{f"picture_{key}": value for key, value in _labels(image_labels).items()},
        "pair_picture_P": _rows(pairs["image_id"], images["id"]),
        "pair_piece_P": _rows(pairs["piece_id"], pieces["id"]),
        "pair_split_P": pairs["split"].to_numpy(str),
        "pair_va_P2": pairs[["valence", "arousal"]].to_numpy(np.float32),
    }
    reader = picture_reader(
        pictures, arrays["picture_va"], arrays["picture_rated"], arrays["picture_split"],
        arrays["pair_picture_P"], arrays["pair_split_P"], arrays["pair_va_P2"], images["group"].to_numpy(str), request_map,
    )  # fmt: skip
    arrays |= {f"{contracts.READER_PREFIX}{name}": values for name, values in (reader | dict(head)).items()}
    with (folder / contracts.TRAINING_TABLE).open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    certainty = picture_certainty(
        pictures, arrays["picture_va"], arrays["picture_rated"], arrays["picture_split"], images["group"].to_numpy(str)
    )
    if certainty is not None:
        certainty.save(folder / contracts.PICTURE_CERTAINTY)
    if "va_head.known_KC" in reader and not head:
        kept = images.iloc[kept_by_head(arrays["picture_rated"], arrays["picture_split"])]
        write_json(folder / contracts.PICTURE_NAMES, names_of(kept["id"].tolist(), kept["group"].tolist()))
    write_json(folder / contracts.SOURCES, sources(images, pieces))


def on_bars(pieces: pd.DataFrame) -> np.ndarray:
    """Whether each segment stands on bars that mean something [N]: a network learns from these alone.

    Where split `train` has none, as of recordings without a beat, all do.
    """
    found: np.ndarray = (pieces["bars_from"] != "none").to_numpy()
    return found if found[(pieces["split"] == "train").to_numpy()].any() else np.ones(len(pieces), dtype=bool)


def sources(images: pd.DataFrame, pieces: pd.DataFrame) -> list[dict[str, Any]]:
    """What a model learns from, for its card: one row a source, licence and kind of label, with the number of items."""
    rows = []
    for kind, table in (("pictures", images), ("music segments", pieces)):
        learnt = table[table["split"].isin(("train", "val"))].fillna({"source": "", "licence": "", "label_kind": ""})
        for (source, licence, label_kind), part in learnt.groupby(["source", "licence", "label_kind"]):
            rows.append(
                {"source": source, "licence": licence, "labels": label_kind or "none", "kind": kind, "items": len(part)}
            )
    return rows


def _labels(labels: pd.DataFrame) -> dict[str, np.ndarray]:
    """id, split, VA [N, 2], trust in people's label [N] and in any label [N]."""
    origin = labels["origin"].fillna("").astype(str)
    rated = np.array([contracts.LABEL_WEIGHTS.get(kind, 0.0) for kind in origin], dtype=np.float32)
    va = labels[["valence", "arousal"]].to_numpy(np.float32)
    weight = labels["weight"].to_numpy(np.float32, copy=True)
    unknown = np.isnan(va).any(axis=1)
    rated[unknown] = weight[unknown] = 0.0
    return {
        "id": labels["id"].to_numpy(str), "split": labels["split"].to_numpy(str), "va": va, "rated": rated,
        "weight": weight,
    }  # fmt: skip


def _rows(wanted: pd.Series, ids: pd.Series) -> np.ndarray:
    """Row numbers of `wanted` in `ids`."""
    place = pd.Index(ids.astype(str)).get_indexer(pd.Index(wanted.astype(str)))
    assert (place >= 0).all(), "pairs are made of these tables"
    return np.asarray(place, dtype=np.int64)
