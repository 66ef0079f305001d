"""A video as the source of a film: its scenes, one frame of each, its own sound; and the same video with other sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from huesong.film.encode import BITS, QUALITY, encode_sound, pyav
from huesong.runtime.errors import UserError
from huesong.runtime.files import FULL

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
"""What counts as a video."""
SMALL = (32, 18)
"""Width and height to which frames are brought before they are compared."""
CUT, SHARPER, AROUND = 0.08, 4.0, 12
"""A cut: two neighbouring frames differ by this share of white on average, and by so many times as much as the median of as
many pairs before it (a moving camera differs all the time)."""
SHORTEST_S = 2.0
"""Shorter scenes belong to the one before."""
COPIED = ("h264", "hevc", "av1", "mpeg4", "vp9")
"""Codings of pictures that MP4 holds: these are copied as they are, others are encoded anew."""


@dataclass(frozen=True)
class Scene:
    """start, end: seconds from the first frame. frame: from its middle, RGB and upright."""

    start: float
    end: float
    frame: Image.Image


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The file and its pictures, decoded by several threads.

    Raises:
        UserError: no video, or damaged.
    """
    av = pyav()
    try:
        with av.open(str(path)) as file:
            if not file.streams.video:
                raise UserError(f"{path} has no pictures: give a video, or a folder of pictures")
            stream = file.streams.video[0]
            stream.thread_type = "AUTO"
            yield file, stream
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: check the name") from None
    except av.FFmpegError as error:
        if error.errno in FULL:  # what is made of it does not fit the disk
            raise
        said = error.strerror or type(error).__name__
        raise UserError(f"{path} cannot be read as a video ({said}): is the file complete? Give another one") from None


def scenes_of(path: Path) -> list[Scene]:
    """The scenes of a video, in order; one without cuts has one. Memory does not grow with its length.

    Raises:
        UserError: no video, or damaged.
    """
    times, differences = [], []
    before = None
    with _opened(path) as (file, stream):
        for frame in file.decode(stream):
            small = frame.reformat(*SMALL, format="rgb24").to_ndarray().astype(np.float32) / 255
            times.append(float(frame.time))
            differences.append(0.0 if before is None else float(np.abs(small - before).mean()))
            before = small
    if len(times) < 2:
        raise UserError(f"{path} has {len(times)} pictures: give a video, or a folder of pictures")
    starts = times[0] + np.array([0.0, *_cuts(np.array(times) - times[0], np.array(differences))])
    end = times[-1] + (times[-1] - times[0]) / (len(times) - 1)
    edges = [*starts.tolist(), end]
    middles = [(edges[index] + edges[index + 1]) / 2 for index in range(len(starts))]
    return [
        Scene(edges[index] - times[0], edges[index + 1] - times[0], frame)
        for index, frame in enumerate(_frames_at(path, middles))
    ]


def _cuts(time: np.ndarray, difference: np.ndarray) -> list[float]:
    """When new scenes begin, SHORTEST_S apart and from both ends."""
    found: list[float] = []
    for index in range(1, len(time)):
        usual = float(np.median(difference[max(1, index - AROUND) : index])) if index > 1 else 0.0
        if difference[index] < max(CUT, SHARPER * usual):
            continue
        if time[index] - (found[-1] if found else 0.0) >= SHORTEST_S and time[-1] - time[index] >= SHORTEST_S:
            found.append(float(time[index]))
    return found


def _frames_at(path: Path, moments: list[float]) -> Iterator[Image.Image]:
    """The frame that is shown at each of the moments, seconds as the file has them."""
    with _opened(path) as (file, stream):
        for moment in moments:
            file.seek(int(moment / stream.time_base), stream=stream)
            chosen = None
            for frame in file.decode(stream):
                if chosen is not None and frame.time > moment:
                    break
                chosen = frame
            if chosen is None:
                raise UserError(f"{path} cannot be read at {moment:.1f} s: is the file complete? Give another one")
            yield chosen.to_image().rotate(chosen.rotation, expand=True)


def own_sound(path: Path, rate: int) -> np.ndarray | None:
    """The video's own sound, float32 [N, 2], from its first frame on; None if it has none.

    Raises:
        UserError: damaged.
    """
    av = pyav()
    with _opened(path) as (file, stream):
        if not file.streams.audio:
            return None
        begin = float((stream.start_time or 0) * stream.time_base)
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=rate)
        parts, first = [], None
        for frame in file.decode(file.streams.audio[0]):
            first = float(frame.time or 0.0) if first is None else first
            parts += [part.to_ndarray() for part in resampler.resample(frame)]
        parts += [part.to_ndarray() for part in resampler.resample(None)]
        if first is None:
            return None
    sound = np.concatenate(parts, axis=1).T.astype(np.float32)
    late = round((first - begin) * rate)
    return np.pad(sound, ((late, 0), (0, 0))) if late > 0 else sound[-late:]


def under(music: np.ndarray, own: np.ndarray, below_db: float) -> np.ndarray:
    """The video's own sound with the music, softer by `below_db`, beneath it; as long as the music, nothing clips."""
    mixed = music * np.float32(10 ** (-below_db / 20))
    shared = min(len(music), len(own))
    mixed[:shared] += own[:shared]
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max(initial=0.0))), np.float32)


def with_sound(path: Path, out: Path, samples: np.ndarray, rate: int) -> None:
    """Write the pictures of a video with other sound (float32 [N, 2]) as MP4; they are copied where MP4 holds such."""
    av = pyav()
    with (
        _opened(path) as (file, stream),
        av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as made,
    ):
        copied = stream.codec_context.name in COPIED
        if copied:
            video = made.add_stream_from_template(stream)
        else:
            video = made.add_stream("libx264", rate=stream.average_rate or 30, options=QUALITY)
            video.width, video.height = stream.width // 2 * 2, stream.height // 2 * 2
            video.pix_fmt = "yuv420p"
        audio = made.add_stream("aac", rate=rate, bit_rate=BITS, layout="stereo")
        blocks = encode_sound(made, audio, samples, rate)
        begin = stream.start_time or 0
        for packet in file.demux(stream):
            if copied and packet.dts is not None:
                until = float((packet.dts - begin) * packet.time_base)
                packet.pts, packet.dts = packet.pts - begin, packet.dts - begin
                packet.stream = video
                made.mux(packet)
                blocks.send(until)
            for frame in () if copied else packet.decode():
                frame.pts, frame.time_base = frame.pts - begin, Fraction(frame.time_base)
                made.mux(video.encode(frame.reformat(video.width, video.height, format="yuv420p")))
                blocks.send(float(frame.pts * frame.time_base))
        if not copied:
            made.mux(video.encode(None))
        blocks.send(float("inf"))
        made.mux(audio.encode(None))
