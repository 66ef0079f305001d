"""emotion.judge: trained on its own groups alone, scored on groups nobody saw."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from huesong.emotion.labelled import agree, by_piece
from huesong.emotion.labellers import PieceLabeller
from huesong.evaluate.feature_judge import Judge
from huesong.runtime.errors import UserError
from huesong.va import Bootstrap
from tests.tiny_labels import music, unlabel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world() -> tuple[Judge, pd.DataFrame, pd.DataFrame]:
    pieces, features = music(360, segments=2)
    return Judge.fit(pieces, features), pieces, features


def test_only_split_judge_is_read(world: tuple[Judge, pd.DataFrame, pd.DataFrame]) -> None:
    judge, pieces, features = world
    lies = pieces.copy()
    others = lies["split"] != "judge"
    lies.loc[others, ["valence", "arousal"]] = -lies.loc[others, ["valence", "arousal"]]
    np.testing.assert_array_equal(judge.predict(features), Judge.fit(lies, features).predict(features))
    alone = pieces["split"] == "judge"
    np.testing.assert_array_equal(judge.predict(features), Judge.fit(pieces[alone], features[alone]).predict(features))


def test_held_out_scores_are_those_of_split_test(world: tuple[Judge, pd.DataFrame, pd.DataFrame]) -> None:
    judge, pieces, features = world
    scores = judge.held_out(pieces, features, Bootstrap(100))
    json.dumps(scores, allow_nan=False)
    assert scores["n"] == pieces.loc[pieces["split"] == "test", "piece"].nunique()  # one item a piece, not a segment
    assert scores["arousal_r"] > 0.8
    assert scores["arousal_r_low"] < scores["arousal_r"] < scores["arousal_r_high"]
    assert scores["made-up_n"] == scores["n"]
    lies = pieces.copy()
    lies.loc[lies["split"] == "test", "arousal"] *= -1
    assert judge.held_out(lies, features, Bootstrap(100))["arousal_r"] < -0.8
    lies = pieces.copy()
    lies.loc[lies["split"] != "test", "arousal"] *= -1
    assert judge.held_out(lies, features, Bootstrap(100)) == scores


def test_songs_are_resampled_whole() -> None:
    rng = np.random.default_rng(0)
    songs = pd.DataFrame(
        rng.uniform(-1, 1, (30, 4)), columns=["valence", "arousal", "predicted_valence", "predicted_arousal"]
    )
    one = agree(songs.assign(group=[f"s{k}" for k in range(30)]), Bootstrap(200))
    clips = pd.concat([songs] * 4).sort_index(kind="stable")
    many, apart = (
        agree(clips.assign(group=group), Bootstrap(200))
        for group in (clips.index.astype(str), np.arange(120).astype(str))
    )
    assert {key: many[key] for key in ("valence_r_low", "arousal_mae_high")} == pytest.approx(
        {key: one[key] for key in ("valence_r_low", "arousal_mae_high")}
    )
    assert apart["valence_r_high"] - apart["valence_r_low"] < 0.7 * (one["valence_r_high"] - one["valence_r_low"])


def test_nominal_sources_stand_by_themselves(world: tuple[Judge, pd.DataFrame, pd.DataFrame]) -> None:
    judge, pieces, features = world
    mixed = pieces.copy()
    nominal = mixed["group"].str[1:].astype(int) // 6 % 2 == 0
    mixed.loc[nominal, "source"] = "words"
    mixed.loc[nominal, "label_kind"] = "quadrant"
    scores = judge.held_out(mixed, features, Bootstrap(100))
    assert scores["n"] == scores["made-up_n"]
    assert scores["words_n"] > 0
    assert scores["n"] + scores["words_n"] == judge.held_out(pieces, features, Bootstrap(100))["n"]
    assert not [key for key in scores if key.startswith("words_confusion")]


def test_no_rated_test_pieces_is_no_crash(world: tuple[Judge, pd.DataFrame, pd.DataFrame]) -> None:
    judge, pieces, features = world
    bare = unlabel(pieces, (pieces["split"] == "test").to_numpy())
    assert judge.held_out(bare, features, Bootstrap(100))["n"] == 0


def test_too_few_judge_pieces() -> None:
    pieces, features = music(30)
    pieces["split"] = "train"
    with pytest.raises(UserError, match=r"split `judge`.*0 labelled items.*preprocess\.splits\.judge"):
        Judge.fit(pieces, features)


def test_files_are_not_interchangeable(world: tuple[Judge, pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    judge, pieces, features = world
    judge.save(tmp_path / "judge.safetensors")
    np.testing.assert_array_equal(Judge.load(tmp_path / "judge.safetensors").predict(features), judge.predict(features))
    with pytest.raises(UserError, match="is not a piece labeller"):
        PieceLabeller.load(tmp_path / "judge.safetensors")
    with pytest.raises(UserError, match="missing: run `huesong evaluate`"):
        Judge.load(tmp_path / "nothing.safetensors")
    assert judge.uncertainty(features).shape == (len(pieces), 2)


def test_by_piece_averages_segments() -> None:
    pieces, _ = music(12, segments=3)
    heard = np.arange(72, dtype=float).reshape(36, 2)
    found = by_piece(pieces, heard)
    assert len(found) == 12
    assert found["predicted_valence"].tolist() == heard.reshape(12, 3, 2).mean(axis=1)[:, 0].tolist()
    np.testing.assert_array_equal(found["valence"], pieces["valence"][::3])
