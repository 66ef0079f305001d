"""Reading foreign MIDI files safely and cutting them into clean piano segments.

symusic's parser does not survive damaged files, so it only sees what `midi.rewrite` has checked and written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from symusic import Note, Score, Tempo, TimeSignature, Track

from huesong.metre.clock import Clock, seconds_at, tempo_map
from huesong.music.midi import MAX_BYTES, TOO_BIG, Damage, rewrite
from huesong.runtime.errors import UserError

TICKS_PER_QUARTER = 480
LOWEST_PITCH, HIGHEST_PITCH = 21, 108
"""The piano's keys, A0 to C8."""
SLOWEST_TEMPO, FASTEST_TEMPO = 10.0, 400.0
"""Quarters a minute; outside of it a tempo is an error of the file, not music."""
ABSURD_SHARE = 0.05
"""Share of a piece's quarters that may pass at an absurd tempo (a written-out fermata)."""
DENSE_SHARE = 0.1
"""Share of a piece's time that may be denser than allowed: a long pedal is music, a black MIDI is not."""

MAX_HOURS = 6.0
"""A file that sounds longer is taken for damaged: one wrong byte makes a piece endless."""


class Unusable(ValueError):
    """A sound MIDI file whose music cannot be used; the message is the reason, for dropped.csv."""


@dataclass(frozen=True)
class Limits:
    """What a usable piece is; the fields mean what they mean in `PreprocessConfig`."""

    min_notes: int = 12
    min_seconds: float = 4.0
    max_seconds: float = 1800.0
    segment_seconds: float = 48.0
    max_polyphony: int = 24


@dataclass(frozen=True)
class Segment:
    """A part of a piece that begins and ends at bar lines.

    score: 480 ticks a quarter, one piano track, time signature and tempo at tick 0. start_s: where it begins in the file,
    seconds. seconds: from its first bar line to the end of its last note. first_bar: how many bars of the score come
    before it. bars: how many it touches. notes: their number.
    """

    score: Score
    start_s: float
    seconds: float
    first_bar: int
    bars: int
    notes: int


@dataclass(frozen=True)
class Notes:
    """All notes of a score but the drums', as a listener gets them: sorted by onset, then pitch; arrays of length N.

    onset_s, end_s: seconds. onset_q, end_q: quarters. pitch: 0..127. velocity: 1..127.
    """

    onset_s: np.ndarray
    end_s: np.ndarray
    onset_q: np.ndarray
    end_q: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray

    def __len__(self) -> int:
        return len(self.pitch)


def read_score(path: Path) -> Score:
    """Read a Standard MIDI File: its notes, programs, pedals and tempos, the same at every reading.

    Raises:
        UserError: missing, too big, endless, or refused by `midi.rewrite`.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} cannot be read (it is no ordinary file): give a MIDI file")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} {TOO_BIG}: remove it")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from error
    return parse_score(data, str(path))


def parse_score(data: bytes, name: str = "MIDI data") -> Score:
    """As `read_score`, from the file's bytes; `name` stands in errors."""
    try:
        rewritten = rewrite(data)
    except Damage as damage:
        raise UserError(f"{name}: {damage}: replace or remove the file") from None
    score = Score.from_midi(rewritten)
    hours = seconds_at(score, np.array([score.end()]))[0] / 3600
    if hours > MAX_HOURS:
        raise UserError(f"{name}: endless MIDI ({hours:.0f} hours): replace or remove the file")
    return score


def _note_arrays(score: Score) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Onset, end (ticks), pitch, velocity (int64) of all notes but the drums', in the order of the tracks."""
    parts = [track.notes.numpy() for track in score.tracks if not track.is_drum]
    onset, length, pitch, velocity = (
        np.concatenate([np.zeros(0, np.int64), *(part[key].astype(np.int64) for part in parts)])
        for key in ("time", "duration", "pitch", "velocity")
    )
    return onset, onset + length, pitch, velocity


def listen(score: Score) -> Notes:
    """All notes that sound, but the drums', in time order; however the tracks are split."""
    onset, end, pitch, velocity = _note_arrays(score)
    order = np.lexsort((-velocity, -end, pitch, onset))
    order = order[(end[order] > onset[order]) & (velocity[order] > 0)]
    onset, end = onset[order], end[order]
    clock = Clock(*tempo_map(score), score.tpq)
    return Notes(
        clock.seconds(onset), clock.seconds(end), onset / score.tpq, end / score.tpq, pitch[order], velocity[order]
    )


