"""Drawing tokens from logits: probabilities, the nucleus, masks, rounding, temperature by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from huesong.config import EvaluationSampling
from huesong.model.decoding.draw import draw
from tests.examples import examples

PLAIN = EvaluationSampling(guidance=1.5)


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, 5.0], dtype=torch.float64)
    allowed = torch.tensor([True, True, True, False])
    uniform = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    drawn = draw(
        logits.expand(20_000, -1), allowed.expand(20_000, -1), uniform, EvaluationSampling(temperature=0.5, top_p=1.0)
    )
    wanted = torch.softmax(logits[:3] / 0.5, dim=0)
    assert torch.bincount(drawn, minlength=4)[:3] / 20_000 == pytest.approx(wanted.tolist(), abs=1e-3)
    assert not (drawn == 3).any()


def test_the_nucleus() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    uniform = torch.linspace(0, 0.999999, 500, dtype=torch.float64)
    logits, allowed = probabilities.log().expand(500, -1), torch.ones(500, 4, dtype=torch.bool)
    for top_p, kept in ((0.4, {0}), (0.6, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})):
        assert set(draw(logits, allowed, uniform, EvaluationSampling(temperature=1.0, top_p=top_p)).tolist()) == kept


@examples(60)
@given(
    seed=st.integers(0, 2**31),
    uniform=st.sampled_from([0.0, 0.5, 1 - 2**-53]),
    scale=st.sampled_from([0.0, 1.0, 300.0]),
)
def test_nothing_forbidden_is_drawn(seed: int, uniform: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(3, 40)) * scale)
    allowed = torch.from_numpy(rng.random((3, 40)) < 0.1)
    allowed[:, int(rng.integers(40))] = True
    drawn = draw(logits, allowed, torch.full((3,), uniform, dtype=torch.float64), EvaluationSampling(top_p=0.99))
    assert allowed.gather(1, drawn[:, None]).all()


def test_noise_in_the_last_bits_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(500, 60)).round(3))  # away from the edges of rounding
    allowed, uniform = torch.ones(500, 60, dtype=torch.bool), torch.from_numpy(rng.random(500))
    noisy = logits + torch.from_numpy(rng.normal(size=(500, 60))) * 1e-6
    assert torch.equal(draw(logits, allowed, uniform, PLAIN), draw(noisy, allowed, uniform, PLAIN))


def test_a_row_may_be_drawn_cooler_than_its_neighbours() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.5]] * 2, dtype=torch.float64)
    allowed, plain = torch.ones(2, 3, dtype=torch.bool), EvaluationSampling(temperature=1.0, top_p=1.0)
    cooler = torch.tensor([1.0, 0.01], dtype=torch.float64)
    drawn = np.array(
        [
            draw(logits, allowed, torch.full((2,), u, dtype=torch.float64), plain, cooler).tolist()
            for u in np.linspace(0, 0.99, 50)
        ]
    )
    assert set(drawn[:, 0]) == {0, 1, 2}
    assert set(drawn[:, 1]) == {1}
