"""Checkpoints: each a folder that appears whole or not at all; a damaged one is passed over for the one before.

    step-000100/  state.json (JSON values and the digests of the rest)  network.safetensors  ...

No pickle: tensors are safetensors, everything else is JSON.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from huesong.runtime.files import replacing_folder, sha256, sweep, write_json
from huesong.runtime.progress import log

STATE = "state.json"


@dataclass
class Checkpoint:
    """What was saved: named groups of tensors and a JSON state."""

    name: str
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training run in `folder`; the last `keep` are kept."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep
        if folder.is_dir():
            sweep(folder)  # a run that goes on from what is complete may write nothing here

    def save(self, number: int, tensors: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any]) -> None:
        """Write checkpoint `number` (numbers grow) and remove those before the last `keep`."""
        self.save_as(f"step-{number:06d}", tensors, state)
        for old in self.numbered()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def save_as(self, name: str, tensors: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any]) -> None:
        """Write a checkpoint of its own name, which is kept until `clear`."""
        with replacing_folder(self.folder / name) as work:
            for group, members in tensors.items():
                on_host = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in members.items()}
                save_file(on_host, work / f"{group}.safetensors")
            digests = {path.name: sha256(path) for path in sorted(work.iterdir())}
            write_json(work / STATE, {"state": state, "digests": digests})

    def numbered(self) -> list[Path]:
        """The numbered checkpoints, oldest first."""
        found = [p for p in self.folder.glob("step-*") if re.fullmatch(r"step-\d+", p.name)]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))

    def latest(self) -> Checkpoint | None:
        """The latest valid numbered checkpoint; damaged ones are named in the log and passed over."""
        for path in reversed(self.numbered()):
            if (checkpoint := self.load(path.name)) is not None:
                return checkpoint
        return None

    def load(self, name: str) -> Checkpoint | None:
        """The checkpoint of that name; None if it is missing or damaged."""
        path = self.folder / name
        if not path.is_dir():
            return None
        try:
            content = json.loads((path / STATE).read_text(encoding="utf-8"))
            for file, digest in content["digests"].items():
                if sha256(path / file) != digest:
                    raise ValueError(f"{file} has another SHA-256 than when it was written")
            tensors = {Path(file).stem: load_file(path / file) for file in content["digests"]}
            return Checkpoint(name, tensors, content["state"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            log.warning("checkpoint %s is damaged (%s); looking for the one before", path, error)
            return None

    def forget_steps(self) -> None:
        """Remove the numbered checkpoints; those of their own names stay."""
        for path in self.numbered():
            shutil.rmtree(path, ignore_errors=True)

    def clear(self) -> None:
        """Remove all checkpoints of the run."""
        shutil.rmtree(self.folder, ignore_errors=True)
