"""The critic: predicts the valence and arousal of a token sequence, and lets a gradient through to soft tokens.

A small bidirectional Transformer over token embeddings with mean pooling. It is trained on human-rated music of the
`train` split only, then frozen: the generator's VA loss reads *through* it. It is never the judge of the evaluation.

Shapes: B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huesong.config import CriticConfig
from huesong.model.dataset import Examples
from huesong.model.precision import full_precision


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
    """Token ids or soft tokens to the (valence, arousal) that people would give it, each in (-1, 1).

    `plans_V` (bool) are the tokens that only plan (music/form/header.py): they are not read, for nobody hears them.
    """

    plans_V: Tensor

    def __init__(self, config: CriticConfig, vocabulary_size: int, plans_V: np.ndarray | None = None) -> None:
        super().__init__()
        assert config.width % config.heads == 0, "width must be a multiple of the heads"
        plans = torch.zeros(vocabulary_size, dtype=torch.bool) if plans_V is None else torch.from_numpy(plans_V.copy())
        self.register_buffer("plans_V", plans, persistent=False)
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
        return self._read(self.embedding(ids_BT), self._music(~self.plans_V[ids_BT], mask_BT))

    def forward_soft(self, probabilities_BTV: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """VA [B, 2] of distributions over tokens, read as their expected embeddings; differentiable."""
        plans_BT = (probabilities_BTV.detach() * self.plans_V).sum(dim=-1) > 0.5
        embedded_BTD = probabilities_BTV.to(self.embedding.weight.dtype) @ self.embedding.weight
        return self._read(embedded_BTD, self._music(~plans_BT, mask_BT))

    def _music(self, heard_BT: Tensor, mask_BT: Tensor | None) -> Tensor | None:
        """What is music and no plan; None: everything is."""
        if not bool(self.plans_V.any()):
            return mask_BT
        return heard_BT if mask_BT is None else mask_BT & heard_BT

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
        # holds tempo, loudness and register, and gives every soft token a direct path for its gradient.
        pooled_BD = torch.cat(
            [(self.final_norm(x_BTD) * share_BT1).sum(dim=1), (embedded_BTD * share_BT1).sum(dim=1)], dim=-1
        )
        return full_precision(self.head(pooled_BD)).tanh()


def sinusoid(count: int, width: int, like: Tensor) -> Tensor:
    """Absolute positions [T, D] of Vaswani et al. (2017), as small as embeddings are at the start."""
    frequencies = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10000.0) / width))
    angles = torch.arange(count, device=like.device)[:, None] * frequencies
    return (torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width] * 0.02).to(like.dtype)


def padded_rows(rows: Iterable[np.ndarray], pad: int) -> tuple[Tensor, Tensor]:
    """Token sequences as ids [B, T], padded on the right, and mask [B, T], True where there is music."""
    parts = [torch.from_numpy(row.astype(np.int64)) for row in rows]
    ids_BT = nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=pad)
    return ids_BT, torch.arange(ids_BT.shape[1]) < torch.tensor([[len(part)] for part in parts])


@torch.no_grad()
def predict_va(critic: Critic, examples: Examples, rows: np.ndarray, context: int, device: torch.device) -> np.ndarray:
    """VA [n, 2] of the segments, each from its beginning, at most `context` tokens."""
    critic.eval()
    pieces, found = examples.pieces, []
    for begin in range(0, len(rows), 32):
        batch = rows[begin : begin + 32]
        spans = zip(pieces.start_N[batch], pieces.count_N[batch], strict=True)
        ids_BT, mask_BT = padded_rows((pieces.tokens[s : s + min(n, context)] for s, n in spans), examples.special.pad)
        found.append(critic(ids_BT.to(device), mask_BT.to(device)).float().cpu().numpy())
    return np.concatenate(found)
