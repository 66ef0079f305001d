"""The two labellers: trained on human ratings, they give pictures and music without a label one, with an uncertainty.

Pictures: ridge on CNN features and colours. Music: boosted trees and a kernel machine on hand features.
Shapes: N items, S image tokens, C channels, K colour statistics, P = C + K inputs of the ridge, F music features.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from huesong.emotion.boosting import BoostedVA
from huesong.emotion.cues import CUES, SHARE
from huesong.emotion.labelled import MEASURED, MIN_ITEMS, Folds, Labelled, group_folds, label_weights
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file, require

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 5, 11))
"""Penalties tried; inputs are standardised."""
INNER_FOLDS = 4


class PieceLabeller(BoostedVA):
    """The labeller of music, from the columns of contracts.PIECE_FEATURES: boosted trees and a kernel machine.

    Where no label is a number for the very piece, such as where all are quadrants, published cues say half of the valence.
    """

    KIND = "piece labeller"

    @classmethod
    def fit(cls, pieces: pd.DataFrame, features: pd.DataFrame, seed: int = 0) -> Self:
        """Fit on the labelled rows of `pieces` (contracts.PIECES_TABLE); `features` has the same rows.

        Raises:
            UserError: too few labelled pieces.
        """
        made = cls.fit_rows(pieces, features, np.full(len(pieces), True), seed, with_kernel=True)
        measured = pieces["label_kind"].isin(MEASURED) & (label_weights(pieces) > 0)
        if not measured.any() and set(CUES) <= set(made.names):
            made.cue_share = SHARE
        return made


@dataclass
class Ridge:
    """Ridge regression of valence and arousal on standardised inputs, with a penalty of its own for each axis."""

    mean: np.ndarray  # [P]
    scale: np.ndarray  # [P]
    coefficients: np.ndarray  # [P, 2]
    intercept: np.ndarray  # [2]
    alpha: np.ndarray  # [2]

    @classmethod
    def fit(cls, x: np.ndarray, va: np.ndarray, weights: np.ndarray, folds: Folds | None) -> Ridge:
        """Fit on x [N, P], va [N, 2], weights [N] > 0; without folds the penalty is chosen by leaving single items out."""
        from sklearn.linear_model import RidgeCV

        share = weights / weights.sum()
        mean = share @ x
        scale = np.sqrt(share @ (x - mean) ** 2)
        scale = np.where(scale > 1e-6, scale, 1.0)
        fitted = [
            RidgeCV(ALPHAS, cv=folds, scoring="neg_mean_squared_error").fit((x - mean) / scale, va[:, c], weights)
            for c in range(2)
        ]
        coefficients = np.stack([model.coef_ for model in fitted], axis=1)
        intercept, alpha = (np.array([getattr(model, name) for model in fitted]) for name in ("intercept_", "alpha_"))
        return cls(mean, scale, coefficients, intercept, alpha)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Valence and arousal [N, 2], not clipped."""
        return (x - self.mean) / self.scale @ self.coefficients + self.intercept


def held_out(x: np.ndarray, labels: Labelled, folds: int, least: int) -> np.ndarray:
    """Predictions [N, 2], each by a ridge that saw nothing of the item's group; from `least` items on, nor did its penalty."""
    va, weights, groups = np.asarray(labels.va, dtype=np.float64), labels.weights, np.asarray(labels.groups)
    found = np.zeros((len(x), 2))
    for train, test in labels.folds(folds):
        apart = len(train) >= least and len(set(groups[train])) > 1
        inner = group_folds(groups[train], INNER_FOLDS) if apart else None
        found[test] = Ridge.fit(x[train], va[train], weights[train], inner).predict(x[test])
    return found


@dataclass
class ImageLabeller:
    """Ridge regression on standardised inputs: the mean of the frozen CNN's image tokens, and colour statistics.

    With the `builtin` encoder the stored pictures are pixels: its CNN is trained later, with the model, so nothing
    pre-trained exists yet and the colour statistics are all there is (`channels` = 0).
    """

    ridge: Ridge
    residual_sd: np.ndarray  # [2]: of errors on groups left out
    channels: int
    colours: int
    out_of_fold: np.ndarray | None = None  # [N, 2] of the rows given to `fit`; not saved

    @classmethod
    def fit(cls, pictures: np.ndarray, colours: np.ndarray, labels: Labelled) -> ImageLabeller:
        """Fit on pictures (features [N, S, C] or pixels [N, H, W, 3]), colours [N, K] and their labels.

        The penalty of each axis is the best over folds of whole groups; the same folds give `residual_sd`.

        Raises:
            UserError: too few items or groups.
        """
        x, channels = image_inputs(pictures, colours)
        held = held_out(x, labels, INNER_FOLDS, 2 * MIN_ITEMS)
        rows, share = labels.errors_shown_by()
        sd = np.sqrt(share @ (held - labels.va)[rows] ** 2)
        ridge = Ridge.fit(x, np.asarray(labels.va, dtype=np.float64), labels.weights, labels.folds(INNER_FOLDS))
        return cls(ridge, sd, channels, colours.shape[1], np.clip(held, -1.0, 1.0))

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
        return np.clip(self.ridge.predict(x), -1.0, 1.0)

    def uncertainty(self, count: int) -> np.ndarray:
        """Standard deviation of the error [count, 2]: the same for every picture, measured on groups left out."""
        return np.tile(self.residual_sd, (count, 1))

    def save(self, path: Path) -> None:
        """Write an npz file of plain arrays."""
        with replacing_file(path) as part, part.open("wb") as stream:
            layout = np.array([self.channels, self.colours])
            np.savez(stream, format=FORMAT, **vars(self.ridge), residual_sd=self.residual_sd, layout=layout)

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
        return cls(residual_sd=values.pop("residual_sd"), channels=channels, colours=colours, ridge=Ridge(**values))


def image_inputs(pictures: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, int]:
    """Inputs [N, C + K] of the ridge and the number C of channels (0 for pixels)."""
    colours = np.asarray(colours, dtype=np.float64)
    if pictures.ndim == 4:  # pixels: see ImageLabeller
        return colours, 0
    pooled = np.empty((len(pictures), pictures.shape[2]))
    for start in range(0, len(pictures), 512):  # the file is memory-mapped: pool it block by block
        pooled[start : start + 512] = np.asarray(pictures[start : start + 512], dtype=np.float32).mean(axis=1)
    return np.hstack([pooled, colours]), pictures.shape[2]


def cross_predict_images(pictures: np.ndarray, colours: np.ndarray, labels: Labelled, folds: int) -> np.ndarray:
    """Predictions [N, 2], each by a labeller that saw nothing of the item's group (penalty chosen inside)."""
    return np.clip(held_out(image_inputs(pictures, colours)[0], labels, folds, MIN_ITEMS), -1.0, 1.0)
