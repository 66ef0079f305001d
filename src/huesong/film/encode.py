"""A film file: H.264 and AAC in MP4, by PyAV; no external program."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from huesong.film.frames import RATE
from huesong.runtime.errors import UserError

INSTALL = "a film needs one more package: `pip install 'huesong[film]'`"
BITS = 192_000
"""Of sound, a second."""
QUALITY = {"crf": "20", "preset": "veryfast"}
BLOCK = 1024
"""Samples of an AAC frame."""


def pyav() -> Any:
    """The library (UserError: it is not installed)."""
    try:
        import av
    except ImportError:
        raise UserError(INSTALL) from None
    return av


def write_film(path: Path, frames: Iterable[np.ndarray], size: tuple[int, int], samples: np.ndarray, rate: int) -> None:
    """Write frames (uint8 [H, W, 3], RATE a second) and sound (float32 [N, 2]) side by side, so that memory stays flat."""
    av = pyav()
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        video = out.add_stream("libx264", rate=RATE, options=QUALITY)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = out.add_stream("aac", rate=rate, bit_rate=BITS, layout="stereo")
        blocks = encode_sound(out, audio, samples, rate)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(video.encode(frame))
            blocks.send((number + 1) / RATE)
        blocks.send(float("inf"))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))


def encode_sound(out: Any, stream: Any, samples: np.ndarray, rate: int) -> Generator[None, float, None]:
    """What writes sound up to each moment (seconds) that it is sent: pictures and sound of a time lie side by side."""
    blocks = _blocks(out, stream, samples, rate)
    next(blocks)
    return blocks


def _blocks(out: Any, stream: Any, samples: np.ndarray, rate: int) -> Generator[None, float, None]:
    av = pyav()
    start = 0
    while True:
        until = yield
        whole = until * rate >= len(samples)
        while start < len(samples) if whole else start + BLOCK <= until * rate:
            block = np.ascontiguousarray(samples[start : start + BLOCK].T)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            out.mux(stream.encode(frame))
            start += BLOCK
