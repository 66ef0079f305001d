"""Many pictures: which ones are meant, a piece for each, one after the other or in several processes.

What is done stays: a piece whose record says that it is of the same picture, options and model, and whose files are unchanged,
is not composed again. One picture that cannot be read does not stop the rest. Memory does not grow with their number.
"""

from __future__ import annotations

import functools
import glob
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from huesong import contracts
from huesong.compose.composer import Composer, Composition, compose_many, digest_of
from huesong.compose.moods import in_words
from huesong.compose.output.files import earlier_record, listed, output_names, place, targets_of, unchanged
from huesong.compose.output.formats import Writing
from huesong.config import SamplingConfig
from huesong.model.requests import Request
from huesong.runtime.errors import UserError, printable
from huesong.runtime.progress import Bar, duration
from huesong.runtime.signals import unwind_on_sigterm
from huesong.runtime.workers import Crashed, SafePool

MOST_VARIATIONS = 100
TIME_LIMIT_S = 3600
"""A picture that takes longer hangs."""


@dataclass(frozen=True)
class Job:
    """One piece to compose. name: where it goes, without ending. inputs: files that no piece may replace."""

    request: Request
    name: Path
    config: SamplingConfig
    how: Writing
    model: Path
    title: str
    inputs: tuple[Path, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class Outcome:
    """What came of a job. state: done, kept (it was there already) or failed. reason: why it failed."""

    picture: Path
    state: str
    files: tuple[str, ...] = ()
    requested: tuple[float, float] | None = None
    obtained: tuple[float, float] | None = None
    seconds: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        name = printable(str(self.picture))
        if self.state == "failed":
            return f"{name}: failed: {self.reason}"
        said = in_words(self.requested) if self.requested else ""
        heard = f", heard {in_words(self.obtained)}" if self.obtained else ""
        return f"{name}: {self.state}: {said}{heard} -> {printable(', '.join(self.files))}"

    def to_dict(self) -> dict[str, Any]:
        """For machines: names as they are printed."""
        row = {
            "picture": printable(str(self.picture)), "state": self.state, "files": [*map(printable, self.files)],
            "requested": self.requested, "obtained": self.obtained, "seconds": self.seconds, "reason": self.reason or None,
        }  # fmt: skip
        return {key: value for key, value in row.items() if value is not None}


def find_pictures(given: Sequence[str], listing: TextIO) -> list[Path]:
    """The pictures that are meant, each once: files, patterns, folders (what lies in them by name), `-` = names in `listing`.

    Raises:
        UserError: a pattern or folder without pictures, or none at all.
    """
    found: dict[Path, Path] = {}
    for word in (each for one in given for each in (_lines(listing) if one == "-" else [one])):
        for path in _meant(word):
            found.setdefault(path.absolute(), path)
    if not found:
        raise UserError("no picture is named: give files, a pattern such as 'holiday/*.jpg', or a folder")
    return list(found.values())


def _lines(listing: TextIO) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in listing if line.strip())


def _meant(word: str) -> list[Path]:
    path = Path(word)
    if path.is_dir():
        inside = sorted((one for one in path.iterdir() if is_picture(one)), key=natural)
        if not inside:
            raise UserError(f"{path} holds no pictures: give a folder with files such as .jpg or .png")
        return inside
    if glob.has_magic(word) and not path.exists():
        matched = sorted((Path(one) for one in glob.glob(word, recursive=True) if Path(one).is_file()), key=natural)
        if not matched:
            raise UserError(f"{word} matches no file: check the pattern")
        return [one for one in matched if not is_roll(one)]
    return [path]


def is_picture(path: Path) -> bool:
    """Whether a file of a folder is meant by the folder's name: hidden files and huesong's own piano rolls are not.

    A file that is named is read whatever it is called. A link that leads nowhere is meant, too: it is told of as broken.
    """
    if path.suffix.lower() not in contracts.PICTURE_SUFFIXES or path.name.startswith("."):
        return False
    return (path.is_file() and not is_roll(path)) or (path.is_symlink() and not path.exists())


def is_roll(path: Path) -> bool:
    """Whether it is the piano roll of a piece."""
    if not path.name.endswith("-roll.png"):
        return False
    record = earlier_record(path.with_name(path.name.removesuffix("-roll.png") + ".json"))
    return record is not None and path.name in listed(record)


def natural(path: Path) -> tuple[Any, ...]:
    """Sorts `2.jpg` before `10.jpg`."""
    import re

    return tuple(int(part) if part.isdigit() else part.casefold() for part in re.split(r"(\d+)", path.name)), str(path)


