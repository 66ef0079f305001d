"""The image encoder: image tokens for the music to attend to, the picture's own (valence, arousal), and the condition that
is made of what is asked.

Shapes: B batch, S image tokens, C channels of a picture feature, D width of the network, K knots of the map (in
`KernelRidgeHead`: rated pictures that are kept), H = W side in pixels, G side of the feature grid, N pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huesong.model.decoding.pictures import (
    CNN_CHANNELS,
    CNN_GROUPS,
    CNN_STRIDES,
    FARTHEST,
    FREQUENCIES,
    KNOTS,
    PictureShape,
)  # fmt: skip
from huesong.model.precision import full_precision


@dataclass
class PictureEncoding:
    """What the network sees in a batch of pictures.

    tokens_BSD: image tokens for cross-attention.
    va_B2: the pictures' own valence and arousal, on the scale of people's picture ratings.
    """

    tokens_BSD: Tensor
    va_B2: Tensor


class ImageEncoder(nn.Module):
    """Pictures to image tokens, and to their own (valence, arousal)."""

    feature_mean_C: Tensor
    feature_scale_C: Tensor
    map_from_K2: Tensor
    map_to_K2: Tensor

    def __init__(self, shape: PictureShape, width: int, seen: bool = True) -> None:
        """`seen`: whether the music sees image tokens; else learnt ones stand in their place, as without a picture."""
        super().__init__()
        self.cnn = PictureCNN(shape.size) if shape.kind == "pixels" else None
        channels = CNN_CHANNELS[-1] if self.cnn else shape.channels
        self.tokens = self.cnn.grid**2 if self.cnn else shape.tokens
        # Standardisation of frozen features, set from the training pictures; the identity for the own CNN.
        self.register_buffer("feature_mean_C", torch.zeros(channels))
        self.register_buffer("feature_scale_C", torch.ones(channels))
        self.project = nn.Linear(channels, width) if seen else None
        self.norm = nn.LayerNorm(width) if seen else None
        self.places_SD = nn.Parameter(torch.empty(self.tokens, width)) if seen else None
        self.null_SD = nn.Parameter(torch.empty(self.tokens, width))
        # Without rated pictures, and in models of earlier versions, the head of frozen features is linear, too.
        self.va_head = KernelRidgeHead(shape.rated, channels) if shape.rated else nn.Linear(channels, 2)
        # The pairing's monotone map from picture VA to music VA, as knots of a piecewise linear function per axis; what
        # composes reads it (decoding/pictures.py).
        identity = torch.linspace(-1, 1, KNOTS)[:, None].repeat(1, 2)
        self.register_buffer("map_from_K2", identity.clone())
        self.register_buffer("map_to_K2", identity.clone())

    def forward(self, pictures: Tensor) -> PictureEncoding:
        """`pictures`: [B, S, C] float features or [B, H, W, 3] uint8 pixels."""
        grid_BSC = self.cnn(pictures) if self.cnn else pictures.to(self.null_SD.dtype)
        features_BSC = (grid_BSC - self.feature_mean_C) / self.feature_scale_C
        kernel = isinstance(self.va_head, KernelRidgeHead)
        raw_B2 = full_precision(self.va_head((grid_BSC if kernel else features_BSC).mean(dim=1)))
        # What was fitted in closed form is clamped; a head trained by gradient needs tanh.
        va_B2 = raw_B2.tanh() if self.cnn else raw_B2.clamp(-1, 1)
        if self.project is None or self.norm is None or self.places_SD is None:
            tokens_BSD = self.null_SD.expand(len(pictures), -1, -1)
        else:
            tokens_BSD = self.norm(self.project(features_BSC)) + self.places_SD
        return PictureEncoding(tokens_BSD, va_B2)


class PictureCNN(nn.Module):
    """The project's own small CNN, `builtin`: 64 x 64 pixels to a 4 x 4 grid of features, trained with the model."""

    def __init__(self, size: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before, grid = 3, size
        for channels, stride in zip(CNN_CHANNELS, CNN_STRIDES, strict=True):
            blocks += [
                nn.Conv2d(before, channels, kernel_size=3, stride=stride, padding=1, bias=False),
                nn.GroupNorm(
                    CNN_GROUPS, channels
                ),  # not batch norm: a picture's tokens must not depend on its neighbours
                nn.GELU(),
            ]
            before, grid = channels, -(-grid // stride)
        self.pool = -(-grid // 4)  # larger pictures: average-pool to at most 4 x 4
        self.grid = -(-grid // self.pool)
        self.blocks = nn.Sequential(*blocks)

    def forward(self, pixels_BHW3: Tensor) -> Tensor:
        """[B, S, C] features of uint8 pixels."""
        scaled_B3HW = (pixels_BHW3.movedim(-1, 1).to(next(self.parameters()).dtype) / 255 - 0.5) / 0.25
        grid_BCGG = self.blocks(scaled_B3HW)
        if self.pool > 1:
            grid_BCGG = F.avg_pool2d(grid_BCGG, self.pool, ceil_mode=True)
        return grid_BCGG.flatten(2).mT


class KernelRidgeHead(nn.Module):
    """Kernel ridge regression: pooled features [N, C] -> (valence, arousal) [N, 2]; not clamped, not trained by gradient.

    emotion.kernel.PictureKernelVA as part of the model's weights, where label fitted it; here it is only evaluated.
    f(x) = bias + sum_k exp(-|u(x) - u_k|^2 / C) dual_k, where u is the signed square root, standardised.
    """

    mean_C: Tensor
    scale_C: Tensor
    known_KC: Tensor
    dual_K2: Tensor
    bias_2: Tensor

    def __init__(self, known: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean_C", torch.zeros(channels))
        self.register_buffer("scale_C", torch.ones(channels))
        self.register_buffer("known_KC", torch.zeros(known, channels))
        self.register_buffer("dual_K2", torch.zeros(known, 2))
        self.register_buffer("bias_2", torch.zeros(2))

    def forward(self, pooled_NC: Tensor) -> Tensor:
        """(valence, arousal) [N, 2], in full precision whatever the features are in."""
        with torch.autocast(pooled_NC.device.type, enabled=False):
            pooled_NC = pooled_NC.to(self.known_KC.dtype)
            root_NC = pooled_NC.sign() * pooled_NC.abs().sqrt()
            u_NC = ((root_NC - self.mean_C) / self.scale_C).clamp(-FARTHEST, FARTHEST)
            # As a product of matrices: exact enough, as the distances that count are of the size of C.
            apart_NK = u_NC.square().sum(1)[:, None] + self.known_KC.square().sum(1) - 2 * u_NC @ self.known_KC.T
            found_N2: Tensor = (-apart_NK.clamp_min(0) / u_NC.shape[1]).exp() @ self.dual_K2 + self.bias_2
            return found_N2


class Condition(nn.Module):
    """(V, A) to one vector of the network's width; a learned vector stands for "nothing was asked"."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(2 + 4 * FREQUENCIES, 2 * width)
        self.project = nn.Linear(2 * width, width)
        self.null_D = nn.Parameter(torch.empty(width))

    def forward(self, va_B2: Tensor, keep_B: Tensor) -> Tensor:
        """[B, D]; rows with keep False get the learned null."""
        va_B2 = va_B2.to(self.null_D.dtype)
        # Half-periods of 2, 1, 2/3 ... over [-1, 1]: smooth, yet near-by requests can be told apart.
        order_F = torch.arange(1, FREQUENCIES + 1, device=va_B2.device, dtype=va_B2.dtype)
        angle_BF = (va_B2[:, :, None] * order_F * (math.pi / 2)).flatten(1)
        wave_BF = torch.cat([va_B2, angle_BF.sin(), angle_BF.cos()], dim=-1)
        asked_BD = self.project(F.gelu(self.expand(wave_BF)))
        return torch.where(keep_B[:, None], asked_BD, self.null_D.to(asked_BD.dtype))
