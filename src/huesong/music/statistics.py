"""Statistics of pieces and of sets of pieces: the paper's three metrics and their kin, and the nine of mgeval.

Definitions follow muspy (Dong et al., ISMIR 2020) and mgeval (Yang & Lerch, Neural Computing and Applications 32,
2020). Drums are ignored throughout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from symusic import Score

from huesong.music.reading import Notes, listen
from huesong.va import USUAL, Bootstrap

if TYPE_CHECKING:
    import pandas as pd

SCALAR_STATISTICS = (
    "polyphony_rate", "pitch_entropy", "pitch_class_entropy", "groove_paper", "groove", "scale_consistency",
    "empty_beat_rate", "polyphony",
    "pitch_count", "pitch_range", "pitch_interval", "note_count", "onset_interval",
)  # fmt: skip
VECTOR_STATISTICS = {
    "pitch_class_histogram": 12,
    "pitch_class_transitions": 144,
    "note_length_histogram": 12,
    "note_length_transitions": 144,
}
"""The statistics that are histograms, with their sizes; they stand in columns `<name>_0`, `<name>_1` ..."""
VECTOR_COLUMNS = {name: tuple(f"{name}_{i}" for i in range(size)) for name, size in VECTOR_STATISTICS.items()}
STATISTIC_NAMES = (*SCALAR_STATISTICS, *(column for columns in VECTOR_COLUMNS.values() for column in columns))
MGEVAL_NAMES = (
    "pitch_count", "pitch_class_histogram", "pitch_class_transitions", "pitch_range", "pitch_interval",
    "note_count", "onset_interval", "note_length_histogram", "note_length_transitions",
)  # fmt: skip
"""Yang & Lerch's five pitch and four rhythm features of a whole piece: PC, PCH, PCTM, PR, PI, NC, IOI, NLH, NLTM."""

SCALE = (0, 2, 4, 5, 7, 9, 11)
"""Major; a natural minor scale holds the same notes as a major one."""
NOTE_LENGTHS = np.array([4, 2, 1, 0.5, 0.25, 3, 1.5, 0.75, 0.375, 4 / 3, 2 / 3, 1 / 3])
"""Quarters of mgeval's classes: whole to sixteenth, dotted half to dotted sixteenth, triplets of half to eighth."""
POLYPHONY_THRESHOLD = 2
STEPS_PER_BAR = 16
PAPER_STEPS = 4
"""Ticks of a `measure` as the paper calls muspy's groove consistency."""
MOST_PIECES = 300
"""Larger sets are thinned (seeded) before distances are taken and densities are estimated."""
CELLS = 512
"""Cells of the grid that densities of distances are estimated on."""


