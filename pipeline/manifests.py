"""Training on several machines: the manifests of a Kubeflow Trainer job, from the same settings as everything else.

One task of a Kubeflow pipeline is one pod; a training that needs several machines is handed to Kubeflow Trainer, which starts
torchrun on each. The machines share one volume with the artifacts and the checkpoints, so that a job that loses a node
resumes. Volumes and rights stand in a TrainingRuntime of our own, because the TrainJob's way to override them differs
from one release of Trainer to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from huesong.component_io.inputs import sections
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file
from pipeline.resources import GPU, SECRET, TABLE, TRACKING, USER

NAME = "huesong-train"
WORK = "/work"
ARTIFACTS = f"{WORK}/artifacts"
SETTINGS = "/settings/params.yaml"


def write_train_job(folder: Path, params: Mapping[str, Any], **options: Any) -> list[Path]:
    """Write prepare.yaml and train.yaml into `folder`; their paths. The options are those of `prepare` and `train`."""
    check(options["image"], params)
    shared = {key: options[key] for key in ("storage", "storage_class", "image", "digest", "remote")}
    written = []
    for name, documents in (
        ("prepare.yaml", prepare(params, **shared)),
        ("train.yaml", train(image=options["image"], nodes=options["nodes"], gpus=options["gpus"])),
    ):
        with replacing_file(folder / name) as part:
            part.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
        written.append(folder / name)
    return written


def check(image: str, params: Mapping[str, Any]) -> None:
    """Refuse an image that may mean another one tomorrow, and settings that are wrong or need one process."""
    if "@sha256:" not in image:
        raise UserError(f"the image {image} is not named by digest (NAME@sha256:...): nodes might run different code")
    sections(params)
    if (params.get("train", {}).get("reinforce") or {}).get("steps"):
        raise UserError("train.reinforce runs in one process only: set train.reinforce.steps to 0 for several machines")


def prepare(
    params: Mapping[str, Any], *, image: str, digest: str, remote: str, storage: str, storage_class: str | None
) -> list[dict[str, Any]]:
    """Settings, the shared volume, and the job that fetches the data, preprocesses and labels.

    Args:
        params: all sections of params.yaml.
        image: the training image, which holds every stage.
        digest: the data version.
        remote: where it lies, s3://bucket/prefix.
        storage: size of the volume.
        storage_class: of the volume; None: the cluster's default. It must allow writing from many machines.
    """
    claim: dict[str, Any] = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": storage}},
    }
    if storage_class:
        claim["storageClassName"] = storage_class
    steps = [
        container("fetch", image, ["data", "fetch", digest, "--remote", remote, "--out", f"{WORK}/data", "--replace"]),
        container("preprocess", image, stage("preprocess", data=f"{WORK}/data")),
        container("label", image, stage("label", preprocess=f"{ARTIFACTS}/preprocess")),
    ]
    pod = pod_spec(steps[-1:], init=steps[:-1], restart="Never")
    text = yaml.safe_dump(dict(params), sort_keys=False)
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(NAME), "data": {"params.yaml": text}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta(NAME), "spec": claim},
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": meta(f"{NAME}-prepare"),
            "spec": {"backoffLimit": 2, "template": {"metadata": {"labels": labels()}, "spec": pod}},
        },
    ]


def train(*, image: str, nodes: int, gpus: int) -> list[dict[str, Any]]:
    """The TrainingRuntime and the TrainJob.

    Args:
        image: the training image.
        nodes: machines.
        gpus: accelerators of each; 0: one process a machine on its CPUs.
    """
    row = TABLE["train"]
    node: dict[str, Any] = {
        "name": "node",
        "image": image,
        "securityContext": rights(),
        "volumeMounts": mounts(),
        "env": environment(),
    }
    shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": row.shm}}
    node["volumeMounts"].append({"name": "shm", "mountPath": "/dev/shm"})
    pod = pod_spec([node], extra_volumes=[shm], restart=None)
    if gpus:
        pod["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    replicated = {
        "name": "node",
        "template": {
            "metadata": {"labels": {**labels(), "trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
            "spec": {"template": {"spec": pod}},
        },
    }
    needs: dict[str, str] = {"cpu": row.cpu, "memory": row.memory, **({GPU: str(gpus)} if gpus else {})}
    words = stage("train", preprocess=f"{ARTIFACTS}/preprocess", label=f"{ARTIFACTS}/label")
    return [
        {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainingRuntime",
            "metadata": meta(NAME),
            "spec": {
                "mlPolicy": {"numNodes": 1, "torch": {"numProcPerNode": max(gpus, 1)}},
                "template": {"spec": {"failurePolicy": {"maxRestarts": row.retries}, "replicatedJobs": [replicated]}},
            },
        },
        {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": meta(NAME),
            "spec": {
                "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": NAME},
                "trainer": {
                    "image": image,
                    # Trainer tells torchrun about the other nodes through PET_* variables.
                    "command": ["torchrun", "-m", "huesong.cli", *words, "--checkpoints", f"{ARTIFACTS}/checkpoints"],
                    "numNodes": nodes,
                    "numProcPerNode": max(gpus, 1),
                    "resourcesPerNode": {"requests": needs, "limits": needs},
                },
            },
        },
    ]


def stage(name: str, **inputs: str) -> list[str]:
    """The console's words for a stage on the shared volume."""
    words = [word for option, path in inputs.items() for word in (f"--{option}", path)]
    return [name, "--params", SETTINGS, *words, "--out", f"{ARTIFACTS}/{name}"]


