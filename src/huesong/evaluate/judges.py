"""How pieces are listened to in the evaluation: both judges and the statistics, always from the file as written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from symusic import Score

from huesong.evaluate import novelty
from huesong.evaluate.feature_judge import Judge
from huesong.evaluate.note_judge import SecondJudge
from huesong.evaluate.novelty import Library
from huesong.music import features, reading, statistics
from huesong.music.reading import Notes

JUDGES = {"": "obtained", "second_": "second"}
"""Prefix of a judge's figures, and of the columns with its verdict (`<column>_valence`, `<column>_arousal`)."""


@dataclass
class Listeners:
    """Both judges, and the packed music that they can also be asked about."""

    judge: Judge
    second: SecondJudge
    library: Library
    piece_features: pd.DataFrame
    piece_statistics: pd.DataFrame

    def listen(self, scores: Sequence[Score]) -> pd.DataFrame:
        """One row a score that was read from a file: the verdicts, `seconds`, `piece` (equal for equal music),
        `symbols` (music.novelty) and the statistics.
        """
        notes = [reading.listen(score) for score in scores]
        heard = self._verdicts(
            self.judge.predict(pd.DataFrame([features.features(score) for score in scores])), self.second.predict(notes)
        )
        heard["seconds"] = [float(part.end_s.max(initial=0.0)) for part in notes]
        heard["piece"] = [digest(part) for part in notes]
        heard["symbols"] = pd.Series([novelty.symbols_of(part) for part in notes], dtype=object)
        return pd.concat([heard, pd.DataFrame([statistics.statistics(score) for score in scores])], axis=1)

    def recall(self, rows: np.ndarray) -> pd.DataFrame:
        """The same (without `seconds` and `symbols`) for rows of the pieces table, heard in full."""
        unique, which = np.unique(rows, return_inverse=True)
        heard = self._verdicts(
            self.judge.predict(self.piece_features.iloc[unique]),
            self.second.predict([self.library.notes(int(row)) for row in unique]),
        )
        heard["piece"] = unique.astype(str)
        stats = self.piece_statistics.iloc[unique].drop(columns="id").reset_index(drop=True)
        return pd.concat([heard, stats], axis=1).iloc[which].reset_index(drop=True)

    @staticmethod
    def _verdicts(first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
        columns = [f"{column}_{axis}" for column in JUDGES.values() for axis in ("valence", "arousal")]
        return pd.DataFrame(np.hstack([first, second]), columns=columns)


def digest(notes: Notes) -> str:
    """The same for two pieces exactly when their notes are: onsets, ends, pitches and velocities."""
    columns = (np.round(notes.onset_s, 6), np.round(notes.end_s, 6), notes.pitch, notes.velocity)
    return hashlib.sha256(np.stack([np.asarray(c, np.float64) for c in columns]).tobytes()).hexdigest()[:16]
