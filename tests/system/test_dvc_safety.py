"""DVC loses no artifact and believes no altered file: real `dvc` in a small checkout of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent


def environment(checkout: Path, first: Path | None = None) -> dict[str, str]:
    """The environment with this Python's tools, and before them those in `first`."""
    places = [str(first)] if first else []
    path = os.pathsep.join([*places, str(BIN), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "HUESONG_TRACKING": "off"}


def dvc(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["dvc", *words], cwd=cwd, env=environment(cwd), capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `dvc repro` reads of this checkout, with artifacts of an earlier run in every stage's folder."""
    for name in ("dvc.yaml", "params.yaml", "mlflow/gate.yaml", ".dvc/config", ".dvcignore"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images.csv").write_text("id\n")
    for stage in ("preprocess", "label", "train", "evaluate", "register"):
        (tmp_path / "artifacts" / stage).mkdir(parents=True)
        (tmp_path / "artifacts" / stage / "result").write_text(f"an hour of {stage}")
    return tmp_path


def kept(checkout: Path) -> list[str]:
    """The stages whose earlier artifacts are still there."""
    return sorted(path.parent.name for path in (checkout / "artifacts").glob("*/result"))


@pytest.mark.parametrize("stage", ["preprocess", "train"])
def test_a_typo_in_the_settings_loses_no_artifact(checkout: Path, stage: str) -> None:
    params = checkout / "params.yaml"
    params.write_text(params.read_text().replace(f"{stage}:\n", f"{stage}:\n  sead: 0\n", 1))
    done = dvc("repro", "--single-item", stage, cwd=checkout)
    assert done.returncode != 0
    assert f"unknown key '{stage}.sead'; did you mean 'seed'?" in done.stdout + done.stderr
    assert len(kept(checkout)) == 5


def test_a_kill_loses_no_artifact(checkout: Path) -> None:
    fake = checkout / "bin" / "huesong"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\ntouch started\nexec sleep 60\n")
    fake.chmod(0o755)
    process = subprocess.Popen(
        ["dvc", "repro", "--single-item", "train"], cwd=checkout, env=environment(checkout, fake.parent),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (checkout / "started").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert (checkout / "started").exists(), "the stage never ran"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(kept(checkout)) == 5


def test_an_altered_object_of_the_remote_is_not_pulled(checkout: Path) -> None:
    remote = ROOT / "dvc-remote"
    shutil.copytree(remote, checkout / "dvc-remote")
    shutil.copy(ROOT / "data.dvc", checkout / "data.dvc")
    shutil.rmtree(checkout / "data")
    (altered,) = sorted(
        path for path in (checkout / "dvc-remote").rglob("*") if path.is_file() and path.stat().st_size > 5000
    )[:1]
    content = bytearray(altered.read_bytes())
    content[100] ^= 1
    altered.chmod(0o644)
    altered.write_bytes(content)
    done = dvc("pull", cwd=checkout)
    assert done.returncode != 0, "an object of the same size and other content was pulled without a word"


def test_no_clone_changes_line_ends() -> None:
    """Digests of tables and weights would not hold in a clone with core.autocrlf."""
    listed = subprocess.run(
        ["git", "check-attr", "text", "models/huesong-small/config.json", "params.yaml", "data/images.csv"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [line.rpartition(": ")[2] for line in listed.stdout.splitlines()] == ["unset"] * 3
