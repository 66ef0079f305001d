"""A checkout that was moved or renamed: MLflow writes down where artifacts lie in full, and would look for them there."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from huesong.runtime.progress import log

PLACES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Columns of MLflow's tables that say where artifacts lie."""


def follow_move(database: Path, artifacts: Path) -> int:
    """Let a database name the folder `artifacts` beside it where it names one of that name in another place.

    Nothing is changed where there is no such folder: then the old place is all there is.

    Returns:
        How many cells were changed.
    """
    if not artifacts.is_dir():
        return 0
    here, changed = artifacts.resolve().as_uri(), 0
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        old = [
            place
            for (place,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments")
            if str(place).startswith("file:///") and place.endswith(f"/{artifacts.name}") and place != here
        ]
        for place in old:
            for table, columns in PLACES.items():
                known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                for column in known.intersection(columns):
                    begins = f"({column} = ? OR substr({column}, 1, ?) = ?)"
                    changed += connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {begins}",
                        (here, len(place) + 1, place, len(place) + 1, f"{place}/"),
                    ).rowcount
            log.info("%s was moved from %s: its artifacts are looked for beside it", database, place)
    return changed
