"""The training loop of everything that learns by gradient: network, critic, note judge, picture encoder, rewards.

What differs comes in as functions: `parts` gives the losses of a step, `validate` what early stopping looks at. What is
random in a step is to depend on its number alone: then a checkpoint needs no state of a generator, and a killed run,
once resumed, takes the very steps of a straight one.

Several processes: each has losses of its own share of the batch, which are divided by the counts of the whole batch;
losses and gradients are summed, so the curve does not depend on the number of processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from huesong.runtime.checkpoints import Checkpoints
from huesong.runtime.distributed import ALONE, Processes
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log, track

Part = Mapping[str, Tensor | float]
"""Of one backward pass: `loss` is minimised, the rest are figures. All are summed over the parts and processes of a step.

`tokens` counts what was predicted: history has it per second."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train, and when to look. Never: 0."""

    steps: int
    rate: Callable[[int], float]  # learning rate of a step, counted from 0
    clip_norm: float = 1.0
    eval_every: int = 0  # and after the last step
    patience: float = math.inf  # evaluations without a lower loss after which training stops
    checkpoint_every: int = 0
    log_every: int = 0
    first: int = 0  # steps of earlier phases; rows and messages count on from there


@dataclass
class Progress:
    """Where a training stands; saved as JSON with every checkpoint."""

    step: int = 0
    tokens: int = 0
    best_loss: float | None = None
    best_step: int = 0
    worse: int = 0  # evaluations since the best one
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Trainer:
    """Trains `module`, or what of it requires a gradient.

    title: for log lines, such as "train (critic)". parts: the losses of a step. remedy: what to do about a loss that is
    not finite; that message also names the `pieces` of a step. validate: figures with `val_loss`.
    """

    title: str
    module: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    schedule: Schedule
    parts: Callable[[int], Iterable[Part]]
    remedy: str
    validate: Callable[[], Mapping[str, Any]] | None = None
    checkpoints: Checkpoints | None = None
    processes: Processes = ALONE
    pieces: Callable[[int], Iterable[str]] = lambda step: ()

    def run(self) -> Progress:
        """Train to the weights of the lowest validation loss (without validation: the last ones).

        Raises:
            UserError: a loss or gradient is not finite.
        """
        schedule, (progress, best) = self.schedule, self._resume()
        steps = range(progress.step, schedule.steps)
        for step in track(steps, self.title, done=progress.step) if self.processes.writes else steps:
            if progress.worse >= schedule.patience:
                break
            begun = time.monotonic()
            row = self._step(step)
            progress.step = step + 1
            if tokens := int(row.pop("tokens", 0)):
                progress.tokens += tokens
                row["tokens_per_s"] = round(tokens / (time.monotonic() - begun), 1)
            last = progress.step == schedule.steps
            if self.validate and (due(step, schedule.eval_every) or last):
                row |= self.validate()
                if progress.best_loss is None or row["val_loss"] < progress.best_loss:
                    progress.best_loss, progress.best_step, progress.worse = row["val_loss"], progress.step, 0
                    best = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
                else:
                    progress.worse += 1
            if due(step, max(1, schedule.steps // 1000)) or "val_loss" in row:  # at most about 1,000 rows
                progress.history.append(row)
            if due(step, schedule.checkpoint_every):
                self._save(progress, best)
            if due(step, schedule.log_every) and self.processes.writes:
                figures = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if value is not None)
                log.info("%s: %s", self.title, figures)
        if best:
            self.module.load_state_dict(best)
        return progress

    def _step(self, step: int) -> dict[str, Any]:
        """One step of the optimizer: its row of history."""
        schedule = self.schedule
        rate = schedule.rate(step)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate
        totals: dict[str, Any] = {}
        for part in self.parts(step):
            for name, value in part.items():
                if name == "loss" and isinstance(value, Tensor) and value.requires_grad:
                    value.backward()
                totals[name] = totals.get(name, 0) + (value.detach() if isinstance(value, Tensor) else value)
        trained = [p for p in self.module.parameters() if p.requires_grad]
        figures = self.processes.sum({name: float(total) for name, total in totals.items()}, trained[0].device)
        self.processes.sum_gradients(trained)
        norm = nn.utils.clip_grad_norm_([p for p in trained if p.grad is not None], schedule.clip_norm)
        row = {"step": schedule.first + step + 1, "lr": rate, **figures, "grad_norm": float(norm)}
        if not all(math.isfinite(value) for value in row.values()):
            names = ", ".join(self.pieces(step))
            where = f"step {row['step']}" + (f" (pieces {names})" if names else "")
            raise UserError(f"{self.title}: the loss is not finite at {where}: {self.remedy}")
        for optimizer in self.optimizers:
            optimizer.step()
        return row

    def _resume(self) -> tuple[Progress, dict[str, Tensor]]:
        """Progress and best weights of the latest valid checkpoint, which is loaded; fresh ones without any."""
        if self.checkpoints is None or (found := self.checkpoints.latest()) is None:
            return Progress(), {}
        load_optimizer(self.optimizers, self.module, found.tensors.get("moments", {}), found.state["updates"])
        self.module.load_state_dict(found.tensors["trained"])
        log.info("%s: resuming from %s", self.title, found.name)
        return Progress(**found.state["progress"]), found.tensors.get("best", {})

    def _save(self, progress: Progress, best: dict[str, Tensor]) -> None:
        if self.checkpoints is not None and self.processes.writes:
            moments, updates = optimizer_state(self.optimizers, self.module)
            groups = {"trained": self.module.state_dict(), "moments": moments, "best": best}
            state = {"progress": asdict(progress), "updates": updates}
            self.checkpoints.save(progress.step, {name: group for name, group in groups.items() if group}, state)


def due(step: int, every: int) -> bool:
    """Whether something that is done `every` so many steps (0: never) is done after this one, counted from 0."""
    return every > 0 and (step + 1) % every == 0


def warm_cosine(peak: float, steps: int, lowest: float = 0.0) -> Callable[[int], float]:
    """A learning rate: linear warm-up over 20 steps, and a cosine from `peak` down to `lowest` of it."""
    return lambda step: peak * min((step + 1) / 20, lowest + (1 - lowest) * math.cos(math.pi / 2 * step / steps) ** 2)


def seed_step(seed: int, phase: int, step: int, rank: int = 0) -> None:
    """Seed torch for one step: dropout and Gumbel noise."""
    torch.manual_seed(int(np.random.SeedSequence([seed, phase, step, rank]).generate_state(1, np.uint64)[0] >> 1))


def adamw(
    module: nn.Module, learning_rate: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.95)
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); only the matrices of linear layers and convolutions decay."""
    decayed, free = parameter_groups(module)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=betas)


def muon(module: nn.Module, learning_rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of linear layers, AdamW for everything else.

    A matrix moves by its momentum made orthogonal, scaled to the root mean square of an AdamW update (Liu et al. 2025,
    arXiv 2502.16982), so that both share a learning rate.
    """
    decayed, free = parameter_groups(module)
    matrices = [p for p in decayed if p.ndim == 2]
    others = [p for p in decayed if p.ndim != 2]
    groups = [{"params": others, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=(0.9, 0.95)),
    ]


