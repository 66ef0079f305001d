"""Taking the place of files and folders: at once, whatever is killed, and never of something foreign."""

import errno
import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from huesong.runtime import files
from huesong.runtime.errors import UserError


def made(folder: Path, **content: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name).write_text(text)
    return folder


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def killed(action: Callable[[], object]) -> None:
    """A process that ends by SIGKILL in `action`."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_folder(out: Path, **options: object) -> None:
    with files.replacing_folder(out, **options) as work:  # type: ignore[arg-type]
        made(work, new="new")


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "two renames":
        monkeypatch.setattr(files, "exchange", lambda one, other: False)
    return str(request.param)


# --- folders -------------------------------------------------------------------------------------


def test_there_is_always_one_of_the_two(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = made(tmp_path / "out", old="old")
    seen = []
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda *names: (real(*names), seen.append(out.exists())))
    write_folder(out)
    assert content(out) == {"new": "new"}
    assert seen == ([] if way == "exchange" else [False, True])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("calls", [1, 2])
def test_a_kill_between_two_renames_is_mended(tmp_path: Path, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = made(tmp_path / "out", old="old")
    real = os.rename
    done = []

    def rename(*names: Path) -> None:
        done.append(names)
        if len(done) == calls:
            end()
        real(*names)

    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", rename)
    killed(lambda: write_folder(out))
    assert out.exists() == (calls == 1)
    files.sweep(tmp_path)
    assert content(out) == ({"old": "old"} if calls == 1 else {"new": "new"})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path, way: str) -> None:
    disk = made(tmp_path / "disk/out", old="old")
    (tmp_path / "out").symlink_to(disk)
    write_folder(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert content(disk) == {"new": "new"}


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    def begin() -> None:
        with files.replacing_folder(tmp_path / "out") as work:
            made(work, half="half")
            end()

    killed(begin)
    assert [path.name.startswith(files.WORK) for path in tmp_path.iterdir()] == [True]
    with files.replacing_folder(tmp_path / "one") as living:
        assert [path.name for path in tmp_path.iterdir()] == [living.parent.name]
        write_folder(tmp_path / "two")
        assert living.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_where_there_are_no_locks_leftovers_go_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_lock", lambda descriptor: None)
    young, old = (made(tmp_path / f"{files.WORK}{name}", x="x") for name in ("young", "old"))
    os.utime(old, (0, 0))
    write_folder(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, "out"]


def test_a_commit_that_names_other_places_is_not_followed(tmp_path: Path) -> None:
    work = made(tmp_path / "in" / f"{files.WORK}evil", part="evil")
    (work / files.COMMIT).write_text(json.dumps({"part": ["../stolen", None]}))
    files.sweep(tmp_path / "in")
    assert not (tmp_path / "stolen").exists()
    assert list((tmp_path / "in").iterdir()) == []


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_the_umask_is_honoured(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_folder(tmp_path / "out")
        files.write_json(tmp_path / "x.json", {})
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out", tmp_path / "out/new", tmp_path / "x.json")
    ]
    assert modes == [0o777 & ~mask, 0o666 & ~mask, 0o666 & ~mask]


# --- what is not replaced ------------------------------------------------------------------------


def test_only_what_the_command_wrote_is_replaced(tmp_path: Path) -> None:
    foreign = made(tmp_path / "docs", page="mine")
    with pytest.raises(UserError, match=r"docs holds files that this command did not write \(such as page\)"):
        write_folder(foreign, own=("new",))
    assert content(foreign) == {"page": "mine"}
    for out in (tmp_path / "absent", made(tmp_path / "empty"), made(tmp_path / "own", new="before")):
        write_folder(out, own=("new",))
        assert content(out) == {"new": "new"}
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file is a file"):
        write_folder(tmp_path / "file")


def test_a_folder_that_holds_an_input_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = made(tmp_path / "out", new="before")
    source = made(out / "inside", x="x")
    for given in (source, out):
        with pytest.raises(UserError, match=r"which is read, and would be replaced as a whole"):
            write_folder(out, own=("new",), inputs=[tmp_path / "elsewhere", given])
    monkeypatch.chdir(source)
    with pytest.raises(UserError, match="holds the folder you are in"):
        write_folder(out, own=("new",))
    monkeypatch.chdir(out)
    with pytest.raises(UserError, match="holds the folder you are in"):
        write_folder(Path("."), own=("new",))
    assert content(out) == {"new": "before", "inside/x": "x"}


# --- files that belong together ------------------------------------------------------------------

NAMES = ("a.mid", "a.wav", "a.json")


def write_three(folder: Path, text: str = "new") -> None:
    with files.replacing_files([folder / name for name in NAMES]) as parts:
        for part in parts:
            part.write_text(text)


@pytest.mark.parametrize("before", [{}, {"a.mid": "old", "a.json": "old"}])
@pytest.mark.parametrize("calls", [1, 2, 3, 4])
def test_files_appear_together_though_the_process_is_killed(
    tmp_path: Path, before: dict[str, str], calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path / "out", **before)
    real, done = os.replace, []

    def replace(*names: Path) -> None:
        done.append(names)
        if len(done) == calls:
            end()
        real(*names)

    monkeypatch.setattr(os, "replace", replace)
    killed(lambda: write_three(folder))
    monkeypatch.undo()
    files.sweep(folder)
    assert content(folder) == (before if calls == 1 else dict.fromkeys(NAMES, "new"))


@pytest.mark.parametrize("links", [True, False])
def test_files_appear_together_or_all_are_as_they_were(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path / "out", **{"a.mid": "old"})
    real = os.replace

    def replace(part: Path, target: Path) -> None:
        if Path(target).name == "a.json":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(part), None, str(target))
        real(part, target)

    monkeypatch.setattr(os, "replace", replace)
    if not links:
        monkeypatch.setattr(files, "_linked", lambda path, name: False)
    with pytest.raises(
        UserError, match=r"cannot write .*Operation not permitted; choose a folder that you may write to"
    ):
        write_three(folder)
    assert content(folder) == {"a.mid": "old"}


def test_what_a_user_put_there_after_the_kill_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = os.replace, []

    def replace(*names: Path) -> None:
        done.append(names)
        if len(done) == 3:
            end()
        real(*names)

    monkeypatch.setattr(os, "replace", replace)
    killed(lambda: write_three(tmp_path))
    monkeypatch.undo()
    (tmp_path / "a.json").write_text("mine")
    files.sweep(tmp_path)
    assert content(tmp_path) == {"a.mid": "new", "a.wav": "new", "a.json": "mine"}


def test_long_names_and_odd_names(tmp_path: Path) -> None:
    for name in ("x" * 250 + ".json", "-n.json", "a\nb.json", os.fsdecode(b"\xff\xfe.json"), "$x.json", "?a=b.json"):
        files.write_json(tmp_path / name, 1)
        assert (tmp_path / name).read_text() == "1\n"
    with pytest.raises(UserError, match="File name too long; choose another name or folder"):
        files.write_json(tmp_path / ("x" * 300), 1)
    assert len(list(tmp_path.iterdir())) == 6


# --- errors name their cause ---------------------------------------------------------------------


def failing(out: Path, error: Exception) -> str:
    with pytest.raises(UserError) as caught, files.replacing_folder(out):
        raise error
    return str(caught.value)


def os_error(code: int, name: object = None) -> OSError:
    return OSError(code, os.strerror(code), name) if name else OSError(code, os.strerror(code))


def test_an_unreadable_source_is_not_a_full_disk(tmp_path: Path) -> None:
    out, source = tmp_path / "out", tmp_path / "photo.jpg"
    assert failing(out, os_error(errno.EACCES, str(source))) == (
        f"cannot open {source}: Permission denied; check it and its place. {out} is as it was."
    )
    full = "free some space or choose another folder. Nothing was changed."
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        assert failing(out, os_error(code)) == f"cannot write {out}: {os.strerror(code)}; {full}"
    denied = "choose a folder that you may write to. Nothing was changed."
    for code in (errno.EROFS, errno.EACCES, errno.EPERM):
        assert failing(out, os_error(code, str(tmp_path))) == f"cannot write {out}: {os.strerror(code)}; {denied}"
    assert "cannot write" in failing(out, RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0"))
    assert list(tmp_path.iterdir()) == []


def test_other_errors_are_bugs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.replacing_folder(tmp_path / "out"):
        raise os_error(errno.ENOENT, str(tmp_path / "x"))
    with pytest.raises(RuntimeError), files.replacing_folder(tmp_path / "out"):
        raise RuntimeError("something else")


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot write .*file/out: (Not a directory|File exists); choose another name"):
        write_folder(tmp_path / "file/out")
    made(tmp_path / "folder")
    with pytest.raises(UserError, match="Is a directory; choose another name or folder"):
        files.write_json(tmp_path / "folder", 1)
