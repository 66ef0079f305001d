"""Submit, follow, upload and list: what a user does with the compiled pipeline on a Kubeflow Pipelines server.

Everything is checked before the first request that changes something, and a request that fails takes back what was
made for it: an error leaves the server as it was.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import kfp_server_api
import yaml

from huesong.runtime.errors import UserError
from huesong.runtime.progress import log
from huesong.tracking.provenance import git_sha
from pipeline.client import Client, quiet, reported

PIPELINE = "huesong"
FINAL = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
EXIT_CODES = {"SUCCEEDED": 0, "FAILED": 1, "SKIPPED": 1, "CANCELED": 3}
OUT_OF_TIME = 4
"""Exit code of a wait that ended before the run did."""
KINDS: dict[str, Any] = {
    "NUMBER_INTEGER": int, "NUMBER_DOUBLE": int | float, "BOOLEAN": bool, "LIST": list, "STRUCT": dict, "STRING": str,
}  # fmt: skip
"""Python's types of the pipeline's parameters."""
PATIENCE_S = 300
"""How long a wait goes on while the server is out of reach: a port-forward drops now and then, the run goes on."""


@dataclass(frozen=True)
class Version:
    """A pipeline version on the server."""

    pipeline_id: str
    version_id: str
    name: str
    new: bool
    spec: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run_id: str
    state: str
    failed: list[str]
    """Names of the tasks that failed, with the server's reason where it gives one."""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.state, OUT_OF_TIME)

    def __str__(self) -> str:
        return f"run {self.run_id}: {self.state.lower()}" + "".join(f"\n  failed: {task}" for task in self.failed)


def read_package(path: Path) -> dict[str, Any]:
    """The pipeline spec of a compiled package (its first YAML document)."""
    try:
        spec = next(iter(yaml.safe_load_all(path.read_text(encoding="utf-8"))))
        spec["root"], spec["pipelineInfo"]
        return spec
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): `huesong pipeline compile` makes it") from error
    except (yaml.YAMLError, UnicodeDecodeError, StopIteration, TypeError, KeyError) as error:
        raise UserError(f"{path} is no compiled pipeline: `huesong pipeline compile` makes one") from error


def takes_data(spec: Mapping[str, Any]) -> bool:
    """Whether the pipeline has the parameters that say which data it reads, and from where."""
    spec = spec.get("pipeline_spec", spec)
    return {"data_digest", "remote"} <= set(spec["root"].get("inputDefinitions", {}).get("parameters", {}))


