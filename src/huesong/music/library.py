"""The music that preprocess packed: segments as a listener gets them, and as pitches and durations, by row of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.artifacts import read_json, require
from huesong.errors import UserError
from huesong.music import novelty, reading, tokens
from huesong.music.reading import Notes

_AT_ONCE = 2000
"""Segments unpacked together: memory stays flat however large the set is."""


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

    def notes(self, row: int) -> Notes:
        """A segment as it would be heard if it were written from its tokens."""
        return reading.listen(tokens.decode(self._tokenizer, self.ids(row).tolist()))

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
                novelty.symbols(own, long)
                for own, long in zip(np.split(pitch, ends), np.split(quarters, ends), strict=True)
            ]
        return found


def _quarters(value: str) -> float:
    """Length in quarters of a Duration token's `beats.part.resolution`."""
    beats, part, resolution = (int(number) for number in value.split("."))
    return beats + part / resolution