def statistics(score: Score) -> dict[str, float]:
    """STATISTIC_NAMES of one score; every value is finite, all are 0 for a score without notes.

    polyphony_rate: share of ticks at which more than two pitches sound. polyphony: pitches at once, mean over the ticks
    at which any sounds. pitch_entropy, pitch_class_entropy: bits, of the notes' pitches and pitch classes. groove_paper,
    groove: `groove_consistency` with measures of 4 ticks, as in the paper (compare only at 480 ticks a quarter), and of
    16 steps a 4/4 bar. scale_consistency: largest share of the notes that one major or natural minor scale holds.
    empty_beat_rate: share of quarters without a sounding note.

    Of mgeval: pitch_count (different pitches), pitch_range (semitones), pitch_interval (mean absolute step between
    successive notes, semitones), note_count, onset_interval (mean time between successive onsets, seconds); histograms
    of pitch classes and note lengths and their 12 x 12 transitions between successive notes, as shares that sum to 1.
    """
    notes = listen(score)
    if not len(notes):
        return dict.fromkeys(STATISTIC_NAMES, 0.0)
    onset = np.round(notes.onset_q * score.tpq).astype(np.int64)
    end = np.round(notes.end_q * score.tpq).astype(np.int64)
    span, sounding = _sounding(onset, end, notes.pitch)
    pitch_class = np.bincount(notes.pitch % 12, minlength=12)
    found = {
        "polyphony_rate": span[sounding > POLYPHONY_THRESHOLD].sum() / end.max(),
        "polyphony": (span * sounding).sum() / span[sounding > 0].sum(),
        "pitch_entropy": entropy(np.bincount(notes.pitch)),
        "pitch_class_entropy": entropy(pitch_class),
        "groove_paper": groove_consistency(onset, PAPER_STEPS, int(end.max()) // PAPER_STEPS + 1),
        "groove": groove_consistency(np.round(notes.onset_q * STEPS_PER_BAR / 4).astype(np.int64), STEPS_PER_BAR),
        "scale_consistency": max(np.roll(pitch_class, -root)[list(SCALE)].sum() for root in range(12)) / len(notes),
        "empty_beat_rate": _empty_beats(onset // score.tpq, end // score.tpq),
        "pitch_count": len(np.unique(notes.pitch)),
        "pitch_range": np.ptp(notes.pitch),
        "pitch_interval": np.abs(np.diff(notes.pitch)).mean() if len(notes) > 1 else 0.0,
        "note_count": len(notes),
        "onset_interval": np.diff(notes.onset_s).mean() if len(notes) > 1 else 0.0,
    }
    found |= _histograms(notes)
    return {name: float(found[name]) for name in STATISTIC_NAMES}


def entropy(counts: np.ndarray) -> float:
    """Shannon entropy in bits of a histogram of counts or weights, not all zero."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum() + 0.0)


def groove_consistency(onset: np.ndarray, steps: int, measures: int | None = None) -> float:
    """1 - mean share of steps at which neighbouring measures differ in whether a note begins (Wu & Yang, ISMIR 2020).

    onset: in steps, whole numbers, any order. steps: of a measure. measures: of the piece (default: up to the last
    onset). A single measure is consistent: 1.0.
    """
    at = np.unique(onset)
    if measures is None:
        measures = int(at[-1]) // steps + 1
    if measures < 2:
        return 1.0
    # Sparse, as four-tick measures are many: two neighbours differ at a step where one has an onset and the other not.
    in_both = np.isin(at + steps, at, assume_unique=True).sum()
    in_first, in_last = (at < steps).sum(), (at >= (measures - 1) * steps).sum()
    differences = (len(at) - in_last) + (len(at) - in_first) - 2 * in_both
    return float(1.0 - differences / (steps * (measures - 1)))


def _sounding(onset: np.ndarray, end: np.ndarray, pitch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The stretches between all onsets and ends from tick 0: their lengths in ticks, and how many pitches sound."""
    order = np.lexsort((onset, pitch))
    onset, end, pitch = onset[order], end[order], pitch[order]
    # A pitch held by two voices counts once: join the overlapping notes of a key (keys lie far apart on one axis).
    base = pitch * (int(end.max()) + 1)
    reach = np.maximum.accumulate(end + base)
    fresh = np.flatnonzero(np.concatenate(([True], (onset + base)[1:] > reach[:-1])))
    last = np.append(fresh[1:], len(onset)) - 1
    times = np.concatenate(((reach - base)[last], onset[fresh]))
    step = np.repeat((-1, 1), len(fresh))
    order = np.argsort(times, kind="stable")
    return np.diff(times[order], prepend=0), np.cumsum(step[order]) - step[order]


def _empty_beats(first: np.ndarray, last: np.ndarray) -> float:
    """As muspy counts: a note fills every beat from its onset's to its end's, which is also the piece's last beat."""
    change = np.zeros(int(last.max()) + 2, np.int64)
    np.add.at(change, first, 1)
    np.add.at(change, last + 1, -1)
    return float((np.cumsum(change)[:-1] == 0).mean())


def _histograms(notes: Notes) -> dict[str, float]:
    length = np.abs((notes.end_q - notes.onset_q)[:, None] - NOTE_LENGTHS).argmin(axis=1)
    found: dict[str, float] = {}
    for kind, classes in (("pitch_class", notes.pitch % 12), ("note_length", length)):
        single = np.bincount(classes, minlength=12) / len(classes)
        pairs = np.bincount(classes[:-1] * 12 + classes[1:], minlength=144) / max(len(classes) - 1, 1)
        found |= dict(zip(VECTOR_COLUMNS[f"{kind}_histogram"], single, strict=True))
        found |= dict(zip(VECTOR_COLUMNS[f"{kind}_transitions"], pairs, strict=True))
    return found


def compare(generated: pd.DataFrame, reference: pd.DataFrame, bootstrap: Bootstrap = USUAL) -> dict[str, float]:
    """How far a set of pieces is from a reference set; both frames hold STATISTIC_NAMES, a row a piece.

    For every scalar statistic: `<name>` (mean of the generated) with `<name>_low`, `<name>_high` (95 % bootstrap
    interval), `<name>_data` (mean of the reference). For a histogram `<name>` and `<name>_data` are the mean distance between two
    pieces of the set: its diversity. For all of them `<name>_overlap` and `<name>_kl`: Yang & Lerch's overlapping area
    and KL divergence between the distances within the reference and those from generated to reference pieces (1 and 0:
    no difference), with intervals over the generated pieces. `distance_paper`, `distance_correct`: sum over PR, PE and
    GC (in the paper's or the correct form) of |generated - data| / data, with intervals. `n_data`: reference pieces.
    """
    from scipy.spatial.distance import cdist, pdist  # here: composing needs `entropy` alone, and scipy takes a second

    rng = np.random.default_rng(bootstrap.seed)
    draws = rng.integers(len(generated), size=(bootstrap.n, len(generated)))
    found: dict[str, float] = {"n_data": len(reference)}
    for name in SCALAR_STATISTICS:
        means = generated[name].to_numpy(float)[draws].mean(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        found |= {name: float(generated[name].mean()), f"{name}_low": float(low), f"{name}_high": float(high)}
        found[f"{name}_data"] = float(reference[name].mean())
    found |= distances(generated, reference, bootstrap)
    ours, theirs = _thinned(generated, rng), _thinned(reference, rng)
    picked = np.stack(
        [np.bincount(draw, minlength=len(ours)) for draw in rng.integers(len(ours), size=(bootstrap.n, len(ours)))]
    )
    for name in (*SCALAR_STATISTICS, *VECTOR_STATISTICS):
        columns = list(VECTOR_COLUMNS.get(name, (name,)))
        a, b = ours[columns].to_numpy(float), theirs[columns].to_numpy(float)
        within, across = pdist(b), cdist(a, b)
        if name in VECTOR_STATISTICS:
            found |= {
                name: float(pdist(a).mean()) if len(a) > 1 else 0.0,
                f"{name}_data": float(within.mean()) if len(b) > 1 else 0.0,
            }
        if len(b) > 1:
            data, each = _densities(within, across)
            drawn = picked @ each / len(ours)
            for ending, likeness in (("overlap", _overlap), ("kl", _divergence)):
                low, high = np.quantile(likeness(data, drawn), (0.025, 0.975))
                found[f"{name}_{ending}"] = float(likeness(data, each.mean(axis=0)))
                found |= {f"{name}_{ending}_low": float(low), f"{name}_{ending}_high": float(high)}
    return found


def distances(generated: pd.DataFrame, reference: pd.DataFrame, bootstrap: Bootstrap = USUAL) -> dict[str, float]:
    """`distance_paper` and `distance_correct` of `compare`, with `_low` and `_high`."""
    draws = np.random.default_rng(bootstrap.seed).integers(len(generated), size=(bootstrap.n, len(generated)))
    found: dict[str, float] = {}
    for key, groove in (("distance_paper", "groove_paper"), ("distance_correct", "groove")):
        names = ["polyphony_rate", "pitch_entropy", groove]
        data = reference[names].to_numpy(float).mean(axis=0)
        values = generated[names].to_numpy(float)
        unit = np.where(data > 0, data, 1.0)  # nothing relative can be said about a figure that is 0 in the data
        drawn = (np.abs(values[draws].mean(axis=1) - data) / unit).sum(axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        found[key] = float((np.abs(values.mean(axis=0) - data) / unit).sum())
        found |= {f"{key}_low": float(low), f"{key}_high": float(high)}
    return found


def _thinned(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.iloc[np.sort(rng.choice(len(frame), min(len(frame), MOST_PIECES), replace=False))]


def overlapping_area(a: np.ndarray, b: np.ndarray) -> float:
    """Area under the lower of the two samples' densities (Gaussian kernel estimates): 0 apart .. 1 the same."""
    return float(_overlap(*_densities(a, b)))


def kl_divergence(a: np.ndarray, b: np.ndarray) -> float:
    """KL(a || b) in nats between the samples' densities (Gaussian kernel estimates), 0 when they are the same."""
    return float(_divergence(*_densities(a, b)))


def _overlap(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.minimum(p, q).sum(axis=-1)


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    p, q = p + 1e-12, q + 1e-12
    return np.maximum((p * np.log(p / q)).sum(axis=-1), 0.0)


def _densities(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [..., CELLS] of the cells of one grid over both samples [..., N], a density for each row.

    All rows of a sample share the kernel width of the whole sample (Scott's rule), so that the mean of the rows is the
    density of the sample.
    """
    from scipy.ndimage import gaussian_filter1d

    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    width = max(float(high - low), 1e-6)
    step = 1.5 * width / CELLS
    found = []
    for sample in (a, b):
        rows = np.atleast_2d(sample)
        cells = ((rows - (low - 0.25 * width)) / step).astype(int)
        counts = np.stack([np.bincount(row, minlength=CELLS) for row in cells]).astype(float)
        # A constant sample has no kernel width of its own: a narrow bell stands for it.
        kernel = max(float(np.std(sample)) * sample.size**-0.2, 5e-3 * width)
        density = gaussian_filter1d(counts, kernel / step, axis=-1, mode="constant")
        found.append((density / density.sum(axis=-1, keepdims=True)).reshape(*sample.shape[:-1], CELLS))
    return found[0], found[1]
