"""Chord progressions: a Markov chain of functional chords that arrives where a phrase is to end.

Of variable order: a chord follows the two before it as often as in annotated music, where these two were seen; else the
one before it; else as often as it stands at all (Witten & Bell 1991, IEEE Trans. Information Theory 37(4)). Sampled
exactly under its constraints, forward after a backward pass. K chords.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from huesong.music.form.plan import Cadence
from huesong.music.form.statistics import statistics

Functional = tuple[int, str]
"""Semitones above the tonic, quality."""
ENDINGS: dict[Cadence, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "authentic": ((7, 11), (0,)),
    "half": ((0, 2, 5, 8, 9), (7,)),
    "plagal": ((5,), (0,)),
    "deceptive": ((7,), (8, 9)),
}
"""Roots of the last chord but one, and of the last one."""
BRIGHT = {"maj": 1.0, "maj7": 1.0, "7": 0.6, "sus4": 0.5, "sus2": 0.6, "min": -1.0, "min7": -0.8, "aug": -0.8,
          "dim": -1.2, "hdim": -1.2, "dim7": -1.5}  # fmt: skip
"""How pleasant a chord sounds by itself, in order of Lahdelma & Eerola 2016 (Psychology of Music 44(1)); rough."""


class Arrival(NamedTuple):
    """What a progression is for: its cadence ('' = as it comes), the mode, the valence (-1 to 1)."""

    cadence: Cadence
    major: bool
    valence: float


@dataclass(frozen=True)
class Chain:
    """names: the chords [K]. first: share of each as the first of a phrase [K]. follow: of c after a, b [K, K, K]."""

    names: tuple[Functional, ...]
    first: np.ndarray
    follow: np.ndarray

    def sample(
        self, count: int, arrival: Arrival, rng: np.random.Generator, start: Functional | None = None
    ) -> list[Functional]:
        """`count` chords, neighbours never alike, that arrive as asked; of three or more the first is `start`, if known."""
        cadence, major, valence = arrival
        tilt = np.exp(TILT * valence * np.array([BRIGHT[quality] for _, quality in self.names]))
        allowed = [tilt.copy() for _ in range(count)]
        for place, fits in zip((-1, -2), reversed(_ending(cadence, major)), strict=True):
            if len(allowed) >= -place:
                allowed[place] *= [fits(name) for name in self.names]
        fixed = allowed[0] * np.array([name == start for name in self.names])
        if count > 2 and fixed.any():
            allowed[0] = fixed
        # worth[t][a, b]: how likely all that comes after is, if chords t - 1 and t are a and b.
        worth = [np.ones(self.follow.shape[:2])] * count
        for step in range(count - 2, -1, -1):
            ahead = np.einsum("abc,c,bc->ab", self.follow, allowed[step + 1], worth[step + 1])
            worth[step] = ahead / max(float(ahead.max()), 1e-300)
        one = self.follow.mean(axis=0)  # what follows a chord, whatever stood before it
        begin = self.first * allowed[0]
        begin = begin * (worth[0] * one).mean(axis=0) if count == 1 else begin
        if count > 1:
            second = one * allowed[1][None] * worth[1]
            begin = begin * second.sum(axis=1)
        chosen = [_draw(begin, rng)]
        for step in range(1, count):
            odds = one[chosen[0]] if step == 1 else self.follow[chosen[-2], chosen[-1]]
            chosen.append(_draw(odds * allowed[step] * worth[step][chosen[-1]], rng))
        return [self.names[index] for index in chosen]


TILT = 0.35
"""How much the valence of a piece shifts the odds of a chord, in nats for the brightest ones."""


def _draw(odds: np.ndarray, rng: np.random.Generator) -> int:
    assert odds.sum() > 0, "every chord may follow every other but itself"
    return int(rng.choice(len(odds), p=odds / odds.sum()))


def _ending(cadence: Cadence, major: bool) -> Any:
    """Whether a chord may stand last but one, and last."""
    if not cadence:
        return (lambda name: 1.0), (lambda name: 1.0)
    before, last = ENDINGS[cadence]
    tonic = ("maj", "sus2", "maj7") if major else ("min",)

    def arrives(name: Functional) -> float:
        root, quality = name
        if root not in last:
            return 0.0
        if cadence == "half":
            return float(quality in ("maj", "7"))
        if cadence == "deceptive":
            return float((root, quality) in (((9, "min"), (9, "min7")) if major else ((8, "maj"), (8, "maj7"))))
        return {"maj": 1.0, "min": 1.0}.get(quality, 0.1) * (quality in tonic)

    def leads(name: Functional) -> float:
        root, quality = name
        if root not in before:
            return 0.0
        if cadence in ("authentic", "deceptive"):
            return float(quality in (("dim", "dim7", "hdim") if root == 11 else ("maj", "7", "sus4")))
        return float(cadence == "half" or quality in ("maj", "min", "maj7", "min7"))

    return leads, arrives


@cache
def chain_of(styles: tuple[str, ...], major: bool) -> Chain:
    """The chain of the music of `styles` ('pop', 'classical'), each of which counts the same."""
    tables = [statistics()["habits"]["chords"][f"{style} {'major' if major else 'minor'}"] for style in styles]
    names = sorted({name for table in tables for name in table["names"]})
    number = {name: index for index, name in enumerate(names)}
    count = len(names)
    first, pairs, triples = np.zeros(count), np.zeros((count, count)), np.zeros((count, count, count))
    for table in tables:
        ids = np.array([number[name] for name in table["names"]])
        first[ids] += np.array(table["first"]) / max(sum(table["first"]), 1)
        weight = 1000 * len(tables) / sum(pair[-1] for pair in table["pairs"])
        for a, b, seen in table["pairs"]:
            pairs[ids[a], ids[b]] += seen * weight
        for a, b, c, seen in table["triples"]:
            triples[ids[a], ids[b], ids[c]] += seen * weight
    often = pairs.sum(axis=0) + 1e-3
    after_none = np.tile(often / often.sum(), (count, 1))
    np.fill_diagonal(after_none, 0)
    after_one = _backed_off(pairs, after_none / after_none.sum(axis=1, keepdims=True))
    after_two = _backed_off(triples, np.tile(after_one, (count, 1, 1)))
    split = [name.split(":") for name in names]
    return Chain(tuple((int(root), quality) for root, quality in split), first + 1e-4, after_two)


def _backed_off(counts: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Shares along the last axis: as counted, and for what was never seen as in `lower`, by the kinds that were seen."""
    total, kinds = counts.sum(axis=-1, keepdims=True), (counts > 0).sum(axis=-1, keepdims=True)
    return np.asarray((counts + np.maximum(kinds, 1) * lower) / (total + np.maximum(kinds, 1)))
