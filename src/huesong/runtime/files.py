"""Reading and writing artifact folders: nothing half-written ever carries its final name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huesong.runtime.errors import UserError


@contextlib.contextmanager
def replacing_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`; on success it takes `out`'s place, on failure `out` is untouched.

    Raises:
        UserError: the disk is full or not writable.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        work.chmod(0o755)  # mkdtemp's 0700 would hide the artifacts from other users of the machine
    except OSError as error:
        raise disk_error(error, out) from error
    try:
        with _clear_errors(out):
            yield work
            old = out.with_name(f".{out.name}-old-{os.getpid()}")
            if out.exists():
                out.rename(old)
            work.rename(out)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that is renamed to it on success and removed on failure."""
    work = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _clear_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield work
            os.replace(work, path)
    finally:
        work.unlink(missing_ok=True)


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise disk_error(error, path) from error
        raise


def disk_error(error: OSError, path: Path) -> UserError:
    """The user's view of a full or read-only disk."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return UserError(f"cannot write {path}: {reason}; free some space or choose another folder. Nothing was changed.")


def require(path: Path, made_by: str) -> Path:
    """Return `path`, or raise the error that names the command which makes it."""
    if not path.exists():
        raise UserError(f"{path} is missing: run `{made_by}` first")
    return path


def write_json(path: Path, value: Any) -> None:
    """Write `value` as sorted, indented JSON; NaN and infinity are refused (ValueError)."""
    with replacing_file(path) as part:
        part.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, made_by: str) -> Any:
    """Read a JSON artifact; `made_by` is the command named in the error when it is missing."""
    text = require(path, made_by).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}): run `{made_by}` again") from error


def folder_digest(folder: Path) -> str:
    """SHA-256 over the relative names and contents of all files below `folder`."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()}\0{sha256(path)}\n".encode())
    return total.hexdigest()


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
