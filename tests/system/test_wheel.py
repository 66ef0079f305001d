"""The wheel, built and installed where there is no checkout: it composes at once, from what it declares and brings."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image
from typer.testing import CliRunner

from huesong.cli.app import app
from huesong.register import shipped
from huesong.runtime.errors import TRAINING

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MOST_BYTES = 20_000_000
INSIDE = f"huesong/weights/{shipped.NAME}/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(out), str(ROOT)]
    subprocess.run(command, check=True, env=clean(out), timeout=300)
    [made] = out.glob("huesong-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment with the wheel and what it declares, and nothing else of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    subprocess.run([*pip, "install", "-q", "--no-deps", str(wheel)], check=True, env=clean(folder), timeout=300)
    [packages] = folder.glob("lib/python*/site-packages")
    [own] = importlib.metadata.distributions(name="huesong", path=[str(packages)])
    for name in sorted(needed(own.requires or [])):
        for place in {Path(str(file)).parts[0] for file in importlib.metadata.distribution(name).files or []}:
            source, target = Path(str(importlib.metadata.distribution(name).locate_file(place))), packages / place
            if place not in ("..", "__pycache__") and not target.exists():
                target.symlink_to(source)
    return folder


def needed(requirements: list[str], extra: str = "") -> set[str]:
    """The distributions that these requirements ask for, directly and through others."""
    found: set[str] = set()
    waiting = [(line, extra) for line in requirements]
    while waiting:
        line, of = waiting.pop()
        one = Requirement(line)
        if one.marker is not None and not one.marker.evaluate({"extra": of}):
            continue
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        if name not in found:
            found.add(name)
            for of in ("", *one.extras):
                waiting += [(below, of) for below in importlib.metadata.requires(name) or []]
    return found


def clean(home: Path) -> dict[str, str]:
    """An environment without anything that leads to the checkout."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG") or key.startswith("PIP_")}
    return {**kept, "HOME": str(home), "MPLCONFIGDIR": str(home / "matplotlib")}


def run(folder: Path, *command: str, where: Path) -> subprocess.CompletedProcess[str]:
    program = str(folder / "bin" / command[0])
    return subprocess.run(
        [program, *command[1:]], cwd=where, env=clean(where), capture_output=True, text=True, timeout=300
    )


def test_it_brings_the_weights_and_stays_small(wheel: Path) -> None:
    names = {name.removeprefix(INSIDE) for name in zipfile.ZipFile(wheel).namelist() if name.startswith(INSIDE)}
    files = {path.relative_to(shipped.CHECKOUT).as_posix() for path in shipped.CHECKOUT.rglob("*") if path.is_file()}
    assert names == files
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(("models/", "src/"))]
    assert {"huesong/music/piano/piano.sf3", "huesong/music/piano/README.md"} <= set(zipfile.ZipFile(wheel).namelist())
    size = wheel.stat().st_size
    assert size <= MOST_BYTES
    stated = re.search(r"a wheel of (\d+) MB", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert stated is not None
    assert int(stated[1]) == round(size / 1e6), "README states the size of the wheel"


def test_it_composes_outside_of_a_checkout(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.effect_noise((320, 240), 60).convert("RGB").save(tmp_path / "photo.jpg")
    probe = (
        "import huesong, importlib.util as u; print(huesong.__file__); print(u.find_spec('mlflow'), u.find_spec('kfp'))"
    )
    file, absent = run(installed, "python", "-c", probe, where=tmp_path).stdout.splitlines()
    assert Path(file).is_relative_to(installed)
    assert absent == "None None", "it sees more than what the wheel declares"
    options = ["compose", "photo.jpg", "--seconds", "4", "--seed", "3"]
    done = run(installed, "huesong", *options, where=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{shipped.NAME}, the shipped one" in done.stdout
    assert all((tmp_path / f"photo{kind}").stat().st_size > 100 for kind in (".mid", ".wav", "-roll.png"))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'nothing-here.db'}")
    here = CliRunner().invoke(app, [*options, "--out", "here"])
    assert here.exit_code == 0, here.output
    assert (tmp_path / "here.mid").read_bytes() == (tmp_path / "photo.mid").read_bytes()


def test_what_only_training_needs_is_not_there_and_is_named(installed: Path, tmp_path: Path) -> None:
    probe = f"import importlib.util as u; print([name for name in {TRAINING!r} if u.find_spec(name)])"
    assert run(installed, "python", "-c", probe, where=tmp_path).stdout.strip() == "[]"
    done = run(installed, "huesong", "data", "sample", where=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        r"huesong: \w+ is not installed, which composing needs not: pip install 'huesong\[train\]'\n", done.stderr
    ), done.stderr
    said = run(installed, "huesong", "doctor", where=tmp_path).stdout
    assert re.search(r"not here +training \[train\] +pip install \"huesong\[train\]\"", said), said


def test_every_package_of_training_is_known_by_its_module() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = [Requirement(line).name for line in extras["train"]]
    assert sorted({"scikit-learn": "sklearn"}.get(name, name) for name in names) == sorted(TRAINING)


def test_without_its_weights_it_says_what_to_do(installed: Path, tmp_path: Path) -> None:
    [place] = installed.glob("lib/python*/site-packages/huesong/weights")
    place.rename(tmp_path / "weights")
    Image.new("RGB", (40, 30), "navy").save(tmp_path / "photo.jpg")
    try:
        done = run(installed, "huesong", "compose", "photo.jpg", where=tmp_path)
    finally:
        shutil.move(tmp_path / "weights", place)
    assert done.returncode == 2
    assert f"no shipped model in {place / shipped.NAME}" in done.stderr
    assert "--model" in done.stderr
