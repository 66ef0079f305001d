"""The MLflow store: where it is, how it is reached, what can go wrong with it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from huesong.runtime.errors import UserError, redacted
from huesong.tracking.moved import follow_move

EXPERIMENTS = (".dvc", "tmp", "exps")
"""Where DVC runs queued experiments, in folders of their own."""
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
NOISY = ("mlflow", "alembic", "sqlalchemy", "git")


def tracking_uri(root: Path, given: str | None = None) -> str:
    """The store: `given`, else MLFLOW_TRACKING_URI, else sqlite in the checkout `root`.

    Raises:
        UserError: sqlite cannot lie in `root`.
    """
    return given or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(root)


def checkout_of(root: Path) -> Path:
    """The whole path of `root`; of a folder in which DVC runs an experiment (.dvc/tmp/exps/...), the checkout it is one of.

    DVC removes that folder afterwards, and with it all that was tracked there.
    """
    root = root.resolve()
    for place in (root, *root.parents):
        if place.parts[-3:] == EXPERIMENTS:
            return place.parents[2]
    return root


def sqlite_uri(root: Path) -> str:
    """The sqlite store in `root` (UserError: it cannot lie there)."""
    database = checkout_of(root) / DATABASE
    if "?" in str(database):  # in the address of a database what follows are options, and it would land elsewhere
        raise UserError(f"{database}: no MLflow store can lie there, for the path has a '?': rename the folder")
    return f"sqlite:///{database}"


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite store, None for any other."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def artifact_root(uri: str, root: Path) -> str | None:
    """Where a new experiment keeps its artifacts; None: the server decides."""
    if (database := sqlite_path(uri)) is not None:
        return (database.resolve().parent / ARTIFACTS).as_uri()
    if urlsplit(uri).scheme.split("+")[0] in DATABASES:
        return (checkout_of(root) / ARTIFACTS).as_uri()
    return None


def installed() -> bool:
    """Whether MLflow itself is there: a folder of that name on the path imports as an empty namespace."""
    found = importlib.util.find_spec("mlflow")
    return found is not None and found.origin is not None


@contextlib.contextmanager
def http_limits(timeout_s: int = 10, retries: int = 1) -> Iterator[None]:
    """MLflow's environment for a while: no calls home, no chatter, and a short wait for a server that does not answer.

    MLflow's own limits are 7 retries of 120 s. What the user set in the environment wins.
    """
    wanted = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with environment(**{key: value for key, value in wanted.items() if key not in os.environ}):
        yield


def connect(uri: str) -> Any:
    """An MlflowClient of a store that answers.

    Raises:
        one of `errors()`: the store does not answer, or is none.
    """
    from mlflow import MlflowClient

    for noisy in NOISY:  # after the import, which sets levels of its own
        logging.getLogger(noisy).setLevel(logging.ERROR)
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        _ask(uri)
    elif scheme.split("+")[0] in DATABASES:
        _open_database(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _ask(uri: str) -> None:
    """Whether anything answers, asked as MLflow asks: with the same certificates, user and password.

    Whatever it answers will do: a server that is not MLflow's fails with the first request.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking._tracking_service.utils import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    timeout = int(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "10"))
    try:
        http_request(get_default_host_creds(uri), "/health", "GET", timeout=timeout, max_retries=0)
    except (MlflowException, OSError) as error:
        raise OSError(_unreached(error, timeout)) from None


