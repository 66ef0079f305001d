"""Safe decoding of foreign picture files to RGB, and the check of a file's header that validation shares with it."""

from __future__ import annotations

import importlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from PIL import Image, UnidentifiedImageError

from huesong.pictures.samples import eight_bits, is_deep, srgb
from huesong.runtime.errors import UserError

T = TypeVar("T")

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")
"""Only these decoders are ever tried: a small surface for hostile files."""
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_PLUGINS = {"HEIF": ("HEIC", "pillow_heif", "pillow-heif"), "JXL": ("JPEG XL", "pillow_jxl", "pillow-jxl-plugin")}
"""What Pillow itself does not read: the name, and module and package of the decoder, which is imported for such a file."""
ENOUGH = 750
"""Pixels of a shorter side from which on a JPEG is decoded at a half, a fourth or an eighth, as its transform allows.

Half as much again as the default encoder looks at, and what a photo of 12 megapixels has at a fourth of its sides: its
features move by about a hundredth of their deviation, what is read in it by .003 (docs/pictures.md).
"""
BEYOND = 4
"""How many times max_pixels a JPEG may have that is decoded at a part of its size: its coefficients take memory, too."""

_STILLS_IN_ONE_FILE = ("MPO", "HEIF")
"""What phones write: a photograph, followed by its preview or depth map. The first one is the picture."""

MOST_SIDE = 65_535
"""Longest side: the most that JPEG knows. Pillow keeps a pointer for every row, so a column of pixels costs gigabytes."""
MOST_SCANS = 100
"""Scans of a progressive JPEG; encoders write about ten, and each is a pass over the whole picture."""
MOST_FRAMES = 100
"""Frames are counted up to here: in a TIFF each is found through all before it."""
_STRIP = 1 << 20
"""Pixels converted at once, so that a large picture is never there several times."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, KeyError, IndexError, TypeError,
    AttributeError, OverflowError, ZeroDivisionError, MemoryError, RuntimeError,
)  # fmt: skip
"""What Pillow's decoders are known to raise on damaged files."""


class Refused(Exception):
    """A file that is no picture for us; the message completes a sentence that begins with the file's name."""


class Unreadable(Refused):
    """Pillow cannot read it, be it for its pixels or for its metadata."""


def decode(path: Path, max_pixels: int) -> Image.Image:
    """Read a picture as RGB in sRGB, upright, 8 bits a channel, transparent parts over white.

    Colour profiles (ICC) and PNG's gamma are converted to sRGB, the EXIF orientation is applied; palettes, greyscale,
    CMYK and samples of other depths are converted (`samples.eight_bits`). Damaged metadata are left out.

    Args:
        path: a file in one of FORMATS, with one frame.
        max_pixels: limit of width times height, as it is decoded (a large JPEG at a part of its size), held against the
            file's header before anything is.

    Raises:
        UserError: missing, empty, damaged, truncated, animated, too large, or no picture of these formats.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path} cannot be read (it is {_kind(path)}): check the path and its permissions")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on sizes and metadata; what matters is checked below
            with path.open("rb") as stream:
                return read(stream, lambda file: _pixels(file, max_pixels))
    except Refused as error:
        raise UserError(f"{path} {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error


def _kind(path: Path) -> str:
    return "not there" if not path.exists() else "a folder" if path.is_dir() else "no ordinary file"


def read(stream: BinaryIO, use: Callable[[BinaryIO], T]) -> T:
    """`use` of the file, or of the same without its metadata where it cannot be read: they condemn no pixels.

    Raises:
        Refused: as `use`.
    """
    try:
        return use(stream)
    except Unreadable as error:
        bare = without_metadata(stream)
        if bare is None:
            raise
        try:
            return use(io.BytesIO(bare))
        except Refused:
            raise error from None


def _pixels(stream: BinaryIO, max_pixels: int) -> Image.Image:
    with opened(stream) as image:
        width, height = image.size
        part = _part(image)
        if (width // part) * (height // part) > max_pixels or width * height > BEYOND * max_pixels:
            raise Refused(
                f"is too large: {width} x {height} pixels, more than max_pixels = {max_pixels}; "
                "scale it down or raise preprocess.max_pixels"
            )
        return as_rgb(image)


def _part(image: Image.Image) -> int:
    """By how much a side becomes shorter when the picture is decoded: a JPEG's transform allows eight, four or two."""
    room = min(image.size) // ENOUGH if image.format in ("JPEG", "MPO") else 1
    return next(part for part in (8, 4, 2, 1) if part <= max(1, room))


def as_rgb(image: Image.Image) -> Image.Image:
    """An open image as `decode` gives it: RGB, upright, on white where it is transparent."""
    deep, turn = is_deep(image), orientation(image)  # before the pixels: loading drops what tells
    image.draft(image.mode, (ENOUGH, ENOUGH))
    image.load()
    found = _to_rgb(image, deep)
    return found.transpose(turn) if turn is not None else found


