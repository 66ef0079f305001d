"""The project's own small picture encoder: a residual CNN, distilled from a large backbone (experiments/distill.py).

Its weights are the project's own, so they can be shipped with a trained model; convolution.py runs it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from huesong import contracts
from huesong.pictures.convolution import Block, Convolution, with_norm
from huesong.runtime.errors import UserError

MOST, MOST_NUMBERS = 1024, 20
"""Of an architecture's numbers: the largest, and how many there are."""
BATCH_NORM_EPS = 1e-5
NORM = ("weight", "bias", "running_mean", "running_var")
Figures = dict[str, dict[str, float]]
"""By source of validation pictures: how well student and teacher tell people's ratings of them."""


@dataclass(frozen=True)
class Architecture:
    """widths: channels at a half, a fourth, an eighth and a sixteenth of the side. blocks: residual blocks at each.

    channels: C of the feature map.
    """

    widths: tuple[int, ...] = (24, 48, 96, 144)
    blocks: tuple[int, ...] = (0, 1, 1, 2)
    channels: int = 128


@dataclass
class Student:
    """Normalised pixels [H, W, 3] -> feature map [H / 16, W / 16, C]; `convolution.run` of its blocks.

    tensors: the weights, named as `experiments.pupil.Pupil` names them. figures: how good it is.

    Raises:
        ValueError: weights of another architecture, or that are no numbers.
    """

    architecture: Architecture
    tensors: Mapping[str, np.ndarray]
    figures: Figures = field(default_factory=dict)

    def __post_init__(self) -> None:
        left = set(self.tensors)
        infinite = float("inf")

        def taken(name: str, *shape: int) -> np.ndarray:
            if name not in left or (found := self.tensors[name]).shape != shape:
                raise ValueError(f"weights of another architecture: {name}")
            left.discard(name)
            if found.dtype.kind == "f" and not np.isfinite(found).all():
                raise ValueError("values that are no numbers")
            return found.astype(np.float32)

        def convolution(name: str, before: int, after: int, stride: int = 1, most: float | None = None) -> Convolution:
            kernel, norm = taken(f"{name}.0.weight", after, before, 3, 3), (taken(f"{name}.1.{k}", after) for k in NORM)
            taken(f"{name}.1.num_batches_tracked")
            return Convolution(*with_norm(kernel, norm, BATCH_NORM_EPS), stride, most=most)

        self.blocks: list[Block] = []
        before, place = 3, 0
        for width, residuals in zip(self.architecture.widths, self.architecture.blocks, strict=True):
            self.blocks.append(Block((convolution(f"trunk.{place}", before, width, 2, infinite),)))
            place += 2  # its ReLU is counted, too
            for _ in range(residuals):
                first, second = (f"trunk.{place}.layers.{layer}" for layer in (0, 2))
                layers = convolution(first, width, width, most=infinite), convolution(second, width, width)
                self.blocks.append(Block(layers, around=True, most=infinite))
                place += 1
            before = width
        last = self.architecture.channels
        self.blocks.append(
            Block((Convolution(taken("features.weight", last, before, 1, 1), taken("features.bias", last)),))
        )
        if left:
            raise ValueError(f"weights of another architecture: {min(left)}")

    def save(self, folder: Path) -> None:
        """Write weights, architecture and figures as one file into `folder`."""
        texts = {"architecture": asdict(self.architecture), "figures": self.figures}
        metadata = {key: json.dumps(value, sort_keys=True) for key, value in texts.items()}
        path = folder / contracts.STUDENT_WEIGHTS
        save_file(dict(self.tensors), path, metadata)
        path.chmod(0o644)  # written as 0600, which other users of a server could not read

    @classmethod
    def load(cls, folder: Path) -> Student:
        """Read what `save` wrote; float16 weights become float32.

        Raises:
            UserError: missing, damaged, or weights of another architecture.
        """
        path = folder / contracts.STUDENT_WEIGHTS
        try:
            with safe_open(path, "np") as stream:
                raw, figures = (json.loads((stream.metadata() or {})[key]) for key in ("architecture", "figures"))
            architecture = Architecture(tuple(raw["widths"]), tuple(raw["blocks"]), raw["channels"])
            numbers = (*architecture.widths, *architecture.blocks, architecture.channels)
            if (
                not all(isinstance(number, int) and 0 <= number <= MOST for number in numbers)
                or len(numbers) > MOST_NUMBERS
            ):
                raise ValueError(f"an architecture of {numbers}"[:200])
            tensors = {
                name: array.astype(np.float32) if array.dtype.kind == "f" else array
                for name, array in load_file(path).items()
            }
            return cls(architecture, tensors, figures)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            detail = " ".join(str(error).split())[:200]
            raise UserError(f"{path} is missing or damaged ({detail}): copy the whole encoder folder again") from error
