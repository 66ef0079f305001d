"""Valence and arousal of a picture by kernel ridge regression: its pooled features against those of rated pictures.

A few hundred ratings and a thousand channels are the place for a kernel machine: in folds of whole themes it follows
people's ratings clearly better than a linear ridge does (docs/results.md). It is fitted in closed form
(picture_head.py) and is part of the model's weights, so that a picture needs nothing else to be read.

Shapes: N pictures, K rated ones that are kept, C channels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from huesong.errors import UserError

PENALTY = 0.3
"""Of the ridge; a third or three times as much changes r by less than .01."""
FARTHEST = 6.0
"""Standard deviations at which a channel is cut off."""
MOST_KEPT = 2048
"""Rated pictures that are kept, so that a model stays small: 5 MB of float16 with 1,280 channels."""


class KernelHead(nn.Module):
    """Pooled features [N, C] -> (valence, arousal) [N, 2]; neither clamped nor trained by gradient.

    f(x) = bias + sum_k exp(-|u(x) - u_k|^2 / C) dual_k, where u is the signed square root, standardised: activations
    are skewed, and the root lets many weak ones say as much as a few strong ones.
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

    @torch.no_grad()
    def fit(self, pooled_NC: np.ndarray, va_N2: np.ndarray, weight_N: np.ndarray) -> None:
        """Solve (K + PENALTY / weight) dual = va - mean for the pictures given, all of which are kept.

        Args:
            pooled_NC: pooled features of as many rated pictures as this head keeps.
            va_N2: people's ratings.
            weight_N: how far each is trusted, above 0; only their ratio counts.

        Raises:
            UserError: another number of pictures than the head was made for.
        """
        if pooled_NC.shape != tuple(self.known_KC.shape):
            raise UserError(f"the picture head keeps {list(self.known_KC.shape)} features, not {list(pooled_NC.shape)}")
        root_NC = np.sign(pooled_NC) * np.sqrt(np.abs(pooled_NC.astype(np.float64)))
        mean_C, scale_C = root_NC.mean(axis=0), np.maximum(root_NC.std(axis=0), 1e-3)
        u_NC = np.clip((root_NC - mean_C) / scale_C, -FARTHEST, FARTHEST)
        length_N = np.square(u_NC).sum(axis=1)
        apart_NN = length_N[:, None] + length_N - 2 * u_NC @ u_NC.T
        kernel_NN = np.exp(-np.maximum(apart_NN, 0) / u_NC.shape[1])
        bias_2 = np.average(va_N2.astype(np.float64), axis=0, weights=weight_N)
        penalty_NN = np.diag(PENALTY * weight_N.mean() / weight_N)
        dual_N2 = np.linalg.solve(kernel_NN + penalty_NN, va_N2 - bias_2)
        for buffer, values in (
            (self.mean_C, mean_C), (self.scale_C, scale_C), (self.known_KC, u_NC), (self.dual_K2, dual_N2),
            (self.bias_2, bias_2),
        ):  # fmt: skip
            buffer.copy_(torch.from_numpy(values))


def kernel_head(pooled_NC: np.ndarray, va_N2: np.ndarray, weight_N: np.ndarray) -> KernelHead:
    """A head fitted to these pictures; arguments as in `KernelHead.fit`."""
    head = KernelHead(*pooled_NC.shape)
    head.fit(pooled_NC, va_N2, weight_N)
    return head


def out_of_fold(pooled_NC: np.ndarray, va_N2: np.ndarray, weight_N: np.ndarray, folds: int = 5) -> np.ndarray:
    """What a head that has not seen the picture says of it [N, 2]; the mean rating where N < 2 folds."""
    if len(pooled_NC) < 2 * folds:
        return np.tile(np.average(va_N2, axis=0, weights=weight_N), (len(pooled_NC), 1))
    predicted_N2 = np.empty((len(pooled_NC), 2))
    for fold in range(folds):
        held_N = np.arange(len(pooled_NC)) % folds == fold
        head = kernel_head(pooled_NC[~held_N], va_N2[~held_N], weight_N[~held_N])
        predicted_N2[held_N] = head(torch.from_numpy(pooled_NC[held_N])).double().numpy()
    return predicted_N2
