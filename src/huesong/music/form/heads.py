"""A plan as the tokens at the head of bars (music/form/header.py)."""

from __future__ import annotations

from huesong.music.form import header
from huesong.music.form.plan import BarPlan, Plan


def heads_of(plan: Plan, first: int = 0, count: int | None = None) -> list[list[str]]:
    """The heads of `count` bars of a plan, from bar `first` on (None: to its end).

    A relation to a bar before `first` stays as it is: the network knows what was to come back, if not how it went.
    """
    end = len(plan.bars) if count is None else first + count
    return [head_of(plan, index) for index in range(first, end)]


def head_of(plan: Plan, index: int) -> list[str]:
    """The head of one bar."""
    bar = plan.bars[index]
    return header.head(
        left=bar.left, relation=bar.relation, back=bar.back, density=plan.density[index],
        loudness=plan.dynamics[index], chords=beats_of(bar), cadence=bar.cadence,
    )  # fmt: skip


def beats_of(bar: BarPlan) -> list[tuple[int, int, str]]:
    """Its chords, each at the nearest beat of its metre; of several at one beat the first."""
    lower = 4 if bar.metre[1] == 2 else bar.metre[1]
    found: dict[int, tuple[int, int, str]] = {}
    for chord in bar.chords:
        beat = round(chord.position * lower / 4)
        found.setdefault(beat, (beat, chord.root, chord.quality))
    return list(found.values())
