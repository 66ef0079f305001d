from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from huesong.emotion.kernel import PictureKernelVA
from huesong.label.picture_reader import out_of_fold, thinned
from huesong.model.dataset import Examples
from huesong.model.decoding.decoder import Decoder
from huesong.model.image_encoder import KernelRidgeHead
from huesong.model.network import HuesongNetwork
from huesong.runtime.errors import UserError
from huesong.train.picture_head import picture_shape, set_image_encoder
from tests.tiny_training import NETWORK, SIZE, tiny_examples, with_reader


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
    return with_reader(examples)


def fitted(examples: Examples) -> HuesongNetwork:
    network = HuesongNetwork(NETWORK, SIZE, picture_shape(examples))
    set_image_encoder(network, examples)
    return network


def test_a_head_that_is_unsure_still_asks_for_the_whole_range() -> None:
    examples = vague_examples()
    network = fitted(examples)
    held = examples.pictures.split_I == "val"
    encoding = Decoder.of(network).encode_picture(examples.pictures.rows[held])
    told, guessed, asked = (
        examples.pictures.va_I2[held].std(axis=0),
        encoding.va_B2.std(axis=0, ddof=1),
        encoding.request_B2.std(axis=0, ddof=1),
    )
    assert (guessed < 0.85 * told).all(), "regression to the mean"
    assert asked == pytest.approx(told, rel=0.35)
    assert (asked > 1.15 * guessed).all()
    order = encoding.va_B2[:, 0].argsort()
    assert (np.diff(encoding.request_B2[order, 0]) >= 0).all(), "the map keeps the order of pictures"


def test_a_row_is_predicted_without_itself() -> None:
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(0, 1, (60, 4)), rng.normal(0, 1, (60, 2)), np.ones(60)
    found = out_of_fold(x, y, weight)
    kept = np.arange(60) % 5 != 2
    head = PictureKernelVA.fit(x[kept], y[kept], weight[kept])
    assert found[2::5] == pytest.approx(head.predict(x[2::5]))
    changed = y.copy()
    changed[7] += 9
    assert out_of_fold(x, changed, weight)[7] == pytest.approx(found[7])


def test_too_few_pictures_are_all_guessed_alike() -> None:
    found = out_of_fold(np.eye(4), np.array([[0.0, 1.0]] * 3 + [[0.4, 1.0]]), np.ones(4))
    assert found == pytest.approx(np.tile([0.1, 1.0], (4, 1)))


def test_the_head_is_kernel_ridge_regression() -> None:
    rng = np.random.default_rng(3)
    x, y, weight = rng.normal(0, 2, (50, 6)), rng.normal(0, 0.4, (50, 2)), rng.uniform(0.5, 2, 50)
    fit = PictureKernelVA.fit(x, y, weight)
    head = KernelRidgeHead(50, 6)
    parts = (fit.mean_F, fit.scale_F, fit.known_KF, fit.dual_K2, fit.centre)
    for buffer, values in zip(head.buffers(), parts, strict=True):
        buffer.copy_(torch.from_numpy(values))
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
    far = np.random.default_rng(4).normal(0, 100, (20, 6))  # beyond the cut on most channels
    for others in (new, far, np.full((1, 6), 1e6)):
        assert head(torch.from_numpy(others)).numpy() == pytest.approx(fit.predict(others), abs=1e-5)
    assert head(torch.full((1, 6), 1e6)).numpy() == pytest.approx(centre[None], abs=0.2), (
        "far from all: nearly the mean"
    )


def test_a_head_of_another_size_is_refused() -> None:
    examples = vague_examples()
    network = HuesongNetwork(NETWORK, SIZE, picture_shape(examples))
    examples.reader["va_head.known_KC"] = np.ones((5, 4), np.float32)
    with pytest.raises(UserError, match=r"`va_head.known_KC` is \[128, 4\], not \[5, 4\]: run `huesong label`"):
        set_image_encoder(network, examples)


def test_of_many_rated_pictures_a_part_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huesong.label.picture_reader.MOST_KEPT", 40)
    rows = thinned(np.arange(100, 228))
    assert len(np.unique(rows)) == 40
    assert (rows[0], rows[-1]) == (100, 227)
    assert fitted(vague_examples()).picture.va_head.known_KC.shape == (40, 4)


def test_pictures_outside_the_training_split_are_not_fitted_to() -> None:
    examples = vague_examples()
    before = examples.reader
    examples.pictures.va_I2[examples.pictures.split_I == "val"] += 0.3
    for name, values in with_reader(examples).reader.items():
        np.testing.assert_array_equal(values, before[name])


def test_without_ratings_every_picture_is_neutral() -> None:
    examples = vague_examples()
    examples.pictures.rated_I[:] = 0
    encoding = fitted(with_reader(examples)).encode_picture(torch.from_numpy(examples.pictures.rows[:5]))
    assert encoding.va_B2.abs().max() == 0
