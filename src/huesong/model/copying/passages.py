"""The rows of the copy test: a passage, other music, and the passage again, as it was or changed.

All is numpy and reads the packed tokens of preprocess; ids are taken apart and put together by the vocabulary alone.

Shapes: N pieces (music segments).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from huesong.music.form import header
from huesong.music.vocabulary import Vocabulary

HEADS = {"exact": "Repeat", "transposed": "Sequence", "varied": "Variation"}
"""What the heads of the bars that come again say of it, where the vocabulary has heads."""
KINDS = (*HEADS, "unsaid", "random")
"""How the passage comes again: the same notes, two semitones higher, or with some notes changed, and the heads say so;
`unsaid`: the same ids, heads included, though they say `New`; `random`: random ids twice."""
DISTANCES = (0, 1, 2, 4, 8)
"""Bars of other music between the passage and its repeat."""
BARS = (4, 2, 1)
"""Bars of a passage: the first of these with which the longest distance fits into the context."""
SEMITONES = 2
CHANGED = 0.25
"""Share of the notes of a varied repeat that get another pitch, where one is free within two semitones."""


@dataclass(frozen=True)
class Row:
    """BOS, a passage, other music, and the repeat, as ids; `first` and `second` say where the two stand."""

    kind: str
    distance: int
    ids: np.ndarray  # int64
    first: slice
    second: slice
    base: int  # base tokens of the passage, and of its repeat


@dataclass(frozen=True)
class Passage:
    """Token ids of some bars of a piece, and of bars of another one, a bar each; how many bars the passage has."""

    ids: np.ndarray
    others: list[np.ndarray]
    bars: int


class Merges:
    """Byte pair encoding by the vocabulary alone: ids are numbered in the order in which their merges were learnt.

    Of two neighbours whose base tokens together are an id's, those of the lowest id are joined first (Sennrich et al. 2016).
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.names = vocabulary.tokens
        self.ids = {names: index for index, names in reversed(list(enumerate(self.names))) if names}
        self.relation_V = np.array([len(n) == 1 and n[0].partition("_")[0] in header.RELATIONS for n in self.names])

    def base(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Names of the base tokens."""
        return [name for token in ids for name in self.names[token]]

    def said(self, ids: np.ndarray, kind: str, back: int) -> np.ndarray:
        """The ids of bars whose heads say that they are `kind` of the bars so many earlier."""
        if kind not in HEADS or (said := self.ids.get((f"{HEADS[kind]}_{back}",))) is None:
            return ids
        return np.where(self.relation_V[ids], said, ids)

    def encode(self, base: Sequence[str]) -> np.ndarray:
        """The ids of base tokens, of which the vocabulary must have each."""
        ids = [self.ids[(name,)] for name in base]
        while len(ids) > 1:
            pairs = [self.ids.get(self.names[a] + self.names[b], len(self.names)) for a, b in pairwise(ids)]
            best = min(pairs)
            if best == len(self.names):
                break
            joined, index = list[int](), 0
            while index < len(ids):
                merged = index < len(pairs) and pairs[index] == best
                joined.append(best if merged else ids[index])
                index += 1 + merged
            ids = joined
        return np.array(ids, dtype=np.int64)


def copy_rows(
    vocabulary: Vocabulary,
    tokens: np.ndarray,
    start_N: np.ndarray,
    count_N: np.ndarray,
    *,
    context: int,
    passages: int = 24,
    distances: Sequence[int] = DISTANCES,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
) -> list[Row]:
    """Every passage at every distance in every kind; `random` has distance 0 only.

    Args:
        vocabulary: of the tokens.
        tokens: packed ids of all pieces.
        start_N, count_N: where each piece to draw from stands in `tokens`; for honest figures none that was learnt from.
        context: most ids that the network reads.
        passages: how many, each from another piece, with bars of yet another piece in between.
        distances: bars in between; the longest are left out where they do not fit into the context.
        kinds: some of KINDS.
        seed: of what is drawn.

    Returns:
        An empty list where not even one bar fits twice.
    """
    merges = Merges(vocabulary)
    opens_V = np.array([bool(names) and names[0] == "Bar_None" for names in vocabulary.tokens])
    order = np.random.default_rng(seed).permutation(len(start_N))
    pieces = [tokens[start_N[row] : start_N[row] + count_N[row]].astype(np.int64) for row in order]
    bars = [np.split(ids, np.flatnonzero(opens_V[ids]))[1:] for ids in pieces]
    for longest in range(len(distances), 0, -1):
        kept = sorted(distances)[:longest]
        for length in BARS:
            found = list(fitting(bars, length, kept[-1], context, passages, np.random.default_rng(seed + 1)))
            if len(found) >= min(passages, 4):
                rng = np.random.default_rng(seed + 2)
                rows = [row for one in found for row in rows_of(one, merges, vocabulary, kept, kinds, rng)]
                return [row for row in rows if len(row.ids) <= context + 1]
    return []


def fitting(
    bars: Sequence[list[np.ndarray]], length: int, between: int, context: int, most: int, rng: np.random.Generator
) -> Iterator[Passage]:
    """At most `most` passages of `length` bars that fit twice into the context, with `between` bars in between."""
    found = 0
    for index, own in enumerate(bars):
        others = bars[(index + len(bars) // 2) % len(bars)]  # another piece, not a neighbour
        if found == most or others is own:
            return
        if len(own) < length or len(others) < between:
            continue
        begin = int(rng.integers(len(others) - between + 1))
        other = others[begin : begin + between]
        passages = [np.concatenate(own[first : first + length]) for first in range(len(own) - length + 1)]
        # A repeat that is cut otherwise may be a little longer; one id less is read than the row has.
        room = context - sum(map(len, other))
        if fit := [ids for ids in passages if 2 * len(ids) + len(ids) // 8 <= room]:
            found += 1
            yield Passage(fit[int(rng.integers(len(fit)))], other, length)


def rows_of(
    passage: Passage,
    merges: Merges,
    vocabulary: Vocabulary,
    distances: Sequence[int],
    kinds: Sequence[str],
    rng: np.random.Generator,
) -> Iterator[Row]:
    """The rows of one passage; none of a kind that the vocabulary's pitches do not allow."""
    base = merges.base(passage.ids)
    change: dict[str, Callable[[list[str]], list[str]]] = {
        "transposed": transposed,
        "varied": lambda names: varied(names, rng),
    }
    for kind in kinds:
        if kind == "random":
            ids = rng.choice(np.setdiff1d(np.arange(vocabulary.size), specials(vocabulary)), len(passage.ids))
            yield row_of(kind, 0, vocabulary.bos, ids, [], ids, len(merges.base(ids)))
            continue
        again = passage.ids
        if kind in change:
            names = change[kind](base)
            if any((name,) not in merges.ids for name in names):
                continue
            again = np.concatenate([merges.encode(bar) for bar in bars_of(names)])
        for distance in distances:
            said = merges.said(again, kind, passage.bars + distance)
            yield row_of(kind, distance, vocabulary.bos, passage.ids, passage.others[:distance], said, len(base))


def row_of(
    kind: str, distance: int, bos: int, ids: np.ndarray, others: list[np.ndarray], again: np.ndarray, base: int
) -> Row:
    """The row, and where passage and repeat stand in it."""
    whole = np.concatenate([[bos], ids, *others, again]).astype(np.int64)
    return Row(kind, distance, whole, slice(1, 1 + len(ids)), slice(len(whole) - len(again), len(whole)), base)


def specials(vocabulary: Vocabulary) -> list[int]:
    """Ids that are no music."""
    return [vocabulary.pad, vocabulary.bos, vocabulary.eos]


def bars_of(base: Sequence[str]) -> list[list[str]]:
    """The base tokens bar by bar."""
    bars: list[list[str]] = []
    for name in base:
        if name == "Bar_None" or not bars:
            bars.append([])
        bars[-1].append(name)
    return bars


def pitch_of(name: str) -> int | None:
    """The pitch that a base token names; None: another kind."""
    kind, _, value = name.partition("_")
    return int(value) if kind == "Pitch" else None


def transposed(base: Sequence[str]) -> list[str]:
    """All pitches, chords and keys two semitones higher; an empty name where no piano has such a key."""
    return [header.transposed(name, SEMITONES) or "" for name in base]


def varied(base: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Some notes get another pitch; those that begin together still ascend, as REMI has them."""
    changed, place, together = list(base), 0, dict[int, list[int]]()
    for index, name in enumerate(base):
        place += name.startswith(("Bar", "Position"))
        if pitch_of(name) is not None:
            together.setdefault(place, []).append(index)
    for notes in together.values():
        for order, index in enumerate(notes):
            if rng.random() >= CHANGED:
                continue
            pitch = pitch_of(base[index])
            low = pitch_of(changed[notes[order - 1]]) if order else None
            high = pitch_of(base[notes[order + 1]]) if order + 1 < len(notes) else None
            assert pitch is not None, "an index of a pitch"
            free = [
                pitch + step
                for step in (-2, -1, 1, 2)
                if (low is None or pitch + step > low) and (high is None or pitch + step < high)
            ]
            if free:
                changed[index] = f"Pitch_{rng.choice(free)}"
    return changed
