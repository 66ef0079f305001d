"""The figures of quality: of a piece, and of sets of pieces with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from huesong.evaluate.quality.cadences import cadence_figures
from huesong.evaluate.quality.harmony import harmony_figures
from huesong.evaluate.quality.melody import line_figures
from huesong.evaluate.quality.piece import Piece
from huesong.evaluate.quality.structure import form_figures
from huesong.va import USUAL, Bootstrap

TITLES = {
    "motif4": "motif 4", "motif8": "motif 8", "step": "step", "leap": "leap > 7", "bar_repetition": "bars that return",
    "si_short": "SI 3-8 s", "si_middle": "SI 8-15 s", "si_long": "SI > 15 s", "groove_pairs": "GS, all pairs",
    "chord_fit": "chord fit", "chord_repetition": "chord trigrams that return", "key_stability": "key stability",
    "cadence_share": "phrases with a cadence", "phrase_bars": "bars a phrase",
    "cadences": "cadences on 4 bars",
}  # fmt: skip
"""Every figure of a piece and its title in tables; docs/evaluation.md defines them."""
OF_BARS = ("bar_repetition", "groove_pairs", "cadence_share", "phrase_bars", "cadences")
"""Undefined for pieces whose bars mean nothing."""


def piece_figures(piece: Piece) -> dict[str, float]:
    """TITLES of a piece; NaN where a figure is undefined for it."""
    if not len(piece):
        return dict.fromkeys(TITLES, float("nan"))
    found = line_figures(piece) | form_figures(piece) | harmony_figures(piece) | cadence_figures(piece)
    return {name: found[name] for name in TITLES}


def set_figures(
    pieces: Sequence[Mapping[str, float]],
    bootstrap: Bootstrap = USUAL,
    prefix: str = "",
    names: Iterable[str] = TITLES,
) -> dict[str, float]:
    """Of each figure the mean over the pieces that have it, its bootstrap interval (`_low`, `_high`), and their number.

    The number stands in `_n` where it is smaller than that of all pieces. Figures that no piece has are left out.
    """
    found: dict[str, float] = {}
    for name in names:
        values = np.array([piece.get(name, np.nan) for piece in pieces], dtype=float)
        has = np.isfinite(values)
        if not has.any():
            continue
        found[prefix + name] = float(values[has].mean())
        if (interval := bootstrap.among(has).interval(_mean, values[has])) is not None:
            found[f"{prefix}{name}_low"], found[f"{prefix}{name}_high"] = interval
        if has.sum() < len(values):
            found[f"{prefix}{name}_n"] = int(has.sum())
    return found


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1)
