import dataclasses
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from huesong import contracts
from huesong.errors import UserError
from huesong.stages import evaluate

from .conftest import World


@pytest.fixture(scope="module")
def evaluated(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluate") / "evaluate"
    evaluate.run(
        world.params.evaluate,
        data=world.data,
        preprocess=world.preprocess,
        label=world.label,
        train=world.train,
        out=out,
    )
    return out


def test_every_test_picture_and_grid_point_is_composed(world: World, evaluated: Path) -> None:
    heard = pd.read_csv(evaluated / contracts.REQUESTS)
    images = pd.read_parquet(world.preprocess / contracts.IMAGES_TABLE)
    assert set(heard.loc[heard["set"] == "pictures", "image_id"]) == set(images.loc[images["split"] == "test", "id"])
    assert (heard["set"] == "grid").sum() == 25
    assert all((evaluated / file).exists() for file in heard["file"])


def test_metrics_are_complete_and_consistent(evaluated: Path) -> None:
    metrics = json.loads((evaluated / contracts.METRICS).read_text())
    heard = pd.read_csv(evaluated / contracts.REQUESTS)
    grid = heard[heard["set"] == "grid"]
    assert metrics["grid_n"] == 25
    assert metrics["pieces"] == len(heard)
    error = (grid["requested_arousal"] - grid["obtained_arousal"]).abs().mean()
    assert metrics["grid_arousal_mae"] == pytest.approx(error, abs=1e-4)
    assert metrics["grid_arousal_mae_low"] <= metrics["grid_arousal_mae"] <= metrics["grid_arousal_mae_high"]
    assert metrics["invalid_tokens"] == 0
    assert metrics["length_within_10_percent"] == 1.0
    assert metrics["distance_paper"] > 0
    assert metrics["judge_n"] > 0


def test_report_is_self_contained_with_players_and_rolls(evaluated: Path) -> None:
    html = (evaluated / contracts.REPORT).read_text()
    assert html.count("<audio") == 2
    assert "data:audio/wav;base64," in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)


def test_same_seed_same_figures(world: World, evaluated: Path, tmp_path: Path) -> None:
    again = evaluate.run(
        world.params.evaluate, data=world.data, preprocess=world.preprocess, label=world.label, train=world.train,
        out=tmp_path / "again",
    )  # fmt: skip
    assert again.metrics == json.loads((evaluated / contracts.METRICS).read_text())


def test_a_stage_without_its_inputs_names_the_command(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="huesong train"):
        evaluate.run(
            world.params.evaluate, data=world.data, preprocess=world.preprocess, label=world.label,
            train=tmp_path / "none", out=tmp_path / "out",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_requests_for_pictures_leave_the_emotion_to_the_model(world: World) -> None:
    config = world.params.evaluate.model_copy(update={"per_picture": 2, "max_pictures": 1})
    rows = evaluate.picture_requests(config, world.preprocess, world.label)
    assert rows["seed"].tolist() == [0, 1]
    import numpy as np

    pictures = np.load(world.preprocess / contracts.PICTURE_FEATURES)
    request = evaluate.request(rows.iloc[0], pictures, config.sampling)
    assert request.valence is None
    assert dataclasses.asdict(request)["picture"].shape == pictures.shape[1:]
