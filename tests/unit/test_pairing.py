"""emotion.pairing: the map between the two sets, and balanced nearest neighbours."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from huesong.label.pairing import load_limit, pair
from huesong.label.va_map import VAMap
from huesong.runtime.errors import UserError
from tests.examples import examples

VALUES = st.floats(-1, 1, allow_nan=False, width=16)


def map_va(image_va: np.ndarray, music_va: np.ndarray, kind: str) -> np.ndarray:
    return VAMap.fit(image_va, music_va, kind).apply(image_va)


def sets(n: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.6, 0.5, (n, 2)), rng.uniform(-1, 1, (m, 2))


@given(
    arrays(np.float64, st.tuples(st.integers(1, 12), st.just(2)), elements=VALUES),
    arrays(np.float64, st.tuples(st.integers(1, 12), st.just(2)), elements=VALUES),
    st.integers(1, 6),
    st.sampled_from([1.0, 1.5, 3.0]),
)
@example(np.zeros((9, 2)), np.array([[0.0, 0], [0, 0], [1, 1], [1, 1]]), 3, 1.0)
@examples(150)
def test_pairs_are_distinct_balanced_and_sorted(
    pictures: np.ndarray, pieces: np.ndarray, k: int, max_load: float
) -> None:
    index, distance = pair(pictures, pieces, k, max_load)
    taken = min(k, len(pieces))
    assert index.shape == distance.shape == (len(pictures), taken)
    assert all(len(set(row)) == taken for row in index.tolist())
    assert (np.diff(distance, axis=1) >= 0).all()
    np.testing.assert_allclose(distance, np.linalg.norm(pieces[index] - pictures[:, None], axis=2))
    assert np.bincount(index.ravel()).max() <= load_limit(len(pictures), len(pieces), taken, max_load)


def test_without_crowding_it_is_the_nearest_neighbours() -> None:
    pictures, pieces = sets(20, 300)
    index, distance = pair(pictures, pieces, 5, max_load=1000)
    every = np.linalg.norm(pieces - pictures[:, None], axis=2)
    np.testing.assert_allclose(distance, np.sort(every, axis=1)[:, :5])
    np.testing.assert_array_equal(np.sort(every, axis=1)[:, :5], np.take_along_axis(every, index, axis=1))


def test_a_crowd_spreads_over_the_pieces() -> None:
    pictures, (_, pieces) = np.full((100, 2), 0.3), sets(1, 200)
    index, _ = pair(pictures, pieces, 4, max_load=2.0)
    assert np.bincount(index.ravel()).max() == 4  # twice the fair share of 100 * 4 / 200
    nearest = np.argsort(np.linalg.norm(pieces - 0.3, axis=1))[:100]
    assert set(index.ravel()) == set(nearest)


def test_the_same_input_gives_the_same_pairs() -> None:
    pictures, pieces = sets(60, 90)
    first, second = pair(pictures, pieces, 6, 1.5), pair(pictures.copy(), pieces.copy(), 6, 1.5)
    np.testing.assert_array_equal(first[0], second[0])


def test_many_pictures_and_pieces() -> None:
    pictures, pieces = sets(10_000, 20_000)
    index, distance = pair(map_va(pictures, pieces, "rank"), pieces, 4, 3.0)
    assert index.shape == (10_000, 4)
    assert np.bincount(index.ravel()).max() <= load_limit(10_000, 20_000, 4, 3.0)
    assert distance.mean() < 0.02


@pytest.mark.parametrize(("k", "max_load"), [(0, 2.0), (2, 0.5)])
def test_senseless_settings(k: int, max_load: float) -> None:
    with pytest.raises(ValueError, match="k >= 1"):
        pair(*sets(3, 3), k, max_load)


def test_nothing_to_pair() -> None:
    assert pair(np.zeros((0, 2)), np.zeros((4, 2)), 3, 2.0)[0].shape == (0, 3)
    assert pair(np.zeros((4, 2)), np.zeros((0, 2)), 3, 2.0)[0].shape == (4, 0)


def test_none_changes_nothing_even_beyond_the_fitted_pictures() -> None:
    pictures, music = sets(30, 40)
    fitted = VAMap.fit(pictures * 0.1, music, "none")
    np.testing.assert_array_equal(fitted.apply(pictures), pictures)


def test_affine_gives_the_musics_mean_and_spread() -> None:
    rng = np.random.default_rng(0)
    pictures, music = rng.normal(-0.1, 0.1, (500, 2)), rng.normal(0.1, 0.2, (500, 2))
    mapped = map_va(pictures, music, "affine")
    np.testing.assert_allclose(mapped.mean(axis=0), music.mean(axis=0), atol=5e-3)
    np.testing.assert_allclose(mapped.std(axis=0), music.std(axis=0), rtol=0.03)


def test_rank_gives_the_musics_distribution() -> None:
    pictures, music = sets(400, 500)
    mapped = map_va(pictures, music, "rank")
    shares = np.linspace(0.05, 0.95, 10)
    np.testing.assert_allclose(np.quantile(mapped, shares, axis=0), np.quantile(music, shares, axis=0), atol=0.01)
    assert mapped[:, 1].max() > 0.95 > pictures[:, 1].max()


@given(
    arrays(np.float64, st.tuples(st.integers(1, 15), st.just(2)), elements=VALUES),
    arrays(np.float64, st.tuples(st.integers(1, 15), st.just(2)), elements=VALUES),
    st.sampled_from(["none", "affine", "rank"]),
)
def test_every_map_is_monotone_and_stays_in_the_plane(pictures: np.ndarray, music: np.ndarray, kind: str) -> None:
    fitted = VAMap.fit(pictures, music, kind)
    line = np.repeat(np.linspace(-1, 1, 41)[:, None], 2, axis=1)
    mapped = fitted.apply(line)
    assert (np.diff(mapped, axis=0) >= -1e-12).all()
    assert np.abs(mapped).max() <= 1
    if kind == "rank":
        assert (mapped.min(axis=0) >= music.min(axis=0) - 1e-12).all()
        assert (mapped.max(axis=0) <= music.max(axis=0) + 1e-12).all()


def test_equal_pictures_stay_equal() -> None:
    pictures = np.array([[0.1, 0.1], [0.1, 0.1], [0.4, -0.2]])
    mapped = map_va(pictures, sets(1, 50)[1], "rank")
    np.testing.assert_array_equal(mapped[0], mapped[1])
    assert mapped[2, 0] > mapped[0, 0]
    assert mapped[2, 1] < mapped[0, 1]


def test_pictures_all_alike_go_to_the_middle_of_the_music() -> None:
    music = sets(1, 101)[1]
    np.testing.assert_allclose(map_va(np.full((5, 2), 0.2), music, "affine"), np.tile(music.mean(axis=0), (5, 1)))
    np.testing.assert_allclose(map_va(np.full((5, 2), 0.2), music, "rank"), np.tile(np.median(music, axis=0), (5, 1)))


def test_bad_maps() -> None:
    with pytest.raises(UserError, match="none, affine or rank"):
        map_va(*sets(3, 3), "linear")
    with pytest.raises(UserError, match="needs pictures and music"):
        map_va(np.zeros((0, 2)), np.zeros((3, 2)), "rank")
