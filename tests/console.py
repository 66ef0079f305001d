"""The console without a new process: `huesong` as a user types it, with what it prints and how it ends."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from huesong.cli import main

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Done:
    """As subprocess.CompletedProcess."""

    returncode: int
    stdout: str
    stderr: str


def huesong(*arguments: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> Done:
    """Run `huesong ARGUMENTS` in `cwd`: entry point, exit code and one-line errors are the real ones.

    `env` is added to the environment. Environment, folder, log and signal handlers are afterwards as they were. A bug
    is raised here, where a process would end with a traceback.
    """
    out, err = io.StringIO(), io.StringIO()
    log = logging.getLogger("huesong")
    handlers, level, propagate = log.handlers, log.level, log.propagate
    on_sigterm = signal.getsignal(signal.SIGTERM)
    code: object = 0
    try:
        with (
            mock.patch.object(sys, "argv", ["huesong", *map(str, arguments)]),
            mock.patch.dict(os.environ, env or {}),
            contextlib.chdir(cwd),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as ended:
        code = ended.code
    finally:
        log.handlers, log.propagate = handlers, propagate
        log.setLevel(level)
        signal.signal(signal.SIGTERM, on_sigterm)
    assert code is None or isinstance(code, int), f"the exit code is a text: {code}"
    return Done(code or 0, out.getvalue(), err.getvalue())
