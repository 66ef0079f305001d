"""The plan of a piece: what stands before notes do. Metre, phrases, what returns, chords, cadences, levels; as JSON."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any, Literal, NamedTuple, cast, get_args

from huesong.music.keys import Key
from huesong.runtime.errors import UserError

Relation = Literal["new", "repeat", "variation", "sequence"]
Cadence = Literal["", "authentic", "half", "plagal", "deceptive"]
Mode = Literal["major", "minor"]
RELATIONS: tuple[str, ...] = get_args(Relation)
CADENCES: tuple[str, ...] = get_args(Cadence)
MODES: tuple[str, ...] = get_args(Mode)
QUALITIES: dict[str, tuple[int, ...]] = {
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "dim": (0, 3, 6),
    "aug": (0, 4, 8),
    "sus4": (0, 5, 7),
    "sus2": (0, 2, 7),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "min7": (0, 3, 7, 10),
    "hdim": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9),
    "N": (),
}
"""The chords a plan may hold, as semitones above the root; N is no chord (its root is written as 0)."""
FARTHEST = 32
"""How many bars back a bar may refer to."""
MOST_BARS = 2000
LABEL = re.compile(r"[A-Za-z]'{0,3}")
"""A phrase: a letter, and a stroke a variation. i begins a piece, o ends it, x is a bridge."""
NOTE_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MINOR_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")


class Chord(NamedTuple):
    """position: quarters from the bar line. root: pitch class 0..11. quality: a key of `QUALITIES`."""

    position: float
    root: int
    quality: str

    @property
    def tones(self) -> frozenset[int]:
        """Its pitch classes; none for N."""
        return frozenset((self.root + step) % 12 for step in QUALITIES[self.quality])


@dataclass(frozen=True)
class BarPlan:
    """One bar.

    metre: numerator, denominator. relation: what it has to do with an earlier bar. back: how many bars earlier that one
    stands (0 for new). phrase: label of the phrase it is in. left: bars to the end of that phrase, itself included.
    cadence: only where left is 1. chords: the first at 0, ascending; each holds until the next one or the bar line.
    """

    metre: tuple[int, int]
    relation: Relation
    back: int
    phrase: str
    left: int
    cadence: Cadence
    chords: tuple[Chord, ...]

    @property
    def quarters(self) -> float:
        """Its length."""
        return 4 * self.metre[0] / self.metre[1]


class Phrase(NamedTuple):
    """start: index of its first bar. bars: how many. label: as `BarPlan.phrase`."""

    start: int
    bars: int
    label: str


@dataclass(frozen=True)
class Plan:
    """A whole piece.

    tonic: pitch class 0..11. tempo: quarters a minute. dynamics: how loud each bar is, 0..1 (mean MIDI velocity / 127).
    density: how full each bar is, 0..1 (notes a quarter / `DENSEST`, at most 1).

    Raises:
        UserError: something that no piece can be; names the bar.
    """

    tonic: int
    mode: Mode
    tempo: float
    bars: tuple[BarPlan, ...]
    dynamics: tuple[float, ...]
    density: tuple[float, ...]

    def __post_init__(self) -> None:
        _check(self)

    @property
    def key(self) -> Key:
        """As music/keys.py has it."""
        return self.tonic, self.mode == "major"

    @property
    def quarters(self) -> float:
        """Its length."""
        return sum(bar.quarters for bar in self.bars)

    @property
    def seconds(self) -> float:
        """Its length at its tempo."""
        return 60 * self.quarters / self.tempo

    @property
    def phrases(self) -> list[Phrase]:
        """All phrases, in order."""
        starts = [i for i in range(len(self.bars)) if i == 0 or self.bars[i - 1].left == 1]
        return [Phrase(i, self.bars[i].left, self.bars[i].phrase) for i in starts]

    @property
    def form(self) -> str:
        """Such as `i4 A8 A'8 B8 A8 o4`."""
        return " ".join(f"{phrase.label}{phrase.bars}" for phrase in self.phrases)

    def transposed(self, semitones: int) -> Plan:
        """The same plan in another key."""
        bars = tuple(
            replace(bar, chords=tuple(c if c.quality == "N" else _moved(c, semitones) for c in bar.chords))
            for bar in self.bars
        )
        return replace(self, tonic=(self.tonic + semitones) % 12, bars=bars)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: numbers, words, lists."""
        rows = zip(self.bars, self.dynamics, self.density, strict=True)
        return {
            "tonic": self.tonic,
            "mode": self.mode,
            "tempo": self.tempo,
            "bars": [
                {
                    "metre": list(bar.metre), "relation": bar.relation, "back": bar.back, "phrase": bar.phrase,
                    "left": bar.left, "cadence": bar.cadence, "chords": [list(chord) for chord in bar.chords],
                    "dynamics": loud, "density": dense,
                }
                for bar, loud, dense in rows
            ],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Any) -> Plan:
        """The plan that `to_dict` wrote.

        Raises:
            UserError: a field that is missing, of another type, or that no piece can have; names it.
        """
        top = _fields(data, "plan", {"tonic": int, "mode": str, "tempo": float, "bars": list})
        bars, dynamics, density = [], [], []
        for number, row in enumerate(top["bars"], start=1):
            at = f"plan, bar {number}"
            bar = _fields(row, at, _BAR_FIELDS)
            metre = _list_of(bar["metre"], (int, int), f"{at}: metre", "[4, 4]")
            chords = tuple(
                Chord(*_list_of(chord, (float, int, str), f"{at}: chord", '[0, 9, "min"]')) for chord in bar["chords"]
            )
            bars.append(
                BarPlan(
                    cast(tuple[int, int], metre), cast(Relation, bar["relation"]), bar["back"], bar["phrase"],
                    bar["left"], cast(Cadence, bar["cadence"]), chords,
                )
            )  # fmt: skip
            dynamics.append(bar["dynamics"])
            density.append(bar["density"])
        mode = cast(Mode, top["mode"])
        return cls(top["tonic"], mode, top["tempo"], tuple(bars), tuple(dynamics), tuple(density))

    def describe(self) -> str:
        """What a musician reads: key, metre, tempo, form; a line a phrase with its chords, cadence and what returns."""
        metres = [f"{a}/{b}" for (a, b), _ in groupby(bar.metre for bar in self.bars)]
        shown = " ".join(metres[:4]) + (" ..." if len(metres) > 4 else "")
        lines = [
            f"{key_name(self.tonic, self.mode)}, {shown}, {self.tempo:.0f} quarters a minute, "
            f"{len(self.bars)} bars, {self.seconds:.0f} s",
            f"form: {self.form}",
        ]
        for phrase in self.phrases:
            bars = self.bars[phrase.start : phrase.start + phrase.bars]
            chords = " | ".join(" ".join(self.numeral(chord) for chord in bar.chords) for bar in bars)
            said = [f"{bars[-1].cadence} cadence"] if bars[-1].cadence else []
            said += _returns(self.bars, phrase)
            tail = f"  ({'; '.join(said)})" if said else ""
            lines.append(f"{phrase.label:<3} {_span(phrase.start, phrase.bars):>7}: {chords}{tail}")
        return "\n".join(lines)

    def numeral(self, chord: Chord) -> str:
        """The chord as a roman numeral in this plan's key, such as `V7`, `ii`, `bVI`, `vii°`."""
        if chord.quality == "N":
            return "-"
        degree = _DEGREES[self.mode][(chord.root - self.tonic) % 12]
        small, sign = _SIGNS[chord.quality]
        return (degree.lower() if small else degree) + sign


