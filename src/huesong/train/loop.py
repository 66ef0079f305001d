"""The training loop: two phases of one loop, resumable to the bit, on one process or several.

Everything random in a step (rows, windows, dropped conditions, dropout, Gumbel noise) is seeded from
(seed, phase, step, process), so a checkpoint needs no state of any generator, and a resumed run takes the very
steps the killed one would have taken.

Several processes (torchrun): every process knows the whole batch, takes its rows, and gradients are summed; losses
are divided by the counts of the whole batch, so the curve does not depend on the number of processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from huesong.config import TrainConfig
from huesong.model.critic import Critic
from huesong.model.dataset import Batch, Examples, draw, make_batch
from huesong.model.network import HuesongNetwork
from huesong.model.precision import autocast
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log, track
from huesong.train.checkpoints import Checkpoints
from huesong.train.distributed import ALONE, Processes
from huesong.train.objectives import Objective, TensorBatch, cross_entropy, soft_tokens
from huesong.train.optimizer import (
    load_optimizer,
    make_optimizer,
    optimizer_state,
    rate_share,
    seed_step,
    sum_gradients,
)
from huesong.train.picture_head import fit_picture_side

PRETRAIN, PAIRS = "pretrain", "pairs"
DONE = "done"
"""Name of the checkpoint that a finished phase leaves."""
HISTORY_COLUMNS = (
    "step", "phase", "loss", "ce", "va", "picture", "val_loss", "val_va", "lr", "grad_norm", "tokens_per_s",
    "reward", "kl",
)  # fmt: skip


@dataclass
class Progress:
    """Where a run stands; saved as JSON with every checkpoint."""

    phase: int = 0
    step: int = 0  # done within the phase
    total: int = 0  # done over all phases
    tokens: int = 0  # predicted so far
    best_loss: float | None = None
    best_step: int = 0
    worse: int = 0  # evaluations since the best one
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Phase:
    """One pass of the loop: which rows it draws from, and for how long."""

    name: str
    key: tuple[int, int]  # seeds its draws: (seed, number of the phase)
    steps: int
    learning_rate: float
    train: tuple[np.ndarray, np.ndarray | None]  # piece rows, picture rows
    val: tuple[np.ndarray, np.ndarray | None]


@dataclass
class Training:
    """What a run leaves: the network (best weights, evaluation mode), its history and its figures."""

    network: HuesongNetwork
    progress: Progress
    metrics: dict[str, float]


def train_network(
    network: HuesongNetwork,
    examples: Examples,
    config: TrainConfig,
    critic: Critic | None,
    checkpoints: Mapping[str, Checkpoints],
    device: torch.device,
    processes: Processes = ALONE,
) -> Training:
    """Train `network` in place, phase by phase, each resuming from its latest valid checkpoint.

    `checkpoints` has an entry for each phase's name. A finished phase leaves a checkpoint `done` there: runs that share
    the pre-training need it only once.

    Raises:
        UserError: no training pairs, or a loss that is no longer finite.
    """
    network.to(device)
    tempo_V = torch.from_numpy(examples.special.tempo_V)
    weight_V = torch.where(tempo_V, config.tempo_weight, 1.0)
    objective = Objective(
        config.objective,
        config.network.width,
        va_loss=config.va_loss,
        smoothing=config.label_smoothing,
        weight_V=weight_V,
    ).to(device)
    if config.compile:
        # The training step's states alone, by a function beside the network: weights keep their names, validation and
        # sampling run as ever. One graph for all lengths, of which there are few, instead of one for each.
        objective.compiled_states = torch.compile(network.states, dynamic=True)
    started = time.monotonic()
    phases = make_phases(examples, config)
    progress = Progress()
    for phase in phases:
        if phase.name == PAIRS:
            fit_picture_side(network, examples)
        saved = checkpoints[phase.name]
        if (found := saved.load(DONE)) is not None:
            network.load_state_dict(network.state_dict() | part_of(phase, found.tensors["network"]))
            progress = Progress(**found.state["progress"])
            log.info("%s: %d steps done before", phase.name, progress.step)
            continue
        progress = Progress(total=progress.total, tokens=progress.tokens, history=progress.history)
        trained = nn.ModuleDict({"network": network, "objective": objective})
        progress = _run_phase(trained, examples, config, phase, critic, saved, progress, device, processes)
        if processes.writes:
            learnt = part_of(phase, network.state_dict())
            saved.save_as(DONE, {"network": learnt}, {"progress": asdict(progress)})
            saved.forget_steps()
    network.eval()
    seconds = time.monotonic() - started
    return Training(network, progress, final_figures(network, examples, phases[-1], config, progress, device, seconds))


def part_of(phase: Phase, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a phase leaves to the next: pre-training sees no pictures, so not the VA head that is fitted to them."""
    head = "picture.va_head."
    return {name: tensor for name, tensor in tensors.items() if phase.name != PRETRAIN or not name.startswith(head)}


