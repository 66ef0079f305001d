"""What training minimises: label-smoothed cross-entropy, and one of three ways to bring in the emotion; all weights.

    ce              cross-entropy only
    ce+va_critic    a frozen critic reads the decoder's soft tokens; its VA is compared with the request
    ce+va_head      the VA of a regressor on the decoder's states is compared with the request
    ce+contrastive  InfoNCE between picture and music, VA-weighted positives: the paper's rival

The VA loss of the paper's public code goes through argmax and a file, so no gradient reaches its generator. Here the
critic reads a straight-through Gumbel softmax (Jang et al. 2017; Bengio et al. 2013): discrete tokens on the way
forward, the soft distribution's gradient on the way back.

Shapes: B batch, T tokens, V vocabulary, D width, S image tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huesong.config import TrainConfig
from huesong.model.critic import Critic
from huesong.model.dataset import IGNORE, Batch
from huesong.model.network import HuesongNetwork
from huesong.model.precision import full_precision

TERMS = ("loss", "ce", "va", "picture", "tokens")
"""What a part of a batch gives: the weighted loss, its terms, and how many tokens it predicts."""


@dataclass
class TensorBatch:
    """A `Batch` (model/dataset.py) on the device."""

    ids_BT: Tensor
    targets_BT: Tensor
    va_B2: Tensor
    keep_B: Tensor
    keep_picture_B: Tensor
    pictures: Tensor | None
    picture_va_B2: Tensor
    picture_weight_B: Tensor


@dataclass(frozen=True)
class Whole:
    """Counts of the whole batch, which the sums over its parts are divided by; the parts may lie in several processes."""

    tokens: float = 1.0
    rows: float = 1.0
    pictures: float = 1.0  # weighted

    @classmethod
    def of(cls, batch: Batch) -> Whole:
        """The counts of a batch."""
        return cls(batch.tokens, len(batch.names), max(float(batch.picture_weight_B.sum()), 1e-6))


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


def request_error(predicted_B2: Tensor, va_B2: Tensor, keep_B: Tensor) -> Tensor:
    """Summed smooth L1 between predicted VA and the request, over rows with a request."""
    predicted_B2 = full_precision(predicted_B2)
    error_B2 = F.smooth_l1_loss(predicted_B2, va_B2.to(predicted_B2.dtype), beta=0.25, reduction="none")
    return (error_B2.mean(dim=-1) * keep_B).sum()


def va_critic_loss(critic: Critic, soft_BTV: Tensor, mask_BT: Tensor, va_B2: Tensor, keep_B: Tensor) -> Tensor:
    """`request_error` of what the frozen critic predicts for soft tokens."""
    return request_error(critic.forward_soft(soft_BTV, mask_BT), va_B2, keep_B)


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
    """The chosen objective with the parameters of its own (a regressor or two projections), trained with the model.

    Args:
        config: objective, weights and smoothing.
        weight_V: how much each token counts where the emotion matters; None: all alike.
        states: takes the place of network.states, such as its compiled form.
    """

    weight_V: Tensor | None

    def __init__(
        self, config: TrainConfig, weight_V: Tensor | None = None, states: Callable[..., Tensor] | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("weight_V", weight_V, persistent=False)
        self.config, self.states = config, states
        width = config.network.width
        if config.objective == "ce+va_head":
            self.regressor = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2), nn.Tanh())
        elif config.objective == "ce+contrastive":
            self.from_picture, self.from_music = nn.Linear(width, width), nn.Linear(width, width)

    def forward(
        self,
        network: HuesongNetwork,
        batch: TensorBatch,
        critic: Critic | None,
        whole: Whole,
        *,
        temperature: float = 1.0,
        with_emotion: bool = True,
    ) -> dict[str, Tensor]:
        """The weighted `loss` of a part of a batch and its terms, float64, so that parts can be summed.

        `ce` and `va` are means over tokens and rows, `picture` is that of the image VA head; `tokens` are counted.
        `with_emotion` False leaves cross-entropy only (pre-training), without token weights.
        """
        config = self.config
        picture_BSD, picture_sum = self._pictures(network, batch)
        states_BTD = (self.states or network.states)(batch.ids_BT, picture_BSD, batch.va_B2, batch.keep_B)
        logits_BTV = network.logits(states_BTD)
        weight_V = self.weight_V if with_emotion else None
        ce_sum = cross_entropy(logits_BTV, batch.targets_BT, config.label_smoothing, weight_V)
        va_sum = ce_sum.new_zeros(())
        if with_emotion and config.objective != "ce":
            va_sum = self._emotion(network, batch, critic, states_BTD, logits_BTV, picture_BSD, temperature)
        terms = {
            "ce": ce_sum.double() * (1 / whole.tokens),
            "va": va_sum.double() * (1 / whole.rows),
            "picture": picture_sum.double() * (1 / whole.pictures),
        }
        pixels = batch.pictures is not None and batch.pictures.ndim == 4  # the head on frozen features is fitted
        weights = {"va": config.va_weight, "picture": config.image_va_weight if pixels else 0.0}
        loss = terms["ce"]
        for name, weight in weights.items():
            if weight:
                loss = loss + weight * terms[name]
        return {"loss": loss, **terms, "tokens": (batch.targets_BT != IGNORE).sum().double()}

    def _emotion(
        self,
        network: HuesongNetwork,
        batch: TensorBatch,
        critic: Critic | None,
        states_BTD: Tensor,
        logits_BTV: Tensor,
        picture_BSD: Tensor | None,
        temperature: float,
    ) -> Tensor:
        """The objective's own loss, summed over rows."""
        mask_BT = batch.targets_BT != IGNORE
        if self.config.objective == "ce+va_critic":
            assert critic is not None, "ce+va_critic reads a critic"
            return va_critic_loss(critic, soft_tokens(logits_BTV, temperature), mask_BT, batch.va_B2, batch.keep_B)
        if self.config.objective == "ce+va_head":
            return request_error(self.regressor(pooled(states_BTD, mask_BT)), batch.va_B2, batch.keep_B)
        rows = batch.keep_picture_B.nonzero()[:, 0]
        if rows.numel() < 2:
            return states_BTD.new_zeros((), dtype=torch.float32)
        assert picture_BSD is not None
        # The music is read without the request and without the picture, else likeness would be trivial.
        music_BD = pooled(network.music_states(batch.ids_BT[rows]), mask_BT[rows])
        picture_BD = self.from_picture(picture_BSD[rows].mean(dim=1))
        return contrastive_loss(picture_BD, self.from_music(music_BD), batch.va_B2[rows])

    def _pictures(self, network: HuesongNetwork, batch: TensorBatch) -> tuple[Tensor | None, Tensor]:
        """Image tokens (the learned null where a row has no picture) and the image VA head's summed loss."""
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
