"""Drawing tokens from logits: probabilities, the nucleus, masks, rounding, temperature by row."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from huesong.config import EvaluationSampling
from huesong.model.decoding.draw import Generator, draw
from tests.examples import examples

PLAIN = EvaluationSampling(guidance=1.5)


def test_draws_follow_the_probabilities() -> None:
    logits, allowed = np.array([[2.0, 1.0, 0.0, 5.0]]), np.array([[True, True, True, False]])
    uniform = (np.arange(20_000) + 0.5) / 20_000
    drawn = draw(
        logits.repeat(20_000, 0), allowed.repeat(20_000, 0), uniform, EvaluationSampling(temperature=0.5, top_p=1.0)
    )
    odds = np.exp(logits[0, :3] / 0.5)
    assert np.bincount(drawn, minlength=4)[:3] / 20_000 == pytest.approx(odds / odds.sum(), abs=1e-3)
    assert not (drawn == 3).any()


def test_the_nucleus() -> None:
    uniform = np.linspace(0, 0.999999, 500)
    logits, allowed = np.log([[0.5, 0.3, 0.15, 0.05]]).repeat(500, 0), np.ones((500, 4), dtype=bool)
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
    logits, allowed = rng.normal(size=(3, 40)) * scale, rng.random((3, 40)) < 0.1
    allowed[:, int(rng.integers(40))] = True
    drawn = draw(logits, allowed, np.full(3, uniform), EvaluationSampling(top_p=0.99))
    assert allowed[np.arange(3), drawn].all()


def test_noise_in_the_last_bits_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 60)).round(3)  # away from the edges of rounding
    allowed, uniform = np.ones((500, 60), dtype=bool), rng.random(500)
    noisy = logits + rng.normal(size=(500, 60)) * 1e-6
    assert np.array_equal(draw(logits, allowed, uniform, PLAIN), draw(noisy, allowed, uniform, PLAIN))


def test_a_row_may_be_drawn_cooler_than_its_neighbours() -> None:
    logits = np.array([[0.0, 1.0, 0.5]] * 2)
    allowed, plain = np.ones((2, 3), dtype=bool), EvaluationSampling(temperature=1.0, top_p=1.0)
    cooler = np.array([1.0, 0.01])
    drawn = np.array([draw(logits, allowed, np.full(2, u), plain, cooler).tolist() for u in np.linspace(0, 0.99, 50)])
    assert set(drawn[:, 0]) == {0, 1, 2}
    assert set(drawn[:, 1]) == {1}


@pytest.mark.parametrize("key", [(0, 0), (5, "steer", 3), (2**63 - 1, 1, 7)])
def test_random_numbers_are_those_of_torch(key: tuple[int | str, ...]) -> None:
    """Pieces of earlier versions were drawn with them."""
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    theirs = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    ours = Generator(*key)
    wanted = [float(torch.rand(1, generator=theirs, dtype=torch.float64)) for _ in range(700)]  # more than one twist
    assert [ours.uniform() for _ in range(700)] == wanted
