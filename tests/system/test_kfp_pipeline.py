"""The compiled pipeline, read back; and the whole of it in child processes on the tiny set."""

from __future__ import annotations

import builtins
import copy
import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from components import image
from kfp.local.logging_utils import indented_print
from pipeline.local import LocalRun, run_local, watched_tasks
from pipeline.pipeline import CACHE_DAYS, compile_pipeline
from pipeline.resources import GPU, SECRET, STORAGE, TABLE, TRACKING

from huesong import contracts
from huesong.config import Params
from huesong.data import versions as remotes
from huesong.runtime.errors import UserError
from huesong.runtime.files import folder_digest
from huesong.tracking.provenance import DATA_DIGEST, GIT_SHA
from tests.conftest import TINY
from tests.console import huesong

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FAN_OUT = ("validate", "shard", "merge")
"""What stands for `preprocess` in a pipeline that is compiled with several shards."""
GATE = {"absolute": {"invalid_tokens": {"max": 0}}}
DIGESTS = {stage: f"registry.example/huesong/{stage}@sha256:{number:064x}" for number, stage in enumerate(TABLE)}


def compiled(path: Path, *words: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two documents of a compiled package: the pipeline and its Kubernetes settings."""
    spec, platform = yaml.safe_load_all(compile_pipeline(path, *words, **options).read_text())
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.fixture(scope="module", params=[1, 3], ids=["one shard", "three shards"])
def package(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], dict[str, Any]]:
    return compiled(tmp_path_factory.mktemp("package") / "pipeline.yaml", shards=request.param)


def executors(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Component -> its container."""
    found = spec["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in found.items()}


def tasks(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every task of every graph that runs a container."""
    graphs = [spec["root"], *(part for part in spec["components"].values() if "dag" in part)]
    return {
        name: task
        for graph in graphs
        for name, task in graph["dag"]["tasks"].items()
        if name in TABLE
    }  # fmt: skip


def present(spec: dict[str, Any]) -> set[str]:
    """The components that a package has: `preprocess`, or those of its fan-out."""
    fanned_out = any("comp-shard" in name for name in spec["components"])
    return set(TABLE) - ({"preprocess"} if fanned_out else set(FAN_OUT))


# --- the package ---------------------------------------------------------------------------------


def test_every_component_is_in_the_package_once(package: tuple[dict[str, Any], dict[str, Any]]) -> None:
    spec, platform = package
    assert set(executors(spec)) == set(tasks(spec)) == present(spec)
    assert {name.removeprefix("exec-") for name in platform} == present(spec)


def test_parameters_default_to_the_files_of_the_checkout(package: tuple[dict[str, Any], dict[str, Any]]) -> None:
    given = package[0]["root"]["inputDefinitions"]["parameters"]
    assert set(given) == {"data_digest", "remote", "params", "gate", "git_sha", "tracking_uri", "cache_days"}
    assert Params.model_validate(given["params"]["defaultValue"]) == Params.model_validate(
        yaml.safe_load((ROOT / "params.yaml").read_text())
    )
    assert given["gate"]["defaultValue"] == yaml.safe_load((ROOT / "mlflow" / "gate.yaml").read_text())


def test_images_have_versions_and_a_release_has_digests(
    package: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    assert {stage: container["image"] for stage, container in executors(package[0]).items()} == {
        stage: image(stage) for stage in present(package[0])
    }
    spec, _ = compiled(tmp_path / "release.yaml", DIGESTS, release=True)
    assert {stage: container["image"] for stage, container in executors(spec).items()} == {
        stage: DIGESTS[stage] for stage in present(spec)
    }
    assert ":latest" not in (tmp_path / "release.yaml").read_text()


@pytest.mark.parametrize(
    ("images", "release", "word"),
    [
        ({"train": "huesong/train:latest"}, False, "huesong/train:latest"),
        ({"train": "registry.example:5000/huesong/train"}, False, "names no version"),
        ({"traim": "huesong/train:1"}, False, "traim"),
        ({**DIGESTS, "label": "huesong/label:1"}, True, "digest"),
        ({name: ref for name, ref in DIGESTS.items() if name != "fetch"}, True, "fetch"),
    ],
)
def test_images_that_may_change_are_refused(tmp_path: Path, images: dict[str, str], release: bool, word: str) -> None:
    with pytest.raises(UserError, match=word):
        compile_pipeline(tmp_path / "pipeline.yaml", images, release=release)
    assert not (tmp_path / "pipeline.yaml").exists()


def test_bad_settings_and_names_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="steps"):
        compile_pipeline(tmp_path / "pipeline.yaml", params={"train": {"stepz": 1}})
    with pytest.raises(UserError, match="yaml"):
        compile_pipeline(tmp_path / "pipeline.txt")
    assert not list(tmp_path.iterdir())


def test_resources_are_those_of_the_table(package: tuple[dict[str, Any], dict[str, Any]]) -> None:
    spec, platform = package
    for stage in present(spec):
        row, given = TABLE[stage], executors(spec)[stage]["resources"]
        assert given["resourceCpuLimit"] == given["resourceCpuRequest"] == row.cpu
        assert given["resourceMemoryLimit"] == given["resourceMemoryRequest"] == row.memory
        assert "accelerator" not in given
        pod = platform[f"exec-{stage}"]
        assert int(pod["activeDeadlineSeconds"]) == int(row.hours * 3600)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert [mount["sizeLimit"] for mount in pod.get("emptyDirMounts", [])] == [row.shm] * bool(row.shm)


def test_only_training_gets_accelerators(tmp_path: Path) -> None:
    spec, platform = compiled(tmp_path / "gpu.yaml", gpus=2)
    found = {
        stage: c["resources"]["accelerator"] for stage, c in executors(spec).items() if "accelerator" in c["resources"]
    }
    assert list(found) == ["train"]
    assert found["train"]["resourceType"] == GPU
    assert found["train"]["resourceCount"] == "2"
    assert [t["key"] for t in platform["exec-train"]["tolerations"]] == [GPU]


def test_tasks_are_retried_with_growing_waits_and_cached(package: tuple[dict[str, Any], dict[str, Any]]) -> None:
    for stage, task in tasks(package[0]).items():
        assert task["retryPolicy"]["maxRetryCount"] == TABLE[stage].retries
        assert task["retryPolicy"]["backoffFactor"] > 1
        # what is current, the registry (twice), the end of this very run
        always = stage in ("resolve", "rival", "register", "outcome")
        assert task["cachingOptions"].get("enableCache", False) is not always


def test_secrets_are_named_never_held(
    package: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in present(package[0]):
        given = package[1][f"exec-{stage}"].get("secretAsEnv", [])
        assert [secret["secretName"] for secret in given] == [SECRET] * bool(TABLE[stage].secret)
        assert all("env" not in container for container in executors(package[0]).values())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-not-in-here")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token-not-in-here")
    assert "not-in-here" not in compile_pipeline(tmp_path / "pipeline.yaml").read_text()


def test_the_keys_of_the_secret_that_the_page_names_reach_the_pods() -> None:
    page = (ROOT / "docs" / "kubeflow.md").read_text("utf-8").split("# secret.env")[1].split("kubectl")[0]
    assert set(re.findall(r"\b(?:AWS|MLFLOW|HUESONG)_[A-Z0-9_]+", page)) == set(TRACKING)
    assert set(STORAGE) < set(TRACKING)


def test_a_new_champion_on_old_data_has_a_proof_of_its_own(package: tuple[dict[str, Any], dict[str, Any]]) -> None:
    given = tasks(package[0])["compose"]["inputs"]["parameters"]
    assert "version" in given
    assert tasks(package[0])["compose"]["cachingOptions"]["enableCache"] is True


def test_nothing_is_taken_from_the_cache_in_another_period(package: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Storage lets artifacts expire, and an engine does not look: every task's cache hangs on what `fetch` made."""
    spec, _ = package
    assert spec["root"]["inputDefinitions"]["parameters"]["cache_days"]["defaultValue"] == CACHE_DAYS
    found = tasks(spec)
    assert found["resolve"]["cachingOptions"] == {}
    given = found["fetch"]["inputs"]["parameters"]["period"]["taskOutputParameter"]
    assert given == {"outputParameterKey": "period", "producerTask": "resolve"}
    roots = {name for name, task in found.items() if not task.get("inputs", {}).get("artifacts")}
    assert roots == {"settings", "resolve", "fetch", "outcome"}
    page = (ROOT / "docs" / "kubeflow.md").read_text("utf-8")
    assert f"`cache_days` ({CACHE_DAYS})" in page


def test_stages_see_the_settings_of_their_own_only(package: tuple[dict[str, Any], dict[str, Any]]) -> None:
    found = tasks(package[0])
    sections = {stage: stage for stage in contracts.STAGES} | {"validate": "preprocess", "merge": "preprocess"}
    for task in found.keys() & sections.keys():
        source = found[task]["inputs"]["parameters"]["params"]["taskOutputParameter"]
        assert source == {"outputParameterKey": sections[task], "producerTask": "settings"}


def test_the_champion_alone_is_composed_with_and_the_end_is_always_told(
    package: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    conditions = [
        task["triggerPolicy"]["condition"]
        for part in package[0]["components"].values()
        for task in part.get("dag", {}).get("tasks", {}).values()
        if "condition" in task.get("triggerPolicy", {})
    ]
    assert len(conditions) == 1
    assert contracts.CHAMPION in conditions[0]
    assert tasks(package[0])["outcome"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_shards_fan_out_after_one_validation_and_are_collected(tmp_path: Path) -> None:
    spec, _ = compiled(tmp_path / "shards.yaml", shards=3)
    (body,) = (
        part["dag"]["tasks"] for part in spec["components"].values() if "fetch" in part.get("dag", {}).get("tasks", {})
    )
    (loop,) = (name for name, task in body.items() if "parameterIterator" in task)
    assert json.loads(body[loop]["parameterIterator"]["items"]["raw"]) == [0, 1, 2]
    assert "validate" in body[loop]["dependentTasks"]
    assert "iteratorPolicy" not in body[loop], "all shards at once"
    graph = spec["components"][body[loop]["componentRef"]["name"]]
    assert list(graph["dag"]["tasks"]) == ["shard"]
    inputs = graph["dag"]["tasks"]["shard"]["inputs"]["parameters"]
    assert inputs["part"] == {"componentInputParameter": body[loop]["parameterIterator"]["itemInput"]}
    assert inputs["parts"]["runtimeValue"]["constant"] == 3
    # kfp's local runner puts the loop item in the place of every task's parameter that goes into a loop.
    assert set(inputs) == {"part", "parts"}
    collected = body["merge"]["inputs"]["artifacts"]["shards"]["taskOutputArtifact"]
    assert collected["producerTask"] == loop
    assert graph["outputDefinitions"]["artifacts"][collected["outputArtifactKey"]]["isArtifactList"] is True
    for user in ("label", "train", "evaluate"):
        given = body[user]["inputs"]["artifacts"]["preprocess"]["taskOutputArtifact"]
        assert given == {"outputArtifactKey": "out", "producerTask": "merge"}


def test_the_console_compiles_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from huesong.cli.app import app

    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(app, ["pipeline", "compile", "--shards", "2", "-o", str(tmp_path / "p.yaml")])
    assert done.exit_code == 0, done.output
    assert present(next(yaml.safe_load_all((tmp_path / "p.yaml").read_text()))) >= set(FAN_OUT)
    assert CliRunner().invoke(app, ["pipeline", "compile", "--shards", "0"]).exit_code == 2


# --- the run -------------------------------------------------------------------------------------


def test_shards_in_threads_leave_print_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with indented_print():  # as KFP does around every task
            first_in.set()
            second_in.wait(10)
        first_out.set()

    def second() -> None:
        first_in.wait(10)
        with indented_print():
            second_in.set()
            first_out.wait(10)

    plain = builtins.print
    with watched_tasks():
        threads = [threading.Thread(target=work) for work in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert builtins.print is not plain, "KFP puts it back in order now: watched_tasks need not"
    assert builtins.print is plain
    print("told", file=sys.stderr)
    assert capfd.readouterr().out == ""


@pytest.fixture(scope="module")
def version(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    remote = tmp_path_factory.mktemp("kfp") / "remote"
    return {"data_digest": remotes.publish(tiny_data, str(remote)).digest, "remote": str(remote)}


@pytest.fixture(scope="module")
def first(version: dict[str, str]) -> LocalRun:
    root = Path(version["remote"]).parent / "root"
    return run_local(root, **version, params=TINY, gate=GATE, git_sha="1" * 40)


def test_a_run_ends_in_a_champion_that_composes(first: LocalRun, version: dict[str, str]) -> None:
    from huesong.register.registry import Registry

    for stage in contracts.STAGES:
        assert any(first.artifact(stage, "out").iterdir())
        assert json.loads(first.artifact(stage, "metrics").read_text())
    registration = json.loads((first.artifact("register", "out") / contracts.REGISTRATION).read_text())
    champion = Registry(contracts.MODEL_NAME, uri=first.tracking_uri).by_alias(contracts.CHAMPION)
    assert champion is not None
    assert champion.uri == registration["uri"]
    assert champion.tags[DATA_DIGEST] == version["data_digest"]
    assert champion.tags[GIT_SHA] == "1" * 40
    assert list(first.artifact("compose", "out").glob("*.mid"))
    assert "SUCCEEDED" in first.artifact("outcome", "summary").read_text()


def test_all_stages_hang_under_one_parent(first: LocalRun) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(first.tracking_uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert sorted(run.info.run_name for run in children) == sorted(contracts.STAGES)
    assert len({run.data.tags["mlflow.parentRunId"] for run in children}) == 1
    assert all(run.info.status == "FINISHED" for run in runs)


def test_an_unchanged_run_takes_everything_from_the_cache(first: LocalRun, version: dict[str, str]) -> None:
    again = run_local(first.folder.parent, **version, params=TINY, gate=GATE, git_sha="1" * 40)
    assert {path.name for path in again.folder.iterdir()} == {"resolve", "rival", "register", "outcome"}
    registration = json.loads((again.artifact("register", "out") / contracts.REGISTRATION).read_text())
    assert str(registration["version"]) == "1"


def test_a_run_in_shards_makes_the_same_artifacts_and_is_cached(first: LocalRun, version: dict[str, str]) -> None:
    # In another period of the cache, which lasts for long enough that this test never sees its end.
    options = {**version, "params": TINY, "gate": GATE, "git_sha": "1" * 40, "shards": 2, "cache_days": 100_000}
    done = run_local(first.folder.parent, **options)
    ran = {path.name for path in done.folder.iterdir()}
    assert ("fetch" in ran, "label" in ran, "settings" in ran) == (True, True, False), (
        "what reads no artifact stays cached"
    )
    for part in range(2):
        place = json.loads(next(done.folder.glob(f"**/*iteration-{part}/shard/out/shard.json")).read_text())
        assert place == {"part": part, "parts": 2}
    assert folder_digest(done.artifact("merge", "out")) == folder_digest(first.artifact("preprocess", "out"))
    model = contracts.MODEL
    assert folder_digest(done.artifact("train", "out") / model) == folder_digest(first.artifact("train", "out") / model)
    again = run_local(first.folder.parent, **options)
    assert {path.name for path in again.folder.iterdir()} == {"resolve", "rival", "register", "outcome"}


def test_another_gate_asks_the_registry_alone(
    first: LocalRun, version: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    params = copy.deepcopy(TINY)
    params["register"] = {"model_name": "other"}
    strict = {"absolute": {"invalid_tokens": {"min": 1}}}
    done = run_local(first.folder.parent, **version, params=params, gate=strict)
    assert {path.name for path in done.folder.iterdir()} == {"settings", "resolve", "rival", "register", "outcome"}, (
        "compose must not run"
    )
    registration = json.loads((done.artifact("register", "out") / contracts.REGISTRATION).read_text())
    assert contracts.CHAMPION not in registration["aliases"]


def test_a_failing_component_fails_the_run_and_is_reported(
    version: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = {**version, "data_digest": "0" * 32 + ".dir"}
    with pytest.raises(UserError, match=r"'fetch'.*\.log says why") as failed:
        run_local(tmp_path / "root", **wrong, params=TINY, gate=GATE)
    (summary,) = (tmp_path / "root").glob("huesong-*/**/outcome/summary")
    assert "FAILED" in summary.read_text()
    (log,) = (tmp_path / "root").glob("*.log")
    assert "0" * 32 in log.read_text(), "the log names the version that is not there"
    shown = capfd.readouterr().out.splitlines()
    assert any(line.endswith("fetch: failure") for line in shown), shown
    assert len(shown) <= 24, "a screenful"
    assert "\x1b" not in str(failed.value)


@pytest.mark.parametrize("command", ["local", "docker"])
def test_a_version_that_is_not_there_is_named_before_anything_runs(
    command: str, version: dict[str, str], tmp_path: Path
) -> None:
    words = [command, "--digest", "0" * 32, "--remote", version["remote"], "--root", str(tmp_path / "root")]
    done = huesong("pipeline", *words)
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert "0" * 32 in line
    assert "`huesong data publish`" in line
    assert not (tmp_path / "root").exists()
