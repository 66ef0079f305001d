"""Bar lines: where the bars of a piece begin and in which metre, as text, and rewritten into the metres that are known here.

Quarters are those of the score that the bar lines belong to, counted from its tick 0.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Source = Literal["file", "annotation", "shift", "tracked", "none"]
"""Who says where the bars are: the file; people (or the user); the file's grid, but moved; a beat tracker; nobody."""

METRES = (
    (2, 4), (3, 4), (4, 4), (5, 4), (6, 4), (2, 2), (3, 8), (5, 8), (6, 8), (7, 8), (9, 8), (12, 8),
)  # fmt: skip
"""The supported metres (numerator, denominator). Whatever else a file says is rewritten into these (`regular`)."""

_BY_EIGHTHS = {3: (3, 8), 4: (2, 4), 5: (5, 8), 6: (3, 4), 7: (7, 8), 8: (4, 4), 9: (9, 8), 10: (5, 4), 12: (6, 4)}
"""The metre of a bar of which only the length is known."""
_COMPOUND = {6: (6, 8), 12: (12, 8)}
"""The same, where the file's numerator says that its beats are divided by three."""
FILE = "file"
"""The text that says: as the file's time signatures have it."""
_METRE_TEXT = re.compile(r"([1-9]\d?)/([1-9]\d?)@(-?\d{1,7}(?:\.\d{1,6})?)")
_NUMBER_TEXT = re.compile(r"-?\d{1,7}(?:\.\d{1,6})?")


@dataclass(frozen=True)
class BarLines:
    """first_quarters: a bar line. metres: (start, numerator, denominator), ascending: in force from `start`, a bar line.

    Before the first start its metre is in force too. Without metres, those that the file says are right.
    confidence: 0 to 1, how likely the bar lines are right.
    """

    first_quarters: float
    metres: tuple[tuple[float, int, int], ...]
    source: Source
    confidence: float = 1.0

    def __str__(self) -> str:
        """The text that `parse` reads: `0.5;4/4@0.5;3/4@64.5`, and `;sure=0.9` where the confidence is below 1.

        `file` alone says that the file's own time signatures are right.
        """
        if not self.metres:
            return FILE
        metres = [f"{numerator}/{denominator}@{_short(start)}" for start, numerator, denominator in self.metres]
        sure = [f"sure={_short(self.confidence)}"] if self.confidence < 1 else []
        return ";".join([_short(self.first_quarters), *metres, *sure])

    @classmethod
    def parse(cls, text: str) -> BarLines:
        """The bar lines that people wrote as `text` (source `annotation`).

        Raises:
            ValueError: it is no such text; the message says what is wrong, without the text.
        """
        if text.strip() == FILE:
            return cls(0.0, (), "annotation")
        first, *rest = [part.strip() for part in text.split(";")]
        sure = rest.pop() if rest and rest[-1].startswith("sure=") else "sure=1"
        if not _NUMBER_TEXT.fullmatch(first) or not rest:
            raise ValueError("must be `file`, or a bar line and metres, such as 0.5;4/4@0.5;3/4@64.5")
        metres = []
        for part in rest:
            match = _METRE_TEXT.fullmatch(part)
            if not match or int(match[2]) not in (1, 2, 4, 8, 16, 32):
                raise ValueError(f"holds {part[:20]!r}, which is no metre and its start, such as 3/4@64.5")
            metres.append((float(match[3]), int(match[1]), int(match[2])))
        starts = [start for start, _, _ in metres]
        if any(later <= earlier for earlier, later in itertools.pairwise(starts)):
            raise ValueError("must name the metres in the order of their starts")
        if not _NUMBER_TEXT.fullmatch(sure[5:]) or not 0 <= float(sure[5:]) <= 1:
            raise ValueError("must say how sure it is by a number from 0 to 1")
        return cls(float(first), tuple(metres), "annotation", float(sure[5:]))

    def spans(self, low: float, high: float) -> list[Bar]:
        """The bars, as they are written, that touch the quarters from `low` to `high`: at least one.

        Where a metre begins before the bar of the one before is full, that bar is short.
        """
        bars: list[Bar] = []
        starts = [*(start for start, _, _ in self.metres[1:]), math.inf]
        for number, ((begin, numerator, denominator), stop) in enumerate(zip(self.metres, starts, strict=True)):
            length = 4 * numerator / denominator
            if number == 0:
                begin = self.first_quarters + math.ceil((begin - self.first_quarters) / length - 1e-6) * length
                begin -= max(0, math.ceil((begin - low) / length - 1e-6)) * length
            count = max(1, math.ceil((min(stop, high) - begin) / length - 1e-6)) if begin < max(high, low + 1e-6) else 0
            for index in range(count):
                start = begin + index * length
                bars.append(Bar(start, min(start + length, stop), numerator, denominator))
        touched = [bar for bar in bars if bar.end > low + 1e-6]
        return touched or bars[-1:]


