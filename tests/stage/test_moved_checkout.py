"""A checkout that was moved, and one whose path no database address can name."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from huesong.runtime.errors import UserError
from huesong.tracking.moved import follow_move
from huesong.tracking.store import artifact_root, connect, sqlite_uri


def store(root: Path) -> tuple[MlflowClient, str]:
    root.mkdir()
    uri = sqlite_uri(root)
    client = connect(uri)
    experiment = client.create_experiment("own", artifact_location=artifact_root(uri, root))
    run = client.create_run(experiment).info.run_id
    (root / "note.txt").write_text("kept")
    client.log_artifact(run, str(root / "note.txt"))
    return client, run


def test_artifacts_are_found_after_a_move(tmp_path: Path) -> None:
    _, run = store(tmp_path / "old place")
    (tmp_path / "old place").rename(tmp_path / "new")
    client = connect(sqlite_uri(tmp_path / "new"))
    assert client.get_run(run).info.artifact_uri.startswith((tmp_path / "new/mlartifacts").as_uri() + "/")
    assert Path(client.download_artifacts(run, "note.txt", str(tmp_path))).read_text() == "kept"
    assert follow_move(tmp_path / "new/mlflow.db", tmp_path / "new/mlartifacts") == 0
    assert not (tmp_path / "old place").exists()


def test_a_database_without_its_artifacts_is_left_as_it_is(tmp_path: Path) -> None:
    _, run = store(tmp_path / "old")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/mlflow.db").write_bytes((tmp_path / "old/mlflow.db").read_bytes())
    client = connect(sqlite_uri(tmp_path / "copy"))
    assert client.get_run(run).info.artifact_uri.startswith((tmp_path / "old/mlartifacts").as_uri())


def test_a_path_with_a_question_mark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the path has a '\?': rename the folder"):
        sqlite_uri(tmp_path / "what?")
