"""The line: what of the melody comes back, and how it moves."""

from __future__ import annotations

from collections import Counter

import numpy as np

from huesong.evaluate.quality.piece import Piece

LEAP = 7
"""More semitones than this are a leap."""
SHORTEST = 1 / 32
"""Quarters; shorter times between two onsets count as this."""


def gap_classes(quarters: np.ndarray) -> np.ndarray:
    """Classes of times between onsets, in quarters: half octaves, so a dotted and a plain one differ."""
    return np.round(2 * np.log2(np.maximum(quarters, SHORTEST))).astype(np.int64)


def line(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """Intervals in semitones and classes of the times between the melody's onsets: [M - 1] each."""
    rows = piece.melody
    return np.diff(piece.notes.pitch[rows]), gap_classes(np.diff(piece.notes.onset_q[rows]))


def recurring(piece: Piece, length: int) -> float:
    """Share of the melody's passages of `length` (interval, class) pairs that stand in it more than once.

    Passages of one pair alone, such as a repeated note, say nothing and are left out. NaN where none is left.
    """
    pairs = list(zip(*(part.tolist() for part in line(piece)), strict=True))
    passages = [tuple(pairs[i : i + length]) for i in range(len(pairs) - length + 1)]
    passages = [passage for passage in passages if len(set(passage)) > 1]
    if not passages:
        return float("nan")
    return sum(count for count in Counter(passages).values() if count > 1) / len(passages)


def line_figures(piece: Piece) -> dict[str, float]:
    """motif4, motif8: `recurring`. step: share of intervals of one or two semitones. leap: of more than a fifth."""
    size = np.abs(line(piece)[0])
    return {
        "motif4": recurring(piece, 4),
        "motif8": recurring(piece, 8),
        "step": float(((size == 1) | (size == 2)).mean()) if len(size) else float("nan"),
        "leap": float((size > LEAP).mean()) if len(size) else float("nan"),
    }
