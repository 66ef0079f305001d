"""Fine-tuning by reward: compose for requests, hear the pieces, make what was heard nearer the request more likely.

Group-relative policy gradient (Shao et al. 2024, "DeepSeekMath", GRPO), with one update a batch: for each request a
group of pieces is sampled, and a piece's advantage is its reward against its group's, (r - mean) / std. The reward is
minus the distance between the request and what is heard. A leash keeps the network near the supervised one: the
Kullback-Leibler divergence from it is part of the loss, computed exactly at every position.

Validity needs no reward: the token grammar masks every step, here as in sampling, and the likelihoods are those under
its masks. The judge of the evaluation has no part in this.

Shapes: G requests, K pieces a request, B = G K, T tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huesong.config import ReinforceConfig, SamplingConfig
from huesong.model.dataset import Examples
from huesong.model.folder import Model
from huesong.model.requests import Request
from huesong.model.sampling import Hypothesis, Scorer, predict_va, roll_out
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log, track
from huesong.train.checkpoints import Checkpoints
from huesong.train.optimizer import load_optimizer, optimizer_state, seed_step

REINFORCE = "reinforce"
PHASE = 2
"""Number of this phase in the seeds of its draws, after pre-training (0) and pairs (1)."""


def reinforce(
    model: Model,
    examples: Examples,
    config: ReinforceConfig,
    checkpoints: Checkpoints,
    *,
    seed: int,
    scorer: Scorer | None = None,
    saves: bool = True,
) -> list[dict[str, Any]]:
    """Fine-tune `model.network` in place, resuming from the latest valid checkpoint.

    Args:
        model: network, critic and grammar; `folder` and `config` are not read.
        examples: half of the requests are training pictures, half are emotions drawn evenly, without a picture.
        config: steps, sizes, the leash.
        checkpoints: where this phase keeps its own.
        seed: of requests and pieces.
        scorer: hears the pieces together with the critic (the mean of both); None = the critic alone.
        saves: whether this process writes checkpoints.

    Returns:
        One row a step: step, reward, va (mean absolute error of what is heard), kl (nats a token), grad_norm.

    Raises:
        UserError: the loss is no longer finite.
    """
    network = model.network.requires_grad_(True)
    supervised = copy.deepcopy(network).eval().requires_grad_(False)
    network.zero_grad(set_to_none=True)  # the pairs left gradients, which a resumed run does not have
    # The picture side stays: what a picture says does not depend on how well the music follows it.
    network.picture.requires_grad_(False)
    learning = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    history: list[dict[str, Any]] = []
    if (found := checkpoints.latest()) is not None:
        network.load_state_dict(found.tensors["network"])
        load_optimizer(optimizer, network, found.tensors.get("moments", {}), found.state["updates"])
        history = found.state["history"]
    steps = range(len(history), config.steps)
    for step in track(steps, f"train ({REINFORCE})") if saves else steps:
        seed_step(seed, PHASE, step, 0)
        requests = draw_requests(examples, config, seed, step)
        sampling = SamplingConfig(candidates=1, guidance=1.0, temperature=config.temperature, top_p=1.0)
        network.eval()  # dropout would make the likelihood of a piece another than the one it was drawn with
        jobs = roll_out(model, requests, sampling)
        reward_B, error_B = rewards(model, jobs, scorer)
        advantage_B = advantages(reward_B.reshape(-1, config.samples)).reshape(-1)
        optimizer.zero_grad(set_to_none=True)
        kl = 0.0
        for start in range(0, len(jobs), config.batch_size):
            which = slice(start, start + config.batch_size)
            loss, part = policy_loss(model, supervised, jobs[which], advantage_B[which], config, len(jobs))
            loss.backward()
            kl += part
        norm = float(nn.utils.clip_grad_norm_(learning, 1.0))
        row = {
            "step": step + 1, "reward": float(reward_B.mean()), "va": float(error_B.mean()), "kl": kl, "grad_norm": norm,
        }  # fmt: skip
        if not all(math.isfinite(value) for value in row.values()):
            raise UserError(
                f"the loss is not finite at step {step + 1} (reinforce): lower train.reinforce.learning_rate"
            )
        optimizer.step()
        history.append(row)
        if saves and ((step + 1) % config.checkpoint_every == 0):
            moments, updates = optimizer_state(optimizer, network)
            groups = {"network": network.state_dict(), "moments": moments}
            checkpoints.save(step + 1, groups, {"history": history, "updates": updates})
            log.info("step %d: mean error of what is heard %.3f, %.4f nats from the start", step + 1, row["va"], kl)
    network.eval().requires_grad_(False)
    return history


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
    """Minus the distance [B] between request and what is heard, and the mean absolute error [B] of both axes."""
    pieces = [job.ids for job in jobs]
    with torch.inference_mode():
        heard_B2 = np.array([predict_va(model, ids) for ids in pieces])
    if scorer is not None:
        heard_B2 = (heard_B2 + scorer(pieces)) / 2
    apart_B2 = heard_B2 - np.array([job.conditioning.requested for job in jobs])
    return -np.hypot(*apart_B2.T), np.abs(apart_B2).mean(axis=1)


def advantages(reward_GK: np.ndarray) -> np.ndarray:
    """(r - mean) / std within each group [G, K]; 0 where all of a group are alike."""
    centred_GK = reward_GK - reward_GK.mean(axis=1, keepdims=True)
    return centred_GK / (reward_GK.std(axis=1, keepdims=True) + 1e-6)


def policy_loss(
    model: Model,
    supervised: nn.Module,
    jobs: Sequence[Hypothesis],
    advantage_B: np.ndarray,
    config: ReinforceConfig,
    whole: int,
) -> tuple[Tensor, float]:
    """The loss of some pieces of a batch of `whole`, and their share of the KL divergence (nats a token)."""
    ids_BT, targets_BT, allowed_BTV, drawn_BT = replay(model, jobs)
    pictures_BSD, va_B2 = conditions(model, jobs)
    arguments = (ids_BT, pictures_BSD, va_B2)
    with torch.no_grad():
        before_BTV = masked_log_softmax(supervised(*arguments), allowed_BTV)
    now_BTV = masked_log_softmax(model.network(*arguments), allowed_BTV)
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


def replay(model: Model, jobs: Sequence[Hypothesis]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What each piece read and drew: ids and targets [B, T], the grammar's masks [B, T, V], and where T is drawn music.

    Of a piece longer than the context its beginning. A position where the grammar left one choice only is no decision
    and does not count.
    """
    grammar, vocabulary = model.grammar, model.vocabulary
    length = min(model.network.config.context, max(len(job.read) for job in jobs))
    ids_BT = torch.full((len(jobs), length), vocabulary.pad)
    targets_BT = torch.zeros_like(ids_BT)
    allowed_BTV = torch.zeros(len(jobs), length, vocabulary.size, dtype=torch.bool)
    allowed_BTV[..., 0] = True  # padding: any one
    drawn_BT = torch.zeros(len(jobs), length)
    for row, job in enumerate(jobs):
        state, before = grammar.start(job.state.constraints), vocabulary.bos
        for place, token in enumerate(job.read[:length]):
            mask_V = grammar.mask(state)
            ids_BT[row, place], targets_BT[row, place] = before, token
            allowed_BTV[row, place] = torch.from_numpy(mask_V)
            drawn_BT[row, place] = float(mask_V.sum() > 1)
            grammar.advance(state, token)
            before = token
    device = model.device
    return ids_BT.to(device), targets_BT.to(device), allowed_BTV.to(device), drawn_BT.to(device)


def conditions(model: Model, jobs: Sequence[Hypothesis]) -> tuple[Tensor, Tensor]:
    """Image tokens [B, S, D] and request [B, 2] of each piece."""
    with torch.no_grad():  # the picture side is frozen
        fresh = {id(job.conditioning): job.conditioning for job in jobs}
        tokens = {key: condition.picture_tokens_1SD.clone() for key, condition in fresh.items()}
    pictures_BSD = torch.cat([tokens[id(job.conditioning)] for job in jobs])
    return pictures_BSD, torch.tensor([job.conditioning.requested for job in jobs], device=model.device)
