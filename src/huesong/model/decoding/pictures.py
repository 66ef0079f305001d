"""The image encoder and the condition (model/image_encoder.py) on plain arrays: the same numbers, up to rounding.

Shapes: B batch, S image tokens, C channels of a picture feature, D width of the network, K knots of the map (in
`KernelHead`: rated pictures that are kept), H = W side in pixels, N pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from huesong.model.decoding.arithmetic import EPS, gelu, layer_norm
from huesong.model.decoding.tensors import Tensors
from huesong.pictures.convolution import Convolution

FARTHEST = 6.0
"""Standard deviations at which a channel is cut off, as in emotion.kernel.PictureKernelVA."""
KNOTS = 33
"""Of the map from picture VA to music VA."""
CNN_CHANNELS, CNN_STRIDES, CNN_GROUPS = (32, 64, 96, 128, 128), (2, 2, 2, 2, 1), 8
"""Of the project's own CNN: channels and stride of each convolution, and the groups that its norms look at."""
FREQUENCIES = 4
"""Of the condition's waves, for each axis."""


@dataclass(frozen=True)
class PictureShape:
    """What one picture is to the network.

    kind "features": float [S, C] of a frozen backbone (`tokens`, `channels`); the VA head compares their mean with that
        of `rated` pictures.
    kind "pixels": uint8 [size, size, 3], read by the network's own CNN, with a linear VA head.
    """

    kind: Literal["features", "pixels"]
    tokens: int = 0
    channels: int = 0
    size: int = 0
    rated: int = 0

    @classmethod
    def of(cls, row: tuple[int, ...], rated: int = 0) -> PictureShape:
        """The shape of one row of the picture array: (S, C) features or (H, W, 3) pixels."""
        if len(row) == 2:
            return cls("features", tokens=row[0], channels=row[1], rated=rated)
        return cls("pixels", size=row[0])

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of one row of the picture array."""
        return (self.tokens, self.channels) if self.kind == "features" else (self.size, self.size, 3)


@dataclass
class Seen:
    """What the network sees in a batch of pictures: as `image_encoder.PictureEncoding`, without the pooled features."""

    tokens_BSD: np.ndarray
    va_B2: np.ndarray
    request_B2: np.ndarray


class Pictures:
    """Pictures to image tokens, and to their own (valence, arousal)."""

    def __init__(self, tensors: Tensors, shape: PictureShape, width: int, seen: bool) -> None:
        """`seen`: whether the music sees image tokens."""
        self.cnn = PictureCNN(tensors, shape.size) if shape.kind == "pixels" else None
        channels = CNN_CHANNELS[-1] if self.cnn else shape.channels
        self.tokens = self.cnn.grid**2 if self.cnn else shape.tokens
        self._mean_C = tensors.take("picture.feature_mean_C", channels)
        self._scale_C = tensors.take("picture.feature_scale_C", channels)
        self._project = tensors.linear("picture.project", width, channels) if seen else None
        self._norm = tensors.norm("picture.norm", width) if seen else None
        self._places_SD = tensors.take("picture.places_SD", self.tokens, width) if seen else None
        self.null_SD = tensors.take("picture.null_SD", self.tokens, width)
        self.va_head: KernelHead | tuple[np.ndarray, np.ndarray] = (
            KernelHead(tensors, shape.rated, channels)
            if shape.rated
            else tensors.linear("picture.va_head", 2, channels)
        )
        self.map_from_K2, self.map_to_K2 = (tensors.take(f"picture.map_{end}_K2", KNOTS, 2) for end in ("from", "to"))

    def read(self, pictures: np.ndarray) -> Seen:
        """`pictures`: [B, S, C] float features or [B, H, W, 3] uint8 pixels."""
        grid_BSC = np.stack([self.cnn(each) for each in pictures]) if self.cnn else pictures.astype(np.float32)
        features_BSC = (grid_BSC - self._mean_C) / self._scale_C
        if isinstance(self.va_head, KernelHead):
            raw_B2 = self.va_head(grid_BSC.mean(axis=1))
        else:
            bias, weight = self.va_head
            raw_B2 = features_BSC.mean(axis=1) @ weight + bias
        # What was fitted in closed form is clamped; a head trained by gradient needs tanh.
        va_B2 = np.tanh(raw_B2) if self.cnn else raw_B2.clip(-1, 1)
        if self._project is None or self._norm is None or self._places_SD is None:
            tokens_BSD = np.repeat(self.null_SD[None], len(pictures), axis=0)
        else:
            bias, weight = self._project
            tokens_BSD = layer_norm(features_BSC @ weight + bias, *self._norm) + self._places_SD
        return Seen(tokens_BSD, va_B2, self.map_va(va_B2))

    @property
    def neutral_2(self) -> np.ndarray:
        """The map's centre: what is asked of the music for the median picture."""
        centre: np.ndarray = self.map_to_K2[len(self.map_to_K2) // 2]
        return centre

    def map_va(self, va_B2: np.ndarray) -> np.ndarray:
        """Picture VA to music VA: linear between the knots, constant beyond the outermost."""
        mapped = []
        for axis in range(2):
            from_K, to_K, value_B = self.map_from_K2[:, axis], self.map_to_K2[:, axis], va_B2[:, axis]
            upper_B = np.searchsorted(from_K, value_B).clip(1, len(from_K) - 1)
            left_B, right_B = from_K[upper_B - 1], from_K[upper_B]
            share_B = ((value_B - left_B) / np.maximum(right_B - left_B, np.float32(1e-9))).clip(0, 1)
            mapped.append(to_K[upper_B - 1] + share_B * (to_K[upper_B] - to_K[upper_B - 1]))
        return np.stack(mapped, axis=-1).astype(np.float32)


class PictureCNN:
    """The project's own small CNN, `builtin`: 64 x 64 pixels to a 4 x 4 grid of features."""

    def __init__(self, tensors: Tensors, size: int) -> None:
        self._blocks = []
        before, grid = 3, size
        for place, (channels, stride) in enumerate(zip(CNN_CHANNELS, CNN_STRIDES, strict=True)):
            name = f"picture.cnn.blocks.{3 * place}"
            kernel = tensors.take(f"{name}.weight", channels, before, 3, 3)
            norm = tensors.norm(f"picture.cnn.blocks.{3 * place + 1}", channels)
            self._blocks.append((Convolution(kernel, stride=stride), norm))
            before, grid = channels, -(-grid // stride)
        self.pool = -(-grid // 4)  # larger pictures: average-pool to at most 4 x 4
        self.grid = -(-grid // self.pool)

    def __call__(self, pixels_HW3: np.ndarray) -> np.ndarray:
        """[S, C] features of uint8 pixels."""
        map_hwD = ((pixels_HW3.astype(np.float32) / np.float32(255)) - np.float32(0.5)) / np.float32(0.25)
        for convolution, (weight_D, bias_D) in self._blocks:
            map_hwD = gelu(group_norm(convolution(map_hwD)) * weight_D + bias_D)
        step, side = self.pool, len(map_hwD)
        cells = [map_hwD[y : y + step, x : x + step] for y in range(0, side, step) for x in range(0, side, step)]
        return np.stack([cell.mean(axis=(0, 1)) for cell in cells])


def group_norm(map_hwD: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 over the map and the channels of each group."""
    height, width, channels = map_hwD.shape
    parts = map_hwD.reshape(height * width, CNN_GROUPS, -1)
    centred = parts - parts.mean(axis=(0, 2), keepdims=True)
    variance = np.square(centred).mean(axis=(0, 2), keepdims=True)
    normed: np.ndarray = (centred / np.sqrt(variance + np.float32(EPS))).reshape(height, width, channels)
    return normed


class KernelHead:
    """Kernel ridge regression: pooled features [N, C] -> (valence, arousal) [N, 2]; not clamped.

    f(x) = bias + sum_k exp(-|u(x) - u_k|^2 / C) dual_k, where u is the signed square root, standardised.
    """

    def __init__(self, tensors: Tensors, known: int, channels: int) -> None:
        self.mean_C, self.scale_C = (
            tensors.take(f"picture.va_head.{name}", channels) for name in ("mean_C", "scale_C")
        )
        self.known_KC = tensors.take("picture.va_head.known_KC", known, channels)
        self.dual_K2 = tensors.take("picture.va_head.dual_K2", known, 2)
        self.bias_2 = tensors.take("picture.va_head.bias_2", 2)

    def __call__(self, pooled_NC: np.ndarray) -> np.ndarray:
        """(valence, arousal) [N, 2]."""
        found_N2: np.ndarray = self.alike(self.standardised(pooled_NC)) @ self.dual_K2 + self.bias_2
        return found_N2

    def alike(self, u_NC: np.ndarray) -> np.ndarray:
        """The kernel [N, K] in [0, 1] of standardised features and those of the rated pictures."""
        # As a product of matrices: exact enough, as the distances that count are of the size of C.
        square_N, square_K = (np.square(rows).sum(axis=1) for rows in (u_NC, self.known_KC))
        apart_NK = square_N[:, None] + square_K - 2 * u_NC @ self.known_KC.T
        found_NK: np.ndarray = np.exp(-np.maximum(apart_NK, 0) / np.float32(u_NC.shape[1]))
        return found_NK

    def standardised(self, pooled_NC: np.ndarray) -> np.ndarray:
        """The features as the kernel compares them [N, C]."""
        root_NC = np.sign(pooled_NC) * np.sqrt(np.abs(pooled_NC))
        return ((root_NC - self.mean_C) / self.scale_C).clip(-FARTHEST, FARTHEST)


class Condition:
    """(V, A) to one vector of the network's width; a learned vector stands for "nothing was asked"."""

    def __init__(self, tensors: Tensors, width: int) -> None:
        self._expand = tensors.linear("condition.expand", 2 * width, 2 + 4 * FREQUENCIES)
        self._project = tensors.linear("condition.project", width, 2 * width)
        self._null_D = tensors.take("condition.null_D", width)

    def __call__(self, va_B2: np.ndarray, keep_B: np.ndarray) -> np.ndarray:
        """[B, D]; rows with keep False get the learned null."""
        va_B2 = va_B2.astype(np.float32)
        order_F = np.arange(1, FREQUENCIES + 1, dtype=np.float32)
        angle_BF = (va_B2[:, :, None] * order_F * np.float32(math.pi / 2)).reshape(len(va_B2), -1)
        wave_BF = np.concatenate([va_B2, np.sin(angle_BF), np.cos(angle_BF)], axis=-1)
        (bias_in, in_t), (bias_out, out_t) = self._expand, self._project
        asked_BD = gelu(wave_BF @ in_t + bias_in) @ out_t + bias_out
        return np.where(keep_B[:, None], asked_BD, self._null_D)
