"""What a piece may begin with: a foreign MIDI file made fit for a model, or refused; what is changed is said.

All tracks but the drums are played as one piano.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from symusic import Note, Score, Track

from huesong.metre.clock import tempo_map
from huesong.music.keys import key_correlations
from huesong.music.reading import HIGHEST_PITCH, LOWEST_PITCH
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log

if TYPE_CHECKING:
    from huesong.music.grammar import Grammar

MOST_NOTES = 5000
"""No model attends to so many; encoding more takes seconds."""
CLOSING_NOTES, CLOSING_QUARTERS = 3, 1.5
"""A closing chord: a tonic triad of so many notes and quarters at least, which begins last and ends the piece."""
NEAR_KEY = 0.2
"""How much less than the best one a key may fit the notes before, to be that of the closing chord."""
OFF_GRID, OFF_SHARE = 0.25, 0.2
"""Of a step of the grid; and the share of onsets further off than that of which is told (triplets, free time)."""


def playable(score: Score, name: str = "the primer", say: bool = True) -> Score:
    """One piano track with the notes of a score that a piano has, from the first bar line with a note on.

    Args:
        score: as music.reading gives it.
        name: what errors call it.
        say: log what is left out.

    Raises:
        UserError: there are no such notes, or far too many.
    """
    notes = [note for track in score.tracks if not track.is_drum for note in track.notes]
    if sum(len(track.notes) for track in score.tracks) > MOST_NOTES:
        raise UserError(f"{name} has more than {MOST_NOTES} notes: give its first bars")
    if not notes:
        drums = any(len(track.notes) for track in score.tracks)
        raise UserError(
            f"{name} has no piano notes ({'drums only' if drums else 'no notes at all'}): give another primer"
        )
    kept = [n for n in notes if LOWEST_PITCH <= n.pitch <= HIGHEST_PITCH and n.duration > 0 and n.velocity > 0]
    if not kept:
        raise UserError(
            f"{name} has no note on a piano's keys ({LOWEST_PITCH} to {HIGHEST_PITCH}): give another primer"
        )
    if say and len(kept) < len(notes):
        log.warning(
            "%s: %d of %d notes are on no key of a piano and left out", name, len(notes) - len(kept), len(notes)
        )
    first = score.time_signatures[0] if score.time_signatures else None
    bar = round(score.tpq * 4 * (first.numerator / first.denominator if first else 1))
    shift = min(note.time for note in kept) // bar * bar
    if say and shift:
        log.warning("%s: %d bars of silence at its beginning are left out", name, shift // bar)
    return _one_track(score, kept, shift)


def fitted(score: Score, grammar: Grammar, name: str = "the primer") -> Score:
    """A playable score as a model can read it: without its closing chord, which would stand in the middle of the piece.

    Raises:
        UserError: a tempo outside of the model's.
    """
    notes = list(score.tracks[0].notes)
    end = max(note.end for note in notes)
    tick, qpm = tempo_map(score)
    low, high = grammar.table.tempos[0], grammar.table.tempos[-1]
    strange = qpm[(tick < end) & ((qpm < low * 0.98) | (qpm > high * 1.02))]
    if len(strange):
        raise UserError(f"{name} goes at {strange[0]:.0f} quarters a minute: this model knows {low:.0f} to {high:.0f}")
    metres = sorted({f"{mark.numerator}/{mark.denominator}" for mark in score.time_signatures} - {"4/4"})
    if metres and not grammar.vocabulary.has_heads:
        log.warning("%s is in %s: this model writes 4/4, and reads its bars as such", name, ", ".join(metres))
    longest = max(grammar.durations) / grammar.beat
    if long := sum(note.duration > longest * score.tpq * 1.02 for note in notes):
        log.warning("%s: %d notes are longer than this model's longest (%g quarters) and cut", name, long, longest)
    steps = np.array([note.time for note in notes]) * grammar.beat / score.tpq
    off = int((np.abs(steps - np.round(steps)) > OFF_GRID).sum())
    if off > OFF_SHARE * len(notes):
        log.warning("%s: %d of %d notes lie off the grid (triplets?) and move to it", name, off, len(notes))
    return _without_closing_chord(score, notes, end, name)


def _without_closing_chord(score: Score, notes: list[Note], end: int, name: str) -> Score:
    last = max(note.time for note in notes)
    chord, before = ([note for note in notes if (note.time == last) == there] for there in (True, False))
    if not before or len(chord) < CLOSING_NOTES or any(note.end < end for note in chord):
        return score
    sounded = np.zeros(12)
    for note in before:
        sounded[note.pitch % 12] += note.duration
    root, heard = min(chord, key=lambda note: note.pitch).pitch % 12, {note.pitch % 12 for note in chord}
    fit_MK = key_correlations(sounded)
    tonic = any(
        heard <= {root, (root + third) % 12, (root + 7) % 12} and fit_MK[mode, root] > fit_MK.max() - NEAR_KEY
        for mode, third in enumerate((4, 3))
    )
    if not tonic or end - last < CLOSING_QUARTERS * score.tpq:
        return score
    log.warning("%s: its closing chord is left out, for the music goes on", name)
    return _one_track(score, before, 0)


def _one_track(score: Score, notes: list[Note], shift: int) -> Score:
    """The notes on one piano track and the score's tempos and metres, `shift` ticks earlier."""
    moved = Score(score.tpq)
    track = Track(program=0)
    track.notes.extend([Note(note.time - shift, note.duration, note.pitch, note.velocity) for note in notes])
    moved.tracks.append(track)
    for ours, theirs in ((moved.tempos, score.tempos), (moved.time_signatures, score.time_signatures)):
        for mark in sorted(theirs, key=lambda mark: mark.time):
            at = mark.copy()
            at.time = max(0, mark.time - shift)
            if len(ours) and ours[-1].time == at.time:
                ours.pop(-1)
            ours.append(at)
    return moved
