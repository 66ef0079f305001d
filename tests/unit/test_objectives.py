from __future__ import annotations

import pytest
import torch
from torch import nn

from huesong.config import NetworkConfig
from huesong.model.critic import Critic
from huesong.model.network import HuesongNetwork, PictureShape
from huesong.train.objectives import (
    IGNORE,
    TERMS,
    Objective,
    TensorBatch,
    Whole,
    contrastive_loss,
    cross_entropy,
    soft_tokens,
    va_critic_loss,
)
from tests.tiny_training import CRITIC, NETWORK, SIZE, settings

EMOTIONAL = ["ce+va_critic", "ce+va_head", "ce+contrastive"]


def tiny() -> tuple[HuesongNetwork, Critic, TensorBatch]:
    torch.manual_seed(0)
    config = NetworkConfig.model_validate(NETWORK.model_dump() | {"dropout": 0.0})
    network = HuesongNetwork(config, SIZE, PictureShape("features", tokens=4, channels=4)).double()
    critic = Critic(CRITIC, SIZE).double().freeze()
    nn.init.normal_(critic.embedding.weight, std=0.5)  # a critic that has heard something
    ids = torch.randint(3, SIZE, (4, 11))
    targets = ids[:, 1:].clone()
    targets[1, 6:] = IGNORE
    batch = TensorBatch(
        ids[:, :-1], targets, torch.rand(4, 2).double() * 2 - 1, torch.tensor([True, True, True, False]),
        torch.tensor([True, True, False, False]), torch.randn(4, 4, 4).double(), torch.rand(4, 2).double(),
        torch.ones(4).double(),
    )  # fmt: skip
    return network, critic, batch


SUMS = Whole()
"""Terms are sums, not means."""


def objective_of(kind: str, weight_V: torch.Tensor | None = None, **changes: object) -> Objective:
    return Objective(settings(objective=kind, label_smoothing=0.0, **changes), weight_V)


@pytest.mark.parametrize("kind", ["ce+va_critic", "ce+va_head"])
def test_the_va_loss_reaches_every_parameter_of_the_decoder_and_none_of_the_critic(kind: str) -> None:
    network, critic, batch = tiny()
    before = {name: weight.clone() for name, weight in critic.state_dict().items()}
    terms = objective_of(kind).double()(network, batch, critic, SUMS)
    terms["va"].backward()
    reached = {name for name, weight in network.named_parameters() if weight.grad is not None and weight.grad.any()}
    # What never meets a request: the image VA head, and the vector that stands for "nothing was asked".
    apart = {"picture.va_head.weight", "picture.va_head.bias", "condition.null_D"}
    music = {name for name, _ in network.named_parameters()} - apart
    assert music - reached == set()
    assert all(weight.grad is None for weight in critic.parameters())
    assert all(torch.equal(before[name], weight) for name, weight in critic.state_dict().items())


def test_the_va_gradient_is_the_slope_of_the_soft_loss() -> None:
    network, critic, batch = tiny()
    mask = batch.targets_BT != IGNORE

    def loss() -> torch.Tensor:
        tokens = network.encode_picture(batch.pictures).tokens_BSD
        logits = network(batch.ids_BT, tokens, batch.va_B2, batch.keep_B)
        soft = soft_tokens(logits, 1.0, sampled=False, hard=False)
        return va_critic_loss(critic, soft, mask, batch.va_B2, batch.keep_B)

    loss().backward()
    torch.manual_seed(5)
    step = 1e-5
    for name, weight in network.named_parameters():
        if name.startswith("picture.va_head"):
            continue
        direction = torch.randn_like(weight)
        slope = float((weight.grad * direction).sum())
        with torch.no_grad():
            weight += step * direction
            above = float(loss())
            weight -= 2 * step * direction
            below = float(loss())
            weight += step * direction
        assert slope == pytest.approx((above - below) / (2 * step), rel=1e-3, abs=1e-8), name


def test_following_the_va_gradient_brings_the_music_nearer_to_the_request() -> None:
    network, critic, batch = tiny()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    objective = objective_of("ce+va_critic")
    losses = []
    for _ in range(60):
        torch.manual_seed(0)
        loss = objective(network, batch, critic, SUMS)["va"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.85 * losses[0]


def test_straight_through_tokens_are_one_hot_with_a_soft_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True)
    hard = soft_tokens(logits, 0.7)
    torch.testing.assert_close(hard.max(dim=-1).values, torch.ones(2, 3, dtype=torch.float64))
    torch.testing.assert_close(hard.sum(dim=-1), torch.ones(2, 3, dtype=torch.float64))
    (hard * torch.arange(7)).sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).all()


