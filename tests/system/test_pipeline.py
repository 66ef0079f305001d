"""`dvc repro` end to end on a tiny set, in a clone of its own: once, again, and after a change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from huesong import contracts
from huesong.music.reading import read_score
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.slow


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def run(*words: str, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def clone(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the tiny data set, after its first `dvc repro`, which trains in two processes."""
    folder = tmp_path_factory.mktemp("clone") / "huesong"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in tracked:
        if (
            name.startswith(("dvc-remote/", "tests/", "docs/"))
            or name in ("data.dvc", "dvc.lock")
            or not (ROOT / name).is_file()
        ):
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(tiny_data, folder / "data")
    params = {**TINY, "train": {**TINY["train"], "processes": 2}, "register": {"model_name": "huesong"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    run("git", "init", "-q", cwd=folder)
    run("git", "config", "user.email", "test@example.invalid", cwd=folder)
    run("git", "config", "user.name", "test", cwd=folder)
    run("dvc", "add", "-q", "data", cwd=folder)
    run("dvc", "repro", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", "first", cwd=folder)
    return folder


def weights(folder: Path) -> bytes:
    return (folder / "artifacts" / "train" / contracts.MODEL / contracts.MODEL_WEIGHTS).read_bytes()


def ran(output: str) -> list[str]:
    """The stages that `dvc repro` ran."""
    return [stage for stage in contracts.STAGES if f"Running stage '{stage}'" in output]


def test_every_stage_leaves_its_folder_and_the_model_is_registered(clone: Path) -> None:
    for stage in contracts.STAGES:
        assert any((clone / "artifacts" / stage).iterdir())
    registration = json.loads((clone / "artifacts" / "register" / contracts.REGISTRATION).read_text())
    assert str(registration["version"]) == "1"
    assert contracts.CHALLENGER in registration["aliases"]


def test_a_second_repro_does_nothing(clone: Path) -> None:
    assert ran(run("dvc", "repro", cwd=clone)) == []


def test_all_runs_hang_under_one_parent(clone: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{clone / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert sorted(run.info.run_name for run in children) == sorted(contracts.STAGES)
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in children}
    assert parent in {run.info.run_id for run in runs}
    shown = client.get_run(parent)
    assert {one.dataset.name for one in shown.inputs.dataset_inputs} == {
        f"{kind} for {use}" for kind in ("pictures", "music") for use in ("training", "evaluation")
    }
    assert "![piano roll](get-artifact" in shown.data.tags["mlflow.note.content"]
    assert len(shown.outputs.model_outputs) == 1
    assert all(run.info.status == "FINISHED" for run in runs)


def test_the_kubeflow_pipeline_ends_in_the_same_model(clone: Path) -> None:
    run("huesong", "data", "publish", "--remote", "store", cwd=clone)
    run("huesong", "pipeline", "local", "--root", "out/pipeline", "--remote", "store", cwd=clone)
    (theirs,) = (clone / "out" / "pipeline").rglob(f"register/*/{contracts.REGISTRATION}")
    ours = clone / "artifacts" / "register" / contracts.REGISTRATION
    assert json.loads(theirs.read_text())["digest"] == json.loads(ours.read_text())["digest"]


def test_changing_a_training_parameter_reruns_train_and_what_follows(clone: Path) -> None:
    params = yaml.safe_load((clone / "params.yaml").read_text())
    params["train"]["steps"] = 7
    (clone / "params.yaml").write_text(yaml.safe_dump(params))
    assert ran(run("dvc", "repro", cwd=clone)) == ["train", "evaluate", "register"]
    registration = json.loads((clone / "artifacts" / "register" / contracts.REGISTRATION).read_text())
    assert str(registration["version"]) == "2"
    changes = json.loads(run("dvc", "metrics", "diff", "--json", cwd=clone))
    steps = changes["artifacts/train/metrics.json"]["steps"]
    assert (steps["old"], steps["new"]) == (6, 7)
    run("dvc", "plots", "show", "-o", "plots", cwd=clone)
    assert (clone / "plots" / "index.html").stat().st_size > 1000


def test_compose_uses_the_registered_model(clone: Path) -> None:
    picture = next((clone / "data" / "images").rglob("*.jpg"))
    model = f"models:/{contracts.MODEL_NAME}@{contracts.CHALLENGER}"
    out = run("huesong", "compose", str(picture), "-o", "out/piece", "--seconds", "6", "--model", model, cwd=clone)
    piece = read_score(clone / "out" / "piece.mid")  # of a network trained for seven steps: a few notes at most
    assert piece.note_num() > 0
    assert piece.to("second").end() == pytest.approx(6, rel=0.1)
    for suffix in (".wav", "-roll.png"):
        assert (clone / "out" / f"piece{suffix}").stat().st_size > 1000
    for word in ("predicted", "requested", "obtained"):
        assert word in out.lower()


def test_experiments_of_a_queue_two_at_once_are_tracked_here_and_can_be_applied(clone: Path) -> None:
    """Each is applied with its own model, which the registry has."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{clone / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    seven, before = weights(clone), {run.info.run_id for run in client.search_runs(experiments)}
    quick = ("-S", "+evaluate.baselines=false", "-S", "evaluate.sampling.seconds=4.0")
    for steps in (6, 8):
        run("dvc", "exp", "run", "--queue", "-n", f"steps-{steps}", "-S", f"train.steps={steps}", *quick, cwd=clone)
    with (clone / "queue.log").open("w") as log:  # a pipe would stay open until the workers end
        subprocess.run(
            ["dvc", "queue", "start", "-j", "2"], cwd=clone, env=environment(), stdout=log, stderr=log, check=True
        )
    until = time.monotonic() + 900
    while "Running" in (told := run("dvc", "queue", "status", cwd=clone)) or "Queued" in told:
        assert time.monotonic() < until, told
        time.sleep(1)
    assert told.count("Success") == 2, told
    run("dvc", "exp", "run", "--temp", "-n", "renamed", "-S", "register.model_name=renamed", cwd=clone)
    assert weights(clone) == seven  # until one is applied
    applied = set()
    for steps in (8, 6):
        run("dvc", "exp", "apply", f"steps-{steps}", cwd=clone)
        metrics = json.loads((clone / "artifacts/train/metrics.json").read_text())
        assert metrics["steps"] == yaml.safe_load((clone / "params.yaml").read_text())["train"]["steps"] == steps
        registration = json.loads((clone / "artifacts" / "register" / contracts.REGISTRATION).read_text())
        assert client.get_model_version(contracts.MODEL_NAME, str(registration["version"]))
        applied.add(str(registration["version"]))
        assert list((clone / "artifacts/evaluate/plots").glob("*.png"))
        assert list((clone / "artifacts/evaluate").rglob("*.mid"))
        assert ran(run("dvc", "repro", cwd=clone)) == []
    new = [each for each in client.search_runs(experiments) if each.info.run_id not in before]
    assert {each.info.status for each in new} == {"FINISHED"}
    trained = [each for each in new if each.info.run_name == "train"]
    # Of six steps the model of the first `dvc repro` may come out of DVC's cache.
    assert {"8"} <= {each.data.params["steps"] for each in trained} <= {"6", "8"}
    assert len({each.data.tags["mlflow.parentRunId"] for each in trained}) == len(trained)
    for each in trained:  # kept with the checkout, not with the folder that DVC removes
        assert {file.path for file in client.list_artifacts(each.info.run_id)} >= {"history.csv"}
    assert len(client.search_model_versions("name='renamed'")) == 1
    assert len(applied) == 2
    assert applied <= {str(each.version) for each in client.search_model_versions(f"name='{contracts.MODEL_NAME}'")}
    assert sorted(path.name for path in clone.iterdir() if path.name.startswith("mlflow.db")) == [
        "mlflow.db",
        "mlflow.db.lock",
    ]
