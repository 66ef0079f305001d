"""Training of the network: pre-training on the music alone, then the pairs of picture and piece; each resumes to the bit.

Everything random in a step (rows, windows, dropped conditions, dropout, Gumbel noise) is seeded from (seed, phase,
step, process). The loop itself is model/trainer.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from huesong.config import TrainConfig
from huesong.model.copying.losses import copy_figures
from huesong.model.copying.passages import Row
from huesong.model.critic import Critic
from huesong.model.dataset import Augmentation, Batch, Examples, draw, make_batch
from huesong.model.network import HuesongNetwork
from huesong.model.precision import autocast
from huesong.model.trainer import Part, Progress, Schedule, Trainer, adamw, muon, seed_step
from huesong.runtime.checkpoints import Checkpoints
from huesong.runtime.distributed import ALONE, Processes
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log
from huesong.train.objectives import TERMS, Objective, TensorBatch, Whole, cross_entropy, soft_tokens
from huesong.train.picture_head import set_image_encoder

PRETRAIN, PAIRS = "pretrain", "pairs"
DONE = "done"
"""Name of the checkpoint that a finished phase leaves."""
HISTORY_COLUMNS = (
    "step", "phase", "loss", "ce", "va", "picture", "val_loss", "val_va", "val_copy", "lr", "grad_norm", "tokens_per_s",
    "reward", "kl",
)  # fmt: skip
LOWEST_RATE = 0.1
"""Share of the learning rate that the cosine ends at."""


@dataclass(frozen=True)
class Phase:
    """Which rows a phase draws from, and for how long."""

    name: str
    key: tuple[int, int]  # seeds its draws: (seed, number of the phase)
    steps: int
    learning_rate: float
    train: tuple[np.ndarray, np.ndarray | None]  # piece rows, picture rows
    val: tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Run:
    """What all phases share."""

    network: HuesongNetwork
    objective: Objective
    examples: Examples
    config: TrainConfig
    critic: Critic | None
    device: torch.device
    processes: Processes
    copies: Sequence[Row]
    """Rows of the copy test."""


@dataclass
class Training:
    """What a run leaves: the network (best weights, evaluation mode), rows of history, steps taken, and figures."""

    network: HuesongNetwork
    history: list[dict[str, Any]]
    steps: int
    metrics: dict[str, float]


def train_network(
    network: HuesongNetwork,
    examples: Examples,
    config: TrainConfig,
    critic: Critic | None,
    checkpoints: Mapping[str, Checkpoints],
    device: torch.device,
    processes: Processes = ALONE,
    copies: Sequence[Row] = (),
) -> Training:
    """Train `network` in place, phase by phase, each resuming from its latest valid checkpoint.

    `checkpoints` has an entry for each phase's name. A finished phase leaves a checkpoint `done` there: runs that share
    the pre-training need it only once.

    Raises:
        UserError: no training pairs, or a loss that is no longer finite.
    """
    network.to(device)
    weight_V = torch.where(torch.from_numpy(examples.special.tempo_V), config.tempo_weight, 1.0)
    # The training step's states alone, by a function beside the network: weights keep their names, validation and
    # sampling run as ever. One graph for all lengths, of which there are few, instead of one for each.
    states = torch.compile(network.states, dynamic=True) if config.compile else None
    objective = Objective(config, weight_V, states).to(device)
    run = Run(network, objective, examples, config, critic, device, processes, copies)
    started, phases, done = time.monotonic(), make_phases(examples, config), list[Progress]()
    for phase in phases:
        if phase.name == PAIRS:
            set_image_encoder(network, examples)
        done.append(finished_phase(run, phase, checkpoints[phase.name], sum(one.step for one in done)))
    network.eval()
    steps, last = sum(one.step for one in done), done[-1]
    figures = {
        "steps": float(steps),
        "best_step": float(steps - last.step + (last.best_step or last.step)),
        "tokens_seen": float(sum(one.tokens for one in done)),
        "parameters": float(sum(p.numel() for p in network.parameters())),
        "seconds": time.monotonic() - started,
        "train_ce": validate(run, phases[-1], "train")["val_loss"],
    }
    if len(phases[-1].val[0]):
        figures["val_ce"] = validate(run, phases[-1])["val_loss"]
        figures["val_perplexity"] = math.exp(figures["val_ce"])
    rows = [{**row, "phase": phase.name} for phase, one in zip(phases, done, strict=True) for row in one.history]
    return Training(network, rows, steps, figures)


def make_phases(examples: Examples, config: TrainConfig) -> list[Phase]:
    """Pre-training on all training segments without pictures (if any steps), then the pairs."""
    pieces, pairs = examples.pieces, examples.pairs

    def segments(split: str) -> tuple[np.ndarray, None]:
        return np.flatnonzero((pieces.split_N == split) & (pieces.count_N > 0) & pieces.on_bars_N), None

    def paired(split: str) -> tuple[np.ndarray, np.ndarray]:
        rows = np.flatnonzero((pairs.split_P == split) & pieces.on_bars_N[pairs.piece_P])
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


def finished_phase(run: Run, phase: Phase, saved: Checkpoints, first: int) -> Progress:
    """Train one phase, or load what it left when it was finished before; `first`: steps of the phases before."""
    network, config = run.network, run.config
    if (found := saved.load(DONE)) is not None:
        network.load_state_dict(network.state_dict() | part_of(phase, found.tensors["network"]))
        log.info("%s: %d steps done before", phase.name, found.state["progress"]["step"])
        return Progress(**found.state["progress"])
    trained = nn.ModuleDict({"network": network, "objective": run.objective})
    rate_name = "pretrain_learning_rate" if phase.name == PRETRAIN else "learning_rate"
    schedule = Schedule(
        phase.steps,
        lambda step: phase.learning_rate * rate_share(config.warmup_steps, step, phase.steps),
        clip_norm=config.clip_norm,
        eval_every=config.eval_every,
        patience=config.patience,
        checkpoint_every=config.checkpoint_every,
        log_every=config.eval_every,
        first=first,
    )
    progress = Trainer(
        f"train ({phase.name})",
        trained,
        optimizers(config, phase, trained),
        schedule,
        parts=lambda step: step_losses(run, phase, step),
        remedy=f"lower train.{rate_name} ({phase.learning_rate}) or train.va_weight ({config.va_weight})",
        validate=(lambda: validate(run, phase)) if len(phase.val[0]) else None,
        checkpoints=saved,
        processes=run.processes,
        pieces=lambda step: [run.examples.pieces.ids[row] for row in drawn_rows(run, phase, step)[0]],
    ).run()
    if run.processes.writes:
        saved.save_as(DONE, {"network": part_of(phase, network.state_dict())}, {"progress": asdict(progress)})
        saved.forget_steps()
    return progress


def optimizers(config: TrainConfig, phase: Phase, trained: nn.Module) -> list[torch.optim.Optimizer]:
    """Those of the settings. The pairs fine-tune in a few hundred steps what pre-training made: with AdamW, always."""
    if config.optimizer == "muon" and phase.name == PRETRAIN:
        return muon(trained, phase.learning_rate, config.weight_decay)
    return [adamw(trained, phase.learning_rate, config.weight_decay)]


def part_of(phase: Phase, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a phase leaves to the next: pre-training sees no pictures, so not the VA head that is fitted to them."""
    head = "picture.va_head."
    return {name: tensor for name, tensor in tensors.items() if phase.name != PRETRAIN or not name.startswith(head)}


