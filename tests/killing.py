"""Commands that are ended, or refused by the system, at one of their operations that change a file system.

Python says before each of them what it is about to do (an audit event), so a hook can count them, and end the process or
raise what the system raises. What C libraries write by themselves (sqlite, for one) is not seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CHANGES = (
    "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "shutil.copyfile", "tempfile.mkdtemp",
)  # fmt: skip
"""Audit events of operations that change a file system, beside files that are opened to write."""
REMOVES = ("os.remove", "os.rmdir")
"""What a full disk lets happen."""


def changes(event: str, arguments: tuple[object, ...]) -> bool:
    if event != "open":
        return event in CHANGES
    mode, flags = arguments[1], arguments[2]
    return bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)) or "w" in str(mode or "")


@dataclass(frozen=True)
class End:
    """How a child came to its end."""

    killed: bool
    code: int
    """Of the console; 1: an exception, whose traceback is in `said`."""
    said: str
    operations: int
    """How many it had done, or tried."""


def in_child(
    action: Callable[[], tuple[int, str]],
    *,
    kill_at: int = 0,
    fail_at: int = 0,
    code: int = 0,
    below: Path | None = None,
) -> End:
    """Run `action` (exit code, what it said) in a child process, all of whose own children end with it.

    Args:
        kill_at: it ends by SIGKILL before its operation of that number (counted from 1); 0 = never.
        fail_at: from its operation of that number on, all that write raise an OSError.
        code: of that error.
        below: only operations below this folder fail.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run(action, writing, kill_at, fail_at, code, str(below or ""))
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read()
    status = os.waitpid(child, 0)[1]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # its workers
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
        return End(True, -1, "", kill_at)
    return End(False, **json.loads(told))


def _run(
    action: Callable[[], tuple[int, str]], writing: int, kill_at: int, fail_at: int, code: int, below: str
) -> None:
    """In the child; never returns."""
    count, done = 0, False

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if done or not changes(event, arguments):
            return
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        place = arguments[1] if event in ("os.rename", "os.link", "os.symlink", "shutil.copyfile") else arguments[0]
        named = os.fsdecode(place) if isinstance(place, str | bytes | os.PathLike) else ""
        if fail_at and count >= fail_at and event not in REMOVES and os.path.abspath(named).startswith(below):
            raise OSError(code, os.strerror(code), named)

    try:
        os.setsid()
        _own_forkserver()
        sys.addaudithook(hook)
        try:
            result, said = action()
        except BaseException:
            result, said = 1, traceback.format_exc()
        done = True
        os.write(writing, json.dumps({"code": result, "said": said[-4000:], "operations": count}).encode())
    finally:
        os._exit(0)


def _own_forkserver() -> None:
    """The server of worker processes that the parent may have started is not this child's."""
    from multiprocessing import forkserver, resource_tracker

    server = forkserver._forkserver
    server._forkserver_pid = server._forkserver_address = server._forkserver_alive_fd = None  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._pid = None  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._fd = None  # type: ignore[attr-defined]
