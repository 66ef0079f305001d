"""Empty MLflow databases for tests: made once (it takes seconds), then copied."""

import functools
import tempfile
from pathlib import Path


@functools.cache
def _empty() -> bytes:
    from huesong.tracking import store

    with tempfile.TemporaryDirectory() as folder, store.http_limits():
        path = Path(folder) / "mlflow.db"
        store.connect(f"sqlite:///{path}").search_experiments()
        return path.read_bytes()


def new_database(path: Path) -> str:
    """The URI of a new store at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_empty())
    return f"sqlite:///{path}"
