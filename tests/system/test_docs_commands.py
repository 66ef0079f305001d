"""Every command that the documents show: a test runs it, or the reason stands here; all are parsed by the console itself."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from huesong.cli.app import app

ROOT = Path(__file__).parents[2]
TOOLS = ("huesong", "dvc", "make", "mlflow")
CONSOLE: Any = typer.main.get_command(app)

RUN = {
    "dvc metrics": "system/test_pipeline.py",
    "dvc plots": "system/test_pipeline.py",
    "dvc push": "stage/test_remote.py",
    "dvc repro": "system/test_pipeline.py",
    "huesong compose": "stage/test_compose.py",
    "huesong doctor": "stage/test_many.py",
    "huesong film": "stage/test_film.py",
    "huesong explain": "stage/test_explain.py",
    "huesong data distill": "stage/test_student.py",
    "huesong pictures check": "stage/test_pictures.py",
    "huesong pictures fit": "stage/test_pictures.py",
    "huesong pictures read": "unit/test_zero_shot.py",
    "huesong data import": "stage/test_importers.py",
    "huesong data publish": "stage/test_remote.py",
    "huesong data sample": "system/test_cli.py",
    "huesong evaluate": "system/test_cli.py",
    "huesong experiment ablation": "stage/test_ablation.py",
    "huesong experiment bars": "stage/test_bars.py",
    "huesong experiment quality": "stage/test_quality_experiment.py",
    "huesong experiment readers": "stage/test_picture_experiments.py",
    "huesong experiment results": "stage/test_results_page.py",
    "huesong experiment structure": "stage/test_structure.py",
    "huesong export": "stage/test_shipped.py",
    "huesong label": "stage/test_lent.py",
    "huesong pipeline compile": "system/test_pipeline_console.py",
    "huesong pipeline list": "system/test_pipeline_console.py",
    "huesong pipeline local": "system/test_kfp_pipeline.py",
    "huesong pipeline schedule": "system/test_pipeline_console.py",
    "huesong pipeline submit": "system/test_pipeline_console.py",
    "huesong pipeline trainjob": "system/test_manifests.py",
    "huesong pipeline upload": "system/test_pipeline_console.py",
    "huesong pipeline wait": "system/test_pipeline_run.py",
    "huesong preprocess": "system/test_cli.py",
    "huesong register": "system/test_cli.py",
    "huesong retrain": "system/test_retrain.py",
    "huesong registry backup": "unit/test_journal.py",
    "huesong registry restore": "unit/test_journal.py",
    "huesong registry audit": "system/test_registry_server.py",
    "huesong registry compare": "system/test_registry_server.py",
    "huesong registry gc": "system/test_registry_server.py",
    "huesong registry list": "system/test_registry_server.py",
    "huesong registry promote": "stage/test_models.py",
    "huesong registry retire": "system/test_registry_server.py",
    "huesong registry rollback": "stage/test_models.py",
    "huesong registry show": "system/test_registry_server.py",
    "make tracking": "system/test_first_steps.py",
    "mlflow db": "system/test_registry_server.py",
    "mlflow models": "stage/test_pyfunc_model.py",
    "huesong settings diff": "unit/test_settings.py",
    "huesong settings use": "unit/test_settings.py",
    "huesong status": "system/test_cli.py",
    "huesong train": "system/test_cli.py",
    "make setup": "system/test_first_steps.py",
}
"""Command -> the file of tests/ that runs it."""
NOT_RUN = {
    "dvc exp": "DVC's own queue of experiments: what it starts is dvc repro",
    "dvc queue": "DVC's own queue of experiments: what it starts is dvc repro",
    "dvc remote": "it only writes a bucket's address into .dvc/config; stage/test_remote.py does so itself",
    "huesong experiment maps": "an hour of composing: stage/test_picture_experiments.py runs each of its parts on small artifacts",
    "huesong pipeline docker": "needs a Docker engine: system/test_containers.py runs it where HUESONG_CONTAINERS is set",
    "make bench": "measures, for minutes, after a whole run",
    "make check": "it is what runs the tests",
    "make fuzz": "takes about an hour",
    "make images": "needs a Docker engine: system/test_containers.py builds them where HUESONG_CONTAINERS is set",
    "make run": "ten minutes: .ci/run runs it",
    "make test": "it is what runs the tests",
    "mlflow ui": "MLflow's own server, which runs until it is ended",
}
"""Command -> why no test runs it. It is parsed all the same."""


def pages() -> list[Path]:
    folders = [ROOT / "docs", ROOT / "docs" / "results", ROOT / "mlflow", ROOT / "models"]
    written = [path for folder in folders for path in folder.glob("*.md") if path.name != "lab-diary.md"]
    return sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *written])


def shown(page: str) -> Iterator[tuple[str, bool]]:
    """The lines and quoted words of a page that look like commands; whether they stand as a whole, to be copied."""
    fenced = False
    for line in page.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip().removeprefix("$ "), True
        else:
            for quoted in re.findall(r"`([^`]+)`", line):
                yield quoted, False


def commands(page: str) -> Iterator[tuple[list[str], bool]]:
    """The commands of a page as words, and whether they stand as a whole."""
    for text, whole in shown(page):
        if text.startswith(TOOLS):
            words = shlex.split(text, comments=True)
            line: list[str] = []
            for word in [*words, ";"]:
                if word in ("&&", "|") or word.endswith(";"):
                    line += [word.removesuffix(";")] if word != ";" and word.endswith(";") else []
                    if len(line) > 1 and line[0] in TOOLS:
                        yield line, whole
                    line = []
                else:
                    line.append(word)


FOUND = sorted({(shlex.join(words), whole) for page in pages() for words, whole in commands(page.read_text("utf-8"))})


def leaf(words: list[str]) -> tuple[Any, list[str], list[str]]:
    """The console's command that the words name, its path, and the arguments."""
    command, rest, path = CONSOLE, words[1:], words[:1]
    while rest and rest[0] in getattr(command, "commands", {}):
        path.append(rest.pop(0))
        command = command.commands[path[-1]]
    return command, path, rest


