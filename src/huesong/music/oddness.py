"""Whether a stretch of music is odd: stuck on few tones, or all at one end of the keyboard.

Choosing by emotion alone rewards that at the corners of the plane: one high tone tapped, two low ones drummed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from huesong.music.vocabulary import TokenTable

WINDOW = 32
"""Notes in a row that are looked at. Of EMOPIA's, POP909's and Mozart's clips of 30 s, 98 of 100 keep each of these throughout:"""
FEWEST = 5
"""Different pitches."""
NARROWEST = 12
"""Semitones from the lowest to the highest."""
LOWEST, HIGHEST = 44, 79
"""Mean pitch."""


def oddness(table: TokenTable, ids: Sequence[int]) -> float:
    """How far the oddest `WINDOW` notes of a piece lie beyond the bounds above: 0 (within them) to 1."""
    pitches = np.array([value for token in ids for kind, value in table.base[token] if kind == "Pitch"])
    if len(pitches) < WINDOW:
        return 0.0
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(pitches, WINDOW)[::4], axis=1)
    different = 1 + (np.diff(windows, axis=1) > 0).sum(axis=1)
    span, mean = windows[:, -1] - windows[:, 0], windows.mean(axis=1)
    beyond = np.stack([
        (FEWEST - different) / FEWEST,
        (NARROWEST - span) / NARROWEST,
        (LOWEST - mean) / 12,
        (mean - HIGHEST) / 12,
    ])  # fmt: skip
    return float(np.clip(beyond.max(), 0, 1))
