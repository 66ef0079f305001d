"""Checkpoints in object storage: what a killed pod stored, the next one resumes from."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from huesong.component_io.mirror import Mirror, mirrored
from huesong.runtime.checkpoints import Checkpoints
from huesong.runtime.errors import UserError
from huesong.runtime.files import folder_digest
from huesong.train.stage import KEPT_BASES, forget_old_bases
from tests.kfp_server import wait_until
from tests.s3_server import BUCKET, Line, S3Server, credentials, quick_retries, serve

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve(tmp_path_factory.mktemp("s3") / "buckets") as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    credentials(monkeypatch, s3)
    quick_retries(monkeypatch)
    return str(tmp_path / "storage") if request.param == "folder" else f"s3://{BUCKET}/{tmp_path.name}"


def pull(uri: str, folder: Path) -> list[str]:
    return Mirror(folder, uri).pull()


def push(folder: Path, uri: str) -> list[str]:
    return Mirror(folder, uri).push()


def saved(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=2)
    for step in steps:
        checkpoints.save(step, {"network": {"w": torch.full((1000,), float(step))}}, {"step": step})
    return checkpoints


def latest(folder: Path) -> int | None:
    found = Checkpoints(folder).latest()
    return found.state["step"] if found else None


def test_there_and_back(tmp_path: Path, uri: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    saved(first / "run-1", 100, 200)
    saved(first / "base-1", 50).save_as("critic", {"critic": {"w": torch.ones(3)}}, {"done": True})
    assert push(first, uri) == ["base-1/critic", "base-1/step-000050", "run-1/step-000100", "run-1/step-000200"]
    assert push(first, uri) != []  # a new process knows nothing of the copy and stores anew
    assert len(pull(uri, second)) == 4
    assert folder_digest(second) == folder_digest(first)
    assert pull(uri, second) == []
    assert latest(second / "run-1") == 200


def test_old_checkpoints_leave_the_storage_too(tmp_path: Path, uri: str) -> None:
    mirror = Mirror(tmp_path / "a", uri)
    checkpoints = saved(tmp_path / "a" / "run-1", 100, 200)
    assert len(mirror.push()) == 2
    assert mirror.push() == []
    saved(tmp_path / "a" / "run-1", 300)
    assert mirror.push() == ["run-1/step-000300"]
    assert pull(uri, tmp_path / "b") == ["run-1/step-000200", "run-1/step-000300"]
    checkpoints.clear()
    mirror.push()
    assert pull(uri, tmp_path / "c") == []
    assert mirror.objects.keys("") == {}


def test_a_training_that_ends_takes_no_base_from_one_that_goes_on(tmp_path: Path, uri: str) -> None:
    alive, ending = tmp_path / "alive", tmp_path / "ending"
    names = [f"{kind}-{number}" for kind in ("base", "critic") for number in range(KEPT_BASES + 2)]
    for name in names:
        saved(alive / name, 50)
        Checkpoints(alive / name).save_as("done", {"network": {"w": torch.ones(3)}}, {})
        Checkpoints(alive / name).forget_steps()
    saved(alive / "pairs-1", 100)
    push(alive, uri)
    with mirrored(ending, uri, every_s=3600):
        saved(ending / "base-0", 60)  # computes one of them again
        saved(ending / "pairs-2", 100)
        forget_old_bases(ending)
        shutil.rmtree(ending / "pairs-2")
        assert len(list(ending.glob("base-*"))) == KEPT_BASES
    Checkpoints(alive / "base-0").clear()  # the pod is evicted, and the next one goes on where it was
    assert pull(uri, tmp_path / "next") == sorted(
        [*(f"{name}/done" for name in names), *later(ending), "pairs-1/step-000100"]
    )


def later(folder: Path) -> list[str]:
    """The numbered checkpoints that a folder still has of what it shares with others."""
    return [path.relative_to(folder).as_posix() for path in folder.glob("base-*/step-*")]


def test_a_pod_that_is_preempted_while_storing_leaves_whole_checkpoints_only(tmp_path: Path, uri: str) -> None:
    mirror = Mirror(tmp_path / "a", uri)
    saved(tmp_path / "a" / "run-1", 100, 200)
    mirror.push()
    mirror.objects.delete(["run-1/step-000200/state.json"])  # as if it had not come that far
    assert pull(uri, tmp_path / "b") == ["run-1/step-000100"]
    assert latest(tmp_path / "b" / "run-1") == 100


def test_a_damaged_checkpoint_is_left_out(tmp_path: Path, uri: str, caplog: pytest.LogCaptureFixture) -> None:
    mirror = Mirror(tmp_path / "a", uri)
    saved(tmp_path / "a" / "run-1", 100, 200)
    mirror.push()
    bad = tmp_path / "bad"
    bad.write_bytes(b"damage")
    mirror.objects.put(bad, "run-1/step-000200/network.safetensors")
    with caplog.at_level(logging.WARNING, logger="huesong"):
        logging.getLogger("huesong").propagate = True
        assert pull(uri, tmp_path / "b") == ["run-1/step-000100"]
    assert "step-000200 is damaged" in caplog.text
    assert not (tmp_path / "b" / "run-1" / "step-000200").exists()
    saved(tmp_path / "b" / "run-1", 200)  # the next pod computes it again, and its copy is repaired
    assert "run-1/step-000200" in push(tmp_path / "b", uri)
    assert len(pull(uri, tmp_path / "c")) == 2


def test_names_stay_inside_the_folder(tmp_path: Path, uri: str) -> None:
    mirror = Mirror(tmp_path / "a", uri)
    state = tmp_path / "state"
    state.write_text('{"state": {}, "digests": {}}')
    for key in ("run-1/.hidden/state.json", "run 1/x/state.json"):
        mirror.objects.put(state, key)
    assert mirror.pull() == []
    assert not (tmp_path / "a").exists()


def test_a_training_is_followed_and_resumed(tmp_path: Path, uri: str) -> None:
    """Two pods: the first is killed (its block never ends), the second finds what was stored and finishes."""
    pod = mirrored(tmp_path / "first", uri, every_s=0.05)
    pod.__enter__()
    saved(tmp_path / "first" / "run-1", 100)
    probe = Mirror(tmp_path / "probe", uri)
    wait_until(lambda: "run-1/step-000100/state.json" in probe.objects.keys(""))

    with mirrored(tmp_path / "second", uri, every_s=0.05):
        assert latest(tmp_path / "second" / "run-1") == 100
        saved(tmp_path / "second" / "run-1", 200)
        shutil.rmtree(tmp_path / "first")
        Checkpoints(tmp_path / "second" / "run-1").clear()
    pod.__exit__(None, None, None)
    assert probe.objects.keys("") == {}


def test_what_a_failed_training_saved_last_is_stored(tmp_path: Path, uri: str) -> None:
    def train() -> None:
        with mirrored(tmp_path / "a", uri, every_s=3600):
            saved(tmp_path / "a" / "run-1", 100)
            raise RuntimeError("the loss is not finite")

    with pytest.raises(RuntimeError):
        train()
    assert pull(uri, tmp_path / "b") == ["run-1/step-000100"]


def test_storage_that_fails_costs_a_warning(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    credentials(monkeypatch, s3)
    quick_retries(monkeypatch)
    line = Line(s3, cuts=0)
    with caplog.at_level(logging.WARNING, logger="huesong"):
        logging.getLogger("huesong").propagate = True
        with mirrored(tmp_path / "a", f"s3://{BUCKET}/lost", endpoint_url=line.url):
            saved(tmp_path / "a" / "run-1", 100)
            line.limit, line.cuts = 0, 10**6
    line.close()
    assert "checkpoints are not in s3://" in caplog.text
    assert latest(tmp_path / "a" / "run-1") == 100


def test_a_mirror_that_cannot_be_read_is_an_error_at_the_start(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials(monkeypatch, s3, secret="wrong")
    with pytest.raises(UserError, match="access denied"), mirrored(tmp_path / "a", f"s3://{BUCKET}/x"):
        pass
