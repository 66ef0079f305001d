"""Every kind of picture file comes out as upright RGB; every bad one as a UserError that names it."""

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from huesong.pictures.decode import decode
from huesong.preprocess.files import inspect
from huesong.runtime.errors import UserError
from tests.examples import examples

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


@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def tiff(path: Path, samples: np.ndarray, bits: int, **tags: int) -> Path:
    """An uncompressed greyscale TIFF of any depth, with the tags given as photometric, format, low, high."""
    rows = samples.astype("<u2" if samples.dtype.kind == "u" else "<i2").tobytes()
    if bits == 12:
        flat = samples.astype(np.uint32).ravel()
        pairs = flat[0::2] << 12 | flat[1::2]
        rows = b"".join(int(pair).to_bytes(3, "big") for pair in pairs)
    height, width = samples.shape
    fields = [
        (256, width), (257, height), (258, bits), (259, 1), (262, tags.get("photometric", 1)), (273, 8), (277, 1),
        (278, height), (279, len(rows)), (339, tags.get("format", 1)),
        *((tag, tags[name]) for tag, name in ((280, "low"), (281, "high")) if name in tags),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(fields))
    path.write_bytes(
        b"II*\0" + struct.pack("<I", 8 + len(rows)) + rows + struct.pack("<H", len(fields)) + entries + b"\0" * 4
    )
    return path


RAMP = np.linspace(0, 255, 64).reshape(8, 8)


def grey(path: Path) -> np.ndarray:
    return np.asarray(decode(path, LIMIT)).astype(float)[..., 0]


def test_the_range_of_samples_is_the_one_the_file_tells(tmp_path: Path) -> None:
    twelve = np.rint(RAMP / 255 * 4095).astype(np.uint16)
    assert np.abs(grey(tiff(tmp_path / "12.tif", twelve, 12)) - RAMP).max() <= 1
    sixteen = np.rint(RAMP * 257).astype(np.uint16)
    assert np.abs(grey(tiff(tmp_path / "white.tif", sixteen, 16, photometric=0)) - (255 - RAMP)).max() <= 1
    signed = (sixteen.astype(np.int32) - 32768).astype(np.int16)
    assert np.abs(grey(tiff(tmp_path / "signed.tif", signed, 16, format=2)) - RAMP).max() <= 1
    told = np.rint(RAMP / 255 * 1000).astype(np.uint16)
    assert np.abs(grey(tiff(tmp_path / "told.tif", told, 16, low=0, high=1000)) - RAMP).max() <= 1


def test_light_in_floating_point_is_tone_mapped(tmp_path: Path) -> None:
    light = np.array([[0.0, 0.25, 1.0, 4.0]], np.float32)
    got = grey(save(Image.fromarray(light), tmp_path / "light.tif"))
    want = 255 * (light / (1 + light)) ** (1 / 2.2)
    assert np.abs(got - want).max() <= 1
    assert np.abs(grey(save(Image.fromarray(RAMP.astype(np.float32)), tmp_path / "bytes.tif")) - RAMP).max() <= 1
    large = grey(save(Image.fromarray((RAMP * 100).astype(np.float32)), tmp_path / "large.tif"))
    assert np.abs(large - RAMP).max() <= 1


def test_sixteen_bit_transparency_is_white(tmp_path: Path) -> None:
    rows = np.full((4, 4, 3), 60000, np.uint16)
    rows[:, :2] = (768, 1792, 2816)
    path = png16(tmp_path / "keyed.png", rows, 2)
    data = path.read_bytes()
    body = b"tRNS" + struct.pack(">HHH", 768, 1792, 2816)
    place = data.index(b"IDAT") - 4
    path.write_bytes(data[:place] + struct.pack(">I", 6) + body + struct.pack(">I", zlib.crc32(body)) + data[place:])
    got = decode(path, LIMIT)
    assert got.getpixel((0, 0)) == (255, 255, 255)
    assert got.getpixel((3, 0)) == (234, 234, 234)


def test_a_bitmap_whose_alpha_nobody_filled_in_is_opaque(tmp_path: Path) -> None:
    colour = Image.new("RGBA", (4, 4), (200, 100, 50, 0))
    assert decode(save(colour, tmp_path / "empty.bmp"), LIMIT).getpixel((0, 0)) == (200, 100, 50)
    assert decode(save(colour, tmp_path / "clear.png"), LIMIT).getpixel((0, 0)) == (255, 255, 255)


def test_colours_are_converted_to_srgb(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(40, 215, (16, 16, 3), dtype=np.uint8))
    lab = ImageCms.createProfile("XYZ")
    assert np.array_equal(
        np.asarray(decode(save(colours, tmp_path / "plain.png"), LIMIT)), np.asarray(colours)
    )  # no profile: as it is
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    got = np.asarray(decode(save(colours, tmp_path / "own.png", icc_profile=own), LIMIT)).astype(int)
    assert np.abs(got - np.asarray(colours)).max() <= 1
    unusable = ImageCms.ImageCmsProfile(lab).tobytes()
    for name, profile in (("junk.png", b"junk" * 50), ("xyz.png", unusable)):
        got = np.asarray(decode(save(colours, tmp_path / name, icc_profile=profile), LIMIT)).astype(int)
        assert np.abs(got - np.asarray(colours)).max() <= 1, name


