import errno
import os
from pathlib import Path

import pytest

from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError


def test_folder_appears_only_when_complete(tmp_path: Path) -> None:
    out = tmp_path / "made"
    with artifacts.replacing_folder(out) as work:
        (work / "a").write_text("1")
        assert not out.exists()
    assert (out / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_interrupted_stage_leaves_the_previous_artifacts(tmp_path: Path) -> None:
    out = tmp_path / "made"
    out.mkdir()
    (out / "a").write_text("old")

    def interrupted() -> None:
        with artifacts.replacing_folder(out) as work:
            (work / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (out / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_replaces_the_folder_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "made"
    for name in ("first", "second"):
        with artifacts.replacing_folder(out) as work:
            (work / name).write_text(name)
    assert [p.name for p in out.iterdir()] == ["second"]


def test_full_disk_is_a_user_error_and_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "made"

    def full() -> None:
        with artifacts.replacing_folder(out):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match="No space left"):
        full()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_really_full_device(tmp_path: Path) -> None:
    def full() -> None:
        with artifacts.replacing_folder(tmp_path / "made") as work:
            (work / "x").symlink_to("/dev/full")
            with (work / "x").open("wb", buffering=0) as stream:
                stream.write(b"x")

    with pytest.raises(UserError, match="free some space"):
        full()


def test_file_is_replaced_atomically(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    artifacts.write_json(path, {"b": 1, "a": [1.5, None]})
    assert artifacts.read_json(path, "make") == {"a": [1.5, None], "b": 1}
    with pytest.raises(ValueError, match="JSON compliant"):
        artifacts.write_json(path, {"a": float("nan")})
    assert artifacts.read_json(path, "make") == {"a": [1.5, None], "b": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_missing_and_damaged_json_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run `huesong label` first"):
        artifacts.read_json(tmp_path / "no.json", "huesong label")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="run `huesong label` again"):
        artifacts.read_json(tmp_path / "bad.json", "huesong label")


def test_folder_digest_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = artifacts.folder_digest(tmp_path)
    assert artifacts.folder_digest(tmp_path) == first
    (tmp_path / "a").write_text("2")
    second = artifacts.folder_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, artifacts.folder_digest(tmp_path)}) == 3
