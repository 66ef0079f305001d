"""The figures that people compare fit a terminal: real `dvc` on a small checkout with figures of every stage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from huesong import contracts
from huesong.tracking.figures import COMPARED, compared, write_figures

ROOT = Path(__file__).parents[2]
COLUMNS = 160
WIDEST = {"preprocess": 123456, "label": 0.87961, "train": 12345.6789, "evaluate": -0.12345}
"""Figures that take as many characters as any of their stage."""


def dvc(*words: str, cwd: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "400", "DVC_PAGER": "cat"}
    done = subprocess.run(["dvc", *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commit(folder: Path, message: str) -> None:
    own = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    for words in (("add", "-A", "-f"), (*own, "commit", "-qm", message)):
        subprocess.run(["git", *words, *(["."] if words[0] == "add" else [])], cwd=folder, check=True)


def figures_of(stage: str, value: float) -> dict[str, float]:
    """All that a stage compares, each figure of this value, and one that it does not."""
    return {key: value for keys in COMPARED[stage].values() for key in keys} | {"another": value}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two commits, whose settings differ in two places and the figures of training and after with them."""
    folder = tmp_path_factory.mktemp("compared")
    for name in ("dvc.yaml", "params.yaml", ".dvc/config"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    for step, (width, share) in enumerate([(128, 1.0), (256, 0.9)]):
        params = yaml.safe_load((folder / "params.yaml").read_text())
        params["train"]["network"]["width"], params["train"]["va_weight"] = width, 0.25 * step
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        for stage in COMPARED:
            (folder / "artifacts" / stage).mkdir(parents=True, exist_ok=True)
            value = WIDEST[stage] * (share if stage in ("train", "evaluate") else 1)
            write_figures(folder / "artifacts" / stage, stage, figures_of(stage, value))
        commit(folder, f"step {step}")
    return folder


def test_a_stage_compares_few_figures_and_keeps_all(checkout: Path) -> None:
    assert sum(map(len, COMPARED.values())) <= 12
    for stage, names in COMPARED.items():
        last = WIDEST[stage] * (0.9 if stage in ("train", "evaluate") else 1)
        folder = checkout / "artifacts" / stage
        assert set(json.loads((folder / contracts.METRICS).read_text())) == set(names)
        assert json.loads((folder / contracts.FIGURES).read_text()) == figures_of(stage, last)


def test_a_figure_that_was_not_measured_is_left_out() -> None:
    assert compared("label", {"images_valence_ccc": 0.5, "images_arousal_ccc": float("nan")}) == {}
    assert compared("preprocess", {"pictures": {"kept": 3, "dropped": 1}}) == {"images": 3}
    assert compared("register", {"version": 1.0}) == {}


def test_the_metrics_fit_a_terminal(checkout: Path) -> None:
    shown = dvc("metrics", "show", cwd=checkout)
    assert all(name in shown for names in COMPARED.values() for name in names)
    assert max(map(len, shown.splitlines())) <= COLUMNS


@pytest.mark.slow
def test_the_experiments_fit_a_terminal(checkout: Path) -> None:
    shown = dvc("exp", "show", "--only-changed", "--drop", "Created", "-n", "2", cwd=checkout)
    lines = [line.rstrip() for line in shown.splitlines()]
    named = len("├── 0123456 [given-name]") - len("workspace")  # an experiment is written longer than a commit
    assert "train.va_weight" in shown
    assert "train.network.width" in shown
    assert all(name in shown for name in COMPARED["evaluate"])
    assert max(map(len, lines)) + named <= COLUMNS


def test_what_is_no_number_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="huesong"):
        write_figures(tmp_path, "evaluate", {"valence_ccc": 0.5, "arousal_ccc": float("nan"), "n": 3})
    assert json.loads((tmp_path / contracts.FIGURES).read_text()) == {"valence_ccc": 0.5, "n": 3}
    assert json.loads((tmp_path / contracts.METRICS).read_text()) == {"v_ccc": 0.5}
    assert "no numbers: arousal_ccc" in caplog.text
