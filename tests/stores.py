"""Empty MLflow databases for tests: made once (it takes seconds), then copied."""

import functools
import tempfile
from pathlib import Path

from tests.once import once

shared: Path | None = None
"""A folder of the whole test session (tests/conftest.py), so that each of its processes need not make a database."""


@functools.cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = (shared or Path(folder)) / "empty.db"
        once(path, lambda: _make(path))
        return path.read_bytes()


def _make(path: Path) -> None:
    from huesong.tracking import store

    with store.http_limits():
        store.connect(f"sqlite:///{path}").search_experiments()


def new_database(path: Path) -> str:
    """The URI of a new store at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_empty())
    return f"sqlite:///{path}"