DENSEST = 8.0
"""Notes a quarter that count as density 1."""
_DEGREES = {
    "major": ("I", "bII", "II", "bIII", "III", "IV", "#IV", "V", "bVI", "VI", "bVII", "VII"),
    "minor": ("I", "bII", "II", "III", "#III", "IV", "#IV", "V", "VI", "#VI", "VII", "#VII"),
}
_SIGNS = {
    "maj": (False, ""),
    "min": (True, ""),
    "dim": (True, "°"),
    "aug": (False, "+"),
    "sus4": (False, "sus4"),
    "sus2": (False, "sus2"),
    "7": (False, "7"),
    "maj7": (False, "maj7"),
    "min7": (True, "7"),
    "hdim": (True, "ø7"),
    "dim7": (True, "°7"),
}
"""Whether the numeral is written small, and what follows it."""
_BAR_FIELDS = {
    "metre": list, "relation": str, "back": int, "phrase": str, "left": int, "cadence": str, "chords": list,
    "dynamics": float, "density": float,
}  # fmt: skip


def key_name(tonic: int, mode: str) -> str:
    """Such as `A minor`."""
    return f"{(NOTE_NAMES if mode == 'major' else MINOR_NAMES)[tonic]} {mode}"


def _moved(chord: Chord, semitones: int) -> Chord:
    return chord._replace(root=(chord.root + semitones) % 12)


def _span(start: int, bars: int) -> str:
    return f"{start + 1}-{start + bars}" if bars > 1 else f"{start + 1}"


def _returns(bars: tuple[BarPlan, ...], phrase: Phrase) -> list[str]:
    """What a phrase takes from earlier bars, neighbouring bars of one kind together."""
    said, first = [], phrase.start
    verbs = {"repeat": ("repeats", "repeat"), "variation": ("varies", "vary"), "sequence": ("transposes", "transpose")}
    inside = bars[phrase.start : phrase.start + phrase.bars]
    for (relation, back), run in groupby(inside, lambda bar: (bar.relation, bar.back)):
        count = len(list(run))
        if relation != "new":
            said.append(f"{_span(first, count)} {verbs[relation][count > 1]} {_span(first - back, count)}")
        first += count
    return said