def jobs_of(
    requests: Sequence[Request], out: str | None, config: SamplingConfig, how: Writing, model: tuple[Path, str],
    variations: int = 1,
) -> list[Job]:  # fmt: skip
    """A job for every variation of every picture, with names that no two share.

    Raises:
        UserError: too many variations, or one name for several pieces.
    """
    if not 1 <= variations <= MOST_VARIATIONS:
        raise UserError(f"--variations {variations}: give a number from 1 to {MOST_VARIATIONS}")
    several = len(requests) * variations > 1
    if several and len(requests) > 1 and out is not None and not out.endswith("/") and not Path(out).is_dir():
        out = f"{out}/"  # many pieces need a folder
    inputs = tuple(request.picture for request in requests)
    read = tuple(path for path in (requests[0].primer, how.soundfont) if isinstance(path, Path))
    stems = Counter(request.picture.stem for request in requests)
    taken: set[Path] = set()
    found = []
    for request in requests:
        picture = request.picture
        name = place(out, picture)
        name = name / picture.stem if name.is_dir() else name
        if stems[picture.stem] > 1:
            name = name.with_name(f"{name.name}-{picture.suffix.removeprefix('.')}")
        plain, number = name, 2
        while name.absolute() in taken:
            name, number = plain.with_name(f"{plain.name}-{number}"), number + 1
        taken.add(name.absolute())
        for index in range(variations):
            one = name.with_name(f"{name.name}-{index + 1}") if variations > 1 else name
            asked = replace(request, seed=request.seed + index)
            found.append(Job(asked, one, config, how, *model, (*inputs, *read)))
    return found


def run(jobs: Sequence[Job], processes: int = 1) -> Iterator[Outcome]:
    """The outcome of every job in order, as each is done."""
    if processes < 1:
        raise UserError(f"--jobs {processes}: give a number of processes from 1")
    with Bar("composing", len(jobs), at_once=True) as bar:
        for outcome in _outcomes(jobs, min(processes, len(jobs))):
            bar.one_more()
            yield outcome


def _outcomes(jobs: Sequence[Job], processes: int) -> Iterator[Outcome]:
    if processes == 1:
        yield from map(answer, jobs)
        return
    pool = SafePool(processes, preload=[__name__], time_limit_s=TIME_LIMIT_S)
    for job, result in pool.map(answer, jobs, raises=True):
        if isinstance(result, Crashed):
            result = Outcome(job.request.picture, "failed", reason="its process was ended, perhaps for want of memory")
        yield result


def answer(job: Job) -> Outcome:
    """Compose for one picture, unless that is done already; a user's error is an outcome."""
    unwind_on_sigterm()  # in a worker: what is half written is removed
    picture = job.request.picture
    try:
        if (kept := _kept(job)) is not None:
            return kept
        output_names([picture], [job.name], job.inputs, job.how)
        return outcome_of(compose_many([job.request], [job.name], loaded(job.model, job.title), job.config, job.how)[0])
    except UserError as error:
        return Outcome(picture, "failed", reason=str(error))


@functools.lru_cache(maxsize=1)
def loaded(model: Path, title: str) -> Composer:
    """The composer, once a process and model."""
    return Composer(model, name=title)


def outcome_of(made: Composition) -> Outcome:
    """A piece that was just composed."""
    files = tuple(str(path) for kind, path in made.files.items() if kind != "json")
    return Outcome(made.picture, "done", files, made.piece.requested, made.piece.obtained, round(made.seconds, 2))


def _kept(job: Job) -> Outcome | None:
    """An earlier piece of the same picture, options and model, whose files are all unchanged."""
    targets = targets_of(job.name, job.how.formats)
    record = earlier_record(targets.pop("json"))
    if record is None or "digest" not in record or not job.request.picture.is_file():
        return None
    if record["digest"] != digest_of(job.request, job.config, job.how, job.model):
        return None
    if not all(unchanged(path, record) for path in targets.values()):
        return None
    requested, obtained = ((*va,) if (va := record.get(key)) else None for key in ("requested", "obtained"))
    return Outcome(job.request.picture, "kept", tuple(map(str, targets.values())), requested, obtained)


def summary(outcomes: Sequence[Outcome], started: float) -> str:
    """A table of what was done, kept and failed."""
    counts = Counter(outcome.state for outcome in outcomes)
    lines = ["", "state   pictures   files"]
    for state in ("done", "kept", "failed"):
        if counts[state]:
            files = sum(len(outcome.files) for outcome in outcomes if outcome.state == state)
            lines.append(f"{state:6}  {counts[state]:8}  {files:6}")
    return "\n".join([*lines, f"{len(outcomes)} in {duration(time.monotonic() - started)}"])
