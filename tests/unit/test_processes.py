"""Two real processes that train together: the others wait for the first one, and then have its weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from huesong.runtime.distributed import ALONE, joined_processes

SCRIPT = """
import hashlib, sys, time
from datetime import timedelta
from pathlib import Path
import torch, torch.distributed as dist
from huesong.runtime.distributed import joined_processes

with joined_processes(torch.device("cpu")) as processes:
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1))  # stands for the half hour that is usual
    torch.manual_seed(processes.rank)
    module = torch.nn.BatchNorm1d(1000)  # parameters, buffers, and a number that is no float
    torch.nn.init.normal_(module.weight)
    module.num_batches_tracked += 7 - processes.rank
    if processes.writes:
        time.sleep(3)
    if sys.argv[1] == "patient":
        processes.give_all(module)
    else:
        dist.broadcast(module.weight.data, 0)
    content = b"".join(tensor.numpy().tobytes() for tensor in module.state_dict().values())
    if processes.writes:
        time.sleep(3)
        Path("written").touch()
# One write a line: `print` writes the line's end apart, and two processes that share a pipe then mix their lines.
line = f"{hashlib.sha256(content).hexdigest()} {int(module.num_batches_tracked)} {Path('written').exists()}"
sys.stdout.write(line + "\\n")
"""


def run(tmp_path: Path, word: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command = [*torchrun, "--nproc-per-node", "2", str(script), word]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.slow
def test_the_others_wait_for_the_first_and_have_its_weights(tmp_path: Path) -> None:
    done = run(tmp_path, "patient")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    assert first.endswith(" 7 True")


@pytest.mark.slow
def test_the_default_group_would_not_have_waited(tmp_path: Path) -> None:
    done = run(tmp_path, "impatient")
    assert done.returncode != 0
    assert "imed out" in done.stderr


def test_alone_there_is_nobody_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    module = torch.nn.Linear(2, 2)
    before = module.weight.clone()
    with joined_processes(torch.device("cpu")) as processes:
        assert processes is ALONE
        assert processes.writes
        processes.give_all(module)
    assert torch.equal(module.weight, before)
