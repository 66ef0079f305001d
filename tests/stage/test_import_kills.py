"""`data import`, killed at every file operation: the data folder is the old one or the new one, and nothing is left over."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from huesong import contracts
from huesong.data.importers.importing import Options, import_dataset
from huesong.data.tables import read_table
from huesong.data.versions import publish
from tests.killing import in_child
from tests.tiny_sets import midi, picture, sheet, snapshot


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that ends by SIGKILL before its file operation `number`; whether it came so far."""

    def act() -> tuple[int, str]:
        action()
        return 0, ""

    end = in_child(act, kill_at=number)
    assert end.killed or end.code == 0, end.said
    return end.killed


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Two folders to import, of which the second replaces the first, and a data folder that holds another set."""
    for shade, name in enumerate(("first/a.jpg", "first/b.jpg", "second/b.jpg", "second/c.jpg", "other/x.jpg")):
        picture(tmp_path / name, shade)
    for pitch, name in enumerate(("first/a.mid", "second/b.mid", "other/x.mid"), start=60):
        midi(tmp_path / name, pitch)
    sheet(tmp_path / "second/labels.csv", "path,v,a", "b.jpg,1,1")
    import_dataset("folder", tmp_path / "other", tmp_path / "data", Options(name="other"))
    import_dataset("folder", tmp_path / "first", tmp_path / "data", Options(name="own"))
    (tmp_path / "data/notes.txt").write_text("mine")
    return tmp_path


def points(action: Callable[[int], bool]) -> Iterator[int]:
    number = 1
    while action(number):
        yield number
        number += 1


def test_whole_or_untouched_at_every_point(world: Path) -> None:
    second, data = world / "second", world / "data"
    before = snapshot(data)
    import_dataset("folder", second, world / "whole", Options(name="own"))
    shutil.rmtree(world / "whole")
    tried = untouched = 0

    def once(number: int) -> bool:
        return killed_at(number, lambda: import_dataset("folder", second, data, Options(name="own")))

    for number in points(once):
        tried += 1
        found = snapshot(data)
        for name in (contracts.IMAGES_CSV, contracts.MUSIC_CSV):
            assert all((data / path).is_file() for path in read_table(data, name)["path"]), number
        assert not [path for path in data.rglob("*") if path.name.startswith(".")], number
        if found == before:
            untouched += 1
            continue
        assert "images/folder-own/c.jpg" in found, number
        assert "images/folder-own/a.jpg" not in found, number
        shutil.rmtree(data)  # from here on the new one is there: try each later point from the start, too
        import_dataset("folder", world / "other", data, Options(name="other"))
        import_dataset("folder", world / "first", data, Options(name="own"))
        (data / "notes.txt").write_text("mine")
        assert snapshot(data) == before
    print(f"{tried} kills of data import", file=sys.stderr)
    assert tried > 40
    assert tried > untouched > 20
    assert (data / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in world.iterdir()) == ["data", "first", "other", "second"]


def test_what_a_killed_import_leaves_is_not_published(world: Path) -> None:
    data, remote = world / "data", world / "remote"
    whole = publish(data, str(remote)).digest
    for number in (5, 25, 40):
        assert killed_at(number, lambda: import_dataset("folder", world / "second", data, Options(name="own")))
        shutil.copytree(world / "first", data / ".huesong-x1y2z3w4")  # as if it had been inside
        assert publish(data, str(remote)).digest == whole
        shutil.rmtree(data / ".huesong-x1y2z3w4")


def test_links_that_leave_the_data_folder_are_not_published(world: Path) -> None:
    from huesong.runtime.errors import UserError

    (world / "data/secret.txt").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match=r"secret.txt is a link that leaves the data folder: copy the file into it"):
        publish(world / "data", str(world / "remote"))