def container(name: str, image: str, words: list[str]) -> dict[str, Any]:
    """One step of the preparation, with the resources of its task in the pipeline."""
    row = TABLE[name]
    needs = {"cpu": row.cpu, "memory": row.memory}
    return {
        "name": name,
        "image": image,
        "command": ["python", "-m", "huesong.cli", *words],  # the image has no console script
        "workingDir": "/tmp",
        "env": environment(),
        "resources": {"requests": needs, "limits": needs},
        "securityContext": rights(),
        "volumeMounts": mounts(),
    }


def pod_spec(
    containers: list[dict[str, Any]],
    *,
    init: list[dict[str, Any]] | None = None,
    extra_volumes: list[dict[str, Any]] | None = None,
    restart: str | None,
) -> dict[str, Any]:
    """A pod of a user without rights, with the shared volume, the settings and an empty /tmp."""
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": containers,
        "volumes": [
            {"name": "work", "persistentVolumeClaim": {"claimName": NAME}},
            {"name": "settings", "configMap": {"name": NAME}},
            {"name": "tmp", "emptyDir": {}},
            *(extra_volumes or []),
        ],
    }  # fmt: skip
    if init:
        spec["initContainers"] = init
    if restart:
        spec["restartPolicy"] = restart
    return spec


def mounts() -> list[dict[str, Any]]:
    """Where the volumes of `pod_spec` appear."""
    return [
        {"name": "work", "mountPath": WORK},
        {"name": "settings", "mountPath": "/settings", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]


def environment() -> list[dict[str, Any]]:
    """Credentials by reference to the secret; a key that it lacks is left out. All stages hang under one MLflow parent."""
    secrets = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key, "optional": True}}}
        for key, variable in TRACKING.items()
    ]
    return [{"name": "HOME", "value": "/tmp"}, {"name": "HUESONG_SESSION", "value": NAME}, *secrets]


def rights() -> dict[str, Any]:
    """What a container may: nothing but write to its volumes."""
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def labels() -> dict[str, str]:
    """Labels that find all of it: `kubectl get all -l app.kubernetes.io/name=huesong`."""
    return {"app.kubernetes.io/name": "huesong", "app.kubernetes.io/component": "train"}


def meta(name: str) -> dict[str, Any]:
    """Name and labels."""
    return {"name": name, "labels": labels()}
