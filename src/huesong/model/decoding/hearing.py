"""The critic (model/critic.py) on plain arrays: the valence and arousal of a piece, the same numbers up to rounding.

Shapes: T tokens, D width, H heads, E width of a head, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from huesong.config import CriticConfig
from huesong.model.decoding.arithmetic import attention, gelu, layer_norm
from huesong.model.decoding.tensors import Tensors, arrays_of

if TYPE_CHECKING:
    from huesong.model.critic import Critic

POSITION_STD = 0.02
"""How large positions are: as embeddings at the start of training."""
Norm = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class HearingLayer:
    """A layer's weights, `_t` transposed; queries come out scaled for attention."""

    norm: Norm
    projection_t: np.ndarray
    out_t: np.ndarray
    feed_norm: Norm
    feed_in: tuple[np.ndarray, np.ndarray]  # bias, transposed weight
    feed_out: tuple[np.ndarray, np.ndarray]


class Hearing:
    """Token ids to the (valence, arousal) that people would give them, each in (-1, 1)."""

    def __init__(self, tensors: Tensors, config: CriticConfig, vocabulary_size: int, plans_V: np.ndarray) -> None:
        """`plans_V` (bool): the tokens that only plan, which nobody hears."""
        assert config.width % config.heads == 0, "width must be a multiple of the heads"
        self.config, self._plans_V, width = config, plans_V, config.width
        self._embedding_VD = tensors.take("embedding.weight", vocabulary_size, width)
        self._layers = [_layer(tensors, f"layers.{layer}", config) for layer in range(config.layers)]
        self._final_norm = tensors.norm("final_norm", width)
        self._head = tensors.linear("head", 2, 2 * width)

    @classmethod
    def of(cls, critic: Critic) -> Hearing:
        """What hears as this critic does now."""
        plans_V = critic.plans_V.cpu().numpy().copy()
        return cls(Tensors.of_arrays(arrays_of(critic)), critic.config, critic.vocabulary_size, plans_V)

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """VA [2] of token ids [T]."""
        embedded_TD = self._embedding_VD[ids]
        heard_T = ~self._plans_V[ids]
        # Without any music it attends to all, as what attends to nothing is no number.
        hidden_11T = np.where(heard_T | ~heard_T.any(), np.float32(0), np.float32(-np.inf))[None, None]
        x_TD = embedded_TD + positions(len(ids), embedded_TD.shape[1])
        for layer in self._layers:
            x_TD = self._read(x_TD, layer, hidden_11T)
        share_T = (heard_T / max(int(heard_T.sum()), 1)).astype(np.float32)
        pooled_D = np.concatenate([share_T @ layer_norm(x_TD, *self._final_norm), share_T @ embedded_TD])
        bias, weight = self._head
        found_2: np.ndarray = np.tanh(pooled_D @ weight + bias)
        return found_2

    def _read(self, x_TD: np.ndarray, layer: HearingLayer, hidden_11T: np.ndarray) -> np.ndarray:
        projected = layer_norm(x_TD, *layer.norm) @ layer.projection_t
        queries, keys, values = projected.reshape(len(x_TD), 3, self.config.heads, -1).transpose(1, 2, 0, 3)
        mixed_HTE = attention(queries, keys, values, hidden_11T)
        x_TD = x_TD + mixed_HTE.transpose(1, 0, 2).reshape(x_TD.shape) @ layer.out_t
        (bias_in, in_t), (bias_out, out_t) = layer.feed_in, layer.feed_out
        x_TD += gelu(layer_norm(x_TD, *layer.feed_norm) @ in_t + bias_in) @ out_t
        x_TD += bias_out
        return x_TD


def _layer(tensors: Tensors, name: str, config: CriticConfig) -> HearingLayer:
    width = config.width
    projection_t = tensors.transposed(f"{name}.query_key_value", 3 * width, width)
    projection_t[:, :width] *= np.float32(1 / math.sqrt(width // config.heads))
    return HearingLayer(
        tensors.norm(f"{name}.norm", width),
        projection_t,
        tensors.transposed(f"{name}.out", width, width),
        tensors.norm(f"{name}.feed_norm", width),
        tensors.linear(f"{name}.feed_in", 2 * width, width),
        tensors.linear(f"{name}.feed_out", width, 2 * width),
    )


def positions(count: int, width: int) -> np.ndarray:
    """Absolute positions [T, D] of Vaswani et al. (2017)."""
    frequencies = np.exp(np.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = np.arange(count)[:, None] * frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)[:, :width]
    return (POSITION_STD * waves).astype(np.float32)
