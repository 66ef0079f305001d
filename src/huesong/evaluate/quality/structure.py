"""Form: bars that come back, how alike the bars' rhythms are, and the structure indicators.

Shapes: B bars, F frames of half a second, S starts of a segment.
"""

from __future__ import annotations

import numpy as np

from huesong.evaluate.quality.piece import GRID, Piece

ALIKE = 0.7
"""Jaccard index from which on two bars are the same."""
FRAMES_A_SECOND = 2
SI_SECONDS = {"si_short": (3.0, 8.0), "si_middle": (8.0, 15.0), "si_long": (15.0, 60.0)}
"""Lengths of the repeated segments that a structure indicator looks at."""
SMOOTHED = 8
"""Frames that the self-similarity is averaged over, along its diagonals: what goes on alike for four seconds counts."""
SI_FROM_SECONDS = 28.0
"""Shorter pieces have no structure indicators."""
KEPT_SHARE = 0.2
PENALTY = -2.0
"""Of the self-similarity the highest 20 % are kept and the rest is -2 (Müller, Jiang & Grosche 2013)."""


def form_figures(piece: Piece) -> dict[str, float]:
    """bar_repetition: share of bars that resemble one two or more earlier. groove_pairs: `groove_of_all_pairs`.

    si_short, si_middle, si_long: structure indicators. Bars of a piece whose bars mean nothing are not looked at.
    """
    bars = bar_sets(piece) if piece.barred else []
    return {
        "bar_repetition": bar_repetition(bars),
        "groove_pairs": groove_of_all_pairs(piece) if piece.barred else float("nan"),
        **structure_indicators(piece),
    }


def bar_sets(piece: Piece) -> list[set[tuple[int, int]]]:
    """For each bar its notes as (onset in twelfths of a quarter from the bar line, pitch)."""
    bars: list[set[tuple[int, int]]] = [set() for _ in range(len(piece.starts) - 1)]
    place = np.round((piece.notes.onset_q - piece.starts[piece.bar]) * GRID).astype(int)
    for bar, *note in zip(piece.bar.tolist(), place.tolist(), piece.notes.pitch.tolist(), strict=True):
        bars[bar].add((note[0], note[1]))
    return bars


def jaccard(one: set[tuple[int, int]], other: set[tuple[int, int]]) -> float:
    """Share of what either holds that both hold."""
    return len(one & other) / max(len(one | other), 1)


def bar_repetition(bars: list[set[tuple[int, int]]]) -> float:
    """Share of bars with a note that are alike (`ALIKE`) to one two or more earlier; NaN below three bars with notes."""
    heard = [index for index, bar in enumerate(bars) if bar]
    if len(heard) < 3:
        return float("nan")
    hits = [any(jaccard(bars[index], bars[old]) >= ALIKE for old in heard if old <= index - 2) for index in heard]
    return float(np.mean(hits))


def groove_of_all_pairs(piece: Piece) -> float:
    """1 - mean share of steps at which two bars differ in whether a note begins, over all pairs of equally long bars.

    Wu & Yang (2020); sixteen steps a 4/4 bar. `groove` of music.statistics compares neighbours only.
    """
    length = np.round(np.diff(piece.starts) * 4).astype(int)
    step = np.round((piece.notes.onset_q - piece.starts[piece.bar]) * 4).astype(int)
    total, pairs = 0.0, 0
    for size in np.unique(length):
        bars = np.flatnonzero(length == size)
        begins = np.zeros((len(length), size), dtype=bool)
        inside = (length[piece.bar] == size) & (step < size)
        begins[piece.bar[inside], step[inside]] = True
        count = begins[bars].sum(axis=0)
        total += float((count * (len(bars) - count)).sum()) / size
        pairs += len(bars) * (len(bars) - 1) // 2
    return 1.0 - total / pairs if pairs else float("nan")


def chroma(piece: Piece) -> np.ndarray:
    """How long each pitch class sounds in each half second, of length 1: [F, 12]; silence is even."""
    notes = piece.notes
    begin = notes.onset_s[0]
    frames = max(1, int(np.ceil((notes.end_s.max() - begin) * FRAMES_A_SECOND - 1e-6)))
    edges = begin + np.arange(frames + 1) / FRAMES_A_SECOND
    onset, end = notes.onset_s[:, None], notes.end_s[:, None]
    sounding_NF = np.clip(np.minimum(end, edges[1:]) - np.maximum(onset, edges[:-1]), 0, None)
    classes_F12 = np.zeros((frames, 12))
    np.add.at(classes_F12.T, notes.pitch % 12, sounding_NF)
    classes_F12 += 1e-3
    return classes_F12 / np.linalg.norm(classes_F12, axis=1, keepdims=True)


