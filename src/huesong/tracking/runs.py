"""MLflow runs: one a stage, and one parent for all stages of a `dvc repro`.

A lost or slow tracking server never costs a stage its result: the first failure is one warning, then tracking is off
for the rest of the stage. Everything goes through `MlflowClient`; MLflow's process-wide active run is left alone.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from pydantic import BaseModel

from huesong import contracts
from huesong.config import Params
from huesong.runtime.errors import redacted
from huesong.runtime.progress import log
from huesong.tracking import store
from huesong.tracking.figures import batches, compared, curve_points, figure_name, flatten, numbers
from huesong.tracking.provenance import DVC_SESSION, provenance, session_key

ARTIFACT_SUFFIXES = (".csv", ".html", ".json", ".md", ".png", ".svg", ".txt", ".yaml")
ARTIFACT_BYTES = 64 * 2**20
"""Reports and figures are copied to the run; arrays and weights are DVC's (or the registry's) to keep."""
CURVES = {contracts.HISTORY: "", contracts.CRITIC_HISTORY: "critic_"}
"""Files whose columns become step metrics, and the prefix of their names."""
SETTLE_SECONDS = 0.3
SYSTEM_METRICS_SECONDS = 2.0
SAME_PROCESS_S = 5.0
"""When a process began is told from the machine's clock, which may be set meanwhile."""

SESSION_TAG = "huesong.session"
STAGE_TAG = "huesong.stage"
ERROR_TAG = "huesong.error"
PROCESS_TAG = "huesong.process"
"""The process that a run belongs to: host, id, and when it began, since ids come again."""
PARENT_TAG = "mlflow.parentRunId"


class Report(Protocol):
    """What a stage returns: figures, and files worth keeping."""

    @property
    def metrics(self) -> dict[str, float]: ...

    @property
    def files(self) -> list[Path]: ...


def stage_run(
    stage: str,
    settings: BaseModel,
    *,
    experiment: str,
    data: Path | None = None,
    root: Path | None = None,
) -> Run:
    """The context of one stage's MLflow run; call what it yields with the stage's report.

    Args:
        stage: one of contracts.STAGES.
        settings: the whole Params or the stage's own section; logged as parameters.
        experiment: name of the MLflow experiment; made if missing.
        data: raw data folder; the md5 in the `.dvc` file beside it is logged. None: `data` in `root`.
        root: the checkout: its git commit and dvc.lock are logged, and the default store is its `mlflow.db`. None:
            the current folder.

    The environment decides the rest: MLFLOW_TRACKING_URI (the store), MLFLOW_RUN_ID (resume that run),
    HUESONG_SESSION (name of the parent run), HUESONG_TRACKING=off (track nothing).
    """
    root = (root or Path.cwd()).resolve()
    if isinstance(settings, Params):
        settings = getattr(settings, "register_" if stage == "register" else stage)
    parameters = flatten(settings.model_dump(mode="json"))
    return Run(stage, parameters, experiment=experiment, data=data, root=root)


