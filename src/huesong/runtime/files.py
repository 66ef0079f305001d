"""Reading and writing artifacts: nothing half-written ever carries its final name, and nothing foreign is replaced.

What is being written lies in a workspace beside its place, `.huesong-XXXXXXXX`, which its process holds locked. That of
a process that was killed is found unlocked and removed by the next one that writes there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from huesong.runtime.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WORK = ".huesong-"
"""How the names of workspaces begin."""
COMMIT = "commit.json"
"""In a workspace whose content is complete and on its way to its place: part -> target and its state before."""
OLD_S = 86_400
"""After a day a workspace is left over even where no lock tells."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EROFS, errno.EACCES, errno.EPERM)
PLACE = (
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.EIO,
    errno.EXDEV,
    errno.EBUSY,
)
FULL_WORDS = ("No space left", "File too large", "Disk quota exceeded", "PytorchStreamWriter failed", "disk is full")
"""Of libraries that raise errors of their own on a full disk."""


@contextlib.contextmanager
def workspace(beside: Path) -> Iterator[Path]:
    """A new folder in `beside` (made if need be) that nobody else uses; removed at the end, whatever happens."""
    try:
        beside.mkdir(parents=True, exist_ok=True)
        sweep(beside)
        work, lock = _locked_folder(beside)
    except FileNotFoundError as error:  # such as in /proc, or in a folder that was removed while somebody is in it
        raise UserError(f"{beside} takes no files ({error.strerror}): choose another folder with --out") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(lock)


def _locked_folder(beside: Path) -> tuple[Path, int]:
    while True:
        work = Path(tempfile.mkdtemp(prefix=WORK, dir=beside))
        try:
            lock = os.open(work, os.O_RDONLY)
        except FileNotFoundError:  # swept by another thread or process since
            continue
        if _lock(lock) is not False and work.exists():  # else another one swept it between opening and locking
            return work, lock
        os.close(lock)


def _lock(descriptor: int) -> bool | None:
    """Whether this process now holds the lock; None where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, AttributeError):
        return None
    return True


def sweep(folder: Path) -> None:
    """Finish or remove what killed processes have left in `folder`."""
    for entry in list(os.scandir(folder)):
        if not entry.name.startswith(WORK) or not entry.is_dir(follow_symlinks=False):
            continue
        with contextlib.suppress(OSError):
            lock = os.open(entry.path, os.O_RDONLY)
            try:
                held = _lock(lock)
                if held or (held is None and time.time() - entry.stat().st_mtime > OLD_S):
                    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                        _finish(Path(entry.path), folder)
                    shutil.rmtree(entry.path, ignore_errors=True)
            finally:
                os.close(lock)


def _finish(work: Path, folder: Path) -> None:
    """Bring what was complete to its place, unless something else has come there since."""
    for part, (name, before) in json.loads((work / COMMIT).read_text(encoding="utf-8")).items():
        target = folder / name
        if Path(name).name == name and (work / part).exists() and _state(target) in (None, before):
            os.replace(work / part, target)


def _state(path: Path) -> list[int] | None:
    """What tells one content of a path from another one; None if there is nothing."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns]


