"""The first lines of the README lead from a clone to sound in a shell that knows nothing of huesong."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from tests.s3_server import free_port
from tests.stores import new_database

ROOT = Path(__file__).parents[2]


def first_steps() -> list[str]:
    """The commands of the README's first section."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## From clone to sound")[1]
    block = re.search(r"(?:^    .*\n)+", section, re.MULTILINE)
    assert block is not None
    return [line.strip() for line in block[0].splitlines()]


def clone_with_environment(folder: Path) -> Path:
    """The tracked files, with an environment that `make setup` finds ready: the packages of the one that runs the tests."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in tracked:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    environment = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    outer = sysconfig.get_paths()["purelib"]
    (packages / "outer.pth").write_text(f"{folder / 'src'}\nimport site; site.addsitedir({outer!r})\n")
    script = environment / "bin" / "huesong"
    script.write_text(f"#!{environment / 'bin' / 'python'}\nfrom huesong.cli import main\nmain()\n")
    script.chmod(0o755)
    (environment / ".ready").touch()
    return folder


@pytest.mark.slow
def test_the_lines_of_the_readme_lead_from_clone_to_sound(tmp_path: Path) -> None:
    clone = clone_with_environment(tmp_path / "clone")
    shutil.copy(
        Path(sysconfig.get_paths()["purelib"]) / "sklearn" / "datasets" / "images" / "flower.jpg", clone / "photo.jpg"
    )
    lines = first_steps()
    commands = [line.split("  ")[0] for line in lines]
    assert commands == ["make setup", ". .venv/bin/activate", "huesong compose photo.jpg"]
    bare = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    if "PYTHON" in os.environ:
        bare["PYTHON"] = os.environ["PYTHON"]
    shell = ["bash", "--noprofile", "--norc", "-e", "-c"]
    done = subprocess.run([*shell, "\n".join(lines)], cwd=clone, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("photo.mid", "photo.wav", "photo-roll.png"):
        assert (clone / name).stat().st_size > 500, name
    assert "model      huesong-small, the shipped one" in done.stdout
    # And as the second line says, without it.
    named = subprocess.run(
        [*shell, ".venv/bin/huesong --version"], cwd=clone, env=bare, capture_output=True, text=True, check=False
    )
    assert named.stdout.startswith("huesong ")


def test_make_run_ends_with_a_photograph_by_both_models() -> None:
    recipe = subprocess.run(
        ["make", "-n", "run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "VENV": sys.prefix},
    ).stdout
    lines = [line for line in recipe.splitlines() if "huesong" in line]
    photographs = [line.split() for line in lines if "flower.jpg" in line]
    assert [words[words.index("--model") + 1] for words in photographs] == [
        "artifacts/train/model",
        "models/huesong-small",
    ]
    for words in photographs:
        found = subprocess.run(["bash", "-c", f"ls {words[2]}"], cwd=ROOT, capture_output=True, text=True, check=True)
        photo = Path(found.stdout.strip())
        with Image.open(photo) as opened:
            assert min(opened.size) > 400
        assert "creativecommons.org/licenses/by/2.0" in (photo.parent / "README.txt").read_text()
    assert lines[-1].endswith("huesong status")


@pytest.mark.slow
def test_make_tracking_shows_the_pages(tmp_path: Path) -> None:
    port = free_port()
    new_database(tmp_path / "mlflow.db")
    words = [
        "-f",
        str(ROOT / "Makefile"),
        "-o",
        f"{sys.prefix}/.ready",
        "tracking",
        f"VENV={sys.prefix}",
        f"PORT={port}",
    ]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(["make", *words], cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
        try:
            for _ in range(600):
                assert server.poll() is None, (tmp_path / "log").read_text()
                with (
                    contextlib.suppress(OSError),
                    urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=30) as page,
                ):
                    assert "MLflow" in page.read().decode()
                    break
                time.sleep(0.5)
            else:
                pytest.fail((tmp_path / "log").read_text())
            assert f"http://127.0.0.1:{port}\n" in (tmp_path / "log").read_text()
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)
