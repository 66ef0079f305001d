"""Training in several processes of one machine: the curve of one process, one tracked run, one clear error."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from huesong import contracts
from huesong.component_io import inputs
from huesong.runtime.errors import UserError
from huesong.train import launch
from huesong.train import stage as train
from tests.tiny_training import NETWORK, settings, write_artifacts

PLAIN = {"network": NETWORK.model_copy(update={"dropout": 0.0}).model_dump(), "steps": 4, "objective": "ce"}
"""Without dropout, whose draws differ from process to process."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_artifacts(tmp_path)
    return tmp_path


def folders(root: Path, name: str) -> dict[str, Path]:
    return {
        "preprocess": root / "preprocess", "label": root / "label", "out": root / name,
        "checkpoints": root / f"{name}-checkpoints",
    }  # fmt: skip


def curve(out: Path) -> list[dict[str, str]]:
    with (out / contracts.HISTORY).open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves_and_are_tracked_as_one(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("HUESONG_SESSION", "launch")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    source: Any = SimpleNamespace(path="", metadata={})
    config = settings(**PLAIN, processes=2)
    given = config.model_dump(mode="json")
    with inputs.tracked("train", given, {"uri": uri, "experiment": "launch"}, source) as (_, run):
        report = launch.train(config, **folders(root, "two"))
        run(report)
    alone = train.run(config, **folders(root, "one"))

    said = capfd.readouterr().err
    assert "training in 2 processes" in said
    assert said.count(f"train (critic): {config.critic.steps} done") == 2, "one process and the one alone"
    critics = [load_file(root / name / "model" / contracts.CRITIC_WEIGHTS) for name in ("two", "one")]
    assert all(torch.equal(critics[0][name], critics[1][name]) for name in critics[1])
    rows, wanted = curve(root / "two"), curve(root / "one")
    assert len(rows) == len(wanted) == 4
    for row, want in zip(rows, wanted, strict=True):
        for name in ("loss", "ce", "grad_norm"):
            assert float(row[name]) == pytest.approx(float(want[name]), rel=1e-4)
    ours, theirs = (load_file(root / name / "model" / contracts.MODEL_WEIGHTS) for name in ("two", "one"))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in theirs)
    assert report.metrics.keys() == alone.metrics.keys()
    assert [path.name for path in report.files] == [path.name for path in alone.files]
    assert all(path.is_file() for path in report.files)
    assert sorted(path.name.partition("-")[0] for path in (root / "two-checkpoints").iterdir()) == ["critic"]

    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert sorted(run.info.run_name.partition(" ")[0] for run in runs) == ["launch", "train"]
    (child,) = (run for run in runs if run.info.run_name == "train")
    assert len(client.get_metric_history(child.info.run_id, "curve/loss")) == 4


@pytest.mark.slow
def test_the_error_is_that_of_the_process_that_failed(root: Path) -> None:
    (root / "label" / contracts.SOURCES).unlink()
    with pytest.raises(UserError, match="run `huesong label` first") as raised:
        launch.train(settings(**PLAIN, processes=2), **folders(root, "out"))
    assert "\n" not in str(raised.value)
    assert not (root / "out").exists()


def test_processes_that_die_without_a_word_are_an_error_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dying = tmp_path / "python"
    dying.write_text('#!/bin/sh\necho "$*" >&2\nexit 9\n')
    dying.chmod(0o755)
    monkeypatch.setattr(launch.sys, "executable", str(dying))
    before = dict(os.environ)
    with pytest.raises(UserError, match="in 3 processes ended with exit code 9"):
        launch.torchrun(3, ["--out", "here"])
    said = capfd.readouterr().err
    assert "-m torch.distributed.run --standalone" in said
    assert "--nproc-per-node 3 -m huesong.train --out here" in said
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("device", "seen", "processes", "wanted"),
    [("auto", 0, 0, 1), ("auto", 4, 0, 4), ("cuda", 2, 0, 2), ("cpu", 4, 0, 1), ("cpu", 0, 2, 2), ("auto", 4, 1, 1)],
)
def test_one_process_a_visible_gpu_or_as_many_as_asked(
    monkeypatch: pytest.MonkeyPatch, device: str, seen: int, processes: int, wanted: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    config = settings(device=device, processes=processes)
    assert launch.processes_of(config) == wanted
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launch.processes_of(config) == 1, "one of those that torchrun started"


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"train\.processes = 2, and PyTorch sees 1 CUDA device"):
        launch.processes_of(settings(device="auto", processes=2))


def test_one_process_is_the_stage_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[dict[str, Any]] = []
    monkeypatch.setattr(train, "run", lambda config, **given: called.append(given))
    launch.train(settings(), **folders(root, "out"))
    assert called == [folders(root, "out")]
