"""From logits to tokens: rounding, guidance's bound, temperature, nucleus, and each piece's own random numbers.

Shapes: B pieces, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from huesong.config import SamplingConfig

ROUNDING = 1000.0
"""Logits are rounded to 1 / ROUNDING."""
PLAUSIBLE = 0.05
"""Under guidance, the least probability of a token given the request, as a share of the likeliest one's."""


def generator_of(*key: int | str) -> torch.Generator:
    """The random generator of a key."""
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def plausible(logits_BV: Tensor, allowed_BV: Tensor) -> Tensor:
    """Which tokens guidance may choose from, bool [B, V]: given the request, each has a share of at least PLAUSIBLE of the
    likeliest allowed one's probability.

    Guidance looks at ratios of probabilities, which are largest where both are next to nothing: without this bound it
    finds clusters at the top of the keyboard (the plausibility constraint of contrastive decoding, Li et al. 2023).
    """
    rounded_BV = (torch.round(logits_BV * ROUNDING) / ROUNDING).masked_fill(~allowed_BV, -torch.inf)
    return rounded_BV >= rounded_BV.max(dim=-1, keepdim=True).values + math.log(PLAUSIBLE)


def draw(
    logits_BV: Tensor, allowed_BV: Tensor, uniform_B: Tensor, config: SamplingConfig, cooler_B: Tensor | None = None
) -> Tensor:
    """Token ids [B]: temperature, then nucleus sampling (top-p: Holtzman et al. 2020), then inversion of the CDF.

    Args:
        logits_BV: float64.
        allowed_BV: bool; at least one token a row.
        uniform_B: float64, uniform in [0, 1).
        config: temperature and top-p.
        cooler_B: float64, factors of the temperature; None = 1.
    """
    rounded_BV = torch.round(logits_BV * ROUNDING) / ROUNDING
    temperature = config.temperature if cooler_B is None else config.temperature * cooler_B[:, None]
    masked_BV = (rounded_BV / temperature).masked_fill(~allowed_BV, -torch.inf)
    sorted_BV, order_BV = masked_BV.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.cumsum(dim=-1) - sorted_BV
    # The most probable token always stays; so never is a forbidden one drawn, whatever the rounding of the sums.
    kept_BV = sorted_BV * ((before_BV < config.top_p) & (sorted_BV > 0))
    cumulative_BV = kept_BV.cumsum(dim=-1)
    target_B1 = (uniform_B * cumulative_BV[:, -1])[:, None]
    place_B1 = torch.searchsorted(cumulative_BV, target_B1, right=True)
    last_B1 = (kept_BV > 0).sum(dim=-1, keepdim=True) - 1
    return order_BV.gather(-1, torch.minimum(place_B1, last_B1))[:, 0]
