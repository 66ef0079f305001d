"""Stage 2, label: valence and arousal for every picture and segment, and the pairs that training reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from huesong import artifacts, contracts
from huesong.config import LabelConfig
from huesong.emotion import pairing
from huesong.emotion.boosting import cross_predict
from huesong.emotion.judge import agree, by_piece
from huesong.emotion.labellers import MEASURED, ImageLabeller, PieceLabeller, cross_predict_images, label_weights
from huesong.errors import UserError
from huesong.progress import log
from huesong.stages.label_report import write_report

FITTED_ON = ("train", "val")
"""Splits the final labellers are fitted to: never `judge`, never `test`."""


@dataclass
class LabelReport:
    """Figures and files of the stage."""

    metrics: dict[str, float]
    files: list[Path]


def run(config: LabelConfig, *, preprocess: Path, out: Path) -> LabelReport:
    """Label everything in `preprocess` and write the folder `out`.

    Raises:
        UserError: inputs are missing, or too little is rated to fit a labeller.
    """
    images = pd.read_parquet(artifacts.require(preprocess / contracts.IMAGES_TABLE, "huesong preprocess"))
    pieces = pd.read_parquet(artifacts.require(preprocess / contracts.PIECES_TABLE, "huesong preprocess"))
    features = pd.read_parquet(preprocess / contracts.PIECE_FEATURES).drop(columns="id")
    pictures = np.load(preprocess / contracts.PICTURE_FEATURES, mmap_mode="r", allow_pickle=False)
    colours = np.load(preprocess / contracts.PICTURE_COLOURS, allow_pickle=False)

    with artifacts.replacing_folder(out) as work:
        log.info("label: cross-validating the labellers by group")
        image_scores, image_folds = validate_images(images, pictures, colours, config)
        piece_scores, piece_folds = validate_pieces(pieces, features, config)
        rows = labelled_rows(images, FITTED_ON)
        taught = images.iloc[rows]
        image_labeller = ImageLabeller.fit(
            pictures[rows], colours[rows], va_of(taught), label_weights(taught), taught["group"].to_numpy(),
            taught["label_kind"].isin(MEASURED).to_numpy(),
        )  # fmt: skip
        rows = labelled_rows(pieces, FITTED_ON)
        piece_labeller = PieceLabeller.fit(pieces.iloc[rows], features.iloc[rows], config.seed)
        image_labeller.save(work / contracts.IMAGE_LABELLER)
        piece_labeller.save(work / contracts.PIECE_LABELLER)

        image_labels = label_items(
            images, image_labeller.predict(pictures, colours), image_labeller.uncertainty(len(images))
        )
        piece_labels = label_items(pieces, piece_labeller.predict(features), piece_labeller.uncertainty(features))
        pairs = make_pairs(image_labels, piece_labels, config)
        image_labels.to_parquet(work / contracts.IMAGE_LABELS, index=False)
        piece_labels.to_parquet(work / contracts.PIECE_LABELS, index=False)
        pairs.to_parquet(work / contracts.PAIRS, index=False)

        metrics = {
            **{f"images_{key}": value for key, value in image_scores.items()},
            **{f"pieces_{key}": value for key, value in piece_scores.items()},
            **pair_figures(pairs),
        }
        artifacts.write_json(work / contracts.METRICS, metrics)
        write_report(work, metrics, image_labels, piece_labels, pairs, image_folds, piece_folds)
    files = [out / contracts.METRICS, out / contracts.REPORT, *sorted((out / contracts.PLOTS).glob("*.png"))]
    return LabelReport(metrics, files)


def labelled_rows(table: pd.DataFrame, splits: tuple[str, ...]) -> np.ndarray:
    """Row numbers that carry a label, of the given splits."""
    return np.flatnonzero(table["split"].isin(splits).to_numpy() & (label_weights(table) > 0))


def va_of(table: pd.DataFrame) -> np.ndarray:
    """The labels [N, 2]."""
    return table[["valence", "arousal"]].to_numpy(dtype=np.float64)


def validate_images(
    images: pd.DataFrame, pictures: np.ndarray, colours: np.ndarray, config: LabelConfig
) -> tuple[dict[str, float], np.ndarray]:
    """Cross-validated agreement on labelled pictures outside `test`, and (label, prediction) [N, 4]."""
    rows = labelled_rows(images, FITTED_ON)
    table = images.iloc[rows]
    held = cross_predict_images(
        pictures[rows], colours[rows], va_of(table), label_weights(table), table["group"].to_numpy(), config.folds
    )
    return scored(table, held, config)


def validate_pieces(
    pieces: pd.DataFrame, features: pd.DataFrame, config: LabelConfig
) -> tuple[dict[str, float], np.ndarray]:
    """Cross-validated agreement on labelled segments outside `test`; the fold models are thrown away afterwards."""
    rows = labelled_rows(pieces, (*FITTED_ON, "judge"))
    table = pieces.iloc[rows]
    held = cross_predict(
        features.iloc[rows], va_of(table), label_weights(table), table["group"].to_numpy(), config.folds, config.seed
    )
    return scored(table, held, config)


def scored(table: pd.DataFrame, predicted: np.ndarray, config: LabelConfig) -> tuple[dict[str, float], np.ndarray]:
    """Out-of-fold predictions held against measured labels, one item a piece, overall and by source."""
    heard = by_piece(table, predicted)
    measured = heard[heard["label_kind"].isin(MEASURED)]
    scores = dict(agree(measured, config.bootstrap, config.seed))
    for source, part in heard.groupby("source"):
        found = agree(part, config.bootstrap, config.seed)
        scores |= {f"{source}_{key}": value for key, value in found.items() if "confusion" not in key}
    columns = ["valence", "arousal", "predicted_valence", "predicted_arousal"]
    return scores, measured[columns].to_numpy(dtype=np.float64)


def label_items(table: pd.DataFrame, predicted: np.ndarray, sd: np.ndarray) -> pd.DataFrame:
    """contracts.LABEL_COLUMNS for every row.

    Measured labels stay. Where only the quadrant (or a tag) is known, the prediction is moved into that quadrant: it takes
    the label's sign and at least a small distance from the axis. Where nothing is known, the prediction is the label.
    """
    given = table[["valence", "arousal"]].to_numpy(dtype=np.float64)
    kinds = table["label_kind"].to_numpy()
    va, origin = predicted.copy(), np.full(len(table), "predicted", dtype=object)
    measured = np.isin(kinds, MEASURED) & ~np.isnan(given).any(axis=1)
    va[measured], origin[measured] = given[measured], kinds[measured]
    coarse = ~measured & ~np.isnan(given).any(axis=1)
    side = np.sign(given[coarse])
    va[coarse] = side * np.maximum(side * (predicted[coarse] + given[coarse]) / 2, 0.1)
    origin[coarse] = kinds[coarse]
    sd = np.where(measured[:, None], np.minimum(sd, 0.1), sd)
    # Trust falls with the uncertainty: 1 for a measured label, 1 / (1 + (sd / 0.3)^2) for a prediction.
    weight = np.where(measured, 1.0, 1.0 / (1.0 + (sd.mean(axis=1) / 0.3) ** 2))
    return pd.DataFrame(
        {
            "id": table["id"].to_numpy(), "split": table["split"].to_numpy(), "valence": va[:, 0], "arousal": va[:, 1],
            "valence_sd": sd[:, 0], "arousal_sd": sd[:, 1], "origin": origin.astype(str), "weight": weight,
        }
    )[list(contracts.LABEL_COLUMNS)]  # fmt: skip


def make_pairs(images: pd.DataFrame, pieces: pd.DataFrame, config: LabelConfig) -> pd.DataFrame:
    """contracts.PAIR_COLUMNS: pictures with their nearest pieces, each split by itself.

    The map into the music's distribution is read off the training split and applied to all, as it is to new pictures.
    """
    train_images = images.loc[images["split"] == "train", ["valence", "arousal"]].to_numpy()
    train_pieces = pieces.loc[pieces["split"] == "train", ["valence", "arousal"]].to_numpy()
    mapped_train = pairing.map_va(train_images, train_pieces, config.pairing_map)
    parts = []
    for split in ("train", "val", "test"):
        shown, heard = images[images["split"] == split], pieces[pieces["split"] == split]
        if shown.empty or heard.empty:
            continue
        mapped = pairing.apply_map(shown[["valence", "arousal"]].to_numpy(), train_images, mapped_train)
        index, distance = pairing.pair(
            mapped, heard[["valence", "arousal"]].to_numpy(), config.pairs_per_image, config.max_load
        )
        n, k = index.shape
        parts.append(
            pd.DataFrame(
                {
                    "image_id": np.repeat(shown["id"].to_numpy(), k), "piece_id": heard["id"].to_numpy()[index.ravel()],
                    "split": split, "rank": np.tile(np.arange(k), n), "distance": distance.ravel(),
                    "valence": np.repeat(mapped[:, 0], k), "arousal": np.repeat(mapped[:, 1], k),
                }
            )
        )  # fmt: skip
    if not parts:
        raise UserError("no picture can be paired: every split needs both pictures and music")
    return pd.concat(parts, ignore_index=True)[list(contracts.PAIR_COLUMNS)]


def pair_figures(pairs: pd.DataFrame) -> dict[str, float]:
    """How near the pairs are, and how evenly the music is used."""
    train = pairs[pairs["split"] == "train"]
    load = train["piece_id"].value_counts()
    return {
        "pairs": len(pairs),
        "pairs_mean_distance": float(train["distance"].mean()),
        "pairs_p95_distance": float(train["distance"].quantile(0.95)),
        "pairs_pieces_used": int(load.size),
        "pairs_most_used": int(load.max()),
    }