def _run_phase(
    trained: nn.ModuleDict,
    examples: Examples,
    config: TrainConfig,
    phase: Phase,
    critic: Critic | None,
    checkpoints: Checkpoints,
    progress: Progress,
    device: torch.device,
    processes: Processes,
) -> Progress:
    """One phase to its end; `trained` then has the weights with the lowest validation loss."""
    network, objective = trained["network"], trained["objective"]
    assert isinstance(network, HuesongNetwork)
    assert isinstance(objective, Objective)
    optimizer = make_optimizer(trained, config)
    best: dict[str, Tensor] = {}
    if (found := checkpoints.latest()) is not None:
        progress = Progress(**found.state["progress"])
        load_optimizer(optimizer, trained, found.tensors["moments"], found.state["updates"])
        trained.load_state_dict(found.tensors["trained"])
        best = {name: tensor.to(device) for name, tensor in found.tensors.get("best", {}).items()}
        log.info("resuming from %s (%d steps done)", found.name, progress.total)

    def save() -> None:
        if processes.writes:
            moments, updates = optimizer_state(optimizer, trained)
            groups = {"trained": trained.state_dict(), "moments": moments, "best": best}
            state = {"progress": asdict(progress), "updates": updates}
            checkpoints.save(progress.total, {name: group for name, group in groups.items() if group}, state)

    steps = range(progress.step, phase.steps)
    for step in track(steps, f"train ({phase.name})") if processes.writes else steps:
        if progress.worse >= config.patience:
            break
        begun = time.monotonic()
        done = step / max(1, phase.steps - 1)
        objective.temperature = config.va_temperature ** (1 - done) * config.va_temperature_end**done
        seed_step(*phase.key, step, processes.rank)
        rows = draw(len(phase.train[0]), config.batch_size * config.accumulate, *phase.key, step=step)
        batch = make_batch(
            examples, phase.train[0][rows], None if phase.train[1] is None else phase.train[1][rows],
            context=config.network.context, key=(*phase.key, step),
            condition_dropout=config.condition_dropout, augment=True,
        )  # fmt: skip
        rate = phase.learning_rate * rate_share(config.warmup_steps, step, phase.steps)
        figures = take_step(trained, optimizer, critic, batch, config, phase, rate, device, processes)
        progress.step, progress.total, progress.tokens = step + 1, progress.total + 1, progress.tokens + batch.tokens
        if not math.isfinite(figures["loss"] + figures["grad_norm"]):
            raise UserError(
                f"the loss is not finite at step {progress.total} ({phase.name}; pieces {', '.join(batch.names)}): "
                f"lower train.{'pretrain_' if phase.name == PRETRAIN else ''}learning_rate ({phase.learning_rate}) "
                f"or train.va_weight ({config.va_weight})"
            )
        row: dict[str, Any] = {"step": progress.total, "phase": phase.name, "lr": rate, **figures}
        row["tokens_per_s"] = round(batch.tokens / (time.monotonic() - begun), 1)
        if len(phase.val[0]) and (progress.step % config.eval_every == 0 or progress.step == phase.steps):
            heard_by = critic if phase.name == PAIRS else None
            row["val_loss"], row["val_va"] = validate(network, examples, phase, config, heard_by, device)
            if progress.best_loss is None or row["val_loss"] < progress.best_loss:
                progress.best_loss, progress.best_step, progress.worse = row["val_loss"], progress.total, 0
                best = {name: tensor.detach().clone() for name, tensor in trained.state_dict().items()}
            else:
                progress.worse += 1
            if processes.writes:
                log.info("step %d: loss %.3f, validation %.3f", progress.total, row["loss"], row["val_loss"])
        if progress.step % kept_every(phase) == 0 or "val_loss" in row:
            progress.history.append(row)
        if progress.step % config.checkpoint_every == 0:
            save()
    if best:
        trained.load_state_dict(best)
    return progress


