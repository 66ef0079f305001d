from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from huesong.model.dataset import Examples
from huesong.model.image_encoder import KernelHead, kernel_head, out_of_fold
from huesong.model.network import HuesongNetwork, PictureShape
from huesong.runtime.errors import UserError
from huesong.train import picture_head
from huesong.train.picture_head import fit_picture_side, rated_pictures
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


def fitted(examples: Examples) -> HuesongNetwork:
    rows = examples.pictures.rows.shape[1:]
    network = HuesongNetwork(NETWORK, SIZE, PictureShape.of(rows, rated=len(rated_pictures(examples))))
    fit_picture_side(network, examples)
    return network


def test_a_head_that_is_unsure_still_asks_for_the_whole_range() -> None:
    examples = vague_examples()
    network = fitted(examples)
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
    head = kernel_head(x[kept], y[kept], weight[kept])
    assert found[2::5] == pytest.approx(head(torch.from_numpy(x[2::5])).numpy())
    changed = y.copy()
    changed[7] += 9
    assert out_of_fold(x, changed, weight)[7] == pytest.approx(found[7])


def test_too_few_pictures_are_all_guessed_alike() -> None:
    found = out_of_fold(np.eye(4), np.array([[0.0, 1.0]] * 3 + [[0.4, 1.0]]), np.ones(4))
    assert found == pytest.approx(np.tile([0.1, 1.0], (4, 1)))


def test_the_head_is_kernel_ridge_regression() -> None:
    rng = np.random.default_rng(3)
    x, y, weight = rng.normal(0, 2, (50, 6)), rng.normal(0, 0.4, (50, 2)), rng.uniform(0.5, 2, 50)
    head = kernel_head(x, y, weight)
    root = np.sign(x) * np.sqrt(np.abs(x))
    u = (root - root.mean(axis=0)) / root.std(axis=0)
    centre = np.average(y, axis=0, weights=weight)
    theirs = KernelRidge(alpha=0.3, kernel="rbf", gamma=1 / 6)
    theirs.fit(u, y - centre, sample_weight=weight / weight.mean())
    new = rng.normal(0, 2, (9, 6))
    seen = (np.sign(new) * np.sqrt(np.abs(new)) - root.mean(axis=0)) / root.std(axis=0)
    assert head(torch.from_numpy(new)).numpy() == pytest.approx(theirs.predict(seen) + centre, abs=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head(torch.from_numpy(new)).numpy() == pytest.approx(theirs.predict(seen) + centre, abs=1e-5)
    assert head(torch.full((1, 6), 1e6)).numpy() == pytest.approx(centre[None], abs=0.2), (
        "far from all: nearly the mean"
    )


def test_a_head_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match=r"keeps \[3, 4\] features, not \[5, 4\]"):
        KernelHead(3, 4).fit(np.ones((5, 4)), np.zeros((5, 2)), np.ones(5))


def test_of_many_rated_pictures_a_part_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_head, "MOST_KEPT", 40)
    monkeypatch.setattr("huesong.model.image_encoder.MOST_KEPT", 40)
    examples = vague_examples()
    rows = rated_pictures(examples)
    assert len(np.unique(rows)) == 40
    assert (examples.pictures.split_I[rows] == "train").all()
    assert fitted(examples).picture.va_head.known_KC.shape == (40, 4)


def test_without_ratings_every_picture_is_neutral() -> None:
    examples = vague_examples()
    examples.pictures.rated_I[:] = 0
    encoding = fitted(examples).encode_picture(torch.from_numpy(examples.pictures.rows[:5]))
    assert encoding.va_B2.abs().max() == 0
