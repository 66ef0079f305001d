"""The optimizer and its schedule, and how both start again after a kill."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from huesong.config import TrainConfig

LOWEST_RATE = 0.1
"""Share of the learning rate that the cosine ends at."""


def sum_gradients(parameters: list[nn.Parameter]) -> None:
    """Sum gradients over the processes in one message; parameters a process did not use count as zero."""
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
    dist.all_reduce(flat)
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter).clone()


def seed_step(seed: int, phase: int, step: int, rank: int) -> None:
    """Seed torch for one step: dropout and Gumbel noise."""
    torch.manual_seed(int(np.random.SeedSequence([seed, phase, step, rank]).generate_state(1, np.uint64)[0] >> 1))


def rate_share(warmup_steps: int, step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine down to a tenth (Loshchilov & Hutter 2017)."""
    warm = min(warmup_steps, steps // 2)
    if step < warm:
        return (step + 1) / warm
    share = (step - warm) / max(1, steps - warm)
    return LOWEST_RATE + (1 - LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * share))


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); only the matrices of linear layers and convolutions decay."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    trainable = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed = [p for name, p in trainable if p.ndim >= 2 and name.endswith("weight") and id(p) not in embeddings]
    chosen = {id(p) for p in decayed}
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": [p for _, p in trainable if id(p) not in chosen], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, betas=(0.9, 0.95))


def optimizer_state(optimizer: torch.optim.AdamW, module: nn.Module) -> tuple[dict[str, Tensor], dict[str, float]]:
    """AdamW's moments by parameter name, and its count of updates of each parameter."""
    moments: dict[str, Tensor] = {}
    updates: dict[str, float] = {}
    for name, parameter in module.named_parameters():
        if state := optimizer.state.get(parameter):
            moments |= {f"{name}|exp_avg": state["exp_avg"], f"{name}|exp_avg_sq": state["exp_avg_sq"]}
            updates[name] = float(state["step"])
    return moments, updates


def load_optimizer(
    optimizer: torch.optim.AdamW, module: nn.Module, moments: dict[str, Tensor], updates: dict[str, float]
) -> None:
    """The inverse of `optimizer_state`."""
    for name, parameter in module.named_parameters():
        if name in updates:
            optimizer.state[parameter] = {
                "step": torch.tensor(updates[name]),
                "exp_avg": moments[f"{name}|exp_avg"].to(parameter.device).clone(),
                "exp_avg_sq": moments[f"{name}|exp_avg_sq"].to(parameter.device).clone(),
            }
