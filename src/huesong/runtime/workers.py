"""A pool of worker processes that survives bad files: a crashed or hung worker costs one file, not the run."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from huesong.runtime.errors import UserError
from huesong.runtime.progress import log

Item = TypeVar("Item")
Result = TypeVar("Result")

TIME_LIMIT_S = 300
"""Seconds one item may take before its worker is ended as hung."""
LONGEST_REASON = 200
"""Characters of an error that are kept."""


@dataclass(frozen=True)
class Crashed:
    """Stands for the result of an item that raised an error, or ended its worker process twice, the second time alone."""

    reason: str = "crashed the reader"


class SafePool:
    """Maps a function over items in worker processes; results come in the order of the items.

    At most a few items a worker are in flight, so memory does not grow with their number. The workers start from a
    clean server process (never a fork of this one, whose threads may hold locks) that has imported `preload`. Their
    environment variables are those of this process when the pool is made.
    """

    def __init__(self, workers: int = 0, preload: Iterable[str] = (), time_limit_s: int = TIME_LIMIT_S) -> None:
        """`workers`: 0 = one a core this process may use."""
        self.workers = workers or cores()
        self.time_limit_s = time_limit_s
        self._context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
        if hasattr(os, "fork"):
            from multiprocessing import forkserver

            self._context.set_forkserver_preload(list(preload))
            forkserver.ensure_running()  # it imports while this process goes on; the first pool's `preload` counts

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], raises: bool = False
    ) -> Iterator[tuple[Item, Result | Crashed]]:
        """Yield every item with its result or `Crashed`, in order.

        `function`, items and results must be picklable; the function one of a module's own. Its exceptions make an item
        `Crashed`, for a foreign file may raise any; `raises` raises them here.

        Raises:
            UserError: worker processes cannot start at all, or raised by `function`.
        """
        waiting: deque[tuple[Item, Future[Any]]] = deque()
        left = iter(items)
        pool = self._new(self.workers)
        try:
            pool.submit(cores).result()
        except BrokenProcessPool:
            raise UserError(
                'worker processes cannot start: a script that calls huesong needs `if __name__ == "__main__":` around '
                "what it does (or memory is short)"
            ) from None
        try:
            while True:
                for item in itertools.islice(left, 4 * self.workers - len(waiting)):
                    try:
                        waiting.append((item, pool.submit(_limited, function, item, self.time_limit_s)))
                    except BrokenProcessPool as error:
                        waiting.append((item, _failed(error)))
                if not waiting:
                    return
                item, future = waiting.popleft()
                try:
                    result = _result(future, raises)
                except BrokenProcessPool:
                    # One of those in flight ended its worker and took the pool with it: each again, alone.
                    pool.shutdown(wait=True)
                    suspects = [(item, future), *waiting]
                    waiting.clear()
                    for suspect, done in suspects:
                        yield suspect, self._result_alone(function, suspect, done, raises)
                    pool = self._new(self.workers)
                else:
                    yield item, result
        except (KeyboardInterrupt, SystemExit):
            end(pool)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    @contextmanager
    def executor(self) -> Iterator[ProcessPoolExecutor]:
        """The bare pool, for what `map` does not fit; an exception in the block ends the workers at once."""
        pool = self._new(self.workers)
        try:
            yield pool
        except BaseException:
            end(pool)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _result_alone(
        self, function: Callable[[Item], Result], item: Item, done: Future[Any], raises: bool
    ) -> Result | Crashed:
        try:
            return _result(done, raises)
        except BrokenProcessPool:
            with self._new(1) as pool:
                try:
                    return _result(pool.submit(_limited, function, item, self.time_limit_s), raises)
                except BrokenProcessPool:
                    return Crashed()

    def _new(self, workers: int) -> ProcessPoolExecutor:
        # The server may be older than what this process has set since, such as where its runs are tracked.
        return ProcessPoolExecutor(workers, self._context, initializer=_take_over, initargs=(dict(os.environ),))


def _take_over(environment: dict[str, str]) -> None:
    """Make `environment` this process's own."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def end(pool: ProcessPoolExecutor) -> None:
    """Send SIGTERM to the workers: what they do may take longer than a scheduler waits for us to end."""
    for worker in list((pool._processes or {}).values()):
        worker.terminate()


def _result(future: Future[Any], raises: bool) -> Any:
    """What came out; `Crashed` for an error that is not to be raised."""
    try:
        return future.result()
    except (BrokenProcessPool, UserError):
        raise
    except Exception as error:
        if raises:
            raise
        log.debug("an item was dropped", exc_info=error)
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return Crashed(f"failed the reader ({what[:LONGEST_REASON]})")


def _failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _limited(function: Callable[[Item], Result], item: Item, time_limit_s: int) -> Result:
    """`function(item)`; past the time limit the system ends this worker, even inside a C library."""
    if not hasattr(signal, "alarm"):
        return function(item)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(time_limit_s)
    try:
        return function(item)
    finally:
        signal.alarm(0)


def cores(system: Path = Path("/")) -> int:
    """Processors that this process may use: those it may run on, or fewer where its cgroup has a quota; at least 1.

    Args:
        system: the root of the file system, with proc/self/cgroup and sys/fs/cgroup (versions 1 and 2).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = processor_quota(system)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota - 1e-9)))


def processor_quota(system: Path = Path("/")) -> float | None:
    """The smallest quota in processors of this process's cgroup and those around it; None without one."""
    return min((limit for limit in map(_limit, cgroups(system, "cpu")) if limit is not None), default=None)


def cgroups(system: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and those around it, from the inside, for a controller of version 1 or of 2."""
    base = system / "sys/fs/cgroup"
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = base / controller if controllers else base
        # In a container the path may be the host's, and the cgroup itself stands at the top.
        for folder in dict.fromkeys((top / own.strip("/"), *(top / own.strip("/")).parents, top)):
            if folder == top or top in folder.parents:
                yield folder


def _limit(folder: Path) -> float | None:
    """The quota of one cgroup, in processors."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        return int(quota) / int(period) if quota not in ("max", "-1") and int(period) > 0 else None
    except (OSError, ValueError):
        return None


def one_thread_of_blas() -> AbstractContextManager[object]:
    """NumPy's matrix products by one thread; where threadpoolctl is missing, as on a bare training machine, by several."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(1, user_api="blas")
