"""The workflows: valid, with actions by digest; and the steps of a release, run as they stand there as far as this machine can."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from huesong.tracking.provenance import git_sha
from tests.kfp_server import KfpServer

pytest.importorskip("kfp")

from pipeline import release

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BIN = Path(sys.executable).parent
DIGEST = "0" * 64


def jobs(name: str = "release.yml") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))["jobs"]
    return found


def step(job: str, name: str) -> str:
    """What a step of the release runs."""
    [found] = [one["run"] for one in jobs()[job]["steps"] if one.get("name") == name]
    return str(found)


def run(script: str, where: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As the runner does: bash that stops at the first failure."""
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment}
    return subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The tracked files of this checkout, as of a version that is released."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    clone = tmp_path / "clone"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    changelog = clone / "CHANGELOG.md"
    changelog.write_text(changelog.read_text(encoding="utf-8").replace(" (unreleased)\n", "\n"), encoding="utf-8")
    return clone


def tag() -> str:
    found = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return f"v{found[1]}"


def test_the_workflows_are_valid() -> None:
    checks = [["check-jsonschema", "--builtin-schema", "vendor.github-workflows"], ["zizmor", "--offline", "--quiet"]]
    if shutil.which("actionlint"):
        checks.append(["actionlint"])
    for program, *words in checks:
        known = BIN / program if (BIN / program).exists() else Path(program)
        done = subprocess.run([known, *words, *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_wrong_in_a_workflow_is_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text(encoding="utf-8").replace("runs-on", "runs_on"))
    words = ["--builtin-schema", "vendor.github-workflows"]
    assert subprocess.run([BIN / "check-jsonschema", *words, wrong], capture_output=True, check=False).returncode == 1
    wrong.write_text(re.sub(r"@[0-9a-f]{40} .*", "@v4", WORKFLOWS[0].read_text(encoding="utf-8")))
    assert subprocess.run([BIN / "zizmor", "--offline", wrong], capture_output=True, check=False).returncode != 0


def test_actions_are_named_by_digest_and_rights_are_asked_for_one_by_one() -> None:
    for path in WORKFLOWS:
        text = path.read_text(encoding="utf-8")
        uses = re.findall(r"uses: (.*)", text)
        assert uses
        for line in uses:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), f"{path.name}: {line}"
        assert yaml.safe_load(text)["permissions"] == {}
        for name, job in jobs(path.name).items():
            assert job["permissions"], name
            assert job["timeout-minutes"], name


@pytest.mark.slow
def test_the_wheel_and_the_weights_are_built_checked_and_summed(checkout: Path) -> None:
    script = step("package", "Build and check the wheel and the weights")
    done = run(script, checkout, GITHUB_REF_NAME=tag(), GITHUB_REPOSITORY="team/huesong")
    assert done.returncode == 0, done.stderr
    done = run(step("package", "PyPI would take it"), checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = (checkout / "dist" / "python").glob("*.whl")
    [about] = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA")]
    said = zipfile.ZipFile(wheel).read(about).decode()
    home = "https://github.com/team/huesong"
    assert f"Project-URL: Issues, {home}/issues\n" in said
    assert f"]({home}/raw/{tag()}/docs/images/piece.png)" in said, "PyPI shows the README's pictures"
    assert not re.findall(r"\]\((?!https?:|#)[^)]*\)", said.partition("\n\n")[2]), "and its links lead somewhere"
    done = run(step("publish", "What was built is what is published"), checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    [archive] = (checkout / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        model = tar.extractfile("huesong-small/model.safetensors")
        assert model is not None
        assert model.read() == (ROOT / "models" / "huesong-small" / "model.safetensors").read_bytes()
    first = hashlib.sha256(archive.read_bytes()).hexdigest()
    release.write_archive(archive, release.check_weights())
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == first, "the same weights are the same archive"
    # The step after it makes an environment of its own: tests/system/test_wheel.py does the same with the packages at hand.
    assert "huesong compose photo.jpg" in step("package", "The wheel composes in an environment of its own")
    assert (checkout / "docs" / "images" / "sample.jpg").exists()

    wrong = run(script, checkout, GITHUB_REF_NAME="v9.9.9")
    assert (wrong.returncode, f"the tag of it is {tag()}" in wrong.stderr) == (1, True)
    weights = checkout / "models" / "huesong-small" / "config.json"
    weights.write_bytes(weights.read_bytes() + b" ")
    damaged = run(script, checkout, GITHUB_REF_NAME=tag())
    assert (damaged.returncode, "config.json is not what SHA256SUMS says" in damaged.stderr) == (1, True)
    (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## 0.2.0 (unreleased)\n")
    unwritten = run(script, checkout, GITHUB_REF_NAME=tag())
    assert (unwritten.returncode, "CHANGELOG.md has no line" in unwritten.stderr) == (1, True)


def test_each_image_is_signed_once_and_by_digest(checkout: Path, tmp_path: Path) -> None:
    """cosign asks the workflow's own identity of GitHub: here a program of that name writes down what it is asked."""
    images = checkout / "out" / "images.json"
    images.parent.mkdir()
    names = [f"ghcr.io/team/huesong/{part}@sha256:{DIGEST}" for part in ("light", "torch")]
    images.write_text(json.dumps({"settings": names[0], "resolve": names[0], "train": names[1]}))
    cosign = tmp_path / "bin" / "cosign"
    cosign.parent.mkdir()
    cosign.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/signed\n')
    cosign.chmod(0o755)
    script = step("images", "Sign by digest")
    path = f"{cosign.parent}:{BIN}:/usr/bin:/bin"
    done = run(script, checkout, PATH=path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "signed").read_text().splitlines() == [f"sign --yes {name}" for name in names]
    cosign.write_text("#!/bin/sh\nexit 1\n")
    assert "cosign did not sign" in run(script, checkout, PATH=path).stderr
    cosign.unlink()
    assert "there is no cosign on this machine" in run(script, checkout, PATH=path).stderr
    images.write_text(json.dumps({"train": "huesong/train:0.2.0"}))
    by_tag = run(script, checkout, PATH=path)
    assert (by_tag.returncode, "is not named by digest" in by_tag.stderr) == (1, True)


@pytest.mark.slow
def test_the_pipeline_version_is_named_by_the_commit(checkout: Path, server: KfpServer) -> None:
    components = json.loads((ROOT / "components" / "docker-bake.json").read_text())["group"]["default"]["targets"]
    images = checkout / "out" / "images.json"
    images.parent.mkdir()
    images.write_text(json.dumps({name: f"ghcr.io/team/huesong/{name}@sha256:{DIGEST}" for name in components}))
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=checkout, check=True, capture_output=True)
    done = run(
        step("pipeline", "Upload the version named by the commit"), checkout, KF_PIPELINES_ENDPOINT=server.url,
        HUESONG_KFP_TOKEN="", PYTHONPATH=str(checkout / "src"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sha = git_sha(checkout)
    assert sha
    assert re.search(r"version (\w+) uploaded", done.stdout)
    assert sha.startswith(re.findall(r"version (\w+) uploaded", done.stdout)[0])