def make_phases(examples: Examples, config: TrainConfig) -> list[Phase]:
    """Pre-training on all training segments without pictures (if any steps), then the pairs."""
    pieces, pairs = examples.pieces, examples.pairs

    def segments(split: str) -> tuple[np.ndarray, None]:
        return np.flatnonzero((pieces.split_N == split) & (pieces.count_N > 0)), None

    def paired(split: str) -> tuple[np.ndarray, np.ndarray]:
        rows = np.flatnonzero(pairs.split_P == split)
        return pairs.piece_P[rows], pairs.picture_P[rows]

    phases = [Phase(PAIRS, (config.seed, 1), config.steps, config.learning_rate, paired("train"), paired("val"))]
    if len(phases[0].train[0]) == 0:
        raise UserError("there is not one training pair of picture and piece: add data, then run `huesong label` again")
    if len(phases[0].val[0]) == 0:
        log.warning("no validation pairs: no early stopping, the last weights are kept")
    if config.pretrain_steps:
        key = config.base_seed, 0
        rate = config.pretrain_learning_rate
        phases.insert(0, Phase(PRETRAIN, key, config.pretrain_steps, rate, segments("train"), segments("val")))
    return phases


def kept_every(phase: Phase) -> int:
    """Every how many steps a row of history is kept: at most about 1,000 rows a phase."""
    return max(1, phase.steps // 1000)


def take_step(
    trained: nn.ModuleDict,
    optimizer: torch.optim.AdamW,
    critic: Critic | None,
    batch: Batch,
    config: TrainConfig,
    phase: Phase,
    rate: float,
    device: torch.device,
    processes: Processes,
) -> dict[str, float]:
    """One optimizer step over the micro-batches of `batch`; loss figures of the whole batch."""
    trained.train()
    network, objective = trained["network"], trained["objective"]
    totals = torch.zeros(3, dtype=torch.float64, device=device)
    scale = torch.tensor(
        [1 / batch.tokens, 1 / len(batch.names), 1 / max(float(batch.picture_weight_B.sum()), 1e-6)],
        dtype=torch.float64, device=device,
    )  # fmt: skip
    weights = (
        1.0,
        config.va_weight,
        config.image_va_weight if batch.pictures is not None and batch.pictures.ndim == 4 else 0.0,
    )
    optimizer.zero_grad(set_to_none=True)
    rows = np.arange(len(batch.names))
    if config.accumulate > 1:  # rows of like length together: little is computed for padding
        rows = np.argsort(batch.lengths_B, kind="stable")
    for which in np.array_split(rows[processes.rank :: processes.world], config.accumulate):
        if not len(which):
            continue
        with autocast(config, device):
            losses = objective(network, to_device(batch.rows(which), device), critic, phase.name == PAIRS)
        sums = (losses.ce_sum, losses.va_sum, losses.picture_sum)
        loss = sum(w * s * scale[i].to(s.dtype) for i, (w, s) in enumerate(zip(weights, sums, strict=True)) if w)
        if isinstance(loss, Tensor) and loss.requires_grad:
            loss.backward()
        totals += torch.stack([s.detach().double() for s in sums])
    parameters = [p for p in trained.parameters() if p.requires_grad]
    if processes.world > 1:
        dist.all_reduce(totals)
        sum_gradients(parameters)
    norm = nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], config.clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    if math.isfinite(float(norm)):
        optimizer.step()
    ce, va, picture = (totals * scale).tolist()
    loss_value = ce + weights[1] * va + weights[2] * picture
    return {"loss": loss_value, "ce": ce, "va": va, "picture": picture, "grad_norm": float(norm)}


