"""How sure a reading is: the variance is a Gaussian process's, four of five ratings lie within, words mean what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from huesong.emotion.certainty import FAIRLY, SURE, Certainty, Distance
from huesong.runtime.errors import UserError

N = 4000


def world(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Readings drawn towards the mean, variances, and ratings that scatter; those of arousal the more, the larger it is."""
    rng = np.random.default_rng(seed)
    read_N2, variance_N = rng.uniform(-0.3, 0.3, (N, 2)), rng.uniform(0.2, 0.9, N)
    sd_N2 = np.stack([np.full(N, 0.2), np.exp(-3 + 1.5 * variance_N)], axis=1)
    return read_N2, variance_N, 0.1 + 1.5 * read_N2 + rng.normal(0, sd_N2)


def test_four_of_five_ratings_lie_within_and_words_mean_what_they_say() -> None:
    found = Certainty.fit(*world(0), themes=7)
    read_N2, variance_N, va_N2 = world(1)
    said = [found.of(read, variance) for read, variance in zip(read_N2, variance_N, strict=True)]
    for axis in range(2):
        inside = np.array([one[axis].low <= v <= one[axis].high for one, v in zip(said, va_N2[:, axis], strict=True)])
        wide = variance_N > np.median(variance_N)
        assert abs(inside[wide].mean() - 0.8) < 0.04
        assert abs(inside[~wide].mean() - 0.8) < 0.04
        right = np.array([one[axis].middle * v > 0 for one, v in zip(said, va_N2[:, axis], strict=True)])
        words = np.array([one[axis].word for one in said])
        assert right[words == "sure"].mean() > SURE
        assert FAIRLY - 0.03 < right[words == "fairly sure"].mean() < SURE + 0.03
        assert right[words == "unsure"].mean() < FAIRLY + 0.03
    assert np.allclose(found.slope, 1.5, atol=0.05)
    assert np.allclose(found.intercept, 0.1, atol=0.05)
    assert found.rise[0] < 0.3 < 1.2 < found.rise[1] < 1.8


def test_the_variance_is_that_of_a_gaussian_process() -> None:
    rng = np.random.default_rng(2)
    known_KC, new_NC = rng.normal(size=(30, 6)), rng.normal(size=(9, 6))
    process = GaussianProcessRegressor(RBF(np.sqrt(3), "fixed"), alpha=0.3, optimizer=None)
    process.fit(known_KC, rng.normal(size=30))
    _, sd_N = process.predict(new_NC, return_std=True)
    distance = Distance(known_KC, 0.3)
    assert np.allclose(distance.variance(new_NC), sd_N**2, atol=1e-9)
    assert distance.variance(known_KC).max() < distance.variance(known_KC + 50).min() == pytest.approx(1.0)


def test_readings_that_say_nothing_are_unsure() -> None:
    rng = np.random.default_rng(3)
    found = Certainty.fit(np.zeros((50, 2)), np.full(50, 0.5), rng.uniform(-0.8, 0.8, (50, 2)), themes=5)
    valence, arousal = found.of(np.zeros(2), 0.5)
    assert valence.word == arousal.word == "unsure"
    assert -1 <= valence.low < -0.3 < 0.3 < valence.high <= 1


def test_a_file_is_read_back_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "certainty.json"
    found = Certainty.fit(*world(0), themes=7)
    found.save(path)
    assert Certainty.load(path) == found
    good = json.loads(path.read_text())
    for change in ({"format": 9}, {"slope": [1.0]}, {"level": ["x", 1]}, {"rise": [float("nan"), 0]}, {"rise": None}):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(UserError, match=r"is damaged .*huesong pictures fit") as caught:
            Certainty.load(path)
        assert "\n" not in str(caught.value)
    path.write_text("[]")
    with pytest.raises(UserError, match="is damaged"):
        Certainty.load(path)
