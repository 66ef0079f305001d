"""The images are built, and the whole pipeline runs in them: no network, no rights, nothing writable.

Selected by HUESONG_CONTAINERS=1, with which a missing Docker engine is a failure: nothing is skipped silently.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from components import build, image
from pipeline.local import LocalRun, hardened, run_container, run_docker
from pipeline.resources import TABLE

from huesong import __version__, contracts
from huesong.config import Params
from huesong.data import versions as remotes
from huesong.runtime.errors import UserError
from huesong.runtime.files import folder_digest
from huesong.train import launch
from huesong.train import stage as train
from tests.conftest import TINY
from tests.system.test_signals import in_a_pod, statuses
from tests.tiny_training import write_artifacts

ROOT = Path(__file__).parents[2]
GATE = {"absolute": {"invalid_tokens": {"max": 0}}}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("HUESONG_CONTAINERS"), reason="builds images: set HUESONG_CONTAINERS=1 to run this"
    ),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """The Docker engine. Without one these tests fail."""
    import docker

    try:
        found = docker.from_env()
        found.ping()
    except docker.errors.DockerException as error:
        pytest.fail(f"HUESONG_CONTAINERS is set, but no Docker engine answers: {error}")
    yield found
    found.close()


@pytest.fixture(scope="module")
def images(client: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All images, built from this checkout."""
    out = tmp_path_factory.mktemp("images") / "images.json"
    command = [sys.executable, str(ROOT / "components" / "build.py"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, str] = json.loads(out.read_text())
    return found


@pytest.fixture(scope="module")
def run(images: dict[str, str], tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalRun:
    folder = tmp_path_factory.mktemp("docker")
    folder.chmod(0o755)
    version = {"data_digest": remotes.publish(tiny_data, str(folder / "remote")).digest}
    version["remote"] = str(folder / "remote")
    return run_docker(folder / "root", **version, images=images, params=TINY, gate=GATE, git_sha="2" * 40)


def inside(client: Any, name: str, command: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output of a shell command in a hardened container of a component."""
    capfd.readouterr()
    code = run_container(client, image(name), ["sh", "-c", command], {}, **hardened("1g"))
    return code, capfd.readouterr().out


def test_every_component_has_an_image_with_labels_and_no_entry_point(client: Any, images: dict[str, str]) -> None:
    assert set(images) == set(TABLE)
    sha = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    for name in images.values():
        config = client.images.get(name).attrs["Config"]
        assert config["User"] == "65532:65532"
        assert not config.get("Entrypoint")
        assert config["Labels"]["org.opencontainers.image.revision"] == os.environ.get("GIT_SHA", sha)
        assert config["Labels"]["org.opencontainers.image.version"] == __version__


def test_images_stay_within_their_sizes(images: dict[str, str]) -> None:
    for component, row in build.plan(dict(os.environ)).items():
        assert 0 < build.size_mb(images[component]) <= build.LIMITS_MB[row["target"]]


@pytest.mark.parametrize("name", ["register", "train"])
def test_containers_have_no_rights(
    client: Any, images: dict[str, str], name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out = inside(client, name, "id -u; grep CapEff /proc/self/status; ls /sys/class/net; echo $HOME", capfd)
    assert code == 0
    assert out.split() == [str(os.getuid() or 65532), "CapEff:", "0" * 16, "lo", "/tmp"]
    code, out = inside(client, name, "touch /opt/venv/x || touch /x || echo nothing written", capfd)
    assert "nothing written" in out
    assert "Read-only" in out
    code, _ = inside(client, name, "gcc --version || cc --version || make --version", capfd)
    assert code == 127


def test_only_the_torch_image_has_torch(client: Any, images: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    code, out = inside(client, "register", "python3 -c 'import huesong.register.stage; import torch'", capfd)
    assert code == 1
    assert "No module named 'torch'" in out
    code, out = inside(client, "train", "python3 -c 'import torch; print(torch.version.cuda)'", capfd)
    assert (code, out.strip()) == (0, "None")


def test_short_failures_are_seen(client: Any, images: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        assert inside(client, "settings", "echo last words; exit 3", capfd) == (3, "last words\n")
    assert not [c for c in client.containers.list(all=True) if c.image.tags and image("settings") in c.image.tags]


def test_the_whole_pipeline_runs_in_the_images(run: LocalRun) -> None:
    from huesong.register.registry import Registry

    for stage in contracts.STAGES:
        assert any(run.artifact(stage, "out").iterdir())
    figures = json.loads((run.artifact("evaluate", "out") / contracts.FIGURES).read_text())
    assert figures["invalid_tokens"] == 0
    assert figures["n"] > 0
    champion = Registry(contracts.MODEL_NAME, uri=run.tracking_uri).by_alias(contracts.CHAMPION)
    assert champion is not None
    assert champion.tags["huesong.git_sha"] == "2" * 40
    assert list(run.artifact("compose", "out").glob("*.wav"))
    assert "SUCCEEDED" in run.artifact("outcome", "summary").read_text()


def test_the_registered_model_names_the_versions_of_what_its_image_lacks(run: LocalRun) -> None:
    (lines,) = {path.read_text() for path in (run.folder.parent / "mlartifacts").rglob("requirements.txt")}
    pinned = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("miditok==")]
    assert pinned[0] in lines.splitlines()


def test_the_container_trains_the_very_model_that_is_trained_here(run: LocalRun, tmp_path: Path) -> None:
    inputs = {"preprocess": run.artifact("preprocess", "out"), "label": run.artifact("label", "out")}
    params = Params.model_validate(TINY).train
    train.run(params, **inputs, out=tmp_path / "train", checkpoints=tmp_path / "checkpoints")
    weights = Path(contracts.MODEL) / contracts.MODEL_WEIGHTS
    assert (tmp_path / "train" / weights).read_bytes() == (run.artifact("train", "out") / weights).read_bytes()


def test_two_processes_train_in_a_container(
    client: Any, images: dict[str, str], run: LocalRun, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """They find each other without a network, and leave what two processes here leave."""
    root = tmp_path_factory.mktemp("two")
    root.chmod(0o777)  # the container's user is another
    settings = {**TINY["train"], "processes": 2}
    (root / "params.yaml").write_text(json.dumps({"train": settings}))  # which is YAML, too
    inputs = {"preprocess": run.artifact("preprocess", "out"), "label": run.artifact("label", "out")}
    places = {"params": root / "params.yaml", **inputs, "out": root / "out", "checkpoints": root / "checkpoints"}
    words = ["env", "HUESONG_TRACKING=off", "python", "-m", "huesong.cli", "train"]
    words += [word for name, place in places.items() for word in (f"--{name}", str(place))]
    volumes = {str(path): {"bind": str(path), "mode": "ro"} for path in inputs.values()}
    volumes[str(root)] = {"bind": str(root), "mode": "rw"}
    assert run_container(client, images["train"], words, volumes, **hardened()) == 0
    params = Params.model_validate({"train": settings}).train
    launch.train(params, **inputs, out=root / "here", checkpoints=root / "checkpoints-here")
    weights = Path(contracts.MODEL) / contracts.MODEL_WEIGHTS
    assert (root / "out" / weights).read_bytes() == (root / "here" / weights).read_bytes()


def test_shards_in_containers_make_the_same_artifacts(images: dict[str, str], run: LocalRun) -> None:
    """The run ends where the fan-out matters no more: the training refuses its settings."""
    root, remote = run.folder.parent, str(run.folder.parent.parent / "remote")
    params = copy.deepcopy(TINY)
    params["train"]["network"] = {"width": 34, "heads": 4}
    version = {"data_digest": remotes.resolve("current", remote), "remote": remote}
    with pytest.raises(UserError, match="train"):
        run_docker(root, **version, images=images, params=params, gate=GATE, shards=2)
    for part in range(2):
        (place,) = root.glob(f"huesong-*/**/*iteration-{part}/shard/out/shard.json")
        assert json.loads(place.read_text()) == {"part": part, "parts": 2}
    (merged,) = root.glob("huesong-*/**/merge/out")
    assert folder_digest(merged) == folder_digest(run.artifact("preprocess", "out"))
    (labels,) = (path for path in root.glob("huesong-*/**/label/out") if run.folder not in path.parents)
    assert folder_digest(labels) == folder_digest(run.artifact("label", "out"))


def test_a_failing_component_fails_the_run(
    images: dict[str, str], run: LocalRun, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("failing")
    folder.chmod(0o755)
    remote = run.folder.parent.parent / "remote"
    with pytest.raises(UserError, match="fetch"):
        run_docker(folder / "root", data_digest="0" * 32 + ".dir", remote=str(remote), images=images, params=TINY)
    (summary,) = (folder / "root").glob("huesong-*/**/outcome/summary")
    assert "FAILED" in summary.read_text()
    (log,) = (folder / "root").glob("*.log")
    assert "0" * 32 in log.read_text()


def test_a_container_that_is_stopped_unwinds(
    client: Any, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of a container `docker stop` tells the first process only: that must be Python."""
    root = tmp_path_factory.mktemp("stopped")
    write_artifacts(root)
    root.chmod(0o777)  # the container's user is another
    uri = f"sqlite:///{root / 'mlflow.db'}"
    volumes = {str(root): {"bind": str(root), "mode": "rw"}}
    container = client.containers.create(images["train"], in_a_pod(root, uri), volumes=volumes, **hardened())
    try:
        container.start()
        deadline = time.monotonic() + 240
        while not list(root.glob("checkpoints/pairs-*/step-*")):
            container.reload()
            assert container.status in ("created", "running"), container.logs().decode()
            assert time.monotonic() < deadline, container.logs().decode()
            time.sleep(0.2)
        container.stop(timeout=60)
        assert container.wait()["StatusCode"] == 143, container.logs().decode()
    finally:
        container.remove(force=True)
    assert statuses(uri) == ["KILLED"]


def test_what_cannot_run_is_told(client: Any, images: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        run_docker(tmp_path / "root", data_digest="0" * 32, remote="s3://bucket/data")
    with pytest.raises(UserError, match="make images"):
        run_docker(tmp_path / "root", data_digest="0" * 32, remote=str(tmp_path), images={"train": "huesong/train:0"})
