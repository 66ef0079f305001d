"""What a stage logs, as records: plain values that say what is to be done to its run, and to the run's parent.

While the store does not answer they are kept in a file (`Spool`), which the next command that reaches the store hands over
(`replay`). A record is done again without harm, so a replay that is killed is begun anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from huesong.runtime.progress import log
from huesong.tracking import store
from huesong.tracking.datasets import dataset_input
from huesong.tracking.figures import batches, compared, figure_name
from huesong.tracking.provenance import DATA_DIGEST, GIT_SHA, VERSION
from huesong.tracking.sessions import (
    PROCESS_TAG,
    RECORD_TAG,
    SESSION_TAG,
    STAGE_TAG,
    begin_run,
    end_as_killed,
    find_or_create_parent,
    settle,
)

Record = dict[str, Any]
"""`do` names one of DEEDS; with `parent` it is done to the parent run; the rest is what that function takes."""
PIECES_TAG = "huesong.pieces"
"""JSON: the run that keeps the pieces that a note shows, and their titles."""
NOTE_TAG = "mlflow.note.content"
NOTE_HEAD = "### huesong"
"""How the notes begin that are written here."""
MADE_FROM = {"version": VERSION, "data": DATA_DIGEST, "commit": GIT_SHA}
SPOOL_VARIABLE = "HUESONG_SPOOL"
"""Environment variable: the folder in which records wait for a store."""
SPOOLED = ".jsonl"
FOLDER = "pieces"
"""Of artifacts: a few pieces, each as `piece-<number>` with several suffixes."""

TITLES: Final[Mapping[str, str]] = {
    "v_ccc": "valence: asked for and heard, concordance", "a_ccc": "arousal: asked for and heard, concordance",
    "grid_v": "valence, on a grid of 25 emotions", "grid_a": "arousal, on that grid",
    "distance": "distance of the music to the data (lower is better)", "c2st": "told apart from real music (.5 = not at all)",
    "val_ce": "cross-entropy of validation music, nats a token", "steps": "steps of training",
    "image_ccc": "picture labeller and people, concordance", "music_ccc": "music labeller and people, concordance",
    "images": "pictures", "pieces": "pieces of music",
}  # fmt: skip
"""The figures of COMPARED in words, those first that say most."""


@dataclass
class Target:
    """A stage's run in a store; `parent_id` None where it has no parent, or another one's to keep."""

    client: Any
    run_id: str
    parent_id: str | None = None


def carry_out(target: Target, record: Record) -> None:
    """Do what a record says. Doing it twice is doing it once.

    Raises:
        one of `store.errors()`: the store does not take it.
    """
    given = {key: value for key, value in record.items() if key not in ("do", "parent")}
    run_id = target.parent_id if record.get("parent") else target.run_id
    if run_id is not None:
        DEEDS[record["do"]](target, run_id, **given)


def set_tags(target: Target, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags."""
    from mlflow.entities import RunTag

    for batch in batches([RunTag(key, value) for key, value in tags.items()], 100):
        target.client.log_batch(run_id, tags=batch)


def set_params(target: Target, run_id: str, params: Mapping[str, Any]) -> None:
    """Log parameters; a value already logged is never changed, since MLflow refuses that."""
    from mlflow.entities import Param

    known = target.client.get_run(run_id).data.params
    values = {figure_name(key): str(value)[:6000] for key, value in params.items()}
    for batch in batches([Param(key, value) for key, value in values.items() if key not in known], 100):
        target.client.log_batch(run_id, params=batch)


def log_points(target: Target, run_id: str, points: Sequence[tuple[str, float, int]], at: int) -> None:
    """Log metrics as (name, value, step); `at`: the moment, in milliseconds since 1970, by which MLflow knows one again."""
    from mlflow.entities import Metric

    metrics = [Metric(figure_name(key), value, at, step) for key, value, step in points]
    for batch in batches(metrics, 1000):
        target.client.log_batch(run_id, metrics=batch)


def log_data(target: Target, run_id: str, sets: Sequence[Mapping[str, str]]) -> None:
    """Log data sets as inputs."""
    target.client.log_inputs(run_id, datasets=[dataset_input(one) for one in sets])


def log_file(target: Target, run_id: str, path: str, folder: str | None) -> None:
    """Copy a file to the run's artifacts."""
    target.client.log_artifact(run_id, path, folder)


def show_pieces(target: Target, run_id: str, titles: Sequence[str]) -> None:
    """Say where the pieces are that the run's note shows."""
    target.client.set_tag(run_id, PIECES_TAG, json.dumps({"run": target.run_id, "titles": list(titles)}))


def write_note(target: Target, run_id: str) -> None:
    """Describe a run on its page: headline figures and pieces. What somebody else wrote there stays."""
    found = target.client.get_run(run_id)
    before = found.data.tags.get(NOTE_TAG, "")
    pieces = json.loads(found.data.tags.get(PIECES_TAG, "{}"))
    figures = found.data.metrics
    if SESSION_TAG not in found.data.tags:  # a stage's run has its figures under their long names
        figures = compared(found.data.tags.get(STAGE_TAG, ""), figures)
    text = note(found.data.tags, figures, pieces)
    if text and (not before or before.startswith(NOTE_HEAD)):
        target.client.set_tag(run_id, NOTE_TAG, text)


def end(target: Target, run_id: str, status: str, at: int) -> None:
    """End a run; `at` in milliseconds since 1970."""
    target.client.set_terminated(run_id, status, end_time=at)


def settle_parent(target: Target, run_id: str) -> None:
    """End the parent run as its stages ended."""
    settle(target.client, run_id)


