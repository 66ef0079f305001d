"""How far something is: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from huesong.runtime import progress
from huesong.runtime.progress import Bar, duration, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that progress sees; tests move it on."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "huesong"]


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(progress.log, "propagate", True)
    caplog.set_level(logging.INFO, "huesong")
    return caplog


def test_without_a_terminal_a_line_in_twenty_seconds_says_how_long_it_takes(
    clock: list[float], heard: pytest.LogCaptureFixture
) -> None:
    for _ in track(range(300), "training"):
        clock[0] += 1.0
    told = lines(heard)
    assert told[0] == "training: 20 of 300, 5 min left"
    assert told[1] == "training: 40 of 300, 4 min left"
    assert len(told) == 300 // 20 + 1
    assert told[-1] == "training: 300 done in 300.0 s"


def test_after_resuming_it_counts_on_and_the_time_left_is_that_of_the_rest(
    clock: list[float], heard: pytest.LogCaptureFixture
) -> None:
    for _ in track(range(250, 300), "training", done=250):
        clock[0] += 1.0
    assert lines(heard)[0] == "training: 270 of 300, 30 s left"
    assert lines(heard)[-1] == "training: 300 done in 50.0 s"


def test_what_has_no_end_is_counted_and_a_share_is_a_per_cent(
    clock: list[float], heard: pytest.LogCaptureFixture
) -> None:
    for _ in track(iter(range(30)), "reading"):
        clock[0] += 1.0
    with Bar("composing", 1, share=True) as bar:
        clock[0] += 30
        bar.to(0.25)
    assert lines(heard) == ["reading: 20", "reading: 30 done in 30.0 s", "composing: 25%, 90 s left"]


def test_a_terminal_shows_a_bar_with_the_time_left_and_log_lines_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress.log, "handlers", [])
    monkeypatch.setattr(progress, "SHOWN_AFTER_S", 0.0)
    progress.configure()
    with Bar("training", 300, done=250) as bar:
        bar.to(260)
        bar.to(270)
        progress.log.info("a line")
        bar._shown.refresh()
    shown = terminal.getvalue()
    assert "270 of 300" in shown
    assert "left" in shown
    assert "a line" in shown
    assert shown.rstrip().endswith("\x1b[2K"), "nothing is left of the bar at the end"


def test_what_is_done_at_once_shows_no_bar(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for _ in track(range(3), "quick"):
        clock[0] += 0.1
    assert "of 3" not in terminal.getvalue()


def test_durations_are_told_in_round_words() -> None:
    assert [duration(s) for s in (4.4, 99, 100, 3599, 12_000)] == ["4 s", "99 s", "2 min", "1 h 0 min", "3 h 20 min"]
