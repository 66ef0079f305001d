"""Runs that belong together: the parent of a session, and how runs end whose process could not say so itself."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from huesong import contracts
from huesong.tracking import store
from huesong.tracking.provenance import DVC_SESSION

SETTLE_SECONDS = 0.3
SAME_PROCESS_S = 5.0
"""When a process began is told from the machine's clock, which may be set meanwhile."""

SESSION_TAG = "huesong.session"
STAGE_TAG = "huesong.stage"
ERROR_TAG = "huesong.error"
PROCESS_TAG = "huesong.process"
"""The process that a run belongs to: host, id, and when it began, since ids come again."""
RECORD_TAG = "huesong.record"
"""A name of the run that is given before it is made: an answer that was lost is found by it."""
PARENT_TAG = "mlflow.parentRunId"
NO_END = "the stage did not come to its end"


def settle(client: Any, parent: str) -> None:
    """End a parent run as its stages ended: the first that did not finish says how."""
    tags = client.get_run(parent).data.tags
    stages = [tags.get(f"{STAGE_TAG}.{stage}", "FINISHED") for stage in contracts.STAGES]
    client.set_terminated(parent, next((s for s in stages if s != "FINISHED"), "FINISHED"))


def begin_run(
    client: Any, experiment: str, stage: str, parent: str | None, tags: Mapping[str, str], at: int | None = None
) -> str:
    """Make a stage's run, below its parent where it has one; its id. `at`: when it began, in milliseconds since 1970."""
    own = {
        "mlflow.user": user_name(), "mlflow.source.name": f"huesong {stage}", "mlflow.source.type": "LOCAL",
        PROCESS_TAG: this_process(), STAGE_TAG: stage,
    }  # fmt: skip
    if parent:
        own[PARENT_TAG] = parent
    return str(client.create_run(experiment, at, tags={**own, **tags}, run_name=stage).info.run_id)


def this_process() -> str:
    """Host, process id, and when the process began, in seconds."""
    import psutil

    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"


def is_gone(process: str) -> bool:
    """Whether a process of this machine (`this_process`) has ended, waited for or not; False for one of another machine."""
    import psutil

    host, _, rest = process.partition(" ")
    if host != socket.gethostname():
        return False
    pid, began = (int(word) for word in rest.split())
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid)
        return found.status() == psutil.STATUS_ZOMBIE or abs(found.create_time() - began) >= SAME_PROCESS_S
    return True


def end_dead_runs(client: Any, experiment: str) -> list[str]:
    """End as KILLED the runs of this machine that still stand as RUNNING though their process is gone.

    A process that is killed cannot say so itself: the next stage does.

    Returns:
        The ids of those runs.
    """
    ended = []
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if not is_gone(run.data.tags.get(PROCESS_TAG, "")):
            continue
        end_as_killed(client, run)
        if parent := run.data.tags.get(PARENT_TAG):
            settle(client, parent)
        ended.append(run.info.run_id)
    return ended


def end_as_killed(client: Any, run: Any) -> str:
    """Say that a run's stage did not come to its end, in its run and in its parent's; returns the stage."""
    stage, parent = run.data.tags.get(STAGE_TAG, ""), run.data.tags.get(PARENT_TAG)
    client.set_tag(run.info.run_id, ERROR_TAG, NO_END)
    client.set_terminated(run.info.run_id, "KILLED")
    if parent and f"{STAGE_TAG}.{stage}" not in client.get_run(parent).data.tags:
        client.set_tag(parent, f"{STAGE_TAG}.{stage}", "KILLED")
    return str(stage)


def end_orphaned_runs(uri: str, key: str) -> list[str]:
    """End as KILLED the runs of session `key` that still stand as RUNNING, once none of its stages lives any more.

    A stage whose machine went away could not say so itself. Its parent is ended with it, as KILLED unless another
    attempt of the stage has ended otherwise.

    Returns:
        The stages of those runs.

    Raises:
        one of `store.errors()`: the store does not answer.
    """
    left = []
    with store.http_limits():
        client = store.connect(uri)
        for experiment in client.search_experiments():
            for parent in sessions(client, experiment.experiment_id, key):
                below = f"tags.`{PARENT_TAG}` = '{parent}' and attributes.status = 'RUNNING'"
                for run in client.search_runs([experiment.experiment_id], below):
                    left.append(end_as_killed(client, run))
                settle(client, parent)
    return left


def find_or_create_parent(client: Any, experiment: str, key: str, tags: Mapping[str, str]) -> str:
    """Run id of the parent of session `key`; several processes that race agree on the oldest."""
    key = key.replace("'", " ")  # it is quoted in the search
    if found := sessions(client, experiment, key):
        return found[0]
    by_dvc = key.startswith(DVC_SESSION)
    label = time.strftime("repro %Y-%m-%d %H:%M:%S") if by_dvc else key
    own = {
        SESSION_TAG: key,
        "mlflow.user": user_name(),
        "mlflow.source.name": "dvc repro" if by_dvc else "huesong",
        "mlflow.source.type": "LOCAL",
    }
    mine = client.create_run(experiment, tags={**own, **tags}, run_name=label).info.run_id
    time.sleep(SETTLE_SECONDS)  # a rival that is just now writing an older run must be visible to both
    oldest = (sessions(client, experiment, key) or [mine])[0]
    if oldest != mine:
        client.delete_run(mine)
    return oldest


def sessions(client: Any, experiment: str, key: str) -> list[str]:
    """Run ids of the parents of session `key`, oldest first."""
    runs = client.search_runs([experiment], f"tags.`{SESSION_TAG}` = '{key}'", max_results=100)
    return [run.info.run_id for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))]


def user_name() -> str:
    """Who runs this, for MLflow's user column."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container user without a name
        return socket.gethostname()
