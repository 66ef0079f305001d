"""What a run was made from: data version, git commit, dvc.lock; and which `dvc repro` it belongs to."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import yaml

from huesong import __version__
from huesong.runtime.files import sha256

VERSION = "huesong.version"
DATA_DIGEST = "huesong.data_digest"
LOCK_DIGEST = "huesong.dvc_lock"
GIT_SHA = "huesong.git_sha"
GIT_COMMIT = "mlflow.source.git.commit"
SESSION_VARIABLE = "HUESONG_SESSION"
"""Environment variable: the name of the parent that runs are tracked under."""
DVC_SESSION = "dvc-"
"""How the names of sessions begin that are a `dvc repro`."""


def provenance(root: Path, data: Path) -> dict[str, str]:
    """Tags that say what a run was made from; what cannot be known is left out.

    Args:
        root: the checkout (git commit, dvc.lock).
        data: raw data folder; its version is the md5 in `<data>.dvc`.
    """
    tags = {VERSION: __version__}
    if digest := data_digest(data):
        tags[DATA_DIGEST] = digest
    lock = root / "dvc.lock"
    if lock.is_file():
        tags[LOCK_DIGEST] = sha256(lock)
    if sha := git_sha(root):
        tags[GIT_SHA] = sha
        tags[GIT_COMMIT] = sha.removesuffix("+dirty")
    return tags


def data_digest(data: Path) -> str | None:
    """The md5 of the data folder's version, as DVC wrote it into `<data>.dvc`."""
    path = data.with_name(f"{data.name}.dvc")
    try:
        entry = yaml.safe_load(path.read_text(encoding="utf-8"))
        return str(entry["outs"][0]["md5"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, IndexError, TypeError):
        return None


def git_sha(root: Path) -> str | None:
    """The commit of the checkout, with `+dirty` when tracked files differ from it."""
    try:
        sha = _git(root, "rev-parse", "HEAD")
        return f"{sha}+dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else sha
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def session_key() -> str | None:
    """Names the `dvc repro` that this process runs under, the same for all of its stages; None without one.

    SESSION_VARIABLE, where it is set, is the name (a workflow engine sets it to its own run id).
    """
    if given := os.environ.get(SESSION_VARIABLE):
        return given
    import psutil

    try:
        for process in psutil.Process().parents():
            if is_dvc(process.name(), process.cmdline()):
                return f"{DVC_SESSION}{socket.gethostname()}-{process.pid}-{process.create_time():.2f}"
    except psutil.Error:  # a parent that ended, or that we may not look at
        pass
    return None


def is_dvc(name: str, command: list[str]) -> bool:
    """Whether a process is DVC: started as `dvc`, `python .../bin/dvc` or `python -m dvc`."""
    if Path(name).stem == "dvc" or command[1:3] == ["-m", "dvc"]:
        return True
    return any(Path(word).stem == "dvc" and Path(word).suffix in ("", ".exe") for word in command[:2])
