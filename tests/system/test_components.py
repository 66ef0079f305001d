"""The Kubeflow components: their functions on real artifacts, and that they name what the rest of the project names."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from components import build, image
from kfp import dsl
from mlflow import MlflowClient
from pipeline.resources import TABLE

from huesong import contracts
from huesong.component_io import inputs, outputs
from huesong.config import Params, SamplingConfig
from huesong.data import versions as remotes
from huesong.music.reading import read_score
from huesong.runtime.errors import UserError
from huesong.tracking.figures import COMPARED
from huesong.tracking.provenance import DATA_DIGEST, GIT_SHA
from huesong.tracking.runs import stage_run
from tests.conftest import TINY
from tests.stores import new_database

ROOT = Path(__file__).parents[2]
FAN_OUT = ("validate", "shard", "merge")
"""What stands for `preprocess` in a pipeline that is compiled with several shards."""
GATE = {"absolute": {"invalid_tokens": {"max": 0}}}
SHA = "0" * 40
REGISTERED = {"version", "gate_passed", "champion"}


def component(name: str) -> Any:
    return getattr(importlib.import_module(f"components.{name}"), name)


def body_lines(function: Callable[..., Any]) -> int:
    """Lines of a function's body without its docstring and empty lines."""
    source = textwrap.dedent(inspect.getsource(function))
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.FunctionDef)
    statements = tree.body[1:] if ast.get_docstring(tree) else tree.body
    lines = source.splitlines()[statements[0].lineno - 1 : statements[-1].end_lineno]
    return sum(bool(line.strip()) for line in lines)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLE)
def test_components_are_thin_and_install_nothing(name: str) -> None:
    part = component(name)
    assert part.name == name
    assert body_lines(part.python_func) <= 20
    container = part.component_spec.implementation.container
    assert container.image == image(name)
    assert "pip install" not in " ".join(container.command)


@pytest.mark.parametrize("name", TABLE)
def test_a_sigterm_reaches_python_which_unwinds(name: str) -> None:
    part = component(name)
    assert "_KFP_RUNTIME=true exec python3 -m kfp" in " ".join(part.component_spec.implementation.container.command)
    source = inspect.getsource(part.python_func)
    assert ("inputs.started()" in source) != ("inputs.tracked(" in source)


def artifacts_of(stage: str) -> set[str]:
    """The artifacts that a component takes."""
    inputs = component(stage).component_spec.inputs
    return {name for name, given in inputs.items() if given.type.startswith("system.")}


@pytest.mark.parametrize("stage", contracts.STAGES)
def test_inputs_are_those_of_dvc_and_of_the_stage(stage: str) -> None:
    spec = component(stage).component_spec
    artifacts = artifacts_of(stage)
    if "rival" in artifacts:  # a task of its own in a cluster, part of the stage here
        artifacts = artifacts - {"rival"} | artifacts_of("rival")
    dvc = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    folders = {dep.removeprefix("artifacts/") for dep in dvc["deps"] if dep == "data" or dep.startswith("artifacts/")}
    assert artifacts == folders
    run = inspect.signature(importlib.import_module(f"huesong.{stage}.stage").run).parameters
    artifacts = artifacts_of(stage) - {"rival"}  # a task of its own, which only the pipeline has
    made_here = {"config", "out", "checkpoints", "gate", "tracking_uri", "run_id", "tags", "rivalry"}
    for_experiments = {"judges", "keep_pairs"}  # what several runs in one process share
    assert artifacts == set(run) - made_here - for_experiments
    assert dvc["params"] == [stage]
    assert {"params", "tracking"} <= set(spec.inputs)
    assert {"out", "metrics", "summary"} <= set(spec.outputs)


def test_every_section_of_params_goes_to_the_stage_of_its_name() -> None:
    outputs = component("settings").component_spec.outputs
    assert list(outputs) == [*contracts.STAGES, "tracking"]
    assert set(yaml.safe_load((ROOT / "params.yaml").read_text())) == set(contracts.STAGES)


def test_bake_file_and_resources_know_the_same_components_and_images() -> None:
    plan = build.plan({})
    assert set(plan) == set(TABLE)
    assert {name: row["tag"] for name, row in plan.items()} == {name: image(name) for name in TABLE}
    assert plan["register"]["target"] == "light"
    assert {plan[name]["target"] for name in ("train", "preprocess", *FAN_OUT)} == {"torch"}
    pushed = build.plan({"REGISTRY": "registry.example/team", "VERSION": "1.2"})
    assert pushed["train"]["tag"] == "registry.example/team/train:1.2"


def test_the_package_never_imports_kfp() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("kfp", "components", "pipeline")], path


# --- functions -----------------------------------------------------------------------------------


