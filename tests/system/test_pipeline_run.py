"""The client of Kubeflow Pipelines against a strict stand-in of its API (tests/kfp_server.py)."""

import socket
import subprocess
from pathlib import Path

import pytest

from huesong.runtime.errors import UserError

kfp = pytest.importorskip("kfp")

from pipeline.client import Client, Connection, connect  # noqa: E402

from pipeline import client as clients  # noqa: E402
from pipeline import run, schedules  # noqa: E402
from tests.kfp_server import KfpServer, Refused, check  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MONDAYS = "0 0 3 * * 1"
GIVEN = {"data_digest": "current", "remote": "s3://bucket/data"}


@pytest.fixture(autouse=True)
def _no_setting_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KF_PIPELINES_ENDPOINT", clients.TOKEN_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(clients.kfp.client.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "none.json"))
    monkeypatch.setattr(clients, "BACKOFF_S", 0.01)


@pytest.fixture
def client(server: KfpServer) -> Client:
    return connect(Connection(server.url))


@pytest.fixture
def version(client: Client, package: Path) -> run.Version:
    return run.upload(client, package, version="abc123")


# --- submit and wait -----------------------------------------------------------------------------


def test_submit_and_wait(client: Client, server: KfpServer, package: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_id = run.submit(
        client, package, experiment="first", parameters={**GIVEN, "steps": "5", "params": '{"seed": 1}'}
    )
    assert server.runs[run_id]["runtime_config"]["parameters"] == {**GIVEN, "steps": 5, "params": {"seed": 1}}
    outcome = run.wait(client, run_id, every_s=0.01)
    assert (outcome.state, outcome.exit_code) == ("SUCCEEDED", 0)
    again = run.submit(client, package, experiment="first", parameters=GIVEN)
    assert len(server.experiments) == 1
    assert again != run_id


def test_a_failed_run_names_its_task(client: Client, server: KfpServer, package: Path) -> None:
    server.outcome = "FAILED"
    outcome = run.wait(client, run.submit(client, package, experiment="e", parameters=GIVEN), every_s=0.01)
    assert outcome.exit_code == 1
    assert outcome.failed == ["train: the loss is not finite"]


def test_a_canceled_run_ends_the_wait(client: Client, server: KfpServer, package: Path) -> None:
    server.outcome = "CANCELED"
    outcome = run.wait(client, run.submit(client, package, experiment="e", parameters=GIVEN), every_s=0.01)
    assert outcome.exit_code == 3


def test_a_wait_ends_in_time(client: Client, server: KfpServer, package: Path) -> None:
    server.looks_until_done = 10**6
    run_id = run.submit(client, package, experiment="e", parameters=GIVEN)
    assert run.wait(client, run_id, every_s=0.01, timeout_s=0.1).exit_code == 4


def test_a_wait_bears_a_server_that_is_away_for_a_while(client: Client, server: KfpServer, package: Path) -> None:
    run_id = run.submit(client, package, experiment="e", parameters=GIVEN)
    server.failures += [("GET", "/runs/", 503)] * (clients.ATTEMPTS + 1)
    assert run.wait(client, run_id, every_s=0.01).exit_code == 0


def test_a_run_that_is_refused_leaves_no_experiment(client: Client, server: KfpServer, package: Path) -> None:
    server.failures.append(("POST", "/runs$", 500))
    with pytest.raises(UserError, match="500"):
        run.submit(client, package, experiment="new", parameters=GIVEN)
    assert (server.runs, server.experiments) == ({}, {})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({**GIVEN, "step": "3"}, "no parameter 'step'; did you mean 'steps'"),
        ({"remote": "x"}, "needs the parameter 'data_digest'"),
        ({**GIVEN, "steps": "many"}, "steps=many: not JSON"),
        ({**GIVEN, "steps": "1.5"}, "not of the kind NUMBER_INTEGER"),
        ({**GIVEN, "params": "[1]"}, "not of the kind STRUCT"),
        ({**GIVEN, "params": "@/nowhere.yaml"}, "cannot be read"),
    ],
)
def test_bad_parameters_reach_no_server(
    client: Client, server: KfpServer, package: Path, parameters: dict[str, str], message: str
) -> None:
    before = server.requests["POST"]
    with pytest.raises(UserError, match=message):
        run.submit(client, package, experiment="e", parameters=parameters)
    assert server.requests["POST"] == before


