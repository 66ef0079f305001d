"""The plan of a film's piece: a phrase for every picture or group of pictures, in major or its relative minor by valence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from huesong.model.requests import VA
from huesong.music.form.plan import FARTHEST, BarPlan, Plan
from huesong.music.form.planner import invent
from huesong.music.form.settings import Settings
from huesong.music.keys import Key

BRIGHT = 0.0
"""Valence from which on a picture's music is in major."""
ALIKE = 0.35
"""Pictures whose emotions are nearer to each other than this share a theme."""
LONGEST = 8
"""Bars of a phrase."""
LETTERS = "ABCDEFGHJKLMN"


@dataclass(frozen=True)
class Phrase:
    """Bars from `first` to before `after`, the emotion asked of them, and their key."""

    first: int
    after: int
    emotion: VA
    key: Key

    @property
    def bars(self) -> int:
        """How many."""
        return self.after - self.first


def phrases_of(emotions: Sequence[VA], counts: Sequence[int], seed: int) -> list[Phrase]:
    """Phrases for each emotion with so many bars: in a major key that the seed says, or in its relative minor."""
    tonic = int(np.random.default_rng([seed % 2**63, 11]).integers(12))
    found: list[Phrase] = []
    for emotion, count in zip(emotions, counts, strict=True):
        key = (tonic, True) if emotion[0] >= BRIGHT else ((tonic - 3) % 12, False)
        pieces = -(-count // LONGEST)
        for number in range(pieces):
            first = found[-1].after if found else 0
            found.append(Phrase(first, first + (number + 1) * count // pieces - number * count // pieces, emotion, key))
    return found


def plan_for(phrases: Sequence[Phrase], tempo: float, metre: tuple[int, int], seed: int) -> Plan:
    """A plan in one tempo, whose harmony, density and loudness follow the emotions.

    A theme comes back, varied, where an emotion like an earlier one does. The piece is in the key in which it ends.

    Args:
        phrases: in order, without gaps.
        tempo: quarters a minute.
        metre: numerator and denominator.
        seed: of the piece.
    """
    last = len(phrases) - 1
    parts = [_invented(phrase, tempo, metre, seed + index, index == last) for index, phrase in enumerate(phrases)]
    found: list[tuple[BarPlan, ...]] = []
    letters = 0
    for index, part in enumerate(parts):
        theme = next((other for other in range(index) if _like(phrases[other], phrases[index])), None)
        if theme is None:
            found.append(tuple(replace(bar, phrase=LETTERS[letters % len(LETTERS)]) for bar in part.bars))
            letters += 1
        else:
            back = phrases[index].first - phrases[theme].first
            found.append(tuple(_returned(part.bars, found[theme], back, index == last)))
    return replace(
        parts[-1],
        bars=tuple(bar for bars in found for bar in bars),
        dynamics=tuple(level for part in parts for level in part.dynamics),
        density=tuple(level for part in parts for level in part.density),
    )


def _like(earlier: Phrase, phrase: Phrase) -> bool:
    near = float(np.hypot(*np.subtract(earlier.emotion, phrase.emotion))) < ALIKE
    same = (earlier.key, earlier.bars) == (phrase.key, phrase.bars)
    return near and same and phrase.first - earlier.first <= FARTHEST


def _invented(phrase: Phrase, tempo: float, metre: tuple[int, int], seed: int, closes: bool) -> Plan:
    settings = Settings(
        (("A", phrase.bars),), metre=metre, key=phrase.key, tempo=tempo, bars=phrase.bars, loop=not closes
    )
    return invent(*phrase.emotion, 60.0, seed, settings)


def _returned(bars: Sequence[BarPlan], theme: Sequence[BarPlan], back: int, closes: bool) -> Iterator[BarPlan]:
    """The bars as a variation of an earlier phrase: its chords, but for the last bar of the piece."""
    for bar, before in zip(bars, theme, strict=True):
        own = closes and bar.left == 1
        kept = bar if own else replace(bar, chords=before.chords, cadence=before.cadence)
        yield replace(kept, relation="variation", back=back, phrase=before.phrase)
