"""Stage 2, label: valence and arousal for every picture and segment, and the pairs that training reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.config import LabelConfig
from huesong.emotion.boosting import cross_predict
from huesong.emotion.labellers import (
    MEASURED,
    ImageLabeller,
    PieceLabeller,
    cross_predict_images,
    feature_columns,
    label_weights,
)
from huesong.emotion.scoring import by_piece, scores_by_source
from huesong.label.pairing import pair
from huesong.label.report import write_report
from huesong.label.training_table import write_training_table
from huesong.label.va_map import VAMap
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log
from huesong.va import Bootstrap

FITTED_ON = ("train", "val")
"""Splits the final labellers are fitted to: never `judge`, never `test`."""
CHECKED_ON = (*FITTED_ON, "judge")
"""Splits the labellers are cross-validated on; those fold models are thrown away."""
PAIRED = ("train", "val", "test")
"""Splits that are paired, each with music of its own; `judge` music is the judge's alone."""
RATER_SD = 0.36
"""Standard deviation of single ratings around their mean on [-1, 1]: EIMG .37 / .32, VGMIDI .32 / .32, OASIS .36 / .56."""
HALF_AXIS_SD = 12**-0.5
"""Standard deviation of a value of which only the sign is known: uniform on a half axis of length 1."""
LEAST_MEASURED = 50
"""So many measured items show a set's distribution by themselves."""
PREDICTED_WEIGHT = 0.5
"""The most that a predicted label is trusted; a measured one has 1."""


@dataclass
class LabelReport:
    """Figures and files of the stage."""

    metrics: dict[str, float]
    files: list[Path]


@dataclass
class Inputs:
    """What preprocess made, row by row."""

    images: pd.DataFrame
    pieces: pd.DataFrame
    features: pd.DataFrame
    pictures: np.ndarray  # [N, S, C] or [N, H, W, 3], memory-mapped
    colours: np.ndarray  # [N, K]


def run(config: LabelConfig, *, preprocess: Path, out: Path) -> LabelReport:
    """Label everything in `preprocess`, pair pictures with music, and write the folder `out` (contracts.py).

    Raises:
        UserError: inputs are missing or do not belong together, or too little is rated to fit a labeller.
    """
    found = read_inputs(preprocess)
    with artifacts.replacing_folder(out) as work:
        log.info("label: cross-validating the labellers by group")
        held = {"images": validate_images(found, config), "pieces": validate_pieces(found, config)}
        log.info("label: fitting the labellers")
        image_labels = label_images(found, work)
        piece_labels = label_pieces(found, config, work)
        pairs = make_pairs(image_labels, piece_labels, config)
        image_labels.to_parquet(work / contracts.IMAGE_LABELS, index=False)
        piece_labels.to_parquet(work / contracts.PIECE_LABELS, index=False)
        pairs.to_parquet(work / contracts.PAIRS, index=False)
        write_training_table(
            work, images=found.images, pieces=found.pieces, image_labels=image_labels, piece_labels=piece_labels,
            pairs=pairs, pictures=found.pictures,
        )  # fmt: skip
        bootstrap = Bootstrap(config.bootstrap, config.seed)
        scores = {name: scores_by_source(items, bootstrap) for name, items in held.items()}
        metrics = {f"{name}_{key}": value for name, own in scores.items() for key, value in own.items()}
        metrics |= pair_figures(pairs)
        artifacts.write_json(work / contracts.METRICS, metrics)
        write_report(work, metrics, image_labels, piece_labels, pairs, held, config)
    files = [out / contracts.METRICS, out / contracts.REPORT, *sorted((out / contracts.PLOTS).glob("*.png"))]
    return LabelReport(metrics, files)


def read_inputs(preprocess: Path) -> Inputs:
    """The artifacts of preprocess.

    Raises:
        UserError: one is missing, or they are of different runs.
    """
    paths = {
        name: artifacts.require(preprocess / name, "huesong preprocess")
        for name in (
            contracts.IMAGES_TABLE, contracts.PIECES_TABLE, contracts.PIECE_FEATURES, contracts.PICTURE_FEATURES,
            contracts.PICTURE_COLOURS,
        )
    }  # fmt: skip
    try:
        found = Inputs(
            images=pd.read_parquet(paths[contracts.IMAGES_TABLE]),
            pieces=pd.read_parquet(paths[contracts.PIECES_TABLE]),
            features=pd.read_parquet(paths[contracts.PIECE_FEATURES]),
            pictures=np.load(paths[contracts.PICTURE_FEATURES], mmap_mode="r", allow_pickle=False),
            colours=np.load(paths[contracts.PICTURE_COLOURS], allow_pickle=False),
        )
    except (ValueError, OSError, EOFError) as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"an artifact in {preprocess} is damaged ({detail}): run `huesong preprocess` again") from error
    same_rows = (
        len(found.images) == len(found.pictures) == len(found.colours)
        and found.pieces["id"].tolist() == found.features["id"].tolist()
    )
    if not same_rows:
        raise UserError(f"the tables and arrays in {preprocess} do not belong together: run `huesong preprocess` again")
    return found


def labelled_rows(table: pd.DataFrame, splits: tuple[str, ...]) -> np.ndarray:
    """Row numbers that carry a label, of the given splits."""
    return np.flatnonzero(table["split"].isin(splits).to_numpy() & (label_weights(table) > 0))


