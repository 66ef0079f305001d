"""Mutated MIDI, pictures, tables and settings, in children with bounds of memory and time: read, or refused in one line."""

from __future__ import annotations

import faulthandler
import io
import os
import random
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from huesong.config import load_params
from huesong.data.importers.own_tables import read_own_table
from huesong.music.reading import Unusable, clean, read_score
from huesong.pictures.decode import decode
from huesong.register.gate import load_gate
from huesong.runtime.errors import UserError
from tests.examples import many
from tests.stage.test_own_folder import TABLES
from tests.tiny_music import pieces

ROOT = Path(__file__).parents[2]
CPU_S, MEMORY, BATCH = 5, 2**30, 50
MUTATIONS = (b"\0", b"\xff", b"MTrk", b"\xff\x51\x03\0\0\1", b"\x7f\xff\xff\xff", b"\n", b'"', b";", b",")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data` with up to eight pieces replaced, doubled, cut out or put in."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at, length = rng.randrange(len(out) + 1), rng.choice((0, 1, 1, 2, 4, 50))
        new = rng.choice((*MUTATIONS, rng.randbytes(rng.randint(0, 4)), bytes(out[at : at + length]) * 2))
        out[at : at + length] = new
    return bytes(out)


def wrong(paths: list[Path], read: Callable[[Path], object]) -> str:
    """What a child that reads all `paths` found wrong, its end included; "" for nothing."""
    inward, outward = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        try:
            before = resource.getrusage(resource.RUSAGE_SELF)
            resource.setrlimit(resource.RLIMIT_CPU, (BATCH * CPU_S, BATCH * CPU_S))
            for path in paths:
                start = os.times().user
                try:
                    read(path)
                except (UserError, Unusable) as error:
                    if "\n" in str(error):
                        os.write(outward, f"{path}: more than one line: {error!r}\n".encode()[:500])
                except BaseException as error:
                    os.write(outward, f"{path}: {error!r}\n".encode("utf-8", "replace")[:500])
                if os.times().user - start > CPU_S:
                    os.write(outward, f"{path}: over {CPU_S} s\n".encode())
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before.ru_maxrss
            if grown * 1024 > MEMORY:
                os.write(outward, f"{paths[0]} and so on: {grown >> 10} MiB\n".encode())
        finally:
            os._exit(0)
    os.close(outward)
    with os.fdopen(inward, "rb") as stream:
        told = stream.read().decode("utf-8", "replace")
    status = os.waitpid(child, 0)[1]
    return told if status == 0 else f"{told}the reader ended with status {status}"


def fuzz(folder: Path, seeds: list[bytes], name: str, count: int, read: Callable[[Path], object]) -> None:
    rng, paths = random.Random(0), [folder / f"{number}-{name}" for number in range(BATCH)]
    for _ in range(-(-many(count) // BATCH)):
        for path in paths:
            path.write_bytes(mutated(rng.choice(seeds), rng))
        assert wrong(paths, read) == ""


@pytest.mark.fuzz
def test_mutated_midi(tmp_path: Path) -> None:
    seeds = []
    for number, score in enumerate(pieces()):
        score.dump_midi(tmp_path / f"{number}.mid")
        seeds.append((tmp_path / f"{number}.mid").read_bytes())
    fuzz(tmp_path, seeds, "x.mid", 200, lambda path: clean(read_score(path)))


@pytest.mark.fuzz
def test_mutated_tables(tmp_path: Path) -> None:
    fuzz(
        tmp_path, [text.encode() for text in TABLES.values()], "x.csv", 500, lambda path: read_own_table(path, (-1, 1))
    )


def pictures() -> list[bytes]:
    """A small picture in every format and kind of samples that is read."""
    colours = np.random.default_rng(0).integers(0, 255, (24, 32, 4), dtype=np.uint8)
    rgba = Image.fromarray(colours)
    rgb, grey, palette = rgba.convert("RGB"), rgba.convert("L"), rgba.convert("P")
    deep = Image.fromarray(colours[..., 0].astype(np.uint16) * 257)
    real = Image.fromarray(colours[..., 0].astype(np.float32) / 100)
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kinds: list[tuple[Image.Image, dict[str, object]]] = [
        (rgb, {"format": "JPEG", "exif": exif, "icc_profile": profile}), (rgb, {"format": "JPEG", "progressive": True}),
        (rgb.convert("CMYK"), {"format": "JPEG"}), (rgba, {"format": "PNG", "icc_profile": profile}),
        (palette, {"format": "PNG", "transparency": 3}), (deep, {"format": "PNG"}), (grey, {"format": "PNG", "exif": exif}),
        (palette, {"format": "GIF"}), (rgba, {"format": "BMP"}), (grey, {"format": "BMP"}), (rgba, {"format": "WEBP"}),
        (rgb, {"format": "TIFF", "compression": "tiff_lzw"}), (deep, {"format": "TIFF"}), (real, {"format": "TIFF"}),
        (rgb, {"format": "TIFF", "compression": "tiff_adobe_deflate"}), (rgb, {"format": "PPM"}),
        (grey.convert("1"), {"format": "TIFF", "compression": "group4"}), (rgb, {"format": "AVIF"}),
        (rgba, {"format": "JPEG2000"}),
    ]  # fmt: skip
    made = []
    for image, options in kinds:
        stream = io.BytesIO()
        image.save(stream, **options)  # type: ignore[arg-type]
        made.append(stream.getvalue())
    return made


@pytest.mark.fuzz
def test_mutated_pictures(tmp_path: Path) -> None:
    fuzz(tmp_path, pictures(), "x.jpg", 50, lambda path: decode(path, 40_000_000))


@pytest.mark.fuzz
def test_mutated_settings(tmp_path: Path) -> None:
    seeds = [path.read_bytes() for path in (ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml")))]
    fuzz(tmp_path, seeds, "x.yaml", 50, load_params)


@pytest.mark.fuzz
def test_mutated_gates(tmp_path: Path) -> None:
    fuzz(tmp_path, [(ROOT / "mlflow" / "gate.yaml").read_bytes()], "x.yaml", 50, load_gate)


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    assert "ZeroDivisionError" in wrong([tmp_path], lambda path: 1 / 0)
    assert "status" in wrong([tmp_path], lambda path: os.abort())
