"""What the planner learns: how chords follow each other, how often they change, forms, what returns within a phrase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from huesong.experiments.structure.annotated import Annotated
from huesong.music.form.analysis import hear
from huesong.music.form.heard.cadences import cadence_of
from huesong.music.form.heard.grid import Grid, beat_of, grid_of
from huesong.music.form.heard.phrases import Heard, boundary_features, find_starts
from huesong.music.reading import listen

CHORDS, PAIRS, TRIPLES = 28, 300, 500
"""Most chords, pairs and triples of them that are kept of a style and mode."""
SEEN = 3
"""A triple seen less often is not kept."""
PATTERNS = 12
"""Most rhythms of harmony of a metre, and most forms and phrases of a length that are kept."""
MOST_PHRASES = 10
METRES = ((4, 4), (3, 4), (2, 4), (2, 2), (6, 8), (3, 8), (9, 8), (12, 8))
STYLE = {"pop909": "pop"}
"""Of a set; all annotated scores are classical."""


def habits(pieces: Iterable[Annotated]) -> dict[str, Any]:
    """All that the planner needs."""
    sequences: dict[str, list[list[str]]] = {}
    rhythms: dict[str, Counter[str]] = {}
    cadences: dict[str, Counter[str]] = {"pop": Counter(), "classical": Counter()}
    forms: dict[int, Counter[str]] = {count: Counter() for count in range(1, MOST_PHRASES + 1)}
    inner = {f"{style} {length}": Counter[str]() for style in cadences for length in (2, 4, 8)}
    for piece in pieces:
        style = STYLE.get(piece.set, "classical")
        heard = hear(piece.score)
        for major, names in chord_sequences(piece):
            sequences.setdefault(f"{style} {'major' if major else 'minor'}", []).append(names)
        for metre, pattern in rhythms_of(piece):
            rhythms.setdefault(f"{style} {metre}", Counter())[pattern] += 1
        for kind in cadence_kinds(piece, heard):
            cadences[style][kind] += 1
        for letters in piece_forms(piece):
            for count, counter in forms.items():
                counter.update(canonical(letters[i : i + count]) for i in range(len(letters) - count + 1))
        for begin, end in phrase_bars(piece, heard):
            if f"{style} {end - begin}" in inner and comes_first(heard, begin, end):
                inner[f"{style} {end - begin}"][relations_within(heard, begin, end)] += 1
    return {
        "chords": {key: transitions(found) for key, found in sorted(sequences.items())},
        "rhythms": {key: common(counter) for key, counter in sorted(rhythms.items()) if counter.total() >= 100},
        "cadences": {key: common(counter) for key, counter in cadences.items()},
        "forms": {str(count): common(counter) for count, counter in forms.items()},
        "inner": {key: common(counter, 10 * PATTERNS) for key, counter in inner.items()},
    }


def common(counter: Counter[str], most: int = PATTERNS) -> dict[str, float]:
    """The most frequent ones, with their share of all."""
    total = counter.total()
    return {name: round(count / total, 4) for name, count in counter.most_common(most)}


def chord_sequences(piece: Annotated) -> Iterator[tuple[bool, list[str]]]:
    """Of each phrase (in one key) whether it is major, and its different chords in turn: `7:7` is a dominant seventh."""
    if piece.forms:
        cuts = [time for start, end, _ in piece.forms[0] for time in (start, end)]
    else:
        cuts = [end + 1e-3 for end in piece.phrase_ends]
    cut = np.array(sorted(cuts))

    def phrase_and_key(index: int) -> tuple[int, tuple[int, bool], bool]:
        span = piece.chords[index]
        return int(np.searchsorted(cut, span.start + 5e-4)), span.key, span.chord is not None

    for (_, key, known), run in groupby(range(len(piece.chords)), phrase_and_key):
        if known:
            chords = [chord for i in run if (chord := piece.chords[i].chord) is not None]
            names = [f"{(chord.root - key[0]) % 12}:{chord.quality}" for chord in chords]
            yield key[1], [name for name, _ in groupby(names)]


def transitions(sequences: list[list[str]]) -> dict[str, Any]:
    """Counts of the first chords of phrases, of pairs, and of triples; chords by their number in `names`."""
    names = [name for name, _ in Counter(name for names in sequences for name in names).most_common(CHORDS)]
    number = {name: index for index, name in enumerate(names)}
    first: Counter[int] = Counter()
    pairs: Counter[tuple[int, int]] = Counter()
    triples: Counter[tuple[int, int, int]] = Counter()
    for sequence in sequences:
        for known, run in groupby(sequence, lambda name: name in number):
            ids = [number[name] for name in run] if known else []
            pairs.update(pairwise(ids))
            triples.update(zip(ids, ids[1:], ids[2:], strict=False))
        if sequence and sequence[0] in number:
            first[number[sequence[0]]] += 1
    return {
        "names": names,
        "first": [first[index] for index in range(len(names))],
        "pairs": [[*pair, count] for pair, count in pairs.most_common(PAIRS)],
        "triples": [[*triple, count] for triple, count in triples.most_common(TRIPLES) if count >= SEEN],
    }


def rhythms_of(piece: Annotated) -> Iterator[tuple[str, str]]:
    """Of each bar its metre, and the beats at which its harmony changes: `0 2`; an empty word where it holds on."""
    notes = listen(piece.score)
    grid = grid_of(piece.score, float(notes.end_q.max()))
    changes: dict[int, list[float]] = {}
    for before, span in pairwise([None, *piece.chords]):
        if span is not None and (before is None or before.chord != span.chord or before.key != span.key):
            bar = int(grid.bar_of(np.array(span.start)))
            changes.setdefault(bar, []).append((span.start - float(grid.starts[bar])) / beat_of(*grid.metres[bar]))
    if not changes:
        return
    for bar in range(min(changes), max(changes)):
        if grid.metres[bar] in METRES:
            beats = sorted({round(beat) for beat in changes.get(bar, []) if abs(beat - round(beat)) < 0.1})
            if len(beats) <= 4 and len(beats) == len(changes.get(bar, [])):
                yield "/".join(map(str, grid.metres[bar])), " ".join(map(str, beats))


def cadence_kinds(piece: Annotated, heard: Heard) -> list[str]:
    """How its phrases end: as annotated, or, of POP909, as its chords show at the ends that people marked."""
    if not piece.forms:
        return [kind for _, kind in piece.cadences]
    found = [cadence_of(heard.chords, heard.grid, heard.keys, a, b) for a, b in phrase_bars(piece, heard) if b - a > 1]
    return [kind for kind in found if kind]


def piece_forms(piece: Annotated) -> list[list[str]]:
    """Letters of the phrases of each annotator, without introduction, ending and bridges of a song that stand alone."""
    return [[label for _, _, label in form if label.lower() not in ("i", "o")] for form in piece.forms]


def canonical(letters: list[str]) -> str:
    """With A as the first new letter, B as the second ...: `CCD` is `AAB`."""
    found: dict[str, str] = {}
    for letter in letters:
        found.setdefault(letter, "ABCDEFGHIJ"[len(found)])
    return "".join(found[letter] for letter in letters)


def phrase_bars(piece: Annotated, heard: Heard) -> list[tuple[int, int]]:
    """First bar and the bar after the last one of each phrase: those of people, or of scores those that are found."""
    count = len(heard.grid)
    if piece.forms:
        lines = [bars_of(heard.grid, start, end) for start, end, _ in piece.forms[0]]
        return [(a, b) for a, b in lines if a < b <= count]
    starts = find_starts(boundary_features(heard))
    return list(pairwise([*starts, count]))


def bars_of(grid: Grid, start: float, end: float) -> tuple[int, int]:
    """The bars from one time to another."""
    return int(grid.bar_of(np.array(start))), int(grid.bar_of(np.array(end - 1))) + 1


def comes_first(heard: Heard, begin: int, end: int) -> bool:
    """Whether most of its bars refer to nothing before the phrase: it is no return."""
    outside = [relation != "new" and back > index for index, (relation, back) in enumerate(heard.relations[begin:end])]
    return 2 * sum(outside) < end - begin


def relations_within(heard: Heard, begin: int, end: int) -> str:
    """What its bars have to do with earlier ones of the same phrase: `new new repeat2 variation2`."""
    return " ".join(
        f"{relation}{back}" if relation != "new" and back <= index else "new"
        for index, (relation, back) in enumerate(heard.relations[begin:end])
    )
