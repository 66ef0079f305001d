"""Training and sampling on a machine that has PyTorch, NumPy, safetensors, PyYAML and pydantic, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.tiny_training import settings, write_artifacts

SCRIPT = r"""
import importlib.metadata, json, re, sys
from pathlib import Path

KEPT = {"torch", "numpy", "safetensors", "pyyaml", "pydantic"}
WANTED = {re.split(r"[^\w.-]", line)[0].lower() for line in importlib.metadata.requires("huesong")} - KEPT
GONE = {
    module for module, names in importlib.metadata.packages_distributions().items()
    if WANTED & {name.lower() for name in names}
}
assert {"pandas", "miditok", "sklearn", "PIL", "mlflow"} <= GONE, GONE

class Bare:
    # In place of another finder of modules: it does not find what is gone.
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in GONE else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
from huesong.config import SamplingConfig, TrainConfig
from huesong.model.folder import load_model
from huesong.model.requests import Request
from huesong.model.sampling import sample
from huesong.stages import train

root = Path(sys.argv[1])
config = TrainConfig.model_validate(json.loads(sys.argv[2]))
train.run(config, preprocess=root / "preprocess", label=root / "label", out=root / "train", checkpoints=root / "kept")
model = load_model(root / "train" / "model")
[piece] = sample(model, [Request(None, 0.5, -0.5, 0, 4.0)], SamplingConfig(seconds=4.0))
print(len(piece.ids))
"""


def on_a_bare_machine(root: Path, config: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT, root, config], capture_output=True, text=True, check=False)


def test_training_and_sampling_need_little_more_than_torch(tmp_path: Path) -> None:
    write_artifacts(tmp_path)
    done = on_a_bare_machine(tmp_path, settings(pretrain_steps=2).model_dump_json())
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 10


def test_rewards_say_what_they_need(tmp_path: Path) -> None:
    write_artifacts(tmp_path)
    done = on_a_bare_machine(tmp_path, settings(reinforce={"steps": 2}).model_dump_json())
    assert done.returncode != 0
    assert "is not installed: pip install huesong, or set train.reinforce.steps to 0" in done.stderr
    assert not (tmp_path / "kept").exists(), "it must be said before anything is trained"
