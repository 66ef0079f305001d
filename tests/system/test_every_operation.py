"""Commands that write, killed or refused by the system at their file operations: whole or untouched, no litter, same bytes.

A sample of the operations; `make fuzz` tries all of them.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from huesong.runtime.files import WORK, sweep
from tests.console import huesong
from tests.examples import many
from tests.golden import measure
from tests.killing import End, in_child
from tests.stores import new_database

pytestmark = [pytest.mark.slow, pytest.mark.fuzz]

ROOT = Path(__file__).parents[2]
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPERM, errno.EACCES)
SIZES = (0, 2**10, 2**14)
"""Bytes that a file may have on a disk that is nearly full."""
MARK = "of-an-earlier-run"


@dataclass(frozen=True)
class Command:
    """One command of the console, and the folder or the files that it writes."""

    words: tuple[str | Path, ...]
    out: str = "out"
    replaces: bool = True
    """Whether it takes the place of its own earlier result."""


def commands() -> dict[str, Command]:
    return {
        "sample": Command(("data", "sample", "--out", "out", "--pictures", "8", "--pieces", "8"), replaces=False),
        "fetch": Command(("data", "fetch", "--remote", "remote", "--out", "out", "--replace")),
        "settings": Command(("settings", "use", ROOT / "presets" / "cpu.yaml", "--out", "out/params.yaml", "--force")),
    }


NAMES = ("sample", "fetch", "settings")


class Place:
    """A folder in which a command runs again and again, from the same beginning."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.folder, self.command, self.out = folder, command, folder / command.out
        (folder / "params.yaml").write_text("")
        self.environment = {
            "HUESONG_TRACKING": "off",
            "MLFLOW_TRACKING_URI": new_database(folder / "mlflow.db"),
            "MPLCONFIGDIR": str(folder / "matplotlib"),
        }
        if "remote" in command.words:
            assert (
                huesong("data", "sample", "--out", "data", "--pictures", "8", "--pieces", "8", cwd=folder).returncode
                == 0
            )
            assert huesong("data", "publish", "--remote", "remote", "--data", "data", cwd=folder).returncode == 0
        self.kept = shutil.copytree(folder, folder.with_name("kept"))
        end = self.run()
        assert (end.killed, end.code) == (False, 0), end.said
        self.operations = end.operations
        self.whole = self.content()
        self.names = self.listing()
        self.result = shutil.copytree(self.out, folder.with_name("result"))

    def act(self) -> tuple[int, str]:
        done = huesong(*self.command.words, cwd=self.folder, env=self.environment)
        return done.returncode, done.stderr

    def run(self, **how: object) -> End:
        return in_child(self.act, below=self.folder, **how)  # type: ignore[arg-type]

    def content(self) -> dict[str, str]:
        return {name: each["sha256"] for name, each in measure({self.command.words[0]: self.out}).items()}

    def listing(self) -> list[str]:
        """All that lies in the folder, but the cache of a library."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if not {"matplotlib", "mlartifacts"} & set(path.relative_to(self.folder).parts)
        )

    def reset(self, earlier: bool) -> None:
        """As before the command ran, `earlier`: with a result of it, that bears a mark."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder)
        if earlier:
            shutil.copytree(self.result, self.out)
            if self.command.words[0] == "data":
                (self.out / MARK).write_text("yes")

    def snapshot(self) -> dict[str, bytes]:
        """What the command writes, byte for byte; an empty folder is nothing."""
        files = sorted(path for path in self.out.rglob("*") if path.is_file())
        return {str(path.relative_to(self.out)): path.read_bytes() for path in files}

    def tidy(self) -> None:
        """What the next command that writes here does first."""
        for folder in (self.folder, self.out):
            if folder.is_dir():
                sweep(folder)

    def litter(self) -> list[str]:
        return [name for name in self.listing() if any(part.startswith(WORK) for part in Path(name).parts)]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    (tmp_path / "place").mkdir()
    return Place(tmp_path / "place", commands()[request.param])


def points(operations: int, tries: int) -> Iterator[int]:
    """So many numbers of operations, evenly spread, the last one among them."""
    tries = min(tries, operations)
    yield from sorted({max(1, round((number + 1) * operations / tries)) for number in range(tries)})


def each(place: Place, tries: int, check: Callable[[int, bool], None]) -> int:
    """`check` at so many operations, in turn with and without an earlier result."""
    done = 0
    for turn, number in enumerate(points(place.operations, tries)):
        earlier = place.command.replaces and turn % 2 == 0
        place.reset(earlier)
        check(number, earlier)
        done += 1
    return done


@pytest.mark.parametrize("place", NAMES, indirect=True)
def test_killed_anywhere(place: Place) -> None:
    def check(number: int, earlier: bool) -> None:
        before = place.snapshot()
        end = place.run(kill_at=number)
        place.tidy()
        now = place.snapshot()
        if end.killed and now != before:
            assert place.content() == place.whole, f"operation {number}: neither the old nor the new"
            if not place.command.replaces:
                shutil.rmtree(place.out)
        again = place.run()
        assert (again.killed, again.code) == (False, 0), f"operation {number}: {again.said}"
        assert place.content() == place.whole, f"operation {number}: other bytes after the next run"
        assert place.listing() == place.names, f"operation {number}: litter"

    kills = each(place, many(3), check)
    print(f"{place.command.words[0]}: {kills} kills of {place.operations} operations", file=sys.stderr)
    assert kills >= 3


def refused_or_whole(place: Place, end: End, before: object, what: str) -> None:
    assert not end.killed, what
    if end.code == 0:
        assert place.content() == place.whole, f"{what}: succeeded with another result"
    else:
        assert end.code == 2, f"{what}: {end.said}"
        lines = [line for line in end.said.splitlines() if line.startswith("huesong: ")]
        assert len(lines) == 1, f"{what}: {end.said}"
        assert "Traceback" not in end.said, f"{what}: {end.said}"
        assert place.snapshot() == before, f"{what}: half-written"
    assert place.litter() == [], what


@pytest.mark.parametrize("place", NAMES, indirect=True)
def test_refused_by_the_system_anywhere(place: Place) -> None:
    def check(number: int, earlier: bool) -> None:
        before, code = place.snapshot(), ERRORS[number % len(ERRORS)]
        end = place.run(fail_at=number, code=code)
        refused_or_whole(place, end, before, f"operation {number} and all after it: {errno.errorcode[code]}")

    tried = each(place, many(3), check)
    print(f"{place.command.words[0]}: {tried} refusals of {place.operations} operations", file=sys.stderr)


@pytest.mark.parametrize("place", NAMES, indirect=True)
def test_a_disk_that_is_nearly_full(place: Place) -> None:
    """Writes fail half-way, in libraries written in C, too: no file may become longer than so many bytes."""

    def limited(size: int) -> tuple[int, str]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return place.act()

    for turn, size in enumerate(SIZES):
        place.reset(place.command.replaces and turn % 2 == 0)
        before = place.snapshot()
        end = in_child(partial(limited, size))
        refused_or_whole(place, end, before, f"files of at most {size} bytes")
        assert os.path.exists(place.folder / "params.yaml")
