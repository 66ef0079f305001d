"""What training minimises: label-smoothed cross-entropy, and one of three ways to bring in the emotion.

    ce              cross-entropy only
    ce+va_critic    a frozen critic hears the decoder's soft tokens; its VA is held against the request
    ce+va_head      a regressor on the decoder's states is held against the request
    ce+contrastive  InfoNCE between picture and music, VA-weighted positives: the paper's rival

The VA loss of the paper's public code goes through argmax and a file, so no gradient reaches its generator. Here the
critic reads a straight-through Gumbel softmax (Jang et al. 2017; Bengio et al. 2013): discrete tokens on the way
forward, the soft distribution's gradient on the way back.

Shapes: B batch, T tokens, V vocabulary, D width, S image tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huesong.model.critic import Critic
from huesong.model.network import HuesongNetwork
from huesong.model.precision import full_precision

IGNORE = -100
Objectives = Literal["ce", "ce+va_head", "ce+va_critic", "ce+contrastive"]


@dataclass
class TensorBatch:
    """A batch of datasets.examples on the device; see there."""

    ids_BT: Tensor
    targets_BT: Tensor
    va_B2: Tensor
    keep_B: Tensor
    keep_picture_B: Tensor
    pictures: Tensor | None
    picture_va_B2: Tensor
    picture_weight_B: Tensor


@dataclass
class Losses:
    """Sums over a (micro-)batch; the caller divides by the counts of the whole batch, over all processes."""

    ce_sum: Tensor  # label-smoothed, over tokens
    va_sum: Tensor  # over rows
    picture_sum: Tensor  # over pictures, weighted


def cross_entropy(
    logits_BTV: Tensor, targets_BT: Tensor, smoothing: float = 0.0, weight_V: Tensor | None = None
) -> Tensor:
    """Summed (not mean) cross-entropy in nats over the targets that are not padding, each times its weight."""
    losses = F.cross_entropy(
        full_precision(logits_BTV).flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORE, label_smoothing=smoothing,
        reduction="none",
    )  # fmt: skip
    if weight_V is not None:
        losses = losses * weight_V[targets_BT.flatten().clamp_min(0)]
    return losses.sum()


def soft_tokens(logits_BTV: Tensor, temperature: float, *, sampled: bool = True, hard: bool = True) -> Tensor:
    """Distributions over tokens [B, T, V] that a critic can read, differentiable in the logits.

    Args:
        logits_BTV: the decoder's logits.
        temperature: of the softmax; lower is closer to one-hot and gives a gradient of higher variance.
        sampled: add Gumbel noise, so that tokens are drawn; else the expectation under the model.
        hard: one-hot forward, soft backward (straight-through).
    """
    logits_BTV = full_precision(logits_BTV)
    if sampled:
        logits_BTV = logits_BTV - torch.empty_like(logits_BTV).exponential_().clamp_min_(1e-20).log_()
    soft_BTV = (logits_BTV / temperature).softmax(dim=-1)
    if not hard:
        return soft_BTV
    one_hot_BTV = torch.zeros_like(soft_BTV).scatter_(-1, soft_BTV.argmax(dim=-1, keepdim=True), 1.0)
    return one_hot_BTV + (soft_BTV - soft_BTV.detach())


def va_critic_loss(
    critic: Critic, soft_BTV: Tensor, mask_BT: Tensor, va_B2: Tensor, keep_B: Tensor, beta: float = 0.25
) -> Tensor:
    """Summed smooth L1 between what the frozen critic hears and the request, over rows with a request."""
    heard_B2 = critic.forward_soft(soft_BTV, mask_BT)
    error_B2 = F.smooth_l1_loss(heard_B2, va_B2.to(heard_B2.dtype), beta=beta, reduction="none")
    return (error_B2.mean(dim=-1) * keep_B).sum()


def va_concordance_loss(critic: Critic, soft_BTV: Tensor, mask_BT: Tensor, va_B2: Tensor, keep_B: Tensor) -> Tensor:
    """1 - CCC (Lin 1989) over the batch between what the frozen critic hears and the request, mean of both axes.

    Times the number of rows with a request, as the caller divides by the rows. 0 for fewer than two such rows.
    """
    heard_B2 = critic.forward_soft(soft_BTV, mask_BT)[keep_B]
    if len(heard_B2) < 2:
        return heard_B2.sum() * 0
    asked_B2 = va_B2[keep_B].to(heard_B2.dtype)
    apart_2 = heard_B2.mean(dim=0) - asked_B2.mean(dim=0)
    covariance_2 = ((heard_B2 - heard_B2.mean(dim=0)) * (asked_B2 - asked_B2.mean(dim=0))).mean(dim=0)
    spread_2 = heard_B2.var(dim=0, correction=0) + asked_B2.var(dim=0, correction=0) + apart_2.square()
    return (1 - 2 * covariance_2 / spread_2.clamp_min(1e-6)).mean() * len(heard_B2)


def contrastive_loss(
    picture_BD: Tensor, music_BD: Tensor, va_B2: Tensor, temperature: float = 0.1, spread: float = 0.25
) -> Tensor:
    """Summed symmetric InfoNCE (van den Oord et al. 2018) whose positives are weighted by nearness in VA space.

    Row i's target over j is proportional to exp(-|va_i - va_j|^2 / (2 spread^2)): pieces of nearly the same emotion
    are no negatives of each other.
    """
    picture_BD, music_BD = (
        F.normalize(full_precision(picture_BD), dim=-1),
        F.normalize(full_precision(music_BD), dim=-1),
    )
    likeness_BB = picture_BD @ music_BD.T / temperature
    va_B2 = va_B2.to(likeness_BB.dtype)
    squared_BB = (va_B2[:, None] - va_B2[None]).square().sum(dim=-1)
    target_BB = (-squared_BB / (2 * spread**2)).softmax(dim=-1)
    to_music = -(target_BB * likeness_BB.log_softmax(dim=-1)).sum()
    to_picture = -(target_BB * likeness_BB.T.log_softmax(dim=-1)).sum()
    return (to_music + to_picture) / 2


class Objective(nn.Module):
    """The chosen objective with the parameters of its own (a regressor or two projections), trained with the model."""

    weight_V: Tensor | None

    def __init__(
        self,
        kind: Objectives,
        width: int,
        *,
        va_loss: Literal["smooth_l1", "ccc"] = "smooth_l1",
        temperature: float = 1.0,
        smoothing: float = 0.0,
        weight_V: Tensor | None = None,
    ) -> None:
        super().__init__()
        # How much each token counts where the emotion matters; None: all alike.
        self.register_buffer("weight_V", weight_V, persistent=False)
        self.kind, self.va_loss, self.smoothing = kind, va_loss, smoothing
        self.temperature = temperature  # annealed by the training loop
        self.compiled_states: Callable[..., Tensor] | None = None
        if kind == "ce+va_head":
            self.regressor = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2), nn.Tanh())
        elif kind == "ce+contrastive":
            self.from_picture, self.from_music = nn.Linear(width, width), nn.Linear(width, width)

    def forward(
        self, network: HuesongNetwork, batch: TensorBatch, critic: Critic | None, with_emotion: bool = True
    ) -> Losses:
        """Losses of a batch; `with_emotion` False leaves cross-entropy only (pre-training)."""
        picture_BSD, picture_sum = self._pictures(network, batch)
        states = self.compiled_states or network.states
        states_BTD = states(batch.ids_BT, picture_BSD, batch.va_B2, batch.keep_B)
        logits_BTV = network.logits(states_BTD)
        weight_V = self.weight_V if with_emotion else None
        ce_sum = cross_entropy(logits_BTV, batch.targets_BT, self.smoothing, weight_V)
        va_sum = ce_sum.new_zeros(())
        mask_BT = batch.targets_BT != IGNORE
        if not with_emotion or self.kind == "ce":
            return Losses(ce_sum, va_sum, picture_sum)
        if self.kind == "ce+va_critic":
            assert critic is not None, "ce+va_critic reads a critic"
            loss = va_concordance_loss if self.va_loss == "ccc" else va_critic_loss
            soft_BTV = soft_tokens(logits_BTV, self.temperature)
            va_sum = loss(critic, soft_BTV, mask_BT, batch.va_B2, batch.keep_B)
        elif self.kind == "ce+va_head":
            heard_B2 = full_precision(self.regressor(pooled(states_BTD, mask_BT)))
            error_B2 = F.smooth_l1_loss(heard_B2, batch.va_B2.to(heard_B2.dtype), beta=0.25, reduction="none")
            va_sum = (error_B2.mean(dim=-1) * batch.keep_B).sum()
        elif (rows := batch.keep_picture_B.nonzero()[:, 0]).numel() > 1:
            assert picture_BSD is not None
            # The music is read without the request and without the picture, else likeness would be trivial.
            music_BD = pooled(network.music_states(batch.ids_BT[rows]), mask_BT[rows])
            picture_BD = self.from_picture(picture_BSD[rows].mean(dim=1))
            va_sum = contrastive_loss(picture_BD, self.from_music(music_BD), batch.va_B2[rows])
        return Losses(ce_sum, va_sum, picture_sum)

    def _pictures(self, network: HuesongNetwork, batch: TensorBatch) -> tuple[Tensor | None, Tensor]:
        """Image tokens (the learned null where a row has no picture) and the image VA head's loss."""
        if batch.pictures is None:
            return None, batch.va_B2.new_zeros(())
        encoding = network.encode_picture(batch.pictures)
        error_B = (encoding.va_B2 - batch.picture_va_B2).square().mean(dim=-1)
        tokens_BSD = torch.where(
            batch.keep_picture_B[:, None, None], encoding.tokens_BSD, network.no_picture(len(batch.ids_BT))
        )
        return tokens_BSD, (error_B * batch.picture_weight_B).sum()


def pooled(states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean state [B, D] over the positions that are not padding."""
    share_BT1 = (mask_BT / mask_BT.sum(dim=1, keepdim=True).clamp_min(1))[..., None].to(states_BTD.dtype)
    return (states_BTD * share_BT1).sum(dim=1)
