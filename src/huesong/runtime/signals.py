"""Being ended from outside: SIGTERM unwinds like Ctrl-C, and children go with their parent.

A scheduler, an evicted pod and `docker stop` all send SIGTERM and kill what has not left some seconds later. Python's own answer
is to drop dead: temporary folders stay, MLflow's run stays RUNNING, child processes live on.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

GRACE_S = 60
"""How long a child may take to end itself before it is killed."""


def unwind_on_sigterm() -> None:
    """From here on SIGTERM raises SystemExit(143) in the main thread; a handler that is there already stays."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


@contextmanager
def child(command: Sequence[str], *, process_group: int | None = 0, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A child process that is ended when the block is left before it has; options are those of Popen.

    Unless told otherwise it has a process group of its own: what a terminal sends to ours reaches it through us, once.
    """
    process = subprocess.Popen(command, text=True, errors="replace", process_group=process_group, **options)
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.communicate(timeout=GRACE_S)  # and not wait: its last words may fill the pipe
                except subprocess.TimeoutExpired:
                    process.kill()
