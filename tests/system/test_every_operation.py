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
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Finished
from tests.examples import many, profile
from tests.killing import End, in_child
from tests.tiny_composer import model_folder
from tests.written import Place, commands

pytestmark = [pytest.mark.slow, pytest.mark.fuzz]

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPERM, errno.EACCES)
SIZES = (0, 2**10, 2**14)
"""Bytes that a file may have on a disk that is nearly full."""
NAMES = ("import", "publish", "fetch", "settings", "compose", "explain", "train", "export")
LONG = ("sample", "film", "preprocess", "label", "evaluate")
"""Tried by `make fuzz` alone."""
NAMES += LONG if profile == "fuzz" else ()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, finished: Finished, model: Path) -> Place:
    (tmp_path / "place").mkdir()
    return Place(tmp_path / "place", commands(finished, model)[request.param])


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
    print(
        f"{' '.join(map(str, place.command.words[:2]))}: {kills} kills of {place.operations} operations",
        file=sys.stderr,
    )
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
    print(
        f"{' '.join(map(str, place.command.words[:2]))}: {tried} refusals of {place.operations} operations",
        file=sys.stderr,
    )


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
