"""The whole pipeline on this machine: in child processes, or in the images, hardened, by a Docker engine.

Both run the components as a cluster does, one after another; only what Kubernetes adds (resources, secrets) is left out.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp import local
from kfp.local import docker_task_handler

from huesong.errors import UserError
from huesong.stages.handover import environment
from pipeline.pipeline import make_pipeline
from pipeline.resources import USER

MEMORY = "4g"
PROCESSES = 512
TMP = "1g"


@dataclass(frozen=True)
class LocalRun:
    """A finished run."""

    folder: Path
    """The artifacts of the tasks that ran: `<folder>/.../<task>/<artifact>`. Cached tasks left theirs in older runs."""
    tracking_uri: str
    seconds: float

    def artifact(self, task: str, name: str) -> Path:
        """A file or folder that a task of this run wrote.

        Raises:
            UserError: there is none: the task was cached, skipped, or has no such artifact.
        """
        found = sorted(self.folder.glob(f"**/{task}/{name}"))
        if not found:
            raise UserError(f"{self.folder} has no {name} of {task}: it was cached or did not run")
        return found[0]


def run_local(root: Path, *, data_digest: str, remote: str, cache: bool = True, **options: Any) -> LocalRun:
    """Run the pipeline in child processes of this Python.

    Args:
        root: folder for artifacts, cache, and MLflow's store where `tracking_uri` names no other.
        data_digest: the data version.
        remote: s3://bucket/prefix, or the folder of a DVC remote.
        cache: skip tasks whose inputs and code have not changed since an earlier run below `root`.
        options: other parameters of the pipeline: params, gate, git_sha, tracking_uri.

    Raises:
        UserError: a task failed; the log above says why.
    """
    runner = local.SubprocessRunner(use_venv=False)
    return _run(root, runner, {}, cache, data_digest=data_digest, remote=remote, **options)


def run_docker(
    root: Path,
    *,
    data_digest: str,
    remote: str,
    images: Mapping[str, str] | None = None,
    memory: str = MEMORY,
    cache: bool = True,
    **options: Any,
) -> LocalRun:
    """Run the pipeline in its images: no network, a user without rights, nothing writable but `root` and /tmp.

    Args:
        root: as in `run_local`; mounted into every container at the same path.
        data_digest: the data version.
        remote: the folder of a DVC remote; mounted read-only.
        images: image by component; what is missing has its local name.
        memory: limit of each container.
        cache: as in `run_local`.
        options: as in `run_local`; `tracking_uri` must be a file below `root`.

    Raises:
        UserError: no Docker engine, an image that is not there, a remote that is no folder, or a failed task.
    """
    import docker
    from docker.types import Mount

    if not Path(remote).is_dir():
        raise UserError(f"{remote} is no folder: containers without a network read data from a folder only")
    root.mkdir(parents=True, exist_ok=True)
    user = f"{os.getuid()}:{os.getgid()}"
    if os.getuid() == 0:
        user = f"{USER}:{USER}"
        root.chmod(0o777)
    try:
        docker.from_env().ping()
    except (docker.errors.DockerException, OSError) as error:
        raise UserError(f"no Docker engine answers ({error}): start one, or name it in DOCKER_HOST") from error
    runner = local.DockerRunner(
        network_mode="none",
        user=user,
        read_only=True,
        tmpfs={"/tmp": f"size={TMP},mode=1777"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        mem_limit=memory,
        pids_limit=PROCESSES,
        mounts=[Mount(str(Path(remote).resolve()), str(Path(remote).resolve()), type="bind", read_only=True)],
        environment={"HUESONG_SESSION": _session()},
    )
    with watched_containers():
        return _run(
            root, runner, images or {}, cache, data_digest=data_digest, remote=str(Path(remote).resolve()), **options
        )


def _run(root: Path, runner: Any, images: Mapping[str, str], cache: bool, **arguments: Any) -> LocalRun:
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    uri = arguments.pop("tracking_uri", "") or f"sqlite:///{root / 'mlflow.db'}"
    before = set(root.iterdir())
    started = time.monotonic()
    local.init(runner, pipeline_root=str(root), enable_caching=cache)
    with warnings.catch_warnings(), environment("HUESONG_SESSION", _session()):
        # Known: resources and secrets mean nothing here, and child processes run in no image.
        warnings.filterwarnings("ignore", message=".*(attemping to run a task|no effect in the current local runner)")
        try:
            make_pipeline(images, retry=False)(tracking_uri=uri, **arguments)
        except RuntimeError as error:
            raise UserError(str(error)) from error
    folder = next(path for path in root.iterdir() if path not in before and path.name.startswith("huesong-"))
    return LocalRun(folder, uri, time.monotonic() - started)


def _session() -> str:
    """Name of this run's parent in MLflow."""
    return f"local-{os.getpid()}-{time.time():.0f}"


@contextmanager
def watched_containers() -> Iterator[None]:
    """While this lasts, KFP's containers are watched to their end.

    KFP removes a container as it ends and takes one that is gone before it looked for a success; it also pulls what it
    does not find. Both would hide a failure.
    """
    before = docker_task_handler.run_docker_container
    docker_task_handler.run_docker_container = run_container
    try:
        yield
    finally:
        docker_task_handler.run_docker_container = before


def run_container(client: Any, image: str, command: list[str], volumes: dict[str, Any], **options: Any) -> int:
    """Run a container to its end, printing its log as it comes; its exit code.

    Raises:
        UserError: the image is not there.
    """
    import docker

    try:
        container = client.containers.create(image, command, volumes=volumes, **options)
    except docker.errors.ImageNotFound as error:
        raise UserError(f"there is no image {image}: build it with `make images`") from error
    try:
        container.start()
        for line in container.logs(stream=True, follow=True):
            print(line.decode("utf-8", "replace"), end="")
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)
