"""Statistics of a score by which sets of pieces are compared: the paper's three metrics and their peers, and mgeval's nine.

Time steps are the score's ticks, as muspy (Dong et al., ISMIR 2020) counts them. Drums are ignored throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.distance import cdist, pdist
from scipy.stats import gaussian_kde
from symusic import Score

from huesong.music.reading import Notes, listen

STATISTIC_NAMES = (
    "polyphony_rate", "pitch_entropy", "pitch_class_entropy", "groove_paper", "groove", "scale_consistency",
    "empty_beat_rate", "polyphony",
)  # fmt: skip
MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
NOTE_LENGTHS = (4.0, 2.0, 1.0, 0.5, 0.25, 3.0, 1.5, 0.75, 0.375, 4 / 3, 2 / 3, 1 / 3)
"""Quarters: full to sixteenth note, the same dotted, half to eighth of a triplet (Yang & Lerch 2020, note length histogram)."""
MGEVAL_SHAPES = {
    "pitch_count": 1, "pitch_class_histogram": 12, "pitch_class_transitions": 144, "pitch_range": 1, "pitch_interval": 1,
    "note_count": 1, "onset_interval": 1, "note_length_histogram": 12, "note_length_transitions": 144,
}  # fmt: skip
"""The nine features and the number of values of each."""


def statistics(score: Score) -> dict[str, float]:
    """STATISTIC_NAMES of one score; every value is finite, all are 0 for a score without notes.

    polyphony_rate: share of time steps with more than two pitches sounding (muspy, threshold 2).
    pitch_entropy, pitch_class_entropy: bits, of the notes' pitches (128) and pitch classes (12).
    groove_paper, groove: 1 - mean normalised Hamming distance of the onset patterns of neighbouring measures (Wu & Yang,
    ISMIR 2020), with a measure of 4 ticks as in the paper, and of 16 steps a 4/4 bar.
    scale_consistency: largest share of notes that lie in one major or (natural) minor scale.
    empty_beat_rate: share of quarters in which nothing sounds. polyphony: mean number of pitches over the non-silent steps.
    """
    notes = listen(score)
    if not len(notes):
        return dict.fromkeys(STATISTIC_NAMES, 0.0)
    onset = np.round(notes.onset_q * score.tpq).astype(np.int64)
    end = np.round(notes.end_q * score.tpq).astype(np.int64)
    total = int(end.max())
    length, sounding = _sounding(onset, end, notes.pitch)
    pitch_class = np.bincount(notes.pitch % 12, minlength=12)
    return {
        "polyphony_rate": float(length[sounding > 2].sum() / total),
        "pitch_entropy": entropy(np.bincount(notes.pitch)),
        "pitch_class_entropy": entropy(pitch_class),
        "groove_paper": groove_consistency(onset, 4, int(onset.max()) + 1),
        "groove": groove_consistency(np.round(notes.onset_q * 4).astype(np.int64), 16),
        "scale_consistency": max(
            float(np.roll(pitch_class, -root)[list(MAJOR_SCALE)].sum() / pitch_class.sum()) for root in range(12)
        ),
        "empty_beat_rate": _empty_beats(onset, end, score.tpq),
        "polyphony": float((length * sounding).sum() / max(length[sounding > 0].sum(), 1)),
    }


def entropy(counts: np.ndarray) -> float:
    """Shannon entropy in bits of a histogram."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def groove_consistency(onset: np.ndarray, steps: int, end: int | None = None) -> float:
    """1 - mean share of steps at which neighbouring measures differ in whether a note begins; 1.0 for a single measure.

    onset: in steps, any order. steps: of a measure. end: length of the piece in steps (default: past the last onset).
    """
    measures = -(-(int(onset.max()) + 1 if end is None else end) // steps)
    if measures < 2:
        return 1.0
    # Sparse, as four-tick measures make long vectors: a pair of measures differs at a step exactly where one has an onset.
    at = np.unique(onset)
    both = np.intersect1d(at, at - steps, assume_unique=True).size
    last = int((at >= (measures - 1) * steps).sum())
    first = int((at < steps).sum())
    different = (at.size - last) + (at.size - first) - 2 * both
    return 1.0 - different / steps / (measures - 1)


def _sounding(onset: np.ndarray, end: np.ndarray, pitch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the stretches of time between all onsets and ends, from tick 0, and the number of pitches sounding in each."""
    # Union of the notes on each key, so that a pitch held by two voices counts once.
    order = np.lexsort((onset, pitch))
    onset, end, pitch = onset[order], end[order], pitch[order]
    base = pitch * (int(end.max()) + 1)
    reach = np.maximum.accumulate(end + base)
    fresh = np.concatenate(([True], (onset + base)[1:] > reach[:-1]))
    starts = onset[fresh]
    stops = (reach - base)[np.append(np.flatnonzero(fresh)[1:] - 1, len(onset) - 1)]
    times = np.concatenate((stops, starts))
    step = np.repeat((-1, 1), len(starts))
    order = np.argsort(times, kind="stable")
    return np.diff(times[order], prepend=0), np.cumsum(step[order]) - step[order]


def _empty_beats(onset: np.ndarray, end: np.ndarray, tpq: int) -> float:
    beats = -(-int(end.max()) // tpq)
    change = np.zeros(beats + 1, np.int64)
    np.add.at(change, onset // tpq, 1)
    np.add.at(change, (end - 1) // tpq + 1, -1)
    return float((np.cumsum(change)[:-1] == 0).mean())
