"""Harmony: chords and keys as the notes show them, window by window.

Shapes: W windows, C = 12 * len(TRIADS) chords.
"""

from __future__ import annotations

import numpy as np

from huesong.evaluate.quality.piece import Piece
from huesong.music.features import CHORDS
from huesong.music.keys import key_correlations

TRIADS = ("major", "minor", "diminished")
"""Of music.features.CHORDS; a seventh chord is heard as its triad."""
HALF_BAR = 2.0
"""Quarters: longer bars hold two windows of chords."""
KEY_BARS = 2
"""Bars of a window of keys."""
TRIGRAM = 3


def harmony_figures(piece: Piece) -> dict[str, float]:
    """chord_fit: mean share of the sounding time on notes of each window's best triad. chord_repetition: 1 - different
    over all trigrams of successive chords. key_stability: share of windows of two bars whose best key has at most one
    accidental more or fewer than the piece's.
    """
    windows_W12 = classes_in(piece, chord_edges(piece))
    windows_W12 = windows_W12[windows_W12.sum(axis=1) > 0]
    if not len(windows_W12):
        return dict.fromkeys(("chord_fit", "chord_repetition", "key_stability"), float("nan"))
    chords_W, fit_W = best_chords(windows_W12)
    changed = chords_W[np.append(True, chords_W[1:] != chords_W[:-1])].tolist()
    trigrams = [tuple(changed[i : i + TRIGRAM]) for i in range(len(changed) - TRIGRAM + 1)]
    return {
        "chord_fit": float(fit_W.mean()),
        "chord_repetition": 1 - len(set(trigrams)) / len(trigrams) if trigrams else float("nan"),
        "key_stability": key_stability(piece),
    }


def chord_edges(piece: Piece) -> np.ndarray:
    """Edges of the windows that chords are heard in: bars, or halves of bars longer than three quarters."""
    edges = [piece.starts[:1]]
    for start, end in zip(piece.starts[:-1], piece.starts[1:], strict=True):
        parts = 2 if end - start > 1.5 * HALF_BAR + 1e-6 else 1
        edges.append(start + (end - start) * np.arange(1, parts + 1) / parts)
    return np.concatenate(edges)


def classes_in(piece: Piece, edges: np.ndarray) -> np.ndarray:
    """Quarters that each pitch class sounds between successive edges: [W, 12]."""
    notes = piece.notes
    sounding = np.minimum(notes.end_q[:, None], edges[1:]) - np.maximum(notes.onset_q[:, None], edges[:-1])
    found_12W = np.zeros((12, len(edges) - 1))
    np.add.at(found_12W, notes.pitch % 12, np.clip(sounding, 0, None))
    return found_12W.T


def chord_shares(classes_W12: np.ndarray) -> np.ndarray:
    """Share of the sounding time on the notes of each triad: [W, C], by kind, then root."""
    share = classes_W12 / np.maximum(classes_W12.sum(axis=1, keepdims=True), 1e-9)
    tones = [np.stack([np.roll(share, -step, axis=1) for step in CHORDS[name]]).sum(axis=0) for name in TRIADS]
    return np.concatenate(tones, axis=1)


def best_chords(classes_W12: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best triad of each window (kind * 12 + root) and its share [W]; among equals the first, so major before minor."""
    shares_WC = chord_shares(classes_W12)
    # Of triads that hold the same notes, the one whose root sounds longest.
    share_W12 = classes_W12 / np.maximum(classes_W12.sum(axis=1, keepdims=True), 1e-9)
    chosen_W = (shares_WC + 1e-3 * np.tile(share_W12, len(TRIADS))).argmax(axis=1)
    return chosen_W, shares_WC[np.arange(len(shares_WC)), chosen_W]


def signature(classes: np.ndarray) -> np.ndarray:
    """Of profiles [..., 12] the major key with the notes of the best key: 0..11."""
    correlations = key_correlations(classes, "albrecht")
    kind, root = np.divmod(correlations.reshape(*correlations.shape[:-2], 24).argmax(axis=-1), 12)
    return np.where(kind == 0, root, root + 3) % 12


def key_stability(piece: Piece) -> float:
    """See `harmony_figures`; NaN without a window."""
    edges = piece.starts[::KEY_BARS]
    if len(edges) < 2:
        return float("nan")
    windows_W12 = classes_in(piece, edges)
    windows_W12 = windows_W12[(windows_W12 > 0).sum(axis=1) > 2]
    if not len(windows_W12):
        return float("nan")
    apart = (signature(windows_W12) - signature(windows_W12.sum(axis=0))) * 7 % 12  # in fifths
    return float((np.minimum(apart, 12 - apart) <= 1).mean())
