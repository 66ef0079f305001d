"""How well plans read from notes agree with people's: chords, keys, phrases, letters, cadences; chance beside each."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from huesong.experiments.structure.annotated import Annotated
from huesong.music.form.analysis import hear
from huesong.music.form.heard.cadences import cadence_of
from huesong.music.form.heard.phrases import Heard, boundary_features, find_labels, find_starts
from huesong.music.form.plan import CADENCES, Chord

TRIADS = {
    "maj": "major", "7": "major", "maj7": "major", "min": "minor", "min7": "minor", "dim": "diminished",
    "dim7": "diminished", "hdim": "diminished", "aug": "augmented", "sus4": "suspended", "sus2": "suspended",
}  # fmt: skip
Counts = dict[str, tuple[float, float, float]]
"""Of each figure hits, found and wanted: precision is hits / found, recall hits / wanted."""


@dataclass(frozen=True)
class Scored:
    """One piece: shares (0..1) by name, and counts of what is found and wanted by name."""

    name: str
    set: str
    shares: dict[str, float]
    counts: Counts


def score_piece(piece: Annotated) -> Scored:
    """The analysis of one piece beside what people wrote."""
    heard = hear(piece.score)
    shares = chord_shares(piece, heard)
    shares["key"] = float(heard.key == piece.key)
    shares["key, chance: C major or A minor"] = float(piece.key == ((0, True) if piece.key[1] else (9, False)))
    counts: Counts = {}
    starts = find_starts(boundary_features(heard))
    count = len(heard.grid)
    if piece.forms:
        labels = spread(starts, find_labels(heard, starts), count)
        forms = [form_in_bars(form, heard, count) for form in piece.forms if form]
        for index, (lines, names) in enumerate(forms):
            _form_counts(counts, shares, f"annotator {index + 1}", (starts, labels), (lines, names))
        if len(forms) == 2:
            _form_counts(counts, shares, "annotators", forms[0], forms[1])
        for every in (4, 8):
            grid = [bar for bar in range(count) if (bar - forms[0][0][0]) % every == 0]
            names = spread(grid, ["A"] * len(grid), count)
            _form_counts(counts, shares, f"chance {every}", (grid, names), forms[0])
    if piece.phrase_ends:
        ends = [int(heard.grid.bar_of(np.array(end))) for end in piece.phrase_ends]
        counts["phrase ends within 1 bar"] = matched([start - 1 for start in starts[1:]] + [count - 1], ends, 1)
        even = list(range(3, count, 4))
        counts["phrase ends within 1 bar, chance: every 4 bars"] = matched(even, ends, 1)
    if piece.cadences:
        counts |= cadence_counts(piece, heard, starts)
    return Scored(piece.name, "POP909" if piece.forms else "scores", shares, counts)


def chord_shares(piece: Annotated, heard: Heard) -> dict[str, float]:
    """Shares of the annotated time in which root, and root and triad, are right; of the local key; and of chance."""
    sung = [
        (float(start) + c.position, c) for start, cs in zip(heard.grid.starts, heard.chords, strict=False) for c in cs
    ]
    times = np.array([time for time, _ in sung])
    edges = sorted({*times.tolist(), *(t for span in piece.chords for t in (span.start, span.end))})
    right: dict[str, float] = defaultdict(float)
    total = 0.0
    begins = np.array([span.start for span in piece.chords])
    for low, high in itertools.pairwise(edges):
        middle = (low + high) / 2
        index = int(np.searchsorted(begins, middle, side="right")) - 1
        if index < 0 or middle >= piece.chords[index].end or piece.chords[index].chord is None:
            continue
        span = piece.chords[index]
        bar = int(heard.grid.bar_of(np.array(middle)))
        chord = sung[max(0, int(np.searchsorted(times, middle, side="right")) - 1)][1]
        assert span.chord is not None
        root, triad = _right(chord, span.chord)
        home = Chord(0.0, piece.key[0], "maj" if piece.key[1] else "min")
        total += high - low
        right["chord root"] += root * (high - low)
        right["chord triad"] += triad * (high - low)
        right["chord triad, chance: the tonic"] += _right(home, span.chord)[1] * (high - low)
        right["local key"] += (heard.keys[bar] == span.key) * (high - low)
    return {name: value / max(total, 1e-9) for name, value in right.items()}


def _right(found: Chord, wanted: Chord) -> tuple[bool, bool]:
    if found.quality == "N":
        return False, False
    root = found.root == wanted.root
    return root, root and TRIADS[found.quality] == TRIADS[wanted.quality]


def form_in_bars(form: list[tuple[float, float, str]], heard: Heard, count: int) -> tuple[list[int], list[str]]:
    """First bars of the phrases, and the label of every bar ('' where there is none)."""
    lines = [int(heard.grid.bar_of(np.array(start))) for start, _, _ in form]
    names = [""] * count
    for start, end, label in form:
        first, last = (int(heard.grid.bar_of(np.array(time))) for time in (start, max(start, end - 1)))
        names[first : last + 1] = [label] * (last + 1 - first)
    return lines, names


def spread(starts: list[int], labels: list[str], count: int) -> list[str]:
    """The label of every bar."""
    found = [""] * count
    for start, end, label in zip(starts, [*starts[1:], count], labels, strict=True):
        found[start:end] = [label] * (end - start)
    return found


def _form_counts(
    counts: Counts, shares: dict[str, float], who: str, found: tuple[list[int], list[str]],
    wanted: tuple[list[int], list[str]],
) -> None:  # fmt: skip
    for within in (0, 1):
        inner = [bar for bar in found[0] if wanted[0][0] < bar], wanted[0][1:]
        counts[f"boundaries within {within} bar: {who}"] = matched(*inner, within)
    counts[f"letters: {who}"] = pairs(found[1], wanted[1])


def matched(found: Sequence[int], wanted: Sequence[int], within: int) -> tuple[float, float, float]:
    """How many of `wanted` have one of `found` within so many bars, each counted once; and how many there are."""
    hits, taken = 0, set()
    for bar in sorted(wanted):
        near = [other for other in found if abs(other - bar) <= within and other not in taken]
        if near:
            taken.add(min(near, key=lambda other: (abs(other - bar), other)))
            hits += 1
    return hits, len(found), len(wanted)


def pairs(found: Sequence[str], wanted: Sequence[str]) -> tuple[float, float, float]:
    """Pairs of bars of one letter (strokes left out), in both, found, wanted (Levy & Sandler 2008); labelled bars only."""
    kept = [(f.rstrip("'"), w) for f, w in zip(found, wanted, strict=True) if f and w]
    mine, theirs = (np.unique([pair[side] for pair in kept], return_inverse=True)[1] for side in (0, 1))
    above = np.triu_indices(len(kept), k=1)
    same, wished = (mine[:, None] == mine)[above], (theirs[:, None] == theirs)[above]
    return float((same & wished).sum()), float(same.sum()), float(wished.sum())


def cadence_counts(piece: Annotated, heard: Heard, starts: list[int]) -> Counts:
    """Cadences at the ends of the found phrases beside the annotated ones, within a bar: of any kind, and by kind."""
    found = [
        (end - 1, cadence_of(heard.chords, heard.grid, heard.keys, start, end))
        for start, end in zip(starts, [*starts[1:], len(heard.grid)], strict=True)
    ]
    wanted = [(int(heard.grid.bar_of(np.array(time))), kind) for time, kind in piece.cadences]
    given = {int(heard.grid.bar_of(np.array(time))): kind for time, kind in piece.cadences}
    named = [(bar, cadence_of(heard.chords, heard.grid, heard.keys, max(0, bar - 3), bar + 1)) for bar in given]
    counts: Counts = {"cadences within 1 bar": matched([b for b, k in found if k], [b for b, _ in wanted], 1)}
    for kind in CADENCES[1:]:
        mine, theirs = [b for b, k in found if k == kind], [b for b, k in wanted if k == kind]
        counts[f"cadences within 1 bar: {kind}"] = matched(mine, theirs, 1)
        heard_there = [bar for bar, k in named if k == kind]
        counts[f"kind, given the bar: {kind}"] = matched(heard_there, [b for b, k in given.items() if k == kind], 0)
    every = list(range(3, len(heard.grid), 4))
    counts["cadences within 1 bar, chance: every 4 bars"] = matched(every, [b for b, _ in wanted], 1)
    return counts


@dataclass(frozen=True)
class Figure:
    """A mean over pieces, or an F1 of all pieces' counts, with its bootstrap 95 % interval over pieces; n pieces."""

    value: float
    low: float
    high: float
    n: int


