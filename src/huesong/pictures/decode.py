"""Safe decoding of foreign picture files to RGB."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from huesong.runtime.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Only these decoders are ever tried: a small surface for hostile files."""

_STILLS_IN_ONE_FILE = ("MPO",)
"""What phones call JPEG: a photograph, followed by its preview or depth map. The first one is the picture."""

_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, KeyError, IndexError, TypeError,
    AttributeError, OverflowError, ZeroDivisionError, MemoryError,
)  # fmt: skip
"""What Pillow's decoders are known to raise on damaged files."""


def decode(path: Path, max_pixels: int) -> Image.Image:
    """Read a picture as RGB, upright, 8 bits a channel, transparent parts over white.

    The EXIF orientation is applied; palettes, greyscale, CMYK and 16-bit or floating-point samples are converted.

    Args:
        path: a JPEG, PNG, WebP, BMP, TIFF or single-frame GIF file.
        max_pixels: limit of width times height, held against the file's header before anything is decoded.

    Raises:
        UserError: missing, empty, damaged, truncated, animated, too large, or no picture of these formats.
    """
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes): replace or remove the file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on sizes and metadata; what matters is checked below
            return _decode(path, max_pixels)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"{path} is not a picture in {', '.join(FORMATS)}: convert, replace or remove it") from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} is too large ({error}): scale it down or remove it") from None
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error
    except _DAMAGE as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is damaged or truncated ({detail}): replace or remove the file") from error


def _decode(path: Path, max_pixels: int) -> Image.Image:
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise UserError(
                f"{path} is too large: {width} x {height} pixels, more than max_pixels = {max_pixels}; "
                "scale it down or raise preprocess.max_pixels"
            )
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in _STILLS_IN_ONE_FILE:
            raise UserError(
                f"{path} is animated or has pages ({frames} frames): save one frame as a picture of its own"
            )
        image.load()
        return _over_white(_to_eight_bits(ImageOps.exif_transpose(image)))


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits scaled to `L`; every other mode as it is (Pillow has already scaled colour)."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float32) / 257.0
    elif image.mode == "I":
        values = np.asarray(image).astype(np.float64)
        # 32-bit integers are mostly 16-bit samples in a wider type.
        values = values / (257.0 if values.max(initial=0) <= 65535 else (2**31 - 1) / 255.0)
    elif image.mode == "F":
        values = np.nan_to_num(np.asarray(image), nan=0.0, posinf=1.0, neginf=0.0)
        if values.max(initial=0) <= 1.0:  # shares of full brightness; else taken as 0..255
            values = values * 255.0
    else:
        return image
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    converted = image.convert("RGB")
    return converted if converted is not image else image.copy()
