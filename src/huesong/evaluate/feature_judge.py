"""The independent judge: hears the valence and arousal of composed music.

Boosted trees on hand features, as in the piece labeller (which has a kernel machine beside them), but trained on
groups of its own (split `judge`): neither the labeller, the generator nor the critic that steers the generator ever saw
them, and the judge never saw theirs. What the judge says is worth no more than its agreement with people on a third set
of groups (split `test`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from huesong.emotion.boosting import BoostedVA
from huesong.emotion.labellers import MEASURED, feature_columns, label_weights
from huesong.emotion.scoring import by_piece, scores_by_source
from huesong.runtime.errors import UserError
from huesong.va import Bootstrap


class Judge:
    """Valence and arousal of music, from contracts.PIECE_FEATURES of split `judge`."""

    KIND = "judge"

    def __init__(self, model: BoostedVA) -> None:
        self.model = model

    @classmethod
    def fit(cls, pieces: pd.DataFrame, features: pd.DataFrame, seed: int = 0) -> Judge:
        """Fit on the labelled rows of split `judge` of contracts.PIECES_TABLE; `features` has the same rows.

        Raises:
            UserError: too few of them.
        """
        weights = label_weights(pieces)
        rows = (pieces["split"] == "judge").to_numpy() & (weights > 0)
        part = pieces[rows]
        try:
            model = BoostedVA.fit(
                feature_columns(features)[rows],
                part[["valence", "arousal"]].to_numpy(dtype=np.float64),
                weights[rows],
                part["group"].to_numpy(dtype=str),
                part["label_kind"].isin(MEASURED).to_numpy(),
                seed,
            )
        except UserError as error:
            raise UserError(
                f"the judge cannot be trained on split `judge` of the music: {error}, or raise preprocess.splits.judge"
            ) from error
        return cls(model)

    def predict(self, features: pd.DataFrame | np.ndarray) -> np.ndarray:
        """Valence and arousal [N, 2] in [-1, 1] of a table with the feature columns, or of [N, F] in their order."""
        return self.model.predict(features)

    def uncertainty(self, features: pd.DataFrame | np.ndarray) -> np.ndarray:
        """Expected standard deviation of the error [N, 2]."""
        return self.model.uncertainty(features)

    def held_out(self, pieces: pd.DataFrame, features: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, float]:
        """Agreement with people on rated pieces of split `test` (`scores_by_source`)."""
        rows = (pieces["split"] == "test").to_numpy() & (label_weights(pieces) > 0)
        return scores_by_source(by_piece(pieces[rows], self.predict(features[rows])), bootstrap)

    def save(self, path: Path) -> None:
        """Write a skops file."""
        self.model.save(path, self.KIND)

    @classmethod
    def load(cls, path: Path) -> Judge:
        """Read a file of `save`; UserError if it is missing, damaged or of another kind."""
        return cls(BoostedVA.load(path, cls.KIND, "huesong evaluate"))
