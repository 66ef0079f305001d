"""The two labellers: valence and arousal of pictures (ridge on CNN features) and of music (boosted trees and a
kernel machine on hand features).

They are trained on human ratings and label what has no label, with an uncertainty.
Shapes: N items, S image tokens, C channels, K colour statistics, P = C + K inputs of the ridge, F music features.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV

from huesong import contracts
from huesong.emotion.boosting import BoostedVA, group_folds
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file, require

FORMAT = 1
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 5, 11))
"""Penalties tried; inputs are standardised."""
INNER_FOLDS = 4
MEASURED = ("mean_rating", "mean_slider", "construction")
"""Kinds of label that are a number for this very item; the others are nominal."""


def label_weights(table: pd.DataFrame) -> np.ndarray:
    """Weight [N] of every row in a fit: trust in its kind of label / segments of its piece; 0 = unlabelled."""
    kind = table["label_kind"].map(contracts.LABEL_WEIGHTS).to_numpy(dtype=np.float64)
    labelled = table[["valence", "arousal"]].notna().all(axis=1).to_numpy()
    share = 1.0 / table.groupby("piece")["piece"].transform("size").to_numpy() if "piece" in table else 1.0
    return np.where(labelled, kind * share, 0.0)


class PieceLabeller:
    """Valence and arousal of music from the columns of contracts.PIECE_FEATURES."""

    KIND = "piece labeller"

    def __init__(self, model: BoostedVA) -> None:
        self.model = model

    @property
    def names(self) -> tuple[str, ...]:
        """The features it reads."""
        return self.model.names

    @classmethod
    def fit(cls, pieces: pd.DataFrame, features: pd.DataFrame, seed: int = 0) -> PieceLabeller:
        """Fit on the labelled rows of `pieces` (contracts.PIECES_TABLE); `features` has the same rows.

        Raises:
            UserError: too few labelled pieces.
        """
        weights = label_weights(pieces)
        rows = weights > 0
        measured = pieces["label_kind"].isin(MEASURED).to_numpy()[rows]
        va = pieces.loc[rows, ["valence", "arousal"]].to_numpy(dtype=np.float64)
        groups = pieces.loc[rows, "group"].to_numpy(dtype=str)
        table = feature_columns(features)[rows]
        return cls(BoostedVA.fit(table, va, weights[rows], groups, measured, seed, with_kernel=True))

    def predict(self, features: pd.DataFrame | np.ndarray) -> np.ndarray:
        """Valence and arousal [N, 2] in [-1, 1] of a table with the feature columns, or of [N, F] in their order."""
        return self.model.predict(features)

    def uncertainty(self, features: pd.DataFrame | np.ndarray) -> np.ndarray:
        """Expected standard deviation of the error [N, 2]."""
        return self.model.uncertainty(features)

    def save(self, path: Path) -> None:
        """Write a skops file."""
        self.model.save(path, self.KIND)

    @classmethod
    def load(cls, path: Path) -> PieceLabeller:
        """Read a file of `save`; UserError if it is missing, damaged or of another kind."""
        return cls(BoostedVA.load(path, cls.KIND, "huesong label"))


def feature_columns(features: pd.DataFrame) -> pd.DataFrame:
    """`features` without its id."""
    return features.drop(columns="id", errors="ignore")


@dataclass
class ImageLabeller:
    """Ridge regression on standardised inputs: the mean of the frozen CNN's image tokens, and colour statistics.

    With the `builtin` encoder the stored pictures are pixels: its CNN is trained later, with the model, so nothing
    pre-trained exists yet and the colour statistics are all there is (`channels` = 0).
    """

    mean: np.ndarray  # [P]
    scale: np.ndarray  # [P]
    coefficients: np.ndarray  # [P, 2]
    intercept: np.ndarray  # [2]
    residual_sd: np.ndarray  # [2]: of errors on groups left out
    alpha: np.ndarray  # [2]
    channels: int
    colours: int
    out_of_fold: np.ndarray | None = None  # [N, 2] of the rows given to `fit`; not saved

    @classmethod
    def fit(
        cls,
        pictures: np.ndarray,
        colours: np.ndarray,
        va: np.ndarray,
        weights: np.ndarray,
        groups: Sequence[str] | np.ndarray,
        measured: np.ndarray | None = None,
    ) -> ImageLabeller:
        """Fit on pictures (features [N, S, C] or pixels [N, H, W, 3]), colours [N, K], va [N, 2], weights [N] > 0.

        The penalty of each axis is the best over folds of whole groups; the same folds give `residual_sd` (from the
        `measured` rows, where there are enough).

        Raises:
            UserError: too few items or groups.
        """
        x, channels = image_inputs(pictures, colours)
        va = np.asarray(va, dtype=np.float64)
        folds = group_folds(groups, INNER_FOLDS)
        held = np.zeros_like(va)
        for train, test in folds:
            inner = group_folds(np.asarray(groups)[train], INNER_FOLDS) if len(train) >= 24 else None
            held[test] = _ridge(x[train], va[train], weights[train], inner).predict(x[test])
        taught = np.ones(len(va), dtype=bool) if measured is None else np.asarray(measured, dtype=bool)
        if taught.sum() < 12:
            taught[:] = True
        share = weights[taught] / weights[taught].sum()
        sd = np.sqrt(share @ (held - va)[taught] ** 2)
        final = _ridge(x, va, weights, folds)
        return cls(
            final.mean, final.scale, final.coefficients, final.intercept, sd, final.alpha, channels, colours.shape[1],
            np.clip(held, -1.0, 1.0),
        )  # fmt: skip

    def predict(self, pictures: np.ndarray, colours: np.ndarray) -> np.ndarray:
        """Valence and arousal [N, 2] in [-1, 1].

        Raises:
            UserError: the pictures come from another encoder or other colour statistics.
        """
        x, channels = image_inputs(pictures, colours)
        if (channels, colours.shape[1]) != (self.channels, self.colours):
            raise UserError(
                f"the picture labeller reads {self.channels} channels and {self.colours} colour statistics, not "
                f"{channels} and {colours.shape[1]}: run `huesong label` again after changing the picture encoder"
            )
        return np.clip((x - self.mean) / self.scale @ self.coefficients + self.intercept, -1.0, 1.0)

    def uncertainty(self, count: int) -> np.ndarray:
        """Standard deviation of the error [count, 2]: the same for every picture, measured on groups left out."""
        return np.tile(self.residual_sd, (count, 1))

    def save(self, path: Path) -> None:
        """Write an npz file of plain arrays."""
        with replacing_file(path) as part, part.open("wb") as stream:
            np.savez(
                stream,
                format=FORMAT, mean=self.mean, scale=self.scale, coefficients=self.coefficients,
                intercept=self.intercept, residual_sd=self.residual_sd, alpha=self.alpha,
                layout=np.array([self.channels, self.colours]),
            )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> ImageLabeller:
        """Read a file of `save`; UserError if it is missing, damaged or of another format."""
        again = "run `huesong label` again"
        try:
            with np.load(require(path, "huesong label"), allow_pickle=False) as found:
                values = {name: found[name] for name in found.files}
        except UserError:
            raise
        except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, KeyError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({type(error).__name__}): {again}") from error
        expected = {"mean", "scale", "coefficients", "intercept", "residual_sd", "alpha", "layout", "format"}
        if set(values) != expected or int(values.pop("format")) != FORMAT:
            raise UserError(f"{path} is not a picture labeller of format {FORMAT}: {again}")
        channels, colours = map(int, values.pop("layout"))
        if len(values["mean"]) != channels + colours or values["coefficients"].shape != (channels + colours, 2):
            raise UserError(f"{path} is damaged (shapes do not fit): {again}")
        return cls(channels=channels, colours=colours, **values)


def image_inputs(pictures: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, int]:
    """Inputs [N, C + K] of the ridge and the number C of channels (0 for pixels)."""
    colours = np.asarray(colours, dtype=np.float64)
    if pictures.ndim == 4:  # pixels: see ImageLabeller
        return colours, 0
    pooled = np.empty((len(pictures), pictures.shape[2]))
    for start in range(0, len(pictures), 512):  # the file is memory-mapped: pool it block by block
        pooled[start : start + 512] = np.asarray(pictures[start : start + 512], dtype=np.float32).mean(axis=1)
    return np.hstack([pooled, colours]), pictures.shape[2]


@dataclass
class _Ridge:
    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercept: np.ndarray
    alpha: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) / self.scale @ self.coefficients + self.intercept


def _ridge(
    x: np.ndarray, va: np.ndarray, weights: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]] | None
) -> _Ridge:
    """One ridge an axis; without folds the penalty is chosen by leaving single items out."""
    share = weights / weights.sum()
    mean = share @ x
    scale = np.sqrt(share @ (x - mean) ** 2)
    scale = np.where(scale > 1e-6, scale, 1.0)
    fitted = [
        RidgeCV(ALPHAS, cv=folds, scoring="neg_mean_squared_error").fit((x - mean) / scale, va[:, c], weights)
        for c in range(2)
    ]
    return _Ridge(
        mean,
        scale,
        np.stack([model.coef_ for model in fitted], axis=1),
        np.array([model.intercept_ for model in fitted]),
        np.array([model.alpha_ for model in fitted]),
    )


def cross_predict_images(
    pictures: np.ndarray,
    colours: np.ndarray,
    va: np.ndarray,
    weights: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    folds: int,
) -> np.ndarray:
    """Predictions [N, 2], each by a labeller that saw nothing of the item's group (penalty chosen inside)."""
    x, _ = image_inputs(pictures, colours)
    groups = np.asarray(groups)
    held = np.zeros((len(x), 2))
    for train, test in group_folds(groups, folds):
        inner = group_folds(groups[train], INNER_FOLDS) if len(set(groups[train])) > 1 and len(train) >= 12 else None
        held[test] = _ridge(x[train], np.asarray(va, dtype=np.float64)[train], weights[train], inner).predict(x[test])
    return np.clip(held, -1.0, 1.0)