def va_of(table: pd.DataFrame) -> np.ndarray:
    """The labels [N, 2]; NaN where there is none."""
    return table[["valence", "arousal"]].to_numpy(dtype=np.float64)


def validate_images(found: Inputs, config: LabelConfig) -> pd.DataFrame:
    """Labels and out-of-fold predictions of the picture labeller, in folds of groups outside `test` (`by_piece`)."""
    rows = labelled_rows(found.images, CHECKED_ON)
    table = found.images.iloc[rows]
    with telling_which("pictures"):
        held = cross_predict_images(
            found.pictures[rows], found.colours[rows], va_of(table), label_weights(table), table["group"].to_numpy(),
            config.folds,
        )  # fmt: skip
    return by_piece(table, held)


def validate_pieces(found: Inputs, config: LabelConfig) -> pd.DataFrame:
    """The same of the music labeller, one row a piece."""
    rows = labelled_rows(found.pieces, CHECKED_ON)
    table = found.pieces.iloc[rows]
    with telling_which("music"):
        held = cross_predict(
            feature_columns(found.features).iloc[rows], va_of(table), label_weights(table), table["group"].to_numpy(),
            config.folds, config.seed,
        )  # fmt: skip
    return by_piece(table, held)


def label_images(found: Inputs, work: Path) -> pd.DataFrame:
    """Fit and save the picture labeller; contracts.LABEL_COLUMNS of all pictures."""
    rows = labelled_rows(found.images, FITTED_ON)
    taught = found.images.iloc[rows]
    with telling_which("pictures of splits train and val"):
        labeller = ImageLabeller.fit(
            found.pictures[rows], found.colours[rows], va_of(taught), label_weights(taught), taught["group"].to_numpy(),
            taught["label_kind"].isin(MEASURED).to_numpy(),
        )  # fmt: skip
    labeller.save(work / contracts.IMAGE_LABELLER)
    predicted = labeller.predict(found.pictures, found.colours)
    predicted[rows] = labeller.out_of_fold
    return label_items(found.images, predicted, labeller.uncertainty(len(found.images)))


def label_pieces(found: Inputs, config: LabelConfig, work: Path) -> pd.DataFrame:
    """Fit and save the music labeller; contracts.LABEL_COLUMNS of all segments."""
    rows = labelled_rows(found.pieces, FITTED_ON)
    features = feature_columns(found.features)
    with telling_which("music of splits train and val"):
        labeller = PieceLabeller.fit(found.pieces.iloc[rows], features.iloc[rows], config.seed)
    labeller.save(work / contracts.PIECE_LABELLER)
    predicted, sd = labeller.model.predict_with_sd(features)
    predicted[rows] = labeller.model.out_of_fold
    return label_items(found.pieces, predicted, sd)


@contextlib.contextmanager
def telling_which(what: str) -> Iterator[None]:
    """Say in a UserError from inside which labeller it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"the labeller of {what} cannot be trained: {error}") from error


def label_items(table: pd.DataFrame, predicted: np.ndarray, sd: np.ndarray) -> pd.DataFrame:
    """contracts.LABEL_COLUMNS for every row of `table`.

    Args:
        table: with `valence`, `arousal`, `label_kind`, `n_raters`.
        predicted: the labeller's [N, 2]; out-of-fold where it was trained on the row.
        sd: its uncertainty [N, 2].

    A measured label stays; its sd is the standard error of a mean of `n_raters` ratings, 0 by construction. Of a
    nominal one (quadrant, tag) the sign is kept: see `within_quadrant`. Where there is no label, the prediction is it, and
    its weight falls from PREDICTED_WEIGHT to 0 as the uncertainty reaches the spread of the measured labels.
    """
    given, kind = va_of(table), table["label_kind"].fillna("").to_numpy(dtype=str)
    has = ~np.isnan(given).any(axis=1)
    measured = has & np.isin(kind, MEASURED)
    nominal = has & ~measured & np.isin(kind, [name for name, weight in contracts.LABEL_WEIGHTS.items() if weight > 0])
    va, spread = np.array(predicted, dtype=np.float64), np.array(sd, dtype=np.float64)
    prior = given[measured].var(axis=0) if measured.sum() > 1 else np.full(2, HALF_AXIS_SD**2)
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


def make_pairs(images: pd.DataFrame, pieces: pd.DataFrame, config: LabelConfig) -> pd.DataFrame:
    """contracts.PAIR_COLUMNS: pictures with their nearest segments, each split by itself.

    The map into the music's distribution is read off the labelled items of the training split (`telling`) and applied to
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
    va_map = VAMap.fit(telling(images), telling(pieces), config.pairing_map)
    parts = []
    for split in PAIRED:
        shown, heard = images[images["split"] == split], pieces[pieces["split"] == split]
        if shown.empty or heard.empty:
            log.warning("label: no pairs in split %s (%d pictures, %d pieces)", split, len(shown), len(heard))
            continue
        mapped = va_map.apply(va_of(shown))
        index, distance = pair(mapped, va_of(heard), config.pairs_per_image, config.max_load)
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
    return pd.concat(parts, ignore_index=True)[list(contracts.PAIR_COLUMNS)]


def telling(labels: pd.DataFrame) -> np.ndarray:
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
