"""emotion.cues: valence by mode, speed, height and roughness, and who listens to it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from huesong.emotion.cues import CUES, SCALE, SHARE, valence_of_cues
from huesong.emotion.labellers import PieceLabeller
from huesong.evaluate.feature_judge import Judge
from huesong.music.features import FEATURE_NAMES, features
from tests.tiny_labels import music
from tests.tiny_tunes import piece, quarters


def row(**changes: float) -> np.ndarray:
    """A clip that is as rated clips are in the mean, but for `changes` in standard deviations."""
    return np.array([[mean + sd * changes.get(name, 0.0) for name, (mean, sd, _) in CUES.items()]])


def test_each_cue_says_what_was_published() -> None:
    names = list(CUES)
    assert valence_of_cues(names, row())[0] == pytest.approx(0.0)
    for pleasant in ("mode_margin_held", "onset_rate", "pitch_mean"):
        assert valence_of_cues(names, row(**{pleasant: 1.0}))[0] == pytest.approx(SCALE * CUES[pleasant][2])
        assert CUES[pleasant][2] > 0
    assert valence_of_cues(names, row(roughness=1.0))[0] < 0, "rough is unpleasant"
    assert max(CUES, key=lambda name: abs(CUES[name][2])) == "mode_margin_held", "mode weighs most"
    assert valence_of_cues(names, row(mode_margin_held=50.0))[0] == 1.0


def test_a_tune_in_major_is_pleasanter_than_in_minor() -> None:
    lines = (60, 64, 67, 72, 71, 69, 67, 64), (60, 63, 67, 72, 70, 68, 67, 63)
    tunes = [piece([(quarters(*line[:4]), []), (quarters(*line[4:]), [])] * 4) for line in lines]
    rows = np.array([[features(one)[name] for name in FEATURE_NAMES] for one in tunes])
    heard = valence_of_cues(FEATURE_NAMES, rows)
    assert heard[0] > heard[1] + 0.1


def quadrants(pieces: pd.DataFrame) -> pd.DataFrame:
    return pieces.assign(label_kind="quadrant")


def test_only_a_labeller_of_quadrants_listens_to_cues(tmp_path: Path) -> None:
    pieces, table = music(120)
    for name, (mean, sd, _) in CUES.items():
        table[name] = np.random.default_rng(len(name)).normal(mean, sd, len(table))
    rated, told = PieceLabeller.fit(pieces, table), PieceLabeller.fit(quadrants(pieces), table)
    assert (rated.cue_share, told.cue_share) == (0.0, SHARE)
    alone = PieceLabeller.fit(quadrants(pieces), table)
    alone.cue_share = 0.0
    x = table.drop(columns="id").to_numpy(float)
    by_cues = valence_of_cues(told.names, x)
    assert np.allclose(told.predict(x)[:, 0], (alone.predict(x)[:, 0] + by_cues) / 2, atol=1e-6)
    assert np.array_equal(told.predict(x)[:, 1], alone.predict(x)[:, 1]), "arousal is the labeller's own"
    told.save(tmp_path / "told")
    assert np.array_equal(PieceLabeller.load(tmp_path / "told").predict(x), told.predict(x)), "kept in the file"


def test_a_judge_never_does() -> None:
    pieces, table = music(120)
    for name, (mean, _, _) in CUES.items():
        table[name] = mean
    judge = Judge.fit(quadrants(pieces).assign(split="judge"), table)
    assert judge.cue_share == 0.0


def test_features_without_cues_leave_them_out() -> None:
    pieces, table = music(120)
    assert PieceLabeller.fit(quadrants(pieces), table).cue_share == 0.0
