"""The mirror of a folder of checkpoints in object storage, so that a preempted pod goes on where the last one was.

A checkpoint (train/checkpoints.py) is a folder that appears whole and never changes; its `state.json` holds the SHA-256 of
its other files. Here `state.json` is stored last and removed first: what has one is whole.

    <uri>/run-<digest of settings and inputs>/step-000100/state.json ...

A mirror that fails costs a warning, never the training: the checkpoints on disk are as good as before.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_folder, sha256
from huesong.runtime.objects import Objects, open_objects
from huesong.runtime.progress import log

STATE = "state.json"
NAME = re.compile(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)*")
"""What keys may look like: nothing that leaves the folder, nothing hidden (unfinished folders begin with a dot)."""
SHARED = re.compile(r"(base|critic)-[^/]+/(?!step-)")
"""How finished bases and critics are called (train.stage). Other runs of the same data may be going on from them, and each
training forgets old ones on its own disk: the copy keeps them until the storage's expiry."""


@contextmanager
def mirrored(folder: Path, uri: str, *, every_s: float = 15.0, endpoint_url: str | None = None) -> Iterator[None]:
    """Fetch the checkpoints of `uri` into `folder`, then keep `uri` up to date with it until the block ends.

    Args:
        folder: as given to the train stage as `checkpoints`.
        uri: `s3://bucket/prefix` or a folder; one for each data version.
        every_s: seconds between two looks at the folder.
        endpoint_url: an S3-compatible server other than AWS.

    Raises:
        UserError: the storage cannot be read at the start. Later failures are warnings.
    """
    mirror = Mirror(folder, uri, endpoint_url)
    mirror.pull()
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(every_s):
            mirror.push_or_warn()

    thread = threading.Thread(target=follow, name="mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        mirror.push_or_warn()  # after success this removes what the finished run left, after a failure it saves the last


class Mirror:
    """A folder of checkpoints and its copy; remembers what the copy holds, so that a look without news costs nothing."""

    def __init__(self, folder: Path, uri: str, endpoint_url: str | None = None) -> None:
        self.folder = folder
        self.objects: Objects = open_objects(uri, endpoint_url)
        self._stored: dict[str, str] | None = None
        """Name of each checkpoint in the copy and the SHA-256 of its state; None before the first look."""

    def pull(self) -> list[str]:
        """Fetch what the folder lacks. A checkpoint that arrives damaged is named in the log and left out."""
        keys = self.objects.keys("")
        fetched, stored = [], {}
        for name in sorted(_checkpoints(keys)):
            here = self.folder / name
            if not here.exists():
                files = [key for key in keys if key.rpartition("/")[0] == name]
                try:
                    self._fetch(name, files)
                except ValueError as error:  # UserError (an object that vanished) is one, too
                    log.warning("checkpoint %s/%s is damaged (%s); left out", self.objects.uri, name, error)
                    continue
                fetched.append(name)
                stored[name] = sha256(here / STATE)
        self._stored = stored | {name: "" for name in _checkpoints(keys) if name not in stored}
        if fetched:
            log.info("checkpoints from %s: %s", self.objects.uri, ", ".join(fetched))
        return fetched

    def push(self) -> list[str]:
        """Store new checkpoints, then remove those that the folder no longer has, except for SHARED ones.

        Raises:
            UserError: storage that refuses or is out of reach.
        """
        if self._stored is None:
            keys = self.objects.keys("")
            self._stored = {name: "" for name in _checkpoints(keys)}
        here = {path.parent.relative_to(self.folder).as_posix(): path.parent for path in self.folder.rglob(STATE)}
        here = {name: path for name, path in here.items() if NAME.fullmatch(name)}
        new = []
        for name, path in sorted(here.items()):
            try:
                digest = sha256(path / STATE)
                if self._stored.get(name) != digest:
                    self._store(name, path)
                    self._stored[name] = digest
                    new.append(name)
            except FileNotFoundError:  # the training removed it meanwhile; the next look sees that
                continue
        for name in sorted(set(self._stored) - set(here)):
            if not SHARED.match(name):
                self._remove(name)
                del self._stored[name]
        return new

    def push_or_warn(self) -> None:
        """`push`; a failure is a warning."""
        try:
            self.push()
        except (UserError, OSError) as error:
            log.warning("checkpoints are not in %s: %s; the training goes on", self.objects.uri, error)

    def _fetch(self, name: str, keys: list[str]) -> None:
        with replacing_folder(self.folder / name) as work:
            for key in keys:
                self.objects.get(key, work / Path(key).name)
            digests = json.loads((work / STATE).read_text(encoding="utf-8"))["digests"]
            for file, digest in digests.items():
                if not (work / file).is_file() or sha256(work / file) != digest:
                    raise ValueError(f"{file} is missing or has another SHA-256 than when it was written")

    def _store(self, name: str, path: Path) -> None:
        files = sorted(path.iterdir(), key=lambda file: (file.name == STATE, file.name))
        if self._stored and name in self._stored:  # another content of that name: take its mark of wholeness first
            self.objects.delete([f"{name}/{STATE}"])
        for file in files:
            self.objects.put(file, f"{name}/{file.name}")

    def _remove(self, name: str) -> None:
        keys = self.objects.keys(f"{name}/")
        self.objects.delete(sorted(keys, key=lambda key: not key.endswith(f"/{STATE}")))


def _checkpoints(keys: dict[str, int]) -> set[str]:
    """Names of the whole checkpoints among the keys of the storage."""
    return {key.rpartition("/")[0] for key in keys if key.endswith(f"/{STATE}") and NAME.fullmatch(key)}
