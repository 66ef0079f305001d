"""Kubernetes manifests, checked against the API's own schemas without a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from huesong.cli.app import app
from huesong.config import load_params
from huesong.runtime.errors import UserError

pytest.importorskip("kfp")
validator = pytest.importorskip("kubernetes_validate")

from pipeline.manifests import write_train_job  # noqa: E402

ROOT = Path(__file__).parents[2]
VERSION = "1.31"
"""Of Kubernetes: the oldest that Kubeflow Trainer runs on."""
IMAGE = "example.org/huesong-train@sha256:" + "0" * 64
OPTIONS: dict[str, Any] = {
    "image": IMAGE, "digest": "d" * 32 + ".dir", "remote": "s3://bucket/data", "nodes": 2, "gpus": 4, "storage": "50Gi",
    "storage_class": "shared",
}  # fmt: skip
TRAIN_JOB = {
    "spec": {"runtimeRef", "initializer", "trainer", "suspend", "managedBy", "activeDeadlineSeconds"},
    "trainer": {"image", "command", "args", "env", "numNodes", "resourcesPerNode", "numProcPerNode"},
    "runtimeRef": {"name", "apiGroup", "kind"},
}
"""Fields of trainer.kubeflow.org/v1alpha1 that every release of Trainer since 2.0 has."""


def params() -> dict[str, Any]:
    return load_params(ROOT / "params.yaml").model_dump(mode="json", by_alias=True)


def read(paths: list[Path]) -> dict[str, dict[str, Any]]:
    return {doc["kind"]: doc for path in paths for doc in yaml.safe_load_all(path.read_text())}


@pytest.fixture
def documents(tmp_path: Path) -> dict[str, dict[str, Any]]:
    return read(write_train_job(tmp_path, params(), **OPTIONS))


def test_the_preparation_is_valid(documents: dict[str, dict[str, Any]]) -> None:
    for kind in ("ConfigMap", "PersistentVolumeClaim", "Job"):
        validator.validate(documents[kind], VERSION, strict=True)
    assert yaml.safe_load(documents["ConfigMap"]["data"]["params.yaml"]) == params()


def test_the_validator_refuses_what_is_wrong(documents: dict[str, dict[str, Any]]) -> None:
    documents["Job"]["spec"]["template"]["spec"]["containers"][0]["comand"] = ["x"]
    with pytest.raises(validator.ValidationError):
        validator.validate(documents["Job"], VERSION, strict=True)


def test_the_train_job_is_valid(documents: dict[str, dict[str, Any]]) -> None:
    runtime, job = documents["TrainingRuntime"], documents["TrainJob"]
    assert runtime["apiVersion"] == job["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    for where, known in TRAIN_JOB.items():
        entry = job["spec"] if where == "spec" else job["spec"][where]
        assert set(entry) <= known, where
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "4"
    [replicated] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == "node"
    assert replicated["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"
    pod = replicated["template"]["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["containers"]] == ["node"]
    validator.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, VERSION, strict=True
    )


def test_every_command_is_one_that_the_console_knows(documents: dict[str, dict[str, Any]]) -> None:
    pod = documents["Job"]["spec"]["template"]["spec"]
    commands = [step["command"][3:] for step in pod["initContainers"] + pod["containers"]]
    assert pod["containers"][0]["command"][:3] == ["python", "-m", "huesong.cli"]
    trainer = documents["TrainJob"]["spec"]["trainer"]["command"]
    assert trainer[:3] == ["torchrun", "-m", "huesong.cli"]
    assert [words[0] for words in commands] == ["data", "preprocess", "label"]
    for words in [*commands, trainer[3:]]:
        command: Any = get_command(app)
        while words and hasattr(command, "commands"):
            command, words = command.commands[words[0]], words[1:]
        command.make_parser(command.make_context("x", ["--help"], resilient_parsing=True)).parse_args(list(words))


def test_secrets_are_referred_to_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    for path in write_train_job(tmp_path, params(), **OPTIONS):
        text = path.read_text()
        assert "do-not-tell" not in text
        assert ":latest" not in text
    pod = read([tmp_path / "prepare.yaml"])["Job"]["spec"]["template"]["spec"]
    keys = [e for e in pod["containers"][0]["env"] if e["name"].startswith("AWS_")]
    assert keys
    assert all(set(entry["valueFrom"]) == {"secretKeyRef"} for entry in keys)


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not named by digest"):
        write_train_job(tmp_path, params(), **{**OPTIONS, "image": "huesong:latest"})
    with pytest.raises(UserError, match="not named by digest"):
        write_train_job(tmp_path, params(), **{**OPTIONS, "image": "huesong@sha256:12ab"})
    with pytest.raises(UserError, match="unknown key"):
        write_train_job(tmp_path, {"train": {"stepz": 1}}, **OPTIONS)
    with pytest.raises(UserError, match="one process only"):
        write_train_job(tmp_path, {**params(), "train": {**params()["train"], "reinforce": {"steps": 5}}}, **OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_console(tmp_path: Path) -> None:
    digest = "d" * 32
    words = [
        "trainjob",
        "--image",
        IMAGE,
        "--remote",
        "s3://b/d",
        "--digest",
        digest,
        "--gpus",
        "0",
        "-o",
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "huesong.cli", "pipeline", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    documents = read([tmp_path / "prepare.yaml", tmp_path / "train.yaml"])
    assert "nvidia.com/gpu" not in (tmp_path / "train.yaml").read_text()
    assert documents["TrainJob"]["spec"]["trainer"]["numProcPerNode"] == 1
    assert "storageClassName" not in documents["PersistentVolumeClaim"]["spec"]


def test_the_tracking_server_is_valid_and_the_one_of_compose() -> None:
    documents = read([ROOT / "mlflow" / "kubernetes.yaml"])
    for document in documents.values():
        validator.validate(document, VERSION, strict=True)
    assert set(documents) == {"PersistentVolumeClaim", "Deployment", "Service"}
    [server] = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
    compose = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text())["services"]["mlflow"]
    assert f"FROM {server['image']}\n" in compose["build"]["dockerfile_inline"]
    # A team's has its data in PostgreSQL and S3, this one in files on its volume; all else is the same.
    differing = ("--allowed-hosts", "--backend-store-uri", "--artifacts-destination")
    own = [word for word in server["command"] if not word.startswith(differing)]
    assert own == [word for word in compose["command"] if not word.startswith(differing)]
    environment = {entry["name"]: entry["value"] for entry in server["env"]}
    assert environment.items() <= compose["environment"].items()
    selector = documents["Service"]["spec"]["selector"]
    assert selector.items() <= documents["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
