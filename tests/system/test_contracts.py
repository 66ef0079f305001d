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
from huesong.cli import stages as commands
from huesong.cli.app import COMMANDS
from huesong.config import Params
from tests import closure
from tests.closure import dvc_deps

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "huesong"
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())


def test_stage_names_are_the_same_everywhere() -> None:
    stages = list(contracts.STAGES)
    assert list(DVC["stages"]) == stages
    assert [field.alias or name for name, field in Params.model_fields.items()] == stages
    assert list(yaml.safe_load((ROOT / "params.yaml").read_text())) == stages
    assert list(COMMANDS)[: len(stages)] == stages


@pytest.mark.parametrize("stage", contracts.STAGES)
def test_every_stage_has_its_function_command_folder_and_tests(stage: str) -> None:
    run = importlib.import_module(f"huesong.{stage}.stage").run
    parameters = inspect.signature(run).parameters
    assert next(iter(parameters)) == "config"
    entry = DVC["stages"][stage]
    assert entry["cmd"].startswith(f"huesong {stage} ")
    assert entry["params"] == [stage]
    assert f"artifacts/{stage}" in [out if isinstance(out, str) else next(iter(out)) for out in entry["outs"]]
    assert f"src/huesong/{stage}" in entry["deps"]
    assert (ROOT / "tests" / "stage" / f"test_{stage}.py").exists()
    for word in entry["cmd"].split():
        if word.startswith("--") and word != "--params":
            assert word[2:] in parameters, f"{stage}: {word} is no argument of its run()"


@pytest.mark.parametrize("stage", contracts.STAGES)
def test_dvc_knows_all_code_that_a_stage_runs(stage: str) -> None:
    listed = [dep for dep in DVC["stages"][stage]["deps"] if dep.startswith("src/")]
    assert listed == dvc_deps(stage), "run python -m tests.closure --write"


@pytest.mark.parametrize("stage", contracts.STAGES)
def test_dvc_knows_all_folders_that_a_stage_reads(stage: str) -> None:
    given = {name: one.default for name, one in inspect.signature(getattr(commands, stage)).parameters.items()}
    read = {str(path) for name, path in given.items() if name not in ("params", "out", "checkpoints")}
    assert read <= {dep for dep in DVC["stages"][stage]["deps"] if not dep.startswith("src/")}


def test_what_the_console_imports_for_a_stage_counts_as_its_code() -> None:
    """The register stage compares with the champion by the evaluation's own code, which only the console imports."""
    assert "src/huesong/evaluate/quality/rival.py" in dvc_deps("register")
    assert "huesong.train.launch" in closure.entries("train")
    assert "huesong.tracking.runs" not in closure.stage_closure("train")


def test_a_new_import_is_found_wherever_it_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "huesong").mkdir()
    for name, text in {
        "__init__": "",
        "first": "def f():\n    from huesong import second\n",
        "second": "if False:\n    import huesong.third\nPRELOAD = 'huesong.fourth'\n",
        "third": "",
        "fourth": "",
        "apart": "",
    }.items():
        (tmp_path / "huesong" / f"{name}.py").write_text(text)
    monkeypatch.setattr(closure, "SOURCE", tmp_path)
    for cached in (closure.modules, closure.imports):
        monkeypatch.setattr(closure, cached.__name__, cached.__wrapped__)
    found = closure.closure("huesong.first")
    assert found == {"huesong", "huesong.first", "huesong.second", "huesong.third", "huesong.fourth"}


FLOORS = [
    {"cli"},
    {"experiments", "film"},
    {"train", "evaluate", "label", "compose", "component_io"},
    {"preprocess", "register", "model", "emotion", "score"},
    {"music", "data", "tracking", "report"},
    {"pictures", "metre", "config", "va"},
    {"runtime", "contracts"},
]
"""From the top; what stands on one floor imports nothing of another room there."""
ALONE = {"config", "contracts", "va"}
"""Files at the top of the package; everything else stands in a folder."""


def room(module: str) -> str:
    """The folder, or the file at the top, that a module stands in."""
    return module.split(".")[1]


def test_imports_run_down_only() -> None:
    floor = {name: depth for depth, names in enumerate(FLOORS) for name in names}
    assert len(FLOORS) <= 7
    for module in closure.modules():
        for target in closure.imports(module):
            if "." in module and "." in target and room(target) != room(module):
                assert floor[room(target)] > floor[room(module)], f"{module} imports {target}"


