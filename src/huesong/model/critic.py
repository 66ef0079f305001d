"""The critic: hears valence and arousal in a token sequence, and lets a gradient through to soft tokens.

A small bidirectional Transformer over token embeddings with mean pooling. It is trained on human-rated music of the
`train` split only, then frozen: the generator's VA loss reads *through* it. It is never the judge of the evaluation.

Shapes: B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huesong.config import CriticConfig
from huesong.model.dataset import Examples, draw
from huesong.model.precision import full_precision
from huesong.runtime.errors import UserError
from huesong.runtime.progress import track
from huesong.va import agreement_figures


class CriticLayer(nn.Module):
    """One pre-norm layer of self-attention (no causal mask) and feed-forward."""

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_in, self.feed_out = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, attended_B11T: Tensor) -> Tensor:
        projected = self.query_key_value(self.norm(x_BTD)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)
        mixed_BHTE = F.scaled_dot_product_attention(queries, keys, values, attn_mask=attended_B11T)
        x_BTD = x_BTD + self.dropout(self.out(mixed_BHTE.transpose(1, 2).flatten(2)))
        return x_BTD + self.dropout(self.feed_out(F.gelu(self.feed_in(self.feed_norm(x_BTD)))))


class Critic(nn.Module):
    """Token ids or soft tokens to the (valence, arousal) that people would hear, each in (-1, 1)."""

    def __init__(self, config: CriticConfig, vocabulary_size: int) -> None:
        super().__init__()
        assert config.width % config.heads == 0, "width must be a multiple of the heads"
        self.config, self.vocabulary_size = config, vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size, config.width)
        self.layers = nn.ModuleList(CriticLayer(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(2 * config.width, 2)
        self.dropout = nn.Dropout(config.dropout)
        for name, weight in self.named_parameters():
            if name.endswith(".bias"):
                nn.init.zeros_(weight)
            elif not name.endswith("norm.weight"):
                nn.init.normal_(weight, std=0.02)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """VA [B, 2] of token ids; `mask_BT` is True where there is music (None: everywhere)."""
        return self._read(self.embedding(ids_BT), mask_BT)

    def forward_soft(self, probabilities_BTV: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """VA [B, 2] of distributions over tokens, read as their expected embeddings; differentiable."""
        return self._read(probabilities_BTV.to(self.embedding.weight.dtype) @ self.embedding.weight, mask_BT)

    def freeze(self) -> Critic:
        """No parameter changes from here on: gradients pass through to the input only."""
        return self.eval().requires_grad_(False)

    def _read(self, embedded_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        batch, count, width = embedded_BTD.shape
        if mask_BT is None:
            mask_BT = torch.ones(batch, count, dtype=torch.bool, device=embedded_BTD.device)
        x_BTD = self.dropout(embedded_BTD + sinusoid(count, width, embedded_BTD))
        # A row without music would attend to nothing and become NaN: let it attend to its padding.
        attended_BT = mask_BT | ~mask_BT.any(dim=1, keepdim=True)
        for layer in self.layers:
            x_BTD = layer(x_BTD, attended_BT[:, None, None])
        share_BT1 = (mask_BT / mask_BT.sum(dim=1, keepdim=True).clamp_min(1))[..., None].to(x_BTD.dtype)
        # Beside the contextual states, the plain mean of the embeddings: a histogram of the tokens, which already
        # tells tempo, loudness and register, and gives every soft token a direct path for its gradient.
        pooled_BD = torch.cat(
            [(self.final_norm(x_BTD) * share_BT1).sum(dim=1), (embedded_BTD * share_BT1).sum(dim=1)], dim=-1
        )
        return full_precision(self.head(pooled_BD)).tanh()


def sinusoid(count: int, width: int, like: Tensor) -> Tensor:
    """Absolute positions [T, D] of Vaswani et al. (2017), as small as embeddings are at the start."""
    frequencies = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10000.0) / width))
    angles = torch.arange(count, device=like.device)[:, None] * frequencies
    return (torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width] * 0.02).to(like.dtype)


PARTS = 4
"""Backward passes a step."""

# --- training ------------------------------------------------------------------------------------


def train_critic(
    critic: Critic, examples: Examples, *, context: int, seed: int, device: torch.device
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Train on the train split, stop early on people's labels of the val split, and freeze.

    A share of every batch carries people's labels, the rest the music labeller's predictions, by their weight: there
    is far more music than ratings (distillation, Hinton et al. 2015). The labeller never heard the judge's groups.
    The critic hears windows of random place and length, because the generator will show it both.

    Returns:
        The history (step, loss, val_loss, lr) and the figures: r, CCC and MAE of valence and arousal on held-out
        segments (`val_*`), with their number.

    Raises:
        UserError: fewer than two human-rated training segments.
    """
    config = critic.config
    pieces = examples.pieces
    rated = (pieces.rated_N > 0) & (pieces.count_N > 0)
    train_rows, val_rows = (np.flatnonzero(rated & (pieces.split_N == split)) for split in ("train", "val"))
    if len(train_rows) < 2:
        raise UserError(
            f"the critic needs human-rated music in the train split, and there are {len(train_rows)} such segments: "
            "add pieces with valence and arousal to music.csv, then run `huesong preprocess` again"
        )
    predicted = (pieces.rated_N == 0) & (pieces.weight_N > 0) & (pieces.count_N > 0) & (pieces.split_N == "train")
    distilled_rows = np.flatnonzero(predicted)
    distilled = round(config.distilled_share * config.batch_size) if len(distilled_rows) else 0
    critic.to(device)
    decayed = [p for name, p in critic.named_parameters() if p.ndim == 2 and not name.startswith("embedding")]
    other = [p for name, p in critic.named_parameters() if not (p.ndim == 2 and not name.startswith("embedding"))]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": other, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    history: list[dict[str, Any]] = []
    best, best_loss = copy.deepcopy(critic.state_dict()), math.inf
    for step in track(range(config.steps), "train (critic)"):
        torch.manual_seed(seed * 1_000_003 + step)
        rate = config.learning_rate * min((step + 1) / 20, 0.1 + 0.9 * math.cos(math.pi / 2 * step / config.steps) ** 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = train_rows[draw(len(train_rows), config.batch_size - distilled, seed, 2, step=step)]
        if distilled:
            rows = np.append(rows, distilled_rows[draw(len(distilled_rows), distilled, seed, 4, step=step)])
        ids_BT, mask_BT = random_stretches(examples, rows, context, np.random.default_rng([seed, 3, step]))
        weight_B = torch.from_numpy(pieces.weight_N[rows] / pieces.weight_N[rows].sum()).to(device)
        wanted_B2 = torch.from_numpy(pieces.va_N2[rows]).to(device)
        optimizer.zero_grad()
        loss = torch.zeros((), device=device)
        for part in mask_BT.sum(dim=1).argsort(stable=True).tensor_split(PARTS):  # of like length: little padding
            if len(part):
                longest = int(mask_BT[part].sum(dim=1).max())
                heard_B2 = critic.train()(ids_BT[part, :longest].to(device), mask_BT[part, :longest].to(device))
                own = ((heard_B2 - wanted_B2[part]).square().mean(dim=-1) * weight_B[part]).sum()
                own.backward()
                loss += own.detach()
        nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
        optimizer.step()
        row: dict[str, Any] = {"step": step + 1, "loss": float(loss), "lr": rate}
        if not math.isfinite(row["loss"]):
            raise UserError(f"the critic's loss is not finite at step {step + 1}: lower train.critic.learning_rate")
        if len(val_rows) and ((step + 1) % 25 == 0 or step + 1 == config.steps):
            heard = hear(critic, examples, val_rows, context, device)
            weight = pieces.rated_N[val_rows]
            row["val_loss"] = float((np.square(heard - pieces.va_N2[val_rows]).mean(1) * weight).sum() / weight.sum())
            if row["val_loss"] < best_loss:
                best, best_loss = copy.deepcopy(critic.state_dict()), row["val_loss"]
        history.append(row)
    if len(val_rows):
        critic.load_state_dict(best)
    critic.freeze()
    figures: dict[str, float] = {"train_segments": float(len(train_rows)), "val_segments": float(len(val_rows))}
    if len(val_rows) >= 2:
        figures |= agreement_figures(pieces.va_N2[val_rows], hear(critic, examples, val_rows, context, device), "val_")
    return history, figures


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
        stretches.append(
            torch.from_numpy(examples.pieces.tokens[start + first : start + first + length].astype(np.int64))
        )
    ids_BT = nn.utils.rnn.pad_sequence(stretches, batch_first=True, padding_value=examples.special.pad)
    lengths_B1 = torch.tensor([[len(stretch)] for stretch in stretches])
    return ids_BT, torch.arange(ids_BT.shape[1]) < lengths_B1


@torch.no_grad()
def hear(critic: Critic, examples: Examples, rows: np.ndarray, context: int, device: torch.device) -> np.ndarray:
    """VA [n, 2] of the segments, each from its beginning, at most `context` tokens."""
    critic.eval()
    heard = []
    for begin in range(0, len(rows), 32):
        batch = rows[begin : begin + 32]
        parts = [
            torch.from_numpy(examples.pieces.tokens[s : s + min(n, context)].astype(np.int64))
            for s, n in zip(examples.pieces.start_N[batch], examples.pieces.count_N[batch], strict=True)
        ]
        ids_BT = nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=examples.special.pad)
        mask_BT = torch.arange(ids_BT.shape[1]) < torch.tensor([[len(part)] for part in parts])
        heard.append(critic(ids_BT.to(device), mask_BT.to(device)).float().cpu().numpy())
    return np.concatenate(heard)
