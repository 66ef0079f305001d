"""Reading foreign MIDI files safely and cutting them into clean piano segments.

symusic's parser is fast but may crash the process, or give varying results, on damaged files. So every event is walked
here first, and symusic sees only a freshly written stream of the events that matter: notes, programs, tempos.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from symusic import Note, Score, Tempo, TimeSignature, Track

from huesong.errors import UserError

TICKS_PER_QUARTER = 480
TICKS_PER_BAR = 4 * TICKS_PER_QUARTER
LOWEST_PITCH, HIGHEST_PITCH = 21, 108
"""The piano's keys, A0 to C8."""
DEFAULT_TEMPO = 120.0
SLOWEST_TEMPO, FASTEST_TEMPO = 10.0, 400.0
"""Quarters a minute; outside of it a tempo is an error of the file, not music."""
ABSURD_SHARE = 0.05
"""Share of a piece's quarters that may pass at an absurd tempo (a written-out fermata)."""
DENSE_SHARE = 0.1
"""Share of a piece's time that may be denser than allowed: a long pedal in a transcription is music, a black MIDI is not."""

MAX_BYTES = 8 * 2**20
MAX_TICKS = 2**28 - 1  # the largest delta time a MIDI file can hold
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
    segment_seconds: float = 32.0
    max_polyphony: int = 24


@dataclass(frozen=True)
class Segment:
    """A part of a piece that begins and ends at bar lines.

    score: 480 ticks a quarter, one piano track, tempo at tick 0. start_s: where it began in the file, seconds.
    seconds: its length from its first bar line to the end of its last note. bars: 4/4 bars touched. notes: their number.
    """

    score: Score
    start_s: float
    seconds: float
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
    """Read a Standard MIDI File; the result is the same at every reading and holds notes, programs and tempos only.

    Harmless deviations are accepted: bytes after the last chunk, unknown chunks, a missing end-of-track event, running
    status across meta events, fewer or more tracks than the header says.

    Raises:
        UserError: missing, too big, not MIDI, damaged, endless, or of a kind that has no beats (SMPTE, format 2).
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(
                f"{path}: {size / 2**20:.0f} MiB is too big for a MIDI file (limit {MAX_BYTES >> 20}): remove it"
            )
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from error
    return parse_score(data, str(path))


def parse_score(data: bytes, name: str = "MIDI data") -> Score:
    """As `read_score`, from the file's bytes; `name` stands in errors."""
    try:
        clean_bytes = _rewrite(data)
    except _Damage as damage:
        raise UserError(f"{name}: {damage}: replace or remove the file") from None
    score = Score.from_midi(clean_bytes)
    hours = seconds_at(score, np.array([score.end()]))[0] / 3600
    if hours > MAX_HOURS:
        raise UserError(f"{name}: endless MIDI ({hours:.0f} hours): replace or remove the file")
    return score


class _Damage(Exception):
    """What is wrong with the bytes of a MIDI file, and where."""


def _rewrite(data: bytes) -> bytes:
    """Check all chunks and events of `data` and return them as a minimal file that any parser reads alike."""
    if not data:
        raise _Damage("empty file (0 bytes)")
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        start = data.find(b"MThd")
        data = data[start:] if start > 0 else b""
    if data[:4] != b"MThd":
        raise _Damage("not a MIDI file (no MThd header)")
    if len(data) < 14:
        raise _Damage("truncated MIDI header")
    length, form, _, division = struct.unpack(">IHHH", data[4:14])
    if not 6 <= length <= 1024:
        raise _Damage(f"damaged MIDI header (length {length})")
    if form > 1:
        raise _Damage(f"MIDI format {form} (independent patterns) is not a piece: save it as format 0 or 1")
    if division & 0x8000:
        raise _Damage("SMPTE time division has no beats: save it with ticks per quarter")
    if division == 0:
        raise _Damage("damaged MIDI header (0 ticks per quarter)")
    tracks = []
    position = 8 + length
    while position + 8 <= len(data):
        kind = data[position : position + 4]
        (length,) = struct.unpack(">I", data[position + 4 : position + 8])
        if kind != b"MTrk" and (tracks or position + 8 + length > len(data)):
            if not tracks:
                raise _Damage(f"damaged MIDI chunk at byte {position}")
            if not kind.isalnum():
                break  # padding after the last chunk
        if kind == b"MTrk":
            if position + 8 + length > len(data):
                raise _Damage(
                    f"truncated: track {len(tracks)} at byte {position} has {len(data) - position - 8} of {length} bytes"
                )
            tracks.append(_rewrite_track(data, position + 8, position + 8 + length, len(tracks)))
        position += 8 + length
    if not tracks:
        raise _Damage("no MIDI track")
    header = b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), division)
    return header + b"".join(b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks)


