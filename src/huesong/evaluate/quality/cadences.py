"""Where phrases end and cadences are, by the notes alone: logistic regressions on what is heard at each beat and around it.

The weights (cadences.json) are fitted by `python -m huesong.experiments.quality.cadence_fit` to scores with cadences and
phrases that people marked; the F1 on scores that were left out stands there, too. No plan is seen.

Shapes: K beats, F features.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from huesong.evaluate.quality.harmony import classes_in
from huesong.evaluate.quality.melody import SHORTEST
from huesong.evaluate.quality.piece import TOGETHER, Piece
from huesong.evaluate.quality.structure import bar_sets, jaccard
from huesong.music.keys import key_correlations

WEIGHTS = "cadences.json"
NEAR = 1.0
"""Quarters: a found place this near to a true one is right, and a cadence this near to a phrase's end is its own."""
APART = 3.0
"""Quarters: of found places nearer than this only the likelier one is kept."""
KEY_QUARTERS = (16.0, 4.0)
"""Quarters before and after a beat over which its key is heard."""
NEIGHBOURS = (-2, -1, 1, 2)
"""Beats around a beat whose features are seen, too."""
BREATH = (
    "bar", "half_bar", "held", "gap", "thinner", "silence", "held_bar", "before_gap", "new_line", "returns_next",
    "rhythm_next", "returns", "denser", "changes", "higher",
)  # fmt: skip
HARMONY = (
    "tonic", "dominant", "dominant_before", "leading_before", "seventh_before", "predominant_before", "bass_tonic",
    "bass_dominant", "bass_falls_fifth", "bass_step", "melody_tonic", "melody_third", "melody_steps_home", "authentic",
    "authentic_root", "half", "half_held", "authentic_held", "minor",
)  # fmt: skip
FEATURES = (*BREATH, *HARMONY)
"""Phrase ends are found by BREATH alone, cadences by all."""
HEADS = {"phrase": BREATH, "cadence": FEATURES}


def cadence_figures(piece: Piece, ends: np.ndarray | None = None) -> dict[str, float]:
    """How often the music arrives; NaN without bars, or without a phrase end.

    cadence_share: share of the phrases that end on a cadence. phrase_bars: bars a phrase. cadences: on four bars.

    Args:
        piece: its notes alone are heard.
        ends: where phrases end (quarters), if somebody told: a plan, or people; None = as found.
    """
    if not piece.barred or not len(piece):
        return dict.fromkeys(("cadence_share", "phrase_bars", "cadences"), float("nan"))
    phrases, cadences = found_places(piece)
    phrases = phrases if ends is None else np.asarray(ends, dtype=float)
    bars = len(piece.starts) - 1
    near = np.abs(phrases[:, None] - cadences).min(axis=1, initial=np.inf) <= NEAR + 1e-6
    return {
        "cadence_share": float(near.mean()) if len(phrases) else float("nan"),
        "phrase_bars": bars / len(phrases) if len(phrases) else float("nan"),
        "cadences": 4 * len(cadences) / bars,
    }


