"""The arithmetic of a Transformer's layers on plain arrays, as torch defines it (differences below 1e-6).

Shapes: any leading ones, then D channels.
"""

from __future__ import annotations

import math

import numpy as np

EPS = 1e-5
"""Of layer and group norms, PyTorch's own."""
EMBEDDING_STD = 0.05
"""Of the network's embeddings at the start of training; what says where a token stands is as small."""
# Abramowitz and Stegun (1964), 7.1.26: the error is below 1.5e-7, about float32's own.
_ERF_P = 0.3275911 / math.sqrt(2)
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def layer_norm(x: np.ndarray, weight_D: np.ndarray, bias_D: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 over the channels, then scaled and shifted."""
    share = np.float32(1 / x.shape[-1])
    centred = x - np.add.reduce(x, axis=-1, keepdims=True) * share
    variance = np.add.reduce(centred * centred, axis=-1, keepdims=True) * share
    centred /= np.sqrt(variance + np.float32(EPS))
    centred *= weight_D
    centred += bias_D
    return centred


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution's share below x (Hendrycks & Gimpel 2016), in the exact form."""
    size = np.abs(x)
    t = 1 / (1 + np.float32(_ERF_P) * size)
    tail = t * np.float32(_ERF[0])
    for factor in _ERF[1:]:
        tail += np.float32(factor)
        tail *= t
    size *= size
    size *= np.float32(-0.5)
    tail *= np.exp(size, out=size)
    # Half of 1 + erf: above zero 1 - tail / 2, below it tail / 2.
    tail *= np.float32(0.5)
    return x * np.where(x > 0, 1 - tail, tail)


def attention(query: np.ndarray, keys: np.ndarray, values: np.ndarray, hidden: np.ndarray | None = None) -> np.ndarray:
    """What queries [..., T, E] find in values [..., K, E] by keys [..., K, E]; queries are scaled already.

    Args:
        hidden: added to the scores [..., T, K]: 0, or -inf where a key may not be seen; None: all may.
    """
    scores = query @ keys.swapaxes(-1, -2)
    if hidden is not None:
        scores += hidden
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    mixed: np.ndarray = scores @ values
    mixed /= np.add.reduce(scores, axis=-1, keepdims=True)
    return mixed