def wide_gamut() -> bytes:
    """A matrix profile with the primaries of Display P3 (D50) and a gamma of 2.2, made here."""

    def s15(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"wide\0" + bytes(78),
        b"wtpt": b"XYZ " + bytes(4) + s15(0.9642, 1.0, 0.8249),
        b"rXYZ": b"XYZ " + bytes(4) + s15(0.51512, 0.24120, -0.00105),
        b"gXYZ": b"XYZ " + bytes(4) + s15(0.29198, 0.69225, 0.04189),
        b"bXYZ": b"XYZ " + bytes(4) + s15(0.15710, 0.06657, 0.78407),
        **{name: b"curv" + bytes(4) + struct.pack(">IH", 1, 563) for name in (b"rTRC", b"gTRC", b"bTRC")},
        b"cprt": b"text" + bytes(4) + b"CC0\0",
    }
    place, index, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        index += name + struct.pack(">II", place + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", place + len(body), b"\0" * 4, 0x02200000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + s15(0.9642, 1.0, 0.8249)
    head += bytes(128 - len(head))
    return head + struct.pack(">I", len(tags)) + index + body


def test_wider_colours_of_phones_are_not_taken_for_srgb(tmp_path: Path) -> None:
    red = save(Image.new("RGB", (4, 4), (200, 60, 60)), tmp_path / "p3.png", icc_profile=wide_gamut())
    got = np.array(decode(red, LIMIT).getpixel((0, 0)))
    # Light (.586, .041, .041) in the primaries of Display P3 is (.708, .019, .031) in those of sRGB.
    assert np.abs(got - (219, 37, 49)).max() <= 2
    half = save(Image.new("RGBA", (4, 4), (200, 60, 60, 128)), tmp_path / "half.png", icc_profile=wide_gamut())
    assert np.abs(np.array(decode(half, LIMIT).getpixel((0, 0))) - (got + 255) / 2).max() <= 2


def test_the_gamma_of_a_png_is_taken_back(tmp_path: Path) -> None:
    path = save(Image.new("RGB", (4, 4), (55, 55, 55)), tmp_path / "linear.png")
    data = path.read_bytes()
    body = b"gAMA" + struct.pack(">I", 100000)
    place = data.index(b"IDAT") - 4
    path.write_bytes(data[:place] + struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body)) + data[place:])
    assert decode(path, LIMIT).getpixel((0, 0)) == pytest.approx((127, 127, 127), abs=1)


def test_damaged_metadata_condemn_no_pixels(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4), (10, 200, 30))
    junk = save(image, tmp_path / "junk.png")
    data = junk.read_bytes()
    place = data.index(b"IDAT") - 4
    for number, body in enumerate((b"eXIf" + b"\0\x08\0\x02\x01\x12", b"iCCP" + b"x" * 30, b"tEXt" + b"\xff" * 9)):
        for check in (zlib.crc32(body), 1):  # a good checksum of nonsense, and a bad one
            chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", check)
            path = tmp_path / f"{number}-{check}.png"
            path.write_bytes(data[:place] + chunk + data[place:])
            assert decode(path, LIMIT).getpixel((0, 0)) == (10, 200, 30), body
    photo = save(Image.new("RGB", (16, 8), (10, 200, 30)), tmp_path / "photo.jpg")
    data = photo.read_bytes()
    for body in (b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"ICC_PROFILE\0\x01\x07junk"):
        marker = 0xE1 if body.startswith(b"Exif") else 0xE2
        path = tmp_path / f"{marker}.jpg"
        path.write_bytes(data[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + data[2:])
        assert decode(path, LIMIT).size == (16, 8)


def test_an_orientation_of_another_type_turns_the_picture(tmp_path: Path) -> None:
    """Tag 0x0112 as a LONG, as some programs write it."""
    entry = struct.pack(">HHII", 0x0112, 4, 1, 6)
    body = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 1) + entry + bytes(4)
    data = save(Image.new("RGB", (16, 8)), tmp_path / "a.jpg").read_bytes()
    path = tmp_path / "long.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])
    assert decode(path, LIMIT).size == (8, 16)


@pytest.mark.parametrize(("name", "format_"), [("a.avif", "AVIF"), ("a.jp2", "JPEG2000"), ("a.ppm", "PPM")])
def test_formats_that_cameras_and_archives_write(tmp_path: Path, name: str, format_: str) -> None:
    path = save(Image.new("RGB", (32, 32), (200, 40, 90)), tmp_path / name, format=format_)
    assert np.abs(np.array(decode(path, LIMIT).getpixel((9, 9))) - (200, 40, 90)).max() <= 6


