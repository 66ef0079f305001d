"""A piece as the figures of quality see it: its notes, and where its bars are.

Shapes: N notes by onset, then pitch; B bars; M notes of the melody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from symusic import Score

from huesong.music.form.heard.grid import grid_of
from huesong.music.reading import Notes, listen

TOGETHER = 1 / 16
"""Quarters: onsets closer than this are one."""
GRID = 12
"""Steps a quarter that notes are compared on: sixteenths and triplets of eighths both lie on it."""


@dataclass(frozen=True)
class Piece:
    """A piece's notes (without drums) and bars.

    starts: where the bars begin, quarters [B + 1], the last one the end. beats: quarters a beat of each bar [B].
    barred: whether the bars mean anything; of a performance whose bars nobody knows they do not.
    """

    notes: Notes
    starts: np.ndarray
    beats: np.ndarray
    barred: bool = True

    @cached_property
    def melody(self) -> np.ndarray:
        """The skyline [M]: rows of the highest notes of all onsets."""
        groups = np.flatnonzero(np.diff(self.notes.onset_q, prepend=-np.inf) > TOGETHER)
        size = np.diff(np.append(groups, len(self.notes)))
        return np.array(
            [start + int(self.notes.pitch[start : start + n].argmax()) for start, n in zip(groups, size, strict=True)],
            dtype=np.int64,
        )

    @cached_property
    def bar(self) -> np.ndarray:
        """The bar of each note [N]."""
        found = np.searchsorted(self.starts, self.notes.onset_q + TOGETHER / 2, side="right") - 1
        return np.clip(found, 0, len(self.starts) - 2)

    @property
    def seconds(self) -> float:
        """From the first onset to the last end."""
        return float(self.notes.end_s.max(initial=0.0) - self.notes.onset_s.min(initial=np.inf)) if len(self) else 0.0

    def __len__(self) -> int:
        return len(self.notes)


def piece_of(score: Score, barred: bool = True) -> Piece:
    """The piece of a score with its true time signatures, tick 0 a bar line."""
    notes = listen(score)
    grid = grid_of(score, float(notes.end_q.max(initial=0.0)))
    beats = np.array([1.5 if upper in (6, 9, 12) and lower == 8 else 4 / lower for upper, lower in grid.metres])
    return Piece(notes, grid.starts, np.clip(beats, 0.5, 2.0), barred)


def cut(piece: Piece, seconds: float) -> Piece:
    """What begins in the first `seconds` after the first onset; notes that are held longer end there."""
    notes = piece.notes
    if not len(notes):
        return piece
    end = notes.onset_s[0] + seconds
    kept = notes.onset_s < end
    over = notes.end_s > end
    share = np.where(over, (end - notes.onset_s) / (notes.end_s - notes.onset_s), 1.0)
    end_q = notes.onset_q + share * (notes.end_q - notes.onset_q)
    cut_notes = Notes(
        notes.onset_s[kept], np.minimum(notes.end_s, end)[kept], notes.onset_q[kept], end_q[kept], notes.pitch[kept],
        notes.velocity[kept],
    )  # fmt: skip
    bars = max(1, int(np.searchsorted(piece.starts, cut_notes.end_q.max() - 1e-6)))
    return replace(piece, notes=cut_notes, starts=piece.starts[: bars + 1], beats=piece.beats[:bars])


def on_grid(piece: Piece) -> Piece:
    """The piece with onsets and ends on twelfths of a quarter: who plays in time and who does not become alike."""
    notes = piece.notes
    onset = np.round(notes.onset_q * GRID) / GRID
    end = np.maximum(np.round(notes.end_q * GRID) / GRID, onset + 1 / GRID)
    order = np.lexsort((notes.pitch, onset))
    return replace(
        piece,
        notes=Notes(
            notes.onset_s[order],
            notes.end_s[order],
            onset[order],
            end[order],
            notes.pitch[order],
            notes.velocity[order],
        ),
    )