def checked_parameters(spec: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The given words as values of the types that the pipeline declares.

    Numbers, booleans, lists and structs are JSON; `@file` takes a YAML or JSON file.

    Raises:
        UserError: a parameter that the pipeline does not have, one that it needs and is not given, a wrong type.
    """
    spec = spec.get("pipeline_spec", spec)
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    values = {}
    for name, word in given.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1, cutoff=0.0)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UserError(f"the pipeline has no parameter '{name}'{hint} (known: {', '.join(sorted(declared))})")
        values[name] = _value(name, word, declared[name].get("parameterType", "STRING"))
    for name, entry in declared.items():
        if name not in values and "defaultValue" not in entry and not entry.get("isOptional"):
            raise UserError(f"the pipeline needs the parameter '{name}': give it with --parameter {name}=VALUE")
    return values


def _value(name: str, word: str, kind: str) -> Any:
    if word.startswith("@"):
        try:
            value = yaml.safe_load(Path(word[1:]).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"parameter {name}: {word[1:]} cannot be read: {' '.join(str(error).split())}") from error
    elif kind == "STRING":
        return word
    else:
        try:
            value = json.loads(word)
        except ValueError:
            raise UserError(f"parameter {name}={word}: not JSON of the kind {kind}") from None
    if not isinstance(value, KINDS.get(kind, object)) or (isinstance(value, bool) and kind.startswith("NUMBER")):
        raise UserError(f"parameter {name}: {word} is not of the kind {kind}")
    return value


def submit(
    client: Client,
    package: Path,
    *,
    experiment: str,
    parameters: Mapping[str, str],
    name: str | None = None,
    caching: bool | None = None,
    service_account: str | None = None,
) -> str:
    """Start a run of the compiled package; its id.

    `parameters` are checked against the package before anything is sent. The experiment is made where it is missing, and
    removed again if the run is refused. `caching` None: as compiled; False: every task runs anew.
    """
    values = checked_parameters(read_package(package), parameters)
    name = name or f"{PIPELINE} {datetime.now():%Y-%m-%d %H:%M:%S}"
    with reported(client_host(client)), quiet(), experiment_for(client, experiment) as experiment_id:
        run = client.run_pipeline(
            experiment_id, name, pipeline_package_path=str(package), params=values, enable_caching=caching,
            service_account=service_account,
        )  # fmt: skip
    return run.run_id


@contextlib.contextmanager
def experiment_for(client: Client, name: str):  # type: ignore[no-untyped-def]
    """Yield the id of the experiment; one that had to be made is removed again if the block fails."""
    namespace = client.get_user_namespace() or None
    made = False
    try:
        experiment = client.get_experiment(experiment_name=name, namespace=namespace)
    except ValueError as error:
        if "No experiment" not in str(error):
            raise UserError(
                f"experiment {name}: there are several of that name on the server; choose another"
            ) from None
        experiment = client.create_experiment(name, namespace=namespace)
        made = True
    try:
        yield experiment.experiment_id
    except BaseException:
        if made:
            with contextlib.suppress(Exception):
                client.delete_experiment(experiment.experiment_id)
        raise


def wait(client: Client, run_id: str, *, every_s: float = 5.0, timeout_s: float | None = None) -> Outcome:
    """Follow a run to its end, one log line for each task that changes its state.

    kfp's own wait does not know the state CANCELED and would wait for ever; a lost connection ends it.
    It looks every `every_s` seconds and stops after `timeout_s` (the run goes on); None: never.
    """
    started = last_answer = time.monotonic()
    shown: dict[str, str] = {}
    while True:
        try:
            with reported(client_host(client)):
                run = client.get_run(run_id)
            last_answer = time.monotonic()
        except UserError as error:
            lost = time.monotonic() - last_answer
            if "reachable" not in str(error) and "overloaded" not in str(error) and "lost" not in str(error):
                raise
            if lost > PATIENCE_S:
                raise UserError(
                    f"{error}; the run goes on: `huesong pipeline wait {run_id}` follows it again"
                ) from error
            log.warning("%s; trying on for %.0f s", error, PATIENCE_S - lost)
        else:
            state = run.state or "PENDING"
            _show_changes(run, shown)
            if state in FINAL:
                return Outcome(run_id, state, _failed(run))
        if timeout_s is not None and time.monotonic() - started > timeout_s:
            return Outcome(run_id, "still running", [])
        time.sleep(every_s)


def _tasks(run: Any) -> list[Any]:
    return (run.run_details.task_details or []) if run.run_details else []


def _show_changes(run: Any, shown: dict[str, str]) -> None:
    tasks = [(task.task_id, task.display_name, task.state) for task in _tasks(run)]
    for key, name, state in [(run.run_id, "run", run.state), *tasks]:
        if state and shown.get(key) != state:
            shown[key] = state
            log.info("%s: %s", name, state.lower())


def _failed(run: Any) -> list[str]:
    found = [
        f"{task.display_name}{': ' + task.error.message if task.error and task.error.message else ''}"
        for task in _tasks(run)
        if task.state == "FAILED"
    ]
    return found or ([run.error.message] if run.error and run.error.message else [])


def version_name(root: Path) -> str:
    """The commit of the checkout, 12 digits; refused where files differ from it, for then it would name another code."""
    sha = git_sha(root)
    if sha is None:
        raise UserError(f"{root} is no git checkout: name the version with --version")
    if sha.endswith("+dirty"):
        raise UserError("tracked files differ from the commit: commit them first, or name the version with --version")
    return sha[:12]


def upload(client: Client, package: Path, *, version: str, pipeline: str = PIPELINE) -> Version:
    """Upload the package as a version of the pipeline; a version that is there already stays as it is.

    Raises:
        UserError: a version of that name with another content; nothing is changed then.
    """
    read_package(package)
    # Over the content, not the bytes: kfp writes the members of a default dictionary in another order each time.
    documents = list(yaml.safe_load_all(package.read_text(encoding="utf-8")))
    mark = f"package sha256 {hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()}"
    with reported(client_host(client)), quiet():
        pipeline_id = client.get_pipeline_id(pipeline)
        made = pipeline_id is None
        if made:
            # kfp's upload_pipeline would name the first version after the pipeline; an empty pipeline takes our name.
            body = kfp_server_api.V2beta1Pipeline(
                display_name=pipeline, name=pipeline, namespace=client.get_user_namespace() or None
            )
            pipeline_id = client._pipelines_api.pipeline_service_create_pipeline(pipeline=body).pipeline_id
        else:
            found = find_version(client, pipeline_id, version)
            if found is not None:
                if found.description != mark:
                    raise UserError(
                        f"version {version} of {pipeline} is on the server with another content: "
                        "name this one differently with --version"
                    )
                return Version(pipeline_id, found.pipeline_version_id, version, False, found.pipeline_spec or {})
        try:
            new = client.upload_pipeline_version(str(package), version, pipeline_id=pipeline_id, description=mark)
        except BaseException:
            if made:
                with contextlib.suppress(Exception):
                    client.delete_pipeline(pipeline_id)
            raise
    return Version(pipeline_id, new.pipeline_version_id, version, True, new.pipeline_spec or {})


def find_version(client: Client, pipeline_id: str, name: str) -> Any:
    """The version of that name, None without one."""
    pages = every_page(lambda token: client.list_pipeline_versions(pipeline_id, page_token=token, page_size=100))
    return next((v for page in pages for v in page.pipeline_versions or [] if v.display_name == name), None)


def uploaded_version(client: Client, name: str, pipeline: str = PIPELINE) -> Version:
    """The version of that name, which must be there."""
    with reported(client_host(client)):
        pipeline_id = client.get_pipeline_id(pipeline)
        found = find_version(client, pipeline_id, name) if pipeline_id else None
    if found is None:
        raise UserError(f"the server has no version {name} of {pipeline}: run `huesong pipeline upload` first")
    return Version(pipeline_id, found.pipeline_version_id, name, False, found.pipeline_spec or {})


def every_page(request: Callable[[str], Any]) -> list[Any]:
    """All pages of a listing; `request` takes the token of a page."""
    pages, token = [], ""
    while True:
        pages.append(request(token))
        token = pages[-1].next_page_token
        if not token:
            return pages


def listing(client: Client, runs: int = 10) -> str:
    """Versions, schedules and the latest runs as text."""
    lines = []
    with reported(client_host(client)):
        namespace = client.get_user_namespace() or None
        pipeline_id = client.get_pipeline_id(PIPELINE)
        pages = every_page(lambda t: client.list_pipeline_versions(pipeline_id, t, 100)) if pipeline_id else []
        lines += [f"version  {v.display_name}  {v.created_at}" for page in pages for v in page.pipeline_versions or []]
        pages = every_page(lambda t: client.list_recurring_runs(t, 100, namespace=namespace))
        for job in (job for page in pages for job in page.recurring_runs or []):
            cron = job.trigger.cron_schedule.cron if job.trigger and job.trigger.cron_schedule else "periodic"
            lines.append(f"schedule  {job.display_name}  {cron}  {(job.status or job.mode or '').lower()}")
        latest = client.list_runs(page_size=runs, sort_by="created_at desc", namespace=namespace)
        lines += [
            f"run  {run.run_id}  {run.display_name}  {(run.state or 'PENDING').lower()}  {run.created_at}"
            for run in latest.runs or []
        ]
    return "\n".join(lines) or "nothing on the server yet"


def client_host(client: Client) -> str:
    """The server's address, for messages."""
    return str(client._existing_config.host)
