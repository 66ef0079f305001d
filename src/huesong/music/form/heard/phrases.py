"""Phrases and their letters: where phrases begin, by what returns, rests, texture and harmony; which are the same.

At every bar line a logistic model, fitted to people's phrases (statistics.json), says how likely a phrase begins there;
the likeliest division also weighs how common each length is. B bars, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from huesong.music.form.heard.cadences import cadence_of, kind_of
from huesong.music.form.heard.grid import Grid
from huesong.music.form.heard.relations import Likeness
from huesong.music.form.plan import Chord, Relation
from huesong.music.form.statistics import statistics
from huesong.music.keys import Key
from huesong.music.reading import Notes

FEATURES = (
    "run_begins", "run_ended", "later_begins", "later_ended", "copied", "long_note", "rest", "density", "register",
    "rhythm", "tonic", "from_dominant", "from_tonic", "as_4_ago", "as_8_ago", "held",
    "copy_begins", "copy_begins_often", "copy_ends", "notes_begin", "notes_end",
    "authentic", "half", "other_cadence", "authentic_here",
)  # fmt: skip
USUAL, LONGEST = 8, 16
"""Bars of a phrase: longer ones are rare; the most."""
AROUND = 4
"""Bars before and after a line whose texture is compared."""


@dataclass(frozen=True)
class Heard:
    """What phrases and cadences are found from.

    melody: indices of its notes. key: of the whole. keys, relations, chords: of each bar. bass: [S, 12] by beat.
    """

    notes: Notes
    grid: Grid
    melody: np.ndarray
    key: Key
    keys: list[Key]
    bass: np.ndarray
    like: Likeness
    relations: list[tuple[Relation, int]]
    chords: list[tuple[Chord, ...]]


def boundary_features(heard: Heard) -> np.ndarray:
    """What speaks for a phrase that begins at each bar [B, F]; the row of the first bar is of no meaning."""
    count = len(heard.grid)
    found = np.zeros((count, len(FEATURES)))
    _returns(heard, found)
    _melody_gaps(heard, found)
    bar = heard.grid.bar_of(heard.notes.onset_q)
    length = np.diff(heard.grid.starts)
    sounding = np.bincount(bar, minlength=count)
    dense = np.log1p(sounding / length)
    register = np.bincount(bar, weights=heard.notes.pitch, minlength=count) / np.maximum(sounding, 1)
    register[sounding == 0] = register[sounding > 0].mean()
    for line in range(1, count):
        before, after = slice(max(0, line - AROUND), line), slice(line, line + AROUND)
        found[line, 7] = abs(dense[after].mean() - dense[before].mean())
        found[line, 8] = min(2, abs(register[after].mean() - register[before].mean()) / 6)
        rhythm = heard.like.rhythm
        within = (rhythm[before, before].mean() + rhythm[after, after].mean()) / 2
        found[line, 9] = within - rhythm[before, after].mean()
        for column, ago in ((13, 4), (14, 8)):
            if line >= ago:
                found[line, column] = heard.like.notes[line, line - ago]
    _harmony(heard, found)
    _diagonals(_alike(heard), found[:, 16:19])
    ends = np.zeros((count, 3))
    _diagonals(heard.like.notes, ends)
    found[:, 19], found[:, 20] = ends[:, 0], ends[:, 2]
    return in_context(found)


def in_context(found: np.ndarray) -> np.ndarray:
    """The features beside what they are around [B, 4 F]: at the neighbouring lines, and 4 and 8 bars away."""
    count = len(found)

    def at(shift: int) -> np.ndarray:
        rows = np.arange(count) + shift
        return np.where(((rows > 0) & (rows < count))[:, None], found[np.clip(rows, 0, count - 1)], 0)

    near = np.maximum(at(-1), at(1))
    return np.concatenate([found, near, (at(-4) + at(4)) / 2, (at(-8) + at(8)) / 2], axis=1)


def _diagonals(alike: np.ndarray, found: np.ndarray) -> None:
    """How much more a place is like another from the line on than before it: the most, the three most, and the least."""
    count = len(alike)
    # What lies outside of the piece is neither like nor unlike.
    padded = np.pad(np.stack([alike, np.ones_like(alike)]), ((0, 0), (AROUND, AROUND), (AROUND, AROUND)))
    after, before = np.zeros((2, count, count)), np.zeros((2, count, count))
    for shift in range(AROUND):
        later, earlier = AROUND + shift, AROUND - 1 - shift
        after += padded[:, later : later + count, later : later + count]
        before += padded[:, earlier : earlier + count, earlier : earlier + count]
    step = after[0] / np.maximum(after[1], 1) - before[0] / np.maximum(before[1], 1)
    lines = np.arange(count)
    step[np.abs(lines[:, None] - lines[None]) < 2] = 0
    ordered = np.sort(step, axis=1)
    found[:, 0] = ordered[:, -1]
    found[:, 1] = ordered[:, -3:].mean(axis=1)
    found[:, 2] = -ordered[:, 0]


def _returns(heard: Heard, found: np.ndarray) -> None:
    """Runs of bars that refer equally far back begin or end here, or what they refer to does."""
    lags = [lag for _, lag in heard.relations]
    edges = [0, *(bar for bar in range(1, len(lags)) if lags[bar] != lags[bar - 1]), len(lags)]
    for begin, end in pairwise(edges):
        lag, run = lags[begin], min(end - begin, 8) / 8
        if not lag or end - begin < 2:
            continue
        found[begin, 0] = run
        found[begin - lag, 2] = max(found[begin - lag, 2], run)
        if end < len(lags):
            found[end, 1] = run
        found[end - lag, 3] = max(found[end - lag, 3], run)
    for bar, (relation, _) in enumerate(heard.relations):
        found[bar, 4] = relation == "repeat"


def _melody_gaps(heard: Heard, found: np.ndarray) -> None:
    """A long note, or a rest, of the melody in the bar before the line (or just after it)."""
    onset, end = heard.notes.onset_q[heard.melody], heard.notes.end_q[heard.melody]
    if len(onset) < 2:
        return
    gaps = np.append(np.diff(onset), 0)
    rests = np.append(np.maximum(onset[1:] - np.maximum.accumulate(end)[:-1], 0), 0)
    usual = max(float(np.median(gaps[:-1])), 0.1)
    for bar, line in enumerate(heard.grid.starts[:-1].tolist()):
        length = float(heard.grid.starts[bar + 1]) - line
        low, high = np.searchsorted(onset, [line - length, line + length / 4])
        if high > low:
            found[bar, 5] = min(2.5, np.log2(max(1, gaps[low:high].max() / usual)) / 2)
            found[bar, 6] = min(1, rests[low:high].max() / length)
        else:
            found[bar, 5], found[bar, 6] = 1, 1


def _harmony(heard: Heard, found: np.ndarray) -> None:
    tonic = heard.key[0]
    for bar in range(1, len(heard.grid)):
        here, before = heard.chords[bar][0], heard.chords[bar - 1][-1]
        degree = (before.root - tonic) % 12
        found[bar, 10] = here.quality != "N" and here.root == tonic
        found[bar, 11] = before.quality != "N" and degree == 7
        found[bar, 12] = before.quality != "N" and degree == 0
        found[bar, 15] = here == before
        cadence = cadence_of(heard.chords, heard.grid, heard.keys, max(0, bar - 4), bar)
        found[bar, 21:24] = cadence == "authentic", cadence == "half", cadence in ("plagal", "deceptive")
        found[bar, 24] = kind_of(before, here, heard.keys[bar]) == "authentic"


def find_starts(features: np.ndarray, model: dict[str, list[float]] | None = None) -> list[int]:
    """Indices of the first bars of all phrases, by dynamic programming over where each phrase ends."""
    model = model or statistics()["phrases"]
    count = len(features)
    begins = features @ np.array(model["weights"][1:]) + model["weights"][0]
    # Of a phrase, its length and the bars that begin none in it.
    inside = np.concatenate([[0.0], np.cumsum(-np.logaddexp(0, begins))])
    chance = -np.logaddexp(0, -begins)
    lengths = np.array(model["lengths"])
    best, back = np.full(count + 1, -np.inf), np.zeros(count + 1, np.int64)
    best[0] = 0
    for end in range(1, count + 1):
        for length in range(1, min(LONGEST, end) + 1):
            start = end - length
            # The last one may be short, for the piece ends there.
            prior = lengths[length - 1] if end < count or length > USUAL else 0.0
            worth = best[start] + prior + (chance[start] if start else 0) + inside[end] - inside[start + 1]
            if worth > best[end]:
                best[end], back[end] = worth, start
    starts = []
    end = count
    while end > 0:
        end = int(back[end])
        starts.append(end)
    return starts[::-1]


def find_labels(heard: Heard, starts: list[int]) -> list[str]:
    """A letter of each phrase; a stroke where it varies an earlier one; i and o for what begins and ends a piece."""
    count = len(heard.grid)
    alike = _alike(heard)
    edges = [*starts, count]
    labels: list[str] = []
    families: list[str] = []
    for index, (begin, end) in enumerate(pairwise(edges)):
        scores = [_phrase_likeness(alike, (edges[j], edges[j + 1]), (begin, end)) for j in range(index)]
        best = int(np.argmax(scores)) if scores else -1
        if best >= 0 and scores[best] >= RETURNS:
            family = families[best]
            exact = scores[best] >= EXACT
            strokes = {labels[j] for j in range(index) if families[j] == family}
            labels.append(labels[best] if exact or len(strokes) > 3 else family + "'" * len(strokes))
        else:
            family = _letter(len(set(families)))
            labels.append(family)
        families.append(family)
    return _opening_and_ending(heard, starts, labels, families)


RETURNS, EXACT = 0.47, 0.62
"""Likeness of two phrases from which they have one letter; from which they have the same strokes."""


def _alike(heard: Heard) -> np.ndarray:
    """How like bars are for the ear that names phrases [B, B]: notes, melody, rhythm and harmony."""
    like = heard.like
    tones = np.array([_tone_vector(chords) for chords in heard.chords])
    harmony = tones @ tones.T
    line = np.maximum(like.melody, 0.6 * like.moved)
    return np.maximum(like.notes, 0.5 * line + 0.2 * like.rhythm + 0.2 * harmony + 0.1 * like.notes)


def _tone_vector(chords: tuple[Chord, ...]) -> np.ndarray:
    found = np.zeros(12)
    for chord in chords:
        found[list(chord.tones)] += 1
    return found / max(float(np.linalg.norm(found)), 1e-9)


def _phrase_likeness(alike: np.ndarray, first: tuple[int, int], second: tuple[int, int]) -> float:
    """Mean likeness of their bars, one by one from the beginning; less where the lengths differ."""
    a, b = first[1] - first[0], second[1] - second[0]
    common = min(a, b)
    bars = np.arange(common)
    same = float(alike[first[0] + bars, second[0] + bars].mean())
    return same * (common / max(a, b)) ** 0.5


def _letter(number: int) -> str:
    return "ABCDEFGHJKLMNPQRSTUVWYZ"[min(number, 22)]


def _opening_and_ending(heard: Heard, starts: list[int], labels: list[str], families: list[str]) -> list[str]:
    """`i` for a first phrase and `o` for a last one that never return and are thinner or shorter than the others."""
    bar = heard.grid.bar_of(heard.notes.onset_q[heard.melody])
    edges = [*starts, len(heard.grid)]
    sung = np.array([((bar >= a) & (bar < b)).sum() / (b - a) for a, b in pairwise(edges)])
    lengths = np.diff(edges)
    named = list(labels)
    if len(starts) < 4:
        return named
    for index, name in ((0, "i"), (len(starts) - 1, "o")):
        thin = sung[index] < 0.75 * np.median(sung) or lengths[index] < np.median(lengths)
        if families.count(families[index]) == 1 and thin:
            named[index] = name
    if named[0] == "i":
        named = ["i", *(_earlier(label) for label in named[1:])]
    return named


def _earlier(label: str) -> str:
    """One letter up the alphabet: the intro took A."""
    if not label[0].isupper():
        return label
    letters = [_letter(number) for number in range(23)]
    return letters[max(0, letters.index(label[0]) - 1)] + label[1:]
