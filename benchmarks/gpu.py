"""Trains a preset on a GPU within ten minutes, after its first losses were held against a CPU's.

Usage: python benchmarks/gpu.py [--params presets/gpu.yaml] [--artifacts artifacts] [--out artifacts/gpu] [--minutes 10]
       [--device cuda]
Needs what `huesong preprocess` and `huesong label` wrote, and no package but those of `python -m huesong.train`.

1. The first steps, few pieces at a time, in float32 and without dropout, on the CPU and on the device: every loss has to be
   within TOLERANCE of the CPU's. Both draw the same weights and pieces; only sums are taken in another order.
2. Seconds a step of the preset itself, by the difference between a longer and a shorter run.
3. The preset, its steps scaled so that the whole takes the minutes; its critic is trained in full. OUT/train is a folder as
   that of `huesong train`, OUT/gpu.json says what was measured. Rewards are left out: they need the whole package.
Exit code 1 if a loss is too far off, 2 if there is no such device or input.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from huesong import contracts
from huesong.config import TrainConfig, load_params
from huesong.runtime.errors import user_errors_in_one_line
from huesong.runtime.files import replacing_file
from huesong.runtime.progress import configure
from huesong.train import stage

FIRST = 10
"""Steps whose losses are compared."""
TOLERANCE = 1e-3
"""Of a loss in float32, relative: sums taken in another order differ by far less, another gradient by far more."""
TIMED = (8, 24)
"""Steps of the two runs that are timed."""
PAIR = 1.5
"""How much longer a step with pictures and critic takes than one of music alone, at most."""
MARGIN = 0.8
"""Share of the time left that is planned with: the rest is for validation and writing."""


def run(config: TrainConfig, artifacts: Path, out: Path, checkpoints: Path, **changes: Any) -> float:
    """Train with some settings changed; returns seconds."""
    changed = TrainConfig.model_validate({**config.model_dump(), **changes})
    begun = time.monotonic()
    stage.run(changed, preprocess=artifacts / "preprocess", label=artifacts / "label", out=out, checkpoints=checkpoints)
    return time.monotonic() - begun


def history(train: Path) -> list[dict[str, str]]:
    """The rows of a training's loss curve."""
    with (train / contracts.HISTORY).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def first_losses(config: TrainConfig, artifacts: Path, folder: Path, device: str) -> list[float]:
    """Of the first steps of pre-training in float32."""
    network = {**config.network.model_dump(), "dropout": 0.0}
    critic = {**config.critic.model_dump(), "steps": 1}
    run(
        config, artifacts, folder / device, folder / f"{device}-checkpoints",
        device=device, precision="float32", network=network, critic=critic, pretrain_steps=FIRST, steps=1, batch_size=2,
        accumulate=1, processes=1, condition_dropout=0.0, compile=False, eval_batches=1,
    )  # fmt: skip
    return [float(row["loss"]) for row in history(folder / device)][:FIRST]


def farthest(losses: Sequence[float], others: Sequence[float]) -> float:
    """The largest relative difference of two curves."""
    return max(abs(one - other) / abs(other) for one, other in zip(losses, others, strict=True))


def scaled(config: TrainConfig, step_s: float, seconds: float) -> dict[str, int]:
    """Steps of both phases that take the seconds together, and no more than the preset's."""
    whole = step_s * (config.pretrain_steps + PAIR * config.steps)
    share = min(1.0, max(0.0, MARGIN * seconds) / whole)
    return {name: max(1, int(share * getattr(config, name))) for name in ("pretrain_steps", "steps")}


def measure(config: TrainConfig, artifacts: Path, out: Path, device: str, seconds: float) -> dict[str, Any]:
    """All three parts; what was measured."""
    begun = time.monotonic()
    config = config.model_copy(update={"reinforce": config.reinforce.model_copy(update={"steps": 0})})
    kept = out / "checkpoints"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        losses = {each: first_losses(config, artifacts, folder, each) for each in dict.fromkeys(("cpu", device))}
        few, many = min(TIMED), max(TIMED)
        # The first of them trains the critic, too, and leaves it in the checkpoints.
        took = {
            steps: run(config, artifacts, folder / str(steps), kept, device=device, pretrain_steps=steps, steps=1)
            for steps in (1, few, many)
        }
    step_s = (took[many] - took[few]) / (many - few)
    steps = scaled(config, step_s, seconds - (time.monotonic() - begun))
    run(config, artifacts, out / "train", kept, device=device, **steps)
    rows = history(out / "train")
    rates = sorted(float(row["tokens_per_s"]) for row in rows if row["tokens_per_s"])
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "first_losses": losses,
        "farthest": farthest(losses[device], losses["cpu"]),
        "tolerance": TOLERANCE,
        "step_seconds": step_s,
        "tokens_per_second": rates[len(rates) // 2],
        **steps,
        "losses": [float(row["loss"]) for row in rows],
        "val_losses": [float(row["val_loss"]) for row in rows if row["val_loss"]],
        "seconds": time.monotonic() - begun,
    }


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--params", type=Path, default=Path("presets/gpu.yaml"))
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--out", type=Path, default=Path("artifacts/gpu"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    asked = parser.parse_args(words)
    configure()
    with user_errors_in_one_line():
        config = load_params(asked.params).train
        found = measure(config, asked.artifacts, asked.out, asked.device, 60 * asked.minutes)
        with replacing_file(asked.out / "gpu.json") as part:
            part.write_text(json.dumps(found, indent=2), encoding="utf-8")
    close = found["farthest"] <= TOLERANCE
    print(
        f"{found['device']}: first losses within {found['farthest']:.1e} of the CPU's ({'fine' if close else 'TOO FAR'}, "
        f"at most {TOLERANCE:g}); {1000 * found['step_seconds']:.0f} ms a step, {found['tokens_per_second']:.0f} tokens a "
        f"second; loss {found['losses'][0]:.2f} -> {found['losses'][-1]:.2f} in {found['seconds']:.0f} s: {asked.out}"
    )
    return 0 if close else 1


if __name__ == "__main__":
    sys.exit(main())