def _rewrite_track(data: bytes, position: int, end: int, number: int) -> bytes:
    """The notes, programs and tempos of one track chunk as a new chunk body, every event with its own status byte."""
    out = bytearray()
    tick = written = 0
    status = 0
    try:
        while position < end:
            start = position
            # Delta time: one to four bytes of seven bits.
            byte = data[position]
            position += 1
            delta = byte & 0x7F
            while byte & 0x80:
                if position - start == 4:
                    raise _Damage(f"damaged delta time in track {number} at byte {start}")
                byte = data[position]
                position += 1
                delta = delta << 7 | byte & 0x7F
            tick += delta
            event = data[position]
            if event < 0x80:
                if not status:
                    raise _Damage(f"data byte without status in track {number} at byte {position}")
                event = status
            else:
                position += 1
            if event < 0xF0:
                status = event
                kind = event & 0xF0
                first = data[position]
                if kind == 0xC0 or kind == 0xD0:
                    second = 0
                    position += 1
                else:
                    second = data[position + 1]
                    position += 2
                if first > 127 or second > 127 or position > end:
                    raise _Damage(f"damaged event in track {number} at byte {start}")
                if kind == 0x90 or kind == 0x80:
                    body = bytes((event, first, second))
                elif kind == 0xC0:
                    body = bytes((event, first))
                elif kind == 0xB0 and first == 64:
                    body = bytes((event, first, second))
                else:
                    continue
            else:
                if event == 0xFF:
                    meta = data[position]
                    position += 1
                elif event == 0xF0 or event == 0xF7:
                    meta = -1
                else:
                    raise _Damage(f"event 0x{event:02X} is not allowed in a file, track {number}, byte {start}")
                size = 0
                for _ in range(4):
                    byte = data[position]
                    position += 1
                    size = size << 7 | byte & 0x7F
                    if byte < 0x80:
                        break
                else:
                    raise _Damage(f"damaged length in track {number} at byte {start}")
                position += size
                if position > end:
                    raise _Damage(f"event at byte {start} runs past the end of track {number}")
                if meta == 0x2F:
                    break
                if meta != 0x51:
                    continue
                if size != 3:
                    raise _Damage(f"damaged tempo in track {number} at byte {start}")
                value = data[position - 3 : position]
                if value == b"\0\0\0":
                    raise _Damage(f"tempo of zero length in track {number} at byte {start}")
                body = b"\xff\x51\x03" + value
            out += _varlen(tick - written)
            out += body
            written = tick
    except IndexError:
        raise _Damage(f"truncated event in track {number}") from None
    if tick > MAX_TICKS:
        raise _Damage(f"endless MIDI ({tick} ticks) in track {number}")
    return bytes(out) + b"\x00\xff\x2f\x00"


