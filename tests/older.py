"""What earlier versions of huesong wrote, made from what this one writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from huesong import contracts


def format_1(folder: Path, out: Path) -> Path:
    """A copy of the model folder as huesong 0.1.0 wrote it: weights.safetensors, no `model_type`, format 1."""
    shutil.copytree(folder, out)
    (out / contracts.MODEL_WEIGHTS).rename(out / "weights.safetensors")
    path = out / contracts.MODEL_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    assert config.pop("model_type") == "huesong"
    config["format"] = 1
    config["files"]["weights.safetensors"] = config["files"].pop(contracts.MODEL_WEIGHTS)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return out
