"""A walk over every byte of a MIDI file, before any parser that trusts its input sees it.

symusic's parser is fast but may crash the process, or give varying results, on damaged files: it only gets `rewrite`'s
output. Layout of the file: MIDI 1.0 Detailed Specification, Standard MIDI Files 1.0.
"""

from __future__ import annotations

import struct

MAX_TICKS = 2**28 - 1
"""The largest delta time a MIDI file can hold; a track that lasts longer is damaged."""


class Damage(ValueError):
    """What is wrong with the bytes of a MIDI file, and where."""


def rewrite(data: bytes) -> bytes:
    """Check all chunks and events of `data` and return its music as a minimal file that any parser reads alike.

    Kept: notes, programs, sustain pedals, tempos. Accepted as harmless: a RIFF wrapper, bytes after the last track,
    unknown chunks, more tracks than declared, a missing end of track, running status across meta events.

    Raises:
        Damage: not MIDI, truncated, damaged, endless, or a kind that is no piece in beats (SMPTE time, format 2).
    """
    if not data:
        raise Damage("empty file (0 bytes)")
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        data = data[max(data.find(b"MThd"), 0) :]
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
    tracks: list[bytes] = []
    start = 8 + length
    while start + 8 <= len(data):
        kind, length = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "big")
        start, end = start + 8, start + 8 + length
        if kind == b"MTrk" and end <= len(data):
            tracks.append(_rewrite_track(data, start, end, len(tracks)))
        elif len(tracks) >= declared:
            break  # whatever follows the last track
        elif end > len(data):
            raise Damage(f"truncated: the chunk at byte {start - 8} has {len(data) - start} of {length} bytes")
        start = end
    if len(tracks) < max(declared, 1):
        raise Damage(f"truncated: {len(tracks)} of {declared} tracks")
    chunks = [b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks]
    return b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), division) + b"".join(chunks)


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
                    raise Damage(f"damaged delta time in track {number} at byte {start}")
                byte = data[position]
                position += 1
                delta = delta << 7 | byte & 0x7F
            tick += delta
            event = data[position]
            if event < 0x80:
                if not status:
                    raise Damage(f"data byte without status in track {number} at byte {position}")
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
                    raise Damage(f"damaged event in track {number} at byte {start}")
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
                    raise Damage(f"event 0x{event:02X} is not allowed in a file, track {number}, byte {start}")
                size = 0
                for _ in range(4):
                    byte = data[position]
                    position += 1
                    size = size << 7 | byte & 0x7F
                    if byte < 0x80:
                        break
                else:
                    raise Damage(f"damaged length in track {number} at byte {start}")
                position += size
                if position > end:
                    raise Damage(f"event at byte {start} runs past the end of track {number}")
                if meta == 0x2F:
                    break
                if meta != 0x51:
                    continue
                if size != 3:
                    raise Damage(f"damaged tempo in track {number} at byte {start}")
                value = data[position - 3 : position]
                if value == b"\0\0\0":
                    raise Damage(f"tempo of zero length in track {number} at byte {start}")
                body = b"\xff\x51\x03" + value
            out += _varlen(tick - written)
            out += body
            written = tick
    except IndexError:
        raise Damage(f"truncated event in track {number}") from None
    if tick > MAX_TICKS:
        raise Damage(f"endless MIDI ({tick} ticks) in track {number}")
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
