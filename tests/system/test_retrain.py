"""`huesong retrain` in a checkout with real DVC, a real remote and a real registry; its training takes a moment."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from huesong import contracts
from huesong.register.life import retraining, showing
from huesong.register.registry import Registry
from tests.console import ROOT, Done, huesong
from tests.examples import many
from tests.stores import new_database

pytestmark = pytest.mark.slow

TRAIN = """
import json, os, pathlib, signal, sys
def die(moment):
    if os.environ.get("DIE_AT") == moment:
        os.killpg(0, signal.SIGKILL)
die("training begins")
figure = float(pathlib.Path("data/figure.txt").read_text())
start = pathlib.Path("out/champion/config.json")
model = pathlib.Path("artifacts/train/model")
model.mkdir(parents=True)
began = json.loads(start.read_text())["training"]["seed"] if start.exists() else None
(model / "config.json").write_text(json.dumps({"format": 1, "training": {"seed": figure, "from": began}}))
die("the model is written")
evaluate = pathlib.Path("artifacts/evaluate")
evaluate.mkdir(parents=True)
(evaluate / "figures.json").write_text(json.dumps({"arousal_r": figure}))
die("training is done")
"""
DVC_YAML = """
stages:
  train:
    cmd: python train.py
    deps: [data, train.py]
    outs: [artifacts/train: {cache: false}, artifacts/evaluate: {cache: false}]
  register:
    cmd: >-
      python -m huesong.cli register --params params.yaml --train artifacts/train --evaluate artifacts/evaluate
      --gate gate.yaml --out artifacts/register
    deps: [artifacts/train, artifacts/evaluate, gate.yaml]
    outs: [artifacts/register: {cache: false}]
"""
GATE = "absolute: {arousal_r: {min: 0.2}}\nrelative: {arousal_r: {better: higher, margin: 0}}\n"
SETTINGS = {"register": {"model_name": "again", "experiment": "again"}}


class Checkout:
    """A clone with a DVC remote beside it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "clone"
        self.root.mkdir()
        (self.root / "data").mkdir()
        for name, text in (("train.py", TRAIN), ("dvc.yaml", DVC_YAML), ("gate.yaml", GATE)):
            (self.root / name).write_text(text)
        self.settings({})
        new_database(self.root / "mlflow.db")
        self.run("git", "init", "-q")
        self.dvc("init", "-q")
        self.dvc("config", "core.analytics", "false")
        self.dvc("remote", "add", "-q", "-d", "store", str(folder / "remote"))

    def run(self, *words: str) -> None:
        subprocess.run(words, cwd=self.root, check=True, capture_output=True)

    def dvc(self, *words: str) -> None:
        self.run(sys.executable, "-m", "dvc", *words)

    def settings(self, train: dict[str, str]) -> None:
        (self.root / "params.yaml").write_text(json.dumps({**SETTINGS, "train": train}))

    def publish(self, figure: str) -> None:
        """New data in the remote, none of them here."""
        (self.root / "data" / "figure.txt").write_text(figure)
        self.dvc("add", "-q", "data")
        self.dvc("push", "-q")
        (self.root / "data" / "figure.txt").unlink()

    def retrain(self, *words: str, **env: str) -> Done:
        return huesong("retrain", *words, cwd=self.root, env=env)

    @property
    def registry(self) -> Registry:
        """Where MLFLOW_TRACKING_URI says, else in the clone."""
        return Registry("again", root=self.root)

    @property
    def champion(self) -> str | None:
        found = self.registry.by_alias(contracts.CHAMPION)
        return found.version if found else None


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HUESONG_SESSION", "HUESONG_ON_PROMOTE", "HUESONG_ON_FAILURE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("HUESONG_CACHE", str(tmp_path / "cache"))
    return Checkout(tmp_path)


def test_promoted_nothing_new_better_not_better_and_failed(checkout: Checkout, tmp_path: Path) -> None:
    checkout.publish("0.5")
    tried = checkout.retrain("--dry-run")
    assert (tried.returncode, tried.stdout) == (0, "would run register, train\n")
    assert checkout.champion is None
    first = checkout.retrain()
    assert (first.returncode, first.stdout) == (retraining.PROMOTED, "models:/again/1 is the champion now\n"), (
        first.stderr
    )
    for words in ((), ("--dry-run",)):
        again = checkout.retrain(*words)
        assert (again.returncode, again.stdout.startswith("nothing new")) == (retraining.NOTHING_NEW, True)
    told = tmp_path / "told.json"
    checkout.publish("0.6")
    checkout.settings({"start_from": "out/champion"})
    better = checkout.retrain(HUESONG_ON_PROMOTE=f"tee {shlex.quote(str(told))}")
    assert better.returncode == retraining.PROMOTED, better.stderr
    assert (checkout.champion, json.loads(told.read_text())["version"]) == ("2", "2")
    model = checkout.registry.folder(checkout.registry.by_version("2")) / contracts.MODEL_CONFIG
    assert json.loads(model.read_text())["training"]["from"] == 0.5, "the champion's weights are what it began from"
    checkout.publish("0.55")
    worse = checkout.retrain()
    assert (worse.returncode, "not promoted, the gate failed: arousal_r" in worse.stdout) == (
        retraining.NOT_BETTER,
        True,
    )
    told.unlink()
    checkout.publish("no number")
    failed = checkout.retrain(HUESONG_ON_FAILURE=f"tee -a {shlex.quote(str(told))}")
    assert failed.returncode == retraining.FAILED
    assert "huesong: dvc repro failed" in failed.stderr
    (event,) = map(json.loads, told.read_text().splitlines())
    assert (event["event"], event["what"]) == ("failed", "huesong retrain"), "once, and not by a stage, too"
    assert checkout.champion == "2"
    kinds = [one.kind for one in showing.history(checkout.registry)]
    assert kinds == ["promote", "promote", "refuse"]


