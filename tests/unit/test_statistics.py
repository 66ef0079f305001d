"""Statistics against values worked out by hand, against a plain re-count, and against the real set's figures."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gaussian_kde
from symusic import Note, Score, Tempo, Track

from huesong.music import statistics as module
from huesong.music.reading import Unusable, clean, read_score
from huesong.music.statistics import (
    MGEVAL_NAMES,
    SCALAR_STATISTICS,
    STATISTIC_NAMES,
    VECTOR_COLUMNS,
    VECTOR_STATISTICS,
    compare,
    entropy,
    groove_consistency,
    kl_divergence,
    overlapping_area,
    statistics,
)
from huesong.va import Bootstrap
from tests.examples import examples


def piece(notes: list[tuple[int, int, int, int]]) -> Score:
    score = Score(480)
    score.tempos.append(Tempo(0, 120))
    score.tracks.append(Track(program=0))
    for note in notes:
        score.tracks[0].notes.append(Note(*note))
    return score


def test_names() -> None:
    assert tuple(statistics(piece([(0, 480, 60, 80)]))) == STATISTIC_NAMES
    assert len(MGEVAL_NAMES) == 9
    assert set(MGEVAL_NAMES) <= {*SCALAR_STATISTICS, *VECTOR_STATISTICS}
    assert set(statistics(Score(480)).values()) == {0.0}


def test_values_by_hand() -> None:
    # Bar 1: C major triad for two quarters, one quarter's rest, E for one quarter. Bar 2: C and c for four quarters.
    triad = [(0, 960, 60, 80), (0, 960, 64, 80), (0, 960, 67, 80)]
    found = statistics(piece([*triad, (1440, 480, 64, 80), (1920, 1920, 60, 80), (1920, 1920, 72, 80)]))
    assert found["polyphony_rate"] == pytest.approx(2 / 8)
    assert found["polyphony"] == pytest.approx((2 * 3 + 1 + 4 * 2) / 7)
    assert found["pitch_entropy"] == pytest.approx(entropy(np.array([2, 2, 1, 1])))
    assert found["pitch_class_entropy"] == pytest.approx(entropy(np.array([3, 2, 1])))
    assert found["scale_consistency"] == 1
    # muspy counts the beat in which the piece ends: 9 beats, of which none is empty, as ends reach into the next beat.
    assert found["empty_beat_rate"] == 0
    assert found["groove"] == pytest.approx(1 - 1 / 16)  # bar 1 has an onset on its fourth beat, bar 2 has not
    assert found["pitch_count"] == 4
    assert found["pitch_range"] == 12
    assert found["pitch_interval"] == pytest.approx((4 + 3 + 3 + 4 + 12) / 5)
    assert found["note_count"] == 6
    assert found["onset_interval"] == pytest.approx(2.0 / 5)
    assert found["pitch_class_histogram_0"] == pytest.approx(3 / 6)
    assert found["note_length_histogram_1"] == pytest.approx(3 / 6)  # half notes
    assert found["pitch_class_transitions_55"] == pytest.approx(1 / 5)  # E to G
    for columns in VECTOR_COLUMNS.values():
        assert sum(found[column] for column in columns) == pytest.approx(1)


def test_an_empty_beat_is_counted() -> None:
    assert statistics(piece([(0, 480, 60, 80), (480 * 3, 100, 60, 80)]))["empty_beat_rate"] == pytest.approx(1 / 4)


def test_a_chromatic_scale_fits_no_scale_well() -> None:
    assert statistics(piece([(i * 480, 480, 60 + i, 80) for i in range(12)]))["scale_consistency"] == pytest.approx(
        7 / 12
    )


@examples(60)
@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.integers(1, 900), st.integers(55, 66), st.just(80)), min_size=1, max_size=30
    )
)
def test_against_a_plain_count_over_all_ticks(notes: list[tuple[int, int, int, int]]) -> None:
    found = statistics(piece(notes))
    end = max(onset + length for onset, length, _, _ in notes)
    roll = np.zeros((end, 128), bool)
    for onset, length, pitch, _ in notes:
        roll[onset : onset + length, pitch] = True
    sounding = roll.sum(axis=1)
    assert found["polyphony_rate"] == pytest.approx((sounding > 2).mean())
    assert found["polyphony"] == pytest.approx(sounding[sounding > 0].mean())
    for steps, measures, got in ((4, end // 4 + 1, found["groove_paper"]), (16, None, found["groove"])):
        onsets = (
            np.array([n[0] for n in notes])
            if steps == 4
            else np.round(np.array([n[0] for n in notes]) / 120).astype(int)
        )
        measures = measures or onsets.max() // steps + 1
        grid = np.zeros((measures, steps), bool)
        grid.reshape(-1)[onsets] = True
        assert got == pytest.approx(1 - (grid[1:] != grid[:-1]).mean() if measures > 1 else 1.0)
    assert all(math.isfinite(value) for value in found.values())


def test_groove_of_a_repeated_bar_is_one() -> None:
    assert groove_consistency(np.array([0, 3, 16, 19, 32, 35]), 16) == 1
    assert groove_consistency(np.array([0, 17]), 16) == pytest.approx(1 - 2 / 16)
    assert groove_consistency(np.array([5]), 16) == 1


def test_overlap_and_divergence() -> None:
    rng = np.random.default_rng(0)
    a, near, far = rng.normal(0, 1, 1500), rng.normal(0.1, 1, 1500), rng.normal(9, 1, 1500)
    assert overlapping_area(a, a) == pytest.approx(1)
    assert kl_divergence(a, a) == pytest.approx(0, abs=1e-9)
    assert overlapping_area(a, near) > 0.9 > 0.01 > overlapping_area(a, far)
    assert kl_divergence(a, near) < 0.05 < 5 < kl_divergence(a, far)
    # Two unit bells two deviations apart overlap by 2 * Phi(-1).
    assert overlapping_area(a, rng.normal(2, 1, 1500)) == pytest.approx(0.317, abs=0.03)


def test_constant_samples_are_compared_too() -> None:
    ones = np.ones(5)
    assert overlapping_area(ones, ones) == pytest.approx(1)
    assert overlapping_area(ones, ones * 3) < 0.01
    assert math.isfinite(kl_divergence(ones, ones * 3))


def test_densities_are_those_of_scipy() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.gamma(2, 1, 800), rng.normal(3, 0.7, 600)
    grid = np.linspace(-4, 20, 4000)
    p, q = gaussian_kde(a)(grid), gaussian_kde(b)(grid)
    cell = grid[1] - grid[0]
    assert overlapping_area(a, b) == pytest.approx(np.minimum(p, q).sum() * cell, abs=0.01)
    assert kl_divergence(b, a) == pytest.approx((q * np.log((q + 1e-12) / (p + 1e-12))).sum() * cell, rel=0.03)


def frame(rng: np.random.Generator, pieces: int, keys: tuple[int, ...], notes: int = 40) -> pd.DataFrame:
    rows = []
    for _ in range(pieces):
        pitch = rng.choice(keys, notes)
        rows.append(statistics(piece([(i * 240, 240, int(p), 80) for i, p in enumerate(pitch)])))
    return pd.DataFrame(rows)


def test_a_set_is_near_itself_and_far_from_another() -> None:
    rng = np.random.default_rng(0)
    major = (60, 62, 64, 65, 67, 69, 71)
    reference, alike, other = frame(rng, 60, major), frame(rng, 60, major), frame(rng, 60, (36, 61, 66), notes=15)
    near, far = compare(alike, reference, Bootstrap(200)), compare(other, reference, Bootstrap(200))
    for name in ("pitch_entropy", "pitch_class_histogram", "pitch_class_transitions", "pitch_range", "note_count"):
        assert near[f"{name}_overlap"] > far[f"{name}_overlap"], name
        assert near[f"{name}_kl"] < far[f"{name}_kl"], name
    assert near["distance_correct"] < 0.05 < far["distance_correct"]
    assert near["pitch_entropy_low"] < near["pitch_entropy"] < near["pitch_entropy_high"]
    for key in ("pitch_range_overlap", "pitch_range_kl", "note_length_histogram_overlap"):
        for found in (near, far):
            assert found[f"{key}_low"] <= found[f"{key}_high"] < found[f"{key}_low"] + 1
    # What tells the sets apart is told by intervals that do not meet.
    assert near["pitch_range_overlap_low"] > far["pitch_range_overlap_high"]
    few = compare(alike.head(15), reference, Bootstrap(200))
    widths = [f["pitch_entropy_overlap_high"] - f["pitch_entropy_overlap_low"] for f in (few, near)]
    assert widths[0] > widths[1] > 0
    assert near["n_data"] == 60
    assert all(math.isfinite(value) for value in (near | far).values())
    assert compare(alike, reference, Bootstrap(200)) == near


def test_one_piece_is_compared_without_failing() -> None:
    rng = np.random.default_rng(0)
    found = compare(frame(rng, 1, (60, 64)), frame(rng, 1, (60, 64)), Bootstrap(50))
    assert all(math.isfinite(value) for value in found.values())


def test_large_sets_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PIECES", 10)
    rng = np.random.default_rng(0)
    small = compare(frame(rng, 30, (60, 62, 64, 65, 67)), frame(rng, 30, (60, 62, 64, 65, 67)), Bootstrap(50))
    assert small["pitch_entropy_overlap"] > 0.5


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get("HUESONG_REAL_DATA"), reason="HUESONG_REAL_DATA is not set")
def test_the_figures_of_eimg() -> None:
    """Published or measured on all 3,000 clips; these are a part of them, chosen by song."""
    data = Path(os.environ["HUESONG_REAL_DATA"])
    table = pd.read_csv(data / "music" / "eimg" / "labels.csv")
    rows = []
    for path in table["path"]:
        try:
            rows.append(statistics(clean(read_score(data / path))[0].score))
        except Unusable:
            continue
    mean = pd.DataFrame(rows).mean()
    published = {
        "polyphony_rate": (0.530, 0.02),
        "pitch_entropy": (3.986, 0.03),
        "pitch_class_entropy": (2.733, 0.02),
        "groove_paper": (0.9922, 0.001),
        "groove": (0.817, 0.01),
        "scale_consistency": (0.942, 0.005),
        "empty_beat_rate": (0.0105, 0.002),
        "polyphony": (2.97, 0.05),
    }
    for name, (value, tolerance) in published.items():
        assert mean[name] == pytest.approx(value, abs=tolerance), name
