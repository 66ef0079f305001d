import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from huesong import __version__
from huesong.config import Params
from huesong.runtime.errors import UserError
from huesong.tracking import provenance, store
from huesong.tracking.figures import batches, curve_points, figure_name, flatten, numbers
from huesong.tracking.runs import Run, stage_run
from huesong.tracking.sessions import SESSION_TAG, end_orphaned_runs
from tests.stores import new_database

ENVIRONMENT = (
    "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HUESONG_SESSION", "HUESONG_TRACKING", "RANK",
    "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
)  # fmt: skip


@dataclass
class Report:
    metrics: dict[str, float]
    files: list[Path]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a git commit, a data version and a dvc.lock."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "data.dvc").write_text(yaml.safe_dump({"outs": [{"md5": "0123.dir", "path": "data"}]}))
    (folder / "dvc.lock").write_text("stages: {}\n")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "1"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    return folder


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ENVIRONMENT:
        monkeypatch.delenv(key, raising=False)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    monkeypatch.setattr(logging.getLogger("huesong"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="huesong"):
        yield lambda: [record.getMessage() for record in caplog.records if record.name == "huesong"]


def runs(root: Path, experiment: str) -> dict[str, Any]:
    """The runs of an experiment by name (the parent as `parent`)."""
    from mlflow import MlflowClient

    client = MlflowClient(store.tracking_uri(root))
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return {"parent" if SESSION_TAG in run.data.tags else run.info.run_name: run for run in found}


def test_a_stage_alone_is_one_run_with_all_that_made_it(root: Path) -> None:
    from mlflow import MlflowClient

    folder = root / "artifacts"
    folder.mkdir(exist_ok=True)
    (folder / "history.csv").write_text("step,phase,loss,val_loss\n1,pairs,2.0,\n2,pairs,1.5,1.75\n")
    (folder / "metrics.json").write_text("{}")
    (folder / "tokens.npy").write_bytes(b"large")
    names = ("history.csv", "metrics.json", "tokens.npy", "missing.png")
    with stage_run("train", Params(), experiment="alone", root=root) as tracked:
        assert tracked.open_id == tracked.run_id is not None
        tracked(Report({"loss": 1.5, "nan": float("nan"), "nested": {"n": 3}}, [folder / name for name in names]))
        tracked.log_metrics({"speed": 10.0}, step=4)
    assert tracked.open_id is None

    (run,) = runs(root, "alone").values()
    assert run.info.status == "FINISHED"
    assert run.data.params["network.width"] == "128"
    assert run.data.params["seed"] == "0"
    assert run.data.metrics["loss"] == 1.5
    assert run.data.metrics["nested.n"] == 3
    assert "nan" not in run.data.metrics
    tags = run.data.tags
    assert tags["huesong.stage"] == "train"
    assert tags[provenance.DATA_DIGEST] == "0123.dir"
    assert len(tags[provenance.LOCK_DIGEST]) == 64
    assert len(tags[provenance.GIT_SHA]) == 40
    assert tags[provenance.VERSION] == __version__
    assert "mlflow.parentRunId" not in tags
    client = MlflowClient(tracked.uri)
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"history.csv", "metrics.json"}
    losses = client.get_metric_history(run.info.run_id, "curve/loss")
    assert [(point.step, point.value) for point in losses] == [(1, 2.0), (2, 1.5)]
    assert [p.step for p in client.get_metric_history(run.info.run_id, "curve/val_loss")] == [2]
    assert run.info.artifact_uri.startswith((root / "mlartifacts").as_uri())


