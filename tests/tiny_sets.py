"""Small files in the layouts of the public sets, for the tests of the importers."""

import struct
from pathlib import Path

import pandas as pd
from PIL import Image

from huesong import contracts
from huesong.data.tables import as_table, read_table, write_table

IMAGES, MUSIC = contracts.IMAGES_CSV, contracts.MUSIC_CSV


def midi(path: Path, pitch: int = 60) -> Path:
    """A MIDI file with one note."""
    track = bytes([0, 0x90, pitch, 64, 0x83, 0x60, 0x80, pitch, 0, 0, 0xFF, 0x2F, 0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, 480, b"MTrk", len(track)) + track)
    return path


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade, 40, 90)).save(path)
    return path


def sheet(path: Path, head: str, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *map(str, rows)]) + "\n", encoding="utf-8")
    return path


def rows(out: Path, name: str) -> dict[str, pd.Series]:
    return {row["id"]: row for _, row in read_table(out, name).iterrows()}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def sample(out: Path) -> Path:
    """A data folder that holds a sample set of one picture and one piece."""
    picture(out / "images/sample/s1.jpg")
    midi(out / "music/sample/s1.mid")
    for name, path in ((IMAGES, "images/sample/s1.jpg"), (MUSIC, "music/sample/s1.mid")):
        row = {"id": "s1", "path": path, "group": "s", "valence": 0.1, "arousal": 0.2, "n_raters": 0.0}
        row |= {"label_kind": "construction", "source": "sample", "licence": "CC0-1.0"}
        write_table(as_table([row]), out, name)
    return out
