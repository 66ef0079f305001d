"""The VA scorer: the valence and arousal that the music labeller predicts for composed pieces, given as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from huesong import contracts
from huesong.emotion.labellers import PieceLabeller
from huesong.music import features, reading, tokens

if TYPE_CHECKING:
    from symusic import Score


class LabellerScorer:
    """Token ids are written as MIDI, read back, and given to the music labeller.

    The labeller shares no music with the judges of the evaluation, so they stay independent of choices made by it.
    """

    def __init__(self, tokenizer: Any, labeller: PieceLabeller) -> None:
        self.tokenizer, self.labeller = tokenizer, labeller

    @classmethod
    def of_model(cls, folder: Path, tokenizer: Any = None) -> LabellerScorer | None:
        """The scorer of a model folder; None if it was saved without a labeller. `tokenizer`: the folder's, if it is loaded."""
        tokenizer = tokenizer or tokens.load(folder / contracts.TOKENIZER)
        if (labeller := folder / contracts.PIECE_LABELLER).exists():
            return cls(tokenizer, PieceLabeller.load(labeller))
        if (older := folder / contracts.OLD_PIECE_LABELLER).exists():
            from huesong.emotion.skops_files import load_skops

            return cls(tokenizer, load_skops(older))
        return None

    def __call__(self, pieces: Sequence[list[int]]) -> np.ndarray:
        """Valence and arousal [n, 2] of n pieces."""
        return self.of_scores(
            [reading.parse_score(bytes(tokens.decode(self.tokenizer, ids).dumps_midi())) for ids in pieces]
        )

    def of_scores(self, scores: Sequence[Score]) -> np.ndarray:
        """Valence and arousal [n, 2] of n scores."""
        rows = [features.features(score) for score in scores]
        return self.labeller.predict({name: [row[name] for row in rows] for name in features.FEATURE_NAMES})