def _fields(data: Any, where: str, types: dict[str, type]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise UserError(f"{where}: {_shown(data)} is no mapping: give {', '.join(types)}")
    unknown = [str(name) for name in data if name not in types]
    if unknown:
        raise UserError(f"{where}: {unknown[0]!r} is no field: leave it out (fields: {', '.join(types)})")
    missing = [name for name in types if name not in data]
    if missing:
        raise UserError(f"{where}: '{missing[0]}' is missing: add it")
    return {name: _typed(data[name], kind, f"{where}: {name}") for name, kind in types.items()}


def _list_of(value: Any, types: tuple[type, ...], where: str, example: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) != len(types):
        raise UserError(f"{where}: {_shown(value)}: give a list such as {example}")
    return tuple(_typed(item, kind, where) for item, kind in zip(value, types, strict=True))


def _typed(value: Any, kind: type, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(min(max(value, -(10**9)), 10**9))
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {int: "a whole number", float: "a number", str: "a word", list: "a list"}
        raise UserError(f"{where}: {_shown(value)}: give {names[kind]}")
    return value


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _check(plan: Plan) -> None:
    if not 0 <= plan.tonic < 12:
        raise UserError(f"plan: tonic {plan.tonic}: give a pitch class from 0 (C) to 11 (B)")
    if plan.mode not in MODES:
        raise UserError(f"plan: mode {_shown(plan.mode)}: give one of {', '.join(MODES)}")
    if not (math.isfinite(plan.tempo) and 1 <= plan.tempo <= 1000):
        raise UserError(f"plan: tempo {plan.tempo}: give 1 to 1000 quarters a minute")
    if not 1 <= len(plan.bars) <= MOST_BARS:
        raise UserError(f"plan: {len(plan.bars)} bars: give 1 to {MOST_BARS}")
    for name, levels in (("dynamics", plan.dynamics), ("density", plan.density)):
        if len(levels) != len(plan.bars):
            raise UserError(f"plan: {len(levels)} levels of {name} for {len(plan.bars)} bars: give one a bar")
        for number, level in enumerate(levels, start=1):
            if not 0 <= level <= 1:  # nan fails as well
                raise UserError(f"plan, bar {number}: {name} {level}: give a level from 0 to 1")
    for index, bar in enumerate(plan.bars):
        _check_bar(bar, index, plan.bars[index - 1] if index else None)
    if plan.bars[-1].left != 1:
        raise UserError(f"plan, bar {len(plan.bars)}: left {plan.bars[-1].left}: the last bar ends its phrase: give 1")


def _check_bar(bar: BarPlan, index: int, before: BarPlan | None) -> None:
    at = f"plan, bar {index + 1}"
    upper, lower = bar.metre
    if not (1 <= upper <= 64 and lower in (1, 2, 4, 8, 16, 32, 64)):
        raise UserError(f"{at}: metre {upper}/{lower}: give one such as 4/4 or 6/8")
    if bar.relation not in RELATIONS:
        raise UserError(f"{at}: relation {_shown(bar.relation)}: give one of {', '.join(RELATIONS)}")
    if bar.relation == "new" and bar.back != 0:
        raise UserError(f"{at}: back {bar.back}: a new bar refers to none: give 0")
    if bar.relation != "new" and not 1 <= bar.back <= min(FARTHEST, index):
        raise UserError(f"{at}: back {bar.back}: give 1 to {FARTHEST}, and no bar before the first")
    if not LABEL.fullmatch(bar.phrase):
        raise UserError(f"{at}: phrase {_shown(bar.phrase)}: give a letter such as A, or A'")
    if bar.left < 1:
        raise UserError(f"{at}: left {bar.left}: give the bars to the end of the phrase, 1 in its last bar")
    if before is not None and before.left > 1 and (bar.left, bar.phrase) != (before.left - 1, before.phrase):
        raise UserError(f"{at}: phrase {bar.phrase}, left {bar.left}: {before.phrase} has {before.left - 1} left here")
    if bar.cadence not in CADENCES:
        raise UserError(f"{at}: cadence {_shown(bar.cadence)}: give one of {', '.join(CADENCES[1:])}, or an empty word")
    if bar.cadence and bar.left != 1:
        raise UserError(f"{at}: cadence {bar.cadence}: only the last bar of a phrase has one: leave it empty")
    positions = [chord.position for chord in bar.chords]
    ascending = all(a < b for a, b in pairwise(positions))
    if not positions or positions[0] != 0 or not ascending or not positions[-1] < bar.quarters:
        raise UserError(f"{at}: chords at {_shown(positions)}: the first at 0, ascending, within {bar.quarters:g}")
    for chord in bar.chords:
        if not 0 <= chord.root < 12:
            raise UserError(f"{at}: root {chord.root}: give a pitch class from 0 (C) to 11 (B)")
        if chord.quality not in QUALITIES:
            raise UserError(f"{at}: quality {_shown(chord.quality)}: give one of {', '.join(QUALITIES)}")
