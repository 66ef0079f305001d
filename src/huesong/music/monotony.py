"""Whether music has got stuck on a few tones: what choosing by emotion alone rewards at the corners of the plane."""

from __future__ import annotations

from collections.abc import Sequence

from huesong.music.vocabulary import TokenTable

WINDOW = 32
FEWEST = 5
"""Pitches among that many notes in a row. 98 of 100 clips of EMOPIA (30 s) have at least as many throughout."""


def monotony(table: TokenTable, ids: Sequence[int]) -> float:
    """How far the barest stretch of `WINDOW` notes of a piece falls short of `FEWEST` different pitches: 0 (not at all) to 0.8."""
    pitches = [value for token in ids for kind, value in table.base[token] if kind == "Pitch"]
    if len(pitches) < WINDOW:
        return 0.0
    fewest = min(len(set(pitches[start : start + WINDOW])) for start in range(0, len(pitches) - WINDOW + 1, 4))
    return max(0, FEWEST - fewest) / FEWEST
