"""benchmarks/tuning.py: choices are made on requests and by scorers that have no part in the evaluation."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from huesong import contracts
from huesong.config import SecondJudgeConfig
from huesong.evaluate.stage import grid_requests
from tests.benchmark_modules import benchmark
from tests.conftest import World

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tuning() -> ModuleType:
    return benchmark("tuning")


def test_no_request_is_one_of_the_evaluations(tuning: ModuleType, world: World) -> None:
    asked = tuning.requests(world.preprocess, 1, 50)
    images = pd.read_parquet(world.preprocess / contracts.IMAGES_TABLE)
    assert (asked["set"] == "grid").sum() == 25
    assert set(asked.loc[asked["set"] == "pictures", "image_id"]) == set(images.loc[images["split"] == "val", "id"])
    assert not set(asked["seed"]) & set(grid_requests(world.params.evaluate)["seed"])


def test_the_scorer_learns_from_split_train_alone(
    tuning: ModuleType, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[pd.DataFrame] = []
    monkeypatch.setattr(tuning.SecondJudge, "fit", lambda own, *_, **__: fitted.append(own))
    pieces = pd.read_parquet(world.preprocess / contracts.PIECES_TABLE)
    tuning.train_scorer(world.preprocess, pieces)
    assert np.array_equal(fitted[0]["split"] == "judge", pieces["split"] == "train")
    assert set(fitted[0]["split"]) == {"judge", "none"}


def test_a_row_for_every_way_to_sample(
    tuning: ModuleType, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "SecondJudgeConfig", lambda: SecondJudgeConfig(members=1, steps=2))
    (tmp_path / "preprocess").symlink_to(world.preprocess)
    (tmp_path / "label").symlink_to(world.label)
    arguments = argparse.Namespace(
        models=[world.train / contracts.MODEL], artifacts=tmp_path, candidates=[1], steering=[1, 2], seeds=1, pictures=2
    )
    found = list(tuning.rows(arguments))
    assert len(found) == 2
    assert found[0][1:4] == ["1", "1", "27"]
    assert len(found[0]) == len(tuning.HEAD)
    # With one candidate there is nothing to steer: the same pieces.
    assert found[0][3:] == found[1][3:]
