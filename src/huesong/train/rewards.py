"""Fine-tuning by reward: compose for requests, and make the pieces whose predicted VA is nearer to them more likely.

Group-relative policy gradient (Shao et al. 2024, "DeepSeekMath", GRPO), with one update a batch: for each request a
group of pieces is sampled, and a piece's advantage is its reward against its group's, (r - mean) / std. The reward is
minus the distance between the request and the predicted VA. A KL penalty keeps the network near the supervised one: the
Kullback-Leibler divergence from it is part of the loss, computed exactly at every position.

Validity needs no reward: the token grammar masks every step, here as in sampling, and the likelihoods are those under
its masks. The judge of the evaluation has no part in this.

Shapes: G requests, K pieces a request, B = G K, T tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huesong.config import ReinforceConfig, SamplingConfig
from huesong.model.dataset import Examples
from huesong.model.folder import Model, Modules
from huesong.model.requests import Request
from huesong.model.sampling import Hypothesis, Scorer, cooler_at, predict_va, roll_out
from huesong.model.trainer import Part, Schedule, Trainer, adamw, seed_step
from huesong.runtime.checkpoints import Checkpoints

REINFORCE = "reinforce"
PHASE = 2
"""Number of this phase in the seeds of its draws, after pre-training (0) and pairs (1)."""
COLUMNS = ("step", "reward", "va", "kl", "grad_norm")


def reinforce(
    model: Modules,
    examples: Examples,
    config: ReinforceConfig,
    checkpoints: Checkpoints,
    *,
    seed: int,
    scorer: Scorer | None = None,
    first: int = 0,
) -> list[dict[str, Any]]:
    """Fine-tune `model.network` in place, resuming from the latest valid checkpoint.

    Args:
        model: network, critic and grammar; `folder` and `config` are not read.
        examples: half of the requests are training pictures, half are emotions drawn evenly, without a picture.
        config: steps, sizes, the weight of the KL penalty.
        checkpoints: where this phase keeps its own.
        seed: of requests and pieces.
        scorer: predicts the VA of pieces; its mean with the critic's counts. None = the critic alone.
        first: steps of the phases before; rows are numbered on from there.

    Returns:
        One row a step: step, reward, va (mean absolute error), kl (nats a token), grad_norm.

    Raises:
        UserError: the loss is no longer finite.
    """
    network = model.network.requires_grad_(True)
    network.eval()  # dropout would make the likelihood of a piece another than the one it was drawn with
    network.zero_grad(set_to_none=True)  # the pairs left gradients, which a resumed run does not have
    supervised = copy.deepcopy(network).requires_grad_(False)
    # What a picture says does not depend on how well the music follows it.
    network.picture.requires_grad_(False)
    sampling = SamplingConfig(candidates=1, guidance=1.0, temperature=config.temperature, top_p=1.0)

    def parts(step: int) -> Iterator[Part]:
        seed_step(seed, PHASE, step)
        player = model.player()
        jobs = roll_out(player, draw_requests(examples, config, seed, step), sampling)
        reward_B, error_B = rewards(player, jobs, scorer)
        advantage_B = advantages(reward_B.reshape(-1, config.samples)).reshape(-1)
        figures = {"reward": float(reward_B.mean()), "va": float(error_B.mean())}
        for start in range(0, len(jobs), config.batch_size):
            which = slice(start, start + config.batch_size)
            loss, kl = policy_loss(model, supervised, jobs[which], advantage_B[which], config, len(jobs))
            yield {"loss": loss, "kl": kl, **figures}
            figures = {}  # they are those of the whole step

    every = config.checkpoint_every
    progress = Trainer(
        f"train ({REINFORCE})",
        network,
        [adamw(network, config.learning_rate, weight_decay=0.0)],
        Schedule(config.steps, lambda _: config.learning_rate, checkpoint_every=every, log_every=every, first=first),
        parts,
        remedy="lower train.reinforce.learning_rate",
        checkpoints=checkpoints,
    ).run()
    network.requires_grad_(False)
    return [{name: row[name] for name in COLUMNS} for row in progress.history]


def draw_requests(examples: Examples, config: ReinforceConfig, seed: int, step: int) -> list[Request]:
    """`config.requests` requests, each `config.samples` times with seeds of their own."""
    rng = np.random.default_rng([seed, PHASE, step])
    pictures = np.flatnonzero(examples.pictures.split_I == "train")
    requests = []
    for place in range(config.requests):
        picture, va = None, [float(value) for value in rng.uniform(-config.reach, config.reach, 2)]
        if place % 2 and len(pictures):
            picture = np.asarray(examples.pictures.rows[int(rng.choice(pictures))])
        valence, arousal = (None, None) if picture is not None else va
        for _ in range(config.samples):
            requests.append(Request(picture, valence, arousal, int(rng.integers(2**40)), config.seconds))
    return requests


def rewards(model: Model, jobs: Sequence[Hypothesis], scorer: Scorer | None) -> tuple[np.ndarray, np.ndarray]:
    """Minus the distance [B] between request and predicted VA, and the mean absolute error [B] of both axes."""
    pieces = [job.ids for job in jobs]
    found_B2 = np.array([predict_va(model, ids) for ids in pieces])
    if scorer is not None:
        found_B2 = (found_B2 + scorer(pieces)) / 2
    apart_B2 = found_B2 - np.array([job.conditioning.requested for job in jobs])
    return -np.hypot(*apart_B2.T), np.abs(apart_B2).mean(axis=1)


def advantages(reward_GK: np.ndarray) -> np.ndarray:
    """(r - mean) / std within each group [G, K]; 0 where all of a group are alike."""
    centred_GK = reward_GK - reward_GK.mean(axis=1, keepdims=True)
    return centred_GK / (reward_GK.std(axis=1, keepdims=True) + 1e-6)


def policy_loss(
    model: Modules,
    supervised: nn.Module,
    jobs: Sequence[Hypothesis],
    advantage_B: np.ndarray,
    config: ReinforceConfig,
    whole: int,
) -> tuple[Tensor, float]:
    """The loss of some pieces of a batch of `whole`, and their share of the KL divergence (nats a token)."""
    ids_BT, targets_BT, allowed_BTV, drawn_BT, cooler_BT1 = replay(model, jobs)
    pictures_BSD, va_B2 = conditions(model, jobs)
    arguments = (ids_BT, pictures_BSD, va_B2)
    with torch.no_grad():
        before_BTV = masked_log_softmax(supervised(*arguments) / cooler_BT1, allowed_BTV)
    now_BTV = masked_log_softmax(model.network(*arguments) / cooler_BT1, allowed_BTV)
    likelihood_BT = now_BTV.gather(-1, targets_BT[..., None])[..., 0]
    advantage_B1 = torch.tensor(advantage_B, dtype=now_BTV.dtype, device=now_BTV.device)[:, None]
    kl_BT = (now_BTV.exp() * (now_BTV - before_BTV)).masked_fill(~allowed_BTV, 0).sum(dim=-1)
    # Every piece counts the same, whatever its length.
    share_BT = drawn_BT / drawn_BT.sum(dim=1, keepdim=True).clamp_min(1) / whole
    kl = (kl_BT * share_BT).sum()
    return config.kl_weight * kl - (advantage_B1 * likelihood_BT * share_BT).sum(), float(kl.detach())


def masked_log_softmax(logits_BTV: Tensor, allowed_BTV: Tensor) -> Tensor:
    """Log-probabilities under the grammar's masks; a large negative number where nothing may be."""
    return F.log_softmax(logits_BTV.float().masked_fill(~allowed_BTV, -1e9), dim=-1)