class Task:
    """The outputs of one component's function, run here as the executor would run it."""

    def __init__(self, folder: Path, name: str, **inputs: Any) -> None:
        part = component(name)
        self.out: dict[str, Any] = {}
        for key, given in part.component_spec.outputs.items():
            if given.type.startswith("system."):
                kind = next(
                    kind
                    for kind in (dsl.Dataset, dsl.Model, dsl.Metrics, dsl.ClassificationMetrics, dsl.HTML, dsl.Markdown,
                                 dsl.Artifact)
                    if given.type.startswith(f"{kind.schema_title}@")
                )  # fmt: skip
                self.out[key] = kind(name=key, uri=str(folder / name / key), metadata={})
        (folder / name).mkdir()
        self.returned = part.python_func(**inputs, **self.out)

    def __getitem__(self, name: str) -> Any:
        return self.out[name]


@pytest.fixture(scope="module")
def tasks(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    """Every component once, each on what those before it wrote."""
    folder = tmp_path_factory.mktemp("components")
    digest = remotes.publish(tiny_data, str(folder / "remote")).digest
    done = {"settings": Task(folder, "settings", params=TINY, tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")}
    *sections, tracking = done["settings"].returned
    section = dict(zip(contracts.STAGES, sections, strict=True))
    done["fetch"] = Task(folder, "fetch", digest=digest, remote=str(folder / "remote"), period="")
    inputs = {"data": done["fetch"]["out"]}
    for stage in contracts.STAGES:
        wanted = {name: artifact for name, artifact in inputs.items() if name in component(stage).component_spec.inputs}
        if stage == "register":
            seen = {name: inputs[name] for name in ("data", "preprocess", "train", "evaluate")}
            own = {"params": section["evaluate"], "register": section["register"], "gate": GATE}
            done["rival"] = Task(folder, "rival", tracking=tracking, **own, **seen)
            wanted |= {"gate": GATE, "git_sha": SHA, "rival": done["rival"]["out"]}
        done[stage] = Task(folder, stage, params=section[stage], tracking=tracking, **wanted)
        inputs[stage] = done[stage]["out"]
    version = done["register"].returned[1]
    own = {"params": section["register"], "version": version, "data": inputs["data"]}
    done["compose"] = Task(folder, "compose", tracking=tracking, **own)
    return done


@pytest.mark.slow
@pytest.mark.parametrize("stage", contracts.STAGES)
def test_artifacts_name_their_data_version_and_their_digest(tasks: dict[str, Task], stage: str) -> None:
    from huesong.runtime.files import folder_digest

    described = tasks[stage]["out"].metadata
    assert described["data_digest"] == tasks["fetch"]["out"].metadata["data_digest"]
    assert described["digest"] == folder_digest(Path(tasks[stage]["out"].path))
    assert described["files"] > 0
    assert described["bytes"] > 0
    assert set(outputs.COUNTS[stage]) & set(described), "no count in the metadata"


@pytest.mark.slow
def test_the_fan_out_hands_over_what_preprocess_does(tasks: dict[str, Task], tmp_path: Path) -> None:
    *sections, tracking = tasks["settings"].returned
    data = tasks["fetch"]["out"]
    checked = Task(tmp_path, "validate", params=sections[0], data=data)
    shards = []
    for part in range(2):
        (tmp_path / str(part)).mkdir()
        shard = Task(tmp_path / str(part), "shard", part=part, parts=2, data=data, checked=checked["out"])
        shards.append(shard["out"])
        assert (shard["out"].metadata["part"], shard["out"].metadata["parts"]) == (part, 2)
    merged = Task(
        tmp_path, "merge", params=sections[0], tracking=tracking, checked=checked["out"], shards=shards
    )  # fmt: skip
    whole = tasks["preprocess"]
    assert merged["out"].metadata == whole["out"].metadata
    for name in ("metrics", "page", "summary"):
        assert Path(merged[name].path).read_bytes() == Path(whole[name].path).read_bytes()
    assert Path(checked["page"].path).read_bytes() == Path(whole["page"].path).read_bytes()
    assert all(
        artifact.metadata["data_digest"] == data.metadata["data_digest"] for artifact in (*shards, checked["out"])
    )


@pytest.mark.slow
@pytest.mark.parametrize("stage", contracts.STAGES)
def test_figures_and_summary_are_shown(tasks: dict[str, Task], stage: str) -> None:
    metrics = tasks[stage]["metrics"]
    assert metrics.metadata == json.loads(Path(metrics.path).read_text())
    assert set(metrics.metadata) == set(COMPARED.get(stage, REGISTERED))
    assert Path(tasks[stage]["summary"].path).read_text().startswith("# ")


@pytest.mark.slow
def test_pages_are_whole_and_the_confusion_counts_every_piece(tasks: dict[str, Task]) -> None:
    for stage in ("preprocess", "label", "evaluate"):
        assert "</html>" in Path(tasks[stage]["page"].path).read_text()
    matrix = json.loads(Path(tasks["evaluate"]["quadrants"].path).read_text())
    assert len(matrix) == 4
    assert sum(map(sum, matrix)) == tasks["evaluate"]["out"].metadata["n"]
    assert "confusionMatrix" in tasks["evaluate"]["quadrants"].metadata


@pytest.mark.slow
def test_the_version_names_data_and_commit_and_a_champion_composes(tasks: dict[str, Task]) -> None:
    from huesong.register.registry import Registry

    *_, tracking = tasks["settings"].returned
    version = Registry(contracts.MODEL_NAME, uri=tracking["uri"]).by_alias(contracts.CHALLENGER)
    assert version is not None
    assert version.tags[GIT_SHA] == SHA
    assert version.tags[DATA_DIGEST] == tasks["fetch"]["out"].metadata["data_digest"]
    assert tasks["register"].returned == (contracts.CHAMPION, "1")
    made = {path.suffix: path for path in Path(tasks["compose"]["out"].path).iterdir()}
    assert made.keys() == {".mid", ".wav", ".png", ".json"}
    length = read_score(made[".mid"]).to("second").end()
    assert length == pytest.approx(SamplingConfig().seconds, rel=0.1), "the default of all who compose"


def test_settings_fill_in_defaults_so_that_the_cache_sees_values_only() -> None:
    spelled_out = Params().model_dump(mode="json", by_alias=True)
    assert inputs.sections({}) == inputs.sections(spelled_out)


@pytest.mark.parametrize(
    ("params", "word"),
    [({"trian": {}}, "train"), ({"train": {"steps": 0}}, "steps"), ({"train": {"stepz": 1}}, "steps")],
)
def test_bad_settings_are_one_line(params: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word) as raised:
        component("settings").python_func(params=params, tracking_uri="")
    assert "\n" not in str(raised.value)


def test_a_period_of_the_cache_ends() -> None:
    day = 86400.0
    assert inputs.cache_period(0) == inputs.cache_period(0, 0.0) == ""
    periods = [inputs.cache_period(90, moment * day) for moment in (900, 989.9, 990, 1079)]
    assert periods[0] == periods[1] != periods[2] == periods[3]
    assert inputs.cache_period(30, 900 * day) != periods[0]
    with pytest.raises(UserError, match="cache_days is -1"):
        inputs.cache_period(-1)


def test_without_a_store_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    source = SimpleNamespace(path="", metadata={})
    tracking = {"uri": "", "experiment": "huesong"}
    with pytest.raises(UserError, match="tracking_uri"), inputs.tracked("label", {}, tracking, source):
        raise AssertionError


def test_the_outcome_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = tmp_path / "event.json"
    monkeypatch.setenv("HUESONG_ON_FAILURE", f"tee {event}")
    status = dsl.PipelineTaskFinalStatus("FAILED", "run-7", "exit-handler-1", 9, "out of memory")
    summary = dsl.Markdown(name="summary", uri=str(tmp_path / "summary"))
    component("outcome").python_func(data_digest="abc.dir", git_sha=SHA, summary=summary, status=status)
    told = (tmp_path / "summary").read_text()
    for word in ("FAILED", "run-7", "abc.dir", SHA, "out of memory"):
        assert word in told
    assert "did not come to its end" not in told
    assert {key: json.loads(event.read_text())[key] for key in ("event", "what", "error")} == {
        "event": "failed", "what": "pipeline run run-7", "error": "out of memory",
    }  # fmt: skip
    event.unlink()
    well = dsl.PipelineTaskFinalStatus("SUCCEEDED", "run-8", "exit-handler-1", 0, "")
    component("outcome").python_func(data_digest="abc.dir", git_sha=SHA, summary=summary, status=well)
    assert not event.exists()


def test_the_outcome_ends_runs_that_were_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = new_database(tmp_path / "left.db")
    monkeypatch.setenv("HUESONG_SESSION", "run-8")
    monkeypatch.delenv("HUESONG_TRACKING", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    left = stage_run("evaluate", Params(), experiment="left", root=tmp_path)
    left.__enter__()
    left._stop_monitor()  # the thread would have died with its pod
    status = dsl.PipelineTaskFinalStatus("FAILED", "run-8", "exit-handler-1", 9, "the node is gone")
    summary = dsl.Markdown(name="summary", uri=str(tmp_path / "summary"))
    end = component("outcome").python_func
    end(data_digest="abc.dir", git_sha=SHA, summary=summary, status=status, tracking_uri=uri)
    assert "| did not come to its end | evaluate |" in (tmp_path / "summary").read_text()
    assert MlflowClient(uri).get_run(left.run_id).info.status == "KILLED"
    capsys.readouterr()
    end(data_digest="", git_sha="", summary=summary, status=status, tracking_uri="http://127.0.0.1:9")
    assert "FAILED" in (tmp_path / "summary").read_text()
    assert "127.0.0.1:9" in capsys.readouterr().err


def test_releases_pin_packages_that_an_image_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    from huesong.register.model_logging import requirements

    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "miditok":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    assert [line for line in requirements() if line.startswith("miditok")] == ["miditok>=3.0.5"]
    (tmp_path / "constraints.txt").write_text("miditok==3.0.6\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    assert "miditok==3.0.6" in requirements()
    assert not [line for line in requirements() if line.startswith("torch")], "a registered model composes without it"
