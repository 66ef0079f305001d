"""A pipe or a device where a file is expected: one line, and nobody waits for it or reads it without end."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from huesong import contracts
from huesong.data.versions import publish
from huesong.register.gate import load_gate
from huesong.register.shipped import PLACE
from huesong.runtime.errors import UserError
from huesong.runtime.files import read_json
from huesong.runtime.objects import open_objects
from tests.console import huesong
from tests.tiny_sets import sample

DEADLINE_S = 30


@contextmanager
def in_time() -> Iterator[None]:
    """Ends a command that waits: for a pipe it would wait for ever."""

    def late(number: int, frame: object) -> None:
        raise AssertionError(f"waited for {DEADLINE_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(DEADLINE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.fixture(params=[pipe, device], ids=["pipe", "device"])
def odd(request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """Puts something else than a file in the place of a path."""

    def put(path: Path) -> Path:
        path.unlink(missing_ok=True)
        request.param(path)
        return path

    return put


def refused(*words: str | Path, cwd: Path) -> str:
    with in_time():
        done = huesong(*words, cwd=cwd)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), (200, 90, 90)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_what_compose_reads(photo: Path, odd: Callable[[Path], Path]) -> None:
    at = photo.parent
    for said, words in (
        ("odd.jpg", [odd(at / "odd.jpg")]),
        ("odd.mid", [photo, "--primer", odd(at / "odd.mid")]),
        ("odd.sf2", [photo, "--soundfont", odd(at / "odd.sf2")]),
    ):
        line = refused("compose", *words, "--model", PLACE, "--out", "made", cwd=at)
        assert said in line
        assert "no ordinary file" in line


@pytest.mark.parametrize("name", [contracts.MODEL_CONFIG, contracts.VOCABULARY, "encoder/encoder.json"])
def test_a_model_folder(name: str, photo: Path, odd: Callable[[Path], Path]) -> None:
    folder = shutil.copytree(PLACE, photo.parent / "model")
    odd(folder / name)
    assert Path(name).name in refused("compose", photo, "--model", folder, cwd=photo.parent)


def test_settings_gate_and_figures(tmp_path: Path, odd: Callable[[Path], Path]) -> None:
    assert "odd.yaml" in refused("preprocess", "--params", odd(tmp_path / "odd.yaml"), cwd=tmp_path)
    with in_time(), pytest.raises(UserError, match=r"odd\.yaml is no ordinary file"):
        load_gate(tmp_path / "odd.yaml")
    with in_time(), pytest.raises(UserError, match=r"figures\.json is no ordinary file"):
        read_json(odd(tmp_path / contracts.FIGURES), "huesong evaluate")


def test_data(tmp_path: Path, odd: Callable[[Path], Path]) -> None:
    sample(tmp_path / "data")
    digest = publish(tmp_path / "data", str(tmp_path / "remote")).digest
    odd(tmp_path / "data" / "images.csv")
    (tmp_path / "params.yaml").write_text("")
    assert "images.csv" in refused("preprocess", "--data", "data", "--out", "out", cwd=tmp_path)
    stored = next(path for path in (tmp_path / "remote/files").rglob("*") if path.is_file())
    odd(stored)
    with in_time(), pytest.raises(UserError, match="no ordinary file"):
        open_objects(str(tmp_path / "remote")).get(stored.relative_to(tmp_path / "remote").as_posix(), tmp_path / "got")
    assert digest


def test_what_is_imported_is_named(tmp_path: Path, odd: Callable[[Path], Path]) -> None:
    (tmp_path / "own").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "own/good.png")
    odd(tmp_path / "own/odd.png")
    with in_time():
        done = huesong("data", "import", "folder", tmp_path / "own", "--out", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "odd.png" in done.stdout + done.stderr
    assert not (tmp_path / "data/images/folder-own/odd.png").exists()
