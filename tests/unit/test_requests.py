from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from huesong.model.requests import Request, plan_seed
from huesong.music.form.planner import invent
from huesong.runtime.errors import UserError
from huesong.va import Trajectory, check_emotion, mean_of, value_at


def test_a_trajectory_is_linear_between_its_values() -> None:
    trajectory = (0.0, 1.0, -1.0)
    assert [value_at(trajectory, share) for share in (0, 0.25, 0.5, 0.75, 1)] == [0.0, 0.5, 1.0, 0.0, -1.0]
    assert mean_of(trajectory) == pytest.approx((0.5 + 0.0) / 2)
    assert value_at(0.3, 0.9) == mean_of(0.3) == 0.3


@pytest.mark.parametrize(
    ("trajectory", "message"),
    [
        ((), "--valence: a trajectory needs at least two values"),
        ((0.5,), "--valence: a trajectory needs at least two values"),
        ((0.1, 1.2), "--valence 1.2: give a number from -1 to 1"),
        ((float("nan"), 0.0), "--valence nan: give a number from -1 to 1"),
        (-1.01, "--valence -1.01: give a number from -1 to 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(trajectory: Trajectory, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_emotion(trajectory, None)
    with pytest.raises(UserError, match=message.replace("valence", "arousal")):
        check_emotion(0.0, trajectory)


def test_what_can_be_asked() -> None:
    check_emotion(None, None)
    check_emotion(-1.0, (1.0, -1.0))


def test_a_value_is_checked_without_loading_torch() -> None:
    code = "import sys, huesong.compose, huesong.model.requests; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"picture": None}, "a request without a picture needs both a valence and an arousal"),
        ({"picture": None, "valence": 0.1}, "a request without a picture needs both"),
        ({"seconds": 9.0, "bars": 4}, "--seconds and --bars both say how long the piece is: give one of them"),
        ({"seconds": 3.9}, r"--seconds 3\.9: .*4 to 600"),
        ({"seconds": float("nan")}, "--seconds nan: give a finite number"),
        ({"bars": 0}, "--bars 0: give a number from 1 to 300, or --seconds"),
        ({"tempo": 0.0}, "--tempo 0: give quarters a minute from 10 to 400, such as 96"),
        ({"tempo": 90.0, "primer": (1, 2)}, "a primer brings its own tempo: leave out --tempo"),
        ({"valence": 2.0}, r"--valence 2\.0: give a number from -1 to 1"),
        ({"intensity": -0.1}, r"--intensity -0\.1: give a number from 0 to 5"),
        ({"intensity": float("nan")}, r"--intensity nan: give a number from 0 to 5"),
        ({"valence": 0.2, "arousal": 0.2, "intensity": 2.0}, "--intensity scales what the picture suggests"),
    ],
)
def test_a_request_is_checked_when_it_is_made(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Request(**({"picture": "any"} | given))


@pytest.mark.parametrize("tempo", [500.0, 9.0, 0.0, -3.0, float("nan"), float("inf")])
def test_a_tempo_that_no_model_knows_is_refused_at_once(tempo: float) -> None:
    with pytest.raises(UserError, match=r"--tempo .*: give quarters a minute from 10 to 400"):
        Request(None, 0.0, 0.0, tempo=tempo)


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_a_seed_that_libraries_do_not_take_is_refused(seed: int) -> None:
    with pytest.raises(UserError, match=f"--seed {seed}: give a whole number from 0"):
        Request(None, 0.0, 0.0, seed=seed)


def test_every_emotion_has_a_plan_of_its_own_at_one_seed() -> None:
    grid = [(v / 10, a / 10) for v in range(-10, 11) for a in range(-10, 11)]
    seeds = [plan_seed(0, emotion) for emotion in grid]
    assert len(set(seeds)) == len(grid)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert plan_seed(0, (0.3, -0.2)) == plan_seed(0, (0.3000001, -0.1999999)) != plan_seed(1, (0.3, -0.2))
    plans = [invent(*emotion, 30.0, plan_seed(0, emotion)) for emotion in grid[::40]]
    assert len({plan.tonic for plan in plans}) > 3
    assert len({plan.form for plan in plans}) > 3
