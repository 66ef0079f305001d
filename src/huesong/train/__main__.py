"""`python -m huesong.train`: `huesong train` for a machine that has PyTorch, NumPy, safetensors, PyYAML and pydantic alone.

No typer, no tracking. torchrun starts it once for each process of a training in several.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from huesong.config import load_params
from huesong.runtime.errors import user_errors_in_one_line
from huesong.runtime.files import disk_errors_in_words
from huesong.runtime.progress import configure
from huesong.runtime.signals import unwind_on_sigterm
from huesong.train import launch

DEFAULTS = {
    "params": Path("params.yaml"), "preprocess": Path("artifacts/preprocess"), "label": Path("artifacts/label"),
    "out": Path("artifacts/train"), "checkpoints": Path("artifacts/checkpoints"),
}  # fmt: skip
"""Options of the bare entry: those of `huesong train`."""


def main(words: Sequence[str] | None = None) -> None:
    """The bare entry; one process for each GPU, as `huesong train`."""
    parser = argparse.ArgumentParser(prog="python -m huesong.train", description="Train; tracks nothing.")
    for name, path in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=Path, default=path, help=f"default: {path}")
    folders = vars(parser.parse_args(words))
    configure()
    unwind_on_sigterm()
    with user_errors_in_one_line(), disk_errors_in_words():
        launch.train(load_params(folders.pop("params")).train, **folders)


if __name__ == "__main__":
    main()
