"""Valence and arousal as they are asked: one value for the whole piece, or a course over it. Light, for checks before PyTorch."""

from __future__ import annotations

import numpy as np

from huesong.errors import UserError

Course = float | tuple[float, ...]
"""A value for the whole piece, or its course: two or more values, evenly spaced in time, linear in between."""


def check_emotion(valence: Course | None, arousal: Course | None) -> None:
    """Refuse values outside [-1, 1] and courses of fewer than two values.

    Raises:
        UserError: names the value.
    """
    for name, course in (("valence", valence), ("arousal", arousal)):
        values = course if isinstance(course, tuple) else () if course is None else (course,)
        for value in values:
            if not -1 <= value <= 1:  # nan fails as well
                raise UserError(
                    f"--{name} {value}: give a number from -1 to 1, or leave it out to take the picture's own"
                )
        if isinstance(course, tuple) and len(course) < 2:
            raise UserError(f"--{name}: a course needs at least two values, such as 0.2..0.8")


def value_at(course: Course, share: float) -> float:
    """The value of a course when `share` of the piece, 0 to 1, is over."""
    if isinstance(course, tuple):
        return float(np.interp(share, np.linspace(0, 1, len(course)), course))
    return course


def mean_of(course: Course) -> float:
    """The mean over time."""
    if isinstance(course, tuple):
        return float(np.trapezoid(course) / (len(course) - 1))
    return course
