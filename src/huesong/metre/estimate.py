"""Where the bars are, by the file and its notes alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from symusic import Score

from huesong.metre.accents import accents
from huesong.metre.bars import Bar, BarLines, Source, regular
from huesong.metre.clock import Clock, tempo_map
from huesong.metre.downbeats import HYPOTHESES, fit, fit_bars
from huesong.metre.grid import best_shift, share_on
from huesong.metre.tracking import bars_of, track_bars

GOOD_GRID = 0.7
"""Share of onsets that lie on a grid that is one; of transcribed performances at most 0.63 do."""
AS_GOOD = 0.05
"""The grid as written counts as the best one if not many more onsets lie on another."""
SHORT_BAR, SHORT_SHARE = 1.5, 0.2
"""Quarters; if more than this share of the music is in shorter bars, the file does not mean bars."""
TRUST = 1.5
"""How much better (log likelihood) other bars must fit than the file's own, if its notes lie on its grid."""
TRUST_METRE = 5.0
"""The same, if they are in another metre."""
FEWEST = 8
"""Notes below which the file is believed."""
WHOLE = 256
"""Steps; a shorter piece is weighed by less."""


@dataclass(frozen=True)
class Estimate:
    """bars: whole bars of supported metres, in quarters of the score, over all its notes. sure: 0 to 1.

    beats: those that were tracked, in its quarters, else None. reason: why the bars mean nothing (`none`).
    """

    bars: list[Bar]
    source: Source
    sure: float
    beats: np.ndarray | None = None
    reason: str = ""


@dataclass(frozen=True)
class Notes:
    """All notes but drums [N], by onset and pitch. onset, end: ticks."""

    onset: np.ndarray
    end: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray


def notes_of(score: Score) -> Notes:
    """The score's notes that sound; the drums' too if there are no others."""
    pitched = [track for track in score.tracks if len(track.notes) and not track.is_drum]
    parts = [track.notes.numpy() for track in pitched or score.tracks]
    onset, length, pitch, velocity = (
        np.concatenate([part[key].astype(np.int64) for part in parts] or [np.zeros(0, np.int64)])
        for key in ("time", "duration", "pitch", "velocity")
    )
    order = np.lexsort((pitch, onset))
    order = order[(length[order] > 0) & (velocity[order] > 0)]
    return Notes(onset[order], (onset + length)[order], pitch[order], velocity[order])


def estimate(score: Score) -> Estimate:
    """The bars of a score with notes: the file's own where they fit, else the same grid moved, else tracked, else `none`."""
    notes = notes_of(score)
    onset_q, end_q = notes.onset / score.tpq, notes.end / score.tpq
    low, high = float(onset_q[0]), float(max(end_q.max(), onset_q[0] + 1e-3))
    metres, said = file_metres(score)
    written = BarLines(0.0, metres, "file")
    if len(onset_q) < FEWEST:
        return Estimate(regular(written.spans(low, high)), "file", 0.5)
    shift, share = best_shift(onset_q)
    if share >= GOOD_GRID:
        if share_on(onset_q) >= share - AS_GOOD:
            shift = 0.0
        return _on_grid(notes, score.tpq, written, said, shift)
    return _tracked(notes, score, written)


def says_its_bars(score: Score) -> bool:
    """Whether the file says a metre and its notes lie on the grid as written: then whoever gave it knows its bars."""
    notes = notes_of(score)
    said = len(score.time_signatures) > 0 and len(notes.onset) > 0
    return said and share_on(notes.onset / score.tpq) >= GOOD_GRID


def file_metres(score: Score) -> tuple[tuple[tuple[float, int, int], ...], bool]:
    """The metres that the file says (4/4 where it says none, as MIDI does), by their start in quarters; and whether it does."""
    found = {0: (4, 4)}
    for change in score.time_signatures:
        found[change.time] = (change.numerator, change.denominator)
    return tuple((time / score.tpq, *found[time]) for time in sorted(found)), len(score.time_signatures) > 0


def _on_grid(notes: Notes, tpq: int, written: BarLines, said: bool, shift: float) -> Estimate:
    """Bars for notes that lie on the grid, moved by `shift` quarters: the file's, as they are or moved, or others."""
    onset_q, end_q = notes.onset / tpq, notes.end / tpq
    low, high = float(onset_q[0]), float(max(end_q.max(), onset_q[0] + 1e-3))
    spans = written.spans(low - shift, high - shift)
    short = sum(bar.end - bar.start for bar in spans if bar.full < SHORT_BAR) / (spans[-1].end - spans[0].start)
    means_bars = short <= SHORT_SHARE
    bars = regular(spans)
    origin = bars[0].start
    step = np.rint((onset_q - shift - origin) * 4).astype(np.int64)
    order = np.lexsort((notes.pitch, step))
    length = (end_q - onset_q)[order] * 4
    accent = accents(step[order], length, notes.pitch[order], notes.velocity[order], int(step.max()) + 9)
    own = [(round((bar.start - origin) * 4), (bar.numerator, bar.denominator)) for bar in bars]
    moves = np.arange(round(bars[min(1, len(bars) - 1)].full * 4))
    weight = min(1.0, len(accent) / WHOLE)
    moved, other = fit_bars(accent, own, moves.tolist()) * weight, fit(accent) * weight
    trust = TRUST if means_bars and said else 0.0
    as_written = -np.inf
    if means_bars:
        moved = moved + (TRUST_METRE - TRUST if said else 0.0)
        if shift == 0:
            moved[0] += trust
            as_written = moved[0]
    else:
        moved = np.full(1, -np.inf)
    total = np.logaddexp.reduce(np.concatenate((moved, other)))
    if as_written >= max(moved.max(), other.max()):
        return Estimate(bars, "file", float(np.exp(as_written - total)))
    if moved.max() >= other.max():
        chosen = float(shift + moves[int(moved.argmax())] / 4)
        sure = float(np.exp(moved.max() - total))
        metres = tuple((start + chosen, *metre) for start, *metre in written.metres)
        lines = BarLines(written.first_quarters + chosen, metres, "shift")  # type: ignore[arg-type]
    else:
        metre, first = HYPOTHESES[int(other.argmax())]
        start = origin + shift + first / 4
        sure = float(np.exp(other.max() - total))
        lines = BarLines(start, ((start, *metre),), "shift")
    return Estimate(regular(lines.spans(low, high)), "shift", sure)


def _tracked(notes: Notes, score: Score, written: BarLines) -> Estimate:
    """Bars along beats that were tracked; on none, the file's nominal ones."""
    tick, qpm = tempo_map(score)
    clock = Clock(tick, qpm, score.tpq)
    onset_s, end_s = clock.seconds(notes.onset), clock.seconds(notes.end)
    tracked, reason = track_bars(onset_s, end_s, notes.pitch, notes.velocity)
    low, high = notes.onset[0] / score.tpq, max(int(notes.end.max()), int(notes.onset[0]) + 1) / score.tpq
    if tracked is None:
        return Estimate(regular(written.spans(low, high)), "none", 0.0, reason=reason)
    spans, beats = bars_of(tracked, float(onset_s[0]), float(end_s.max()))
    quarters = clock.ticks(np.array(spans)) / score.tpq
    bars = [Bar(float(start), float(end), *tracked.metre) for start, end in quarters]
    return Estimate(bars, "tracked", tracked.sure, beats=clock.ticks(beats) / score.tpq)
