"""A tracking server that is down at the start, in the middle or at the end of a stage: nothing is lost."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from huesong.config import Params
from huesong.tracking import records, store
from huesong.tracking.runs import Run, stage_run
from tests.console import ROOT, huesong
from tests.mlflow_server import mlflow_server
from tests.s3_server import free_port
from tests.stores import new_database


@dataclass
class Report:
    metrics: dict[str, float]
    files: list[Path]

    def pieces(self, folder: Path) -> list[str]:
        (folder / "piece-1.mid").write_bytes(b"MThd")
        return ["a piece"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HUESONG_SESSION", "HUESONG_SPOOL"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    monkeypatch.setattr(logging.getLogger("huesong"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="huesong"):
        yield lambda: [record.getMessage() for record in caplog.records if record.name == "huesong"]


def stage(root: Path, breaks: Callable[[str], None] = lambda when: None) -> Run:
    """A stage with all that one logs; `breaks` is told of the moments in which a store may go away."""
    (root / "history.csv").write_text("step,loss\n1,2.0\n2,1.5\n")
    (root / "report.md").write_text("a report")
    breaks("start")
    with stage_run("train", Params(), experiment="spooled", root=root) as run:
        run.log_metrics({"before": 1.0}, step=3)
        time.sleep(0.3)  # the system is measured meanwhile
        breaks("middle")
        run(Report({"steps": 2.0, "val_ce": 1.5}, [root / "history.csv", root / "report.md"]))
        breaks("end")
    return run


def whole(uri: str, session: str) -> dict[str, Any]:
    """All that MLflow has of the one stage of a session, but for what differs from run to run."""
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("spooled").experiment_id])
    (parent,) = (run for run in found if run.data.tags.get("huesong.session") == session)
    (run,) = (run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id)
    own = {
        "huesong.record",
        "huesong.process",
        "huesong.pieces",
        "mlflow.note.content",
        "huesong.session",
        "mlflow.runName",
    }
    shown: dict[str, Any] = {}
    for name, one in (("parent", parent), ("run", run)):
        tags = {key: value for key, value in one.data.tags.items() if key not in {*own, "mlflow.parentRunId"}}
        figures = {key for key in one.data.metrics if not key.startswith("system/")}
        points = {key: [(p.step, p.value) for p in client.get_metric_history(one.info.run_id, key)] for key in figures}
        note = one.data.tags["mlflow.note.content"].replace(run.info.run_id, "ID")
        shown[name] = (one.info.status, tags, one.data.params, points, note)
    assert run.info.start_time <= run.info.end_time
    assert any(key.startswith("system/") for key in run.data.metrics)
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    pieces = {file.path for file in client.list_artifacts(run.info.run_id, "pieces")}
    return {**shown, "files": files | pieces}


def kept(root: Path) -> list[Path]:
    return sorted((root / "artifacts" / "spool").glob("*"))


DAMAGED = b"this is no database" * 100


def broken_at_the_start(root: Path) -> str:
    """A stage whose store is damaged, which is whole again afterwards; the address of the store."""
    (root / "mlflow.db").write_bytes(DAMAGED)
    run = stage(root)
    assert (run.active, run.run_id) == (False, None)
    return new_database(root / "mlflow.db")


def test_what_a_store_did_not_take_is_there_after_the_next_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("HUESONG_SESSION", "broken")
    uri = broken_at_the_start(tmp_path)
    (message,) = said()
    spool = next(path for path in kept(tmp_path) if path.is_file())
    assert str(spool) in message
    again = tmp_path / "again"
    shutil.copytree(spool.parent, again)
    monkeypatch.setenv("HUESONG_SESSION", "whole")
    stage(tmp_path)
    assert kept(tmp_path) == []
    assert whole(uri, "broken") == whole(uri, "whole")
    # a replay that was killed before it had removed the file
    shutil.copytree(again, spool.parent, dirs_exist_ok=True)
    assert records.replay(store.connect(uri), uri, tmp_path) == 1
    assert whole(uri, "broken") == whole(uri, "whole")
    assert len(said()) == 1


def test_a_run_whose_answer_was_lost_is_not_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = new_database(tmp_path / "mlflow.db")
    made = MlflowClient.create_run

    def lost(*given: Any, **named: Any) -> None:
        made(*given, **named)
        raise ConnectionError("the server went away")

    monkeypatch.setenv("HUESONG_SESSION", "lost")
    with stage_run("label", Params(), experiment="spooled", root=tmp_path):
        pass  # the session's parent is there
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", lost)
        stage(tmp_path)
    assert kept(tmp_path) == []
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("spooled").experiment_id])
    assert sorted((run.info.run_name, run.info.status) for run in found) == [
        ("label", "FINISHED"), ("lost", "FINISHED"), ("train", "FINISHED"),
    ]  # fmt: skip


KILLED = """
import os, sys
from pathlib import Path
from huesong.config import Params
from huesong.tracking.runs import stage_run
with stage_run("train", Params(), experiment="spooled", root=Path(sys.argv[1])) as run:
    run.log_metrics({"loss": 1.5}, step=1)
    run._spool._stream.write('{"do": "points", "poi')
    run._spool._stream.flush()
    os._exit(9)