class Run:
    """One stage's run. Usable without MLflow and after a failure: then every method does nothing."""

    def __init__(
        self, stage: str, parameters: Mapping[str, Any], *, experiment: str, data: Path | None, root: Path
    ) -> None:
        self.stage = stage
        self.root = root
        self.uri = store.tracking_uri(root)
        self.run_id: str | None = None
        self.parent_id: str | None = None
        self.tags: dict[str, str] = {}
        self._parameters = parameters
        self._experiment = experiment
        self._data = data if data is not None else root / "data"
        self._client: Any = None
        self._monitor: Any = None
        self._limits = store.http_limits()
        self._metrics: dict[str, float] = {}

    @property
    def active(self) -> bool:
        """Whether figures still go somewhere."""
        return self._client is not None

    @property
    def open_id(self) -> str | None:
        """Id of the run while it is tracked, None before, after and without."""
        return self.run_id if self.active else None

    # --- life -----------------------------------------------------------------------------------

    def __enter__(self) -> Run:
        self._limits.__enter__()
        self.tags = provenance(self.root, self._data)
        if os.environ.get("HUESONG_TRACKING", "").lower() in ("off", "0", "false", "no"):
            log.debug("%s: not tracked (HUESONG_TRACKING)", self.stage)
        elif os.environ.get("RANK", "0") != "0":
            log.debug("%s: tracked by the process of rank 0", self.stage)
        elif not store.installed():
            log.warning("%s: not tracked, MLflow is not installed: pip install 'huesong[registry]'", self.stage)
        else:
            try:
                self._guarded(self._start)
            except BaseException:  # ended while the store was slow: no run stays RUNNING
                self.__exit__(*sys.exc_info())
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "FINISHED" if error is None else "FAILED" if isinstance(error, Exception) else "KILLED"
        self._guarded(lambda: self._finish(status, error))
        self._stop_monitor()
        self._client = None
        self._limits.__exit__(None, None, None)

    def __call__(self, report: Report) -> None:
        """Log the stage's report: figures, learning curves, and its small files as artifacts."""
        self.log_metrics(report.metrics)
        for path in report.files:
            if path.name in CURVES and path.is_file():
                self._guarded(lambda path=path: self._log_curves(path))  # type: ignore[misc]
            self.log_artifact(path)

    # --- logging --------------------------------------------------------------------------------

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log finite numbers by name; nested mappings are flattened with dots, everything else is left out."""
        figures = numbers(metrics)
        if step is None:
            self._metrics |= figures
        self._guarded(lambda: self._log_points([(key, value, step or 0) for key, value in figures.items()]))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a report file to the run; arrays, weights and files above 64 MiB stay where they are."""
        if path.suffix not in ARTIFACT_SUFFIXES or not path.is_file() or path.stat().st_size > ARTIFACT_BYTES:
            return
        self._guarded(lambda: self._client.log_artifact(self.run_id, str(path), folder))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._guarded(lambda: self._log(tags))

    # --- inside ---------------------------------------------------------------------------------

    def _guarded(self, action: Callable[[], object]) -> None:
        """Do `action`; the first failure of the store is one warning and turns tracking off."""
        starting = action == self._start
        if not (self.active or starting):
            return
        try:
            action()
        except store.errors() as error:
            self._client = None
            where, why = store.shown(self.uri), store.one_line(error)
            hint = f"{store.remedy(error)}, or set HUESONG_TRACKING=off to do without"
            log.warning("%s: tracking stopped, the stage goes on. MLflow at %s: %s; %s", self.stage, where, why, hint)

    def _start(self) -> None:
        client = store.connect(self.uri)
        if resumed := os.environ.get("MLFLOW_RUN_ID"):
            self.run_id = resumed
            self.parent_id = client.get_run(resumed).data.tags.get(PARENT_TAG)
            client.update_run(resumed, status="RUNNING")
        else:
            experiment = store.experiment_id(client, self._experiment, self.uri, self.root)
            if key := session_key():
                self.parent_id = find_or_create_parent(client, experiment, key, self.tags)
                client.update_run(self.parent_id, status="RUNNING")
            tags = {
                "mlflow.user": user_name(),
                "mlflow.source.name": f"huesong {self.stage}",
                "mlflow.source.type": "LOCAL",
                PROCESS_TAG: this_process(),
                STAGE_TAG: self.stage,
            }
            end_dead_runs(client, experiment)
            if self.parent_id:
                tags[PARENT_TAG] = self.parent_id
            self.run_id = client.create_run(experiment, tags=tags, run_name=self.stage).info.run_id
        self._client = client
        # Two stages may be given one run: each has its own names in it.
        own = {f"{self.stage}.{key}": value for key, value in self._parameters.items()} if resumed else self._parameters
        self._log({STAGE_TAG: self.stage, **self.tags}, own)
        self._start_monitor()

    def _finish(self, status: str, error: BaseException | None) -> None:
        if error is not None:
            lines = redacted(str(error)).strip().splitlines()
            self._log({ERROR_TAG: f"{type(error).__name__}: {lines[0] if lines else ''}"[:1000]})
        self._stop_monitor()
        self._client.set_terminated(self.run_id, status)
        # A resumed run belongs to whoever made it, and so does its parent.
        if self.parent_id is None or os.environ.get("MLFLOW_RUN_ID"):
            return
        parent = self.parent_id
        given = {f"{self.stage}.{key}": value for key, value in self._parameters.items()}
        self._log({f"{STAGE_TAG}.{self.stage}": status, **self.tags}, given, parent)
        shown = compared(self.stage, self._metrics)
        self._log_points([(key, value, 0) for key, value in shown.items()], run_id=parent)
        settle(self._client, parent)

    def _start_monitor(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitor = SystemMetricsMonitor(
            self.run_id, sampling_interval=SYSTEM_METRICS_SECONDS, tracking_uri=self.uri
        )
        self._monitor.start()

    def _stop_monitor(self) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.finish()

    def _log(self, tags: Mapping[str, str], parameters: Mapping[str, Any] | None = None, run_id: str = "") -> None:
        """Log parameters (a value already logged is never changed: MLflow refuses that) and tags."""
        from mlflow.entities import Param, RunTag

        run_id = run_id or str(self.run_id)
        if parameters:
            known = self._client.get_run(run_id).data.params
            given = {figure_name(key): str(value)[:6000] for key, value in parameters.items()}
            for batch in batches([Param(key, value) for key, value in given.items() if key not in known], 100):
                self._client.log_batch(run_id, params=batch)
        for batch in batches([RunTag(key, value) for key, value in tags.items()], 100):
            self._client.log_batch(run_id, tags=batch)

    def _log_points(self, points: Sequence[tuple[str, float, int]], run_id: str | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for batch in batches([Metric(figure_name(key), value, now, step) for key, value, step in points], 1000):
            self._client.log_batch(run_id or self.run_id, metrics=batch)

    def _log_curves(self, path: Path) -> None:
        self._log_points(list(curve_points(path, CURVES[path.name])))


def settle(client: Any, parent: str) -> None:
    """End a parent run as its stages ended: the first that did not finish says how."""
    tags = client.get_run(parent).data.tags
    stages = [tags.get(f"{STAGE_TAG}.{stage}", "FINISHED") for stage in contracts.STAGES]
    client.set_terminated(parent, next((s for s in stages if s != "FINISHED"), "FINISHED"))


def this_process() -> str:
    """Host, process id, and when the process began, in seconds."""
    import psutil

    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"


def end_dead_runs(client: Any, experiment: str) -> list[str]:
    """End as KILLED the runs of this machine that still stand as RUNNING though their process is gone.

    A process that is killed cannot say so itself: the next stage does.

    Returns:
        The ids of those runs.
    """
    import psutil

    ended = []
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        host, _, rest = run.data.tags.get(PROCESS_TAG, "").partition(" ")
        if host != socket.gethostname():
            continue
        pid, began = (int(word) for word in rest.split())
        with contextlib.suppress(psutil.NoSuchProcess):
            if abs(psutil.Process(pid).create_time() - began) < SAME_PROCESS_S:
                continue
        _end_as_killed(client, run)
        if parent := run.data.tags.get(PARENT_TAG):
            settle(client, parent)
        ended.append(run.info.run_id)
    return ended


def _end_as_killed(client: Any, run: Any) -> str:
    """Say that a run's stage did not come to its end, in its run and in its parent's; returns the stage."""
    stage, parent = run.data.tags.get(STAGE_TAG, ""), run.data.tags.get(PARENT_TAG)
    client.set_tag(run.info.run_id, ERROR_TAG, "the stage did not come to its end")
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
                    left.append(_end_as_killed(client, run))
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
