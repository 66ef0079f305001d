"""How the critic (model/critic.py) is trained, once, before the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from huesong.model.critic import Critic, padded_rows, predict_va
from huesong.model.dataset import Examples, Pieces, draw
from huesong.model.trainer import Part, Schedule, Trainer, adamw, warm_cosine
from huesong.runtime.errors import UserError
from huesong.va import agreement_figures

PARTS = 4
"""Backward passes a step."""


def train_critic(
    critic: Critic, examples: Examples, *, context: int, seed: int, device: torch.device
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Train on the train split, stop early on people's labels of the val split, and freeze.

    A share of every batch carries people's labels, the rest the music labeller's predictions, by their weight: there
    is far more music than ratings (distillation, Hinton et al. 2015). The labeller never saw the judge's groups.
    Windows have random place and length, because the generator will show both.

    Returns:
        The history (step, loss, val_loss, lr) and the figures: r, CCC and MAE of valence and arousal on held-out
        segments (`val_*`), with their number.

    Raises:
        UserError: fewer than two human-rated training segments, or a loss that is not finite.
    """
    config, pieces = critic.config, examples.pieces
    train, val, distilled = rows_by_label(pieces)
    shared = round(config.distilled_share * config.batch_size) if len(distilled) else 0

    def parts(step: int) -> Iterator[Part]:
        torch.manual_seed(seed * 1_000_003 + step)
        critic.train()
        rows = train[draw(len(train), config.batch_size - shared, seed, 2, step=step)]
        if shared:
            rows = np.append(rows, distilled[draw(len(distilled), shared, seed, 4, step=step)])
        ids_BT, mask_BT = random_stretches(examples, rows, context, np.random.default_rng([seed, 3, step]))
        weight_B = torch.from_numpy(pieces.weight_N[rows] / pieces.weight_N[rows].sum()).to(device)
        wanted_B2 = torch.from_numpy(pieces.va_N2[rows]).to(device)
        for part in mask_BT.sum(dim=1).argsort(stable=True).tensor_split(PARTS):  # of like length: little padding
            if len(part):
                longest = int(mask_BT[part].sum(dim=1).max())
                found_B2 = critic(ids_BT[part, :longest].to(device), mask_BT[part, :longest].to(device))
                yield {"loss": ((found_B2 - wanted_B2[part]).square().mean(dim=-1) * weight_B[part]).sum()}

    def validate() -> dict[str, float]:
        error_N = np.square(predict_va(critic, examples, val, context, device) - pieces.va_N2[val]).mean(1)
        weight_N = pieces.rated_N[val]
        return {"val_loss": float((error_N * weight_N).sum() / weight_N.sum())}

    progress = Trainer(
        "train (critic)",
        critic.to(device),
        [adamw(critic, config.learning_rate, weight_decay=0.05, betas=(0.9, 0.999))],
        Schedule(config.steps, warm_cosine(config.learning_rate, config.steps, lowest=0.1), eval_every=25),
        parts,
        remedy="lower train.critic.learning_rate",
        validate=validate if len(val) else None,
    ).run()
    critic.freeze()
    figures = {"train_segments": float(len(train)), "val_segments": float(len(val))}
    if len(val) >= 2:
        figures |= agreement_figures(pieces.va_N2[val], predict_va(critic, examples, val, context, device), "val_")
    return progress.history, figures


def rows_by_label(pieces: Pieces) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that people rated of the splits train and val, and rows of train that the music labeller labelled.

    Where nobody rated music, and the labeller is another model's (label.labels_from), the critic learns from it alone.

    Raises:
        UserError: fewer than two of the first.
    """
    music_N = pieces.count_N > 0
    rated_N, predicted_N = pieces.rated_N > 0, (pieces.rated_N == 0) & (pieces.weight_N > 0)
    train_N, val_N = pieces.split_N == "train", pieces.split_N == "val"
    train = np.flatnonzero(rated_N & music_N & train_N)
    distilled = np.flatnonzero(predicted_N & music_N & train_N)
    if not rated_N.any() and len(distilled) >= 2:
        train, distilled = distilled, distilled[:0]
    if len(train) < 2:
        raise UserError(
            f"the critic needs human-rated music in the train split, and there are {len(train)} such segments: "
            "add pieces with valence and arousal to music.csv, then run `huesong preprocess` again"
        )
    return train, np.flatnonzero(rated_N & music_N & val_N), distilled


def random_stretches(
    examples: Examples, rows: np.ndarray, context: int, rng: np.random.Generator, shortest: int = 64
) -> tuple[Tensor, Tensor]:
    """Ids and mask [B, T]: half of the rows from their beginning, half from a random bar and of random length."""
    stretches = []
    for row in rows:
        start, count = int(examples.pieces.start_N[row]), int(examples.pieces.count_N[row])
        first, length = 0, min(count, context)
        if rng.random() < 0.5:
            bars = examples.bar_starts(int(row))
            first = int(rng.choice(bars[bars <= max(0, count - shortest)]))
            longest = min(count - first, context)
            length = int(rng.integers(min(shortest, longest), longest + 1))
        stretches.append(examples.pieces.tokens[start + first : start + first + length])
    return padded_rows(stretches, examples.special.pad)
