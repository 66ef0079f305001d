"""emotion.space: quadrants, agreement and its intervals."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from huesong import va as space

VALUES = st.floats(-1, 1, allow_nan=False, width=32)


def points(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, 2))


@pytest.mark.parametrize(
    ("valence", "arousal", "number"),
    [(0.5, 0.5, 1), (-0.5, 0.5, 2), (-0.5, -0.5, 3), (0.5, -0.5, 4), (0.0, 0.0, 1), (-0.1, 0.0, 2), (0.0, -0.1, 4)],
)
def test_quadrants_are_counted_anticlockwise_and_zero_is_positive(valence: float, arousal: float, number: int) -> None:
    assert space.quadrant(valence, arousal) == number


def test_ccc_is_lins() -> None:
    x, y = np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])
    # var = 2/3 each, cov = 2/3, shift 1: 2 * 2/3 / (4/3 + 1)
    assert space.ccc(x, y) == pytest.approx(4 / 7)
    assert space.pearson(x, y) == pytest.approx(1.0)
    assert space.ccc(x, x) == pytest.approx(1.0)


@given(arrays(np.float64, (7,), elements=VALUES), arrays(np.float64, (7,), elements=VALUES))
def test_ccc_never_exceeds_r(x: np.ndarray, y: np.ndarray) -> None:
    r, c = float(space.pearson(x, y)), float(space.ccc(x, y))
    if np.isfinite(r) and np.isfinite(c):
        assert abs(c) <= abs(r) + 1e-9
    if np.isfinite(c):
        assert float(space.ccc(y, x)) == pytest.approx(c)


def test_perfect_agreement() -> None:
    wanted = points(50)
    found = space.agreement(wanted, wanted, space.Bootstrap(100))
    assert found["n"] == 50
    assert found["valence_mae"] == 0
    assert found["arousal_ccc"] == pytest.approx(1)
    assert found["quadrant_accuracy"] == found["valence_half_accuracy"] == 1
    assert sum(found[f"confusion_{i}_{i}"] for i in (1, 2, 3, 4)) == 50


def test_intervals_hold_the_figure_and_shrink_with_n() -> None:
    widths = []
    for n in (40, 640):
        wanted = points(n)
        found = space.agreement(wanted, 0.5 * wanted + 0.4 * points(n, 1), space.Bootstrap(400))
        for key in ("valence_mae", "valence_r", "arousal_ccc", "quadrant_accuracy"):
            assert found[f"{key}_low"] <= found[key] <= found[f"{key}_high"]
        widths.append(found["valence_r_high"] - found["valence_r_low"])
    assert widths[1] < widths[0] / 2


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        drawn = np.random.default_rng(seed).normal(0.3, 1.0, 60)
        low, high = space.Bootstrap(300, seed).interval(lambda x: x.mean(axis=-1), drawn) or (9, 9)
        hits += low <= 0.3 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_more_pieces_of_the_same_pictures_do_not_narrow_the_interval() -> None:
    wanted = points(40)
    got = 0.5 * wanted + 0.4 * points(40, 1)
    once = space.agreement(wanted, got, space.Bootstrap(300, groups=np.arange(40)))
    assert once == space.agreement(wanted, got, space.Bootstrap(300)), "groups of one are items alone"
    copies = (np.repeat(wanted, 5, axis=0), np.repeat(got, 5, axis=0))
    five = space.agreement(*copies, space.Bootstrap(300, groups=np.repeat([f"picture {k}" for k in range(40)], 5)))
    alone = space.agreement(*copies, space.Bootstrap(300))
    for key in ("valence_mae", "valence_r", "arousal_ccc", "quadrant_accuracy", "valence_half_accuracy"):
        assert five[key] == alone[key] == pytest.approx(once[key])
        for end in ("low", "high"):
            assert five[f"{key}_{end}"] == pytest.approx(once[f"{key}_{end}"])
        narrow, wide = (found[f"{key}_high"] - found[f"{key}_low"] for found in (alone, five))
        assert narrow < 0.7 * wide


def test_groups_of_different_sizes_are_drawn_whole() -> None:
    groups = np.array(["b", "a", "b", "c", "b"])
    for index in space._resamples(space._in_order(groups), 50, np.random.default_rng(0)):
        for row in index:
            counts = np.bincount(row, minlength=5)
            assert counts[0] == counts[2] == counts[4]
            assert counts[0] + counts[1] + counts[3] == 3, "as many groups as there are"
    assert space.Bootstrap(groups=np.zeros(5)).interval(lambda x: x.mean(axis=-1), np.arange(5.0)) is None
    level = space.levels(np.zeros(4), np.arange(4.0), space.Bootstrap(100, groups=np.zeros(4)))[0]
    assert (level.n, level.mean, level.interval) == (4, 1.5, None)


def test_same_seed_same_figures() -> None:
    wanted, got = points(30), points(30, 1)
    assert space.agreement(wanted, got, space.Bootstrap(200, 3)) == space.agreement(
        wanted, got, space.Bootstrap(200, 3)
    )
    assert space.agreement(wanted, got, space.Bootstrap(200, 3)) != space.agreement(
        wanted, got, space.Bootstrap(200, 4)
    )


@pytest.mark.parametrize("n", [0, 1, 2, 30])
@pytest.mark.parametrize("constant", ["neither", "requested", "obtained", "both"])
def test_what_is_undefined_is_left_out_and_json_can_hold_the_rest(n: int, constant: str) -> None:
    wanted, got = points(n), points(n, 1)
    if constant in ("requested", "both"):
        wanted[:] = 0.25
    if constant in ("obtained", "both"):
        got[:] = 0.25
    found = space.agreement(wanted, got, space.Bootstrap(100))
    json.dumps(found, allow_nan=False)
    assert found["n"] == n
    assert ("valence_r" in found) == (n > 1 and constant == "neither")
    if n > 1 and constant in ("requested", "obtained"):
        assert found["valence_ccc"] == 0
    assert ("valence_mae_low" in found) == (n > 1)


def test_requests_on_an_axis_have_no_quadrant() -> None:
    wanted = np.array([[0.0, 0.5], [0.5, 0.5], [-0.5, -0.5]])
    got = np.array([[-0.9, 0.9], [0.2, 0.1], [0.3, -0.2]])
    found = space.agreement(wanted, got, space.Bootstrap(100))
    assert found["quadrant_n"] == 2
    assert found["quadrant_accuracy"] == 0.5
    assert found["valence_half_accuracy"] == 0.5
    assert found["arousal_half_accuracy"] == 1
    assert found["confusion_3_4"] == 1


def test_memory_stays_flat_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, got = points(20), points(20, 1)
    whole = space.agreement(wanted, got, space.Bootstrap(100))
    monkeypatch.setattr(space, "_BLOCK", 40)  # two resamples at once
    assert space.agreement(wanted, got, space.Bootstrap(100)) == whole


def test_points_are_cut_to_the_plane() -> None:
    assert space.clip_va(np.array([[2.0, -3.0]])).tolist() == [[1.0, -1.0]]


def test_agreement_refuses_gaps_and_other_shapes() -> None:
    with pytest.raises(ValueError, match="finite"):
        space.agreement(np.array([[np.nan, 0]]), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="two arrays"):
        space.agreement(np.zeros((2, 2)), np.zeros((3, 2)))


def test_levels_of_a_grid_are_its_values() -> None:
    asked = np.repeat([0.8, -0.4], 10)
    got = np.concatenate([np.linspace(0.2, 0.4, 10), np.full(10, -0.1)])
    low, high = space.levels(asked, got, space.Bootstrap(200))
    assert (low.requested, low.n, low.mean, low.interval) == (
        -0.4,
        10,
        pytest.approx(-0.1),
        pytest.approx((-0.1, -0.1)),
    )
    assert (high.requested, high.mean) == (0.8, pytest.approx(0.3))
    assert high.interval is not None
    assert 0.2 < high.interval[0] < 0.3 < high.interval[1] < 0.4
    assert space.levels(np.array([0.5]), np.array([0.1]))[0].interval is None
    assert space.levels(np.zeros(0), np.zeros(0)) == []


def test_many_requests_make_tenths() -> None:
    asked = np.linspace(-1, 1, 100)
    found = space.levels(asked, asked / 2, space.Bootstrap(100))
    assert [level.n for level in found] == [10] * 10
    for level in found:
        assert level.mean == pytest.approx(level.requested / 2)
    # A value that most requests share takes several quantiles: fewer levels, none lost.
    clumped = np.concatenate([np.zeros(60), np.linspace(0.1, 1, 40)])
    assert sum(level.n for level in space.levels(clumped, clumped, space.Bootstrap(100))) == 100


def test_agreement_figures() -> None:
    wanted = np.array([[-1.0, 0.0], [0.0, 0.5], [1.0, 1.0]])
    same = space.agreement_figures(wanted, wanted, "val_")
    assert same["val_valence_r"] == pytest.approx(1)
    assert same["val_arousal_ccc"] == pytest.approx(1)
    assert same["val_valence_mae"] == 0
    moved = space.agreement_figures(wanted, wanted + 1)
    assert moved["valence_r"] == pytest.approx(1)
    assert moved["valence_ccc"] == pytest.approx(2 * (2 / 3) / (2 / 3 + 2 / 3 + 1))
    assert space.agreement_figures(wanted, np.zeros_like(wanted)).keys() == {"valence_mae", "arousal_mae"}


def test_quadrants_by_medians_forgive_a_shift_and_a_stretch() -> None:
    v, a = np.random.default_rng(0).uniform(-1, 1, (2, 41))
    assert space.same_quadrant_by_medians(v, a, 0.2 * v + 0.7, a - 0.9) == 1
    # Both sides turned round: only what lies on a median, which counts as below it, stays where it is.
    assert space.same_quadrant_by_medians(v, a, -v, -a) <= 2 / 41
    rows = np.stack([v, v[::-1]])
    shares = space.same_quadrant_by_medians(rows, rows, rows, rows)
    assert shares.shape == (2,)
    assert (shares == 1).all()


def test_a_constant_is_no_worse_than_itself_and_any_guess_is_held_against_the_best_one() -> None:
    truth = np.array([-0.5, 0.0, 0.1, 0.9])
    assert space.beyond_a_constant(truth, np.full(4, 0.05)) == pytest.approx(0)
    assert space.beyond_a_constant(truth, truth) == pytest.approx(-0.375)
    assert space.beyond_a_constant(truth, -truth) == pytest.approx(0.75 - 0.375)