def replay(model: Modules, jobs: Sequence[Hypothesis]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What each piece read and drew: ids and targets [B, T], the grammar's masks [B, T, V], where T is drawn music, and how
    much cooler it was drawn, as returning bars are [B, T, 1].

    Of a piece longer than the context its beginning. A position where the grammar left one choice only is no decision
    and does not count.
    """
    grammar, vocabulary = model.grammar, model.vocabulary
    length = min(model.network.config.context, max(len(job.read) for job in jobs))
    ids_BT = torch.full((len(jobs), length), vocabulary.pad)
    targets_BT = torch.zeros_like(ids_BT)
    allowed_BTV = torch.zeros(len(jobs), length, vocabulary.size, dtype=torch.bool)
    allowed_BTV[..., 0] = True  # padding: any one
    drawn_BT, cooler_BT1 = torch.zeros(len(jobs), length), torch.ones(len(jobs), length, 1)
    for row, job in enumerate(jobs):
        state, before = grammar.start(job.state.constraints), vocabulary.bos
        for place, token in enumerate(job.read[:length]):
            mask_V = grammar.mask(state)
            ids_BT[row, place], targets_BT[row, place] = before, token
            allowed_BTV[row, place] = torch.from_numpy(mask_V)
            drawn_BT[row, place] = float(mask_V.sum() > 1)
            cooler_BT1[row, place] = cooler_at(job.plan, state.bar)
            grammar.advance(state, token)
            before = token
    device = model.device
    return ids_BT.to(device), targets_BT.to(device), allowed_BTV.to(device), drawn_BT.to(device), cooler_BT1.to(device)


def conditions(model: Modules, jobs: Sequence[Hypothesis]) -> tuple[Tensor, Tensor]:
    """Image tokens [B, S, D] and request [B, 2] of each piece."""
    pictures_BSD = np.concatenate([job.conditioning.picture_tokens_1SD for job in jobs])
    requested = [job.conditioning.requested for job in jobs]
    return torch.from_numpy(pictures_BSD).to(model.device), torch.tensor(requested, device=model.device)
