"""A score written anew so that tick 0 is a bar line and every bar is a whole bar of a supported metre; it sounds as before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from symusic import ControlChange, Note, Pedal, Score, Tempo, TimeSignature, Track

from huesong.metre.bars import Bar, BarLines, regular
from huesong.metre.clock import Clock, tempo_map
from huesong.metre.estimate import Estimate, estimate, file_metres, notes_of

TICKS_PER_QUARTER = 480


@dataclass(frozen=True)
class Aligned:
    """A score on its bars.

    score: 480 ticks a quarter, all tracks (their notes and pedals); tick 0 is the bar line of the first bar with a note;
        time signatures and the tempos under which every note sounds when it did, but for a constant (`later_s`).
    bars: of that score, in its quarters; `none` = the bars mean nothing, with the `reason`.
    later_s: seconds by which the score's notes come later than the original's (the rest before an upbeat is
        longer, or the silence before the first bar is cut away).
    place_from, place_to: see `place`.
    """

    score: Score
    bars: BarLines
    later_s: float
    reason: str
    place_from: np.ndarray
    place_to: np.ndarray

    def place(self, quarters: np.ndarray) -> np.ndarray:
        """Where places of the original score (float64, its quarters) are in the new one (quarters)."""
        return _interpolate(np.asarray(quarters, dtype=np.float64), self.place_from, self.place_to)


def align(score: Score, known: BarLines | None = None) -> Aligned:
    """Write a score on its bars.

    known: what people say of its bars (quarters of `score`); None = decide by the file and its notes
    (`estimate.estimate`): the file's own bar lines where the notes agree with them, else the same grid moved, else beats
    and bars that were tracked; where nothing fits, the score stays on its nominal grid, in 4/4 (`none`).

    An upbeat stays one: the first bar begins with a rest. Metres that METRES lacks are rewritten (`bars.regular`).
    The same score gives the same result, bit by bit.
    """
    low, high = _extent(score)
    if known is None and high > low:
        found = estimate(score)
    else:
        if known and not known.metres:
            known = replace(known, metres=file_metres(score)[0])
        lines_known = known or BarLines(0.0, ((0.0, 4, 4),), "none", 0.0)
        reason = "" if known else "no notes"
        found = Estimate(
            regular(lines_known.spans(low, high)), lines_known.source, lines_known.confidence, reason=reason
        )
    spans = [span for span in found.bars if span.end > low + 1e-6] or found.bars[
        -1:
    ]  # rewriting may have made some empty
    lines = np.array([span.start for span in spans] + [spans[-1].end])
    new = np.cumsum([0.0, *(span.full for span in spans)])
    if found.beats is not None:
        lines, new = _with_beats(lines, new, found.beats)
    metres = _metres(spans, new[-1])
    written, later_s = _written(score, lines, new, metres)
    return Aligned(written, BarLines(0.0, metres, found.source, found.sure), later_s, found.reason, lines, new)


def _with_beats(lines: np.ndarray, new: np.ndarray, beats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Old and new places of bar lines and of the beats between them: within a bar, beats are equally long."""
    inner = beats[(beats > lines[0] + 1e-6) & (beats < lines[-1] - 1e-6)]
    inner = inner[np.abs(inner[:, None] - lines).min(axis=1, initial=np.inf) > 1e-6]
    bar = np.searchsorted(lines, inner) - 1
    first = np.searchsorted(bar, bar)  # of this bar's inner beats
    share = (np.arange(len(bar)) - first + 1) / (np.bincount(bar, minlength=len(lines))[bar] + 1)
    order = np.argsort(np.concatenate((lines, inner)), kind="stable")
    placed = np.concatenate((new, new[bar] + share * (new[bar + 1] - new[bar])))
    return np.concatenate((lines, inner))[order], placed[order]


def _extent(score: Score) -> tuple[float, float]:
    """Quarters from the first onset to the last end; (0, 0) without notes."""
    notes = notes_of(score)
    if not len(notes.onset):
        return 0.0, 0.0
    return float(notes.onset[0]) / score.tpq, float(notes.end.max()) / score.tpq


def _metres(spans: list[Bar], end: float) -> tuple[tuple[float, int, int], ...]:
    """The metre changes of whole bars that begin at quarter 0."""
    metres: list[tuple[float, int, int]] = []
    start = 0.0
    for span in spans:
        if not metres or metres[-1][1:] != (span.numerator, span.denominator):
            metres.append((start, span.numerator, span.denominator))
        start += span.full
    assert start <= end + 1e-6
    return tuple(metres)


def _interpolate(at: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Piecewise linear from `old` to `new` (ascending, at least two), the first and last slope going on outside."""
    index = np.clip(np.searchsorted(old, at, side="right") - 1, 0, len(old) - 2)
    share = (at - old[index]) / (old[index + 1] - old[index])
    return new[index] + share * (new[index + 1] - new[index])


def _written(
    score: Score, lines: np.ndarray, new: np.ndarray, metres: tuple[tuple[float, int, int], ...]
) -> tuple[Score, float]:
    """The score with its places moved from `lines` to `new` (quarters), and by how many seconds it comes later."""
    out = Score(TICKS_PER_QUARTER)
    for start, numerator, denominator in metres:
        out.time_signatures.append(TimeSignature(round(start * TICKS_PER_QUARTER), numerator, denominator))

    def moved(ticks: np.ndarray) -> np.ndarray:
        places = _interpolate(ticks / score.tpq, lines, new)
        return np.maximum(np.rint(places * TICKS_PER_QUARTER), 0).astype(np.int64)

    for track in score.tracks:
        out.tracks.append(_moved_track(track, moved))
    tick, qpm = tempo_map(score)
    clock = Clock(tick, qpm, score.tpq)
    edges = np.unique(np.concatenate((lines, tick[tick / score.tpq > lines[0]] / score.tpq)))
    edges = edges[edges <= max(lines[-1], edges[0] + 1)]
    place = np.rint(_interpolate(edges, lines, new) * TICKS_PER_QUARTER)
    second = clock.seconds(edges * score.tpq)
    last = 0
    for index, (this, following) in enumerate(pairwise(range(len(edges)))):
        if place[following] > place[this]:
            quarters = (place[following] - place[this]) / TICKS_PER_QUARTER
            length = round(1e6 * (second[following] - second[this]) / quarters)
            if length != last or index == 0:
                out.tempos.append(Tempo(int(place[this]), mspq=length))
            last = length
    return out, float(-clock.seconds(np.array([lines[0] * score.tpq]))[0])


def _moved_track(track: Track, moved: Callable[[np.ndarray], np.ndarray]) -> Track:
    """The track with its notes, pedals and controllers at their new ticks; nothing gets shorter than a tick."""
    out = Track(track.name, track.program, track.is_drum)
    notes = track.notes.numpy()
    time = notes["time"].astype(np.int64)
    onset, end = moved(time), moved(time + notes["duration"])
    length = np.where(notes["duration"] > 0, np.maximum(end - onset, 1), 0)
    out.notes = Note.from_numpy(
        onset.astype(np.int32), length.astype(np.int32), notes["pitch"], notes["velocity"], "tick"
    )
    for pedal in track.pedals:
        start, stop = moved(np.array([pedal.time, pedal.end]))
        out.pedals.append(Pedal(int(start), max(int(stop - start), 1)))
    for control in track.controls:
        out.controls.append(ControlChange(int(moved(np.array([control.time]))[0]), control.number, control.value))
    return out
