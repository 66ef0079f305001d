"""What is made once for all tests of a session, also when pytest-xdist runs them in several processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this session share; each worker of pytest-xdist has its own below it."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def once(place: Path, make: Callable[[], object]) -> None:
    """Call `make` if no process of this session has for this `place`, and wait if one is about to.

    Nobody may write to what it made: others read it at the same time.
    """
    done = place.with_suffix(".done")
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # is given back when the file is closed, or its process dies
        if not done.exists():
            make()
            done.touch()
