"""What a tracking server asks of its clients, and what becomes of its refusals: each has its own line."""

from __future__ import annotations

import contextlib
import http.server
import json
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huesong import contracts
from huesong.config import Params, load_params
from huesong.register.registry import GATE, Registry, answered
from huesong.runtime import progress
from huesong.runtime.errors import UserError, redacted
from huesong.tracking import store
from huesong.tracking.runs import stage_run
from huesong.tracking.sessions import PROCESS_TAG, this_process
from tests.console import huesong
from tests.stores import new_database

VARIABLES = (
    "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HUESONG_SESSION", "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in VARIABLES:
        monkeypatch.delenv(key, raising=False)


class Health(http.server.BaseHTTPRequestHandler):
    """Answers /health, and everything else with `status`; remembers what was sent with it."""

    authorizations: list[str | None]
    status = 200

    def do_GET(self) -> None:
        self.authorizations.append(self.headers.get("Authorization"))
        status = 200 if self.path.endswith("/health") else self.status
        body = json.dumps({"error_code": "PERMISSION_DENIED", "message": "no"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 that nobody trusts, with its key in the same file."""
    path = tmp_path / "own-ca.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(tmp_path / "c"),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "c").read_text())
    return path


@pytest.fixture
def server(certificate: Path) -> Iterator[tuple[str, type[Health]]]:
    handler = type("OneHealth", (Health,), {"authorizations": []})
    started = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    started.socket = context.wrap_socket(started.socket, server_side=True)
    threading.Thread(target=started.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{started.server_port}", handler
    started.shutdown()
    started.server_close()


def test_a_server_with_a_ca_of_its_own(
    server: tuple[str, type[Health]], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, _ = server
    with pytest.raises(
        UserError, match="certificate is not trusted here; name the file of its CA in MLFLOW_TRACKING_SERV"
    ):
        Registry(uri=uri)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        Registry(uri=uri)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        Registry(uri=uri)


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "pass word"}, "Basic bWU6cGFzcyB3b3Jk"),
        ({"MLFLOW_TRACKING_TOKEN": "token-1"}, "Bearer token-1"),
    ],
)
def test_user_password_and_token_are_sent_with_the_first_request(
    variables: dict[str, str], sent: str, server: tuple[str, type[Health]], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, handler = server
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    registry = Registry(uri=uri)
    assert handler.authorizations == [sent]
    handler.status = 403
    with pytest.raises(
        UserError, match="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    ):
        registry.by_alias(contracts.CHAMPION)
    assert handler.authorizations[-1] == sent


def test_nothing_there_and_no_such_machine() -> None:
    with pytest.raises(UserError, match="nothing answers there; start the server or check MLFLOW_TRACKING_URI"):
        Registry(uri="http://127.0.0.1:9")
    with pytest.raises(UserError, match="there is no machine of that name; start the server"):
        Registry(uri="http://no-such-host.invalid")


# --- a store that answers, with a no -----------------------------------------------------------------


def test_a_deleted_experiment_is_named_with_the_way_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    uri = new_database(tmp_path / "mlflow.db")
    client = MlflowClient(uri)
    number = client.create_experiment("gone")
    client.delete_experiment(number)
    with pytest.raises(UserError) as caught, answered(uri):
        store.experiment_id(client, "gone", uri, tmp_path)
    said = str(caught.value)
    assert f"mlflow experiments restore --experiment-id {number}" in said
    assert "register.experiment" in said
    assert "start the server" not in said
    messages: list[str] = []
    monkeypatch.setattr(progress.log, "warning", lambda text, *given: messages.append(text % given))
    with stage_run("train", Params(), experiment="gone", root=tmp_path) as tracked:
        assert not tracked.active
    assert "restore --experiment-id" in messages[0]
    client.restore_experiment(number)
    with stage_run("train", Params(), experiment="gone", root=tmp_path) as tracked:
        assert tracked.active


def test_a_name_that_the_registry_does_not_allow_is_refused_in_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    for name in ("a/b", "a:b", "", "x" * 201, "a\tb", " "):
        path.write_text(json.dumps({"register": {"model_name": name}}))
        with pytest.raises(UserError, match=r"params.yaml: register.model_name = "):
            load_params(path)
    path.write_text(json.dumps({"register": {"model_name": "my model-2.1_é"}}))
    load_params(path)
    uri = new_database(tmp_path / "mlflow.db")
    with pytest.raises(UserError) as caught, answered(uri):
        store.connect(uri).create_registered_model("a/b")
    assert "start the server" not in str(caught.value)
    assert "change what is asked of it" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("(sqlite3.OperationalError) attempt to write a readonly database", "may only be read"),
        ("(sqlite3.OperationalError) database or disk is full", "free some space"),
        ("(sqlite3.DatabaseError) file is not a database", "the file is damaged"),
        ("(sqlite3.OperationalError) database is locked", "another process writes"),
        ("Detected out-of-date database schema (found version 1, but expected 2)", "mlflow db upgrade"),
        ("no such table: alembic_version", "a database of something else"),
    ],
)
def test_each_trouble_of_a_database_has_its_remedy(text: str, remedy: str) -> None:
    assert remedy in store.remedy(OSError(text))


def test_a_driver_that_is_not_installed_is_one_line() -> None:
    uri = "postgresql+pg8000://user:secret-of-it@127.0.0.1/registry"
    with pytest.raises(UserError) as caught, answered(uri):
        store.connect(uri)
    assert "No module named 'pg8000'" in str(caught.value)
    assert "install the package of that driver" in str(caught.value)
    assert "secret-of-it" not in str(caught.value)


def test_a_moved_checkout_that_may_only_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows the move speaks to SQLite itself; the tests may run as root, whom no permission stops."""
    uri = new_database(tmp_path / "mlflow.db")

    def read_only(database: Path, artifacts: Path) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as here:
            return here.execute("DELETE FROM experiments").rowcount

    monkeypatch.setattr(store, "follow_move", read_only)
    with pytest.raises(UserError, match="may only be read: change its permissions"), answered(uri):
        store.connect(uri)


# --- passwords -----------------------------------------------------------------------------------


def test_no_password_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter-22")
    text = "API request to https://me:p@ss@host:5000/api failed for postgresql+psycopg2://u:pw@db/x (hunter-22)"
    assert redacted(text) == "API request to https://***@host:5000/api failed for postgresql+psycopg2://***@db/x (***)"
    assert redacted("see https://example.org/@name and a@b.c") == "see https://example.org/@name and a@b.c"
    handlers, propagate = progress.log.handlers, progress.log.propagate
    try:
        progress.configure()
        progress.log.warning("failed: %s", text)
    finally:
        progress.log.handlers, progress.log.propagate = handlers, propagate
    assert "p@ss" not in (said := capsys.readouterr().err)
    assert "host:5000" in said
    done = huesong(
        "compose", "x.png", "--model", "models:/a@b", env={"MLFLOW_TRACKING_URI": "http://me:p@ss@127.0.0.1:9"}
    )
    assert done.returncode == 2
    assert "p@ss" not in done.stderr


def test_the_error_of_a_run_shows_no_password(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = new_database(tmp_path / "mlflow.db")
    with pytest.raises(OSError, match="secret"), stage_run("train", Params(), experiment="e", root=tmp_path) as tracked:
        raise OSError("cannot reach http://me:secret@host/")
    tags = MlflowClient(uri).get_run(tracked.run_id).data.tags
    assert tags["huesong.error"] == "OSError: cannot reach http://***@host/"


# --- runs of processes that are gone -------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from huesong.config import Params
from huesong.tracking.runs import stage_run
with stage_run("train", Params(), experiment="killed", root=Path(sys.argv[1])) as run:
    print(run.run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_the_next_stage_ends_the_run_of_one_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(new_database(tmp_path / "mlflow.db"))
    monkeypatch.setenv("HUESONG_SESSION", "one")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    killed = client.get_run(done.stdout.strip())
    assert killed.info.status == "RUNNING"
    elsewhere = client.create_run(killed.info.experiment_id, tags={PROCESS_TAG: "another-machine 1 1"}).info.run_id
    alive = client.create_run(killed.info.experiment_id, tags={PROCESS_TAG: this_process()}).info.run_id
    foreign = client.create_run(killed.info.experiment_id).info.run_id
    monkeypatch.setenv("HUESONG_SESSION", "two")
    with stage_run("label", Params(), experiment="killed", root=tmp_path) as tracked:
        assert tracked.active
    ended = client.get_run(killed.info.run_id)
    assert ended.info.status == "KILLED"
    assert ended.data.tags["huesong.error"] == "the stage did not come to its end"
    parent = client.get_run(ended.data.tags["mlflow.parentRunId"])
    assert (parent.info.status, parent.data.tags["huesong.stage.train"]) == ("KILLED", "KILLED")
    assert [client.get_run(run).info.status for run in (elsewhere, alive, foreign)] == ["RUNNING"] * 3


def test_two_stages_under_one_run_record_each_its_own_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(new_database(tmp_path / "mlflow.db"))
    run = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    params = Params.model_validate({"label": {"seed": 3}, "train": {"seed": 4}})
    for stage in ("label", "train"):
        with stage_run(stage, params, experiment="of no matter", root=tmp_path):
            pass
    found: dict[str, Any] = client.get_run(run).data.params
    assert (found["label.seed"], found["train.seed"]) == ("3", "4")
    assert "seed" not in found


# --- a store that is new -------------------------------------------------------------------------


@pytest.mark.slow
def test_the_advice_for_a_new_store_works(finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc repro` says up to date where mlflow.db is gone or another server is named: `huesong register` is what helps."""
    uri = f"sqlite:///{tmp_path / 'new.db'}"
    asked = ("compose", "none.png", "--model", "models:/huesong@champion", "--out", str(tmp_path / "piece"))
    (tmp_path / "none.png").write_bytes(b"")
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(tmp_path / "none.png")
    missing = huesong(*asked, cwd=tmp_path, env={"MLFLOW_TRACKING_URI": uri})
    assert missing.returncode == 2
    assert "`huesong register` where it says up to date" in missing.stderr
    gate = tmp_path / "gate.yaml"
    gate.write_text("absolute: {invalid_tokens: {max: 0}}")
    done = huesong(
        "register", "--train", finished.world.train, "--evaluate", finished.evaluate, "--out", tmp_path / "register",
        "--gate", gate, env={"MLFLOW_TRACKING_URI": uri},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    champion = Registry(uri=uri).by_alias(contracts.CHAMPION)
    assert champion is not None
    assert champion.tags[GATE].startswith("passed")
