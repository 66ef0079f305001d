"""What `Recall` finds (copying/recall.py), token by token: a few numbers on the host where tensors would cost thirty calls."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from huesong.music.vocabulary import Vocabulary

SINCE = 64
"""Tokens since the last Position are told apart up to here."""
WHOLE_BAR = 2**20
"""More than any place: keys are WHOLE_BAR * bar + place."""
RETURNS = ("Repeat", "Variation", "Sequence")
Said = tuple[int, int, int]
"""Of a token, as in `BarTokens`: whether a bar opens, its last Position, how many bars back it refers to."""


@dataclass(frozen=True)
class BarTokens:
    """What each id says of the bar: opens_V, whether one begins; position_V, the last Position (-1: none); back_V, how
    many bars back the one it refers to stands (0: new; -1: says nothing of it)."""

    opens_V: np.ndarray
    position_V: np.ndarray
    back_V: np.ndarray

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> BarTokens:
        """From the names of base tokens."""
        opens_V = np.zeros(vocabulary.size, dtype=bool)
        position_V, back_V = (np.full(vocabulary.size, -1) for _ in range(2))
        for index, names in enumerate(vocabulary.tokens):
            for name in names:
                kind, _, value = name.partition("_")
                if kind == "Bar":
                    opens_V[index] = True
                elif kind == "Position":
                    position_V[index] = int(value)
                elif kind in RETURNS or kind == "New":
                    back_V[index] = int(value) if kind in RETURNS else 0
        return cls(opens_V, position_V, back_V)


def said_by(bars: BarTokens) -> list[Said]:
    """What each id says."""
    tables = (table.tolist() for table in (bars.opens_V, bars.position_V, bars.back_V))
    return [(int(opens), position, back) for opens, position, back in zip(*tables, strict=True)]


class History:
    """The ids of one row, the key of each, and where the row stands."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.keys: list[int] = []
        self.bar, self.place, self.since, self.back = 0, -1, 0, 0

    def copied(self) -> History:
        """Another one that knows the same."""
        made = History()
        made.__dict__.update(self.__dict__, ids=list(self.ids), keys=list(self.keys))
        return made

    def read(self, token: int, said: Sequence[Said]) -> int | None:
        """Read a token; the id that came after the same place in the bar referred to."""
        opens, position, back = said[token]
        self.bar += opens
        self.since += 1
        if opens or position >= 0:
            self.place, self.since = position, 0
        if opens or back >= 0:
            self.back = max(back, 0)
        within = (self.place + 1) * SINCE + min(self.since, SINCE - 1)
        # Ascending whatever the tokens are: so no token can see one that comes after it.
        self.keys.append(max(self.bar * WHOLE_BAR + within, self.keys[-1] if self.keys else 0))
        self.ids.append(token)
        wanted = (self.bar - self.back) * WHOLE_BAR + within
        if not self.back or wanted < WHOLE_BAR:  # the first bar is number 1
            return None
        return self.ids[bisect_right(self.keys, wanted)]  # one after the last key that is no larger
