from __future__ import annotations

import numpy as np
import pytest
import torch

from huesong.config import CriticConfig
from huesong.model.critic import Critic
from huesong.runtime.errors import UserError
from huesong.train.critic import train_critic
from tests.tiny_training import CRITIC, SIZE, tiny_examples

CPU = torch.device("cpu")


def tiny() -> Critic:
    torch.manual_seed(0)
    return Critic(CRITIC, SIZE).double().eval()


def test_soft_one_hot_tokens_are_read_like_ids() -> None:
    critic = tiny()
    ids = torch.randint(0, SIZE, (3, 10))
    mask = torch.arange(10) < torch.tensor([[10], [4], [7]])
    soft = torch.nn.functional.one_hot(ids, SIZE).double()
    torch.testing.assert_close(critic.forward_soft(soft, mask), critic(ids, mask))


def test_what_the_mask_hides_is_not_read() -> None:
    critic = tiny()
    ids = torch.randint(0, SIZE, (2, 10))
    mask = torch.arange(10) < torch.tensor([[6], [6]])
    changed = ids.clone()
    changed[:, 6:] = 0
    torch.testing.assert_close(critic(ids, mask), critic(changed, mask))
    torch.testing.assert_close(critic(ids, mask), critic(ids[:, :6]))
    assert torch.isfinite(critic(ids, torch.zeros(2, 10, dtype=torch.bool))).all()


def test_order_matters() -> None:
    critic = tiny()
    ids = torch.randint(0, SIZE, (2, 10))
    assert not torch.allclose(critic(ids), critic(ids.flip(1)), atol=1e-9)


def test_a_frozen_critic_passes_gradients_to_its_input_only() -> None:
    critic = tiny().freeze()
    soft = torch.rand(2, 5, SIZE, dtype=torch.float64, requires_grad=True)
    critic.forward_soft(soft).sum().backward()
    assert soft.grad is not None
    assert soft.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_it_learns_an_audible_emotion_and_says_how_well() -> None:
    examples = tiny_examples()
    critic = Critic(CriticConfig.model_validate(CRITIC.model_dump() | {"steps": 80}), SIZE)
    history, figures = train_critic(critic, examples, context=48, seed=0, device=CPU)
    assert len(history) == 80
    assert figures["val_arousal_ccc"] > 0.8
    assert figures["val_valence_ccc"] > 0.8
    assert figures["val_segments"] == 4
    assert not any(parameter.requires_grad for parameter in critic.parameters())
    assert not critic.training


def test_the_same_seed_trains_the_same_critic() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        critic = Critic(CRITIC, SIZE)
        train_critic(critic, tiny_examples(), context=48, seed=0, device=CPU)
        weights.append(critic.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_only_rated_training_segments_teach_it() -> None:
    examples = tiny_examples()
    examples.pieces.rated_N[:] = examples.pieces.weight_N[:] = 0
    with pytest.raises(UserError, match="human-rated music"):
        train_critic(Critic(CRITIC, SIZE), examples, context=48, seed=0, device=CPU)
    one, other = tiny_examples(), tiny_examples()
    judge = np.flatnonzero(one.pieces.split_N == "train")[:4]
    for examples in (one, other):
        examples.pieces.split_N = examples.pieces.split_N.astype("<U5")
        examples.pieces.split_N[judge] = "judge"
    other.pieces.va_N2[judge] *= -1  # must make no difference
    weights = []
    for examples in (one, other):
        torch.manual_seed(0)
        critic = Critic(CRITIC, SIZE)
        _, figures = train_critic(critic, examples, context=48, seed=0, device=CPU)
        assert figures["train_segments"] == 16
        weights.append(critic.head.weight)
    assert torch.equal(*weights)
