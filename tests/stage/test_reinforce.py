from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from huesong.config import ReinforceConfig, SamplingConfig
from huesong.model.folder import Modules
from huesong.model.sampling import RETURNING, roll_out
from huesong.runtime.checkpoints import Checkpoints
from huesong.runtime.errors import UserError
from huesong.train import rewards as module
from huesong.train.rewards import advantages, conditions, draw_requests, policy_loss, reinforce, replay
from tests.tiny_music import grammar, modules

PICTURE = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float16)
CONFIG = ReinforceConfig(
    steps=2, requests=2, samples=3, seconds=4.0, learning_rate=1e-3, batch_size=4, checkpoint_every=1
)
EXAMPLES: Any = SimpleNamespace(
    pictures=SimpleNamespace(split_I=np.array(["test", "train"]), rows=[PICTURE * 0, PICTURE])
)


def fresh() -> Modules:
    """A model of this test's own: reinforce changes the network in place."""
    shared = modules()
    return Modules(copy.deepcopy(shared.network), shared.critic, shared.vocabulary, shared.grammar, {}, Path("nowhere"))


def low_notes(pieces: Sequence[list[int]]) -> np.ndarray:
    """Hears high arousal in low notes: something a network can learn within a few steps."""
    table = grammar().table
    pitch = [np.mean([v for token in ids for kind, v in table.base[token] if kind == "Pitch"]) for ids in pieces]
    return np.stack([np.zeros(len(pieces)), np.clip((72 - np.array(pitch)) / 24, -1, 1)], axis=1) * 2


def test_advantages_are_relative_to_the_group() -> None:
    reward = np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    found = advantages(reward)
    assert found[0] == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5)], rel=1e-4)
    assert (found[1] == 0).all()


def test_requests_are_training_pictures_and_drawn_emotions() -> None:
    asked = draw_requests(EXAMPLES, CONFIG, seed=3, step=0)
    assert len(asked) == 6
    assert len({request.seed for request in asked}) == 6
    assert all(request.picture is None for request in asked[:3])
    assert asked[0].valence == asked[1].valence is not None
    assert all((request.picture == PICTURE).all() for request in asked[3:])
    assert draw_requests(EXAMPLES, CONFIG, 3, 1)[0].valence != asked[0].valence


def test_replayed_likelihoods_are_those_of_the_drawing() -> None:
    """Teacher-forced under the masks, every drawn token is possible, and forced ones are no decisions."""
    player = fresh()
    jobs = roll_out(
        player.player(),
        draw_requests(EXAMPLES, CONFIG, 0, 0),
        SamplingConfig(candidates=1, guidance=1.0, temperature=1.0),
    )
    ids, targets, allowed, drawn, cooler = replay(player, jobs)
    assert allowed.gather(-1, targets[..., None]).all()
    for row, job in enumerate(jobs):
        assert targets[row, : len(job.read)].tolist() == job.read
        assert ids[row, 1 : len(job.read)].tolist() == job.read[:-1]
        assert drawn[row, len(job.read) :].sum() == 0
        choices = allowed[row, : len(job.read)].sum(-1)
        assert torch.equal(drawn[row, : len(job.read)], (choices > 1).to(drawn.dtype)), (
            "what the plan says is no decision"
        )
        for bar, (start, end) in enumerate(pairwise([*job.bars, len(job.read)])):
            assert (cooler[row, start + 1 : end, 0] == RETURNING[job.plan.bars[bar].relation]).all()
    assert len(cooler.unique()) > 1
    assert (allowed.sum(-1)[drawn == 1] > 1).all()
    assert (drawn[:, 0] == 0).all()
    assert (drawn.sum(1) > 10).all()
    assert conditions(player, jobs)[1].shape == (6, 2)


