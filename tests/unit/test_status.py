from pathlib import Path

import pytest

from huesong import contracts
from huesong.cli import status
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError


def test_nothing_run_yet_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc repro"):
        status.describe(tmp_path)


def test_names_reports_and_the_registered_version(tmp_path: Path) -> None:
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / contracts.REPORT).write_text("<html>")
    (tmp_path / "register").mkdir()
    entry = {"name": "huesong", "version": 3, "aliases": ["challenger", "champion"]}
    artifacts.write_json(tmp_path / "register" / contracts.REGISTRATION, entry)
    text = status.describe(tmp_path)
    assert str(tmp_path / "evaluate" / contracts.REPORT) in text
    assert "models:/huesong/3 (challenger, champion)" in text
    assert "preprocess  not run yet" in text