class Bar(NamedTuple):
    """start, end: ticks. upper, lower: its time signature."""

    start: int
    end: int
    upper: int
    lower: int


def bars_of(score: Score, last: int, scale: float = 1.0) -> list[Bar]:
    """All bars from tick 0 to the one in which tick `last` lies; those before a change of metre end there at the latest.

    Without a time signature all are 4/4; 2/2 is read as 4/4. `scale`: ticks of the answer, and of `last`, for each tick of
    the score.
    """
    marks = [(round(mark.time * scale), int(mark.numerator), int(mark.denominator)) for mark in score.time_signatures]
    marks = [(time, 2 * upper, 4) if lower == 2 else (time, upper, lower) for time, upper, lower in marks]
    if not marks or marks[0][0] > 0:
        marks.insert(0, (0, 4, 4))
    found: list[Bar] = []
    for (start, upper, lower), (stop, _, _) in pairwise([*marks, (last + 1, 4, 4)]):
        length = max(1, round(4 * score.tpq * scale * upper / lower))
        for tick in range(start, min(stop, last + 1), length):
            found.append(Bar(tick, tick + length if stop > last else min(tick + length, stop), upper, lower))
    return found


def changes_of_metre(bars: Sequence[Bar]) -> list[Bar]:
    """The bars that have another time signature than the one before, the first included."""
    return [bar for index, bar in enumerate(bars) if not index or bar[2:] != bars[index - 1][2:]]


DEFAULT_LIMITS = Limits()


def clean(score: Score, limits: Limits = DEFAULT_LIMITS) -> list[Segment]:
    """Merge a score into one piano track and cut it at bar lines into segments of about `limits.segment_seconds`.

    Drums, keys no piano has, doubled notes and notes without length are left out; a key struck again ends its note
    before. Whole bars of silence at the beginning are cut away. Bars are those of the score's time signatures, from tick 0
    on (metre.align puts them there); 2/2 is written as 4/4, which is as long. All segments of a piece are about equally
    long (2/3 to 3/2 of `segment_seconds`, but for a shorter piece), so no short remainder is left; those with fewer than
    `limits.min_notes` notes are dropped.

    Sustain pedals are not applied: lengths stay as written, as in the figures published on these data; transcriptions
    (EMOPIA, GiantMIDI) hold many notes to the pedal's release already.

    Raises:
        Unusable: with the reason.
    """
    tick, qpm = tempo_map(score)
    scale = TICKS_PER_QUARTER / score.tpq
    clock = Clock(np.round(tick * scale).astype(np.int64), qpm, TICKS_PER_QUARTER)
    onset, end, pitch, velocity = _merged_notes(score, scale)
    _check_tempo(clock, int(end.max()))
    if len(onset) < limits.min_notes:
        raise Unusable(f"too few notes ({len(onset)} of at least {limits.min_notes})")
    bars = bars_of(score, int(end.max()) - 1, scale)
    skipped = next(index for index, bar in enumerate(bars) if bar.end > onset[0])
    bars = bars[skipped:]
    lines = np.array([bar.start for bar in bars] + [bars[-1].end])
    bar_s = clock.seconds(lines)
    seconds = float(clock.seconds(end.max()) - bar_s[0])
    if seconds < limits.min_seconds:
        raise Unusable(f"too short ({seconds:.1f} s of at least {limits.min_seconds:g} s)")
    if seconds > limits.max_seconds:
        raise Unusable(f"too long ({seconds:.0f} s of at most {limits.max_seconds:g} s)")
    if (share := _share_above(onset, end, limits.max_polyphony)) > DENSE_SHARE:
        raise Unusable(f"too dense (over {limits.max_polyphony} notes at once in {share:.0%} of its time)")
    parts = max(1, round(seconds / limits.segment_seconds))
    wanted = bar_s[0] + seconds * np.arange(1, parts) / parts
    cuts = np.unique([0, *np.abs(bar_s[:, None] - wanted).argmin(axis=0), len(bar_s) - 1])
    segments = []
    for low, high in pairwise(cuts.tolist()):
        start, stop = int(lines[low]), int(lines[high])
        inside = (onset >= start) & (onset < stop)
        if inside.sum() < limits.min_notes:
            continue
        here, until = onset[inside] - start, np.minimum(end[inside], stop) - start
        tempos = clock.between(start, stop)
        segments.append(
            Segment(
                score=_piano_score(bars[low:high], here, until, pitch[inside], velocity[inside], *tempos),
                start_s=float(bar_s[low]),
                seconds=float(clock.seconds(until.max() + start) - bar_s[low]),
                first_bar=skipped + low,
                bars=int(np.searchsorted(lines[low:], until.max() + start)),
                notes=len(here),
            )
        )
    if not segments:
        raise Unusable(f"too few notes (no segment has {limits.min_notes})")
    return segments


