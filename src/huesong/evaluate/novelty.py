"""Novelty: how long a stretch of notes a piece shares with any training piece, in whatever key.

Notes are taken by onset, then pitch (so a chord is read upwards). From the second note on, each is a symbol: its interval
from the note before (semitones) and its duration class (the nearest of statistics.NOTE_LENGTHS). Tempo, loudness, key
and rests do not count. A run of k equal symbols is a passage of k + 1 notes.

Shapes: N symbols of the corpus, M symbols of all pieces asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from symusic import Score

from huesong import contracts
from huesong.music import reading, tokens
from huesong.music.reading import Notes
from huesong.music.statistics import NOTE_LENGTHS
from huesong.runtime.errors import UserError
from huesong.runtime.files import read_json, require

INTERVALS = 128
"""Intervals lie in -127..127; this is added to make them positive."""
_AT_ONCE = 2000
"""Segments unpacked together: memory stays flat however large the set is."""
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64


def symbols(pitch: np.ndarray, quarters: np.ndarray) -> np.ndarray:
    """Symbols (int64, one fewer than notes) of pitches and durations in quarters, by onset and pitch."""
    if not len(pitch):
        return np.zeros(0, np.int64)
    duration = np.abs(quarters[1:, None] - NOTE_LENGTHS).argmin(axis=1)
    return (np.diff(pitch.astype(np.int64)) + INTERVALS) * len(NOTE_LENGTHS) + duration


def symbols_of(notes: Notes) -> np.ndarray:
    """Symbols of a piece as it was read from its file."""
    return symbols(notes.pitch, notes.end_q - notes.onset_q)


class Corpus:
    """The pieces that may have been copied from."""

    def __init__(self, pieces: Sequence[np.ndarray]) -> None:
        self.symbols, self.room = _joined(pieces)
        self.longest = int(self.room.max(initial=0))

    def longest_copies(self, pieces: Sequence[np.ndarray]) -> np.ndarray:
        """For each of `pieces` (symbols) the notes of its longest passage that a corpus piece also has: int64, 0 = none.

        All passages of one length are compared at once, by a polynomial hash (Karp & Rabin 1987) modulo 2^64 of random
        numbers that stand for the symbols. Only places that matched at one length are looked at for the next: a longer
        match begins where a shorter one does.
        """
        asked, room = _joined(pieces)
        owner = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
        found = np.zeros(len(pieces), np.int64)
        ours, theirs = _Hashes(asked), _Hashes(self.symbols)
        here, there = np.arange(len(asked)), np.arange(len(self.symbols))
        for length in range(1, self.longest + 1):
            here, there = here[room[here] >= length], there[self.room[there] >= length]
            if not (len(here) and len(there)):
                break
            known, which = np.unique(ours.of(here, length), return_inverse=True)
            hashes = theirs.of(there, length)
            place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            same = known[place] == hashes
            hit = np.zeros(len(known), bool)
            hit[place[same]] = True
            here, there = here[hit[which]], there[same]
            found[owner[here]] = length + 1
        return found


def _joined(pieces: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All symbols end to end, and for each how many of its piece are left from there on."""
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    ends = np.repeat(np.cumsum(lengths), lengths)
    joined = np.concatenate([np.zeros(0, np.int64), *pieces])
    return joined, ends - np.arange(len(joined))


class _Hashes:
    """Hashes of all passages of a sequence: sum over i of value(x_i) base^i, shifted to begin at 0."""

    def __init__(self, sequence: np.ndarray) -> None:
        size = 2 * INTERVALS * len(NOTE_LENGTHS)
        value = np.random.default_rng(0).integers(0, 2**64, size, dtype=np.uint64)
        self._prefix = np.zeros(len(sequence) + 1, np.uint64)
        np.cumsum(value[sequence] * _powers(_BASE, len(sequence)), out=self._prefix[1:])
        self._back = _powers(pow(_BASE, -1, 2**64), len(sequence))

    def of(self, starts: np.ndarray, length: int) -> np.ndarray:
        """uint64, one a start; wraps around modulo 2^64 by design."""
        return (self._prefix[starts + length] - self._prefix[starts]) * self._back[starts]


def _powers(base: int, count: int) -> np.ndarray:
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


class Library:
    """Segments of contracts.PIECES_TABLE by row number, from their tokens."""

    def __init__(self, preprocess: Path, pieces: pd.DataFrame) -> None:
        self._tokenizer = tokens.load(preprocess / contracts.TOKENIZER)
        path = require(preprocess / contracts.TOKENS, "huesong preprocess")
        self._tokens = np.load(path, mmap_mode="r", allow_pickle=False)
        self._start = pieces["token_start"].to_numpy(np.int64)
        self._count = pieces["token_count"].to_numpy(np.int64)
        if len(pieces) and int((self._start + self._count).max()) > len(self._tokens):
            raise UserError(
                f"the tables and arrays in {preprocess} do not belong together: run `huesong preprocess` again"
            )
        base: list[list[str]] = read_json(preprocess / contracts.VOCABULARY, "huesong preprocess")["tokens"]
        flat = [part.partition("_") for parts in base for part in parts]
        self._size = np.array([len(parts) for parts in base])
        self._first = np.cumsum(self._size) - self._size
        self._pitch = np.array([int(value) if kind == "Pitch" else -1 for kind, _, value in flat])
        self._quarters = np.array([_quarters(value) if kind == "Duration" else -1.0 for kind, _, value in flat])

    def ids(self, row: int) -> np.ndarray:
        """Token ids of a segment."""
        return np.asarray(self._tokens[self._start[row] : self._start[row] + self._count[row]])

    def score(self, row: int) -> Score:
        """A segment as a file written from its tokens would have it."""
        return tokens.decode(self._tokenizer, self.ids(row).tolist())

    def notes(self, row: int) -> Notes:
        """The notes of a segment, likewise."""
        return reading.listen(self.score(row))

    def symbols(self, rows: np.ndarray) -> list[np.ndarray]:
        """`novelty.symbols` of segments, straight from their tokens: thousands a second."""
        found: list[np.ndarray] = []
        for begin in range(0, len(rows), _AT_ONCE):
            part = rows[begin : begin + _AT_ONCE]
            ids = np.concatenate([np.zeros(0, self._tokens.dtype), *(self.ids(row) for row in part)]).astype(np.int64)
            owner = np.repeat(np.arange(len(part)), self._count[part])
            size = self._size[ids]
            place = np.repeat(self._first[ids] - (np.cumsum(size) - size), size) + np.arange(size.sum())
            owner = np.repeat(owner, size)
            is_pitch, is_duration = self._pitch[place] >= 0, self._quarters[place] >= 0
            # A note is written Pitch, Velocity, Duration: the k-th pitch has the k-th duration.
            pitch, quarters = self._pitch[place][is_pitch], self._quarters[place][is_duration]
            ends = np.cumsum(np.bincount(owner[is_pitch], minlength=len(part)))[:-1]
            found += [
                symbols(own, long) for own, long in zip(np.split(pitch, ends), np.split(quarters, ends), strict=True)
            ]
        return found


def _quarters(value: str) -> float:
    """Length in quarters of a Duration token's `beats.part.resolution`."""
    beats, part, resolution = (int(number) for number in value.split("."))
    return beats + part / resolution
