"""A planner: invents the plan of a piece for an emotion, a length and what the user has settled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huesong.form.plan import BarPlan, Chord, Plan
from huesong.music.keys import Key
from huesong.va import Trajectory, mean_of, value_at


@dataclass(frozen=True)
class Settings:
    """What the user has settled; None = as the planner likes.

    form: label and number of bars of each phrase (0 = as fits). chords: one a bar, over and over. metre: numerator,
    denominator. key: tonic and whether it is major. tempo: quarters a minute. style: whose habits of harmony and form.
    loop: whether the end leads back to the beginning.
    """

    form: tuple[tuple[str, int], ...] | None = None
    chords: tuple[tuple[Chord, ...], ...] | None = None
    metre: tuple[int, int] | None = None
    key: Key | None = None
    tempo: float | None = None
    style: str | None = None
    loop: bool = False
    bars: int | None = None


def invent(
    valence: Trajectory, arousal: Trajectory, seconds: float, seed: int, settings: Settings | None = None
) -> Plan:
    """A plan for an emotion (or a course of it), about `seconds` long; the same arguments give the same plan.

    Raises:
        UserError: the settings do not fit each other or the length.
    """
    settings = settings or Settings()
    rng = np.random.default_rng([seed, 7])
    mean_valence, mean_arousal = mean_of(valence), mean_of(arousal)
    metre = settings.metre or (4, 4)
    tempo = settings.tempo or 100 + 40 * mean_arousal
    tonic, major = settings.key or (int(rng.integers(12)), mean_valence >= 0)
    quarters = 4 * metre[0] / metre[1]
    count = settings.bars or max(2, round(seconds * tempo / 60 / quarters))
    quality = "maj" if major else "min"
    bars = tuple(
        BarPlan(metre, "new", 0, "A", (count - 1 - bar) % 4 + 1, "", (Chord(0.0, tonic, quality),))
        for bar in range(count)
    )
    course = [value_at(arousal, (bar + 0.5) / count) for bar in range(count)]
    return Plan(
        tonic, "major" if major else "minor", tempo if settings.bars else 60 * count * quarters / seconds, bars,
        tuple(round(0.5 + 0.25 * level, 3) for level in course), tuple(round(0.35 + 0.25 * level, 3) for level in course),
    )  # fmt: skip
