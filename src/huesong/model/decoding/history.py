"""What `Recall` finds (copying/recall.py), token by token: a few numbers on the host where tensors would cost thirty calls."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from huesong.model.copying.recall import SINCE, WHOLE_BAR, BarTokens

Said = tuple[int, int, int]
"""Of a token, as in `BarTokens`: whether a bar opens, its last Position, how many bars back it refers to."""


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
