from __future__ import annotations

import numpy as np
import pytest
import torch

from huesong.datasets.examples import Examples
from huesong.model.network import HuesongNetwork, PictureShape
from huesong.model.picture_head import fit_picture_side, out_of_fold, ridge
from tests.tiny_training import NETWORK, SIZE, tiny_examples


def vague_examples(pieces: int = 160) -> Examples:
    """Pictures whose features tell only a part of their emotion."""
    examples = tiny_examples("features", pieces=pieces)
    rng = np.random.default_rng(1)
    pictures = examples.pictures
    pictures.va_I2[:] = rng.normal(0, 0.3, pictures.va_I2.shape)
    rows = rng.normal(0, 1, pictures.rows.shape)
    rows[:, :, :2] += pictures.va_I2[:, None] * 1.5
    pictures.rows = rows.astype(np.float16)
    examples.pairs.va_P2 = pictures.va_I2[examples.pairs.picture_P].astype(np.float32)
    return examples


def test_a_head_that_is_unsure_still_asks_for_the_whole_range() -> None:
    examples = vague_examples()
    network = HuesongNetwork(NETWORK, SIZE, PictureShape("features", 4, 4))
    fit_picture_side(network, examples)
    held = examples.pictures.split_I == "val"
    encoding = network.encode_picture(torch.from_numpy(examples.pictures.rows[held]))
    told, guessed, asked = (
        examples.pictures.va_I2[held].std(axis=0),
        encoding.va_B2.std(dim=0),
        encoding.request_B2.std(dim=0),
    )
    assert (guessed.numpy() < 0.85 * told).all(), "regression to the mean"
    assert asked.numpy() == pytest.approx(told, rel=0.35)
    assert (asked > 1.15 * guessed).all()
    order = encoding.va_B2[:, 0].argsort()
    assert (encoding.request_B2[order, 0].diff() >= 0).all(), "the map keeps the order of pictures"


def test_a_row_is_predicted_without_itself() -> None:
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(0, 1, (60, 4)), rng.normal(0, 1, (60, 2)), np.ones(60)
    found = out_of_fold(x, y, weight)
    kept = np.arange(60) % 5 != 2
    coefficients, intercept = ridge(x[kept], y[kept], weight[kept])
    assert found[2::5] == pytest.approx(x[2::5] @ coefficients + intercept)
    changed = y.copy()
    changed[7] += 9
    assert out_of_fold(x, changed, weight)[7] == pytest.approx(found[7])


def test_too_few_pictures_are_all_guessed_alike() -> None:
    found = out_of_fold(np.eye(4), np.array([[0.0, 1.0]] * 3 + [[0.4, 1.0]]), np.ones(4))
    assert found == pytest.approx(np.tile([0.1, 1.0], (4, 1)))
