"""Convolutional networks whose weights are fixed, on plain arrays: who composes for a picture need not import PyTorch.

For many pictures the same layers run in PyTorch (`in_torch`), which takes half as long for each (docs/lab-diary.md).

Shapes: h, w sides of a map, D channels before a convolution, C after it, k side of its kernel, N pictures.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 32 * 1024
"""Values of a map that are filtered together: they stay in the processor's cache until bias and bounds are applied."""
LONG = 64
"""Columns of a map from which on a product of matrices for each of its rows is as quick as one for all."""
STRETCH = 1024
"""Values beside each other that einsum adds up in one inner loop, where a map has fewer channels than that."""


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
        return self.of_padded(self.padded(map_hwD))

    def padded(self, map_hwD: np.ndarray) -> np.ndarray:
        """The map with zeros around it, as far as the kernel reaches."""
        if self.kernel.shape[2] == 1:
            return map_hwD
        return np.pad(map_hwD, [*(self.margins(each) for each in map_hwD.shape[:2]), (0, 0)])

    def of_padded(self, map_hwD: np.ndarray) -> np.ndarray:
        """The new map of one that has its zeros around it."""
        channels, depth, side = self.kernel.shape[:3]
        if depth == 1 < channels:
            return self._each_by_itself(map_hwD)
        height, width = ((each - side) // self.stride + 1 for each in map_hwD.shape[:2])
        seen = [self._tap(map_hwD, row, column, height, width) for row in range(side) for column in range(side)]
        columns = seen[0] if side == 1 else np.concatenate(seen, axis=2)
        found = columns.reshape(height * width, -1) @ self._matrix
        return self._finished(found).reshape(height, width, channels)

    def padded_for(self, after: Convolution, map_hwD: np.ndarray) -> np.ndarray:
        """Where `of_values`: the new map with the zeros that the next convolution wants, which spares a copy."""
        height, width = map_hwD.shape[:2]
        (top, bottom), (left, right) = after.margins(height), after.margins(width)
        found = np.zeros((top + height + bottom, left + width + right, len(self.kernel)), np.float32)
        inner = found[top : top + height, left : left + width]
        self._finished(np.matmul(map_hwD, self._matrix, out=inner))
        return found

    def _finished(self, found: np.ndarray) -> np.ndarray:
        """With its bias and what follows the convolution, in place."""
        if self.bias_C is not None:
            found += self.bias_C
        return self.bounded(found)

    @property
    def of_values(self) -> bool:
        """Whether each value of the new map, at the same place, is made of those of one place alone."""
        return self.kernel.shape[2] == self.stride == 1 and self.kernel.shape[1] > 1

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

    def _tap(self, map_hwD: np.ndarray, row: int, column: int, height: int, width: int) -> np.ndarray:
        """What one tap of the kernel sees for a new map of these sides."""
        step = self.stride
        down, right = (height - 1) * step + row, (width - 1) * step + column
        return map_hwD[row : down + 1 : step, column : right + 1 : step]

    def _each_by_itself(self, map_hwD: np.ndarray) -> np.ndarray:
        """All taps in one pass: einsum adds the products up while a stretch of a row lies in the nearest cache.

        Two passes a tap, multiply and add, took 2.3 times as long (docs/lab-diary.md, 2026-12-01).
        """
        side, step = self.kernel.shape[2], self.stride
        depth = map_hwD.shape[2]
        height, width = ((each - side) // step + 1 for each in map_hwD.shape[:2])
        # Without a stride neighbours follow each other in memory: some are taken together, as one longer stretch.
        many = math.gcd(width, max(1, STRETCH // depth)) if step == 1 else 1
        down, right, value = map_hwD.strides
        seen = np.lib.stride_tricks.as_strided(
            map_hwD, (height, width // many, side, side, many * depth),
            (step * down, step * many * right, down, right, value), writeable=False,
        )  # fmt: skip
        taps = np.tile(self._taps, many)
        found = np.empty((height, width, depth), np.float32)
        rows = max(1, AT_ONCE // (width * depth))
        for first in range(0, height, rows):
            part = found[first : first + rows]
            stretches = part.reshape(len(part), width // many, -1)
            np.einsum("hwijc,ijc->hwc", seen[first : first + rows], taps, out=stretches)
            self._finished(part)
        return found


@dataclass(frozen=True)
class Block:
    """Convolutions one after the other; `around`: what went in is added to what comes out; `most` as of a convolution."""

    layers: tuple[Convolution, ...]
    around: bool = False
    most: float | None = None

    def __call__(self, map_hwD: np.ndarray) -> np.ndarray:
        """The map that comes out."""
        found, ready = map_hwD, False
        for layer, after in itertools.zip_longest(self.layers, self.layers[1:]):
            seen = found if ready else layer.padded(found)
            # By rows, so of long ones alone: for short ones a copy costs less than products of small matrices.
            ready = after is not None and layer.of_values and seen.shape[1] >= LONG
            found = layer.padded_for(after, seen) if after is not None and ready else layer.of_padded(seen)
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
    # By one axis after the other: `mean` over both at once takes ten times as long.
    down = functools.reduce(np.add, (parts[:, row] for row in range(step)))
    found = functools.reduce(np.add, (down[:, :, column] for column in range(step)))
    return found / np.float32(step * step)


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
