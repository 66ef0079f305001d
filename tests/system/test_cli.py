import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from huesong import __version__
from huesong.cli.app import COMMANDS as TABLE
from huesong.cli.app import app
from huesong.config import SamplingConfig
from tests.console import huesong
from tests.stores import new_database

COMMANDS = ("data", "preprocess", "label", "train", "evaluate", "register", "compose", "status", "settings", "pipeline")
HEAVY = (
    "torch",
    "mlflow",
    "pandas",
    "numpy",
    "great_expectations",
    "miditok",
    "symusic",
    "sklearn",
    "matplotlib",
    "PIL",
    "pydantic",
    "yaml",
    "importlib.resources",
)


def test_help_names_every_command() -> None:
    done = huesong("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"  {command}" in done.stdout
    assert "..." not in done.stdout.split("Commands:")[1], "a summary is cut off"


@pytest.mark.parametrize("command", [*((c,) for c in COMMANDS), ("data", "sample"), ("data", "import")], ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    done = huesong(*command, "--help")
    assert done.returncode == 0
    assert len(done.stdout) > 200


def test_the_help_says_of_each_command_what_its_own_help_says() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, (_, summary) in TABLE.items():
        assert commands[name].get_short_help_str(200) == summary
        assert summary in " ".join(commands[name].help.split())


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['huesong', '--help']\n"
        "from huesong.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version() -> None:
    assert huesong("--version").stdout == f"huesong {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["preprocess", "--params", "none.yaml"], "--params"),
        (["label", "--preprocess", "nowhere"], "huesong preprocess"),
        (["train", "--preprocess", "nowhere"], "huesong preprocess"),
        (["evaluate", "--preprocess", "nowhere"], "huesong preprocess"),
        (["register", "--train", "nowhere"], "huesong train"),
        (["preprocess", "--data", "nowhere"], "dvc pull"),
        (["compose", "nowhere.jpg", "--model", "nowhere"], "nowhere.jpg"),
        (["compose", "nowhere.jpg", "--seconds", "9", "--bars", "4"], "--seconds and --bars both say how long"),
        (["compose", "nowhere.jpg", "--candidates", "0"], "--candidates 0: Input should be greater than or equal to 1"),
        (["compose", "nowhere.jpg", "--max-silence", "601"], "--max-silence 601.0: Input should be less than or equal"),
        (["status"], "dvc repro"),
        (["data", "import", "oasis", "nowhere"], "nowhere"),
        (["data", "sample", "--out", "params.yaml"], "params.yaml is a file: choose a folder"),
        (["compose", ""], "argument 2 is empty: is a variable unset?"),
        (["label", "--out", ""], "argument 3 is empty"),
    ],
)
def test_user_errors_are_one_line_and_exit_code_2(arguments: list[str], remedy: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    new_database(tmp_path / "mlflow.db")
    done = huesong(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("huesong: ")
    assert remedy in last


def test_a_user_error_ends_the_process_with_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "huesong.cli", "compose", "nowhere.jpg", "--model", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("huesong: ")
    assert "nowhere.jpg" in line


def test_sample_refuses_a_full_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("keep")
    done = huesong("data", "sample", "--out", "data", cwd=tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "data" / "mine.txt").read_text() == "keep"


def test_sampling_options_come_from_the_settings() -> None:
    """Name, help and default of every sampling setting with a description; no option for the others."""
    told = " ".join(huesong("compose", "--help").stdout.split())
    for name, field in SamplingConfig.model_fields.items():
        option = f"--{name.replace('_', '-')} "
        assert (option in told) == (field.description is not None), name
        if field.description is not None:
            kind = {int: "int", float: "float"}[field.annotation]
            assert f"{option}<{kind}> {field.description} [default: ({field.default:g}; x>" in told
    assert "[default: (4; x>=1, x<=256)]" in told
    assert "[default: (0.97; x>0, x<=1)]" in told
