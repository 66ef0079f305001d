"""From logits to tokens: rounding, guidance's bound, temperature, nucleus, and each piece's own random numbers.

Shapes: B pieces, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from huesong.config import SamplingConfig

ROUNDING = 1000.0
"""Logits are rounded to 1 / ROUNDING."""
PLAUSIBLE = 0.05
"""Under guidance, the least probability of a token given the request, as a share of the likeliest one's."""


class Generator:
    """The random numbers of a key: those of `torch.rand(1, dtype=torch.float64)`, whose generator is the same twister."""

    def __init__(self, *key: int | str) -> None:
        digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
        # torch, too, seeds the twister with the last 32 bits alone; the shift is as old as the pieces.
        self._twister = np.random.RandomState((int.from_bytes(digest[:8], "big") >> 1) % 2**32)

    def uniform(self) -> float:
        """The next number, uniform in [0, 1)."""
        words = self._twister.bytes(8)
        high, low = int.from_bytes(words[:4], "little"), int.from_bytes(words[4:], "little")
        return float((high << 32 | low) % 2**53 / 2**53)


def rounded(logits_BV: np.ndarray) -> np.ndarray:
    """Logits to 1 / ROUNDING, half to even."""
    return np.round(logits_BV * ROUNDING) / ROUNDING


def plausible(logits_BV: np.ndarray, allowed_BV: np.ndarray) -> np.ndarray:
    """Which tokens guidance may choose from, bool [B, V]: given the request, each has a share of at least PLAUSIBLE of the
    likeliest allowed one's probability.

    Guidance looks at ratios of probabilities, which are largest where both are next to nothing: without this bound it
    finds clusters at the top of the keyboard (the plausibility constraint of contrastive decoding, Li et al. 2023).
    """
    rounded_BV = np.where(allowed_BV, rounded(logits_BV), -np.inf)
    found_BV: np.ndarray = rounded_BV >= rounded_BV.max(axis=-1, keepdims=True) + math.log(PLAUSIBLE)
    return found_BV


def draw(
    logits_BV: np.ndarray,
    allowed_BV: np.ndarray,
    uniform_B: np.ndarray,
    config: SamplingConfig,
    cooler_B: np.ndarray | None = None,
) -> np.ndarray:
    """Token ids [B]: temperature, then nucleus sampling (top-p: Holtzman et al. 2020), then inversion of the CDF.

    Args:
        logits_BV: float64.
        allowed_BV: bool; at least one token a row.
        uniform_B: float64, uniform in [0, 1).
        config: temperature and top-p.
        cooler_B: float64, factors of the temperature; None = 1.
    """
    temperature = config.temperature if cooler_B is None else config.temperature * cooler_B[:, None]
    masked_BV = np.where(allowed_BV, rounded(logits_BV) / temperature, -np.inf)
    share_BV = np.exp(masked_BV - masked_BV.max(axis=-1, keepdims=True))
    share_BV /= share_BV.sum(axis=-1, keepdims=True)
    order_BV = np.argsort(-share_BV, axis=-1, kind="stable")
    sorted_BV = np.take_along_axis(share_BV, order_BV, axis=-1)
    before_BV = sorted_BV.cumsum(axis=-1) - sorted_BV
    # The most probable token always stays; so never is a forbidden one drawn, whatever the rounding of the sums.
    kept_BV = sorted_BV * ((before_BV < config.top_p) & (sorted_BV > 0))
    cumulative_BV = kept_BV.cumsum(axis=-1)
    place_B = (cumulative_BV <= (uniform_B * cumulative_BV[:, -1])[:, None]).sum(axis=-1)
    last_B = (kept_BV > 0).sum(axis=-1) - 1
    drawn_B: np.ndarray = order_BV[np.arange(len(order_BV)), np.minimum(place_B, last_B)]
    return drawn_B
