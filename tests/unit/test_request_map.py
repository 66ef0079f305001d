"""What is asked of the music for a picture: the maps that `label.request_map` names."""

from __future__ import annotations

import numpy as np
import pytest

from huesong.label.picture_reader import picture_reader
from huesong.label.va_map import KNOTS, request_map
from huesong.runtime.errors import UserError
from huesong.va import mae


def readings(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Readings that tell a part of people's ratings, drawn towards the mean as a ridge's are."""
    rng = np.random.default_rng(0)
    rated = np.clip(rng.normal((0.1, -0.1), (0.4, 0.25), (n, 2)), -1, 1)
    return (0.2 * (rated - rated.mean(axis=0)) + rng.normal(0, 0.06, (n, 2)) + 0.05), rated


def test_each_map_does_what_its_name_says() -> None:
    read, rated = readings()
    maps = {kind: request_map(kind, read, rated) for kind in ("identity", "shrunk", "people")}
    asked = {kind: own.apply(read) for kind, own in maps.items()}
    assert asked["identity"] == pytest.approx(np.clip(read, -1, 1), abs=1e-9)
    assert asked["people"].std(axis=0) == pytest.approx(rated.std(axis=0), rel=0.05)
    assert asked["people"].mean(axis=0) == pytest.approx(rated.mean(axis=0), abs=0.02)
    slope = [np.polyfit(read[:, axis], rated[:, axis], 1)[0] for axis in range(2)]
    line = rated.mean(axis=0) + np.array(slope) * (read - read.mean(axis=0))
    assert asked["shrunk"] == pytest.approx(np.clip(line, -1, 1), abs=1e-6)
    errors = {kind: ((va - rated) ** 2).mean() for kind, va in asked.items()}
    assert errors["shrunk"] < min(errors["identity"], errors["people"])
    for own in maps.values():
        for start, end in own.knots:
            assert len(start) == len(end) == KNOTS
            assert (np.diff(start) >= 0).all()
            assert (np.diff(end) >= 0).all(), "the order of pictures is kept"
            assert np.abs(end).max() <= 1
        beyond = own.apply(np.array([[-1.0, -1.0], [1.0, 1.0]]))
        assert (beyond[1] > own.apply(read).max(axis=0) - 1e-9).all(), "a clearer picture than all known asks for more"
    middle = maps["people"].knots[0][1][KNOTS // 2]
    assert middle == pytest.approx(np.median(asked["people"][:, 0]), abs=0.02), "neutral is the median picture"
    with pytest.raises(UserError, match="identity, shrunk, people or rank"):
        request_map("magic", read, rated)


@pytest.mark.parametrize("grouped", [True, False])
def test_label_fits_the_map_that_is_asked_for(grouped: bool) -> None:
    """On pictures whose features tell only a part, what is asked is nearer to people than after the map by ranks."""
    rng = np.random.default_rng(1)
    n = 300
    va = rng.normal((0.1, -0.1), (0.3, 0.2), (n, 2)).clip(-1, 1)
    rows = rng.normal(0, 1, (n, 2, 6))
    rows[:, :, :2] += 4 * va[:, None]
    split = np.where(np.arange(n) % 5 == 0, "val", "train")
    themes = (np.arange(n) // 5).astype(str)  # a validation picture's theme is known here: only the map is looked at
    music = rng.uniform(-0.9, 0.9, (n, 2))  # where the pairing's map led
    pairs = np.arange(n)
    asked = {}
    for kind in ("rank", "shrunk", "people"):
        reader = picture_reader(rows, va, np.ones(n), split, pairs, split, music, themes if grouped else None, kind)
        held = split == "val"
        from huesong.emotion.kernel import PictureKernelVA

        head = PictureKernelVA.fit(rows[~held].mean(axis=1), va[~held], np.ones((~held).sum()))
        read = head.predict(rows[held].mean(axis=1))
        asked[kind] = np.stack(
            [np.interp(read[:, k], reader["map_from_K2"][:, k], reader["map_to_K2"][:, k]) for k in range(2)], axis=1
        )
    for axis in range(2):
        truth = va[split == "val"][:, axis]
        assert mae(truth, asked["shrunk"][:, axis]) < 0.8 * mae(truth, asked["rank"][:, axis])
        assert asked["people"][:, axis].std() == pytest.approx(truth.std(), rel=0.3)
        assert asked["rank"][:, axis].std() > 1.5 * truth.std(), "the music's range"