def rate_share(warmup_steps: int, step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine down to a tenth (Loshchilov & Hutter 2017)."""
    warm = min(warmup_steps, steps // 2)
    if step < warm:
        return (step + 1) / warm
    share = (step - warm) / max(1, steps - warm)
    return LOWEST_RATE + (1 - LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * share))


def drawn_rows(run: Run, phase: Phase, step: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The rows of pieces and pictures of a step's batch."""
    pieces, pictures = phase.train
    rows = draw(len(pieces), run.config.batch_size * run.config.accumulate, *phase.key, step=step)
    return pieces[rows], None if pictures is None else pictures[rows]


def step_losses(run: Run, phase: Phase, step: int) -> Iterator[Part]:
    """The losses of a step, in as many parts as gradients are accumulated over; of this process's share of the batch."""
    config, processes = run.config, run.processes
    done = step / max(1, phase.steps - 1)
    temperature = config.va_temperature ** (1 - done) * config.va_temperature_end**done
    seed_step(*phase.key, step, processes.rank)
    batch = make_batch(
        run.examples, *drawn_rows(run, phase, step), context=config.network.context, key=(*phase.key, step),
        condition_dropout=config.condition_dropout,
        augment=Augmentation(config.repeats, keys=config.transpose, styles=config.condition_dropout),
    )  # fmt: skip
    rows = np.arange(len(batch.names))
    if config.accumulate > 1:  # rows of like length together: little is computed for padding
        rows = np.argsort(batch.lengths_B, kind="stable")
    whole = Whole.of(batch)
    run.network.train()
    run.objective.train()
    yield dict.fromkeys(TERMS, 0.0)  # a process without rows has the same figures
    for which in np.array_split(rows[processes.rank :: processes.world], config.accumulate):
        if len(which):
            part = to_device(batch.rows(which), run.device)
            with autocast(config, run.device):
                losses = run.objective(
                    run.network, part, run.critic, whole, temperature=temperature, with_emotion=phase.name == PAIRS
                )
            yield losses


def to_device(batch: Batch, device: torch.device) -> TensorBatch:
    """The batch as tensors."""
    arrays = {field.name: getattr(batch, field.name) for field in fields(TensorBatch)}
    tensors: dict[str, Any] = {
        name: None if array is None else torch.from_numpy(np.ascontiguousarray(array)).to(device)
        for name, array in arrays.items()
    }
    return TensorBatch(**tensors)


@torch.no_grad()
def validate(run: Run, phase: Phase, split: str = "val") -> dict[str, Any]:
    """Cross-entropy in nats a token (no smoothing) on a fixed sample, the critic's distance to the request, the copy test.

    `val_va` is the mean absolute error of what the critic predicts for the expected tokens, or None. `val_copy` is the
    loss of the second time over that of the first for exact repeats (model/copying), or None.
    """
    network, config, critic = run.network.eval(), run.config, run.critic if phase.name == PAIRS else None
    pieces, pictures = getattr(phase, split)
    count = min(len(pieces), config.eval_batches * config.batch_size)
    chosen = np.sort(np.random.default_rng(config.seed).permutation(len(pieces))[:count])
    ce, tokens, error, rows = 0.0, 0, 0.0, 0
    for begin in range(0, count, config.batch_size):
        which = chosen[begin : begin + config.batch_size]
        batch = make_batch(
            run.examples, pieces[which], None if pictures is None else pictures[which],
            context=config.network.context, key=(config.seed, begin),
        )  # fmt: skip
        part = to_device(batch, run.device)
        with autocast(config, run.device):
            picture_BSD = None if part.pictures is None else network.encode_picture(part.pictures).tokens_BSD
            logits_BTV = network(part.ids_BT, picture_BSD, part.va_B2, part.keep_B)
            ce += float(cross_entropy(logits_BTV, part.targets_BT))
            tokens += batch.tokens
            if critic is not None and part.keep_B.any():
                soft_BTV = soft_tokens(logits_BTV, 1.0, sampled=False, hard=False)
                found_B2 = critic.forward_soft(soft_BTV, part.targets_BT >= 0)
                error += float((found_B2 - part.va_B2).abs().mean(dim=-1)[part.keep_B].sum())
                rows += int(part.keep_B.sum())
    with autocast(config, run.device):
        copied = copy_figures(network, run.copies, run.device).get("copy_exact")
    return {"val_loss": ce / tokens, "val_va": error / rows if rows else None, "val_copy": copied}
