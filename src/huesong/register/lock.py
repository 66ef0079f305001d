"""One at a time: what reads the registry, decides, and writes what it decided.

Beside a sqlite file it is a lock of the operating system, which ends with its process. A server has no locks, but names of
registered models are unique: whoever makes the model NAME.lock has it. One whose owner died is taken over.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from huesong.runtime.errors import UserError

OWNER = "huesong.owner"
LOOK_S = 0.2
STALE_S = 60.0
"""A lock that is the same for so long has no owner any more: a decision takes a few requests."""
MOST_S = 600.0


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """A lock on a file, which stays, empty: to remove it would let two have it."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def name_lock(client: Any, name: str) -> Iterator[Callable[[], bool]]:
    """The lock of a registered model on a server; what it yields says whether it is still held.

    Raises:
        UserError: others have it for MOST_S.
    """
    lock, me = f"{name}.lock", uuid.uuid4().hex
    _take(client, lock, me)
    try:
        yield lambda: owner_of(client, lock) == me
    finally:
        if owner_of(client, lock) == me:
            _drop(client, lock)


def owner_of(client: Any, lock: str) -> str | None:
    """Who has a lock, None if nobody has."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_registered_model(lock).tags.get(OWNER, ""))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _take(client: Any, lock: str, me: str) -> None:
    from mlflow.exceptions import MlflowException

    started = since = time.monotonic()
    seen: str | None = None
    while True:
        taken_over = False
        if (owner := owner_of(client, lock)) != seen:
            seen, since = owner, time.monotonic()
        if owner is not None and time.monotonic() - since > STALE_S:
            _drop(client, lock)
            owner, taken_over = None, True
        if owner is None:
            try:
                client.create_registered_model(lock, tags={OWNER: me}, description="Taken while huesong decides.")
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            else:
                if taken_over:  # another that waited may just now have dropped ours for the stale one
                    time.sleep(5 * LOOK_S)
                if owner_of(client, lock) == me:
                    return
        if time.monotonic() - started > MOST_S:
            raise UserError(f"{lock}: others have the model registry for {MOST_S:.0f} s: run the command again later")
        time.sleep(LOOK_S)


def _drop(client: Any, lock: str) -> None:
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):  # already gone
        client.delete_registered_model(lock)
