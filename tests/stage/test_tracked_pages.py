"""What an operator reads on MLflow's pages: data, description, pieces, the model's links, and what the container used."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.data import get_source
from PIL import Image

from huesong import contracts
from huesong.config import Params
from huesong.evaluate.stage import EvaluateReport
from huesong.register import stage as register
from huesong.runtime.workers import cores
from huesong.tracking import system
from huesong.tracking.datasets import CONTEXT, USES
from huesong.tracking.figures import COMPARED, compared
from huesong.tracking.records import NOTE_TAG, TITLES
from huesong.tracking.runs import stage_run
from tests.conftest import GATE
from tests.stores import new_database

if TYPE_CHECKING:
    from tests.conftest import Finished


@pytest.fixture(scope="module")
def tracked(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The runs of a session that tracked finished artifacts in a sqlite store, by stage (and `parent`); `client`."""
    root = tmp_path_factory.mktemp("pages")
    client = MlflowClient(new_database(root / "mlflow.db"))
    params, world = Params(), finished.world
    with pytest.MonkeyPatch.context() as patch:
        for key in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HUESONG_TRACKING"):
            patch.delenv(key, raising=False)
        patch.setenv("HUESONG_SESSION", "pages")
        ids = {}
        for stage in ("train", "evaluate", "register"):
            with stage_run(stage, params, experiment="pages", data=world.data, root=root) as run:
                run.log_data(world.preprocess)
                if stage == "evaluate":
                    figures = json.loads((finished.evaluate / contracts.FIGURES).read_text())
                    run(EvaluateReport(figures, [], finished.evaluate, world.data))
                elif stage == "register":
                    places = {
                        "train": world.train,
                        "evaluate": finished.evaluate,
                        "gate": GATE,
                        "out": root / "register",
                    }
                    run(register.run(params.register_, **places, tracking_uri=run.uri, run_id=run.open_id, tags={}))
            assert run.run_id is not None
            assert run.parent_id is not None
            ids[stage], ids["parent"] = run.run_id, run.parent_id
    return {"client": client, **{name: client.get_run(run_id) for name, run_id in ids.items()}}


def data_of(run: Any) -> dict[str, Any]:
    """The data sets of a run by name: with context and profile."""
    return {
        one.dataset.name: ({t.key: t.value for t in one.tags}[CONTEXT], json.loads(one.dataset.profile), one.dataset)
        for one in run.inputs.dataset_inputs
    }


def test_the_data_of_every_run_are_named_with_rows_licences_and_use(
    tracked: dict[str, Any], finished: Finished
) -> None:
    everything = {f"{kind} for {use}" for kind in ("pictures", "music") for use in USES}
    assert set(data_of(tracked["parent"])) == set(data_of(tracked["register"])) == everything
    assert set(data_of(tracked["train"])) == {"pictures for training", "music for training"}
    assert set(data_of(tracked["evaluate"])) == {"pictures for evaluation", "music for evaluation"}
    pictures = pd.read_parquet(finished.world.preprocess / contracts.IMAGES_TABLE)
    learnt = pictures[pictures["split"].isin(["train", "val"])]
    context, profile, dataset = data_of(tracked["train"])["pictures for training"]
    assert (context, profile["num_rows"]) == ("training", len(learnt))
    assert sum(one["rows"] for one in profile["sources"]) == len(learnt)
    assert {one["licence"] for one in profile["sources"]} == set(learnt["licence"])
    assert dataset.digest == data_of(tracked["parent"])["pictures for training"][2].digest
    assert dataset.digest != data_of(tracked["parent"])["pictures for evaluation"][2].digest
    assert Path(get_source(next(iter(tracked["train"].inputs.dataset_inputs))).load()).is_file()
    assert "valence" in {column["name"] for column in json.loads(dataset.schema)["mlflow_colspec"]}


def test_the_description_shows_headline_figures_and_pieces_that_are_there(
    tracked: dict[str, Any], tmp_path: Path, finished: Finished
) -> None:
    client, evaluate, parent = tracked["client"], tracked["evaluate"], tracked["parent"]
    files = {file.path for file in client.list_artifacts(evaluate.info.run_id, "pieces")}
    assert {f"pieces/piece-1.{kind}" for kind in ("jpg", "mid", "mp3", "png")} <= files
    for run in (evaluate, parent):
        note = run.data.tags[NOTE_TAG]
        shown = {word.rstrip("),") for word in note.replace("(", " ").split() if word.startswith("get-artifact")}
        prefix = f"get-artifact?run_uuid={evaluate.info.run_id}&path="
        assert {word.removeprefix(prefix) for word in shown} == files
        assert len(note) < 5000
        assert f"| {TITLES['a_ccc']} | {parent.data.metrics['a_ccc']:g} |" in note
    figures = json.loads((finished.evaluate / contracts.FIGURES).read_text())
    assert compared("evaluate", figures).items() <= parent.data.metrics.items()
    picture = Image.open(client.download_artifacts(evaluate.info.run_id, "pieces/piece-1.jpg", str(tmp_path)))
    assert picture.size == (480, 320)
    assert TITLES.keys() == {name for names in COMPARED.values() for name in names}