def test_one_update_makes_the_better_pieces_likelier() -> None:
    player, config = fresh(), CONFIG.model_copy(update={"kl_weight": 0.0})
    supervised = copy.deepcopy(player.network).requires_grad_(False)
    jobs = roll_out(
        player.player(),
        draw_requests(EXAMPLES, CONFIG, 0, 0),
        SamplingConfig(candidates=1, guidance=1.0, temperature=1.0),
    )
    advantage = np.array([1.0, -1.0, 0.0, 1.0, 0.0, -1.0])
    player.network.requires_grad_(True)

    def likelihood() -> np.ndarray:
        singles = [policy_loss(player, supervised, [job], np.array([-1.0]), config, 1)[0] for job in jobs]
        return np.array([float(loss.detach()) for loss in singles])

    before = likelihood()
    loss, kl = policy_loss(player, supervised, jobs, advantage, config, len(jobs))
    assert kl == pytest.approx(0, abs=1e-6)
    assert float(loss) == pytest.approx(-float((advantage * before).mean()), rel=1e-4)
    loss.backward()
    with torch.no_grad():
        for weight in player.network.parameters():
            if weight.grad is not None:
                weight -= 1e-3 * weight.grad / weight.grad.norm().clamp_min(1e-9)
    after = likelihood()
    assert ((after - before) * advantage).sum() > 0
    assert policy_loss(player, supervised, jobs, advantage, config, len(jobs))[1] > 0


@pytest.mark.slow
def test_rewards_teach_and_the_kl_penalty_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "predict_va", lambda _, ids: (0.0, 0.0))  # the scorer alone decides
    monkeypatch.setattr(
        module, "draw_requests",
        lambda *given: [r.__class__(None, 0.0, 0.9, r.seed, r.seconds) for r in draw_requests(*given)],
    )  # fmt: skip
    config = CONFIG.model_copy(update={"steps": 12, "samples": 6, "learning_rate": 3e-3, "kl_weight": 0.0})
    free = reinforce(fresh(), EXAMPLES, config, Checkpoints(tmp_path / "free"), seed=0, scorer=low_notes)
    errors = [row["va"] for row in free]
    assert np.mean(errors[-3:]) < np.mean(errors[:3]) - 0.03
    penalised = config.model_copy(update={"kl_weight": 50.0})
    penalised = penalised.model_copy(update={"steps": 6})
    held = reinforce(fresh(), EXAMPLES, penalised, Checkpoints(tmp_path / "held"), seed=0, scorer=low_notes)
    assert held[5]["kl"] < free[5]["kl"] / 2


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    straight, resumed = fresh(), fresh()
    frozen = straight.network.picture.null_SD.clone()
    rows = reinforce(straight, EXAMPLES, CONFIG, Checkpoints(tmp_path / "a"), seed=1, scorer=low_notes)
    half = CONFIG.model_copy(update={"steps": 1})
    reinforce(fresh(), EXAMPLES, half, Checkpoints(tmp_path / "b"), seed=1, scorer=low_notes)
    assert reinforce(resumed, EXAMPLES, CONFIG, Checkpoints(tmp_path / "b"), seed=1, scorer=low_notes) == rows
    start = modules().network.state_dict()
    for name, weight in straight.network.state_dict().items():
        assert torch.equal(weight, resumed.network.state_dict()[name]), name
    assert torch.equal(straight.network.picture.null_SD, frozen)
    assert not torch.equal(straight.network.state_dict()["embedding.weight"], start["embedding.weight"])
    assert not any(weight.requires_grad for weight in straight.network.parameters())


def test_a_run_killed_between_pairs_and_rewards_gives_the_weights_of_a_straight_one(tmp_path: Path) -> None:
    """The straight one comes with the gradients that the pairs left, also of what is frozen now."""
    straight, resumed = fresh(), fresh()
    for weight in straight.network.requires_grad_(True).parameters():
        weight.grad = torch.full_like(weight, 100.0)
    rows = reinforce(straight, EXAMPLES, CONFIG, Checkpoints(tmp_path / "a"), seed=1, scorer=low_notes)
    assert reinforce(resumed, EXAMPLES, CONFIG, Checkpoints(tmp_path / "b"), seed=1, scorer=low_notes) == rows
    for name, weight in straight.network.state_dict().items():
        assert torch.equal(weight, resumed.network.state_dict()[name]), name


def test_a_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    def deaf(pieces: Sequence[list[int]]) -> np.ndarray:
        return np.full((len(pieces), 2), np.nan)

    with pytest.raises(
        UserError, match=r"train \(reinforce\): .* not finite at step 1: lower train\.reinforce\.learning_rate"
    ):
        reinforce(fresh(), EXAMPLES, CONFIG, Checkpoints(tmp_path), seed=0, scorer=deaf)
