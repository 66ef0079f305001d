"""MLflow runs: one a stage, and one parent for all stages of a `dvc repro`.

A lost or slow tracking server never costs a stage its result: the first failure is one warning, then all that is logged
is kept beside the artifacts (records.Spool) until a command reaches the server. Everything goes through `MlflowClient`;
MLflow's process-wide active run is left alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from huesong import contracts
from huesong.config import Params
from huesong.runtime.errors import redacted
from huesong.runtime.progress import log
from huesong.tracking import store
from huesong.tracking.datasets import datasets
from huesong.tracking.figures import compared, curve_points, flatten, numbers
from huesong.tracking.provenance import DATA_DIGEST, provenance, session_key
from huesong.tracking.records import FOLDER, SPOOL_VARIABLE, Spool, Target, carry_out, place_of, replay, spool_folder
from huesong.tracking.sessions import (
    ERROR_TAG,
    RECORD_TAG,
    STAGE_TAG,
    begin_run,
    end_dead_runs,
    find_or_create_parent,
    this_process,
)
from huesong.tracking.system import Monitor

ARTIFACT_SUFFIXES = (".csv", ".html", ".json", ".md", ".png", ".svg", ".txt", ".yaml")
PIECE_SUFFIXES = (".jpg", ".mid", ".mp3", ".png")
ARTIFACT_BYTES = 64 * 2**20
"""Reports and figures are copied to the run; arrays and weights are DVC's (or the registry's) to keep."""
CURVES = {contracts.HISTORY: "", contracts.CRITIC_HISTORY: "critic_"}
"""Files whose columns become step metrics, and the prefix of their names."""


class Report(Protocol):
    """What a stage returns: figures, and files worth keeping."""

    @property
    def metrics(self) -> dict[str, float]: ...

    @property
    def files(self) -> list[Path]: ...


@runtime_checkable
class Heard(Protocol):
    """A report of a stage that composed: a few of its pieces."""

    def pieces(self, folder: Path) -> list[str]:
        """Write `piece-1` and so on as files of PIECE_SUFFIXES into a folder; their titles."""


def stage_run(
    stage: str,
    settings: BaseModel,
    *,
    experiment: str,
    data: Path | None = None,
    root: Path | None = None,
    spools: bool = True,
) -> Run:
    """The context of one stage's MLflow run; call what it yields with the stage's report.

    Args:
        stage: one of contracts.STAGES.
        settings: the whole Params or the stage's own section; logged as parameters.
        experiment: name of the MLflow experiment; made if missing.
        data: raw data folder; the md5 in the `.dvc` file beside it is logged. None: `data` in `root`.
        root: the checkout: its git commit and dvc.lock are logged, and the default store is its `mlflow.db`. None:
            the current folder.
        spools: whether what a store does not take is kept in the checkout; else only where HUESONG_SPOOL names a folder.

    The environment decides the rest: MLFLOW_TRACKING_URI (the store), MLFLOW_RUN_ID (resume that run),
    HUESONG_SESSION (name of the parent run), HUESONG_SPOOL (see above), HUESONG_TRACKING=off (track nothing).
    """
    root = (root or Path.cwd()).resolve()
    if isinstance(settings, Params):
        settings = getattr(settings, "register_" if stage == "register" else stage)
    parameters = flatten(settings.model_dump(mode="json"))
    keeps = spools or bool(os.environ.get(SPOOL_VARIABLE))
    return Run(stage, parameters, experiment=experiment, data=data, root=root, keeps=keeps)


class Run:
    """One stage's run. Usable without MLflow and after a failure: then every method does nothing."""

    def __init__(
        self, stage: str, parameters: Mapping[str, Any], *, experiment: str, data: Path | None, root: Path, keeps: bool
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
        self._keeps = keeps
        self._id = uuid.uuid4().hex
        self._began = _now()
        self._target: Target | None = None
        self._spool: Spool | None = None
        self._monitor: Monitor | None = None
        self._limits = store.http_limits()
        self._metrics: dict[str, float] = {}
        self._lock = threading.RLock()

    @property
    def active(self) -> bool:
        """Whether the store takes what is logged."""
        return self._target is not None

    @property
    def _logs(self) -> bool:
        """Whether what is logged goes anywhere: to the store, or into a file until it is back."""
        return self._target is not None or self._spool is not None

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
                self._begin()
            except BaseException:  # ended while the store was slow: no run stays RUNNING
                self.__exit__(*sys.exc_info())
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "FINISHED" if error is None else "FAILED" if isinstance(error, Exception) else "KILLED"
        self._stop_monitor()
        self._finish(status, error)
        self._target = None
        self._hand_over()
        self._limits.__exit__(None, None, None)

    def __call__(self, report: Report) -> None:
        """Log the stage's report: figures, learning curves, its small files, and a few of its pieces."""
        self.log_metrics(report.metrics)
        for path in report.files:
            if path.name in CURVES and path.is_file():
                self._log_points(list(curve_points(path, CURVES[path.name])))
            self.log_artifact(path)
        if isinstance(report, Heard) and self._logs:
            with tempfile.TemporaryDirectory() as folder:
                titles = report.pieces(Path(folder))
                for path in sorted(Path(folder).iterdir()):
                    self._log_file(path, PIECE_SUFFIXES, FOLDER)
            self._log("pieces", titles=titles)
            self._log("pieces", parent=True, titles=titles)

    # --- logging --------------------------------------------------------------------------------

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log finite numbers by name; nested mappings are flattened with dots, everything else is left out."""
        figures = numbers(metrics)
        if step is None:
            self._metrics |= figures
        self._log_points([(key, value, step or 0) for key, value in figures.items()])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a report file to the run; arrays, weights and files above 64 MiB stay where they are."""
        self._log_file(path, ARTIFACT_SUFFIXES, folder)

    def log_data(self, preprocess: Path) -> None:
        """Log the data that the stage reads, by the tables of artifacts/preprocess, to the run and its parent."""
        if not self._logs:
            return
        try:
            sets = datasets(self.stage, preprocess, self.tags.get(DATA_DIGEST, ""))
        except (ImportError, OSError, ValueError) as error:  # the stage itself tells what is wrong with a table
            log.debug("%s: its data are not tracked: %s", self.stage, error)
            return
        self._log("data", sets=sets)
        self._log("data", parent=True, sets=sets)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._log("tags", tags=dict(tags))

    # --- inside ---------------------------------------------------------------------------------

    def _log(self, do: str, *, parent: bool = False, **given: Any) -> None:
        """Do what a record says; the first failure of the store is one warning, and from then on records are kept."""
        record = {"do": do, "parent": parent, **given}
        with self._lock:
            if self._target is not None:
                try:
                    return carry_out(self._target, record)
                except store.errors() as error:
                    self._lose(error)
            if self._spool is not None:
                try:
                    self._spool.keep(record)
                except OSError as error:
                    log.warning("%s: what it logs is kept no more: %s", self.stage, error)
                    self._spool = None

    def _lose(self, error: BaseException) -> None:
        """The store does not answer, or refuses: say so, and begin a spool."""
        self._target = None
        where, why = store.shown(self.uri), store.one_line(error)
        hint = f"{store.remedy(error)}, or set HUESONG_TRACKING=off to do without"
        if self._keeps:
            with contextlib.suppress(OSError):
                self._spool = self._new_spool()
                hint = f"what it logs is kept in {self._spool.path} for the next command that reaches it; {hint}"
        log.warning("%s: tracking stopped, the stage goes on. MLflow at %s: %s; %s", self.stage, where, why, hint)

    def _new_spool(self) -> Spool:
        folder = spool_folder(self.root)
        return Spool(folder, {
            "do": "begin", "id": self._id, "uri": place_of(self.uri, folder), "experiment": self._experiment, "stage": self.stage,
            "session": session_key(), "tags": self.tags, "process": this_process(), "at": self._began,
            "run_id": self.run_id or os.environ.get("MLFLOW_RUN_ID"), "parent_id": self.run_id and self.parent_id,
        })  # fmt: skip

    def _hand_over(self) -> None:
        """The store may be back."""
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()
            with contextlib.suppress(*store.errors()):
                replay(store.connect(self.uri), self.uri, self.root)

    def _begin(self) -> None:
        try:
            self._open()
        except store.errors() as error:
            self._lose(error)
        # Two stages may be given one run: each has its own names in it.
        resumed = os.environ.get("MLFLOW_RUN_ID")
        own = {f"{self.stage}.{key}": value for key, value in self._parameters.items()} if resumed else self._parameters
        self._log("tags", tags={STAGE_TAG: self.stage, **self.tags})
        self._log("params", params=dict(own))
        self._start_monitor()

    def _open(self) -> None:
        """Find or make the run, and its parent."""
        client = store.connect(self.uri)
        if resumed := os.environ.get("MLFLOW_RUN_ID"):
            client.get_run(resumed)
            client.update_run(resumed, status="RUNNING")
            self.run_id = resumed
            self._target = Target(client, resumed)  # its parent belongs to whoever made it
            return
        replay(client, self.uri, self.root)
        experiment = store.experiment_id(client, self._experiment, self.uri, self.root)
        if key := session_key():
            self.parent_id = find_or_create_parent(client, experiment, key, self.tags)
            client.update_run(self.parent_id, status="RUNNING")
        end_dead_runs(client, experiment)
        self.run_id = begin_run(client, experiment, self.stage, self.parent_id, {RECORD_TAG: self._id})
        self._target = Target(client, self.run_id, self.parent_id)

    def _finish(self, status: str, error: BaseException | None) -> None:
        if error is not None:
            lines = redacted(str(error)).strip().splitlines()
            self._log("tags", tags={ERROR_TAG: f"{type(error).__name__}: {lines[0] if lines else ''}"[:1000]})
        self._log("note")
        self._log("end", status=status, at=_now())
        self._log("tags", parent=True, tags={f"{STAGE_TAG}.{self.stage}": status, **self.tags})
        given = {f"{self.stage}.{key}": value for key, value in self._parameters.items()}
        self._log("params", parent=True, params=given)
        shown = compared(self.stage, self._metrics)
        self._log_points([(key, value, 0) for key, value in shown.items()], parent=True)
        self._log("note", parent=True)
        self._log("settle", parent=True)

    def _start_monitor(self) -> None:
        if self._logs:
            self._monitor = Monitor(
                lambda values, step: self._log_points([(key, value, step) for key, value in values.items()])
            )

    def _stop_monitor(self) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.finish()

    def _log_points(self, points: list[tuple[str, float, int]], *, parent: bool = False) -> None:
        if points:
            self._log("points", parent=parent, points=points, at=_now())

    def _log_file(self, path: Path, suffixes: Sequence[str], folder: str | None) -> None:
        if path.suffix in suffixes and path.is_file() and path.stat().st_size <= ARTIFACT_BYTES:
            self._log("file", path=str(path), folder=folder)


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