@pytest.mark.parametrize(("name", "module"), [("a.heic", "pillow_heif"), ("a.jxl", "pillow_jxl")])
def test_formats_that_a_plugin_reads(tmp_path: Path, name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What phones write today: read where the decoder is installed, and the package is named where it is not."""
    plugin = pytest.importorskip(module)
    if module == "pillow_heif":
        plugin.register_heif_opener()
    image = Image.new("RGB", (64, 32), (20, 40, 190))
    image.paste((200, 40, 90), (0, 0, 32, 32))
    path = save(image, tmp_path / name, quality=95)
    got = decode(path, LIMIT)
    assert got.size == (64, 32)
    assert np.abs(np.array(got.getpixel((9, 9))) - (200, 40, 90)).max() <= 8
    assert inspect(("images", str(path))).problem == ""
    with pytest.raises(UserError, match="max_pixels = 2000"):
        decode(path, 2000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"damaged|not a picture"):
        decode(path, LIMIT)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        UserError, match=r"is (HEIC|JPEG XL), which needs a decoder: pip install pillow-(heif|jxl-plugin), or"
    ):
        decode(path, LIMIT)
    assert "pip install pillow-" in inspect(("images", str(path))).problem


def test_a_phone_picture_in_jpeg_xl_is_upright(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 20, 20))
    got = decode(save(image, tmp_path / "a.jxl", exif=exif.tobytes(), lossless=True), LIMIT)
    assert (got.size, got.getpixel((5, 5)), got.getpixel((10, 35))) == ((20, 40), (255, 0, 0), (0, 0, 255))


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(tmp_path: Path) -> None:
    """Upright and of the same colours, and no smaller than what encoders look at."""
    rows, columns = np.mgrid[0:2400, 0:3200]
    waves = np.stack([127 + 120 * np.sin(rows / 300), 255 * columns / 3200, 127 + 120 * np.cos(columns / 90)], axis=-1)
    image = Image.fromarray(waves.astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    got = decode(save(image, tmp_path / "a.jpg", quality=92, exif=exif), 10**7)
    assert got.size == (1200, 1600)
    want = image.transpose(Image.Transpose.ROTATE_270).resize((300, 400), Image.Resampling.BOX)
    found = got.resize((300, 400), Image.Resampling.BOX)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(want)).mean() < 1.5
    small = image.resize((1600, 1200))
    assert decode(save(small, tmp_path / "b.jpg"), 10**7).size == small.size
    # What counts is what is decoded: a photo of 108 megapixels is read, a PNG of as many is not.
    assert decode(tmp_path / "a.jpg", 2 * 10**6).size == got.size
    for path, most in ((tmp_path / "a.jpg", 1_900_000), (save(image, tmp_path / "c.png"), 7 * 10**6)):
        with pytest.raises(UserError, match=f"3200 x 2400 pixels, more than max_pixels = {most}"):
            decode(path, most)


@pytest.mark.parametrize("name", ["a.ico", "a.tga", "a.pcx"])
def test_validation_and_decoder_agree_on_what_is_a_picture(tmp_path: Path, name: str) -> None:
    path = save(Image.new("RGB", (32, 32)), tmp_path / name)
    with pytest.raises(UserError, match="is not a picture in JPEG"):
        decode(path, LIMIT)
    assert "is not a picture in JPEG" in inspect(("images", str(path))).problem


def test_cheap_files_that_cost_much_are_refused(tmp_path: Path) -> None:
    column = np.zeros((70_000, 1), np.uint8)
    with pytest.raises(UserError, match="a side may have 65535 pixels"):
        decode(save(Image.fromarray(column), tmp_path / "column.png"), LIMIT)
    scans = save(Image.new("RGB", (16, 16)), tmp_path / "scans.jpg", progressive=True)
    data = scans.read_bytes()
    last = data.rindex(b"\xff\xda")
    scans.write_bytes(data[:last] + data[last:-2] * 150 + data[-2:])
    with pytest.raises(UserError, match="scans, more than 100"):
        decode(scans, LIMIT)
    pages = [Image.new("L", (1, 1))] * 150
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UserError, match="more than 100 frames"):
        decode(tmp_path / "pages.tif", LIMIT)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="no ordinary file"):
        decode(tmp_path / "pipe.png", LIMIT)


def test_a_large_picture_is_never_there_several_times(tmp_path: Path) -> None:
    size = (3000, 2000)
    save(Image.new("RGBA", size, (1, 2, 3, 128)), tmp_path / "large.png")
    code = (
        "import resource, sys; from pathlib import Path; from huesong.pictures.decode import decode\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "decode(Path(sys.argv[1]), 10**9); before = peak(); decode(Path(sys.argv[2]), 10**9); print(peak() - before)"
    )
    small = save(Image.new("RGBA", (8, 8)), tmp_path / "small.png")
    done = subprocess.run(
        [sys.executable, "-c", code, small, tmp_path / "large.png"], capture_output=True, text=True, check=True
    )
    megapixels = size[0] * size[1] / 1e6
    assert float(done.stdout) < megapixels * (4 + 3) + 40, "the picture itself, its RGB, and a strip"
