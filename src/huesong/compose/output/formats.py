"""The kinds of file that a piece can be written as, and how each is written."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from huesong.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy as np

AUDIO = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
"""Kind -> format and coding as libsndfile calls them; no external program takes part."""
SCORES = ("musicxml", "pdf")
"""Kinds of sheet music."""
FORMATS = ("mid", *AUDIO, "png", *SCORES, "json")
RECORD_KEY = "huesong"
"""Names the version that wrote a record."""
CHUNK = 1 << 16
"""Frames handed to the encoder at once: of Vorbis, libsndfile overflows its stack on a long piece in one go."""
TITLES = {
    "mid": "MIDI",
    "png": "roll",
    "json": "record",
    **dict.fromkeys(SCORES, "score"),
    **dict.fromkeys(AUDIO, "audio"),
}
"""What the console calls a kind of file."""
USUAL = ("mid", "wav", "png")


@dataclass(frozen=True)
class Writing:
    """Which files are written, and how.

    soundfont, humanize, instrument: as `Piece.save` takes them. formats: kinds of `FORMATS`; a record (json) is always
    written. force: replace files that are no earlier piece, too; what is read for a piece never is.
    """

    soundfont: Path | None = None
    humanize: bool | None = None
    formats: tuple[str, ...] = USUAL
    force: bool = False
    instrument: str = "piano"


WRITING = Writing()
"""As the console writes where nothing else is said."""


def parse_formats(text: str | None) -> tuple[str, ...]:
    """`mid,mp3`: kinds of file in the order of `FORMATS`, each once; None = the usual ones.

    Raises:
        UserError: a kind that is not written.
    """
    if text is None:
        return USUAL
    given = [word.strip().lower().removeprefix(".") for word in text.split(",") if word.strip()]
    if wrong := [word for word in given if word not in FORMATS] or ([] if given else [text]):
        raise UserError(f"--format {text}: no {wrong[0]!r} is written; give some of {','.join(FORMATS)}")
    return tuple(kind for kind in FORMATS if kind in given)


def format_of(path: Path, known: tuple[str, ...]) -> str:
    """The kind of file that a name's suffix asks for.

    Raises:
        UserError: none that is known.
    """
    kind = path.suffix.lower().removeprefix(".")
    kind = {"midi": "mid"}.get(kind, kind)
    if kind not in known:
        what = f"no {path.suffix} is written" if path.suffix else "the name has no suffix"
        raise UserError(f"{path}: {what}: end the name in {', '.join(f'.{one}' for one in known)}")
    return kind


def write_audio(samples: np.ndarray, rate: int, out: Path | BinaryIO, kind: str) -> None:
    """Write sound, float32 [N, 2], as one of `AUDIO`; .wav and .flac hold the same 16 bit samples every time.

    On a full disk an OSError says so: libsndfile itself would tell of a "system error", or of none.
    """
    import soundfile

    from huesong.music.rendering.audio import as_int16

    name, coding = AUDIO[kind]
    samples = as_int16(samples) if coding == "PCM_16" else samples
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, samples.shape[1], coding, format=name) as file:
        for start in range(0, len(samples), CHUNK):
            file.write(samples[start : start + CHUNK])
    if isinstance(out, Path):
        out.write_bytes(buffer.getbuffer())
    else:
        out.write(buffer.getbuffer())
