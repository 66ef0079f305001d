"""What a component does last: typed artifacts out, and how a whole run ended."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from huesong import contracts
from huesong.component_io.inputs import LINEAGE, Artifact
from huesong.register.life.hooks import tell_of_failure
from huesong.report.tables import measured, table
from huesong.runtime import files as artifacts
from huesong.runtime import progress
from huesong.tracking import store
from huesong.tracking.figures import compared, numbers
from huesong.tracking.provenance import DATA_DIGEST, session_key
from huesong.tracking.runs import Report, Run
from huesong.tracking.sessions import end_orphaned_runs
from huesong.va import QUADRANT_NAMES

COUNTS = {
    "preprocess": ("pictures.kept", "pieces.kept", "segments.kept", "tokens.count"),
    "label": ("pairs", "images_n", "pieces_n"),
    "train": ("parameters", "steps", "tokens_seen"),
    "evaluate": ("pieces", "n"),
    "register": ("version",),
}
"""Figures that also stand in the artifact's metadata."""


class Confusion(Artifact, Protocol):
    """An artifact that shows a confusion matrix."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None: ...


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
        metrics, summary, page, quadrants: artifacts for the figures that people compare, a table of all, the stage's
            own HTML page, and the confusion of the quadrants asked for and heard.
    """
    run(report)
    found = numbers(report.metrics)
    counts = {key: found[key] for key in COUNTS[run.stage] if key in found}
    describe_folder(out, run.tags.get(DATA_DIGEST, ""), {"stage": run.stage, **counts})
    shown = compared(run.stage, found) or found
    metrics.metadata.update(shown)
    artifacts.write_json(Path(metrics.path), shown)
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
    card = out / contracts.MODEL_CARD
    if card.is_file():
        return card.read_text(encoding="utf-8")
    found = numbers(report.metrics)
    intervals = {key for key in found if key.endswith(("_low", "_high"))}
    shown = {key: key for key in found if key not in intervals and "confusion" not in key}
    return f"# {stage}\n\n{measured(found, shown)}\n"


def write(artifact: Artifact, text: str) -> None:
    """Write a text artifact."""
    Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
    Path(artifact.path).write_text(text, encoding="utf-8")


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
    """How a pipeline run ended, as Markdown; also one log line, at error level unless it succeeded, and then a hook is told.

    Args:
        status: the engine's final status: `state`, `pipeline_job_resource_name`, `error_message`.
        data_digest, git_sha: what the run was made from.
        left: stages that did not come to their end (`end_orphans`).
    """
    state, message = str(status.state), str(status.error_message or "")
    log = progress.log.info if state == "SUCCEEDED" else progress.log.error
    log("pipeline %s: %s %s", status.pipeline_job_resource_name, state, message)
    if state != "SUCCEEDED":
        tell_of_failure(f"pipeline run {status.pipeline_job_resource_name}", message or state)
    rows = [("state", state), ("run", status.pipeline_job_resource_name), ("data", data_digest), ("commit", git_sha)]
    rows += [("did not come to its end", stage) for stage in left]
    return f"# {state}\n\n{table(('', ''), rows)}\n\n{message}\n"
