"""Training and sampling on a machine that has PyTorch, NumPy, safetensors, PyYAML and pydantic, and nothing else."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from huesong import contracts
from huesong.cli import stages
from huesong.train import __main__ as bare
from tests.tiny_training import settings, write_artifacts

BARE = r"""
import importlib.metadata, re, sys

KEPT = {"torch", "numpy", "safetensors", "pyyaml", "pydantic"}
WANTED = {re.split(r"[^\w.-]", line)[0].lower() for line in importlib.metadata.requires("huesong")} - KEPT
GONE = {
    module for module, names in importlib.metadata.packages_distributions().items()
    if WANTED & {name.lower() for name in names}
}
assert {"pandas", "miditok", "sklearn", "PIL", "mlflow", "typer", "rich"} <= GONE, GONE

class Bare:
    # In place of another finder of modules: it does not find what is gone.
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in GONE else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
"""

SCRIPT = r"""
import json, sys
from pathlib import Path
from huesong.config import SamplingConfig, TrainConfig
from huesong.model.folder import load_model
from huesong.model.requests import Request
from huesong.model.sampling import sample
from huesong.train import stage as train

root = Path(sys.argv[1])
config = TrainConfig.model_validate(json.loads(sys.argv[2]))
train.run(config, preprocess=root / "preprocess", label=root / "label", out=root / "train", checkpoints=root / "kept")
model = load_model(root / "train" / "model")
[piece] = sample(model, [Request(None, 0.5, -0.5, 0, 4.0)], SamplingConfig(candidates=1))
print(len(piece.ids))
"""


def on_a_bare_machine(root: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Python, which reads BARE as it starts, and so does every Python that it starts."""
    (root / "bare").mkdir(exist_ok=True)
    (root / "bare" / "sitecustomize.py").write_text(BARE)
    path = os.pathsep.join([str(root / "bare"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, cwd=root, env={**os.environ, "PYTHONPATH": path}
    )  # fmt: skip
    assert "sitecustomize" not in done.stderr, done.stderr
    return done


@pytest.mark.slow
def test_training_and_sampling_need_little_more_than_torch(tmp_path: Path) -> None:
    write_artifacts(tmp_path)
    done = on_a_bare_machine(tmp_path, "-c", SCRIPT, tmp_path, settings(pretrain_steps=2).model_dump_json())
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 10


def bare_entry(root: Path, **changes: object) -> subprocess.CompletedProcess[str]:
    """The train stage by its bare entry, with the params given and artifacts below `root`."""
    (root / "params.yaml").write_text(yaml.safe_dump({"train": settings(**changes).model_dump(mode="json")}))
    words = [f"--{name}={root / name}" for name in ("preprocess", "label", "out", "checkpoints")]
    return on_a_bare_machine(root, "-m", "huesong.train", *words)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_bare_entry_trains(tmp_path: Path, processes: int) -> None:
    write_artifacts(tmp_path)
    done = bare_entry(tmp_path, processes=processes, steps=2)
    assert done.returncode == 0, done.stderr
    assert f"model in {tmp_path / 'out' / 'model'}" in done.stderr
    assert ("training in 2 processes" in done.stderr) == (processes == 2)
    assert load_file(tmp_path / "out" / contracts.MODEL / contracts.MODEL_WEIGHTS)
    assert json.loads((tmp_path / "out" / contracts.FIGURES).read_text())["steps"] == 2


def test_the_console_is_what_a_bare_machine_lacks(tmp_path: Path) -> None:
    done = on_a_bare_machine(tmp_path, "-m", "huesong.cli", "train")
    assert done.returncode == 1
    assert "No module named 'typer'" in done.stderr


def test_the_bare_entry_has_the_consoles_defaults() -> None:
    console = {name: given.default for name, given in inspect.signature(stages.train).parameters.items()}
    assert console == bare.DEFAULTS


def test_rewards_say_what_they_need_in_one_line(tmp_path: Path) -> None:
    write_artifacts(tmp_path)
    done = bare_entry(tmp_path, reinforce={"steps": 2})
    assert done.returncode == 2
    [said] = done.stderr.splitlines()
    assert said.startswith("huesong: rewards need the music labeller")
    assert said.endswith("is not installed: pip install huesong, or set train.reinforce.steps to 0")
    assert not (tmp_path / "checkpoints").exists(), "it must be said before anything is trained"


def test_a_terminal_gets_lines_where_there_is_no_bar(tmp_path: Path) -> None:
    code = (
        "import sys; sys.stderr.isatty = lambda: True\n"
        "from huesong.runtime.progress import configure, track\n"
        "configure(); print(sum(track([1, 2], 'adding')))"
    )
    done = on_a_bare_machine(tmp_path, "-c", code)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert "adding: 2 done" in done.stderr
