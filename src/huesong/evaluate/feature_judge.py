"""The first judge, for evaluation only: boosted trees on hand features predict the valence and arousal of composed music.

The piece labeller has such trees, too (beside a kernel machine), but the judge is trained on groups of its own (split
`judge`): neither the labeller, the generator nor the critic that trains the generator ever saw them, and the judge
never saw theirs. A judge's prediction is worth no more than its agreement with people on a third set of groups (split
`test`).
"""

from __future__ import annotations

from typing import Self

import pandas as pd

from huesong.emotion.boosting import BoostedVA
from huesong.emotion.labelled import by_piece, label_weights, scores_by_source
from huesong.runtime.errors import UserError
from huesong.va import Bootstrap


class Judge(BoostedVA):
    """Valence and arousal of music from hand features, fitted to split `judge`."""

    KIND = "judge"
    MADE_BY = "huesong evaluate"

    @classmethod
    def fit(cls, pieces: pd.DataFrame, features: pd.DataFrame, seed: int = 0) -> Self:
        """Fit on the labelled rows of split `judge` of contracts.PIECES_TABLE; `features` has the same rows.

        Raises:
            UserError: too few of them.
        """
        try:
            return cls.fit_rows(pieces, features, (pieces["split"] == "judge").to_numpy(), seed, with_kernel=False)
        except UserError as error:
            raise UserError(
                f"the judge cannot be trained on split `judge` of the music: {error}, or raise preprocess.splits.judge"
            ) from error

    def held_out(self, pieces: pd.DataFrame, features: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, float]:
        """Agreement with people on rated pieces of split `test` (`scores_by_source`)."""
        rows = (pieces["split"] == "test").to_numpy() & (label_weights(pieces) > 0)
        return scores_by_source(by_piece(pieces[rows], self.predict(features[rows])), bootstrap)
