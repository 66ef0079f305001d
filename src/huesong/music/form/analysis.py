"""The plan of a piece as its notes show it: bars, key, chords, phrases, what returns, cadences, levels."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from huesong.music.form.heard.cadences import cadence_of
from huesong.music.form.heard.chords import beat_weights, chords_of_bars, find_chords, find_home, find_keys
from huesong.music.form.heard.grid import Grid, grid_of, melody_of
from huesong.music.form.heard.phrases import Heard, boundary_features, find_labels, find_starts
from huesong.music.form.heard.relations import find_relations, likeness
from huesong.music.form.plan import DENSEST, MOST_BARS, BarPlan, Plan
from huesong.music.reading import Notes, listen, tempo_map
from huesong.runtime.errors import UserError

if TYPE_CHECKING:
    from symusic import Score


def analyse(score: Score) -> Plan:
    """The plan that a score's notes show; the same score gives the same plan.

    Args:
        score: with its true time signatures, tick 0 a bar line; drums are not heard.

    Raises:
        UserError: it holds no note, or too many bars.
    """
    heard = hear(score)
    features = boundary_features(heard)
    starts = find_starts(features)
    labels = find_labels(heard, starts)
    bars: list[BarPlan] = []
    for label, (begin, end) in zip(labels, pairwise([*starts, len(heard.grid)]), strict=True):
        for bar in range(begin, end):
            relation, back = heard.relations[bar]
            cadence = cadence_of(heard.chords, heard.grid, heard.keys, begin, end) if bar == end - 1 else ""
            bars.append(BarPlan(heard.grid.metres[bar], relation, back, label, end - bar, cadence, heard.chords[bar]))
    tonic, major = heard.key
    dynamics, density = levels(heard.notes, heard.grid)
    return Plan(tonic, "major" if major else "minor", mean_tempo(score), tuple(bars), dynamics, density)


def hear(score: Score) -> Heard:
    """Bars, melody, key, chords and likenesses, from which phrases and cadences are found.

    Raises:
        UserError: it holds no note, or too many bars.
    """
    notes = listen(score)
    if not len(notes):
        raise UserError("the piece holds no note: give one with notes")
    grid = grid_of(score, float(notes.end_q.max()))
    if len(grid) > MOST_BARS:
        raise UserError(f"the piece has {len(grid)} bars: a plan holds at most {MOST_BARS}: give a shorter one")
    sound, bass = beat_weights(notes, grid)
    key = find_home(sound, bass)
    keys = find_keys(sound, grid, key)
    melody = melody_of(notes)
    like = likeness(notes, grid, melody, key)
    chords = chords_of_bars(find_chords(sound, bass, grid, keys), grid)
    return Heard(notes, grid, melody, key, keys, bass, like, find_relations(like, grid.metres), chords)


def mean_tempo(score: Score) -> float:
    """Quarters a minute over the whole piece."""
    tick, qpm = tempo_map(score)
    length = np.diff(np.append(tick, max(score.end(), int(tick[-1]) + 1)))
    return float(np.clip(length.sum() / (length / qpm).sum(), 1, 1000))


def levels(notes: Notes, grid: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Dynamics and density of each bar; a bar without a note takes the dynamics of the one before."""
    bar = grid.bar_of(notes.onset_q)
    count = np.bincount(bar, minlength=len(grid))
    loud = np.bincount(bar, weights=notes.velocity / 127, minlength=len(grid)) / np.maximum(count, 1)
    heard = np.maximum.accumulate(np.where(count > 0, np.arange(len(grid)), 0))
    dense = np.minimum(count / np.diff(grid.starts) / DENSEST, 1)
    return tuple(loud[heard].round(3).tolist()), tuple(dense.round(3).tolist())
