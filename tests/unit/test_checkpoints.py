from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from huesong.runtime.checkpoints import STATE, Checkpoints


def save(checkpoints: Checkpoints, number: int) -> None:
    checkpoints.save(number, {"weights": {"a.b": torch.full((2, 3), float(number))}}, {"step": number, "rate": 0.1})


def test_the_latest_comes_back_exactly(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.latest() is None
    save(checkpoints, 7)
    save(checkpoints, 12)
    found = checkpoints.latest()
    assert found is not None
    assert found.state == {"step": 12, "rate": 0.1}
    assert torch.equal(found.tensors["weights"]["a.b"], torch.full((2, 3), 12.0))


def test_only_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_as("critic", {"critic": {"w": torch.zeros(1)}}, {})
    for number in (3, 90, 100):
        save(checkpoints, number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["critic", "step-000090", "step-000100"]


@pytest.mark.parametrize("damage", ["weights cut", "weights flipped", "state cut", "state missing", "weights missing"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    save(checkpoints, 2)
    path = tmp_path / "step-000002" / (STATE if "state" in damage else "weights.safetensors")
    content = bytearray(path.read_bytes())
    if "missing" in damage:
        path.unlink()
    elif "cut" in damage:
        path.write_bytes(content[: len(content) // 2])
    else:
        content[-1] ^= 1
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="huesong"):
        found = checkpoints.latest()
    assert found is not None
    assert found.state["step"] == 1
    assert "step-000002 is damaged" in caplog.text


def test_leftovers_of_a_killed_save_are_ignored(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    (tmp_path / ".step-000002-abc").mkdir()
    (tmp_path / "step-000003.txt").write_text("not a checkpoint")
    found = checkpoints.latest()
    assert found is not None
    assert found.state["step"] == 1


def test_what_a_killed_save_was_writing_is_removed_by_the_run_that_goes_on(tmp_path: Path) -> None:
    save(Checkpoints(tmp_path), 1)
    (tmp_path / ".huesong-abcd1234" / "new").mkdir(parents=True)
    Checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_clear_removes_the_run(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    save(checkpoints, 1)
    checkpoints.clear()
    assert not (tmp_path / "run").exists()