def test_a_parameter_from_a_file(client: Client, server: KfpServer, package: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {steps: 7}\n")
    given = {**GIVEN, "params": f"@{tmp_path / 'params.yaml'}"}
    run_id = run.submit(client, package, experiment="e", parameters=given)
    assert server.runs[run_id]["runtime_config"]["parameters"]["params"] == {"train": {"steps": 7}}


def test_no_package(client: Client, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: 1\n")
    with pytest.raises(UserError, match="no compiled pipeline"):
        run.read_package(tmp_path / "bad.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        run.read_package(tmp_path / "none.yaml")


# --- upload --------------------------------------------------------------------------------------


def test_upload_is_idempotent(client: Client, server: KfpServer, package: Path, tmp_path: Path) -> None:
    first = run.upload(client, package, version="abc123")
    second = run.upload(client, package, version="abc123")
    assert (first.new, second.new, first.version_id) == (True, False, second.version_id)
    for number in range(7):  # more than a page of the server
        run.upload(client, package, version=f"v{number}")
    assert not run.upload(client, package, version="v6").new
    assert len(server.pipelines) == 1
    changed = tmp_path / "changed.yaml"
    changed.write_text("# only a comment is new\n" + package.read_text())
    assert not run.upload(client, changed, version="abc123").new
    changed.write_text(package.read_text().replace("example.org/huesong:1", "example.org/huesong:2"))
    with pytest.raises(UserError, match="with another content"):
        run.upload(client, changed, version="abc123")
    assert len(server.versions) == 8


def test_an_upload_that_is_refused_leaves_no_pipeline(client: Client, server: KfpServer, package: Path) -> None:
    server.failures.append(("POST", "upload_version", 500))
    with pytest.raises(UserError, match="500"):
        run.upload(client, package, version="abc123")
    assert (server.pipelines, server.versions) == ({}, {})


def test_the_version_is_named_by_the_commit(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True, text=True
        ).stdout

    with pytest.raises(UserError, match="no git checkout"):
        run.version_name(tmp_path)
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    assert git("rev-parse", "HEAD").startswith(run.version_name(tmp_path))
    (tmp_path / "a").write_text("2")
    with pytest.raises(UserError, match="differ from the commit"):
        run.version_name(tmp_path)


def test_list(client: Client, server: KfpServer, package: Path, version: run.Version) -> None:
    assert "abc123" in run.listing(client)
    run_id = run.submit(client, package, experiment="e", parameters=GIVEN)
    schedules.schedule(client, "weekly", version, cron=MONDAYS, experiment="e", parameters=GIVEN)
    shown = run.listing(client)
    assert run_id in shown
    assert f"schedule  weekly  {MONDAYS}  enabled" in shown


# --- schedule ------------------------------------------------------------------------------------


def test_a_schedule_is_made_once(client: Client, server: KfpServer, version: run.Version) -> None:
    options = {"cron": MONDAYS, "experiment": "e", "parameters": GIVEN}
    assert schedules.schedule(client, "weekly", version, **options) == "created"
    [job] = server.jobs.values()
    assert job["no_catchup"] is True
    assert int(job["max_concurrency"]) == 1
    assert job["trigger"] == {"cron_schedule": {"cron": MONDAYS}}
    assert job["pipeline_version_reference"]["pipeline_version_id"] == version.version_id
    assert job["mode"] == "ENABLE"
    assert schedules.schedule(client, "weekly", version, **options) == "unchanged"
    assert list(server.jobs.values()) == [job]


def test_a_changed_schedule_replaces_the_old_one(
    client: Client, server: KfpServer, package: Path, version: run.Version
) -> None:
    schedules.schedule(client, "weekly", version, cron=MONDAYS, experiment="e", parameters=GIVEN)
    [old] = server.jobs
    assert (
        schedules.schedule(client, "weekly", version, cron="0 30 4 * * 1", experiment="e", parameters=GIVEN)
        == "replaced"
    )
    [(new, job)] = server.jobs.items()
    assert new != old
    assert (job["trigger"]["cron_schedule"]["cron"], job["mode"]) == ("0 30 4 * * 1", "ENABLE")
    newer = run.upload(client, package, version="def456")
    assert (
        schedules.schedule(client, "weekly", newer, cron="0 30 4 * * 1", experiment="e", parameters=GIVEN) == "replaced"
    )
    more = {**GIVEN, "steps": "9"}
    assert (
        schedules.schedule(client, "weekly", newer, cron="0 30 4 * * 1", experiment="e", parameters=more) == "replaced"
    )
    assert len(server.jobs) == 1


def test_a_replacement_that_fails_leaves_the_old_schedule(
    client: Client, server: KfpServer, version: run.Version
) -> None:
    schedules.schedule(client, "weekly", version, cron=MONDAYS, experiment="e", parameters=GIVEN)
    before = dict(server.jobs)
    for method, path in (("POST", "/recurringruns$"), ("DELETE", "/recurringruns/")):
        server.failures.append((method, path, 500))
        with pytest.raises(UserError, match="500"):
            schedules.schedule(client, "weekly", version, cron="0 30 4 * * 1", experiment="new", parameters=GIVEN)
        assert server.jobs == before
    assert [experiment["display_name"] for experiment in server.experiments.values()] == ["e"]


def test_disable_enable_delete(client: Client, server: KfpServer, version: run.Version) -> None:
    schedules.schedule(client, "weekly", version, cron=MONDAYS, experiment="e", parameters=GIVEN)
    assert schedules.switch(client, "weekly", enabled=False) == "disabled"
    assert next(iter(server.jobs.values()))["mode"] == "DISABLE"
    assert schedules.switch(client, "weekly", enabled=False) == "unchanged"
    options = {"cron": MONDAYS, "experiment": "e", "parameters": GIVEN}
    assert schedules.schedule(client, "weekly", version, enabled=False, **options) == "unchanged"
    assert schedules.schedule(client, "weekly", version, **options) == "enabled"
    assert schedules.delete(client, "weekly") == "deleted"
    assert server.jobs == {}
    for action in (
        lambda: schedules.delete(client, "weekly"),
        lambda: schedules.switch(client, "weekly", enabled=True),
    ):
        with pytest.raises(UserError, match="no schedule weekly"):
            action()


def test_two_schedules_of_one_name_are_refused(client: Client, server: KfpServer, version: run.Version) -> None:
    schedules.schedule(client, "weekly", version, cron=MONDAYS, experiment="e", parameters=GIVEN)
    [job] = server.jobs.values()
    server.keep(server.jobs, "recurring_run_id", dict(job))
    before = dict(server.jobs)
    for action in (
        lambda: schedules.schedule(client, "weekly", version, cron=MONDAYS, experiment="e", parameters=GIVEN),
        lambda: schedules.delete(client, "weekly"),
    ):
        with pytest.raises(UserError, match="2 schedules of the name weekly"):
            action()
    assert server.jobs == before


def test_a_schedule_of_other_hands_is_left_alone(client: Client, server: KfpServer, version: run.Version) -> None:
    schedules.schedule(client, "weekly", version, cron=MONDAYS, experiment="e", parameters=GIVEN)
    next(iter(server.jobs.values()))["description"] = "by hand"
    with pytest.raises(UserError, match="not made by huesong"):
        schedules.schedule(client, "weekly", version, cron=MONDAYS, experiment="e", parameters=GIVEN)
    assert len(server.jobs) == 1


def test_a_schedule_of_an_unknown_parameter_or_version_is_refused(
    client: Client, server: KfpServer, version: run.Version
) -> None:
    with pytest.raises(UserError, match="no parameter 'digest'"):
        schedules.schedule(client, "weekly", version, cron=MONDAYS, experiment="e", parameters={**GIVEN, "digest": "x"})
    with pytest.raises(UserError, match="no version fff"):
        run.uploaded_version(client, "fff")
    assert (server.jobs, server.experiments) == ({}, {})


# --- the connection ------------------------------------------------------------------------------


def test_a_wrong_token_is_one_clear_line(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    with KfpServer(token="right") as server:
        secret.write_text("wrong\n")
        with pytest.raises(UserError, match=r"refuses the login.*401") as caught:
            connect(Connection(server.url, token_file=secret))
        assert "wrong" not in str(caught.value).split("401")[1].split(":")[0]
        with pytest.raises(UserError, match="refuses the login"):
            connect(Connection(server.url))
        secret.write_text("right\n")
        client = connect(Connection(server.url, token_file=secret))
        server.token = "renewed"
        secret.write_text("renewed\n")  # as the kubelet does with a projected token
        assert client.list_runs().runs is None or client.list_runs().runs == []


def test_a_token_of_the_environment(monkeypatch: pytest.MonkeyPatch, package: Path) -> None:
    monkeypatch.setenv(clients.TOKEN_VARIABLE, "right")
    with KfpServer(token="right") as server:
        client = connect(Connection(server.url))
        run.submit(client, package, experiment="e", parameters=GIVEN)


def test_an_oidc_header(tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    headers.write_text("# session of the proxy\nCookie: session=abc\n")
    with KfpServer(header=("Cookie", "session=abc")) as server:
        connect(Connection(server.url, header_file=headers))
        with pytest.raises(UserError, match="login page"):
            connect(Connection(server.url))
        headers.write_text("Cookie\n")
        with pytest.raises(UserError, match="line 1: write `Name: value`"):
            connect(Connection(server.url, header_file=headers))


def test_a_server_that_is_down_is_tried_again_and_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(UserError, match=f"127.0.0.1:{port} is not reachable after 4 attempts") as caught:
        connect(Connection(f"http://127.0.0.1:{port}"))
    assert "\n" not in str(caught.value)


def test_a_server_that_is_starting_is_waited_for(server: KfpServer) -> None:
    server.failures += [("GET", "healthz", 503)] * 2
    connect(Connection(server.url))
    assert server.requests["GET"] >= 3


def test_a_change_is_never_sent_twice(client: Client, server: KfpServer, package: Path) -> None:
    server.failures.append(("POST", "/runs$", 503))
    with pytest.raises(UserError, match="503"):
        run.submit(client, package, experiment="e", parameters=GIVEN)
    assert server.runs == {}


def test_tls_is_verified(server: KfpServer) -> None:
    with pytest.raises(UserError, match=r"not trusted|TLS|not reachable"):
        connect(Connection(server.url.replace("http:", "https:")))
    client = connect(Connection(server.url))
    assert client._existing_config.verify_ssl is True


def test_hosts_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Kubeflow Pipelines server"):
        connect(Connection())
    with pytest.raises(UserError, match="write the scheme too"):
        connect(Connection("kubeflow.example.org"))
    with pytest.raises(UserError, match="cannot be read"):
        connect(Connection("http://localhost:1", token_file=tmp_path / "none"))


# --- the stand-in --------------------------------------------------------------------------------


def test_the_stand_in_is_strict() -> None:
    with pytest.raises(Refused, match='unknown field "run_name"'):
        check({"run_name": "x"}, "V2beta1Run", "")
    with pytest.raises(Refused, match="is none of"):
        check({"mode": "ON"}, "V2beta1RecurringRun", "")
    with pytest.raises(Refused, match="is no bool"):
        check({"no_catchup": "yes"}, "V2beta1RecurringRun", "")