def test_gumbel_samples_follow_the_model() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.2, 0.5, 0.3]).log().expand(1, 20000, 3)
    shares = soft_tokens(logits, 1.0).mean(dim=(0, 1))
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.5, 0.3]), atol=0.015, rtol=0)


def test_cross_entropy_ignores_padding() -> None:
    logits = torch.randn(1, 4, 5)
    targets = torch.tensor([[1, 2, IGNORE, IGNORE]])
    expected = -logits.log_softmax(-1)[0, [0, 1], [1, 2]].sum()
    torch.testing.assert_close(cross_entropy(logits, targets), expected)


@pytest.mark.parametrize("kind", EMOTIONAL)
def test_rows_without_a_request_have_no_emotional_loss(kind: str) -> None:
    network, critic, batch = tiny()
    batch.keep_B[:] = False
    batch.keep_picture_B[:] = False
    assert objective_of(kind).double()(network, batch, critic, SUMS)["va"].item() == 0


@pytest.mark.parametrize("kind", EMOTIONAL)
def test_every_objective_trains_its_own_parameters_and_the_network(kind: str) -> None:
    network, critic, batch = tiny()
    objective = objective_of(kind).double()
    terms = objective(network, batch, critic, SUMS)
    terms["va"].backward()
    assert terms["va"].item() > 0
    assert all(weight.grad is not None and weight.grad.any() for weight in objective.parameters())
    assert network.embedding.weight.grad is not None
    plain = objective_of("ce").double()(network, batch, None, SUMS)
    torch.testing.assert_close(plain["ce"], terms["ce"])
    assert objective(network, batch, critic, SUMS, with_emotion=False)["va"].item() == 0


@pytest.mark.parametrize("kind", EMOTIONAL)
def test_the_loss_is_its_terms_by_their_weights(kind: str) -> None:
    network, critic, batch = tiny()
    objective = objective_of(kind, va_weight=0.3, image_va_weight=7.0).double()
    torch.manual_seed(0)
    terms = objective(network, batch, critic, SUMS)
    assert tuple(terms) == TERMS
    assert terms["loss"].item() == pytest.approx(terms["ce"].item() + 0.3 * terms["va"].item())
    assert terms["tokens"].item() == (batch.targets_BT != IGNORE).sum()
    torch.manual_seed(0)
    means = objective(network, batch, critic, Whole(tokens=10, rows=4, pictures=2))
    for name, count in (("ce", 10), ("va", 4), ("picture", 2)):
        assert means[name].item() == pytest.approx(terms[name].item() / count)
    objective_of(kind, va_weight=0.0).double()(network, batch, critic, SUMS)["loss"].backward()
    assert network.picture.va_head.weight.grad is None, "a head on frozen features is not trained"


def test_the_image_head_of_pixels_is_part_of_the_loss() -> None:
    torch.manual_seed(0)
    _, critic, batch = tiny()
    network = HuesongNetwork(NETWORK, SIZE, PictureShape("pixels", size=32)).double().eval()
    batch.pictures = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    terms = objective_of("ce", image_va_weight=7.0).double()(network, batch, critic, SUMS)
    assert terms["picture"].item() > 0
    assert terms["loss"].item() == pytest.approx(terms["ce"].item() + 7 * terms["picture"].item())


def test_contrast_is_least_where_likeness_follows_emotion() -> None:
    va = torch.tensor([[-1.0, -1.0], [-1.0, -0.99], [1.0, 1.0]])
    place = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0]])
    assert contrastive_loss(place, place, va) < contrastive_loss(place, place.roll(1, 0), va)
    # Two pieces of one emotion are no negatives: the target is shared between them.
    assert contrastive_loss(place, place, va) == pytest.approx(2 * 0.6931, abs=0.02)


def test_weighted_tokens_count_more_where_the_emotion_matters() -> None:
    network, critic, batch = tiny()
    weight = torch.ones(SIZE, dtype=torch.float64)
    token = int(batch.targets_BT[batch.targets_BT != IGNORE][0])
    weight[token] = 5.0
    plain = objective_of("ce").double()(network, batch, critic, SUMS)["ce"]
    objective = objective_of("ce", weight).double()
    logits = network(batch.ids_BT, network.encode_picture(batch.pictures).tokens_BSD, batch.va_B2, batch.keep_B)
    of_token = cross_entropy(logits, batch.targets_BT.masked_fill(batch.targets_BT != token, IGNORE))
    assert objective(network, batch, critic, SUMS)["ce"].item() == pytest.approx(plain.item() + 4 * of_token.item())
    assert objective(network, batch, critic, SUMS, with_emotion=False)["ce"].item() == pytest.approx(plain.item())
    assert "weight_V" not in objective.state_dict()