def test_a_description_that_somebody_wrote_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient(new_database(tmp_path / "mlflow.db"))
    monkeypatch.setenv("HUESONG_SESSION", "noted")
    with stage_run("train", Params(), experiment="noted", root=tmp_path) as run:
        client.set_tag(run.parent_id, NOTE_TAG, "for the exhibition")
        run.log_metrics({"steps": 2})
    assert client.get_run(run.parent_id).data.tags[NOTE_TAG] == "for the exhibition"
    assert f"| {TITLES['steps']} | 2 |" in client.get_run(run.run_id).data.tags[NOTE_TAG]


def test_the_logged_model_is_linked_to_runs_data_and_version(tracked: dict[str, Any]) -> None:
    client, run, parent = tracked["client"], tracked["register"], tracked["parent"]
    version = client.get_model_version_by_alias(contracts.MODEL_NAME, contracts.CHALLENGER)
    (output,) = parent.outputs.model_outputs
    assert output.model_id in version.source
    assert [one.model_id for one in run.outputs.model_outputs] == [output.model_id]
    model = client.get_logged_model(output.model_id)
    assert model.source_run_id == version.run_id == run.info.run_id
    data = data_of(run)["pictures for evaluation"][2]
    figures = [one for one in model.metrics if not one.key.startswith("system/")]  # MLflow adds those of the run
    assert {(one.dataset_name, one.dataset_digest) for one in figures} == {(data.name, data.digest)}
    assert len(figures) > 100


# --- the container -------------------------------------------------------------------------------


def group(root: Path, version: int, used_s: float) -> Path:
    """A file system that says: 512 MB, 200 of them used and 50 a cache, half a processor, so many seconds used."""
    base = root / "sys/fs/cgroup"
    lines, files = (
        ("0::/\n", {
            "memory.max": "512000000\n", "memory.current": "200000000\n", "cpu.max": "50000 100000\n",
            "memory.stat": "anon 150000000\ninactive_file 50000000\n", "cpu.stat": f"usage_usec {used_s * 1e6:.0f}\n",
        })
        if version == 2
        else ("4:memory:/x\n3:cpuacct:/x\n1:cpu:/x\n", {
            "memory/x/memory.limit_in_bytes": "512000000", "memory/x/memory.usage_in_bytes": "200000000",
            "memory/x/memory.stat": "inactive_file 1\ntotal_inactive_file 50000000", "cpu/x/cpu.cfs_quota_us": "50000",
            "cpu/x/cpu.cfs_period_us": "100000", "cpuacct/x/cpuacct.usage": f"{used_s * 1e9:.0f}",
            "memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "9000000000",
        })
    )  # fmt: skip
    written = {root / "proc/self/cgroup": lines, **{base / name: text for name, text in files.items()}}
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("version", [1, 2])
def test_processor_and_memory_are_those_of_the_container(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = system.Container(group(tmp_path, version, 10.0))
    moments = iter((100.0, 104.0))
    monkeypatch.setattr(system.time, "monotonic", lambda: next(moments))
    container.collect_metrics()
    group(tmp_path, version, 11.5)  # 1.5 s in 4 s of half a processor
    container.collect_metrics()
    assert container.aggregate_metrics() == {
        "system_memory_usage_megabytes": 150.0, "system_memory_usage_percentage": 29.3, "cpu_utilization_percentage": 75.0,
    }  # fmt: skip
    assert cores(tmp_path) == 1


def test_without_limits_the_machine_is_measured(tmp_path: Path) -> None:
    container = system.Container(tmp_path)
    for _ in range(2):
        container.collect_metrics()
    assert container.aggregate_metrics() == {}
    names: set[str] = set()
    for one in system.monitors(tmp_path):
        one.collect_metrics()
        names |= one.aggregate_metrics().keys()
    assert {"cpu_utilization_percentage", "system_memory_usage_percentage", "disk_usage_percentage"} <= names


def test_what_was_measured_is_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    client = MlflowClient(new_database(tmp_path / "mlflow.db"))
    with stage_run("train", Params(), experiment="measured", root=tmp_path) as run:
        for _ in range(600):  # a measurement takes as long as the machine is busy
            time.sleep(0.1)
            history = client.get_metric_history(run.run_id, "system/system_memory_usage_percentage")
            if len(history) > 2:
                break
    assert [point.step for point in history[:3]] == [0, 1, 2]
    assert 0 < history[0].value < 100
