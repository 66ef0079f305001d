"""A worker that dies, or hangs, costs the one item that it was working on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from huesong.runtime.errors import UserError
from huesong.runtime.workers import Crashed, SafePool

ROOT = Path(__file__).parents[2]


def square(value: int) -> int:
    return value * value


def square_or_die(value: int) -> int:
    if value in (3, 4, 17):
        os.kill(os.getpid(), signal.SIGKILL)
    return value * value


def square_or_hang(value: int) -> int:
    if value == 1:
        time.sleep(600)
    return value


def end_the_parent(value: int) -> None:
    os.kill(value, signal.SIGTERM)
    time.sleep(600)


def fail_for_1(value: int) -> int:
    if value == 1:
        raise ZeroDivisionError(f"item\n{value}")
    return value


def refuse(value: int) -> int:
    raise UserError("too much: lower it")


def seen(name: str) -> str | None:
    return os.environ.get(name)


def test_workers_see_the_environment_of_their_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    list(SafePool(1).map(square, [1]))  # the server that workers are forked from runs from here on at the latest
    for value in ("off", None):  # as HUESONG_TRACKING: without it the runs of a test went to the store of the checkout
        if value is None:
            monkeypatch.delenv("HUESONG_OF_THIS_TEST")
        else:
            monkeypatch.setenv("HUESONG_OF_THIS_TEST", value)
        assert list(SafePool(1).map(seen, ["HUESONG_OF_THIS_TEST"])) == [("HUESONG_OF_THIS_TEST", value)]


def test_results_come_in_order() -> None:
    def slow_first(pool: SafePool) -> list[tuple[int, object]]:
        return list(pool.map(square, range(50)))

    assert slow_first(SafePool(2)) == slow_first(SafePool(1)) == [(n, n * n) for n in range(50)]
    assert list(SafePool(2).map(square, [])) == []


def test_dead_workers_cost_their_own_items_only() -> None:
    got = dict(SafePool(2).map(square_or_die, range(25)))
    assert {n for n, result in got.items() if isinstance(result, Crashed)} == {3, 4, 17}
    assert [got[n] for n in range(25) if n not in (3, 4, 17)] == [n * n for n in range(25) if n not in (3, 4, 17)]
    assert list(got) == list(range(25))


@pytest.mark.slow
def test_a_hung_worker_is_ended() -> None:
    got = dict(SafePool(2, time_limit_s=1).map(square_or_hang, range(4)))
    assert got == {0: 0, 1: Crashed(), 2: 2, 3: 3}


def test_workers_go_with_a_parent_that_is_ended() -> None:
    script = (
        "import os; from tests.unit.test_workers import SafePool, end_the_parent\n"
        "from huesong.runtime.signals import unwind_on_sigterm\n"
        "unwind_on_sigterm()\n"
        "list(SafePool(1).map(end_the_parent, [os.getpid()]))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT, timeout=120).returncode == 143


def test_an_exception_drops_its_item_with_the_reason() -> None:
    got = dict(SafePool(2).map(fail_for_1, range(4)))
    assert got == {0: 0, 1: Crashed("failed the reader (ZeroDivisionError: item 1)"), 2: 2, 3: 3}


def test_own_bugs_are_raised_where_that_is_asked_for() -> None:
    with pytest.raises(ZeroDivisionError, match=r"item\s1"):
        list(SafePool(1).map(fail_for_1, range(3), raises=True))
    with pytest.raises(UserError, match="lower it"):
        list(SafePool(1).map(refuse, range(3)))


def test_items_are_taken_as_they_are_needed() -> None:
    taken = []

    def items() -> Iterator[int]:
        for n in range(1000):
            taken.append(n)
            yield n

    results = SafePool(2).map(square, items())
    for _ in range(10):
        next(results)
    assert len(taken) < 40
    results.close()