def _unreached(error: BaseException, timeout: int) -> str:
    """Why nothing answers, in words."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "SSLError" in text or "SSLCertVerification" in text:
        return "its certificate is not trusted here"
    if "NameResolution" in text or "Name or service not known" in text:
        return "there is no machine of that name"
    if "imed out" in text or "Timeout" in text:
        return f"no answer in {timeout} s"
    if "onnection" in text or "Max retries" in text:
        return "nothing answers there"
    return one_line(error)


def remedy(error: BaseException) -> str:
    """What to do about an error of `errors()`: each cause has its own."""
    text, code = str(error), str(getattr(error, "error_code", ""))
    if "certificate is not trusted" in text:
        return "name the file of its CA in MLFLOW_TRACKING_SERVER_CERT_PATH"
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED") or re.search(r"\b40[13]\b", text):
        return "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, of an account that may"
    if "disk is full" in text or "No space left" in text:
        return "free some space on the disk that holds the store"
    if "readonly database" in text or "Permission denied" in text:
        return "the store may only be read: change its permissions"
    if "not a database" in text or "malformed" in text:
        return "the file is damaged: put a copy of it back, or move it away and run `huesong register`"
    if "No module named" in text:
        return "install the package of that driver with pip, or name another one: postgresql+psycopg2://..."
    if "out-of-date database schema" in text:
        return "an older MLflow wrote it: back it up, then run `mlflow db upgrade ADDRESS`"
    if "no such table" in text:
        return "it is a database of something else: check MLFLOW_TRACKING_URI"
    if "database is locked" in text:
        return "another process writes to it: run the command again"
    if code in ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"):
        return "the store itself answers: change what is asked of it"
    if code == "RESOURCE_DOES_NOT_EXIST":
        return "the store answers, but has it no more: run the command again, or check MLFLOW_TRACKING_URI"
    return "start the server or check MLFLOW_TRACKING_URI, then run the command again"


def _open_database(uri: str) -> None:
    """MLflow itself would try a database that cannot be opened for an hour."""
    import sqlalchemy
    from mlflow import MlflowClient

    try:
        engine = sqlalchemy.create_engine(uri)
    except ModuleNotFoundError as error:  # the driver, which is a package of its own
        raise OSError(f"{error} (the driver of {urlsplit(uri).scheme})") from None
    with contextlib.ExitStack() as stack:
        stack.callback(engine.dispose)
        if (path := sqlite_path(uri)) is None:
            sqlalchemy.inspect(engine).get_table_names()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_alone(path.parent))
        if not sqlalchemy.inspect(engine).get_table_names():
            MlflowClient(tracking_uri=uri).search_experiments(max_results=1)  # makes the tables
        follow_move(path, path.parent / ARTIFACTS)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: two that make the tables of a new database at once both fail."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def as_default(uri: str) -> Iterator[None]:
    """Make `uri` MLflow's default store, for what takes no URI, and put back what was."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI", "")
    with environment(MLFLOW_TRACKING_URI=uri, MLFLOW_RUN_ID=None):
        mlflow.set_tracking_uri(uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)


@contextlib.contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Set environment variables for a while, for this process and those it starts; None: unset."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def experiment_id(client: Any, experiment: str, uri: str, root: Path) -> str:
    """Id of the experiment of that name; made if missing, also when another process makes it at the same time."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_STATE

    if found := client.get_experiment_by_name(experiment):
        if found.lifecycle_stage != "active":
            raise MlflowException(
                f"the experiment {experiment!r} was deleted: `mlflow experiments restore --experiment-id "
                f"{found.experiment_id}` brings it back; or name another one as register.experiment in params.yaml",
                error_code=INVALID_STATE,
            )
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(experiment, artifact_location=artifact_root(uri, root)))
    except MlflowException:
        if found := client.get_experiment_by_name(experiment):
            return str(found.experiment_id)
        raise


def errors() -> tuple[type[Exception], ...]:
    """What a store that is down, full, damaged or foreign raises. Evaluated only when something was raised."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # OSError: requests' errors, too; sqlite3: what follows a moved checkout, and copies, without SQLAlchemy.
    found: list[type[Exception]] = [MlflowException, SQLAlchemyError, OSError, sqlite3.Error]
    if "botocore" in sys.modules:
        from botocore.exceptions import BotoCoreError, ClientError

        found += [BotoCoreError, ClientError]
    if "boto3" in sys.modules:
        from boto3.exceptions import Boto3Error

        found.append(Boto3Error)
    return tuple(found)


def one_line(error: BaseException) -> str:
    """The first line of an error, shortened."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = redacted(lines[0].strip() if lines else type(error).__name__)
    return text if len(text) <= 300 else f"{text[:297]}..."


def shown(uri: str) -> str:
    """`uri` without a password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[1]))
