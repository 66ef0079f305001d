"""Telling others: a command of the operator's, given the event as JSON on its standard input, or an address it is sent to.

It is tried three times. What could not be told is a line of DEAD_LETTERS, so that nothing is lost in silence, and never
fails what it tells of. No event holds a secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shlex
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huesong.register.life.journal import now
from huesong.register.registry import default_cache
from huesong.runtime.errors import redacted
from huesong.runtime.progress import log

ON_PROMOTE = "HUESONG_ON_PROMOTE"
"""Environment variable: the command that is told of a new champion, where no option names one."""
ON_FAILURE = "HUESONG_ON_FAILURE"
"""Environment variable: the command that is told of a failed run."""
SECRET = "HUESONG_HOOK_SECRET"
"""Environment variable: what events that are sent to an address are signed with."""
PAUSES_S = (1.0, 4.0)
TIME_LIMIT_S = 60.0
DEAD_LETTERS = "dead-letters.jsonl"
ADDRESS = ("http://", "https://")
"""How a hook begins that is no command."""


def notify(hook: str | None, event: Mapping[str, Any], *, dead_letters: Path | None = None) -> bool:
    """Tell a hook of an event; whether it took it (exit code 0, status 2xx).

    Args:
        hook: program and arguments, split as a shell would, but run by no shell; or an address (http, https), to which the
            event is posted. None or empty: nobody is told.
        event: what happened; flat, in JSON's types.
        dead_letters: the file that undelivered events are appended to; None: DEAD_LETTERS in the cache folder.
    """
    if not hook or not hook.strip():
        return True
    text = redacted(json.dumps({**event, "at": now()}, sort_keys=True))
    deliver, why = _post if hook.startswith(ADDRESS) else _run, ""
    for pause in (0.0, *PAUSES_S):
        time.sleep(pause)
        try:
            why = deliver(hook, text)
        except Exception as error:  # whatever an operator's hook does, what it tells of has happened
            why = type(error).__name__
        if not why:
            return True
    _keep(text, why, hook, dead_letters or default_cache() / DEAD_LETTERS)
    return False


def _keep(text: str, why: str, hook: str, path: Path) -> None:
    """Write down an event that could not be told; where that cannot be either, the log has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"why": why, "event": json.loads(text)}, sort_keys=True) + "\n")
        kept = f"the event is kept in {path}"
    except OSError as error:
        kept = f"{path} cannot be written ({error.strerror}), so the event stands here: {text}"
    log.warning("%s could not be told (%s): %s", _shown(hook), why, kept)


def _shown(hook: str) -> str:
    """A hook as the log may name it: many an address is a password, and so is many an argument."""
    if not hook.startswith(ADDRESS):
        return hook.split()[0]
    try:
        return urlsplit(hook).hostname or "the hook's address"
    except ValueError:
        return "the hook's address"


def _run(command: str, text: str) -> str:
    """Run a command with the event; why it did not take it, "" if it did."""
    done = subprocess.run(
        shlex.split(command), input=text + "\n", text=True, capture_output=True, timeout=TIME_LIMIT_S, check=False
    )  # fmt: skip
    return f"exit code {done.returncode}" if done.returncode else ""


def _post(address: str, text: str) -> str:
    """Post the event, signed with SECRET if there is one; why it was not taken, "" if it was."""
    request = urllib.request.Request(address, text.encode(), {"Content-Type": "application/json", **signed(text)})
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=TIME_LIMIT_S):
            return ""
    except urllib.error.HTTPError as error:
        return f"status {error.code}"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is posted is not posted again elsewhere: urllib would get the new address without the event."""

    def redirect_request(self, *_: Any) -> None:
        """None: the status is an error."""


def signed(text: str) -> dict[str, str]:
    """The headers that say who sent a text: as MLflow signs its own webhooks, so that one receiver can check both.

    The signature is `v1,` and the base64 of HMAC-SHA256, under the secret, of `<id>.<seconds since 1970>.<text>`.
    """
    own, moment = str(uuid.uuid4()), str(int(time.time()))
    headers = {"X-MLflow-Delivery-Id": own, "X-MLflow-Timestamp": moment}
    if secret := os.environ.get(SECRET):
        code = hmac.new(secret.encode(), f"{own}.{moment}.{text}".encode(), hashlib.sha256).digest()
        headers["X-MLflow-Signature"] = f"v1,{base64.b64encode(code).decode()}"
    return headers


def tell_of_champion(command: str | None, name: str, kind: str, version: str, before: str | None, reason: str) -> bool:
    """Tell of a new champion; `command` None: that of ON_PROMOTE."""
    event = {
        "event": "champion", "model": name, "kind": kind, "version": version, "before": before, "reason": reason,
    }  # fmt: skip
    return notify(command or os.environ.get(ON_PROMOTE), event)


def tell_of_failure(what: str, error: str) -> bool:
    """Tell the command of ON_FAILURE that something failed."""
    return notify(os.environ.get(ON_FAILURE), {"event": "failed", "what": what, "error": error[:1000]})


def tell_of_drift(features: Sequence[str], pictures: int) -> bool:
    """Tell the command of ON_FAILURE that what is asked has moved away from what was learnt."""
    event = {"event": "drift", "what": ", ".join(features), "pictures": pictures}
    return notify(os.environ.get(ON_FAILURE), event)
