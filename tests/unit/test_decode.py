"""Every kind of picture file comes out as upright RGB; every bad one as a UserError that names it."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from huesong.pictures.decode import decode
from huesong.runtime.errors import UserError

LIMIT = 1_000_000


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def png16(path: Path, rows: np.ndarray, colour_type: int) -> Path:
    """A 16-bit PNG (Pillow itself writes no 16-bit colour). rows: uint16 [H, W] or [H, W, C]."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = rows.shape[:2]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )
    return path


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 20, 20))  # left half red
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise: left becomes top
    got = decode(save(image, tmp_path / "a.png", exif=exif), LIMIT)
    assert got.size == (20, 40)
    assert got.getpixel((10, 5)) == (255, 0, 0)
    assert got.getpixel((10, 35)) == (0, 0, 255)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    half = save(Image.new("RGBA", (4, 4), (0, 0, 0, 127)), tmp_path / "half.png")
    assert decode(half, LIMIT).getpixel((0, 0)) == pytest.approx((128, 128, 128), abs=1)
    grey = save(Image.new("LA", (4, 4), (0, 0)), tmp_path / "grey.png")
    assert decode(grey, LIMIT).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 10, 20])
    save(palette, tmp_path / "palette.gif", transparency=1)
    assert decode(tmp_path / "palette.gif", LIMIT).getpixel((0, 0)) == (255, 255, 255)
    web = save(Image.new("RGBA", (4, 4), (9, 9, 9, 0)), tmp_path / "clear.webp", lossless=True)
    assert decode(web, LIMIT).getpixel((1, 1)) == (255, 255, 255)


def test_palette_greyscale_bilevel_and_cmyk(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 10, 20])
    assert decode(save(palette, tmp_path / "p.png"), LIMIT).getpixel((0, 0)) == (200, 10, 20)
    assert decode(save(Image.new("L", (4, 4), 77), tmp_path / "l.bmp"), LIMIT).getpixel((0, 0)) == (77, 77, 77)
    assert decode(save(Image.new("1", (4, 4), 1), tmp_path / "b.tif"), LIMIT).getpixel((0, 0)) == (255, 255, 255)
    cyan = save(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), tmp_path / "c.jpg", quality=100)
    assert decode(cyan, LIMIT).getpixel((4, 4)) == pytest.approx((0, 255, 255), abs=3)


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    want = np.rint(ramp / 257).astype(int)
    for name in ("grey.png", "grey.tif"):
        got = np.asarray(decode(save(Image.fromarray(ramp), tmp_path / name), LIMIT)).astype(int)
        assert np.abs(got - want[..., None]).max() <= 1, name
    wide = save(Image.fromarray(ramp.astype(np.int32)), tmp_path / "wide.tif")
    assert np.abs(np.asarray(decode(wide, LIMIT)).astype(int)[..., 0] - want).max() <= 1
    share = save(Image.fromarray((ramp / 65535).astype(np.float32)), tmp_path / "float.tif")
    assert np.abs(np.asarray(decode(share, LIMIT)).astype(int)[..., 0] - want).max() <= 1
    colour = png16(tmp_path / "colour.png", np.stack([ramp, ramp[::-1], ramp.T], axis=-1), 2)
    got = np.asarray(decode(colour, LIMIT)).astype(int)
    assert np.abs(got[..., 1] - want[::-1]).max() <= 1


def test_the_pixel_limit_is_checked_before_decoding(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    body = b"IHDR" + head
    data = b"IDAT" + b"\0" * 10  # were it decoded, it would be called damaged
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
        + struct.pack(">I", 10) + data + struct.pack(">I", zlib.crc32(data))
    )  # fmt: skip
    with pytest.raises(UserError, match=r"bomb\.png is too large"):
        decode(path, LIMIT)
    fine = save(Image.new("RGB", (100, 100)), tmp_path / "fine.png")
    assert decode(fine, 10_000).size == (100, 100)
    with pytest.raises(UserError, match=r"100 x 100 pixels, more than max_pixels = 9999; .* raise"):
        decode(fine, 9_999)


def animated(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue", "green")]
        return save(frames[0], folder / name, save_all=True, append_images=frames[1:])

    return make


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tiff"])
def test_animations_and_pages_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} is animated .*3 frames.*: save one frame"):
        decode(animated(name)(tmp_path), LIMIT)


def test_a_still_gif_and_a_phone_picture_with_preview_are_fine(tmp_path: Path) -> None:
    assert decode(save(Image.new("RGB", (8, 8), "red"), tmp_path / "a.gif"), LIMIT).getpixel((0, 0)) == (255, 0, 0)
    big, preview = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (8, 8), "blue")
    big.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[preview])
    assert decode(tmp_path / "phone.jpg", LIMIT).size == (64, 64)


def encoded(format_: str) -> bytes:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(stream, format_)
    return stream.getvalue()


FILES = {name: encoded(name) for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")}


@pytest.mark.parametrize("name", FILES)
def test_truncated_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "cut"
    for share in (0.02, 0.3, 0.7):
        path.write_bytes(FILES[name][: int(len(FILES[name]) * share)])
        with pytest.raises(UserError, match=r"cut is (damaged|not a picture)"):
            decode(path, LIMIT)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(UserError, match=r"empty\.jpg is empty \(0 bytes\)"):
        decode(tmp_path / "empty.jpg", LIMIT)
    for name in ("text.jpg", "script.eps"):
        with pytest.raises(UserError, match=rf"{name} is not a picture in JPEG, .*: convert"):
            decode(tmp_path / name, LIMIT)
    with pytest.raises(UserError, match="cannot be read"):
        decode(tmp_path / "none.jpg", LIMIT)
    with pytest.raises(UserError, match="cannot be read"):
        decode(tmp_path, LIMIT)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FILES)), changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255))))
@example(name="TIFF", changes=[(0.0, 73), (0.001, 0)])
def test_damage_gives_a_picture_or_a_user_error(tmp_path: Path, name: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(FILES[name])
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    path = tmp_path / "damaged"
    path.write_bytes(data)
    message = ""
    try:
        assert decode(path, LIMIT).mode == "RGB"
    except UserError as error:
        message = str(error)
    assert not message or str(path) in message
    assert "\n" not in message
