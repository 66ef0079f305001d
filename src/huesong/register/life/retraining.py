"""`huesong retrain`: what a scheduler starts again and again. New data or code? Then train, evaluate, register, promote or not.

It is `dvc pull` and `dvc repro` around a lock. A stage writes its folder as a whole or not at all, and `register` comes last:
what fails on the way changes nothing that composes. The next call goes on where a killed one stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huesong import contracts
from huesong.config import Params
from huesong.register.life import hooks
from huesong.register.registry import Registry
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log

PROMOTED, FAILED, NOTHING_NEW, NOT_BETTER = 0, 1, 3, 4
"""Exit codes."""
LOCK = Path(".dvc") / "tmp" / "huesong-retrain.lock"
DVC_LOCK = Path(".dvc") / "tmp" / "rwlock"
"""Where DVC writes down which process reads and writes what."""
START = Path("out") / "champion"
"""Where the champion's files are put if `train.start_from` names this folder."""
REMEDIES = {"pull": "; where data were changed here, `dvc add data` keeps them, and --no-pull trains on what is there"}
"""What helps where a command of DVC fails."""
REGISTRATION = Path("artifacts") / "register" / contracts.REGISTRATION


def retrain(params: Params, root: Path, *, pull: bool = True, dry_run: bool = False) -> tuple[int, str]:
    """Do what is to be done in a checkout; the exit code, and what was done in a line.

    Args:
        params: its settings.
        root: the checkout.
        pull: whether data are pulled from the DVC remote first.
        dry_run: say what would run, and run nothing but the pull.

    Raises:
        UserError: another retraining runs here, or a command failed; those of hooks.ON_FAILURE were told.
    """
    with alone(root / LOCK):
        forget_the_dead(root / DVC_LOCK)
        try:
            if pull:
                dvc(root, "pull", "data.dvc", quiet=True)
            changed = stale(root)
            if dry_run:
                return (PROMOTED, f"would run {', '.join(changed)}") if changed else (NOTHING_NEW, "nothing new")
            if not changed:
                return NOTHING_NEW, "nothing new: no data, settings or code changed since the last run"
            registry = Registry(params.register_.model_name, root=root)
            before = registry.by_alias(contracts.CHAMPION)
            if params.train.start_from and (root / params.train.start_from).resolve() == (root / START).resolve():
                place_champion(registry, root / START)
            log.info("retrain: %s", ", ".join(changed))
            dvc(root, "repro")
        except UserError as error:
            hooks.tell_of_failure("huesong retrain", str(error))
            raise
        after = registry.by_alias(contracts.CHAMPION)  # DVC may have put back an earlier run's word instead of running
        if after is not None and (before is None or after.version != before.version):
            return PROMOTED, f"{after.uri} is the champion now"
        entry = artifacts.read_json(root / REGISTRATION, "huesong register")
        return NOT_BETTER, f"{entry['uri']}: {entry['note']}"


def stale(root: Path) -> list[str]:
    """The stages that `dvc repro` would run, as far as is known before it; empty: nothing is new."""
    # A stage that never ran, or did not come to its end, counts as changed.
    said = dvc(root, "status", "--json", quiet=True)
    try:
        return sorted(json.loads(said[said.index("{") :]))
    except ValueError:
        raise UserError(f"dvc status says nothing that can be read: {said.strip()[:200]!r}; run it by hand") from None


def place_champion(registry: Registry, folder: Path) -> None:
    """Copy the champion's model folder to `folder`, from which training then goes on.

    Raises:
        UserError: there is no champion.
    """
    champion = registry.by_alias(contracts.CHAMPION)
    if champion is None:
        raise UserError(
            f"train.start_from = {START} is the champion's folder, and {registry.name} has no champion yet: train the first "
            "model with an empty train.start_from"
        )
    with artifacts.replacing_folder(folder) as work:
        shutil.copytree(registry.folder(champion), work, dirs_exist_ok=True)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """One retraining a checkout; the lock ends with its process.

    Raises:
        UserError: another one runs.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another retraining runs in this checkout ({path} is locked): wait for its end") from None
        yield


def forget_the_dead(path: Path) -> None:
    """Take processes that ended off DVC_LOCK, also those that nobody has waited for.

    DVC forgets by itself only what has no process id any more; a container whose first process waits for nobody keeps the ids
    of what was killed in it.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        kept = {
            "write": {place: one for place, one in held.get("write", {}).items() if runs(one)},
            "read": {place: [one for one in them if runs(one)] for place, them in held.get("read", {}).items()},
        }
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return  # DVC says what is wrong with it
    if kept != {"write": {}, "read": {}, **held}:
        with artifacts.replacing_file(path) as part:
            part.write_text(json.dumps(kept), encoding="utf-8")


def runs(holder: Mapping[str, Any]) -> bool:
    """Whether the process of an entry of DVC_LOCK still runs."""
    import psutil

    try:
        return bool(psutil.Process(int(holder["pid"])).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def dvc(root: Path, *words: str, quiet: bool = False) -> str:
    """Run DVC in the checkout; what it printed if `quiet`, else it goes to the console.

    Raises:
        UserError: it failed.
    """
    # The stages' `huesong` is the one that runs this, and a failure is told of once: here.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = {**os.environ, "PATH": path, hooks.ON_FAILURE: ""}
    pipe = subprocess.PIPE if quiet else None
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=root, env=env, text=True, check=False, stdout=pipe, stderr=pipe
    )
    if done.returncode:
        said = " ".join((done.stderr or "").split())[-400:] or "what it said stands above"
        raise UserError(f"dvc {words[0]} failed (exit code {done.returncode}): {said}{REMEDIES.get(words[0], '')}")
    return done.stdout or ""
