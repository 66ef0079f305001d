"""Convolutional networks whose weights are fixed, on plain arrays: who composes for a picture need not import PyTorch.

For many pictures the same layers run in PyTorch (`in_torch`), which takes half as long for each (docs/lab-diary.md).

Shapes: h, w sides of a map, D channels before a convolution, C after it, k side of its kernel, N pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 32 * 1024
"""Values of a map that are filtered together: they stay in the processor's cache from one tap of the kernel to the next."""


@dataclass(frozen=True)
class Convolution:
    """A convolution, its bias, and what follows it.

    kernel: [C, D, k, k], or [C, 1, k, k] where each channel is filtered by itself (C = D). bias_C: None = 0.
    same: padded as TensorFlow's SAME, where with a stride what is odd goes to the right and below; else k // 2 around.
    most: all below 0 becomes 0, all above `most` becomes `most` (6: ReLU6, infinite: ReLU); None: nothing follows.
    """

    kernel: np.ndarray
    bias_C: np.ndarray | None = None
    stride: int = 1
    same: bool = False
    most: float | None = None

    def __call__(self, map_hwD: np.ndarray) -> np.ndarray:
        """The map [h', w', C], its sides divided by the stride, rounded up."""
        channels, depth, side = self.kernel.shape[:3]
        if side > 1:
            map_hwD = np.pad(map_hwD, [*(self.margins(each) for each in map_hwD.shape[:2]), (0, 0)])
        if depth == 1 < channels:
            return self._each_by_itself(map_hwD)
        height, width = ((each - side) // self.stride + 1 for each in map_hwD.shape[:2])
        seen = [self._tap(map_hwD, row, column, 0, height, width) for row in range(side) for column in range(side)]
        columns = seen[0] if side == 1 else np.concatenate(seen, axis=2)
        found = columns.reshape(height * width, -1) @ self._matrix
        if self.bias_C is not None:
            found += self.bias_C
        return self.bounded(found).reshape(height, width, channels)

    def margins(self, side: int) -> tuple[int, int]:
        """What is added before and after a side of the map."""
        kernel = self.kernel.shape[2]
        if not self.same or self.stride == 1:
            return kernel // 2, kernel // 2
        more = max((math.ceil(side / self.stride) - 1) * self.stride + kernel - side, 0)
        return more // 2, more - more // 2

    def bounded(self, found: np.ndarray) -> np.ndarray:
        """What follows the convolution, in place."""
        return found if self.most is None else np.clip(found, 0, self.most, out=found)

    @cached_property
    def _matrix(self) -> np.ndarray:
        """[k * k * D, C]."""
        return np.ascontiguousarray(self.kernel.transpose(2, 3, 1, 0).reshape(-1, len(self.kernel)))

    @cached_property
    def _taps(self) -> np.ndarray:
        """[k, k, C]."""
        return np.ascontiguousarray(self.kernel[:, 0].transpose(1, 2, 0))

    def _tap(self, map_hwD: np.ndarray, row: int, column: int, first: int, height: int, width: int) -> np.ndarray:
        """What one tap of the kernel sees for `height` rows of the new map from its row `first` on."""
        step = self.stride
        top, last, right = first * step + row, (first + height - 1) * step + row, (width - 1) * step + column
        return map_hwD[top : last + 1 : step, column : right + 1 : step]

    def _each_by_itself(self, map_hwD: np.ndarray) -> np.ndarray:
        side = self.kernel.shape[2]
        height, width = ((each - side) // self.stride + 1 for each in map_hwD.shape[:2])
        found = np.empty((height, width, map_hwD.shape[2]), np.float32)
        rows = max(1, AT_ONCE // (width * map_hwD.shape[2]))
        space = np.empty((rows, *found.shape[1:]), np.float32)
        for first in range(0, height, rows):
            part = found[first : first + rows]
            product = space[: len(part)]
            part[...] = 0 if self.bias_C is None else self.bias_C
            for row in range(side):
                for column in range(side):
                    seen = self._tap(map_hwD, row, column, first, len(part), width)
                    part += np.multiply(seen, self._taps[row, column], out=product)
            self.bounded(part)
        return found


@dataclass(frozen=True)
class Block:
    """Convolutions one after the other; `around`: what went in is added to what comes out; `most` as of a convolution."""

    layers: tuple[Convolution, ...]
    around: bool = False
    most: float | None = None

    def __call__(self, map_hwD: np.ndarray) -> np.ndarray:
        """The map that comes out."""
        found = map_hwD
        for layer in self.layers:
            found = layer(found)
        if self.around:
            found += map_hwD
        return found if self.most is None else np.clip(found, 0, self.most, out=found)


def run(blocks: Sequence[Block], pixels_HW3: np.ndarray) -> np.ndarray:
    """The feature map [h, w, C] of normalised pixels, float32."""
    map_hwD = pixels_HW3
    for block in blocks:
        map_hwD = block(map_hwD)
    return map_hwD


def in_torch(blocks: Sequence[Block]) -> Callable[[Tensor], Tensor]:
    """The same network in PyTorch: normalised pixels [N, 3, H, W] -> feature maps [N, C, h, w]."""
    import torch
    from torch.nn.functional import conv2d, pad

    def tensors(layer: Convolution) -> tuple[Tensor, Tensor | None]:
        bias = None if layer.bias_C is None else torch.from_numpy(layer.bias_C)
        # Kernels laid out channels last: a tenth faster.
        return torch.from_numpy(layer.kernel).contiguous(memory_format=torch.channels_last), bias

    weights = [[tensors(layer) for layer in block.layers] for block in blocks]

    def of_layer(layer: Convolution, kernel: Tensor, bias: Tensor | None, map_NDhw: Tensor) -> Tensor:
        groups = map_NDhw.shape[1] if layer.kernel.shape[1] == 1 else 1
        padding = layer.kernel.shape[2] // 2
        if layer.same and layer.stride > 1:
            map_NDhw, padding = pad(map_NDhw, [*layer.margins(map_NDhw.shape[3]), *layer.margins(map_NDhw.shape[2])]), 0
        found = conv2d(map_NDhw, kernel, bias, layer.stride, padding, 1, groups)
        return found if layer.most is None else found.clamp_(0, layer.most)

    def network(map_NDhw: Tensor) -> Tensor:
        for block, own in zip(blocks, weights, strict=True):
            found = map_NDhw
            for layer, (kernel, bias) in zip(block.layers, own, strict=True):
                found = of_layer(layer, kernel, bias, found)
            found = found.add_(map_NDhw) if block.around else found
            map_NDhw = found if block.most is None else found.clamp_(0, block.most)
        return map_NDhw

    return network


def halved(map_hwD: np.ndarray, times: int) -> np.ndarray:
    """The map with each square of 2**times values a side averaged."""
    step = 2**times
    height, width = (side // step for side in map_hwD.shape[:2])
    parts = map_hwD[: height * step, : width * step].reshape(height, step, width, step, -1)
    found: np.ndarray = parts.mean(axis=(1, 3), dtype=np.float32)
    return found


def pooled(map_hwD: np.ndarray, grid: int) -> np.ndarray:
    """The map averaged to grid x grid tokens [grid * grid, D]; where its side is no multiple, cells overlap."""
    edges = [
        [(cell * side // grid, -(-(cell + 1) * side // grid)) for cell in range(grid)] for side in map_hwD.shape[:2]
    ]
    return np.stack([
        map_hwD[top:bottom, left:right].mean(axis=(0, 1), dtype=np.float32)
        for top, bottom in edges[0] for left, right in edges[1]
    ])  # fmt: skip


def with_norm(kernel: np.ndarray, norm: Iterable[np.ndarray], eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution with the batch norm behind it, scale, shift, mean and variance [C], folded in."""
    scale_C, shift_C, mean_C, variance_C = norm
    gain_C = scale_C / np.sqrt(variance_C + np.float32(eps))
    return np.ascontiguousarray(kernel * gain_C[:, None, None, None]), shift_C - mean_C * gain_C
