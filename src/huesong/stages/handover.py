"""Between a stage and the engine that runs it as a container: settings in, typed artifacts out.

Knows no engine: an artifact is whatever has a `path` (where its file or folder goes) and `metadata` (what is shown of
it). The Kubeflow components in `components/` are five lines around this.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import ValidationError

from huesong import artifacts, contracts, progress
from huesong.config import Params, describe
from huesong.datasets.tables import read_table
from huesong.emotion.space import QUADRANT_NAMES
from huesong.errors import UserError
from huesong.registry import store
from huesong.registry.card import figures, table
from huesong.registry.figures import numbers
from huesong.registry.gate import number
from huesong.registry.provenance import DATA_DIGEST, GIT_SHA, session_key
from huesong.registry.tracking import Report, Run, end_orphaned_runs, stage_run
from huesong.signals import unwind_on_sigterm

PARAMETERS = Path("params")
"""Stands for a file name in the messages about settings that came as a parameter."""
LINEAGE = "data_digest"
"""Key under which every artifact's metadata names the data version it was made from."""
COUNTS = {
    "preprocess": ("pictures.kept", "pieces.kept", "segments.kept", "tokens.count"),
    "label": ("pairs", "images_n", "pieces_n"),
    "train": ("parameters", "steps", "tokens_seen"),
    "evaluate": ("pieces", "n"),
    "register": ("version",),
}
"""Figures that also stand in the artifact's metadata."""


class Artifact(Protocol):
    """What an engine hands a component for an input or an output."""

    path: str
    metadata: dict[str, Any]


class Confusion(Artifact, Protocol):
    """An artifact that shows a confusion matrix."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None: ...


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
    try:
        checked = Params.model_validate(dict(params))
    except ValidationError as error:
        raise UserError(describe(error, PARAMETERS)) from error
    whole = checked.model_dump(mode="json", by_alias=True)
    return [whole[stage] for stage in contracts.STAGES]


def section(stage: str, params: Mapping[str, Any]) -> Any:
    """The typed settings of one stage from its section.

    Raises:
        UserError: an unknown key or a bad value.
    """
    try:
        settings = Params.model_validate({stage: dict(params)})
    except ValidationError as error:
        raise UserError(describe(error, PARAMETERS)) from error
    return getattr(settings, "register_" if stage == "register" else stage)


def lineage(source: Artifact) -> str:
    """The data version that an artifact was made from; empty where it is not known."""
    return str(source.metadata.get(LINEAGE, ""))


@contextmanager
def tracked(
    stage: str, params: Mapping[str, Any], tracking: Mapping[str, str], source: Artifact, git_sha: str = ""
) -> Iterator[tuple[Any, Run]]:
    """The typed settings of `stage` and its MLflow run, whose tags name data version and commit.

    Args:
        stage: one of contracts.STAGES.
        params: its section.
        tracking: `uri` of the MLflow store (empty: MLFLOW_TRACKING_URI of the pod) and `experiment`.
        source: any input artifact; its metadata names the data version.
        git_sha: the commit, where it is known.

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
        store.environment("MLFLOW_TRACKING_URI", uri),
        stage_run(stage, settings, experiment=tracking["experiment"], root=Path(root)) as run,
    ):
        run.tags |= {key: value for key, value in tags.items() if value}
        run.set_tags(run.tags)
        yield settings, run


def kept(checkpoints: Path, remote: str, source: Artifact) -> AbstractContextManager[None]:
    """Mirror the checkpoints under the data version in object storage, where there is one.

    One process does it: of those that train together only the first writes.
    """
    if not remote.startswith("s3://") or os.environ.get("RANK", "0") != "0":
        return nullcontext()
    from huesong.storage.mirror import mirrored

    return mirrored(checkpoints, f"{remote.rstrip('/')}/checkpoints/{source.metadata.get(LINEAGE, 'unknown')}")


