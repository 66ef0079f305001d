"""The whole pipeline on this machine: in child processes, or in the images, hardened, by a Docker engine.

Both run the components as a cluster does, one after another; only what Kubernetes adds (resources, secrets) is left out.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import io
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from components import image
from kfp import local
from kfp.local import docker_task_handler, subprocess_task_handler
from rich.text import Text

import huesong
from huesong.runtime.errors import UserError
from huesong.runtime.signals import GRACE_S, child
from huesong.tracking.store import environment, sqlite_uri
from pipeline.pipeline import make_pipeline
from pipeline.resources import TABLE, USER, check_images

ENDED = re.compile(r"Task '(?P<task>[^']+)' finished with status (?P<status>\w+)")
"""What KFP writes when a task has ended."""
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
    log: Path
    """All that the tasks printed."""

    def artifact(self, task: str, name: str) -> Path:
        """A file or folder that a task of this run wrote.

        Raises:
            UserError: there is none: the task was cached, skipped, or has no such artifact.
        """
        found = sorted(self.folder.glob(f"**/{task}/{name}"))
        if not found:
            raise UserError(f"{self.folder} has no {name} of {task}: it was cached or did not run")
        return found[0]


def run_local(
    root: Path, *, data_digest: str, remote: str, shards: int = 1, cache: bool = True, **options: Any
) -> LocalRun:
    """Run the pipeline in child processes of this Python.

    Args:
        root: folder for artifacts, cache, and MLflow's store where `tracking_uri` names no other.
        data_digest: the data version.
        remote: s3://bucket/prefix, or the folder of a DVC remote.
        shards: tasks that preprocess, two at a time.
        cache: skip tasks whose inputs and code have not changed since an earlier run below `root`.
        options: other parameters of the pipeline: params, gate, git_sha, tracking_uri, cache_days.

    Raises:
        UserError: a task failed; the log that it names says why.
    """
    # No image holds the code here: its digest in the images' names lets the cache see a change.
    images = {stage: f"huesong/{stage}:{source_digest()}" for stage in TABLE}
    runner = local.SubprocessRunner(use_venv=False)
    return _run(root, runner, images, shards, cache, data_digest=data_digest, remote=remote, **options)


def run_docker(
    root: Path,
    *,
    data_digest: str,
    remote: str,
    images: Mapping[str, str] | None = None,
    memory: str = MEMORY,
    shards: int = 1,
    cache: bool = True,
    **options: Any,
) -> LocalRun:
    """Run the pipeline in its images: no network, a user without rights, nothing writable but `root` and /tmp.

    Args:
        root: mounted into every container at the same path; here and below, what is not said is as in `run_local`.
        data_digest: the data version.
        remote: the folder of a DVC remote; mounted read-only.
        images: image by component; what is missing has its local name.
        memory: limit of each container.
        shards: tasks that preprocess.
        cache: skip what has not changed.
        options: `tracking_uri` must be a file below `root`.

    Raises:
        UserError: no Docker engine, an image that is not there, a remote that is no folder, or a failed task.
    """
    from docker.types import Mount

    if not Path(remote).is_dir():
        raise UserError(f"{remote} is no folder: containers without a network read data from a folder only")
    check_images(images or {}, release=False)
    ids = image_ids(images or {})
    root.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        root.chmod(0o777)  # the containers' user is another
    folder = str(Path(remote).resolve())
    runner = local.DockerRunner(
        mounts=[Mount(folder, folder, type="bind", read_only=True)],
        environment={"HUESONG_SESSION": _session()},
        **hardened(memory),
    )
    return _run(root, runner, ids, shards, cache, data_digest=data_digest, remote=folder, **options)


def hardened(memory: str = MEMORY) -> dict[str, Any]:
    """Options of a container that can reach nothing and change nothing but what is mounted."""
    user = os.getuid() or USER, os.getgid() or USER
    return {
        "network_mode": "none",
        "user": f"{user[0]}:{user[1]}",
        "read_only": True,
        "tmpfs": {"/tmp": f"size={TMP},mode=1777"},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": PROCESSES,
    }


def _run(root: Path, runner: Any, images: Mapping[str, str], shards: int, cache: bool, **arguments: Any) -> LocalRun:
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    uri = arguments.pop("tracking_uri", "") or sqlite_uri(root)
    arguments.setdefault("cache_days", 0)  # this cache sees what is gone
    before = set(root.iterdir())
    started = time.monotonic()
    local.init(runner, pipeline_root=str(root), enable_caching=cache)
    path = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    with (
        warnings.catch_warnings(), environment(HUESONG_SESSION=_session()), path.open("x", encoding="utf-8") as file,
        contextlib.redirect_stdout(Screenful(file, sys.stdout)), watched_tasks(),
    ):  # fmt: skip
        # Known: resources and secrets mean nothing here, and child processes run in no image.
        warnings.filterwarnings("ignore", message=".*(attemping to run a task|no effect in the current local runner)")
        try:
            make_pipeline(images, shards=shards, retry=False)(tracking_uri=uri, **arguments)
        except RuntimeError as error:
            raise UserError(f"{Text.from_ansi(str(error)).plain} {path} says why") from error
    folder = next(path for path in root.iterdir() if path not in before and path.name.startswith("huesong-"))
    return LocalRun(folder, uri, time.monotonic() - started, path)


class Screenful(io.TextIOBase):
    """Standard output while tasks run: all goes to a file, and on the screen a line says that a task ended."""

    def __init__(self, file: TextIO, screen: TextIO) -> None:
        self.file, self.screen, self._rest, self._lock = file, screen, "", threading.Lock()
        self._started = time.monotonic()

    def write(self, text: str) -> int:
        """To the file, and of whole lines those that KFP writes at a task's end to the screen, too."""
        with self._lock:  # shards write from threads
            if self.file.closed:  # KFP's log keeps the stream beyond the run
                return len(text)
            self.file.write(text)
            self.file.flush()
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                if ended := ENDED.search(Text.from_ansi(line).plain):
                    after = time.monotonic() - self._started
                    self.screen.write(f"{after:6.0f} s  {ended['task']}: {ended['status'].lower()}\n")
                    self.screen.flush()
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""


