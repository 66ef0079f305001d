"""The head of a bar: tokens that say what the plan asks of it, before its notes. Names only; no music is read here.

    at the beginning      Style, Key
    at every bar          Left, New | Repeat | Variation | Sequence, Density, Loudness, Chord (At, Chord)*, [Cadence]

`Bar` and `TimeSig` stand before it. The network reads a head, it never has to invent one: the plan gives it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

STYLES = ("pop", "folk", "classical", "game", "mixed")
"""Of the sources (`STYLE_OF_SOURCE`); `mixed` is also what is said where nothing is known."""
STYLE_OF_SOURCE = {
    "pop909": "pop", "emopia": "pop", "nottingham": "folk", "vgmidi": "game", "vgmidi_unlabelled": "game",
    "asap": "classical", "asap_scores": "classical", "giantmidi": "classical", "mozart": "classical",
    "beethoven": "classical", "chopin": "classical", "grieg": "classical", "tchaikovsky": "classical",
    "schumann": "classical",
}  # fmt: skip
MODES = ("major", "minor")
QUALITIES = ("maj", "min", "dim", "aug", "sus4", "sus2", "7", "maj7", "min7", "hdim", "dim7", "N")
"""Kinds of chords, as the plan has them; N is no chord."""
CADENCES = ("authentic", "half", "plagal", "deceptive")
RELATIONS = ("New", "Repeat", "Variation", "Sequence")
FARTHEST = 32
"""Bars back that a relation reaches."""
MOST_LEFT = 8
"""Bars to the end of a phrase; more are counted as this many."""
DENSITIES, LOUDNESSES = 10, 12
"""Levels."""
CHANGES = 11
"""Beats of a bar, counted from 1, at which a chord may follow the first."""
MOST_CHORDS = 4
"""A bar's chords; more are left out."""

ORDER = ("Left", "Relation", "Density", "Loudness", "Chord", "At", "Cadence")
KINDS = frozenset({"Style", "Key", "Left", *RELATIONS, "Density", "Loudness", "Chord", "At", "Cadence"})
"""Kinds of tokens that only plan; without them the rest is plain REMI."""


def names() -> list[str]:
    """All tokens of heads, in the order of their ids."""
    return [
        *(f"Style_{style}" for style in STYLES),
        *(f"Key_{tonic}.{mode}" for tonic in range(12) for mode in MODES),
        *(f"Left_{left}" for left in range(1, MOST_LEFT + 1)),
        "New_0",
        *(f"{relation}_{back}" for relation in RELATIONS[1:] for back in range(1, FARTHEST + 1)),
        *(f"Density_{level}" for level in range(DENSITIES)),
        *(f"Loudness_{level}" for level in range(LOUDNESSES)),
        *(f"Chord_{root}.{quality}" for root in range(12) for quality in QUALITIES[:-1]),
        f"Chord_0.{QUALITIES[-1]}",
        *(f"At_{beat}" for beat in range(1, CHANGES + 1)),
        *(f"Cadence_{kind}" for kind in CADENCES),
    ]


def beginning(style: str, tonic: int, mode: str) -> list[str]:
    """What stands before the first bar."""
    return [f"Style_{style}", f"Key_{tonic % 12}.{mode}"]


def density_level(share: float) -> int:
    """Level of notes a quarter, as a share 0..1 of the densest; finer where few."""
    return min(DENSITIES - 1, int(DENSITIES * math.sqrt(max(0.0, share))))


def loudness_level(share: float) -> int:
    """Level of a mean velocity, as a share 0..1 of the loudest."""
    return min(LOUDNESSES - 1, int(LOUDNESSES * max(0.0, share)))


def head(
    *, left: int, relation: str, back: int, density: float, loudness: float,
    chords: Iterable[tuple[int, int, str]], cadence: str,
) -> list[str]:  # fmt: skip
    """The tokens of one bar's head, after `Bar` and `TimeSig`.

    Args:
        left: bars to the end of the phrase, itself included.
        relation: `new`, `repeat`, `variation` or `sequence`.
        back: bars back to the one it refers to; 0 for new.
        density, loudness: shares 0..1, see the levels.
        chords: (beat of the bar counted from 0, root 0..11, quality), ascending; the first at 0.
        cadence: its kind, or nothing.
    """
    found = [
        f"Left_{min(max(left, 1), MOST_LEFT)}",
        "New_0" if relation == "new" or not 1 <= back <= FARTHEST else f"{relation.capitalize()}_{back}",
        f"Density_{density_level(density)}",
        f"Loudness_{loudness_level(loudness)}",
    ]
    last = -1
    for beat, root, quality in list(chords)[:MOST_CHORDS]:
        if last < 0 or last < beat <= CHANGES:
            found += [f"At_{beat}"] * (last >= 0)
            found.append(f"Chord_{0 if quality == 'N' else root}.{quality}")
            last = beat
    return found + [f"Cadence_{cadence}"] * bool(cadence)


def transposed(name: str, semitones: int) -> str | None:
    """A token of another key: pitches, chords and keys move, all others stay. None: there is no such key on a piano."""
    kind, _, value = name.partition("_")
    if kind == "Pitch":
        pitch = int(value) + semitones
        return f"Pitch_{pitch}" if 21 <= pitch <= 108 else None
    if kind in ("Chord", "Key"):
        root, _, rest = value.partition(".")
        return name if rest == "N" else f"{kind}_{(int(root) + semitones) % 12}.{rest}"
    return name
