"""The names of the stages are one set of names everywhere, and the floors of the house hold."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from huesong import contracts
from huesong.cli import app
from huesong.config import Params

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "huesong"
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())


def test_stage_names_are_the_same_everywhere() -> None:
    stages = list(contracts.STAGES)
    assert list(DVC["stages"]) == stages
    assert [field.alias or name for name, field in Params.model_fields.items()] == stages
    assert list(yaml.safe_load((ROOT / "params.yaml").read_text())) == stages
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert commands[: len(stages)] == stages


@pytest.mark.parametrize("stage", contracts.STAGES)
def test_every_stage_has_its_function_command_folder_and_tests(stage: str) -> None:
    run = importlib.import_module(f"huesong.stages.{stage}").run
    parameters = inspect.signature(run).parameters
    assert next(iter(parameters)) == "config"
    entry = DVC["stages"][stage]
    assert entry["cmd"].startswith(f"huesong {stage} ")
    assert entry["params"] == [stage]
    assert f"artifacts/{stage}" in [out if isinstance(out, str) else next(iter(out)) for out in entry["outs"]]
    assert f"src/huesong/stages/{stage}.py" in entry["deps"]
    assert (ROOT / "tests" / f"test_{stage}.py").exists()
    for word in entry["cmd"].split():
        if word.startswith("--") and word != "--params":
            assert word[2:] in parameters, f"{stage}: {word} is no argument of its run()"


@pytest.mark.parametrize("stage", contracts.STAGES)
def test_dvc_dependencies_exist(stage: str) -> None:
    for path in DVC["stages"][stage]["deps"]:
        if not path.startswith(("artifacts", "data")):
            assert (ROOT / path).exists(), path


FLOORS = [
    {"cli", "cli_data", "cli_experiment", "cli_pipeline", "cli_pipeline_here"},
    {"experiments"},
    {"stages"},
    {"registry", "compose"},
    {"model", "emotion"},
    {"music", "pictures", "datasets"},
    {"contracts", "config", "errors", "artifacts", "progress", "pages", "signals", "status", "storage"},
]


def imports(path: Path) -> set[str]:
    """First-level huesong modules that `path` imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "huesong":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found - {"__version__"}


def test_imports_run_down_only() -> None:
    floor = {name: depth for depth, names in enumerate(FLOORS) for name in names}
    for path in SOURCE.rglob("*.py"):
        relative = path.relative_to(SOURCE)
        room = relative.parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for target in imports(path):
            assert floor[target] >= floor[room], f"{relative} (floor {floor[room]}) imports {target}"


def test_source_never_imports_kfp() -> None:
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "kfp" for name in names), path


def test_model_needs_only_torch_numpy_safetensors_yaml_and_pydantic() -> None:
    allowed = {"torch", "numpy", "safetensors", "yaml", "pydantic", "huesong", "__future__"}
    for path in [*(SOURCE / "model").glob("*.py"), *(SOURCE / f"{n}.py" for n in ("config", "contracts", "errors"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                root = name.split(".")[0]
                assert root in allowed or root in sys.stdlib_module_names, f"{path.name} imports {name}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("huesong."):
                room = node.module.split(".")[1]
                light = {"model", "config", "contracts", "errors", "artifacts", "progress"}
                assert room in light or node.module == "huesong.datasets.examples", path


def test_the_model_imports_without_pandas() -> None:
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        "import huesong.model.training, huesong.model.sampling, huesong.model.folder\n"
        "print(sorted(m for m in ('miditok', 'symusic', 'sklearn', 'mlflow', 'transformers') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_pixels_need_no_torch() -> None:
    code = "import sys, huesong.pictures.encoders, huesong.datasets.validation_files; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_mlflow_folder_holds_no_python() -> None:
    assert list((ROOT / "mlflow").rglob("*.py")) == []