DEEDS: Final[Mapping[str, Callable[..., None]]] = {
    "tags": set_tags, "params": set_params, "points": log_points, "data": log_data, "file": log_file,
    "pieces": show_pieces, "note": write_note, "end": end, "settle": settle_parent,
}  # fmt: skip


def note(tags: Mapping[str, str], metrics: Mapping[str, float], pieces: Mapping[str, Any]) -> str:
    """What the page of a run says of it, as Markdown; empty where there is nothing to say.

    Args:
        tags, metrics: the run's.
        pieces: `run`, whose artifacts hold the pieces, and their `titles`; empty: none.
    """
    shown = [(title, metrics[name]) for name, title in TITLES.items() if name in metrics]
    if not shown and not pieces:
        return ""
    made = ", ".join(f"{name} {tags[tag][:12]}" for name, tag in MADE_FROM.items() if tag in tags)
    lines = [f"{NOTE_HEAD}{f': {made}' if made else ''}", ""]
    if shown:
        lines += ["| figure | value |", "| --- | --- |", *(f"| {title} | {value:g} |" for title, value in shown), ""]
    for number, title in enumerate(pieces.get("titles", []), 1):
        link = f"get-artifact?run_uuid={pieces['run']}&path={FOLDER}/piece-{number}"
        lines += [f"**{title}**", "", f"![picture]({link}.jpg)", f"![piano roll]({link}.png)", ""]
        lines += [f"[listen (MP3)]({link}.mp3), [MIDI]({link}.mid)", ""]
    return "\n".join(lines)


# --- while the store does not answer ---------------------------------------------------------------


class Spool:
    """The records of one run that the store did not take, a line each, and copies of the files that they name.

    The file is locked as long as records may still come.
    """

    def __init__(self, folder: Path, begin: Record) -> None:
        """Begin a file in `folder`; `begin` says what run the records are of (`_begun`).

        Raises:
            OSError: the folder cannot be written.
        """
        import fcntl

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{begin['id']}{SPOOLED}"
        self._stream = self.path.open("a", encoding="utf-8")
        fcntl.flock(self._stream, fcntl.LOCK_EX)
        self._files = 0
        self.keep(begin)

    def keep(self, record: Record) -> None:
        """Add a record; its file, if it names one, is copied."""
        if record["do"] == "file":
            self._files += 1
            copy = self.path.with_suffix("") / str(self._files) / Path(record["path"]).name
            copy.parent.mkdir(parents=True)
            shutil.copyfile(record["path"], copy)
            record = {**record, "path": str(copy.relative_to(self.path.parent))}
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """No more records come."""
        self._stream.close()


def spool_folder(root: Path) -> Path:
    """Where records of a checkout are kept: HUESONG_SPOOL, else beside its artifacts."""
    return Path(os.environ.get(SPOOL_VARIABLE) or store.checkout_of(root) / "artifacts" / "spool")


def place_of(uri: str, folder: Path) -> str:
    """A store as a spool in `folder` names it: without a password; a sqlite file from there, since checkouts move."""
    database = store.sqlite_path(uri)
    return store.shown(uri) if database is None else f"sqlite:{os.path.relpath(database, folder.resolve())}"


def replay(client: Any, uri: str, root: Path) -> int:
    """Hand what is kept for this store to it; what it does not take stays, with a warning.

    Returns:
        How many runs were completed.
    """
    import fcntl

    folder, done = spool_folder(root), 0
    for path in sorted(folder.glob(f"*{SPOOLED}")):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open(encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by whoever writes it, or hands it over
            records = _read(stream.read())
            if not path.exists() or not records or records[0]["uri"] != place_of(uri, folder):
                continue
            try:
                _replay_one(client, uri, root, records, folder)
            except store.errors() as error:
                why = f"{store.one_line(error)}; {store.remedy(error)}"
                log.warning("what %s keeps of the run of %s is not in MLflow yet: %s", path, records[0]["stage"], why)
                continue
            path.unlink()
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            log.info("the run of %s that %s kept is in MLflow now", records[0]["stage"], path)
            done += 1
    return done


def _read(text: str) -> list[Record]:
    """The records of a spool; the last line of a process that was killed may be cut short."""
    records = []
    for line in text.splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def _replay_one(client: Any, uri: str, root: Path, records: Sequence[Record], folder: Path) -> None:
    target = _begun(client, uri, root, records[0])
    for record in records[1:]:
        if record["do"] == "file":
            record = {**record, "path": str(folder / record["path"])}
        carry_out(target, record)
    if not any(record["do"] == "end" for record in records):
        end_as_killed(client, client.get_run(target.run_id))
        if target.parent_id:
            settle(client, target.parent_id)


def _begun(client: Any, uri: str, root: Path, begin: Record) -> Target:
    """The run that records are of; made if it was never begun."""
    if begin["run_id"]:
        return Target(client, begin["run_id"], begin["parent_id"])
    experiment = store.experiment_id(client, begin["experiment"], uri, root)
    parent = find_or_create_parent(client, experiment, begin["session"], begin["tags"]) if begin["session"] else None
    found = client.search_runs([experiment], f"tags.`{RECORD_TAG}` = '{begin['id']}'")
    if found:  # its answer was lost, or an earlier replay was killed
        return Target(client, found[0].info.run_id, parent)
    own = {RECORD_TAG: begin["id"], PROCESS_TAG: begin["process"]}
    return Target(client, begin_run(client, experiment, begin["stage"], parent, own, begin["at"]), parent)