def found_places(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """Where phrases end (onset of the last note) and where cadences arrive, in quarters."""
    if not len(piece):
        return np.zeros(0), np.zeros(0)
    beats_K, features_KF = beat_features(piece)
    if not len(beats_K):
        return np.zeros(0), np.zeros(0)
    found = []
    for name, used in HEADS.items():
        head = weights()[name]
        scaled = (with_neighbours(features_KF, used) - np.array(head["mean"])) / np.array(head["sd"])
        found.append(peaks(beats_K, scaled @ np.array(head["weights"]) + head["bias"], head["threshold"]))
    return found[0], found[1]


@functools.cache
def weights() -> dict[str, Any]:
    """For each of HEADS mean, sd and weights of its features, bias, threshold, and how well it does."""
    text = resources.files("huesong.evaluate.quality").joinpath(WEIGHTS).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def with_neighbours(features_KF: np.ndarray, used: Sequence[str]) -> np.ndarray:
    """The features `used` of each beat, then those of its NEIGHBOURS (at the ends of the outermost beat)."""
    columns = features_KF[:, [FEATURES.index(name) for name in used]]
    rows = np.arange(len(columns))
    return np.concatenate([columns[np.clip(rows + step, 0, len(rows) - 1)] for step in (0, *NEIGHBOURS)], axis=1)


def peaks(beats_K: np.ndarray, score_K: np.ndarray, threshold: float) -> np.ndarray:
    """Beats above the threshold, the highest of those nearer than APART; ascending."""
    kept: list[float] = []
    for index in np.argsort(-score_K, kind="stable"):
        if score_K[index] < threshold:
            break
        if all(abs(beats_K[index] - other) >= APART - 1e-6 for other in kept):
            kept.append(float(beats_K[index]))
    return np.array(sorted(kept))


def beat_features(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """The beats on which a note begins (quarters [K]) and FEATURES of each [K, F], finite."""
    bar_K, beats_K, length_K, place_K = beats_of(piece)
    onset = np.unique(np.round(piece.notes.onset_q, 4))
    near = onset[np.clip(np.searchsorted(onset, beats_K - TOGETHER), 0, len(onset) - 1)]
    heard = np.abs(near - beats_K) <= TOGETHER
    bar_K, beats_K, length_K, place_K = bar_K[heard], beats_K[heard], length_K[heard], place_K[heard]
    if not len(beats_K):
        return beats_K, np.zeros((0, len(FEATURES)))
    features = {
        "bar": place_K == 0,
        "half_bar": np.abs(place_K - 0.5) < 1e-6,
        **breath(piece, onset, beats_K, length_K),
        **change(piece, bar_K, beats_K),
        **harmony(piece, beats_K, length_K),
    }
    held, tonic = np.clip(features["held"], 0, 3), features["tonic"]
    features |= {
        "held_bar": held * (place_K == 0),
        "authentic": features["dominant_before"] * tonic,
        "authentic_root": features["dominant_before"] * tonic * features["bass_falls_fifth"],
        "authentic_held": features["dominant_before"] * tonic * features["bass_tonic"] * held,
        "half": features["dominant"] * features["bass_dominant"],
        "half_held": features["dominant"] * features["bass_dominant"] * held,
    }
    return beats_K, np.nan_to_num(np.stack([features[name] for name in FEATURES], axis=1).astype(float))


def beats_of(piece: Piece) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of every beat its bar, place in quarters, length in quarters, and share of its bar that is over."""
    counts = np.maximum(np.round(np.diff(piece.starts) / piece.beats), 1).astype(int)
    bar = np.repeat(np.arange(len(counts)), counts)
    index = np.arange(len(bar)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = index / counts[bar]
    return bar, piece.starts[bar] + share * np.diff(piece.starts)[bar], piece.beats[bar], share


def breath(piece: Piece, onset: np.ndarray, beats_K: np.ndarray, length_K: np.ndarray) -> dict[str, np.ndarray]:
    """Whether the music comes to rest at a beat: long notes, gaps, fewer notes; times in logs of the usual ones."""
    melody = piece.notes.onset_q[piece.melody]
    usual = max(float(np.median(np.diff(melody))) if len(melody) > 1 else 1.0, SHORTEST)
    end = float(piece.notes.end_q.max())

    def next_gap(times: np.ndarray) -> np.ndarray:
        here = np.searchsorted(times, beats_K - TOGETHER)
        following = np.append(times, end)[np.clip(np.searchsorted(times, beats_K + TOGETHER), 0, len(times))]
        begun = np.append(times, end)[np.clip(here, 0, len(times))]
        return np.log2(
            np.maximum(np.where(begun <= beats_K + TOGETHER, following - beats_K, SHORTEST), SHORTEST) / usual
        )

    def begun(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.searchsorted(onset, high - TOGETHER) - np.searchsorted(onset, low - TOGETHER)

    two = 2 * length_K
    before, after = begun(beats_K - two, beats_K), begun(beats_K + TOGETHER * 2, beats_K + two)
    previous = np.append(-end, melody)[np.searchsorted(melody, beats_K - TOGETHER)]
    sounding = _sounding(piece, beats_K, beats_K + two)
    pitch = piece.notes.pitch[piece.melody]
    index = (
        np.clip(np.searchsorted(melody, beats_K + TOGETHER), 1, max(len(melody) - 1, 1)) if len(melody) > 1 else None
    )
    jump = np.zeros(len(beats_K)) if index is None else np.abs(pitch[index] - pitch[index - 1])
    return {
        "held": next_gap(melody),
        "gap": next_gap(onset),
        "thinner": (before - after) / np.maximum(before + after, 1),
        "silence": 1 - sounding,
        "before_gap": np.log2(np.clip(beats_K - previous, SHORTEST, 8) / usual),
        "new_line": np.minimum(jump, 12) / 12,
    }


def change(piece: Piece, bar_K: np.ndarray, beats_K: np.ndarray) -> dict[str, np.ndarray]:
    """Whether something begins after a beat: what returns in its bar and the next, how density and register change."""
    bars = bar_sets(piece)
    rhythms = [{(place, 0) for place, _ in bar} for bar in bars]
    returns, rhythm = (np.append(_returns(each), 0.0) for each in (bars, rhythms))
    onset, length_K = piece.notes.onset_q, np.diff(piece.starts)[bar_K]
    height = np.append(0.0, np.cumsum(piece.notes.pitch))

    def of(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, last = np.searchsorted(onset, low - TOGETHER), np.searchsorted(onset, high - TOGETHER)
        return last - first, (height[last] - height[first]) / np.maximum(last - first, 1)

    (count, pitch), (later, later_pitch) = (
        of(beats_K - length_K, beats_K),
        of(beats_K + 0.125, beats_K + 0.125 + length_K),
    )
    denser = np.log2((later + 1) / (count + 1))
    return {
        "returns_next": returns[bar_K + 1],
        "rhythm_next": rhythm[bar_K + 1],
        "returns": returns[bar_K],
        "denser": denser,
        "changes": np.abs(denser),
        "higher": np.abs(later_pitch - pitch) / 12,
    }


def _returns(bars: list[set[tuple[int, int]]]) -> np.ndarray:
    """Of each bar the highest likeness to one two or more earlier."""
    return np.array(
        [
            max((jaccard(bar, old) for old in bars[: max(0, row - 1)] if bar and old), default=0.0)
            for row, bar in enumerate(bars)
        ]
    )


def _sounding(piece: Piece, low_K: np.ndarray, high_K: np.ndarray) -> np.ndarray:
    """Share of the time from `low` to `high` in which anything sounds [K]."""
    onset, end = piece.notes.onset_q, np.maximum.accumulate(piece.notes.end_q)
    fresh = np.append(True, onset[1:] > end[:-1] + 1e-9)
    starts = onset[fresh]
    ends = np.append(end[np.flatnonzero(fresh)[1:] - 1], end[-1])
    overlap = np.clip(np.minimum(ends, high_K[:, None]) - np.maximum(starts, low_K[:, None]), 0, None)
    return overlap.sum(axis=1) / np.maximum(high_K - low_K, 1e-6)


def harmony(piece: Piece, beats_K: np.ndarray, length_K: np.ndarray) -> dict[str, np.ndarray]:
    """Chords, bass and melody at a beat and before it, seen from the tonic of the key heard around it."""
    around = _classes(piece, beats_K - KEY_QUARTERS[0], beats_K + KEY_QUARTERS[1])
    kind, tonic_K = np.divmod(key_correlations(around, "albrecht").reshape(len(beats_K), 24).argmax(axis=1), 12)

    def degrees(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        found = _classes(piece, low, high)
        found = found / np.maximum(found.sum(axis=1, keepdims=True), 1e-9)
        return found[np.arange(len(found))[:, None], (tonic_K[:, None] + np.arange(12)) % 12]

    here, before = degrees(beats_K, beats_K + length_K), degrees(beats_K - length_K, beats_K)
    earlier = degrees(beats_K - 3 * length_K, beats_K - length_K)
    third = np.where(kind == 0, 4, 3)
    rows = np.arange(len(beats_K))
    bass, bass_before = _outer(piece, beats_K, length_K, lowest=True)
    top, top_before = _outer(piece, beats_K, length_K, lowest=False)
    bass_degree, top_degree = (bass - tonic_K) % 12, (top - tonic_K) % 12
    fall = (bass_before - bass) % 12
    home = np.abs(top - top_before)
    return {
        "tonic": here[:, 0] + here[rows, third] + here[:, 7],
        "dominant": here[:, 7] + here[:, 11] + here[:, 2],
        "dominant_before": before[:, 7] + before[:, 11] + before[:, 2] + before[:, 5],
        "leading_before": np.minimum(before[:, 11] * 4, 1),
        "seventh_before": np.minimum(before[:, 5] * 4, 1) * np.minimum(before[:, 7] * 4, 1),
        "predominant_before": earlier[:, 5] + earlier[:, 2] + np.maximum(earlier[:, 9], earlier[:, 8]),
        "bass_tonic": bass_degree == 0,
        "bass_dominant": bass_degree == 7,
        "bass_falls_fifth": fall == 7,
        "bass_step": (fall == 1) | (fall == 2) | (fall == 10) | (fall == 11),
        "melody_tonic": top_degree == 0,
        "melody_third": top_degree == third,
        "melody_steps_home": (home > 0) & (home <= 2) & (top_degree == 0),
        "minor": kind == 1,
    }


def _classes(piece: Piece, low_K: np.ndarray, high_K: np.ndarray) -> np.ndarray:
    """Quarters that each pitch class sounds from each `low` to its `high`: [K, 12]."""
    edges = np.unique(np.concatenate([low_K, high_K]))
    summed = np.concatenate([np.zeros((1, 12)), np.cumsum(classes_in(piece, edges), axis=0)])
    return summed[np.searchsorted(edges, high_K)] - summed[np.searchsorted(edges, low_K)]


def _outer(piece: Piece, beats_K: np.ndarray, length_K: np.ndarray, lowest: bool) -> tuple[np.ndarray, np.ndarray]:
    """The outer note that begins at each beat, or last before it, and the one before that: [K] each."""
    notes = piece.notes
    groups = np.flatnonzero(np.diff(notes.onset_q, prepend=-np.inf) > TOGETHER)
    outer = (np.minimum if lowest else np.maximum).reduceat(notes.pitch, groups)
    onset = notes.onset_q[groups]
    here = np.clip(np.searchsorted(onset, beats_K + TOGETHER) - 1, 0, len(onset) - 1)
    before = np.clip(here - 1, 0, len(onset) - 1)
    if lowest:  # the bass of the beat before, not an inner note of a broken chord
        first = np.clip(np.searchsorted(onset, beats_K - length_K - TOGETHER), 0, len(onset) - 1)
        lowest_before = [
            int(outer[a:b].min()) if b > a else int(outer[c]) for a, b, c in zip(first, here, before, strict=True)
        ]
        return outer[here], np.array(lowest_before, dtype=np.int64)
    return outer[here], outer[before]