def summarise(scored: Iterable[Scored], resamples: int = 1000) -> dict[tuple[str, str], Figure]:
    """Figures by set and name."""
    rng = np.random.default_rng(0)
    shares, counts = defaultdict(list), defaultdict(list)
    for piece in scored:
        for name, share in piece.shares.items():
            shares[piece.set, name].append([share, 0.5, 0.5])
        for name, numbers in piece.counts.items():
            counts[piece.set, name].append(list(numbers))
    found = {}
    for key, rows in [*shares.items(), *counts.items()]:
        table = np.array(rows, dtype=float)
        if key in shares:
            table = np.stack([table[:, 0], np.ones(len(table)), np.ones(len(table))], axis=1)
        draws = rng.integers(len(table), size=(resamples, len(table)))
        spread_of = np.quantile(_f1(table[draws].sum(axis=1)), (0.025, 0.975))
        found[key] = Figure(float(_f1(table.sum(axis=0))), float(spread_of[0]), float(spread_of[1]), len(table))
    return found


def _f1(sums: np.ndarray) -> np.ndarray:
    """2 hits / (found + wanted), of sums [..., 3]; of shares, whose found and wanted are 1 a piece, their mean."""
    return np.asarray(2 * sums[..., 0] / np.maximum(sums[..., 1] + sums[..., 2], 1e-9))