def _merged_notes(score: Score, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Onset, end (ticks of 480 a quarter), pitch, velocity of the piano's notes, by onset and pitch, free of overlaps."""
    onset, end, pitch, velocity = _note_arrays(score)
    if not len(onset):
        raise Unusable("drums only" if any(len(track.notes) for track in score.tracks) else "empty (no notes)")
    onset, end = np.round(onset * scale).astype(np.int64), np.round(end * scale).astype(np.int64)
    keep = (end > onset) & (velocity > 0) & (pitch >= LOWEST_PITCH) & (pitch <= HIGHEST_PITCH)
    if not keep.any():
        raise Unusable("empty (no note on a piano's keys with a length)")
    onset, end, pitch, velocity = onset[keep], end[keep], pitch[keep], velocity[keep]
    order = np.lexsort((-velocity, onset, pitch))
    onset, end, pitch, velocity = onset[order], end[order], pitch[order], velocity[order]
    # Of notes on one key at one onset the loudest stays, with the longest length.
    head = np.flatnonzero(np.concatenate(([True], (onset[1:] != onset[:-1]) | (pitch[1:] != pitch[:-1]))))
    end = np.maximum.reduceat(end, head)
    onset, pitch, velocity = onset[head], pitch[head], velocity[head]
    again = np.flatnonzero(pitch[1:] == pitch[:-1])
    end[again] = np.minimum(end[again], onset[again + 1])
    order = np.lexsort((pitch, onset))
    return onset[order], end[order], pitch[order], velocity[order]


def _check_tempo(clock: Clock, end: int) -> None:
    span = np.diff(np.minimum(np.append(clock.tick, end), end))
    absurd = (clock.qpm < SLOWEST_TEMPO) | (clock.qpm > FASTEST_TEMPO)
    if span[absurd].sum() > ABSURD_SHARE * span.sum():
        worst = clock.qpm[absurd][span[absurd].argmax()]
        raise Unusable(f"absurd tempo ({worst:.0f} quarters a minute)")


def _share_above(onset: np.ndarray, end: np.ndarray, polyphony: int) -> float:
    """Share of a piece's time with more than `polyphony` notes at once; a note does not meet the one it ends for."""
    times = np.concatenate((end, onset))
    order = np.argsort(times, kind="stable")
    sounding = np.cumsum(np.repeat((-1, 1), len(onset))[order])[:-1]
    span = np.diff(times[order])
    return float(span[sounding > polyphony].sum() / max(span.sum(), 1))


def _piano_score(
    bars: Sequence[Bar],
    onset: np.ndarray,
    end: np.ndarray,
    pitch: np.ndarray,
    velocity: np.ndarray,
    tick: np.ndarray,
    qpm: np.ndarray,
) -> Score:
    score = Score(TICKS_PER_QUARTER)
    for bar in changes_of_metre(bars):
        score.time_signatures.append(TimeSignature(bar.start - bars[0].start, bar.upper, bar.lower))
    for time, tempo in zip(tick.tolist(), qpm.tolist(), strict=True):
        score.tempos.append(Tempo(time, tempo))
    track = Track(program=0)
    track.notes = Note.from_numpy(
        onset.astype(np.int32), (end - onset).astype(np.int32), pitch.astype(np.int8), velocity.astype(np.int8), "tick"
    )
    score.tracks.append(track)
    return score
