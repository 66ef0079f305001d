"""A walk over every byte of a MIDI file, before any parser that trusts its input sees it.

symusic's parser is fast but may crash the process, or give varying results, on damaged files: it only gets `rewrite`'s
output. Layout of the file: MIDI 1.0 Detailed Specification, Standard MIDI Files 1.0.
"""

from __future__ import annotations

import struct

MAX_TICKS = 2**28 - 1
"""The largest delta time a MIDI file can hold; a track that lasts longer is damaged."""
SUSTAIN, TEMPO, METRE, END_OF_TRACK = 64, 0x51, 0x58, 0x2F
"""The number of a controller, and of three meta events."""


MAX_BYTES = 8 * 2**20
TOO_BIG = f"is too big for a MIDI file (limit {MAX_BYTES >> 20} MiB)"
MAX_EVENTS = 500_000
"""Notes, pedals and the like of a file; an hour of the densest music has a tenth of it."""
MAX_TRACKS = 1000


class Damage(ValueError):
    """What is wrong with the bytes of a MIDI file, and where."""


def unwrapped(data: bytes) -> bytes:
    """The MIDI file in a RIFF container (RMID, suffix .rmi), whose chunks are walked up to `data`; else `data` as it is."""
    if data[:4] != b"RIFF" or data[8:12] != b"RMID":
        return data
    start = 12
    while start + 8 <= len(data):
        size = int.from_bytes(data[start + 4 : start + 8], "little")
        if data[start : start + 4] == b"data":
            return data[start + 8 : start + 8 + size]
        start += 8 + size + size % 2
    return data


def header(data: bytes) -> tuple[int, int, int]:
    """Where the first chunk after the header of an unwrapped file begins, how many tracks it declares, and its division.

    Raises:
        Damage: it is no MIDI file, or of a kind that is no piece in beats.
    """
    if not data:
        raise Damage("empty file (0 bytes)")
    if data[:4] != b"MThd":
        raise Damage("not a MIDI file (no MThd header)")
    if len(data) < 14:
        raise Damage("truncated MIDI header")
    length, form, declared, division = struct.unpack(">IHHH", data[4:14])
    if not 6 <= length <= len(data) - 8:
        raise Damage(f"damaged MIDI header (length {length})")
    if form > 1:
        raise Damage(f"MIDI format {form} (independent patterns) is not one piece: save it as format 0 or 1")
    if division & 0x8000:
        raise Damage("SMPTE time division has no beats: save it with ticks per quarter")
    if division == 0:
        raise Damage("damaged MIDI header (0 ticks per quarter)")
    if len(data) < 8 + length + 8:
        raise Damage("no track follows the MIDI header")
    return 8 + length, declared, division


def rewrite(data: bytes) -> bytes:
    """Check all chunks and events of `data` and return its music as a minimal file that any parser reads alike.

    Kept: notes, programs, sustain pedals, tempos, time signatures that say a metre, and the tracks that have any of these.
    Accepted as harmless: a RIFF wrapper, bytes after the last track, unknown chunks, more tracks than declared, a missing
    end of track, running status across meta events.

    Raises:
        Damage: not MIDI, truncated, damaged, endless, or a kind that is no piece in beats (SMPTE time, format 2).
    """
    data = unwrapped(data)
    start, declared, division = header(data)
    events = count = 0
    tracks: list[bytes] = []
    while start + 8 <= len(data):
        kind, length = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "big")
        start, end = start + 8, start + 8 + length
        if kind == b"MTrk" and end <= len(data):
            track, more = _rewrite_track(data, start, end, count, MAX_EVENTS - events)
            count, events = count + 1, events + more
            if more:
                tracks.append(track)
            if len(tracks) > MAX_TRACKS:
                raise Damage(f"more than {MAX_TRACKS} tracks")
        elif count >= declared:
            break  # whatever follows the last track
        elif end > len(data):
            raise Damage(f"truncated: the chunk at byte {start - 8} has {len(data) - start} of {length} bytes")
        start = end
    if count < max(declared, 1):
        raise Damage(f"truncated: {count} of {declared} tracks")
    chunks = [b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks]
    return b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), division) + b"".join(chunks)


def _rewrite_track(data: bytes, position: int, end: int, number: int, most: int) -> tuple[bytes, int]:
    """The music of one track chunk as a new chunk body, every event with its own status byte; and the number of these."""
    out = bytearray()
    tick = written = status = kept = 0
    try:
        while position < end:
            start, body = position, b""
            delta, position = _read_number(data, position, "delta time", number, start)
            tick += delta
            event = data[position]
            position += event >= 0x80
            if event < 0x80:
                if not status:
                    raise Damage(f"data byte without status in track {number} at byte {position}")
                event = status
            if event < 0xF0:
                status, kind = event, event & 0xF0
                size = 1 if kind in (0xC0, 0xD0) else 2
                values = data[position : position + size]
                position += size
                if position > end or max(values) > 127:
                    raise Damage(f"damaged event in track {number} at byte {start}")
                if kind in (0x80, 0x90, 0xC0) or (kind == 0xB0 and values[0] == SUSTAIN):
                    body = bytes((event,)) + values
            else:
                if event not in (0xF0, 0xF7, 0xFF):
                    raise Damage(f"event 0x{event:02X} is not allowed in a file, track {number}, byte {start}")
                meta = data[position] if event == 0xFF else -1
                position += event == 0xFF
                size, position = _read_number(data, position, "length", number, start)
                value = data[position : position + size]
                position += size
                if position > end:
                    raise Damage(f"event at byte {start} runs past the end of track {number}")
                if meta == END_OF_TRACK:
                    break
                if meta == TEMPO:
                    if size != 3:
                        raise Damage(f"damaged tempo in track {number} at byte {start}")
                    if not any(value):
                        raise Damage(f"tempo of zero length in track {number} at byte {start}")
                    body = bytes((0xFF, TEMPO, 3)) + value
                if meta == METRE and size == 4 and value[0] and value[1] <= 6:
                    body = bytes((0xFF, METRE, 4)) + value
            if body:
                out += _number(tick - written) + body
                written = tick
                kept += 1
                if kept > most:
                    raise Damage(f"more than {MAX_EVENTS:,} notes and other events")
    except IndexError:
        raise Damage(f"truncated event in track {number}") from None
    if tick > MAX_TICKS:
        raise Damage(f"endless MIDI ({tick} ticks) in track {number}")
    return bytes(out) + bytes((0, 0xFF, END_OF_TRACK, 0)), kept


def _read_number(data: bytes, position: int, what: str, track: int, start: int) -> tuple[int, int]:
    """A number of one to four bytes with seven bits each, and the position after it."""
    value = 0
    for place in range(position, position + 4):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    raise Damage(f"damaged {what} in track {track} at byte {start}")


def _number(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))
