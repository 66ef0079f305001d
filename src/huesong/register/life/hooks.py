"""Telling others: a command of the operator's, given the event as JSON on its standard input.

It is tried three times. What could not be told is a line of DEAD_LETTERS, so that nothing is lost in silence, and never
fails what it tells of. No event holds a secret.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huesong.register.life.journal import now
from huesong.register.registry import default_cache
from huesong.runtime.errors import redacted
from huesong.runtime.progress import log

ON_PROMOTE = "HUESONG_ON_PROMOTE"
"""Environment variable: the command that is told of a new champion, where no option names one."""
ON_FAILURE = "HUESONG_ON_FAILURE"
"""Environment variable: the command that is told of a failed run."""
PAUSES_S = (1.0, 4.0)
TIME_LIMIT_S = 60.0
DEAD_LETTERS = "dead-letters.jsonl"


def notify(command: str | None, event: Mapping[str, Any], *, dead_letters: Path | None = None) -> bool:
    """Give an event to a command; whether it took it (exit code 0).

    Args:
        command: program and arguments, split as a shell would, but run by no shell; None or empty: nobody is told.
        event: what happened; flat, in JSON's types.
        dead_letters: the file that undelivered events are appended to; None: DEAD_LETTERS in the cache folder.
    """
    if not command:
        return True
    text = redacted(json.dumps({**event, "at": now()}, sort_keys=True))
    why = ""
    for pause in (0.0, *PAUSES_S):
        time.sleep(pause)
        try:
            done = subprocess.run(
                shlex.split(command), input=text + "\n", text=True, capture_output=True, timeout=TIME_LIMIT_S, check=False
            )  # fmt: skip
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            why = type(error).__name__
            continue
        if done.returncode == 0:
            return True
        why = f"exit code {done.returncode}"
    path = dead_letters or default_cache() / DEAD_LETTERS
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"why": why, "event": json.loads(text)}, sort_keys=True) + "\n")
    log.warning("%s could not be told (%s): the event is kept in %s", shlex.split(command)[0], why, path)
    return False


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