def _varlen(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = [value & 0x7F]
    value >>= 7
    while value:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(reversed(out))


def tempo_map(score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Ticks (int64, the first 0, ascending, unique) and tempos (quarters a minute) in force from there on."""
    tempos = score.tempos.numpy()
    tick, length = tempos["time"].astype(np.int64), tempos["mspq"].astype(float)
    order = np.argsort(tick, kind="stable")
    tick, length = tick[order], length[order]
    last = np.append(tick[1:] != tick[:-1], True)[: len(tick)]  # of several at one tick the last one counts
    tick, qpm = tick[last], 6e7 / length[last]
    if not len(tick) or tick[0] > 0:
        tick, qpm = np.append(0, tick), np.append(DEFAULT_TEMPO, qpm)
    return tick, qpm


def seconds_at(score: Score, ticks: np.ndarray) -> np.ndarray:
    """The times in seconds (float64) of `ticks` under the score's tempo map."""
    start, qpm = tempo_map(score)
    per_tick = 60.0 / (qpm * score.tpq)
    began = np.concatenate(([0.0], np.cumsum(np.diff(start) * per_tick[:-1])))
    index = np.searchsorted(start, ticks, side="right") - 1
    return began[index] + (ticks - start[index]) * per_tick[index]


def listen(score: Score) -> Notes:
    """The score's notes but the drums' and those without length, as time-ordered arrays; however its tracks are split."""
    parts = [track.notes.numpy() for track in score.tracks if not track.is_drum and len(track.notes)]
    if not parts:
        empty = np.zeros(0)
        return Notes(empty, empty, empty, empty, np.zeros(0, np.int64), np.zeros(0, np.int64))
    onset, length, pitch, velocity = (
        np.concatenate([part[key] for part in parts]).astype(np.int64)
        for key in ("time", "duration", "pitch", "velocity")
    )
    order = np.lexsort((-velocity, -length, pitch, onset))
    order = order[(length[order] > 0) & (velocity[order] > 0)]
    onset, end, pitch, velocity = onset[order], (onset + length)[order], pitch[order], velocity[order]
    seconds = seconds_at(score, np.concatenate((onset, end)))
    return Notes(seconds[: len(onset)], seconds[len(onset) :], onset / score.tpq, end / score.tpq, pitch, velocity)


def clean(score: Score, limits: Limits = Limits()) -> list[Segment]:  # noqa: B008 (immutable)
    """Merge a score into one piano track and cut it at bar lines into segments of about `limits.segment_seconds`.

    Drums, keys no piano has, doubled notes and notes without length are left out; a key struck again ends its note before. Silence
    up to the first bar line with a note is cut away. A remainder shorter than half a segment is shared out among the
    others. Segments with fewer than `limits.min_notes` notes are dropped.

    Raises:
        Unusable: with the reason.
    """
    tick, qpm = tempo_map(score)
    scale = TICKS_PER_QUARTER / score.tpq
    tempo_at = np.round(tick * scale).astype(np.int64)
    notes = _merged_notes(score, scale)
    onset, end, pitch, velocity = notes
    _check_tempo(tempo_at, qpm, int(end.max()))
    if len(onset) < limits.min_notes:
        raise Unusable(f"too few notes ({len(onset)} of at least {limits.min_notes})")
    first_bar, last_bar = int(onset[0]) // TICKS_PER_BAR, -(-int(end.max()) // TICKS_PER_BAR)
    clock = _Clock(tempo_at, qpm)
    bar_s = clock.seconds(np.arange(first_bar, last_bar + 1) * TICKS_PER_BAR)
    begin_s, end_s = bar_s[0], float(clock.seconds(end.max()))
    if end_s - begin_s < limits.min_seconds:
        raise Unusable(f"too short ({end_s - begin_s:.1f} s of at least {limits.min_seconds:g} s)")
    if end_s - begin_s > limits.max_seconds:
        raise Unusable(f"too long ({end_s - begin_s:.0f} s of at most {limits.max_seconds:g} s)")
    if (share := _share_above(onset, end, limits.max_polyphony)) > DENSE_SHARE:
        raise Unusable(f"too dense (over {limits.max_polyphony} notes at once in {share:.0%} of its time)")
    parts = max(1, round((end_s - begin_s) / limits.segment_seconds))
    wanted = begin_s + (end_s - begin_s) * np.arange(1, parts) / parts
    cuts = np.unique(np.concatenate(([0], np.abs(bar_s[:, None] - wanted).argmin(axis=0), [len(bar_s) - 1])))
    segments = []
    for low, high in zip(cuts[:-1], cuts[1:], strict=True):
        start, stop = (first_bar + low) * TICKS_PER_BAR, (first_bar + high) * TICKS_PER_BAR
        inside = (onset >= start) & (onset < stop)
        count = int(inside.sum())
        if count < limits.min_notes:
            continue
        stopped = np.minimum(end[inside], stop)
        segments.append(
            Segment(
                score=_piano_score(
                    onset[inside] - start,
                    stopped - onset[inside],
                    pitch[inside],
                    velocity[inside],
                    *clock.from_tick(start, stop),
                ),
                start_s=float(bar_s[low]),
                seconds=float(clock.seconds(stopped.max()) - bar_s[low]),
                bars=int(-(-(stopped.max() - start) // TICKS_PER_BAR)),
                notes=count,
            )
        )
    if not segments:
        raise Unusable(f"too few notes (no segment has {limits.min_notes})")
    return segments


class _Clock:
    """Ticks to seconds under a tempo map at 480 ticks a quarter."""

    def __init__(self, tick: np.ndarray, qpm: np.ndarray) -> None:
        self.tick, self.qpm = tick, qpm
        self.per_tick = 60.0 / (qpm * TICKS_PER_QUARTER)
        self.began = np.concatenate(([0.0], np.cumsum(np.diff(tick) * self.per_tick[:-1])))

    def seconds(self, ticks: np.ndarray) -> np.ndarray:
        index = np.searchsorted(self.tick, ticks, side="right") - 1
        return self.began[index] + (ticks - self.tick[index]) * self.per_tick[index]

    def from_tick(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The part of the map that holds between `start` and `stop`, with `start` as tick 0."""
        first = np.searchsorted(self.tick, start, side="right") - 1
        inside = slice(first, np.searchsorted(self.tick, stop, side="left"))
        return np.maximum(self.tick[inside] - start, 0), self.qpm[inside]


def _merged_notes(score: Score, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Onset, end (ticks of 480 a quarter), pitch, velocity of the piano notes, by onset and pitch, free of overlaps."""
    parts = [track.notes.numpy() for track in score.tracks if not track.is_drum and len(track.notes)]
    if not parts:
        raise Unusable("drums only" if any(len(track.notes) for track in score.tracks) else "empty (no notes)")
    onset, length, pitch, velocity = (
        np.concatenate([part[key] for part in parts]).astype(np.int64)
        for key in ("time", "duration", "pitch", "velocity")
    )
    end = np.round((onset + length) * scale).astype(np.int64)
    onset = np.round(onset * scale).astype(np.int64)
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


def _check_tempo(tick: np.ndarray, qpm: np.ndarray, end: int) -> None:
    span = np.diff(np.minimum(np.append(tick, end), end))
    absurd = (qpm < SLOWEST_TEMPO) | (qpm > FASTEST_TEMPO)
    if span[absurd].sum() > ABSURD_SHARE * span.sum():
        worst = qpm[absurd][span[absurd].argmax()]
        raise Unusable(f"absurd tempo ({worst:.0f} quarters a minute)")


def _share_above(onset: np.ndarray, end: np.ndarray, polyphony: int) -> float:
    """Share of a piece's time with more than `polyphony` notes at once; one that ends as another begins is not with it."""
    times = np.concatenate((end, onset))
    step = np.repeat((-1, 1), len(onset))
    order = np.argsort(times, kind="stable")
    times = times[order]
    sounding = np.cumsum(step[order])[:-1]
    span = np.diff(times)
    return float(span[sounding > polyphony].sum() / max(span.sum(), 1))


def _piano_score(
    onset: np.ndarray,
    length: np.ndarray,
    pitch: np.ndarray,
    velocity: np.ndarray,
    tempo_at: np.ndarray,
    qpm: np.ndarray,
) -> Score:
    score = Score(TICKS_PER_QUARTER)
    score.time_signatures.append(TimeSignature(0, 4, 4))
    for tick, tempo in zip(tempo_at.tolist(), qpm.tolist(), strict=True):
        score.tempos.append(Tempo(tick, tempo))
    track = Track(program=0)
    track.notes = Note.from_numpy(
        onset.astype(np.int32), length.astype(np.int32), pitch.astype(np.int8), velocity.astype(np.int8), "tick"
    )
    score.tracks.append(track)
    return score
