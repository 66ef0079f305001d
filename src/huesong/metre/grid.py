"""The grid of a score: whether its notes lie on sixteenths and triplets of a quarter, and by what shift they do."""

from __future__ import annotations

import numpy as np

SIXTEENTHS = np.array([0, 1 / 4, 1 / 2, 3 / 4])
PLACES = np.array([*SIXTEENTHS, 1 / 3, 2 / 3])
"""Where onsets lie within a quarter."""
NEAR = 0.0375
"""Quarters by which an onset may miss its place: .15 of a sixteenth. By chance 30 % lie so near to a sixteenth, 45 % to
one of PLACES."""
FINE = 96
"""Shifts tried within a quarter."""


def share_on(onset_q: np.ndarray, places: np.ndarray = PLACES) -> float:
    """Share of onsets (quarters) within NEAR of one of `places`."""
    return float((_off(onset_q, places) <= NEAR).mean())


def _off(onset_q: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Distance of each onset from the nearest place, quarters."""
    phase = onset_q % 1
    return np.abs(phase[:, None] - np.append(places, 1.0)).min(axis=1)


def best_shift(onset_q: np.ndarray) -> tuple[float, float]:
    """The shift of the grid, -1/2 to 1/2 quarter (of equals the smallest), with which most onsets lie on it, and their share."""
    count = np.bincount((onset_q % 1 * FINE).astype(np.int64) % FINE, minlength=FINE)
    middle = (np.arange(FINE) + 0.5) / FINE
    shifts = np.arange(FINE) / FINE
    hit = np.array([_off(middle - shift, PLACES) <= NEAR for shift in shifts]) @ count
    smallest = np.minimum(shifts, 1 - shifts)
    shift = float(shifts[np.lexsort((smallest, -hit))[0]])
    for _ in range(2):  # to the middle of the onsets' own scatter
        phase = (onset_q - shift) % 1
        nearest = np.abs(phase[:, None] - np.append(PLACES, 1.0)).argmin(axis=1)
        off = phase - np.append(PLACES, 1.0)[nearest]
        if (close := np.abs(off) <= 2 * NEAR).any():
            shift += float(np.median(off[close]))
    shift = (shift + 0.5) % 1 - 0.5
    return shift, share_on(onset_q - shift)
