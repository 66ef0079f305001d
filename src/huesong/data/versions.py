"""Data versions in object storage, in DVC's layout, without git or dvc: what a pod needs to fetch its data.

    <remote>/files/md5/ab/cdef...       a file, named by the MD5 of its content
    <remote>/files/md5/ab/cdef....dir   a folder: JSON list of {md5, relpath}
    <remote>/huesong/current.json       the version that scheduled runs take

A version published here is a `dvc pull` for whoever has its digest in a `.dvc` file, and the other way round.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from huesong import contracts
from huesong.data.inside import Inside
from huesong.runtime.errors import UserError
from huesong.runtime.files import WORK, disk_error, replacing_folder
from huesong.runtime.objects import ATTEMPTS, MissingObject, Objects, in_parallel, open_objects
from huesong.runtime.progress import track

POINTER = "huesong/current.json"
CURRENT = "current"
"""Instead of a digest: the version that was published last."""


@dataclass(frozen=True)
class FetchReport:
    """What a fetch brought."""

    digest: str
    files: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.files} files, {self.bytes / 2**20:.1f} MiB, version {self.digest}"


@dataclass(frozen=True)
class PublishReport:
    """What a publication stored; `uploaded` counts the files that the remote did not have yet."""

    digest: str
    files: int
    bytes: int
    uploaded: int

    def __str__(self) -> str:
        return (
            f"{self.files} files, {self.bytes / 2**20:.1f} MiB ({self.uploaded} new) as version {self.digest}, "
            "now the one that scheduled runs take"
        )


def fetch(digest: str, remote: str, out: Path, *, endpoint_url: str | None = None) -> FetchReport:
    """Fetch one data version into `out`, which is replaced as a whole or not at all.

    Args:
        digest: as in a `.dvc` file (32 hex digits, `.dir` at the end or not), or `current`.
        remote: `s3://bucket/prefix` or the folder of a DVC remote.
        out: the data folder to make.
        endpoint_url: an S3-compatible server other than AWS.

    Raises:
        UserError: no such version, an object that is missing or whose MD5 is another, credentials, connection, disk.
    """
    objects = open_objects(remote, endpoint_url)
    digest = resolve(digest, remote, endpoint_url=endpoint_url)
    with replacing_folder(out) as work:
        entries = read_manifest(objects, digest, work)
        by_md5: dict[str, list[str]] = {}
        for md5, relpath in entries:
            by_md5.setdefault(md5, []).append(relpath)
            (work / relpath).parent.mkdir(parents=True, exist_ok=True)

        def one(item: tuple[str, list[str]]) -> None:
            md5, relpaths = item
            _get_checked(objects, md5, work / relpaths[0], f"{relpaths[0]} of version {digest}")
            for copy in relpaths[1:]:
                shutil.copyfile(work / relpaths[0], work / copy)

        for _ in track(in_parallel(one, by_md5.items()), "fetching", total=len(by_md5)):
            pass
        total = sum((work / relpath).stat().st_size for _, relpath in entries)
    return FetchReport(digest, len(entries), total)


def publish(data: Path, remote: str, *, endpoint_url: str | None = None) -> PublishReport:
    """Store the folder `data` as a version and make it the one that scheduled runs take.

    The pointer is written last: a publication that fails on the way leaves the current version as it was.

    Raises:
        UserError: no data, a file that changes meanwhile, credentials, connection.
    """
    inside = Inside(data)
    paths = sorted(_files(data), key=lambda path: path.relative_to(data).as_posix())
    if link := next((path for path in paths if not inside.holds(path)), None):
        raise UserError(f"{link} is a link that leaves the data folder: copy the file into it, or remove it")
    if not paths:
        raise UserError(f"{data} holds no files: make or import data first (`huesong data --help`)")
    for name in (contracts.IMAGES_CSV, contracts.MUSIC_CSV):
        if not (data / name).is_file():
            raise UserError(
                f"{data} is no data version, {name} is missing: name the data folder with --data, or make or import data "
                "first (`huesong data --help`)"
            )
    objects = open_objects(remote, endpoint_url)
    files = {path: md5_of(path) for path in track(paths, "reading")}
    manifest = [{"md5": md5, "relpath": path.relative_to(data).as_posix()} for path, md5 in files.items()]
    text = json.dumps(manifest, sort_keys=True).encode()  # these very bytes are what DVC takes the digest of
    digest = f"{hashlib.md5(text, usedforsecurity=False).hexdigest()}.dir"
    stored = objects.keys("files/md5/")
    wanted = {md5: path for path, md5 in files.items()}
    missing = {md5: path for md5, path in wanted.items() if stored.get(key_of(md5)) != path.stat().st_size}

    def one(item: tuple[str, Path]) -> None:
        md5, path = item
        objects.put(path, key_of(md5))
        if md5_of(path) != md5:
            objects.delete([key_of(md5)])
            raise UserError(f"{path} changed while it was being published: publish again when nothing writes to it")

    for _ in track(in_parallel(one, missing.items()), "publishing", total=len(missing)):
        pass
    _put_text(objects, text, key_of(digest))
    total = sum(path.stat().st_size for path in paths)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    pointer = {"digest": digest, "files": len(paths), "bytes": total, "published": now}
    _put_text(objects, json.dumps(pointer, indent=2).encode() + b"\n", POINTER)
    return PublishReport(digest, len(paths), total, len(missing))


def _files(data: Path) -> Iterator[Path]:
    """What a version holds: all files but those that a killed command has left behind."""
    for path in data.rglob("*"):
        left = any(part.startswith((WORK, ".import-")) for part in path.relative_to(data).parts)
        if path.is_file() and not left:
            yield path


def current(remote: str, *, endpoint_url: str | None = None) -> str:
    """The digest of the version that was published last."""
    objects = open_objects(remote, endpoint_url)
    try:
        text = _get_text(objects, POINTER)
    except MissingObject:
        raise MissingObject(f"{remote} has no published data version: run `huesong data publish` first") from None
    try:
        return checked_digest(str(json.loads(text)["digest"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{remote}/{POINTER} is damaged ({error}): run `huesong data publish` again") from error


def resolve(digest: str, remote: str, *, endpoint_url: str | None = None) -> str:
    """The digest itself, checked and with its `.dir`, or that of the version published last for `current`."""
    if digest == CURRENT:
        return current(remote, endpoint_url=endpoint_url)
    return checked_digest(digest)


def configured_remote(root: Path) -> str | None:
    """The address of the default remote in .dvc/config (and config.local) of a checkout; a folder as its whole path."""
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return None
    name = config.get("core", "remote", fallback="")
    sections = (f"'remote \"{name}\"'", f'remote "{name}"')  # as DVC writes them, and as git would
    url = next((config.get(one, "url", fallback="") for one in sections if one in config), "")
    if not url:
        return None
    return url if "://" in url else str((root / ".dvc" / url).resolve())


def require_version(digest: str, remote: str, *, endpoint_url: str | None = None) -> None:
    """Make sure that the version's list is in the remote.

    Raises:
        MissingObject: it is not.
        UserError: the remote cannot be read from here.
    """
    digest = resolve(digest, remote, endpoint_url=endpoint_url)
    with tempfile.TemporaryDirectory() as folder:
        read_manifest(open_objects(remote, endpoint_url), digest, Path(folder))


def checked_digest(digest: str) -> str:
    """The digest with its `.dir`; refuses what is not one."""
    name = digest.strip().lower().removesuffix(".dir")
    if not re.fullmatch(r"[0-9a-f]{32}", name):
        raise UserError(f"{digest!r} is no data digest: give the 32 hex digits in data.dvc, or `{CURRENT}`")
    return f"{name}.dir"


def key_of(digest: str) -> str:
    """Where DVC keeps the object of that digest."""
    return f"files/md5/{digest[:2]}/{digest[2:]}"


def read_manifest(objects: Objects, digest: str, scratch: Path) -> list[tuple[str, str]]:
    """(md5, relative path) of every file of a version; checked, so that nothing is written outside the folder."""
    path = scratch / ".manifest"
    try:
        _get_checked(objects, digest, path, f"the list of version {digest}")
    except MissingObject:
        raise MissingObject(
            f"version {digest} is not in {objects.uri}: `dvc push` or `huesong data publish` it first"
        ) from None
    text = path.read_bytes()
    path.unlink()
    try:
        entries = [(entry["md5"], entry["relpath"]) for entry in json.loads(text)]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"the list of version {digest} in {objects.uri} is no DVC list: {error}") from error
    seen: set[str] = set()
    for md5, relpath in entries:
        if not isinstance(md5, str) or not re.fullmatch(r"[0-9a-f]{32}", md5) or not safe_path(relpath):
            raise UserError(f"version {digest}: {relpath!r} is no path inside a folder; refused, nothing was written")
        if relpath in seen:
            raise UserError(f"version {digest}: {relpath!r} is listed twice; refused, nothing was written")
        seen.add(relpath)
    for relpath in seen:
        if clash := next((str(p) for p in PurePosixPath(relpath).parents if str(p) in seen), None):
            raise UserError(f"version {digest}: {clash!r} is a file and a folder; refused, nothing was written")
    return entries


def safe_path(relpath: Any) -> bool:
    """Whether the path of a list stays inside the folder it is written to, on every system."""
    if not isinstance(relpath, str) or not relpath or set(relpath) & set("\0\\:"):
        return False
    return not relpath.startswith("/") and all(part not in ("", ".", "..") for part in relpath.split("/"))


def md5_of(path: Path) -> str:
    """MD5 of a file: DVC's name for content. Not a protection against forgery."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _get_checked(objects: Objects, digest: str, path: Path, what: str) -> None:
    """Fetch the object of that digest; a body that arrives damaged is fetched again before giving up."""
    try:
        for _ in range(ATTEMPTS):
            objects.get(key_of(digest), path)
            if (found := md5_of(path)) == digest.removesuffix(".dir"):
                return
    except MissingObject as error:
        raise type(error)(f"{what} is missing: {error}; push the version again") from None
    except OSError as error:
        raise disk_error(error, path) from error
    raise UserError(
        f"{what} in {objects.uri}: gave up after {ATTEMPTS} attempts (its MD5 is {found}); "
        "the object in the remote is damaged: delete it and push again"
    )


def _put_text(objects: Objects, text: bytes, key: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        path.write_bytes(text)
        objects.put(path, key)


def _get_text(objects: Objects, key: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        objects.get(key, path)
        return path.read_bytes()
