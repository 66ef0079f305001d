"""Soundfonts: which one plays, and .sf3 files (compressed) as the .sf2 that the synthesizer reads.

Layout of the files: SoundFont Technical Specification 2.04 (RIFF; numbers are little-endian). An .sf3 is the same with
every sample as an Ogg Vorbis file of its own, marked by a bit of its type; `start` and `end` then count bytes.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Iterator, Set
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from huesong.runtime.errors import UserError

SOUNDFONT_VARIABLE = "HUESONG_SOUNDFONT"
PIANO = Path(__file__).parent.parent / "piano" / "piano.sf3"
"""The piano that comes with the package; its README says whose it is."""
COMPRESSED = 0x10
"""The bit of a sample's type."""
SILENT_FRAMES = 46
"""Zeros that the specification asks for behind every sample."""
KEYS, VELOCITIES, INSTRUMENT, SAMPLE = 43, 44, 41, 53
"""Generators: the keys and velocities that a zone is for, and what it plays."""
PRESET = np.dtype([("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("rest", "V12")])
INSTRUMENT_HEAD = np.dtype([("name", "S20"), ("bag", "<u2")])
BAG = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
GENERATOR = np.dtype([("kind", "<u2"), ("low", "u1"), ("high", "u1")])
SAMPLE_HEAD = np.dtype(
    [
        ("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop_start", "<u4"), ("loop_end", "<u4"), ("rate", "<u4"),
        ("key", "u1"), ("cents", "i1"), ("link", "<u2"), ("kind", "<u2"),
    ]
)  # fmt: skip

Struck = Set[tuple[int, int]]
"""Pitches with the velocities that they are struck with."""


def find_soundfont(given: Path | None = None) -> Path:
    """The soundfont to play with: `given`, else the environment's HUESONG_SOUNDFONT, else the package's own piano.

    Raises:
        UserError: the file is missing or is no soundfont.
    """
    variable = os.environ.get(SOUNDFONT_VARIABLE)
    if given is not None:
        path, origin = given, "--soundfont"
    elif variable:
        path, origin = Path(variable), SOUNDFONT_VARIABLE
    else:
        path, origin = PIANO, "this package"
    remedy = f"name an .sf2 or .sf3 file with --soundfont or {SOUNDFONT_VARIABLE}"
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError(f"soundfont {path} (from {origin}) is no ordinary file: {remedy}")
    try:
        with path.open("rb") as stream:
            head = stream.read(12)
    except OSError as error:
        raise UserError(f"soundfont {path} (from {origin}) cannot be read ({error.strerror}): {remedy}") from error
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise UserError(f"{path} (from {origin}) is not a soundfont: {remedy}")
    return path


@lru_cache(maxsize=1)
def _bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def playable(path: Path, struck: Struck, programs: Set[int] = frozenset((0,))) -> bytes:
    """The soundfont as .sf2; of an .sf3 only the samples that `struck` notes of `programs` need are in it, others are empty.

    Raises:
        ValueError: damaged, or no soundfont.
    """
    data = _bytes_of(path)
    try:
        lists = dict(_chunks(data[12:]))
        info = lists[b"INFO"]
        pool, tables = dict(_chunks(lists[b"sdta"])), dict(_chunks(lists[b"pdta"]))
        heads = np.frombuffer(tables[b"shdr"], SAMPLE_HEAD).copy()
        compressed = (heads["kind"] & COMPRESSED) > 0
        if not compressed.any():
            return data
        needed = _needed(tables, struck, programs)
        sound = [np.zeros(SILENT_FRAMES, np.int16)]
        at = SILENT_FRAMES
        for index in np.flatnonzero(compressed):
            head = heads[index]
            packed = pool[b"smpl"][head["start"] : head["end"]]
            length, start = 0, 0
            if index in needed:
                frames, _ = soundfile.read(io.BytesIO(packed), dtype="int16")
                sound += [frames, np.zeros(SILENT_FRAMES, np.int16)]
                length, start = len(frames), at
                at += length + SILENT_FRAMES
            heads[index]["start"], heads[index]["end"] = start, start + length
            for name in ("loop_start", "loop_end"):
                heads[index][name] = start + min(int(head[name]), length)
            heads[index]["kind"] &= ~np.uint16(COMPRESSED)
    except (KeyError, IndexError, ValueError, struct.error, soundfile.LibsndfileError) as error:
        raise ValueError(f"damaged: {error}") from error
    tables[b"shdr"] = heads.tobytes()
    return soundfont_file(info, np.concatenate(sound).astype("<i2").tobytes(), tables)


def soundfont_file(info: bytes, samples: bytes, tables: dict[bytes, bytes]) -> bytes:
    """A soundfont of its three lists: `info` as chunks, the pool of samples, the tables of presets by their names."""
    body = b"".join(
        chunk(b"LIST", content)
        for content in (
            b"INFO" + info,
            b"sdta" + chunk(b"smpl", samples),
            b"pdta" + b"".join(chunk(name, table) for name, table in tables.items()),
        )
    )
    return chunk(b"RIFF", b"sfbk" + body)


def chunk(name: bytes, content: bytes) -> bytes:
    """A RIFF chunk; its length is even."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name (of a list: its kind) and content of each chunk."""
    at = 0
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        content = data[at + 8 : at + 8 + size]
        if len(content) < size:
            raise ValueError(f"chunk {name!r} has {len(content)} of {size} bytes")
        yield (content[:4], content[4:]) if name == b"LIST" else (name, content)
        at += 8 + size
        at += size % 2 and data[at : at + 1] == b"\0"  # some .sf3 files have no byte that makes a length even


def _needed(tables: dict[bytes, bytes], struck: Struck, programs: Set[int]) -> set[int]:
    """Samples that the notes may play: those of all zones for their key and velocity in the presets of the programs."""
    presets, instruments = (
        np.frombuffer(tables[n], kind) for n, kind in ((b"phdr", PRESET), (b"inst", INSTRUMENT_HEAD))
    )
    used: set[int] = set()
    for index in np.flatnonzero(np.isin(presets["program"][:-1], list(programs))):
        for zone in _zones(tables, b"p", range(presets["bag"][index], presets["bag"][index + 1])):
            if (instrument := zone.get(INSTRUMENT)) is None:
                continue
            bags = range(instruments["bag"][number(instrument)], instruments["bag"][number(instrument) + 1])
            used |= {
                number(inner[SAMPLE])
                for inner in _zones(tables, b"i", bags)
                if SAMPLE in inner and any(_hears(inner, *note) for note in struck)
            }
    return used


Zone = dict[int, tuple[int, int]]


def number(amount: tuple[int, int]) -> int:
    """The two bytes of a generator as one number."""
    return amount[0] + 256 * amount[1]


def _zones(tables: dict[bytes, bytes], level: bytes, bags: Iterable[int]) -> Iterator[Zone]:
    """Each zone's generators; `level`: p for presets, i for instruments."""
    starts = np.frombuffer(tables[level + b"bag"], BAG)["generator"]
    generators = np.frombuffer(tables[level + b"gen"], GENERATOR)
    for bag in bags:
        yield {int(kind): (int(low), int(high)) for kind, low, high in generators[starts[bag] : starts[bag + 1]]}


def _hears(zone: Zone, pitch: int, velocity: int) -> bool:
    (low, high), (soft, loud) = zone.get(KEYS, (0, 127)), zone.get(VELOCITIES, (0, 127))
    return low <= pitch <= high and soft <= velocity <= loud
