"""The byte walk: every kind of damage is refused with its place, harmless deviations are not."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from symusic import Note, Score, Tempo, Track

from huesong.music.midi import Damage, rewrite
from tests.examples import examples

END = bytes((0, 0xFF, 0x2F, 0))


def midi(*tracks: bytes, division: int = 480, form: int = 1, declared: int | None = None) -> bytes:
    header = struct.pack(">IHHH", 6, form, len(tracks) if declared is None else declared, division)
    return b"MThd" + header + b"".join(b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks)


NOTE = bytes((0, 0x90, 60, 80, 0x83, 0x60, 0x80, 60, 0))
"""C4 for 480 ticks."""


def sounding(data: bytes) -> list[tuple[int, int, int, int]]:
    score = Score.from_midi(rewrite(data))
    return [(n.time, n.duration, n.pitch, n.velocity) for track in score.tracks for n in track.notes]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty file"),
        (b"\xff\xd8\xff\xe0 a photograph", "not a MIDI file"),
        (b"MThd\0\0\0\x06\0", "truncated MIDI header"),
        (b"MThd\xff\xff\xff\xff" + bytes(20), "damaged MIDI header"),
        (midi(NOTE + END, form=2), "format 2"),
        (midi(NOTE + END, division=0xE728), "SMPTE"),
        (midi(NOTE + END, division=0), "0 ticks"),
        (midi(), "no track follows the MIDI header"),
        (midi()[:14] + b"XFIH" + struct.pack(">I", 8) + bytes(8), "0 of 0 tracks"),
        (midi(*[NOTE] * 1001), "more than 1000 tracks"),
        (midi(bytes((0, 0x90, 60, 80)) + bytes((1, 60, 80)) * 500_000), "more than 500,000 notes"),
        (midi(NOTE + END, declared=3), "1 of 3 tracks"),
        (midi(NOTE + END)[:-6], "truncated: the chunk at byte 14"),
        (midi(bytes((0, 60, 80)) + END), "data byte without status in track 0"),
        (midi(bytes((0, 0x90, 200, 80)) + END), "damaged event in track 0"),
        (midi(NOTE + bytes((0, 0x90, 60))), "event in track 0"),
        (midi(bytes((0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0x90, 60, 80)) + END), "damaged delta time"),
        (midi(bytes((0, 0xFF, 0x51, 3, 0, 0, 0)) + NOTE + END), "tempo"),
        (midi(bytes((0, 0xFF, 0x51, 2, 9, 0)) + NOTE + END), "damaged tempo"),
        (midi(bytes((0, 0xFF, 0x03, 0x7F)) + b"title" + END), "runs past the end"),
        (midi(bytes((0, 0xF8)) + END), "0xF8 is not allowed"),
        (midi(bytes((0xFF, 0xFF, 0xFF, 0x7F, 0x90, 60, 80)) * 2 + END), "endless"),
    ],
)
def test_damage_is_named(data: bytes, what: str) -> None:
    with pytest.raises(Damage, match=what):
        rewrite(data)


@pytest.mark.parametrize(
    "data",
    [
        midi(NOTE + END),
        midi(NOTE),  # no end of track
        midi(NOTE + END + b"\x12\x34"),  # bytes after the end of track
        midi(NOTE + END) + b"\0\0 padding after the last chunk",
        midi(NOTE + END, declared=0),
        b"MThd" + struct.pack(">I", 8) + midi(NOTE + END)[8:14] + b"\0\0" + midi(NOTE + END)[14:],  # longer header
        midi(NOTE + END)[:14] + b"XFIH" + struct.pack(">I", 3) + b"abc" + midi(NOTE + END)[14:],  # unknown chunk
        b"RIFF\x99\0\0\0RMIDLIST\3\0\0\0MTh\0data" + struct.pack("<I", 99) + midi(NOTE + END),  # an odd chunk before
        midi(NOTE + END, *[b""] * 65534),  # 512 KiB of empty tracks
        b"RIFF" + struct.pack("<I", 99) + b"RMIDdata" + struct.pack("<I", 99) + midi(NOTE + END),
        midi(bytes((0, 0xFF, 0x03, 6)) + b"name\0\xff" + NOTE + END),  # a name that is no text
        midi(bytes((0, 0xF0, 3, 1, 2, 0xF7)) + NOTE + END),  # system exclusive
        midi(bytes((0, 0x90, 60, 80, 0, 0xFF, 0x01, 0, 0x83, 0x60, 60, 0)) + END),  # running status across a meta event
        midi(bytes((0, 0xE0, 0, 64, 0, 0xD0, 5, 0, 0xB0, 7, 100)) + NOTE + END),  # bends, pressure, volume are dropped
    ],
)
def test_harmless_deviations_are_read(data: bytes) -> None:
    assert sounding(data) == [(0, 480, 60, 80)]


def test_nothing_is_lost_in_rewriting() -> None:
    score = Score(96)
    score.tempos.append(Tempo(0, 90))
    score.tempos.append(Tempo(960, 140))
    for program in (0, 40):
        track = Track(program=program)
        for i in range(50):
            track.notes.append(Note(i * 7, 5 + i * 301 % 4000, 30 + i, 1 + i * 2))
        score.tracks.append(track)
    data = score.dumps_midi()
    before, after = Score.from_midi(data), Score.from_midi(rewrite(data))
    assert after.tpq == 96
    assert [list(t.notes) for t in after.tracks] == [list(t.notes) for t in before.tracks]
    assert [t.program for t in after.tracks] == [0, 40]
    assert list(after.tempos) == list(before.tempos)
    assert rewrite(rewrite(data)) == rewrite(data)


@examples(300)
@given(st.data())
def test_any_damage_is_refused_or_read_alike_twice(data: st.DataObject) -> None:
    whole = bytearray(midi(bytes((0, 0xFF, 0x51, 3, 7, 0xA1, 0x20)) + NOTE * 8 + END, NOTE * 5 + END))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        first = rewrite(damaged)
    except Damage:
        return
    # symusic sees only this, and it is sound: well-formed to our own walk and stable in meaning.
    assert rewrite(first) == first
    assert Score.from_midi(first).dumps_midi() == Score.from_midi(first).dumps_midi()


def test_time_signatures_stay_and_such_as_say_no_metre_are_dropped() -> None:
    change = bytes((0, 0xFF, 0x58, 4))
    none = change + bytes((0, 2, 24, 8)) + change + bytes((3, 9, 24, 8)) + bytes((0, 0xFF, 0x58, 2, 3, 2))
    score = Score.from_midi(rewrite(midi(none + change + bytes((6, 3, 36, 8)) + NOTE + END)))
    assert [(t.time, t.numerator, t.denominator) for t in score.time_signatures] == [(0, 6, 8)]