def hand_over(
    run: Run,
    report: Report,
    out: Artifact,
    metrics: Artifact,
    summary: Artifact,
    page: Artifact | None = None,
    quadrants: Confusion | None = None,
) -> None:
    """Log the stage's report to its run, and describe its folder to the engine.

    Args:
        run: the stage's run (`tracked`).
        report: what the stage returned.
        out: the folder the stage wrote.
        metrics, summary, page, quadrants: artifacts for all figures, a table of them, the stage's own HTML page, and
            the confusion of the quadrants asked for and heard.
    """
    run(report)
    found = numbers(report.metrics)
    counts = {key: found[key] for key in COUNTS[run.stage] if key in found}
    describe_folder(out, run.tags.get(DATA_DIGEST, ""), {"stage": run.stage, **counts})
    metrics.metadata.update(found)
    artifacts.write_json(Path(metrics.path), found)
    write(summary, markdown(run.stage, report, Path(out.path)))
    if page is not None:
        html = next(path for path in report.files if path.suffix == ".html")
        shutil.copyfile(html, page.path)
    if quadrants is not None:
        matrix = confusion(found)
        quadrants.log_confusion_matrix(list(QUADRANT_NAMES.values()), matrix)
        write(quadrants, json.dumps(matrix) + "\n")


def describe_folder(out: Artifact, data_digest: str, extra: Mapping[str, Any]) -> None:
    """Write digest, data version and counts of a folder into its artifact's metadata."""
    files = [path for path in Path(out.path).rglob("*") if path.is_file()]
    out.metadata.update(
        {
            "digest": artifacts.folder_digest(Path(out.path)),
            LINEAGE: data_digest,
            "files": len(files),
            "bytes": sum(path.stat().st_size for path in files),
            **extra,
        }
    )


def confusion(found: Mapping[str, float]) -> list[list[int]]:
    """Quadrants asked for (rows) and heard (columns): counts of the pieces for test pictures."""
    return [[int(found.get(f"confusion_{asked}_{heard}", 0)) for heard in QUADRANT_NAMES] for asked in QUADRANT_NAMES]


def markdown(stage: str, report: Report, out: Path) -> str:
    """The stage's summary: the model card where it wrote one, else a table of its figures."""
    card = out / "README.md"
    if card.is_file():
        return card.read_text(encoding="utf-8")
    found = numbers(report.metrics)
    intervals = {key for key in found if key.endswith(("_low", "_high"))}
    shown = {key: value for key, value in found.items() if key not in intervals and "confusion" not in key}
    body = (
        figures(found, {key: key for key in shown})
        if intervals
        else table(("figure", "value"), [(key, number(value)) for key, value in shown.items()])
    )
    return f"# {stage}\n\n{body}\n"


def write(artifact: Artifact, text: str) -> None:
    """Write a text artifact."""
    Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
    Path(artifact.path).write_text(text, encoding="utf-8")


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


def registered(model: str, tracking: Mapping[str, str]) -> Path:
    """The model folder of a registry URI.

    Raises:
        UserError: no registry, no such version, or its files are gone.
    """
    from huesong.registry.models import resolve_model

    return resolve_model(model, tracking_uri=tracking.get("uri") or None, root=Path(tempfile.gettempdir()))


def end_orphans(tracking_uri: str) -> list[str]:
    """End the MLflow runs that stages of this pipeline run left behind, such as that of an evicted pod.

    Only for the exit handler, which runs when no stage does any more. A store that does not answer is a warning.

    Args:
        tracking_uri: the MLflow store; empty: MLFLOW_TRACKING_URI.

    Returns:
        The stages they belong to.
    """
    uri, key = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"), session_key()
    if not uri or not key:
        return []
    try:
        return end_orphaned_runs(uri, key)
    except store.errors() as error:
        progress.log.warning(
            "MLflow at %s: %s; runs may still stand as RUNNING", store.shown(uri), store.one_line(error)
        )
        return []


def outcome(status: Any, data_digest: str, git_sha: str, left: Sequence[str] = ()) -> str:
    """How a pipeline run ended, as Markdown; also one log line, at error level unless it succeeded.

    Args:
        status: the engine's final status: `state`, `pipeline_job_resource_name`, `error_message`.
        data_digest, git_sha: what the run was made from.
        left: stages that did not come to their end (`end_orphans`).
    """
    state, message = str(status.state), str(status.error_message or "")
    log = progress.log.info if state == "SUCCEEDED" else progress.log.error
    log("pipeline %s: %s %s", status.pipeline_job_resource_name, state, message)
    rows = [("state", state), ("run", status.pipeline_job_resource_name), ("data", data_digest), ("commit", git_sha)]
    rows += [("did not come to its end", stage) for stage in left]
    return f"# {state}\n\n{table(('', ''), rows)}\n\n{message}\n"
