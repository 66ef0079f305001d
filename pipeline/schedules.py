"""The scheduled retrain: one recurring run a name, created, replaced when changed, disabled, deleted.

The server cannot update a recurring run. A changed one is made anew, switched off, before the old one goes, and is
switched on last: at no moment do two of a name run, and a failure on the way leaves the old one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from huesong.runtime.errors import UserError
from huesong.runtime.progress import log
from pipeline.client import Client, quiet, reported
from pipeline.cron import Cron, checked_zone, parse_cron
from pipeline.run import Version, checked_parameters, client_host, every_page, experiment_for

MARK = "huesong schedule"
"""How the description of a schedule made here begins; a digest of its content follows."""


def schedule(
    client: Client,
    name: str,
    version: Version,
    *,
    cron: str,
    experiment: str,
    parameters: Mapping[str, str],
    time_zone: str = "UTC",
    server_time_zone: str = "UTC",
    enabled: bool = True,
    service_account: str | None = None,
) -> str:
    """Make the schedule what it is asked to be; what was done: created, replaced, enabled, disabled or unchanged.

    Missed times are not made up for (no_catchup) and one run at a time is allowed: a retrain that is late is stale.

    Raises:
        UserError: a bad cron or zone, an unknown parameter, two schedules of the name, one not made by huesong.
    """
    checked = parse_cron(cron)
    zone = checked_zone(time_zone, server_time_zone)
    values = checked_parameters(version.spec, parameters)
    content = {
        "cron": checked.text, "zone": time_zone, "version": [version.pipeline_id, version.version_id],
        "parameters": values, "experiment": experiment, "service_account": service_account,
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    description = f"{MARK} {digest}: version {version.name}, {checked.text} in {time_zone}"
    _say_next(checked, datetime.now(zone))

    with reported(client_host(client)), quiet():
        old = find(client, name)
        if old is not None and not (old.description or "").startswith(MARK):
            raise UserError(
                f"schedule {name} ({old.recurring_run_id}) was not made by huesong: choose another name or delete it there"
            )
        if old is not None and old.description == description:
            return _switch(client, old, enabled)
        with experiment_for(client, experiment) as experiment_id:
            new = client.create_recurring_run(
                experiment_id, name, description=description, cron_expression=checked.text, max_concurrency=1,
                no_catchup=True, params=values, pipeline_id=version.pipeline_id, version_id=version.version_id,
                enabled=enabled and old is None, service_account=service_account,
            )  # fmt: skip
            if old is not None:
                try:
                    client.delete_recurring_run(old.recurring_run_id)
                except BaseException:
                    with contextlib.suppress(Exception):
                        client.delete_recurring_run(new.recurring_run_id)
                    raise
        if old is None:
            return "created"
        if enabled:
            client.enable_recurring_run(new.recurring_run_id)
    return "replaced"


def switch(client: Client, name: str, *, enabled: bool) -> str:
    """Enable or disable the schedule of that name; what was done."""
    with reported(client_host(client)), quiet():
        return _switch(client, _existing(client, name), enabled)


def delete(client: Client, name: str) -> str:
    """Delete the schedule of that name. Its past runs stay."""
    with reported(client_host(client)), quiet():
        client.delete_recurring_run(_existing(client, name).recurring_run_id)
    return "deleted"


def find(client: Client, name: str) -> Any:
    """The schedule of that name in any experiment, None without one."""
    namespace = client.get_user_namespace() or None
    pages = every_page(lambda token: client.list_recurring_runs(token, 100, namespace=namespace))
    found = [job for page in pages for job in page.recurring_runs or [] if job.display_name == name]
    if len(found) > 1:
        ids = ", ".join(job.recurring_run_id for job in found)
        raise UserError(f"the server has {len(found)} schedules of the name {name} ({ids}): delete all but one there")
    return found[0] if found else None


def _existing(client: Client, name: str) -> Any:
    found = find(client, name)
    if found is None:
        raise UserError(f"the server has no schedule {name}: `huesong pipeline list` names those it has")
    return found


def _switch(client: Client, job: Any, enabled: bool) -> str:
    if (job.mode == "ENABLE" or job.status == "ENABLED") == enabled:
        return "unchanged"
    if enabled:
        client.enable_recurring_run(job.recurring_run_id)
    else:
        client.disable_recurring_run(job.recurring_run_id)
    return "enabled" if enabled else "disabled"


def _say_next(cron: Cron, now: datetime) -> None:
    times = ", ".join(f"{time:%a %Y-%m-%d %H:%M:%S %Z}" for time in cron.next_times(3, now))
    log.info("the next times: %s", times)