def parameter_groups(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What is trained: matrices of linear layers and convolutions, and the rest (embeddings, norms, biases)."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    matrices = [p for name, p in trained if p.ndim >= 2 and name.endswith("weight") and id(p) not in embeddings]
    chosen = {id(p) for p in matrices}
    return matrices, [p for _, p in trained if id(p) not in chosen]


def optimizer_state(
    optimizers: Sequence[torch.optim.Optimizer], module: nn.Module
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The optimizers' moments by parameter name, and their count of updates of each parameter (AdamW counts)."""
    moments: dict[str, Tensor] = {}
    updates: dict[str, float] = {}
    for name, parameter in module.named_parameters():
        for optimizer in optimizers:
            for moment, value in optimizer.state.get(parameter, {}).items():
                if moment == "step":
                    updates[name] = float(value)
                else:
                    moments[f"{name}|{moment}"] = value
    return moments, updates


def load_optimizer(
    optimizers: Sequence[torch.optim.Optimizer],
    module: nn.Module,
    moments: dict[str, Tensor],
    updates: dict[str, float],
) -> None:
    """The inverse of `optimizer_state`."""
    owner = {id(p): one for one in optimizers for group in one.param_groups for p in group["params"]}
    parameters = dict(module.named_parameters())
    for key, value in moments.items():
        name, _, moment = key.rpartition("|")
        parameter = parameters[name]
        owner[id(parameter)].state[parameter][moment] = value.to(parameter.device).clone()
    for name, count in updates.items():
        owner[id(parameters[name])].state[parameters[name]]["step"] = torch.tensor(count)