@contextmanager
def opened(stream: BinaryIO) -> Iterator[Image.Image]:
    """The picture in `stream`, its header checked; errors while it is open are Refused, too.

    Raises:
        Refused: empty, damaged, animated, of a size that nobody needs, or no picture in FORMATS.
    """
    stream.seek(0)
    head = stream.read(12)
    if not head:
        raise Refused("is empty (0 bytes): replace or remove the file")
    formats = (*FORMATS, *_plugged_in(head))
    if head[:2] == b"\xff\xd8":
        stream.seek(0)
        scans = stream.read().count(b"\xff\xda")  # pixels hold none: 0xFF is followed by 0 or a restart mark there
        if scans > MOST_SCANS:
            raise Refused(f"has {scans} scans, more than {MOST_SCANS}: save it anew as an ordinary JPEG")
    stream.seek(0)
    try:
        with Image.open(stream, formats=formats) as image:
            if max(image.size) > MOST_SIDE:
                raise Refused(f"is too large: {image.size[0]} x {image.size[1]}, a side may have {MOST_SIDE} pixels")
            frames = 1 if image.format in _STILLS_IN_ONE_FILE else count_frames(image)
            if frames > 1:
                count = f"{frames}" if frames <= MOST_FRAMES else f"more than {MOST_FRAMES}"
                raise Refused(f"is animated or has pages ({count} frames): save one frame as a picture of its own")
            yield image
    except UnidentifiedImageError:
        known = ", ".join((*FORMATS, *(name for name, *_ in _PLUGINS.values())))
        raise Unreadable(f"is not a picture in {known}: convert, replace or remove it") from None
    except Image.DecompressionBombError as error:
        raise Refused(f"is too large ({error}): scale it down or remove it") from None
    except DAMAGE as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(f"is damaged or truncated ({detail}): replace or remove the file") from error


def _plugged_in(head: bytes) -> tuple[str, ...]:
    """The format of a file that begins so, where Pillow needs a plugin for it, which is imported.

    Raises:
        Refused: the plugin is not installed.
    """
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        format_ = "HEIF"
    elif head[:2] == b"\xff\x0a" or head == b"\0\0\0\x0cJXL \r\n\x87\n":
        format_ = "JXL"
    else:
        return ()
    name, module, package = _PLUGINS[format_]
    try:
        plugin = importlib.import_module(module)
    except ImportError:
        raise Refused(f"is {name}, which needs a decoder: pip install {package}, or convert it to JPEG") from None
    if format_ == "HEIF":
        plugin.register_heif_opener(thumbnails=False)
    return (format_,)


def count_frames(image: Image.Image) -> int:
    """Frames of a picture, counted up to MOST_FRAMES + 1; the first one is the current one afterwards."""
    if image.format not in ("TIFF", "GIF"):
        return int(getattr(image, "n_frames", 1))
    count = 1
    try:
        while count <= MOST_FRAMES:
            image.seek(count)
            count += 1
    except DAMAGE:  # EOFError after the last frame; of a damaged one behind the first nothing is wanted
        pass
    image.seek(0)
    return count


def orientation(image: Image.Image) -> Image.Transpose | None:
    """What turns the picture upright; None where nothing does, or where its metadata cannot be read."""
    try:
        return _TURNS.get(int(image.getexif().get(_ORIENTATION, 1)))
    except DAMAGE:
        return None


def without_metadata(stream: BinaryIO) -> bytes | None:
    """The file without what its pixels do not need; None for formats in which that cannot be told apart.

    PNG keeps its critical chunks and transparency, JPEG all but application segments and comments (Adobe's stays: it
    says how colours are coded).
    """
    stream.seek(0)
    data = stream.read()
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        kept, place = [data[:8]], 8
        while place + 12 <= len(data):
            size = int.from_bytes(data[place : place + 4], "big")
            chunk = data[place : place + 12 + size]
            if chr(chunk[4]).isupper() or chunk[4:8] == b"tRNS":
                kept.append(chunk)
            place += 12 + size
        return b"".join(kept)
    if data.startswith(b"\xff\xd8"):
        kept, place = [data[:2]], 2
        while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
            size = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
            mark = data[place + 1]
            if not (0xE0 <= mark <= 0xEF or mark == 0xFE) or mark == 0xEE:
                kept.append(data[place : place + size])
            place += size
        return b"".join(kept) + data[place:]
    return None


def _to_rgb(image: Image.Image, deep: bool) -> Image.Image:
    """Any loaded picture as RGB, strip by strip."""
    scale = eight_bits(image, deep)
    width, height = image.size
    rows = max(1, _STRIP // max(width, 1))
    white = (255, 255, 255)
    result = Image.new("RGB", image.size)
    opaque = image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        strip = scale(image.crop(box))
        if opaque:  # a fourth byte that nobody filled in, not a picture that cannot be seen
            strip = strip.convert("RGB")
        if strip.has_transparency_data:
            strip = strip.convert("RGBA")
            colours = srgb(strip.convert("RGB"), image)
            strip = Image.composite(colours, Image.new("RGB", strip.size, white), strip.getchannel("A"))
        else:
            strip = srgb(strip, image)
        result.paste(strip, box)
    return result
