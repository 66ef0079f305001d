"""The project's own picture encoder while it learns: the network of pictures/student.py, with batch norms that change.

Shapes: N pictures, H = W side in pixels, h = w = H / 16 side of the feature map, C channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from huesong.pictures.student import BATCH_NORM_EPS, Architecture, Student


class Pupil(nn.Module):
    """Normalised pixels [N, 3, H, W] -> feature map [N, C, h, w]."""

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture or Architecture()
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

    def graduated(self) -> Student:
        """What it has learnt, as it stays from now on."""
        tensors = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in self.state_dict().items()}
        return Student(self.architecture, {name: array.copy() for name, array in tensors.items()})


class Residual(nn.Module):
    """Two convolutions and the way around them: [N, D, h, w] -> [N, D, h, w]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, map_NDhw: Tensor) -> Tensor:
        """The map, refined."""
        return nn.functional.relu(map_NDhw + self.layers(map_NDhw))


def _conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    norm = nn.BatchNorm2d(after, eps=BATCH_NORM_EPS)
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), norm)
