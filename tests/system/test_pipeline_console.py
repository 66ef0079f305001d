"""`huesong pipeline` as a user calls it, against the strict stand-in of the Kubeflow API (tests/kfp_server.py)."""

from pathlib import Path

import pytest

from huesong.data.versions import publish

pytest.importorskip("kfp")

from pipeline import client as clients
from tests import console
from tests.console import ROOT, Done
from tests.kfp_server import KfpServer

pytestmark = pytest.mark.slow

MONDAYS = "0 0 3 * * 1"


@pytest.fixture(autouse=True)
def _no_setting_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KF_PIPELINES_ENDPOINT", clients.TOKEN_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def huesong(*arguments: str, cwd: Path = ROOT) -> Done:
    return console.huesong("pipeline", *arguments, cwd=cwd)


def test_console_submits_and_schedules(server: KfpServer, package: Path, tmp_path: Path) -> None:
    host = ("--host", server.url)
    (tmp_path / "data").mkdir()
    for name in ("images.csv", "music.csv"):
        (tmp_path / "data" / name).write_text("id,path\n")
    publish(tmp_path / "data", str(tmp_path / "remote"))
    given = ["-p", "data_digest=current", "-p", f"remote={tmp_path / 'remote'}"]
    assert huesong("upload", *host, "--package", str(package), "--version", "v1").returncode == 0
    done = huesong("schedule", "weekly", *host, "--cron", MONDAYS, "--version", "v1", *given)
    assert (done.returncode, done.stdout) == (0, "schedule weekly: created\n"), done.stderr
    server.outcome = "FAILED"
    server.looks_until_done = 0
    done = huesong("submit", *host, "--package", str(package), *given)
    assert done.returncode == 1
    assert "failed: train: the loss is not finite" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("schedule", "--cron", "0 3 * * 1"), "has five fields"),
        (("schedule",), "say when with --cron"),
        (("list", "--host", "http://127.0.0.1:9"), "not reachable"),
        (("submit", "--host", "http://127.0.0.1:9", "--package", "nowhere.yaml"), "cannot be read"),
        (("submit", "-p", "x"), "write name=value"),
    ],
)
def test_console_errors_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = huesong(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.parametrize(
    "command", [("submit",), ("schedule", "--cron", MONDAYS, "--version", "v1")], ids=lambda c: c[0]
)
@pytest.mark.parametrize(
    ("digest", "message"),
    [("0" * 32, "is not in"), ("current", "no published data version"), ("v1", "is no data digest")],
)
def test_console_refuses_data_that_are_not_there(
    server: KfpServer, package: Path, tmp_path: Path, command: tuple[str, ...], digest: str, message: str
) -> None:
    given = ["--host", server.url, "-p", f"data_digest={digest}", "-p", f"remote={tmp_path}"]
    given += ["--package", str(package)] if command == ("submit",) else []
    done = huesong(*command, *given)
    assert done.returncode == 2
    assert message in done.stderr
    assert sum(server.requests.values()) == 0


def test_console_compiles_the_pipeline_of_this_checkout(server: KfpServer) -> None:
    """The real pipeline with its Kubernetes settings passes the strict server, as a run and as a version."""
    host = ("--host", server.url)
    digest = next(word for word in (ROOT / "data.dvc").read_text().split() if word.endswith(".dir"))
    given = [
        "-p",
        f"data_digest={digest}",
        "-p",
        f"remote={ROOT / 'dvc-remote'}",
        "-p",
        f"params=@{ROOT / 'params.yaml'}",
    ]
    done = huesong("submit", *host, *given, "--no-wait")
    assert done.returncode == 0, done.stderr
    [started] = server.runs.values()
    assert set(started["pipeline_spec"]) == {"pipeline_spec", "platform_spec"}
    for new in ("uploaded", "is there already"):
        done = huesong("upload", *host, "--version", "v1")
        assert new in done.stdout, done.stderr
    done = huesong("schedule", *host, "--cron", MONDAYS, "--version", "v1", *given, "-p", "stepz=1")
    assert done.returncode == 2
    assert "no parameter 'stepz'" in done.stderr
    assert server.jobs == {}


def test_console_outside_a_checkout(tmp_path: Path) -> None:
    done = huesong("compile", cwd=tmp_path)
    assert done.returncode == 2
    assert "change to the top of a huesong checkout" in done.stderr