def test_stages_of_one_session_hang_under_one_parent_with_the_summary(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUESONG_SESSION", "it's one")
    for stage in ("label", "train"):
        with stage_run(stage, Params(), experiment="session", root=root) as tracked:
            tracked(Report({"steps": 2.0, "music_ccc": 3.0, "pieces_valence_ccc": 0.5, "pieces_arousal_ccc": 0.75}, []))
    found = runs(root, "session")
    assert set(found) == {"parent", "label", "train"}
    parent = found["parent"]
    for stage in ("label", "train"):
        assert found[stage].data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert parent.data.tags[f"huesong.stage.{stage}"] == "FINISHED"
    assert parent.data.metrics == {"steps": 2.0, "music_ccc": 0.625}, "the figures that people compare, and no other"
    assert parent.data.params["train.network.width"] == "128"
    assert parent.info.status == "FINISHED"
    assert (parent.info.run_name, parent.data.tags["mlflow.source.name"]) == ("it s one", "huesong")

    monkeypatch.setenv("HUESONG_SESSION", "another")
    with stage_run("label", Params(), experiment="session", root=root) as tracked:
        assert tracked.parent_id != parent.info.run_id


def test_a_stage_that_raises_is_failed_with_its_error_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUESONG_SESSION", "failing")
    with stage_run("preprocess", Params(), experiment="failing", root=root):
        pass

    def fail() -> None:
        with stage_run("label", Params(), experiment="failing", root=root) as tracked:
            tracked.log_metrics({"before": 1.0})
            raise UserError("label: no good\nsecond line")

    with pytest.raises(UserError, match="no good"):
        fail()
    found = runs(root, "failing")
    assert found["label"].info.status == "FAILED"
    assert found["label"].data.tags["huesong.error"] == "UserError: label: no good"
    assert found["label"].data.metrics["before"] == 1.0
    assert found["preprocess"].info.status == "FINISHED"
    assert found["parent"].info.status == "FAILED"

    # repaired in the same session: the parent is whole again
    with stage_run("label", Params(), experiment="failing", root=root):
        pass
    assert runs(root, "failing")["parent"].info.status == "FINISHED"


def test_an_interrupted_stage_is_killed(root: Path) -> None:
    with pytest.raises(KeyboardInterrupt), stage_run("train", Params(), experiment="interrupted", root=root):
        raise KeyboardInterrupt
    assert runs(root, "interrupted")["train"].info.status == "KILLED"


def test_a_stage_that_is_ended_before_it_begins_is_killed_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "_start_monitor", lambda _: sys.exit(143))
    before = dict(os.environ)
    with pytest.raises(SystemExit), stage_run("train", Params(), experiment="early", root=root):
        raise AssertionError
    assert runs(root, "early")["train"].info.status == "KILLED"
    assert dict(os.environ) == before


@pytest.mark.slow
def test_runs_of_stages_that_vanished_are_ended_with_their_session(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os; from pathlib import Path; from huesong.config import Params\n"
        "from huesong.tracking.runs import stage_run\n"
        f"with stage_run('train', Params(), experiment='left', root=Path({str(root)!r})): os._exit(9)"
    )
    uri = store.tracking_uri(root)
    for again, ended in ((False, "KILLED"), (True, "FINISHED")):
        session = f"evicted, tried again: {again}"
        monkeypatch.setenv("HUESONG_SESSION", session)
        with stage_run("label", Params(), experiment="left", root=root) as label:
            pass
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 9
        if again:
            with stage_run("train", Params(), experiment="left", root=root):
                pass
        assert end_orphaned_runs(uri, "another session") == []
        assert end_orphaned_runs(uri, session) == ([] if again else ["train"])  # else the stage after it has ended it
        assert end_orphaned_runs(uri, session) == []
        client = store.connect(uri)
        parent = client.get_run(label.parent_id)
        assert parent.info.status == parent.data.tags["huesong.stage.train"] == ended
        below = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{label.parent_id}'")
        states = sorted((run.data.tags["huesong.stage"], run.info.status) for run in below)
        assert states == [("label", "FINISHED"), *[("train", "FINISHED")] * again, ("train", "KILLED")]


