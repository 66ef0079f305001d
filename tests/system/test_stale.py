"""DVC runs a stage again when its settings, a default of theirs, or any code that it runs has changed, and only then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from huesong import contracts
from tests.closure import SOURCE, modules, stage_closure

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline with made-up data and artifacts, all of which DVC takes for up to date."""
    folder = tmp_path_factory.mktemp("stale") / "huesong"
    shutil.copytree(
        SOURCE / "huesong", folder / "src" / "huesong", ignore=shutil.ignore_patterns("__pycache__", "*.pt")
    )
    for name in ("dvc.yaml", "params.yaml", "mlflow/gate.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "data").mkdir()
    (folder / "data" / "images.csv").write_text("id\n")
    for stage in contracts.STAGES:
        artifacts = folder / "artifacts" / stage
        artifacts.mkdir(parents=True)
        (artifacts / "metrics.json").write_text(json.dumps({"stage": stage}))
    from dvc.repo import Repo  # takes a second

    with Repo.init(str(folder), no_scm=True) as repo:
        repo.commit(force=True)
    return folder


def stale(checkout: Path) -> set[str]:
    """The stages whose own code or settings differ from those of their last run."""
    from dvc.repo import Repo

    with Repo(str(checkout)) as repo:
        return {address.rpartition(":")[2] for address in repo.status()}


def edited(checkout: Path, name: str, before: str, after: str) -> set[str]:
    """The stages that are stale while `before` in a file reads `after`."""
    path = checkout / name
    text = path.read_text()
    assert before in text
    try:
        path.write_text(text.replace(before, after, 1))
        return stale(checkout)
    finally:
        path.write_text(text)


def test_nothing_changed_nothing_runs(checkout: Path) -> None:
    assert stale(checkout) == set()


def test_a_changed_default_runs_every_stage(checkout: Path) -> None:
    before = "folds: int = Field(5"
    assert edited(checkout, "src/huesong/config.py", before, "folds: int = Field(4") == set(contracts.STAGES)


@pytest.mark.parametrize(
    ("before", "after", "stage"),
    [
        ("vocabulary_size: 800", "vocabulary_size: 900", "preprocess"),
        ("max_load: 3.0", "max_load: 2.0", "label"),
        ("clip_norm: 1.0", "clip_norm: 2.0", "train"),
        ("steering: 8", "steering: 4", "evaluate"),
        ("experiment: huesong", "experiment: mine", "register"),
    ],
)
def test_a_setting_runs_its_stage(checkout: Path, before: str, after: str, stage: str) -> None:
    assert edited(checkout, "params.yaml", before, after) == {stage}


def test_any_code_that_a_stage_runs_makes_it_stale(checkout: Path) -> None:
    """The file of each folder that most stages run; DVC's list is by folders, and test_contracts compares the lists."""
    users: dict[str, set[str]] = {}
    for stage in contracts.STAGES:
        for name in stage_closure(stage):
            users.setdefault(name, set()).add(stage)
    chosen: dict[Path, str] = {}
    for name in sorted(users, key=lambda name: (len(users[name]), name)):
        if modules()[name].name != "__init__.py":
            chosen[modules()[name].parent] = name
    assert len(chosen) > 10
    for name in chosen.values():
        file = modules()[name].relative_to(SOURCE.parent).as_posix()
        first = modules()[name].read_text().splitlines()[0]
        assert edited(checkout, file, first, f"{first} ") >= users[name], file


def test_the_gate_runs_register_and_the_data_what_reads_them(checkout: Path) -> None:
    gate = (ROOT / "mlflow" / "gate.yaml").read_text().splitlines()[0]
    assert edited(checkout, "mlflow/gate.yaml", gate, f"{gate}!") == {"register"}
    assert edited(checkout, "data/images.csv", "id", "name") == {"preprocess", "evaluate", "register"}


def test_a_stage_whose_artifacts_are_not_there_runs(checkout: Path) -> None:
    """So a dvc.lock in a fresh clone, whose cache is empty, could not keep a stage from running."""
    shutil.move(checkout / "artifacts" / "label", checkout / "aside")
    try:
        assert {"label", "train", "evaluate"} <= stale(checkout)
    finally:
        shutil.move(checkout / "aside", checkout / "artifacts" / "label")
