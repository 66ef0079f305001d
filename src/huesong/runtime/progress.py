"""Progress and log lines on standard error: a bar with the time left on a terminal, a line now and then otherwise."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Self, TextIO, TypeVar

from huesong.runtime.errors import redacted

Item = TypeVar("Item")
log = logging.getLogger("huesong")

SHOWN_AFTER_S = 1.0
"""What is done before needs no bar."""
LINE_EVERY_S = 20.0


def configure(verbose: bool = False) -> None:
    """Send the package's log lines to standard error."""
    handler = _Here()
    handler.setFormatter(_Redacting("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    log.handlers = [handler]
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False


class _Here(logging.StreamHandler[TextIO]):
    """Writes to what is standard error at the moment: while a bar is shown, lines go above it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Redacting(logging.Formatter):
    """Errors of libraries quote the addresses they tried, passwords included."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class Bar:
    """How far something is: a bar on a terminal, else a log line in LINE_EVERY_S. Use it as a context.

    Args:
        what: what is done, such as `train (network)`.
        total: how much there is to do; None: not known, and only what is done and the time it took are shown.
        done: what was done before, as after resuming: it counts, but says nothing of the speed.
        share: whether amounts are shares of a whole, shown in per cent.
        at_once: whether a bar is shown from the beginning, as where a single part takes long.
    """

    def __init__(
        self, what: str, total: float | None, done: float = 0, share: bool = False, at_once: bool = False
    ) -> None:
        self.what, self.total, self.first, self.done, self.share = what, total, done, done, share
        self.at_once = at_once
        self.started = self.last = time.monotonic()
        self._shown: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        self.started = self.last = time.monotonic()
        if self.at_once and sys.stderr.isatty():
            self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown is not None:
            self._shown.stop()

    def to(self, done: float) -> None:
        """So much is done now, all in all."""
        self.done, now = done, time.monotonic()
        if self._shown is not None:
            self._shown.update(self._task, completed=done, amount=self.amount())
        elif sys.stderr.isatty():
            if now - self.started >= SHOWN_AFTER_S:
                self._show()
        elif now - self.last >= LINE_EVERY_S:
            self.last = now
            left = self.seconds_left(now)
            log.info("%s: %s%s", self.what, self.amount(), "" if left is None else f", {duration(left)} left")

    def one_more(self) -> None:
        """One more is done."""
        self.to(self.done + 1)

    def amount(self) -> str:
        """`12 of 300`, or `4 %`."""
        if self.share and self.total:
            return f"{self.done / self.total:.0%}"
        return f"{self.done:g}" if self.total is None else f"{self.done:g} of {self.total:g}"

    def seconds_left(self, now: float) -> float | None:
        """At the speed since this began; None while nothing can be said."""
        made = self.done - self.first
        if self.total is None or made <= 0:
            return None
        return (now - self.started) / made * max(0.0, self.total - self.done)

    def _show(self) -> None:
        try:
            from rich import progress
            from rich.console import Console
        except ImportError:  # a bare machine that trains: no bar, and no lines on a terminal that somebody looks at
            return
        columns = (
            progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TextColumn("{task.fields[amount]}"),
            progress.TimeElapsedColumn(), progress.TextColumn("left"), progress.TimeRemainingColumn(),
        )  # fmt: skip
        self._shown = progress.Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._shown.add_task(self.what, total=self.total, completed=self.done, amount=self.amount())
        self._shown.start()


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def track(items: Iterable[Item], what: str, total: int | None = None, done: int = 0) -> Iterator[Item]:
    """Yield `items` and show how far it is (`Bar`).

    Args:
        items: what is done one by one.
        what: what is done.
        total: how many there are, with the `done` ones; None = as many as `items` says.
        done: how many were done before these, as after resuming.
    """
    if total is None:
        total = len(items) + done if isinstance(items, Sized) else None
    count = done
    with Bar(what, total, done) as bar:
        for count, item in enumerate(items, start=done + 1):
            yield item
            bar.to(count)
    log.info("%s: %d done in %.1f s", what, count, time.monotonic() - bar.started)
