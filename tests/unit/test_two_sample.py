"""The two-sample test tells apart what differs, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from huesong.evaluate.quality import two_sample
from huesong.evaluate.quality.piece import Piece, on_grid, piece_of
from huesong.evaluate.quality.two_sample import Sample, balanced, fold_scores, roc_area, told_apart
from huesong.va import Bootstrap
from tests.unit.test_quality import A, B, random_piece, score_of, tune

QUICK = Bootstrap(200)


def tunes(count: int, seed: int) -> Sample:
    """Variations of a tune: its bars in another order, in another key."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        shift, form = int(rng.integers(12)), [A if rng.random() < 0.6 else B for _ in range(4)]
        made.append(tune(*[[(pitch + shift, length) for pitch, length in part] for part in form]))
    return Sample(made, [str(index) for index in range(count)])


def noise(count: int, seed: int) -> Sample:
    return Sample([random_piece(seed + index, 64) for index in range(count)], [str(index) for index in range(count)])


def test_the_area_under_the_curve_counts_pairs() -> None:
    label, score = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8, 0.3])
    pairs = [(score[i] > score[j]) + (score[i] == score[j]) / 2 for i in (2, 3, 4) for j in (0, 1)]
    assert roc_area(label, score) == pytest.approx(np.mean(pairs))
    assert roc_area(np.stack([label, 1 - label]), np.stack([score, score])).tolist() == pytest.approx(
        [np.mean(pairs), 1 - np.mean(pairs)]
    )
    assert np.isnan(roc_area(np.ones(3), score[:3]))


def test_noise_is_told_from_tunes_by_both_families() -> None:
    found = told_apart(noise(24, 0), tunes(24, 0), 30, QUICK)
    assert found["c2st_n"] == found["c2st_n_real"] == 24
    for family in two_sample.FAMILIES:
        assert found[f"c2st_{family}"] > 0.95
        assert found[f"c2st_{family}_low"] <= found[f"c2st_{family}"] <= found[f"c2st_{family}_high"]


def test_two_samples_of_the_same_tunes_are_not_told_apart() -> None:
    found = told_apart(tunes(30, 1), tunes(30, 2), 30, QUICK)
    for family in two_sample.FAMILIES:
        assert 0.25 < found[f"c2st_{family}"] < 0.75


def test_tempo_dynamics_and_small_timing_do_not_tell() -> None:
    slow = tune(A, B, tempo=110)
    rng = np.random.default_rng(0)
    notes = slow.notes
    bent = score_of(
        [(float(on + rng.uniform(0, 0.03)), float(end - on), int(p)) for on, end, p in
         zip(notes.onset_q, notes.end_q, notes.pitch, strict=True)]
    )  # fmt: skip
    one, other = (on_grid(piece) for piece in (slow, Piece(piece_of(bent).notes, slow.starts, slow.beats)))
    assert two_sample.words(one).split()[1:8] == two_sample.words(other).split()[1:8]


def test_no_group_is_on_both_sides_of_a_fold() -> None:
    """Labels drawn by group: who saw a group's other piece would know the label, who did not cannot."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 2)
    label = np.repeat(rng.integers(0, 2, 60), 2)
    rows = np.repeat(rng.normal(size=(60, 3)), 2, axis=0)
    score = fold_scores(rows, label, groups, two_sample._trees, 0)
    assert 0.3 < roc_area(label, score) < 0.7


def test_too_few_groups_are_not_tested() -> None:
    assert told_apart(tunes(4, 0), tunes(8, 1), 30, QUICK) == {}


def test_a_pool_has_equally_many_of_each_set() -> None:
    sources = ["a"] * 50 + ["b"] * 30 + ["c"] * 10
    rows = balanced(sources, 24, 0)
    assert [np.array(sources)[rows].tolist().count(name) for name in "abc"] == [8, 8, 8]
    assert len(balanced(sources, 90, 0)) == 30  # ten of each
    assert balanced(sources, 24, 0).tolist() == rows.tolist() != balanced(sources, 24, 1).tolist()
    assert len(balanced([], 5, 0)) == 0
