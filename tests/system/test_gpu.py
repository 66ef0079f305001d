"""benchmarks/gpu.py, on a CPU: where there is no GPU, everything but the device is tried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from huesong import contracts
from huesong.config import TrainConfig
from tests.benchmark_modules import benchmark
from tests.conftest import World

pytestmark = pytest.mark.slow
MANY = 100_000
"""Steps of the preset: more than any machine takes in the minutes of the test."""


def preset(world: World, folder: Path) -> Path:
    train = world.params.train.model_dump(mode="json") | {"pretrain_steps": MANY, "steps": MANY // 4, "eval_batches": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump({"train": train}), encoding="utf-8")
    for stage in ("preprocess", "label"):
        (folder / stage).symlink_to(getattr(world, stage))
    return folder / "params.yaml"


def test_losses_are_compared_and_the_preset_is_cut_to_the_minutes(world: World, tmp_path: Path) -> None:
    out = tmp_path / "gpu"
    words = ["--params", str(preset(world, tmp_path)), "--artifacts", str(tmp_path), "--out", str(out)]
    assert benchmark("gpu").main([*words, "--device", "cpu", "--minutes", "0.2"]) == 0
    found = json.loads((out / "gpu.json").read_text())
    assert found["farthest"] == 0
    assert 1 <= found["steps"] <= found["pretrain_steps"] < MANY
    assert len(found["losses"]) >= found["pretrain_steps"] + found["steps"]
    assert (out / "train" / contracts.MODEL / contracts.MODEL_WEIGHTS).is_file()


def test_curves_that_part_are_told() -> None:
    assert benchmark("gpu").farthest([2.0, 1.5], [2.0, 1.0]) == pytest.approx(0.5)


def test_no_step_is_added_to_the_preset() -> None:
    config = TrainConfig(pretrain_steps=1000, steps=200)
    assert benchmark("gpu").scaled(config, 0.001, 600) == {"pretrain_steps": 1000, "steps": 200}
    assert benchmark("gpu").scaled(config, 1.0, 650) == {"pretrain_steps": 400, "steps": 80}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark("gpu").main(["--params", str(preset(world, tmp_path)), "--artifacts", str(tmp_path)])
    assert stopped.value.code == 2
    assert "PyTorch sees no CUDA device" in capsys.readouterr().err