def source_digest() -> str:
    """SHA-256 of the package's Python files."""
    total = hashlib.sha256()
    for path in sorted(Path(huesong.__file__).parent.rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


def image_ids(images: Mapping[str, str]) -> dict[str, str]:
    """Every component's image by its id, so that the cache sees a new build under an old tag.

    Raises:
        UserError: no Docker engine, or an image is not there.
    """
    import docker

    try:
        client = docker.from_env()
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise UserError(f"no Docker engine answers ({error}): start one, or name it in DOCKER_HOST") from error
    found = {}
    for stage in TABLE:
        name = images.get(stage, image(stage))
        try:
            found[stage] = client.images.get(name).id
        except docker.errors.ImageNotFound as error:
            raise UserError(f"there is no image {name}: build it with `make images`") from error
    return found


def _session() -> str:
    """Name of this run's parent in MLflow."""
    return f"local-{os.getpid()}-{time.time():.0f}"


@contextmanager
def watched_tasks() -> Iterator[None]:
    """While this lasts, KFP's processes and containers are watched to their end, and end with us.

    KFP removes a container as it ends and takes one that is gone before it looked for a success; it also pulls what it
    does not find. Both would hide a failure. When it is ended itself, it waits until the running task is done. And it
    indents what is printed by replacing `print`, which shards in threads put back in the wrong order: everything printed
    later would be indented, and the blanks go to standard output even where the line does not.
    """
    plain = builtins.print
    processes, containers = subprocess_task_handler.run_local_subprocess, docker_task_handler.run_docker_container
    subprocess_task_handler.run_local_subprocess = run_process
    docker_task_handler.run_docker_container = run_container
    try:
        yield
    finally:
        subprocess_task_handler.run_local_subprocess = processes
        docker_task_handler.run_docker_container = containers
        builtins.print = plain


def run_process(full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
    """Run a task's process to its end, printing its log as it comes; its exit code."""
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    if threading.current_thread() is not threading.main_thread():
        options["process_group"] = None  # a shard: no exception comes here, but Ctrl-C reaches all of our group
    with child(full_command, env={**os.environ, **(env_vars or {})}, **options) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="")
        return process.wait()


def run_container(client: Any, image: str, command: list[str], volumes: dict[str, Any], **options: Any) -> int:
    """Run a container to its end, printing its log as it comes; its exit code."""
    container = client.containers.create(image, command, volumes=volumes, **options)
    try:
        container.start()
        for line in container.logs(stream=True, follow=True):
            print(line.decode("utf-8", "replace"), end="")
        return int(container.wait()["StatusCode"])
    except (KeyboardInterrupt, SystemExit):
        container.stop(timeout=GRACE_S)
        raise
    finally:
        container.remove(force=True)