@pytest.mark.slow
def test_processes_that_race_agree_on_one_parent(root: Path) -> None:
    with stage_run("label", Params(), experiment="race", root=root):
        pass  # the experiment exists; the race is for the parent
    code = (
        "import sys; from pathlib import Path; from huesong.config import Params\n"
        "import mlflow; from huesong.tracking.runs import stage_run\n"
        f"root = Path({str(root)!r})\n"
        "sys.stdin.readline()\n"
        "with stage_run(sys.argv[1], Params(), experiment='race', root=root) as run: print(run.parent_id)"
    )
    environment = {**os.environ, "HUESONG_SESSION": "race"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, stage], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for stage in ("label", "train")
    ]  # fmt: skip
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    parents = [process.communicate(timeout=120)[0].strip() for process in started]
    assert len(parents[0]) == 32
    assert parents[0] == parents[1]


def test_a_run_id_from_outside_is_resumed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stage_run("label", Params(), experiment="outside", root=root) as first:
        pass
    assert first.run_id is not None
    monkeypatch.setenv("MLFLOW_RUN_ID", first.run_id)
    monkeypatch.setenv("HUESONG_SESSION", "ignored")
    with stage_run("train", Params(), experiment="of no matter", root=root) as tracked:
        tracked.log_metrics({"resumed": 1.0})
    assert tracked.run_id == first.run_id
    assert runs(root, "outside")["label"].data.metrics["resumed"] == 1.0


def test_a_server_that_is_down_warns_once_and_the_stage_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch, warnings: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")  # the discard port: nobody listens
    done = False
    with stage_run("train", Params(), experiment="down", root=root) as tracked:
        tracked(Report({"loss": 1.0}, []))
        done = True
    assert done
    assert not tracked.active
    (message,) = warnings()
    assert "MLFLOW_TRACKING_URI" in message
    assert "the stage goes on" in message
    assert "secret" not in message


def test_a_store_that_breaks_while_a_stage_runs_costs_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: Any
) -> None:
    database = tmp_path / "breaks.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_database(database))
    with stage_run("train", Params(), experiment="breaks", root=root) as tracked:
        assert tracked.active
        database.write_bytes(b"this is no database any more" * 100)
        tracked(Report({"loss": 1.0}, []))
        tracked(Report({"loss": 2.0}, []))
    assert len(warnings()) == 1


@pytest.mark.parametrize("uri", ["file:///nowhere", "nonsense://x", "sqlite:////dev/null/x.db"])
def test_a_store_that_is_none_warns(uri: str, root: Path, monkeypatch: pytest.MonkeyPatch, warnings: Any) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with stage_run("train", Params(), experiment="none", root=root) as tracked:
        assert not tracked.active
    assert len(warnings()) == 1


def test_a_damaged_database_warns_at_once(tmp_path: Path, warnings: Any) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with stage_run("train", Params(), experiment="x", root=tmp_path) as tracked:
        assert not tracked.active
    assert len(warnings()) == 1


@pytest.mark.parametrize(("key", "value"), [("HUESONG_TRACKING", "off"), ("RANK", "1")])
def test_tracking_can_be_off(key: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(key, value)
    with stage_run("train", Params(), experiment="off", root=tmp_path) as tracked:
        tracked(Report({"loss": 1.0}, []))
    assert not list(tmp_path.iterdir())


def test_without_mlflow_the_stage_runs_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: Any
) -> None:
    monkeypatch.setattr(store, "installed", lambda: False)  # cannot be uninstalled for one test
    with stage_run("train", Params(), experiment="off", root=tmp_path) as tracked:
        tracked(Report({"loss": 1.0}, []))
    assert "pip install" in warnings()[0]
    assert not list(tmp_path.iterdir())