def test_two_at_once_and_what_cannot_be_pulled(checkout: Checkout, tmp_path: Path) -> None:
    checkout.publish("0.5")
    lock = checkout.root / retraining.LOCK
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        second = checkout.retrain()
    assert (second.returncode, "another retraining runs" in second.stderr) == (retraining.FAILED, True)
    (tmp_path / "remote").rename(tmp_path / "away")
    (checkout.root / ".dvc" / "cache").rename(tmp_path / "cache-away")
    gone = checkout.retrain()
    assert (gone.returncode, "huesong: dvc pull failed" in gone.stderr) == (retraining.FAILED, True)
    (tmp_path / "away").rename(tmp_path / "remote")
    checkout.settings({"start_from": "out/champion"})
    none = checkout.retrain()
    assert (none.returncode, "has no champion yet" in none.stderr) == (retraining.FAILED, True)
    assert checkout.registry.versions() == []


def test_a_process_that_nobody_waited_for_holds_nothing(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert dead.stdout is not None
    dead.stdout.read()  # it has ended, or is about to
    while psutil.Process(dead.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    alive, gone = ({"pid": pid, "cmd": "dvc repro"} for pid in (os.getpid(), dead.pid))
    path = tmp_path / "rwlock"
    path.write_text(json.dumps({"write": {"/a": gone, "/b": alive}, "read": {"/c": [gone, alive]}}))
    retraining.forget_the_dead(path)
    assert json.loads(path.read_text()) == {"write": {"/b": alive}, "read": {"/c": [alive]}}
    dead.wait()
    for damaged in ("", "[]", '{"write": {"/a": 1}}'):
        path.write_text(damaged)
        retraining.forget_the_dead(path)
        assert path.read_text() == damaged


DIES = """
import os, signal, sys
from tests.killing import changes
root, number = os.path.realpath(sys.argv[1]), int(sys.argv[2])
count = 0
def hook(event, arguments):
    global count
    if changes(event, arguments) and os.path.realpath(str(arguments[0])).startswith(root):
        count += 1
        if count == number:
            os.killpg(0, signal.SIGKILL)
sys.argv = ["huesong", "retrain"]
from huesong.cli import main
sys.addaudithook(hook)
main()
"""
"""A retraining that ends, with all that it started, at its operation of that number that changes something in the checkout."""


def test_killed_on_its_way_it_changes_nothing_that_serves_and_the_next_one_finishes(checkout: Checkout) -> None:
    checkout.publish("0.5")
    assert checkout.retrain().returncode == retraining.PROMOTED
    checkout.publish("0.6")
    checkout.settings({"start_from": "out/champion"})
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}  # DIES imports from tests

    def started(*words: str, **more: str) -> int:
        command = [sys.executable, *words]
        done = subprocess.run(
            command, cwd=checkout.root, env={**env, **more}, capture_output=True, start_new_session=True, check=False
        )
        return done.returncode

    kills = 0
    for moment in ("training begins", "the model is written", "training is done"):
        assert started("-m", "huesong.cli", "retrain", DIE_AT=moment) == -signal.SIGKILL, moment
        assert checkout.champion == "1"
        kills += 1
    number, step = 1, 1 if many(12) > 12 else 8
    while (ended := started("-c", DIES, str(checkout.root), str(number))) == -signal.SIGKILL:
        assert checkout.champion == "1"
        placed = checkout.root / "out" / "champion" / contracts.MODEL_CONFIG
        assert not placed.exists() or json.loads(placed.read_text())["training"]["seed"] == 0.5
        kills, number = kills + 1, number + step
    print(f"{kills} kills of retrain", file=sys.stderr)
    assert kills >= 4
    assert ended == retraining.PROMOTED
    assert checkout.champion == "2"
    model = checkout.registry.folder(checkout.registry.by_version("2")) / contracts.MODEL_CONFIG
    assert json.loads(model.read_text())["training"] == {"seed": 0.6, "from": 0.5}
    assert [one.kind for one in showing.history(checkout.registry)] == ["promote", "promote"]
    assert checkout.retrain().returncode == retraining.NOTHING_NEW
