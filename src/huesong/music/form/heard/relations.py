"""What each bar has to do with an earlier one: a repeat, a variation, a sequence, or nothing.

B bars, L = `FARTHEST` lags; a lag is how many bars back the earlier bar lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from huesong.music.form.heard.grid import Grid
from huesong.music.form.plan import FARTHEST, Relation
from huesong.music.keys import SCALES, Key
from huesong.music.reading import Notes

FINEST = 12
"""Positions a quarter at which onsets are compared."""
SAME, VARIED = 0.7, 0.55
"""Least likeness of a repeat (Jaccard index of pitches and onsets) and of a variation."""
FEWEST = 3
"""Notes that the melody of both bars has at least, for a sequence or a variation by rhythm."""
FARTHEST_STEP = 7
"""Steps of the scale by which a sequence is moved at most."""
SWITCH = 0.15
"""What a bar is worth more if it refers as far back as the bar before: phrases come back as a whole."""


@dataclass(frozen=True)
class Likeness:
    """How like two bars are, each [B, B], 0..1.

    notes: Jaccard index of (pitch, onset), all notes. rhythm: of the melody's onsets. melody: of (pitch, onset) in the
    melody. moved: of the melody moved by the best number of scale steps but none. count: notes of each melody [B].
    sounding: notes of each bar [B].
    """

    notes: np.ndarray
    rhythm: np.ndarray
    melody: np.ndarray
    moved: np.ndarray
    count: np.ndarray
    sounding: np.ndarray

    def varied(self) -> np.ndarray:
        """How like as variations: most notes are kept, or the melody's rhythm and much of its line."""
        line = np.maximum(self.melody, self.moved)
        enough = np.minimum.outer(self.count, self.count) >= FEWEST
        return np.maximum(self.notes, np.where(enough, 0.5 * self.rhythm + 0.5 * line, 0) * (self.rhythm > 0.6))


def likeness(notes: Notes, grid: Grid, melody: np.ndarray, key: Key) -> Likeness:
    """Compare all bars with each other; `melody`: indices of its notes; `key`: whose scale sequences move in."""
    bar = grid.bar_of(notes.onset_q)
    place = np.round((notes.onset_q - grid.starts[bar]) * FINEST).astype(np.int64)
    sounding = np.bincount(bar, minlength=len(grid))
    top, step = bar[melody], scale_steps(notes.pitch[melody], key)
    moved = np.zeros((len(grid), len(grid)))
    lowest = int(step.min()) if len(step) else 0
    for shift in range(1, FARTHEST_STEP + 1):
        # One matrix serves up and down: its transpose is the other direction.
        here = _jaccard(top, (step - lowest) * 4096 + place[melody], len(grid), other=shift * 4096)
        moved = np.maximum(moved, np.maximum(here, here.T))
    return Likeness(
        notes=_jaccard(bar, notes.pitch * 4096 + place, len(grid)),
        rhythm=_jaccard(top, place[melody], len(grid)),
        melody=_jaccard(top, notes.pitch[melody] * 4096 + place[melody], len(grid)),
        moved=moved,
        count=np.bincount(top, minlength=len(grid)),
        sounding=sounding,
    )


def scale_steps(pitch: np.ndarray, key: Key) -> np.ndarray:
    """Steps of the key's scale from its lowest tonic to each pitch; a tone between takes the step below."""
    steps = np.array(SCALES[key[1]][:7])
    above = pitch - key[0] + 12
    return above // 12 * 7 + np.searchsorted(steps, above % 12, side="right") - 1


def _jaccard(bar: np.ndarray, what: np.ndarray, count: int, other: int = 0) -> np.ndarray:
    """Jaccard index of the sets that bars hold [count, count]; the second bar's items are moved up by `other`."""
    if not len(bar):
        return np.zeros((count, count))
    bars = csr_matrix((np.ones(len(bar), np.float32), (bar, what)), shape=(count, int(what.max()) + other + 1))
    bars.data[:] = 1  # what a bar holds twice counts once
    moved = csr_matrix((bars.data, bars.indices + other, bars.indptr), shape=bars.shape) if other else bars
    common = np.asarray((bars @ moved.T).todense(), dtype=np.float64)
    size = np.diff(bars.indptr)
    return np.asarray(common / np.maximum(size[:, None] + size[None] - common, 1))


def find_relations(like: Likeness, metres: tuple[tuple[int, int], ...]) -> list[tuple[Relation, int]]:
    """Relation and lag of each bar: the best path, so that neighbouring bars refer equally far back where they can.

    A bar without a note is new; so is the next bar of another metre.
    """
    count = len(metres)
    worth, kinds = _worth(like, metres)
    best = np.zeros((count, FARTHEST + 1))
    back = np.zeros((count, FARTHEST + 1), np.int64)
    best[0, 1:] = -np.inf
    lags = np.arange(FARTHEST + 1)
    for bar in range(1, count):
        before = best[bar - 1]
        top = int(before.argmax())
        stays = (before + SWITCH * (lags > 0) >= before[top]) & np.isfinite(before)
        back[bar] = np.where(stays, lags, top)
        best[bar] = np.where(stays, before + SWITCH * (lags > 0), before[top]) + worth[bar]
    path = [int(best[-1].argmax())]
    for bar in range(count - 1, 0, -1):
        path.append(int(back[bar, path[-1]]))
    found: list[tuple[Relation, int]] = []
    for bar, lag in enumerate(reversed(path)):
        kind = kinds[bar, lag]
        found.append((_KINDS[kind], lag if kind else 0))
    return found


_KINDS: tuple[Relation, ...] = ("new", "variation", "sequence", "repeat")


PASSING = -0.1
"""Worth of a bar that is new within a phrase that comes back."""
NEARER = 0.002
"""Worth of a lag that is one bar shorter, so that of equals the nearest counts."""


def _worth(like: Likeness, metres: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    """What referring by each lag is worth, and as which of `_KINDS`, both [B, L + 1]; lag 0 is a new bar, worth 0."""
    count = len(metres)
    bars, lags = np.arange(count)[:, None], np.arange(FARTHEST + 1)[None]
    then = np.maximum(bars - lags, 0)
    metre = np.array(metres)
    valid = (lags >= 1) & (lags <= bars) & (metre[bars] == metre[then]).all(axis=-1)
    valid &= (like.sounding[bars] > 0) & (like.sounding[then] > 0)
    varied, moved, notes = (table[bars, then] for table in (like.varied(), like.moved, like.notes))
    enough = np.minimum(like.count[bars], like.count[then]) >= FEWEST
    scores = np.stack([
        np.full(varied.shape, PASSING),
        np.where(varied >= VARIED, varied, PASSING),
        np.where(enough & (moved >= SAME), moved + 0.15, PASSING),
        np.where(notes >= SAME, 1 + notes, PASSING),
    ])  # fmt: skip
    kinds = np.where(valid, scores.argmax(axis=0), 0)
    worth = np.where(valid, scores.max(axis=0) - NEARER * lags, -np.inf)
    worth[:, 0] = 0
    return worth, kinds
