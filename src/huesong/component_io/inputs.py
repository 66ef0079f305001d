"""What a component does first: settings in, a tracked run, paths of its inputs.

Knows no engine: an artifact is whatever has a `path` (where its file or folder goes) and `metadata` (what is shown of
it). The Kubeflow components in `components/` are a few lines around this and `outputs`.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import ValidationError

from huesong import contracts
from huesong.config import Params, describe
from huesong.data.tables import read_table
from huesong.runtime import progress
from huesong.runtime.errors import UserError
from huesong.runtime.signals import unwind_on_sigterm
from huesong.tracking import store
from huesong.tracking.provenance import DATA_DIGEST, GIT_SHA
from huesong.tracking.runs import Run, stage_run

PARAMETERS = Path("params")
"""Stands for a file name in the messages about settings that came as a parameter."""
LINEAGE = "data_digest"
"""Key under which every artifact's metadata names the data version it was made from."""


class Artifact(Protocol):
    """What an engine hands a component for an input or an output."""

    path: str
    metadata: dict[str, Any]


def started() -> None:
    """What a component does first: log lines go to standard error, and an evicted pod's stage unwinds."""
    progress.configure()
    unwind_on_sigterm()


def sections(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The checked settings of every stage with all defaults filled in, in the order of contracts.STAGES.

    A stage is given its own section only: changing the training does not make the cache forget the preprocessing.

    Raises:
        UserError: an unknown stage or key, or a bad value.
    """
    whole = _checked(params).model_dump(mode="json", by_alias=True)
    return [whole[stage] for stage in contracts.STAGES]


def section(stage: str, params: Mapping[str, Any]) -> Any:
    """The typed settings of one stage from its section.

    Raises:
        UserError: an unknown key or a bad value.
    """
    return getattr(_checked({stage: dict(params)}), "register_" if stage == "register" else stage)


def _checked(params: Mapping[str, Any]) -> Params:
    try:
        return Params.model_validate(dict(params))
    except ValidationError as error:
        raise UserError(describe(error, PARAMETERS)) from error


def cache_period(days: int, now_s: float | None = None) -> str:
    """What the cache depends on beside the data: another text every so many days, the same for ever with 0.

    An engine takes a task from its cache without a look at whether what the task wrote is still there. So that storage may
    let artifacts expire, no task is taken from the cache for longer than this.

    Args:
        days: length of a period.
        now_s: seconds since 1970; None: now.

    Raises:
        UserError: fewer than 0 days.
    """
    if days < 0:
        raise UserError(f"cache_days is {days}: give the days after which all is made anew, or 0 for never")
    return f"{days} days, {int((time.time() if now_s is None else now_s) // (days * 86400))}" if days else ""


def lineage(source: Artifact) -> str:
    """The data version that an artifact was made from; empty where it is not known."""
    return str(source.metadata.get(LINEAGE, ""))


@contextmanager
def tracked(
    stage: str,
    params: Mapping[str, Any],
    tracking: Mapping[str, str],
    source: Artifact,
    git_sha: str = "",
    reads: Artifact | None = None,
) -> Iterator[tuple[Any, Run]]:
    """The typed settings of `stage` and its MLflow run, whose tags name data version and commit.

    Args:
        stage: one of contracts.STAGES.
        params: its section.
        tracking: `uri` of the MLflow store (empty: MLFLOW_TRACKING_URI of the pod) and `experiment`.
        source: any input artifact; its metadata names the data version.
        git_sha: the commit, where it is known.
        reads: artifacts/preprocess, whose tables are the stage's data.

    Raises:
        UserError: bad settings, or no store.
    """
    started()
    settings = section(stage, params)
    uri = tracking.get("uri") or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise UserError("no MLflow store: give the pipeline a tracking_uri, or set MLFLOW_TRACKING_URI in its secret")
    tags = {DATA_DIGEST: lineage(source), GIT_SHA: git_sha}
    # A pod has no checkout: an empty root keeps git and dvc.lock of the folder it runs in out of the tags.
    with (
        tempfile.TemporaryDirectory() as root,
        store.environment(MLFLOW_TRACKING_URI=uri),
        stage_run(stage, settings, experiment=tracking["experiment"], root=Path(root), spools=False) as run,
    ):
        run.tags |= {key: value for key, value in tags.items() if value}
        run.set_tags(run.tags)
        if reads is not None:
            run.log_data(Path(reads.path))
        yield settings, run


def kept(checkpoints: Path, remote: str, source: Artifact) -> AbstractContextManager[None]:
    """Mirror the checkpoints under the data version in object storage, where there is one.

    One process does it: of those that train together only the first writes.
    """
    if not remote.startswith("s3://") or os.environ.get("RANK", "0") != "0":
        return nullcontext()
    from huesong.component_io.mirror import mirrored

    return mirrored(checkpoints, f"{remote.rstrip('/')}/checkpoints/{source.metadata.get(LINEAGE, 'unknown')}")


def gate_file(gate: Mapping[str, Any]) -> Path:
    """The promotion gate as the file that the register stage reads."""
    path = Path(tempfile.mkdtemp(prefix="gate-")) / "gate.yaml"
    path.write_text(yaml.safe_dump(dict(gate)), encoding="utf-8")
    return path


def first_picture(data: Path) -> Path:
    """The first picture of a raw data folder.

    Raises:
        UserError: it lists none.
    """
    images = read_table(data, contracts.IMAGES_CSV)
    if images.empty:
        raise UserError(f"{data / contracts.IMAGES_CSV} lists no picture")
    return data / str(images["path"].iloc[0])


def registry(name: str, tracking: Mapping[str, str]) -> Any:
    """The registry of a model.

    Raises:
        UserError: none is there, or it does not answer.
    """
    from huesong.register.registry import Registry

    return Registry(name, uri=tracking.get("uri") or None, root=Path(tempfile.gettempdir()))


def registered(model: str, tracking: Mapping[str, str]) -> tuple[Path, str]:
    """The model folder of a registry URI, and what to call it.

    Raises:
        UserError: no registry, no such version, or its files are gone.
    """
    from huesong.register.registry import resolve_model

    return resolve_model(model, tracking_uri=tracking.get("uri") or None, root=Path(tempfile.gettempdir())), model