def self_similarity(chroma_F12: np.ndarray) -> np.ndarray:
    """Cosines, averaged along the diagonals, the highest KEPT_SHARE scaled to 0..1, the rest PENALTY: [F, F].

    The diagonal is 1.
    """
    likeness_FF = along_diagonals(chroma_F12 @ chroma_F12.T)
    apart = likeness_FF[~np.eye(len(likeness_FF), dtype=bool)]
    lowest = np.quantile(apart, 1 - KEPT_SHARE) if len(apart) else 1.0
    scaled_FF = np.clip((likeness_FF - lowest) / max(1.0 - lowest, 1e-9), 0, 1)
    scaled_FF[likeness_FF < lowest] = PENALTY
    np.fill_diagonal(scaled_FF, 1.0)
    return scaled_FF


def along_diagonals(likeness_FF: np.ndarray) -> np.ndarray:
    """Means over SMOOTHED neighbours on the same diagonal, fewer at the edges."""
    frames = len(likeness_FF)
    total_FF, count_FF = np.zeros_like(likeness_FF), np.zeros_like(likeness_FF)
    for step in range(-(SMOOTHED // 2), SMOOTHED - SMOOTHED // 2):
        here, there = (slice(max(0, -sign * step), frames - max(0, sign * step)) for sign in (1, -1))
        total_FF[here, here] += likeness_FF[there, there]
        count_FF[here, here] += 1
    return total_FF / np.maximum(count_FF, 1)


def structure_indicators(piece: Piece) -> dict[str, float]:
    """For each range of SI_SECONDS the highest fitness of a segment of that length (Wu & Yang 2020).

    Fitness after Müller, Jiang & Grosche (2013), with repetitions in the same tempo alone: harmonic mean of how well the
    best family of repetitions, which do not overlap, resembles the segment, and how much of the piece it covers, both
    without the segment itself. NaN for pieces shorter than SI_FROM_SECONDS.
    """
    if not len(piece) or piece.seconds < SI_FROM_SECONDS:
        return dict.fromkeys(SI_SECONDS, float("nan"))
    similar_FF = self_similarity(chroma(piece))
    frames = len(similar_FF)
    found = {}
    for name, (low, high) in SI_SECONDS.items():
        lengths = range(round(low * FRAMES_A_SECOND), min(round(high * FRAMES_A_SECOND), frames // 2) + 1)
        found[name] = max((fitness(similar_FF, length) for length in lengths), default=0.0)
    return found


def fitness(similar_FF: np.ndarray, length: int) -> float:
    """Highest fitness of a segment of `length` frames."""
    frames = len(similar_FF)
    starts = frames - length + 1
    scores_SS = np.zeros((starts, starts))
    for step in range(length):  # along the diagonals
        scores_SS += similar_FF[step : step + starts, step : step + starts]
    # The best set of places that do not overlap, for all segments at once: place by place, with or without it.
    best_SF = np.zeros((starts, frames + 1))
    covered_SF = np.zeros((starts, frames + 1))
    for end in range(1, frames + 1):
        best_SF[:, end], covered_SF[:, end] = best_SF[:, end - 1], covered_SF[:, end - 1]
        if end >= length:
            taken_S = best_SF[:, end - length] + scores_SS[:, end - length]
            better = taken_S > best_SF[:, end]
            best_SF[better, end] = taken_S[better]
            covered_SF[better, end] = covered_SF[better, end - length] + length
    score_S, covered_S = best_SF[:, frames], covered_SF[:, frames]
    likeness_S = (score_S - length) / np.maximum(covered_S, 1)
    coverage_S = (covered_S - length) / frames
    both = (likeness_S > 0) & (coverage_S > 0)
    if not both.any():
        return 0.0
    return float((2 * likeness_S[both] * coverage_S[both] / (likeness_S[both] + coverage_S[both])).max())
