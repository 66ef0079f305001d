"""The project's own small picture encoder: a residual CNN, distilled from a large backbone (distill.py).

It needs nothing but torch, and its weights are the project's own, so they can be shipped with a trained model.

Shapes: N pictures, H = W side in pixels, h = w = H / 16 side of the feature map, C channels.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from huesong import contracts
from huesong.runtime.errors import UserError

MOST, MOST_NUMBERS = 1024, 20
"""Of an architecture's numbers: the largest, and how many there are."""
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


class Student(nn.Module):
    """Normalised pixels [N, 3, H, W] -> feature map [N, C, h, w]."""

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture or Architecture()
        self.figures: Figures = {}
        layers: list[nn.Module] = []
        before = 3
        for width, blocks in zip(self.architecture.widths, self.architecture.blocks, strict=True):
            layers += [_conv(before, width, stride=2), nn.ReLU()]
            layers += [Residual(width) for _ in range(blocks)]
            before = width
        self.trunk = nn.Sequential(*layers)
        self.features = nn.Conv2d(before, self.architecture.channels, 1)

    def forward(self, pixels_N3HW: Tensor) -> Tensor:
        """The feature map [N, C, h, w]."""
        map_NChw: Tensor = self.features(self.trunk(pixels_N3HW))
        return map_NChw

    def save(self, folder: Path) -> None:
        """Write weights, architecture and figures as one file into `folder`."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        texts = {"architecture": asdict(self.architecture), "figures": self.figures}
        metadata = {key: json.dumps(value, sort_keys=True) for key, value in texts.items()}
        path = folder / contracts.STUDENT_WEIGHTS
        save_file(tensors, path, metadata)
        path.chmod(0o644)  # written as 0600, which other users of a server could not read

    @classmethod
    def load(cls, folder: Path) -> Student:
        """Read what `save` wrote (float16 weights become float32), in evaluation mode.

        Raises:
            UserError: missing, damaged, or weights of another architecture.
        """
        path = folder / contracts.STUDENT_WEIGHTS
        try:
            with safe_open(path, "pt") as stream:
                raw, figures = (json.loads((stream.metadata() or {})[key]) for key in ("architecture", "figures"))
            architecture = Architecture(tuple(raw["widths"]), tuple(raw["blocks"]), raw["channels"])
            numbers = (*architecture.widths, *architecture.blocks, architecture.channels)
            if (
                not all(isinstance(number, int) and 0 <= number <= MOST for number in numbers)
                or len(numbers) > MOST_NUMBERS
            ):
                raise ValueError(f"an architecture of {numbers}"[:200])
            student = cls(architecture)
            student.figures = figures
            tensors = load_file(path)
            if any(tensor.is_floating_point() and not tensor.isfinite().all() for tensor in tensors.values()):
                raise ValueError("values that are no numbers")
            student.load_state_dict(tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            detail = " ".join(str(error).split())[:200]
            raise UserError(f"{path} is missing or damaged ({detail}): copy the whole encoder folder again") from error
        return student.eval().requires_grad_(False)


class Residual(nn.Module):
    """Two convolutions and the way around them: [N, D, h, w] -> [N, D, h, w]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, map_NDhw: Tensor) -> Tensor:
        """The map, refined."""
        return nn.functional.relu(map_NDhw + self.layers(map_NDhw))


def _conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after))
