"""Progress and log lines on standard error: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from huesong.runtime.errors import redacted

Item = TypeVar("Item")
log = logging.getLogger("huesong")


def configure(verbose: bool = False) -> None:
    """Send the package's log lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    log.handlers = [handler]
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False


class _Redacting(logging.Formatter):
    """Errors of libraries quote the addresses they tried, passwords included."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def track(items: Iterable[Item], what: str, total: int | None = None, every_s: float = 15.0) -> Iterator[Item]:
    """Yield `items`, showing a progress bar on a terminal or a log line every `every_s` seconds."""
    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import track as rich_track
        except ImportError:  # a bare machine that trains: lines will do
            pass
        else:
            yield from rich_track(items, description=what, total=total, console=Console(stderr=True), transient=True)
            return
    started = last = time.monotonic()
    count = 0
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= every_s:
            log.info("%s: %d of %s", what, count, total if total is not None else "?")
            last = now
    log.info("%s: %d done in %.1f s", what, count, time.monotonic() - started)
