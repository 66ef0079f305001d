"""Whether the files of a raw table exist and open, found in worker processes before the suites run.

Imports little: it is what the workers import.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from huesong.music.midi import MAX_BYTES, TOO_BIG, Damage, header, unwrapped
from huesong.pictures.decode import Refused, opened, read
from huesong.runtime.progress import track
from huesong.runtime.workers import Crashed, SafePool

FEW = 256
"""Up to this many files a process pool costs more than it saves."""
MISSING = "does not exist"


@dataclass(frozen=True)
class FileState:
    """What was found at a path: why it does not open ("" if it does) and the SHA-256 of its bytes ("" if unread)."""

    problem: str
    digest: str = ""


def file_states(data: Path, table: str, paths: Sequence[str], workers: int = 0) -> list[FileState]:
    """The state of every file of a table (`images` or `music`), in order; `workers` processes, 0 = one a core."""
    files = [(table, str(data / path) if path else "") for path in paths]
    states: Iterable[FileState]
    if len(files) <= FEW:
        states = (inspect(file) for file in files)
    else:
        results = SafePool(workers, preload=[__name__]).map(inspect, files)
        states = (FileState(state.reason) if isinstance(state, Crashed) else state for _, state in results)
    return list(track(states, f"opening {table}", len(files)))


def inspect(file: tuple[str, str]) -> FileState:
    """Whether the file (table, path) exists and begins like what it should be, and its digest; read in blocks.

    A picture's header must be one Pillow knows (its pixels are decoded later, in preprocess), that of MIDI one that the
    reader takes. What is no ordinary file is not opened.
    """
    table, path = file
    if not path:
        return FileState(MISSING)
    try:
        if not Path(path).is_file():
            return FileState("is no ordinary file" if Path(path).exists() else MISSING)
        with Path(path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            problem = "is empty" if not stream.read(1) else ""
            stream.seek(0)
            if not problem:
                problem = _picture_problem(stream) if table == "images" else _midi_problem(stream)
            return FileState(problem, digest)
    except FileNotFoundError:
        return FileState(MISSING)
    except OSError as error:
        return FileState(f"cannot be read ({error.strerror or error})")
    except Exception as error:  # whatever a foreign file raises, it costs that file alone
        return FileState(f"cannot be read ({type(error).__name__}: {str(error)[:200]})")


def _picture_problem(stream: BinaryIO) -> str:
    """Why the decoder would refuse the picture by its header; "" if it would not."""

    def open_only(file: BinaryIO) -> str:
        with opened(file):
            return ""

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large pictures are judged by preprocess.max_pixels
            return read(stream, open_only)
    except Refused as refused:
        return str(refused)


def _midi_problem(stream: BinaryIO) -> str:
    """Why the reader (music.reading) would refuse the file by its header; "" if it would not."""
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        return TOO_BIG
    try:
        header(unwrapped(data))
    except Damage as damage:
        return f"is no MIDI file to read ({damage})"
    return ""
