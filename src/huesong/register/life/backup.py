"""A backup of what stands beside a checkout: the sqlite file and the folder of artifacts, as one archive.

A team's server has tools of its own for that: those of its database and of its object storage (docs/registry.md).
"""

from __future__ import annotations

import contextlib
import sqlite3
import tarfile
from pathlib import Path

from huesong.register.registry import Registry
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError
from huesong.tracking import store
from huesong.tracking.moved import follow_move


def back_up(registry: Registry, archive: Path) -> None:
    """Write database and artifacts into a tar file; an older one of that name is replaced at the end. Call it `alone`.

    Raises:
        UserError: the registry is a server, or a file of that name is there that is no backup.
    """
    database = beside(registry.uri)
    if archive.exists() and not _is_backup(archive):
        raise UserError(f"{archive} is there and is no backup of a registry: give another name, or move it away")
    with artifacts.replacing_file(archive) as path, artifacts.scratch(archive) as work:
        copy = work / store.DATABASE
        # SQLite's own copy: of one moment, whoever writes meanwhile.
        with contextlib.closing(sqlite3.connect(database)) as here, contextlib.closing(sqlite3.connect(copy)) as there:
            here.backup(there)
        with tarfile.open(path, "w") as tar:
            tar.add(copy, store.DATABASE)
            if (folder := database.parent / store.ARTIFACTS).is_dir():
                tar.add(folder, store.ARTIFACTS)


def _is_backup(path: Path) -> bool:
    """Whether `back_up` may have written this file: it puts the database first."""
    try:
        with tarfile.open(path) as tar:
            first = tar.next()
    except (tarfile.TarError, OSError):
        return False
    return first is not None and first.name == store.DATABASE


def restore(uri: str, archive: Path) -> None:
    """Put back what `back_up` wrote, where no database is; the checkout may lie elsewhere now.

    Raises:
        UserError: there is a database or a folder of artifacts already, or the file is no backup, or a damaged one.
    """
    database = beside(uri)
    folder = database.parent / store.ARTIFACTS
    for there in (database, folder):
        if there.exists():
            raise UserError(f"{there} is there already: move it away, then restore")
    if not archive.is_file():
        raise UserError(f"{archive} does not exist: `huesong registry backup` writes one")
    with artifacts.scratch(database) as work:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(work, filter="data")
            with contextlib.closing(sqlite3.connect(f"file:{work / store.DATABASE}?mode=ro", uri=True)) as copy:
                copy.execute("SELECT count(*) FROM registered_models")
        except (tarfile.TarError, EOFError, sqlite3.Error) as error:
            raise UserError(f"{archive} is no backup of the registry, or a damaged one: {error}") from None
        if (work / store.ARTIFACTS).is_dir():
            (work / store.ARTIFACTS).rename(folder)
        (work / store.DATABASE).rename(database)  # last: without it nothing counts as restored
    follow_move(database, folder)


def beside(uri: str) -> Path:
    """The sqlite file of a store.

    Raises:
        UserError: it is a server.
    """
    if (database := store.sqlite_path(uri)) is None:
        raise UserError(
            f"{store.shown(uri)} is no file of this machine: back up its database and its object storage (docs/registry.md)"
        )
    return database
