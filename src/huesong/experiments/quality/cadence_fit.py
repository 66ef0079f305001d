"""The weights of the cadence detector (evaluate/quality/cadences.json), from scores in which people marked cadences.

python -m huesong.experiments.quality.cadence_fit FOLDER    # that holds music_annotated/

Fitted on split `train` of the index; thresholds are the best there, F1 is measured on split `val`.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from huesong.evaluate.quality import cadences
from huesong.evaluate.quality.cadences import HEADS, NEAR, beat_features, peaks, with_neighbours
from huesong.evaluate.quality.piece import piece_of
from huesong.music.reading import read_score
from huesong.runtime.files import write_json

THRESHOLDS = np.linspace(-3.5, 1.5, 26)
RIDGE = 0.1
ANNOTATED = "music_annotated"


def fit(folder: Path) -> dict[str, Any]:
    """What cadences.json holds."""
    marked = marks(folder / ANNOTATED / "harmony.csv")
    with (folder / ANNOTATED / "index.csv").open(encoding="utf-8") as stream:
        index = list(csv.DictReader(stream))
    pieces: dict[str, list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]] = {"train": [], "val": []}
    for row in index:
        places = marked[row["id"]]
        if row["split"] in pieces and len(places["cadence"]):
            pieces[row["split"]].append((*beat_features(piece_of(read_score(folder / row["path"]))), places))
    return {name: fit_head(name, pieces["train"], pieces["val"]) for name in HEADS}


def marks(table: Path) -> dict[str, dict[str, np.ndarray]]:
    """For each piece where people marked cadences and phrase ends, quarters."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: {"cadence": [], "phrase": []})
    with table.open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["cadence"]:
                found[row["id"]]["cadence"].append(float(row["start_quarters"]))
            if "}" in row["phraseend"]:
                found[row["id"]]["phrase"].append(float(row["start_quarters"]))
    return defaultdict(
        lambda: {"cadence": np.zeros(0), "phrase": np.zeros(0)},
        {name: {kind: np.array(sorted(at)) for kind, at in one.items()} for name, one in found.items()},
    )


def fit_head(name: str, train: list[Any], val: list[Any]) -> dict[str, Any]:
    """Logistic regression, the threshold with the best F1 on `train`, and F1, precision and recall on `val`."""
    from sklearn.linear_model import LogisticRegression

    used = HEADS[name]
    rows = np.concatenate([with_neighbours(features, used) for _, features, _ in train])
    hit = np.concatenate(
        [np.abs(beats[:, None] - at[name]).min(axis=1, initial=np.inf) < 0.26 for beats, _, at in train]
    )
    mean, sd = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    model = LogisticRegression(C=RIDGE, max_iter=2000).fit((rows - mean) / sd, hit)
    weights, bias = model.coef_[0], float(model.intercept_[0])

    def scored(pieces: list[Any]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return [(beats, ((with_neighbours(x, used) - mean) / sd) @ weights + bias, at[name]) for beats, x, at in pieces]

    on_train = scored(train)
    threshold = float(max(THRESHOLDS, key=lambda limit: agreement(on_train, limit)["f1"]))
    return {
        "features": list(used), "mean": mean.round(5).tolist(), "sd": sd.round(5).tolist(),
        "weights": weights.round(5).tolist(), "bias": round(bias, 5), "threshold": round(threshold, 3),
        "train": agreement(on_train, threshold), "val": agreement(scored(val), threshold),
    }  # fmt: skip


def agreement(pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]], threshold: float) -> dict[str, float]:
    """F1, precision and recall of the places found within NEAR of marked ones, over all pieces; and how many are marked."""
    right = found = marked = caught = 0
    for beats, score, at in pieces:
        places = peaks(beats, score, threshold)
        apart = np.abs(places[:, None] - at) <= NEAR + 1e-6
        right, found = right + int(apart.any(axis=1).sum()), found + len(places)
        caught, marked = caught + int(apart.any(axis=0).sum()), marked + len(at)
    precision, recall = right / max(found, 1), caught / max(marked, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {"f1": round(f1, 4), "precision": round(precision, 4), "recall": round(recall, 4), "marked": marked,
            "pieces": len(pieces)}  # fmt: skip


if __name__ == "__main__":
    found = fit(Path(sys.argv[1]))
    write_json(Path(cadences.__file__).with_name(cadences.WEIGHTS), found)
    for head, figures in found.items():
        print(head, figures["train"], figures["val"])
