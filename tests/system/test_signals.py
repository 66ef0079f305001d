"""A real SIGTERM to a real process: the stage unwinds, its run says so, its children are gone, its checkpoints are whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from components.train import train as component

from huesong.runtime.checkpoints import Checkpoints
from huesong.runtime.signals import child, unwind_on_sigterm
from tests.tiny_training import settings, write_artifacts

ROOT = Path(__file__).parents[2]
ENDLESS = settings(steps=1_000_000, checkpoint_every=2).model_dump(mode="json")


def console(root: Path, uri: str, **changes: Any) -> list[str]:
    """`huesong train`."""
    params = {"train": {**ENDLESS, **changes}, "register": {"experiment": "ended"}}
    (root / "params.yaml").write_text(json.dumps(params))
    words = [f"--{name}={root / name}" for name in ("preprocess", "label", "out", "checkpoints")]
    return [sys.executable, "-m", "huesong.cli", "train", f"--params={root / 'params.yaml'}", *words]


def in_a_pod(root: Path, uri: str) -> list[str]:
    """The component, by the very command that its container runs."""

    def artifact(name: str, kind: str) -> dict[str, Any]:
        schema = {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"}
        return {"artifacts": [{"name": name, "type": schema, "uri": str(root / name), "metadata": {}}]}

    given = {
        "inputs": {
            "parameterValues": {"params": ENDLESS, "tracking": {"uri": uri, "experiment": "ended"}},
            "artifacts": {name: artifact(name, "Dataset") for name in ("preprocess", "label")},
        },
        "outputs": {
            "artifacts": {
                "out": artifact("out", "Model"), "metrics": artifact("metrics", "Metrics"),
                "summary": artifact("summary", "Markdown"),
            },
            "outputFile": str(root / "outputs.json"),
        },
    }  # fmt: skip
    container = component.component_spec.implementation.container
    return [*container.command, "--executor_input", json.dumps(given), "--function_to_execute", "train"]


def in_two_processes(root: Path, uri: str) -> list[str]:
    """torchrun and what it starts."""
    return console(root, uri, processes=2)


def statuses(uri: str) -> list[str]:
    """How the tracked runs ended."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return [run.info.status for run in client.search_runs([client.get_experiment_by_name("ended").experiment_id])]


@pytest.mark.slow
@pytest.mark.parametrize("command", [console, in_a_pod, in_two_processes])
def test_a_stage_that_is_ended_unwinds(command: Callable[[Path, str], list[str]], tmp_path: Path) -> None:
    write_artifacts(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    environment = {
        **os.environ, "MLFLOW_TRACKING_URI": uri, "HUESONG_SESSION": "ended", "HUESONG_TRACKING": "on",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command(tmp_path, uri), cwd=tmp_path, env=environment, stderr=log, stdout=log)
    family = [psutil.Process(process.pid)]
    try:
        deadline = time.monotonic() + 240
        while not list(tmp_path.glob("checkpoints/pairs-*/step-*")):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        family += family[0].children(recursive=True)
        assert len(family) >= (4 if command is in_two_processes else 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 143, (tmp_path / "log").read_text()
        assert not psutil.wait_procs(family, timeout=10)[1], "somebody lives on"
    finally:
        for member in family:
            if member.is_running():
                member.kill()

    assert statuses(uri) == ["KILLED", "KILLED"]  # the stage, and the parent of its session
    assert not (tmp_path / "out").exists()
    (checkpoints,) = (Checkpoints(path) for path in tmp_path.glob("checkpoints/pairs-*"))
    assert checkpoints.latest() is not None
    assert not list(tmp_path.glob("**/.*")), "temporary folders stay"


def test_a_task_goes_with_the_local_run_that_started_it() -> None:
    code = (
        "from huesong.runtime.signals import unwind_on_sigterm; from pipeline.local import run_process\n"
        "unwind_on_sigterm(); run_process(['sh', '-c', 'echo $$; exec sleep 1000'])"
    )
    with subprocess.Popen([sys.executable, "-u", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        task = psutil.Process(int(process.stdout.readline()))
        process.terminate()
        assert process.wait(60) == 143
    assert not task.is_running()


def test_a_child_goes_with_its_parent() -> None:
    with pytest.raises(KeyboardInterrupt), child(["sleep", "1000"]) as process:
        raise KeyboardInterrupt
    assert process.returncode == -signal.SIGTERM
    with child(["sh", "-c", "exit 3"]) as process:
        assert process.wait() == 3


def test_a_child_that_will_not_go_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huesong.runtime.signals.GRACE_S", 0.5)
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(1000)"
    with child([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
    assert process.returncode == -signal.SIGKILL


def test_a_handler_that_is_there_stays() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        unwind_on_sigterm()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