class Bar(NamedTuple):
    """A bar from `start` to `end` (quarters); a short one is written in the metre it is cut from."""

    start: float
    end: float
    numerator: int
    denominator: int

    @property
    def full(self) -> float:
        """Quarters that a whole bar of the metre has."""
        return 4 * self.numerator / self.denominator

    @property
    def whole(self) -> bool:
        """Whether it is a whole bar of a supported metre."""
        return (self.numerator, self.denominator) in METRES and abs(self.end - self.start - self.full) < 0.01


def regular(bars: Sequence[Bar]) -> list[Bar]:
    """The same music in whole bars of METRES alone.

    * A first bar that is short (an upbeat) begins earlier, with a rest; a short last one ends later.
    * Neighbours that fill one bar of the metre around them (the halves of a bar at a repeat) become that bar.
    * A metre that is not known is written by its length: 4/2 as two bars of 4/4, 12/16 as 6/8, 1/4 with its neighbour.
    * What is left, lengths of no whole number of eighths, is rounded to one: `end - start` then differs from the
      metre, and the time of these bars must be stretched.
    """
    out: list[Bar] = []
    index = 0
    while index < len(bars):
        bar = bars[index]
        around = next((b for b in reversed(out) if b.whole), None) or next((b for b in bars[index:] if b.whole), None)
        taken = _halves(bars, index, around) if around else 0
        if taken:
            assert around is not None
            out.append(Bar(bar.start, bars[index + taken - 1].end, around.numerator, around.denominator))
            index += taken
            continue
        index += 1
        length = bar.end - bar.start
        if bar.whole:
            out.append(bar)
        elif around and not out and length < around.full:
            out.append(Bar(bar.end - around.full, bar.end, around.numerator, around.denominator))
        elif around and index == len(bars) and length < around.full:
            out.append(Bar(bar.start, bar.start + around.full, around.numerator, around.denominator))
        elif parts := _split(bar):
            out += parts
        elif out:
            last = out.pop()
            joined = Bar(last.start, bar.end, last.numerator, last.denominator)
            out += _split(joined) or _split(joined, rounding=True)
        elif index < len(bars):  # too short to stand alone, and the first: it joins the next
            bars = [*bars[:index], bars[index]._replace(start=bar.start), *bars[index + 1 :]]
        else:
            out += _split(bar, rounding=True)
    return out


def _halves(bars: Sequence[Bar], index: int, around: Bar) -> int:
    """How many bars from `index` on, each shorter than the metre around them, fill one bar of it; 0 = none do."""
    for count in (2, 3):
        group = bars[index : index + count]
        after = bars[index + count : index + count + 1]
        if (
            len(group) == count
            and index
            and all(bar.end - bar.start < around.full - 0.01 for bar in group)
            and abs(group[-1].end - group[0].start - around.full) < 0.01
            and all(bar[2:] == around[2:] or bar.end - bar.start < around.full for bar in after)
            and not (after and after[0].whole and after[0][2:] != around[2:])
        ):
            return count
    return 0


def _split(bar: Bar, rounding: bool = False) -> list[Bar]:
    """Bars of METRES as long as `bar`; [] if its length is no sum of theirs."""
    length = 2 * (bar.end - bar.start)
    eighths = max(3, round(length)) if rounding else round(length)
    if not rounding and (abs(length - eighths) > 0.02 or eighths < 3):
        return []
    beats = _COMPOUND if bar.numerator % 3 == 0 and bar.numerator > 3 and bar.denominator >= 8 else {}
    metres = []
    left = eighths
    while left:
        if left in beats or left in _BY_EIGHTHS:
            metre = beats.get(left) or _BY_EIGHTHS[left]
        else:
            part = next(p for p in (8, 6, 12, 4, 5) if left - p >= 3 and (left % p == 0 or p in (8, 4)))
            metre = beats.get(part) or _BY_EIGHTHS[part]
        metres.append(metre)
        left -= round(8 * metre[0] / metre[1])
    scale = (bar.end - bar.start) / (eighths / 2)
    parts: list[Bar] = []
    start = bar.start
    for number, (numerator, denominator) in enumerate(metres, 1):
        end = bar.end if number == len(metres) else start + 4 * numerator / denominator * scale
        parts.append(Bar(start, end, numerator, denominator))
        start = end
    return parts


def _short(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