def test_a_folder_named_mlflow_is_not_mlflow(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    code = (
        "import sys; sys.path = ['.', *(p for p in sys.path if 'site-packages' not in p)]\n"
        "import importlib.util as u; spec = u.find_spec('mlflow')\n"
        "print(spec is not None, spec.origin is None)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
    assert store.installed()


def test_the_environment_is_put_back(root: Path) -> None:
    before = dict(os.environ)
    with stage_run("label", Params(), experiment="environment", root=root):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
    assert dict(os.environ) == before


def test_a_users_own_limits_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with store.http_limits():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"


def test_the_session_of_a_dvc_process_is_found(tmp_path: Path) -> None:
    """Two children of one process named dvc share a key; another dvc process has another."""
    dvc = tmp_path / "dvc"
    child = "from huesong.tracking.provenance import session_key; print(session_key())"
    dvc.write_text(
        "import subprocess, sys\n"
        f"for _ in range(2): subprocess.run(['sh', '-c', sys.argv[1] + ' -c ' + repr({child!r}) + ' ; true'])\n"
    )
    keys = [
        subprocess.run([sys.executable, dvc, sys.executable], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert keys[0][0].startswith("dvc-")
    assert keys[0][0] == keys[0][1]
    assert keys[0][0] != keys[1][0]


@pytest.mark.parametrize(
    ("name", "command", "expected"),
    [
        ("dvc", ["/x/bin/python", "/x/bin/dvc", "repro"], True),
        ("python3.11", ["/x/bin/python", "/x/bin/dvc", "repro"], True),
        ("python3.11", ["python", "-m", "dvc", "repro"], True),
        ("dvc.exe", ["C:/x/dvc.exe", "repro"], True),
        ("bash", ["bash", "-c", "dvc repro"], False),
        ("vim", ["vim", "dvc.yaml"], False),
        ("vim", ["vim", "data.dvc"], False),
        ("python", ["python"], False),
        ("kthread", [], False),
    ],
)
def test_what_counts_as_dvc(name: str, command: list[str], expected: bool) -> None:
    assert provenance.is_dvc(name, command) is expected


def test_git_sha_says_dirty(root: Path) -> None:
    clean = provenance.git_sha(root)
    assert clean is not None
    lock = root / "dvc.lock"
    before = lock.read_text()
    lock.write_text("stages: {changed: 1}\n")
    assert provenance.git_sha(root) == f"{clean}+dirty"
    lock.write_text(before)


def test_no_checkout_no_digests(tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text("outs: []")
    assert provenance.provenance(tmp_path, tmp_path / "data") == {provenance.VERSION: __version__}


def test_figures() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": 2}) == {"a.b.c": 1, "d": 2}
    assert numbers({"a": 1, "b": "x", "c": float("inf"), "d": None}) == {"a": 1.0}
    assert figure_name("quadrant Q1→Q2 @5%") == "quadrant Q1_Q2 _5_"
    assert [len(b) for b in batches(list(range(250)), 100)] == [100, 100, 50]


def test_curves_of_a_critic_have_their_own_names(tmp_path: Path) -> None:
    (tmp_path / "critic_history.csv").write_text("step,loss\n10,0.5\n20,oops\n")
    assert list(curve_points(tmp_path / "critic_history.csv", "critic_")) == [("curve/critic_loss", 0.5, 10)]


def test_where_a_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.tracking_uri(tmp_path) == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert store.tracking_uri(tmp_path) == "http://server:5000"
    assert store.tracking_uri(tmp_path, "http://other") == "http://other"
    assert store.artifact_root("http://server:5000", tmp_path) is None
    assert store.artifact_root("sqlite:////var/x/y.db", tmp_path) == "file:///var/x/mlartifacts"
    assert store.shown("postgresql://me:secret@db/mlflow") == "postgresql://db/mlflow"


@pytest.mark.slow
def test_processes_that_open_a_new_database_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    script = "import sys; from huesong.tracking import store; store.connect(sys.argv[1]).search_experiments()"
    together = [subprocess.Popen([sys.executable, "-c", script, uri], stderr=subprocess.PIPE) for _ in range(3)]
    for process in together:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()


def test_an_experiment_in_a_folder_of_its_own_is_tracked_in_the_checkout(tmp_path: Path) -> None:
    """`dvc exp run --temp` and `--queue` run the stages below .dvc/tmp/exps and remove that folder."""
    inside = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234"
    inside.mkdir(parents=True)
    assert store.tracking_uri(inside) == store.tracking_uri(tmp_path) == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert store.checkout_of(tmp_path / ".dvc" / "tmp") == tmp_path / ".dvc" / "tmp"
    assert store.artifact_root(f"sqlite:///{tmp_path / 'mlflow.db'}", inside) == (tmp_path / "mlartifacts").as_uri()
