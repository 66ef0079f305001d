"""How far what was asked has moved from what was learnt: the population stability index.

PSI = sum over bins of (a - e) ln(a / e), of the shares e of what was learnt and a of what was asked: the divergence of Kullback
and Leibler, both ways, added. By custom (N. Siddiqi, "Credit Risk Scorecards", Wiley 2006) below 0.1 nothing has changed, and
above 0.25 much has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from huesong.compose.drift.counts import Counts

HALF = 0.5
"""Added to every bin, so that an empty one has a share (Jeffreys' prior)."""


def stability(learnt: Sequence[int], asked: Sequence[int]) -> float:
    """The population stability index of two histograms over the same bins."""
    sums = [sum(counts) + HALF * len(counts) for counts in (learnt, asked)]
    shares = [[(count + HALF) / total for count in counts] for counts, total in zip((learnt, asked), sums, strict=True)]
    return sum((a - e) * math.log(a / e) for e, a in zip(*shares, strict=True))


def expected(bins: int, learnt: int, asked: int) -> float:
    """What chance alone makes of the index: about (bins - 1) (1 / learnt + 1 / asked), its mean where nothing has moved."""
    return (bins - 1) * (1 / max(learnt, 1) + 1 / max(asked, 1))


@dataclass(frozen=True)
class Drift:
    """The index of every feature, and what counts as much; `str` of it is the report."""

    found: dict[str, float]
    chance: float
    threshold: float
    asked: int
    least: int

    @property
    def moved(self) -> list[str]:
        """The features that have moved, the farthest first; none as long as too little was asked to tell."""
        if self.asked < self.least:
            return []
        over = {name: value for name, value in self.found.items() if value - self.chance > self.threshold}
        return sorted(over, key=lambda name: -over[name])

    def __str__(self) -> str:
        rows = [
            f"{'moved' if name in self.moved else '':<6}{name:<18}{value:8.3f}" for name, value in self.found.items()
        ]
        few = f" (too few to tell: {self.least} are asked for)" if self.asked < self.least else ""
        said = f"drift in {', '.join(self.moved)}" if self.moved else "no drift"
        much = self.threshold + self.chance
        head = f"      {'feature':<18}{'PSI':>8}   {self.asked} pictures asked{few}; moved: above {much:.3f}"
        return "\n".join([head, *rows, said])


def drift(learnt: Counts, asked: Counts, threshold: float, least: int) -> Drift:
    """Compare counts of what was learnt with those of what was asked.

    Args:
        learnt, asked: counts over the same bins.
        threshold: an index beyond chance above which a feature has moved.
        least: of fewer pictures nothing is said.
    """
    found = {name: stability(learnt[name], asked[name]) for name in learnt}
    name = next(iter(learnt))
    chance = expected(len(learnt[name]), sum(learnt[name]), sum(asked[name]))
    return Drift(found, chance, threshold, sum(asked[name]), least)
