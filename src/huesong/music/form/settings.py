"""What a user settles of a plan, read from words: form, chords, metre."""

from __future__ import annotations

import re
from dataclasses import dataclass

from huesong.music.form.plan import LABEL, Chord
from huesong.music.keys import Key
from huesong.runtime.errors import UserError

METRES = ((4, 4), (3, 4), (2, 4), (2, 2), (6, 8), (3, 8), (9, 8), (12, 8), (5, 4), (6, 4), (5, 8), (7, 8))
"""Those a plan can be invented in."""
STYLES: dict[str, tuple[str, ...]] = {
    "pop": ("pop",), "classical": ("classical",), "folk": ("classical",), "game": ("pop", "classical"),
    "mixed": ("pop", "classical"),
}  # fmt: skip
"""Styles by the music whose harmony they follow."""
LONGEST_PHRASE = 32
MOST_PHRASES = 64
NATURAL = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
CHORD_KINDS = {
    "maj": ("", "maj", "M", "major", "6", "add9", "maj6"),
    "min": ("m", "min", "-", "minor", "m6", "min6", "madd9"),
    "7": ("7", "9", "13", "dom7", "7b9", "7#9"),
    "maj7": ("maj7", "M7", "Δ", "Δ7", "maj9", "M9"),
    "min7": ("m7", "min7", "-7", "m9", "min9", "m11"),
    "dim": ("dim", "o", "°", "mb5"),
    "dim7": ("dim7", "o7", "°7"),
    "hdim": ("m7b5", "hdim", "hdim7", "ø", "ø7"),
    "aug": ("aug", "+", "+7"),
    "sus4": ("sus", "sus4", "7sus4", "7sus"),
    "sus2": ("sus2",),
}
"""How each quality is written after the root."""
_KIND_OF = {written: quality for quality, words in CHORD_KINDS.items() for written in words}
_ROOT = re.compile(r"([A-G])(#|b|♯|♭)?(.*)")
_PHRASE = re.compile(r"([A-Za-z]['’′]{0,3})(\d{0,3})")


@dataclass(frozen=True)
class Settings:
    """What the user has settled; None = as the planner likes.

    form: label and number of bars of each phrase (0 = as fits). chords: those of each bar, as `parse_chords` gives them,
    over and over. metre: numerator, denominator. key: tonic and whether it is major. tempo: quarters a minute. style: one
    of `STYLES`. loop: whether the end leads back to the beginning. bars: the length instead of seconds.
    """

    form: tuple[tuple[str, int], ...] | None = None
    chords: tuple[tuple[Chord, ...], ...] | None = None
    metre: tuple[int, int] | None = None
    key: Key | None = None
    tempo: float | None = None
    style: str | None = None
    loop: bool = False
    bars: int | None = None

    def __post_init__(self) -> None:
        if self.metre is not None and self.metre not in METRES:
            raise UserError(f"--meter {'/'.join(map(str, self.metre))}: give one of {_metres()}")
        if self.style is not None and self.style not in STYLES:
            raise UserError(f"--style {self.style}: give one of {', '.join(STYLES)}")
        if self.form is not None and self.bars is not None and all(bars for _, bars in self.form):
            long = sum(bars for _, bars in self.form)
            if long != self.bars:
                raise UserError(f"--form has {long} bars and --bars {self.bars}: leave out one of them")


def _metres() -> str:
    return ", ".join(f"{upper}/{lower}" for upper, lower in METRES)


def parse_metre(text: str | None) -> tuple[int, int] | None:
    """`3/4`.

    Raises:
        UserError: no metre, or one that no plan can be in.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d{1,2})\s*/\s*(\d{1,2})\s*", text)
    metre = (int(found[1]), int(found[2])) if found else None
    if metre not in METRES:
        raise UserError(f"--meter {text}: give one of {_metres()}")
    return metre


def parse_form(text: str | None) -> tuple[tuple[str, int], ...] | None:
    """`AABA`, `A A' B A`, or `i4 A8 A8 B8 A8 o2`: a letter a phrase, and the bars of all of them or of none.

    Raises:
        UserError: no form, or a phrase that is too long.
    """
    if text is None:
        return None
    packed = re.sub(r"[\s,|-]+", "", text).replace("’", "'").replace("′", "'")
    found = [match.groups() for match in _PHRASE.finditer(packed)]
    if not found or "".join(label + bars for label, bars in found) != packed:
        raise UserError(f"--form {text}: give a letter a phrase, such as AABA, or with bars: 'A8 A8 B8 A8'")
    if len(found) > MOST_PHRASES:
        raise UserError(f"--form {text[:40]}: {len(found)} phrases: give at most {MOST_PHRASES}")
    assert all(LABEL.fullmatch(label) for label, _ in found), "as the pattern says"
    given = [bars for _, bars in found if bars]
    if given and len(given) < len(found):
        raise UserError(f"--form {text}: some phrases say how many bars they have: give it for all, or for none")
    if any(not 1 <= int(bars) <= LONGEST_PHRASE for bars in given):
        raise UserError(f"--form {text}: give 1 to {LONGEST_PHRASE} bars a phrase")
    return tuple((label, int(bars or 0)) for label, bars in found)


def parse_chords(text: str | None) -> tuple[tuple[Chord, ...], ...] | None:
    """`Am F C G`: a chord a bar; with bar lines, `Am | F C | G`, those between them share their bar evenly.

    N or NC is a bar without a chord. Positions are those of a 4/4 bar; the planner moves them to its own metre.

    Raises:
        UserError: what is no chord, or too many in a bar.
    """
    if text is None:
        return None
    bars = [bar.split() for bar in text.strip().strip("|").split("|")] if "|" in text else [[w] for w in text.split()]
    if not bars or not all(bars):
        raise UserError(f"--chords {text!r}: give a chord a bar, such as 'Am F C G', or bars as 'Am | F C | G'")
    if any(len(bar) > MOST_CHORDS for bar in bars):
        raise UserError(f"--chords {text}: give at most {MOST_CHORDS} chords a bar")
    return tuple(
        tuple(Chord(round(4 * index / len(bar), 4), *_chord(word)) for index, word in enumerate(bar)) for bar in bars
    )


MOST_CHORDS = 4
"""In a bar."""


def _chord(word: str) -> tuple[int, str]:
    if word.upper() in ("N", "NC", "N.C."):
        return 0, "N"
    found = _ROOT.fullmatch(word.split("/")[0])
    quality = _KIND_OF.get(found[3].strip("()")) if found else None
    bass = word.split("/")[1:]
    if found is None or quality is None or len(bass) > 1 or (bass and not re.fullmatch("[A-G](#|b|♯|♭)?", bass[0])):
        raise UserError(f"--chords: {word} is no chord: give a root and its kind, such as C, F#m, Bb7, Gsus4 or Bdim")
    shift = {None: 0, "#": 1, "♯": 1, "b": -1, "♭": -1}[found[2]]
    return (NATURAL[found[1]] + shift) % 12, quality
