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
from huesong.data import ratings
from huesong.emotion.boosting import cross_predict, feature_columns
from huesong.emotion.labelled import Labelled, by_piece, label_weights, scores_by_source
from huesong.emotion.labellers import ImageLabeller, PieceLabeller, cross_predict_images
from huesong.label.labels import label_items
from huesong.label.lent import LentLabellers, read_pictures
from huesong.label.pairing import make_pairs, pair_figures
from huesong.label.report import write_report
from huesong.label.training_table import on_bars, write_training_table
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError
from huesong.runtime.progress import Bar, log
from huesong.tracking.figures import write_figures
from huesong.va import Bootstrap

OWN = (contracts.METRICS, contracts.PAIRS)
"""What a folder holds that this stage wrote."""
STEPS = 6
"""Pictures and music cross-validated, each fitted, paired, reported."""
FITTED_ON = ratings.LEARNT_FROM
CHECKED_ON = (*FITTED_ON, "judge")
"""Splits the labellers are cross-validated on; those fold models are thrown away."""


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
        UserError: `out` is not this stage's, inputs are missing or do not belong together, or too little is rated to fit
            a labeller.
    """
    artifacts.check_replaceable(out, OWN, [preprocess])
    found = read_inputs(preprocess)
    lent = LentLabellers.of(config.labels_from)
    check_ratings(found, lent)
    with artifacts.replacing_folder(out, OWN, [preprocess]) as work, Bar("label", STEPS, at_once=True) as bar:
        log.info("label: cross-validating the labellers by group")
        held = {"images": validate_images(found, config)} if rated_pictures(found) else {}
        bar.one_more()
        held |= {"pieces": validate_pieces(found, config)} if rated_music(found) else {}
        bar.one_more()
        log.info("label: fitting the labellers")
        head: dict[str, np.ndarray] = {}
        if lent is not None and not rated_pictures(found):
            head = lent.head(preprocess)
            image_labels = lent_image_labels(found, head)
        else:
            image_labels = label_images(found, work)
        bar.one_more()
        piece_labels = label_pieces(found, config, work, lent)
        bar.one_more()
        pairs = make_pairs(image_labels, piece_labels[on_bars(found.pieces)], config)
        image_labels.to_parquet(work / contracts.IMAGE_LABELS, index=False)
        piece_labels.to_parquet(work / contracts.PIECE_LABELS, index=False)
        pairs.to_parquet(work / contracts.PAIRS, index=False)
        write_training_table(
            work, images=found.images, pieces=found.pieces, image_labels=image_labels, piece_labels=piece_labels,
            pairs=pairs, pictures=found.pictures, head=head, request_map=config.request_map,
        )  # fmt: skip
        bar.one_more()
        bootstrap = Bootstrap(config.bootstrap, config.seed)
        scores = {name: scores_by_source(items, bootstrap) for name, items in held.items()}
        metrics = {f"{name}_{key}": value for name, own in scores.items() for key, value in own.items()}
        metrics |= pair_figures(pairs)
        write_figures(work, "label", metrics)
        write_report(work, metrics, image_labels, piece_labels, pairs, held, config)
    names = (contracts.METRICS, contracts.FIGURES, contracts.REPORT)
    files = [*(out / name for name in names), *sorted((out / contracts.PLOTS).glob("*.png"))]
    return LabelReport(metrics, files)


def read_inputs(preprocess: Path) -> Inputs:
    """The artifacts of preprocess.

    Raises:
        UserError: one is missing, or they are of different runs.
    """
    names = (contracts.IMAGES_TABLE, contracts.PIECES_TABLE, contracts.PIECE_FEATURES)
    arrays = (contracts.PICTURE_FEATURES, contracts.PICTURE_COLOURS)
    paths = {name: artifacts.require(preprocess / name, "huesong preprocess") for name in (*names, *arrays)}
    try:
        found = Inputs(
            *(pd.read_parquet(paths[name]) for name in names),
            *(np.load(paths[name], mmap_mode="r", allow_pickle=False) for name in arrays),
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


def rated_pictures(found: Inputs) -> bool:
    """Whether enough pictures are rated for a labeller of their own."""
    return not ratings.lack(found.images, "pictures", FITTED_ON)


def rated_music(found: Inputs) -> bool:
    """Whether enough music is."""
    return not ratings.lack(found.pieces, "segments of music", FITTED_ON)


def check_ratings(found: Inputs, lent: LentLabellers | None) -> None:
    """Say before anything is computed what too few people rated, and what follows.

    Raises:
        UserError: a labeller can neither be fitted nor is lent.
    """
    tables = ((found.images, "pictures"), (found.pieces, "segments of music"))
    lacks = [text for table, what in tables if (text := ratings.lack(table, what, FITTED_ON))]
    if lacks and lent is None:
        raise UserError(f"too little is rated to label by: {'; '.join(lacks)}; {ratings.REMEDY}")
    for text in lacks:
        log.warning("label: %s: the labeller of %s labels them", text, lent and lent.folder)
    if text := ratings.lack(found.pieces, "segments of music", ("judge",)):
        log.warning("label: %s for `huesong evaluate`: import a rated set of music before it", text)


def labelled_rows(table: pd.DataFrame, splits: tuple[str, ...]) -> np.ndarray:
    """Row numbers that carry a label, of the given splits."""
    return np.flatnonzero(table["split"].isin(splits).to_numpy() & (label_weights(table) > 0))


def validate_images(found: Inputs, config: LabelConfig) -> pd.DataFrame:
    """Labels and out-of-fold predictions of the picture labeller, in folds of groups outside `test` (`by_piece`)."""
    rows = labelled_rows(found.images, CHECKED_ON)
    table = found.images.iloc[rows]
    with naming_the_labeller("pictures"):
        held = cross_predict_images(found.pictures[rows], found.colours[rows], Labelled.of(table), config.folds)
    return by_piece(table, held)


def validate_pieces(found: Inputs, config: LabelConfig) -> pd.DataFrame:
    """The same of the music labeller, one row a piece."""
    rows = labelled_rows(found.pieces, CHECKED_ON)
    table = found.pieces.iloc[rows]
    with naming_the_labeller("music"):
        features = feature_columns(found.features).iloc[rows]
        held = cross_predict(features, Labelled.of(table), config.folds, config.seed)
    return by_piece(table, held)


def label_images(found: Inputs, work: Path) -> pd.DataFrame:
    """Fit and save the picture labeller; contracts.LABEL_COLUMNS of all pictures."""
    rows = labelled_rows(found.images, FITTED_ON)
    labels = Labelled.of(found.images.iloc[rows])
    with naming_the_labeller("pictures of splits train and val"):
        labeller = ImageLabeller.fit(found.pictures[rows], found.colours[rows], labels)
    labeller.save(work / contracts.IMAGE_LABELLER)
    predicted = labeller.predict(found.pictures, found.colours)
    predicted[rows] = labeller.out_of_fold
    return label_items(found.images, predicted, labeller.uncertainty(len(found.images)))


def lent_image_labels(found: Inputs, head: dict[str, np.ndarray]) -> pd.DataFrame:
    """contracts.LABEL_COLUMNS of all pictures, by the head of another model."""
    predicted, sd = read_pictures(head, found.pictures)
    return label_items(found.images, predicted, np.tile(sd, (len(found.images), 1)))


def label_pieces(found: Inputs, config: LabelConfig, work: Path, lent: LentLabellers | None) -> pd.DataFrame:
    """Fit and save the music labeller, or take over a lent one; contracts.LABEL_COLUMNS of all segments."""
    rows = labelled_rows(found.pieces, FITTED_ON)
    features = feature_columns(found.features)
    if lent is not None and not rated_music(found):
        return label_items(found.pieces, *lent.pieces(work / contracts.PIECE_LABELLER).predict_with_sd(features))
    with naming_the_labeller("music of splits train and val"):
        labeller = PieceLabeller.fit(found.pieces.iloc[rows], features.iloc[rows], config.seed)
    labeller.save(work / contracts.PIECE_LABELLER)
    predicted, sd = labeller.predict_with_sd(features)
    predicted[rows] = labeller.out_of_fold
    return label_items(found.pieces, predicted, sd)


@contextlib.contextmanager
def naming_the_labeller(what: str) -> Iterator[None]:
    """Say in a UserError from inside which labeller it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"the labeller of {what} cannot be trained: {error}") from error