@contextlib.contextmanager
def replacing_folder(out: Path, own: Sequence[str] = (), inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield a temporary folder beside `out`; on success it takes `out`'s place at once, on failure `out` is untouched.

    Args:
        out: the folder to write, replaced as a whole.
        own: what a folder holds that this command wrote; another one is not replaced. () = whatever is there.
        inputs: what the command reads; a folder that holds one of them is not replaced.

    Raises:
        UserError: `out` is not ours to replace, or cannot be written.
    """
    with _clear_errors(out):
        place = Path(os.path.realpath(out))
        check_replaceable(out, own, inputs)
        with workspace(place.parent) as work:
            new = work / "new"
            new.mkdir()
            yield new
            _put_folder(new, place)


@contextlib.contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """A workspace beside `beside`, for what is made on the way to it (UserError: it cannot be written)."""
    with _clear_errors(beside), workspace(beside.absolute().parent) as work:
        yield work


def check_replaceable(out: Path, own: Sequence[str] = (), inputs: Iterable[Path] = ()) -> None:
    """Refuse to replace a folder that is not a command's own (arguments as in `replacing_folder`).

    Raises:
        UserError: it holds an input or the current folder, is a file, or holds something else than `own`.
    """
    place = Path(os.path.realpath(out))
    for path in (*inputs, Path.cwd()):
        if Path(os.path.realpath(path)).is_relative_to(place):
            what = "the folder you are in" if path == Path.cwd() else f"{path}, which is read"
            raise UserError(f"{out} holds {what}, and would be replaced as a whole: choose another folder with --out")
    if place.exists() and not place.is_dir():
        raise UserError(f"{out} is a file: choose a folder with --out")
    held = sorted(os.listdir(place)) if place.is_dir() and own else []
    if held and not all(os.path.lexists(place / name) for name in own):
        raise UserError(
            f"{out} holds files that this command did not write (such as {held[0]}) and would be replaced as a whole: "
            "choose another folder with --out, or remove it first"
        )


def _put_folder(new: Path, out: Path) -> None:
    """Let `new` take the place of `out`, at once where the system can exchange two folders."""
    if not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir())):
        os.rename(new, out)
    elif not exchange(new, out):
        # For a moment there is neither; whoever is killed then has left what `sweep` finishes.
        _write_commit(new.parent, {new.name: out})
        os.rename(out, new.parent / "replaced")
        os.rename(new, out)


def _write_commit(work: Path, targets: dict[str, Path]) -> None:
    states = {part: (target.name, _state(target) if not target.is_dir() else []) for part, target in targets.items()}
    (work / "commit").write_text(json.dumps(states), encoding="utf-8")
    os.replace(work / "commit", work / COMMIT)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step (Linux's renameat2); False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if renameat2 is None:
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(here, os.fsencode(one), here, os.fsencode(other), swap) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """As `replacing_files`, for one file."""
    with replacing_files([path]) as parts:
        yield parts[0]


@contextlib.contextmanager
def replacing_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield a temporary path for each of some files of one folder; on success they take their places together.

    On failure all are as they were. A process that is killed while they take their places has left what the next one
    that writes there finishes.

    Raises:
        UserError: they cannot be written.
    """
    with _clear_errors(paths[0]), workspace(paths[0].parent) as work:
        parts = [work / f"{number}.part" for number in range(len(paths))]
        yield parts
        if len(paths) > 1:
            _write_commit(work, {part.name: path for part, path in zip(parts, paths, strict=True)})
        with contextlib.ExitStack() as undo:
            for part, path in zip(parts, paths, strict=True):
                kept = work / f"{part.name}.old" if len(paths) > 1 and os.path.lexists(path) else None
                if kept and not _linked(path, kept):
                    shutil.copy2(path, kept)
                os.replace(part, path)
                undo.callback(os.replace, kept, path) if kept else undo.callback(path.unlink)
            undo.pop_all()


def _linked(path: Path, name: Path) -> bool:
    """Whether `path` now has another name, too: some file systems have no hard links."""
    try:
        os.link(path, name, follow_symlinks=False)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL + DENIED + PLACE:
            raise disk_error(error, path) from error
        raise
    except UserError:
        raise
    except Exception as error:
        if any(word in str(error) for word in FULL_WORDS):
            raise disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path) from error
        raise


@contextlib.contextmanager
def disk_errors_in_words() -> Iterator[None]:
    """For entry points: a full disk, one that may not be written, or a name that no disk takes, as a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code == errno.ENAMETOOLONG and isinstance(error, OSError) and error.filename:
            raise UserError(f"{os.fsdecode(error.filename)}: {error.strerror}; give a shorter one") from error
        if code in DENIED and isinstance(error, OSError) and error.filename:
            raise UserError(f"{os.fsdecode(error.filename)}: {error.strerror}; check its permissions") from error
        if code in FULL or any(word in str(error) for word in FULL_WORDS):
            named = getattr(error, "filename", None) or f"{Path.cwd()} or {tempfile.gettempdir()}"
            reason = os.strerror(code or errno.ENOSPC)
            raise UserError(
                f"cannot write to {named}: {reason}; free some space, then run the command again"
            ) from error
        raise


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[io.BytesIO]:
    """A buffer that becomes the content of `path`: for libraries that do not notice a write cut short by a full disk.

    Pillow's encoders and symusic are such; Python's own writing goes on until all is written, or raises.
    """
    buffer = io.BytesIO()
    yield buffer
    path.write_bytes(buffer.getvalue())


def disk_error(error: OSError, path: Path) -> UserError:
    """The user's view of an error while `path` was to be written: of that place, or of another one that it names."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    named = Path(os.path.realpath(os.fsdecode(error.filename))) if isinstance(error.filename, str | bytes) else None
    parent = Path(os.path.realpath(path)).parent
    ours = named is None or parent.is_relative_to(named) or named == parent / path.name
    if named is not None and not ours and not any(part.startswith(WORK) for part in named.parts):
        verb = "write" if error.errno in FULL else "open"
        return UserError(f"cannot {verb} {error.filename}: {reason}; check it and its place. {path} is as it was.")
    if error.errno in FULL:
        remedy = "free some space or choose another folder"
    elif error.errno in DENIED:
        remedy = "choose a folder that you may write to"
    else:
        remedy = "choose another name or folder"
    return UserError(f"cannot write {path}: {reason}; {remedy}. Nothing was changed.")


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
    if not require(path, made_by).is_file():  # a pipe would be waited for
        raise UserError(f"{path} is no ordinary file: run `{made_by}` again")
    text = path.read_text(encoding="utf-8")
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