"""


@pytest.mark.slow
def test_a_stage_that_was_killed_while_its_store_was_away_is_ended_as_killed(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(DAMAGED)
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == 9
    uri = new_database(tmp_path / "mlflow.db")
    done = huesong("registry", "list", "--params", ROOT / "params.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("spooled").experiment_id])
    assert (run.info.status, run.data.metrics["loss"]) == ("KILLED", 1.5)
    assert run.data.tags["huesong.error"] == "the stage did not come to its end"
    assert kept(tmp_path) == []


def test_what_is_refused_or_another_stores_stays_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("HUESONG_SPOOL", str(tmp_path / "volume"))
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter-22@127.0.0.1:9")
        with stage_run("train", Params(), experiment="spooled", root=tmp_path, spools=False):
            pass
    (other,) = (tmp_path / "volume").iterdir()
    begin = json.loads(other.read_text().splitlines()[0])
    assert begin["uri"] == "http://127.0.0.1:9"
    assert "hunter-22" not in other.read_text()
    monkeypatch.setenv("HUESONG_SESSION", "refused")
    uri = broken_at_the_start(tmp_path)
    client = MlflowClient(uri)
    number = client.create_experiment("spooled", (tmp_path / "mlartifacts").as_uri())
    client.delete_experiment(number)
    assert records.replay(client, uri, tmp_path) == 0
    assert f"mlflow experiments restore --experiment-id {number}" in said()[-1]
    client.restore_experiment(number)
    assert records.replay(client, uri, tmp_path) == 1
    assert whole(uri, "refused")["run"][0] == "FINISHED"
    assert list((tmp_path / "volume").iterdir()) == [other]


def test_a_pod_keeps_nothing_in_a_folder_that_goes_with_it(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    (tmp_path / "mlflow.db").write_bytes(DAMAGED)
    with stage_run("train", Params(), experiment="spooled", root=tmp_path, spools=False) as run:
        run.log_metrics({"loss": 1.0})
    assert kept(tmp_path) == []
    assert "is kept in" not in said()[0]


@pytest.mark.slow
def test_a_server_that_was_away_has_all_of_every_stage_once_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[str]]
) -> None:
    """A real server, stopped and started again at one address."""
    database, port = new_database(tmp_path / "server" / "mlflow.db"), free_port()
    root, uri, serving = tmp_path / "checkout", f"http://127.0.0.1:{port}", contextlib.ExitStack()
    root.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    def start() -> None:
        destination = str(tmp_path / "server" / "artifacts")
        serving.enter_context(mlflow_server(database, destination, tmp_path / "log", port=port))

    def session(name: str, breaks: Callable[[str], None] = lambda when: None) -> None:
        monkeypatch.setenv("HUESONG_SESSION", name)
        stage(root, breaks)

    with serving:
        start()
        session("never away")
        expected = whole(uri, "never away")
        assert expected["files"] >= {"history.csv", "report.md", "pieces/piece-1.mid"}
        session("gone in the middle", lambda when: serving.close() if when == "middle" else None)
        session("gone at the start")
        assert len([path for path in kept(root) if path.is_file()]) == 2
        start()
        done = huesong(
            "registry", "list", "--params", ROOT / "params.yaml", cwd=root
        )  # a command that reaches the server
        assert done.returncode == 0, done.stderr
        assert kept(root) == []
        session("gone at the end", lambda when: serving.close() if when == "end" else None)
        assert len([path for path in kept(root) if path.is_file()]) == 1
        session("back in the middle", lambda when: start() if when == "middle" else None)
        assert kept(root) == []
        for name in ("gone in the middle", "gone at the start", "gone at the end", "back in the middle"):
            assert whole(uri, name) == expected, name
    assert len(said()) == 4
    assert all("is kept in" in line for line in said())
