"""Which parts are computed in bfloat16, and which never are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from huesong.config import TrainConfig


def autocast(config: TrainConfig, device: torch.device) -> Any:
    """bfloat16 autocast where the settings ask for it (`auto`: on CUDA)."""
    low = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=low)


def full_precision(x: Tensor) -> Tensor:
    """At least float32, also under autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
