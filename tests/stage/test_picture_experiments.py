"""`huesong experiment readers` and `maps`: an idea that helps is found and confirmed, one that does not is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from huesong import contracts
from huesong.cli.app import app
from huesong.config import SamplingConfig
from huesong.evaluate.judges import Judges
from huesong.evaluate.stage import train_judges
from huesong.experiments.pictures import kernels, maps
from huesong.experiments.pictures.kernels import Task
from huesong.experiments.pictures.readers import BASE, Ratings, compared, ideas_of, markdown
from huesong.experiments.pictures.views import crops
from huesong.pictures.encoders import load_encoder
from huesong.runtime.errors import UserError
from tests.conftest import World
from tests.stage.test_pictures import data, folder, painted  # noqa: F401  (fixtures)


def ratings(themes: int = 60, each: int = 4) -> tuple[Ratings, np.ndarray]:
    """Ratings, and features that tell half of them, of themes that are alike."""
    rng = np.random.default_rng(0)
    theme = np.repeat(np.arange(themes), each)
    va = 0.3 * rng.normal(size=(themes, 2))[theme] + 0.2 * rng.normal(size=(len(theme), 2))
    features = np.concatenate([va * 3 + rng.normal(size=va.shape), rng.normal(size=(len(theme), 8))], axis=1)
    return Ratings(va.clip(-1, 1), np.array([f"theme{k}" for k in theme])), features


def test_what_helps_wins_and_is_confirmed() -> None:
    rated, features = ratings()
    rng = np.random.default_rng(1)
    telling, idle = rated.va_N2 + rng.normal(0, 0.1, rated.va_N2.shape), rng.normal(size=rated.va_N2.shape)
    seen = {f"net:1:{view}": features for view in ("mean", "max", "sd", "mirror", "crops")} | {
        "other:1:mean": np.concatenate([features, 2 * telling], axis=1), "colours": idle,
    }  # fmt: skip
    tables = [
        ("a table", pd.DataFrame(telling)),
        ("errors", pd.DataFrame({"valence_se": 0.01, "arousal_se": 0.01}, index=range(len(features)))),
    ]
    ideas = {
        name: reader
        for name, reader in ideas_of(seen, tables).items()
        if name in (BASE, "a table", "with other", "colours and composition", "rating noise as weights", "one size")
    }
    figures = compared(rated, ideas)
    won = {name for name, own in figures["ideas"].items() if own["won"]}
    assert {"a table", "with other"} <= won
    assert not won & {"colours and composition", "one size", BASE}
    same = figures["ideas"]["rating noise as weights"]["themes"]["valence"]
    assert same["gain"] == pytest.approx(0, abs=1e-9), "all ratings are as sure"
    assert set(figures["confirmed"]["ideas"]) == {BASE, *won}
    assert figures["confirmed"]["ideas"]["a table"]["valence"]["low"] > 0
    assert figures["pictures"] + figures["confirmed"]["pictures"] == len(features)
    page = markdown(figures)
    assert page.count("| yes |") == len(won)
    assert "set aside" in page


def test_kernel_machines_read_what_can_be_read() -> None:
    rated, features = ratings()
    known, new = np.arange(180), np.arange(180, 240)
    task = rated.task(known, new)
    machines = [kernels.ridge(features), kernels.linear(features), kernels.process(features)]
    for reader in [*machines, kernels.stacked(machines)]:
        found = reader(task)
        assert found.shape == (60, 2)
        assert np.corrcoef(found[:, 0], rated.va_N2[new, 0])[0, 1] > 0.5
    from huesong.emotion.kernel import PictureKernelVA

    head = PictureKernelVA.fit(features[known], rated.va_N2[known], np.ones(180))
    assert kernels.ridge(features)(task) == pytest.approx(head.predict(features[new]), abs=1e-9)
    sure = np.full((240, 2), 1e-3)
    sure[:90] = 3.0  # half of the ratings say nothing
    spoilt = Task(known, new, task.va_N2.copy(), task.theme_N)
    spoilt.va_N2[:90] = np.random.default_rng(2).normal(size=(90, 2))
    weighed, plain = (reader(spoilt) for reader in (kernels.noise_weighted(features, sure), kernels.ridge(features)))
    errors = [np.abs(found - rated.va_N2[new]).mean() for found in (weighed, plain)]
    assert errors[0] < errors[1]


def test_crops_cover_the_corners() -> None:
    parts = crops(painted(0))
    assert [part.size for part in parts] == [(45, 30)] * 5


def test_readers_from_the_console(data: Path, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    table = tmp_path / "told.csv"
    pd.DataFrame(
        {"id": [f"p{k}" for k in range(120)], "bright": [painted(k).getpixel((0, 0))[0] for k in range(120)]}
    ).to_csv(table, index=False)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- readers -->\n<!-- /readers -->\nafter\n")
    encoder = str(folder / contracts.ENCODER)
    options = ["--data", str(data), "--encoder", encoder, "--beside", str(table), "--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(app, ["experiment", "readers", *options, "--report", str(page)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "| told |" in page.read_text()
    figures = json.loads((tmp_path / "cache/readers.json").read_text())
    assert {"mirror image, too", "five crops, too", "Gaussian process", "kernels stacked"} <= set(figures["ideas"])
    table.write_text("name;x\n1;2\n")
    with pytest.raises(UserError, match=r"told\.csv is no table of numbers with a column id"):
        CliRunner().invoke(app, ["experiment", "readers", *options], catch_exceptions=False)


@pytest.mark.slow
def test_maps_are_judged_by_their_music(world: World, data: Path, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    encoder = load_encoder(str(folder / contracts.ENCODER), size=32, grid=2)
    names = [k for k in range(120) if k % 3 != 1]
    table = pd.DataFrame(
        {"id": [f"p{k}" for k in names], "split": ["val" if k % 9 == 0 else "train" for k in names], "label_kind": "mean_rating",
         "group": [f"g{k // 6}" for k in names], "valence": np.linspace(-0.6, 0.6, len(names)),
         "arousal": np.linspace(0.3, -0.3, len(names))}
    )  # fmt: skip
    preprocess = tmp_path / "preprocess"
    preprocess.mkdir()
    table.to_parquet(preprocess / contracts.IMAGES_TABLE)
    np.save(preprocess / contracts.PICTURE_FEATURES, encoder.encode([painted(k) for k in names]))

    def judges() -> Judges:
        return train_judges(world.params.evaluate, world.preprocess)

    sampling = SamplingConfig(seconds=4.0, candidates=1)
    page = maps.run(folder, preprocess, tmp_path / "out", sampling, judges, most=3)
    assert page.count("| people |") == 3
    asked = pd.read_csv(tmp_path / "out" / maps.ASKED)
    assert list(asked["arm"].unique()) == [*maps.MAPS, maps.OTHER, maps.NONE]
    assert (asked.groupby("arm").size() == 3).all()
    people = asked[asked["arm"] == "people"].reset_index(drop=True)
    for arm in (maps.OTHER, maps.NONE):
        other = asked[asked["arm"] == arm].reset_index(drop=True)
        assert other["asked_valence"].equals(people["asked_valence"]), "the same requests"
    files = sorted((tmp_path / "out").rglob("*.mid"))
    assert len(files) == 6 * 3
    times = [path.stat().st_mtime_ns for path in files]
    assert maps.run(folder, preprocess, tmp_path / "out", sampling, judges, most=3) == page
    assert [path.stat().st_mtime_ns for path in files] == times, "what is composed stays"
    np.save(preprocess / contracts.PICTURE_FEATURES, np.zeros((len(names), 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="has no rated pictures that a frozen encoder sees"):
        maps.run(folder, preprocess, tmp_path / "out2", sampling, judges)


@pytest.mark.slow
def test_what_image_tokens_add_is_a_difference_of_losses(world: World) -> None:
    figures = maps.token_losses(world.train / contracts.MODEL, world.preprocess, world.label, most=4)
    assert 0 < figures["own"] < 20
    assert 1 <= figures["pictures"] <= figures["pairs"] <= 4
    assert abs(figures[maps.NONE]["more"]) < 5
    said = maps.tokens_said(figures)
    assert f"{figures['own']:.3f} with its picture's tokens" in said
    assert "no tokens" in said
