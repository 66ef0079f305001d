"""`huesong pipeline` as a user calls it, against the strict stand-in of the Kubeflow API (tests/kfp_server.py)."""

from pathlib import Path

import pytest

from huesong.cli import pipeline_here as here
from huesong.data.versions import configured_remote, publish

pytest.importorskip("kfp")

from pipeline import client as clients
from tests import console
from tests.console import ROOT, Done
from tests.kfp_server import KfpServer
from tests.s3_server import BUCKET, credentials, serve

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


def checkout_with(folder: Path, remote: str) -> str:
    """Make a checkout that configures a remote and names a data version; its digest."""
    (folder / "data").mkdir()
    for name in ("images.csv", "music.csv"):
        (folder / "data" / name).write_text("id,path\n")
    digest = publish(folder / "data", str(folder / "store")).digest
    (folder / "data.dvc").write_text(f"outs:\n- md5: {digest}\n  path: data\n")
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text(f"[core]\n    remote = own\n['remote \"own\"']\n    url = {remote}\n")
    (folder / "pipeline").symlink_to(ROOT / "pipeline")
    return digest


def test_data_version_and_remote_are_those_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = checkout_with(tmp_path, "s3://bucket/huesong")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HUESONG_REMOTE", raising=False)
    assert here.pod_data({"stepz": "1"}) == {"stepz": "1", "data_digest": digest, "remote": "s3://bucket/huesong"}
    assert here.pod_data({"data_digest": "current", "remote": "x"}) == {"data_digest": "current", "remote": "x"}
    monkeypatch.setenv("HUESONG_REMOTE", "s3://other/place")
    assert here.pod_data({})["remote"] == "s3://other/place"
    (tmp_path / ".dvc" / "config.local").write_text("['remote \"own\"']\n    url = ../store\n")
    assert configured_remote(tmp_path) == str(tmp_path / "store")
    assert here.remote_of(None) == str(tmp_path / "store")


@pytest.mark.parametrize("command", [("submit", "--no-wait"), ("schedule", "--cron", MONDAYS, "--version", "v1")])
def test_runs_take_data_and_remote_from_the_checkout(
    command: tuple[str, ...], server: KfpServer, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = checkout_with(tmp_path, "../store")
    given = [*command, "--host", server.url, *(["--package", str(package)] if command[0] == "submit" else [])]
    done = huesong(*given, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path / 'store'} is a folder of this machine, which no pod reaches" in done.stderr
    assert sum(server.requests.values()) == 0
    with serve(tmp_path / "s3") as storage:
        credentials(monkeypatch, storage)
        monkeypatch.setenv("HUESONG_REMOTE", f"s3://{BUCKET}/huesong")
        done = huesong(*given, cwd=tmp_path)
        assert done.returncode == 2
        assert f"version {digest} is not in s3://" in done.stderr, "it is looked for in the configured remote"
        publish(tmp_path / "data", f"s3://{BUCKET}/huesong")
        assert huesong("upload", "--host", server.url, "--package", str(package), "--version", "v1").returncode == 0
        done = huesong(*given, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


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
