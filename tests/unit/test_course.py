from __future__ import annotations

import subprocess
import sys

import pytest

from huesong.runtime.errors import UserError
from huesong.va import Course, check_emotion, mean_of, value_at


def test_a_course_is_linear_between_its_values() -> None:
    course = (0.0, 1.0, -1.0)
    assert [value_at(course, share) for share in (0, 0.25, 0.5, 0.75, 1)] == [0.0, 0.5, 1.0, 0.0, -1.0]
    assert mean_of(course) == pytest.approx((0.5 + 0.0) / 2)
    assert value_at(0.3, 0.9) == mean_of(0.3) == 0.3


@pytest.mark.parametrize(
    ("course", "message"),
    [
        ((), "--valence: a course needs at least two values"),
        ((0.5,), "--valence: a course needs at least two values"),
        ((0.1, 1.2), "--valence 1.2: give a number from -1 to 1"),
        ((float("nan"), 0.0), "--valence nan: give a number from -1 to 1"),
        (-1.01, "--valence -1.01: give a number from -1 to 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(course: Course, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_emotion(course, None)
    with pytest.raises(UserError, match=message.replace("valence", "arousal")):
        check_emotion(0.0, course)


def test_what_can_be_asked() -> None:
    check_emotion(None, None)
    check_emotion(-1.0, (1.0, -1.0))


def test_a_value_is_checked_without_loading_torch() -> None:
    code = "import sys, huesong.compose, huesong.va; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