def to_device(batch: Batch, device: torch.device) -> TensorBatch:
    """The batch as tensors."""
    arrays = (
        batch.ids_BT, batch.targets_BT, batch.va_B2, batch.keep_B, batch.keep_picture_B,
        batch.pictures, batch.picture_va_B2, batch.picture_weight_B,
    )  # fmt: skip
    tensors = [None if a is None else torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays]
    return TensorBatch(*tensors)  # type: ignore[arg-type]


@torch.no_grad()
def validate(
    network: HuesongNetwork,
    examples: Examples,
    phase: Phase,
    config: TrainConfig,
    critic: Critic | None,
    device: torch.device,
    split: str = "val",
) -> tuple[float, float | None]:
    """Cross-entropy in nats a token (no smoothing) on a fixed sample, and the critic's distance to the request.

    The distance is the mean absolute error of what the critic hears in the expected tokens, or None.
    """
    network.eval()
    pieces, pictures = getattr(phase, split)
    count = min(len(pieces), config.eval_batches * config.batch_size)
    chosen = np.sort(np.random.default_rng(config.seed).permutation(len(pieces))[:count])
    ce, tokens, error, rows = 0.0, 0, 0.0, 0
    for begin in range(0, count, config.batch_size):
        which = chosen[begin : begin + config.batch_size]
        batch = make_batch(
            examples, pieces[which], None if pictures is None else pictures[which],
            context=config.network.context, key=(config.seed, begin),
        )  # fmt: skip
        part = to_device(batch, device)
        with autocast(config, device):
            picture_BSD = None if part.pictures is None else network.encode_picture(part.pictures).tokens_BSD
            logits_BTV = network(part.ids_BT, picture_BSD, part.va_B2, part.keep_B)
            ce += float(cross_entropy(logits_BTV, part.targets_BT))
            tokens += batch.tokens
            if critic is not None and part.keep_B.any():
                soft_BTV = soft_tokens(logits_BTV, 1.0, sampled=False, hard=False)
                heard_B2 = critic.forward_soft(soft_BTV, part.targets_BT >= 0)
                error += float((heard_B2 - part.va_B2).abs().mean(dim=-1)[part.keep_B].sum())
                rows += int(part.keep_B.sum())
    return ce / tokens, error / rows if rows else None


def final_figures(
    network: HuesongNetwork,
    examples: Examples,
    phase: Phase,
    config: TrainConfig,
    progress: Progress,
    device: torch.device,
    seconds: float,
) -> dict[str, float]:
    """The figures of the finished network."""
    figures = {
        "steps": float(progress.total),
        "best_step": float(progress.best_step or progress.total),
        "tokens_seen": float(progress.tokens),
        "parameters": float(sum(p.numel() for p in network.parameters())),
        "seconds": seconds,
        "train_ce": validate(network, examples, phase, config, None, device, "train")[0],
    }
    if len(phase.val[0]):
        figures["val_ce"] = validate(network, examples, phase, config, None, device)[0]
        figures["val_perplexity"] = math.exp(figures["val_ce"])
    return figures