def test_the_tree_in_the_readme_names_every_room_from_the_top_floor_down() -> None:
    tree = (ROOT / "README.md").read_text().split("```\nparams.yaml")[1].split("```")[0]
    lines = [line.split("  ", 2)[1].split() for line in tree.splitlines() if line.startswith("  ")]
    named = [word.removesuffix("/").removesuffix(".py") for line in lines for word in line]
    floor = {name: depth for depth, names in enumerate(FLOORS) for name in names}
    assert sorted(named) == sorted(floor)
    assert [floor[name] for name in named] == sorted(floor.values())


def test_no_file_imports_itself_through_others() -> None:
    for module in closure.modules():
        if "." in module:  # the package itself holds its version, which anybody may import
            direct = {name for name in closure.imports(module) if not module.startswith(f"{name}.")}
            seen: set[str] = set()
            waiting = list(direct)
            while waiting:
                name = waiting.pop()
                if name not in seen:
                    seen.add(name)
                    waiting += [other for other in closure.imports(name) if not name.startswith(f"{other}.")]
            assert module not in seen, f"{module} imports itself through {sorted(seen)}"


def test_folders_hold_three_to_nine_files() -> None:
    files: dict[Path, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if not path.name.startswith("__"):
            files.setdefault(path.parent, []).append(path.stem)
    assert set(files.pop(PACKAGE)) == ALONE
    counts = {folder.name: len(names) for folder, names in files.items()}
    assert {name: count for name, count in counts.items() if not 2 <= count <= 9} == {}
    assert {name for name, count in counts.items() if count == 2} <= {"copying"}


@pytest.mark.parametrize("old", ["huesong.errors", "huesong.model.course"])
def test_code_inside_models_of_the_first_version_finds_what_moved(old: str) -> None:
    code = (
        f"import importlib, sys, {old}; m = importlib.import_module('{old}')\n"
        "print(m.__spec__.name, m is sys.modules[m.__spec__.name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, same = done.stdout.split()
    assert name in closure.modules()
    assert same == "True"


def test_source_never_imports_kfp() -> None:
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "kfp" for name in names), path


LAZY = {
    "huesong.runtime.workers": {"threadpoolctl"},
    "huesong.va": {"pandas"},
    "huesong.runtime.progress": {"rich"},
}
"""What is imported inside of functions, for callers that have it."""


def test_model_needs_only_torch_numpy_safetensors_yaml_and_pydantic() -> None:
    allowed = {"torch", "numpy", "safetensors", "yaml", "pydantic", "huesong", "__future__"}
    roots = ("huesong.model.network", "huesong.model.sampling", "huesong.model.folder")
    for module in closure.closure(*roots, types=False):
        for node in closure.nodes(module, types=False):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                root = name.split(".")[0]
                assert root in allowed or root in sys.stdlib_module_names or root in LAZY.get(module, ()), (
                    f"{module} imports {name}"
                )


def test_the_model_imports_without_pandas() -> None:
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        "import huesong.train.loop, huesong.model.sampling, huesong.model.folder\n"
        "print(sorted(m for m in ('miditok', 'symusic', 'sklearn', 'mlflow', 'transformers') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


NOT_TO_COMPOSE = (
    "sklearn", "skops", "scipy", "pandas", "matplotlib", "mlflow", "transformers", "great_expectations", "kfp",
    "torch", "sympy", "IPython",
)  # fmt: skip
"""Each costs from a fifth of a second to three seconds; what imports them without need is often a library's own default."""


def test_composing_imports_nothing_that_it_can_do_without(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from huesong.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print([name for name in {NOT_TO_COMPOSE!r} if name in sys.modules])"
    )
    words = ["compose", "docs/images/sample.jpg", "--seconds", "4", "--candidates", "2", "-o", str(tmp_path / "piece")]
    words += ["--model", "models/huesong-small"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert {path.suffix for path in tmp_path.iterdir()} == {".mid", ".wav", ".png", ".json"}


def test_pixels_need_no_torch() -> None:
    code = "import sys, huesong.pictures.encoders, huesong.preprocess.files; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_mlflow_folder_holds_no_python() -> None:
    assert list((ROOT / "mlflow").rglob("*.py")) == []