def name_of(words: list[str]) -> str:
    """The command without its arguments: `huesong data import`."""
    return " ".join(leaf(words)[1] if words[0] == "huesong" else words[:2])


def parse(words: list[str], *, whole: bool) -> None:
    """Parse a command of the console as a call would, and run nothing; a quoted one may lack values and arguments."""
    command, path, rest = leaf(words)
    if hasattr(command, "commands"):
        assert not rest, f"{' '.join(path)} has no command {rest[0]}"
    elif whole:
        command.make_context(path[-1], rest)
    else:
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            is_option = word.startswith("-") and word != "-"  # "-" alone is standard input
            assert not is_option or word.partition("=")[0] in known, f"{' '.join(path)} has no option {word}"


@pytest.mark.parametrize(("text", "whole"), FOUND, ids=lambda value: value if isinstance(value, str) else "")
def test_the_documents_show_commands_that_exist(text: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUESONG_REMOTE", "s3://bucket/prefix")  # as the documents ask for
    words = shlex.split(text)
    if words[0] == "huesong":
        parse(words, whole=whole)
    elif words[0] == "make":
        assert re.search(rf"^{re.escape(words[1])}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    elif words[0] == "dvc" and whole:
        from dvc.cli.parser import get_main_parser

        get_main_parser().parse_args(words[1:])
    elif words[0] == "mlflow" and whole:
        import click
        from mlflow.cli import cli

        command = cli.get_command(click.Context(cli), words[1])
        assert command is not None
        command.make_context(words[1], words[2:])


def test_every_command_is_run_by_a_test_or_listed_with_the_reason() -> None:
    groups = {"huesong data", "huesong pipeline", "huesong experiment", "huesong registry", "huesong settings"}
    quoted = {name_of(shlex.split(text)) for text, _ in FOUND} - groups
    copied = {name_of(shlex.split(text)) for text, whole in FOUND if whole or text.startswith("huesong")} - groups
    assert not RUN.keys() & NOT_RUN.keys()
    assert not copied - RUN.keys() - NOT_RUN.keys(), "name the test that runs it, or say why none does"
    gone = (RUN.keys() | NOT_RUN.keys()) - quoted
    assert not gone, "no document shows it any more"


@pytest.mark.parametrize("name", RUN)
def test_the_named_tests_call_the_command(name: str) -> None:
    text = (ROOT / "tests" / RUN[name]).read_text("utf-8")
    assert re.search(rf"[\"' ]{re.escape(name.split()[-1])}[\"' ,]", text), f"{RUN[name]} does not call {name}"


def test_what_is_wrong_in_a_document_is_seen() -> None:
    page = "text\n\n    huesong compose a.jpg --valance 1; dvc repro && make run   # why\n\n`huesong data wrong` and `make`\n"
    found = list(commands(page))
    assert found == [
        (["huesong", "compose", "a.jpg", "--valance", "1"], True), (["dvc", "repro"], True), (["make", "run"], True),
        (["huesong", "data", "wrong"], False),
    ]  # fmt: skip
    with pytest.raises(Exception, match="No such option: --valance"):
        parse(found[0][0], whole=True)
    with pytest.raises(AssertionError, match="has no option --valance"):
        parse(found[0][0], whole=False)
    with pytest.raises(AssertionError, match="huesong data has no command wrong"):
        parse(found[3][0], whole=False)
