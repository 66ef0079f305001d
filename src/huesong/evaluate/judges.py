"""Both judges of the evaluation, and what they and the statistics say of a piece, always as it was read from its file."""

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
from huesong.va import AXES

VERDICTS = {"": "obtained", "second_": "second"}
"""Prefix of a judge's figures -> start of the columns with its verdict (`<column>_valence`, `<column>_arousal`)."""
VERDICT_COLUMNS = [f"{column}_{axis}" for column in VERDICTS.values() for axis in AXES]


@dataclass
class Judges:
    """Both judges, and the packed music that they can also be asked about.

    scores: how well they agree with people (`judge_*`, `second_judge_*`).
    """

    first: Judge
    second: SecondJudge
    library: Library
    features: pd.DataFrame
    statistics: pd.DataFrame
    scores: dict[str, float]

    def of_scores(self, scores: Sequence[Score]) -> pd.DataFrame:
        """One row a score that was read from a file: the verdicts, `seconds`, `piece` (equal for equal music),
        `symbols` (evaluate.novelty) and the statistics.
        """
        notes = [reading.listen(score) for score in scores]
        first = self.first.predict(pd.DataFrame([features.features(score) for score in scores]))
        found = _verdicts(first, self.second.predict(notes))
        found["seconds"] = [float(part.end_s.max(initial=0.0)) for part in notes]
        found["piece"] = [digest(part) for part in notes]
        found["symbols"] = pd.Series([novelty.symbols_of(part) for part in notes], dtype=object)
        return pd.concat([found, pd.DataFrame([statistics.statistics(score) for score in scores])], axis=1)

    def of_pieces(self, rows: np.ndarray) -> pd.DataFrame:
        """The same (without `seconds` and `symbols`) for rows of the pieces table, read in full."""
        unique, which = np.unique(rows, return_inverse=True)
        second = self.second.predict([self.library.notes(int(row)) for row in unique])
        found = _verdicts(self.first.predict(self.features.iloc[unique]), second)
        found["piece"] = unique.astype(str)
        stats = self.statistics.iloc[unique].drop(columns="id").reset_index(drop=True)
        return pd.concat([found, stats], axis=1).iloc[which].reset_index(drop=True)


def _verdicts(first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(np.hstack([first, second]), columns=VERDICT_COLUMNS)


def digest(notes: Notes) -> str:
    """The same for two pieces exactly when their notes are: onsets, ends, pitches and velocities."""
    columns = (np.round(notes.onset_s, 6), np.round(notes.end_s, 6), notes.pitch, notes.velocity)
    return hashlib.sha256(np.stack([np.asarray(c, np.float64) for c in columns]).tobytes()).hexdigest()[:16]
