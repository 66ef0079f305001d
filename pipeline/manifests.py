"""Training on several machines: the manifests of a Kubeflow Trainer job, from the same settings as everything else.

One task of a Kubeflow pipeline is one pod; a training that needs several machines is handed to Kubeflow Trainer, which starts
torchrun on each. The machines share one volume with the artifacts and the checkpoints, so that a job that loses a node
resumes. Volumes and rights stand in a TrainingRuntime of our own, because the TrainJob's way to override them differs
from one release of Trainer to the next. The manifests stand in pipeline/trainjob/; here their $names get values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from huesong.component_io.inputs import sections
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file
from pipeline.resources import GPU, SECRET, TABLE, TRACKING, USER

TEMPLATES = Path(__file__).parent / "trainjob"


def write_train_job(
    folder: Path, params: Mapping[str, Any], *, image: str, nodes: int, gpus: int, **options: str | None
) -> list[Path]:
    """Write prepare.yaml and train.yaml into `folder`; their paths.

    Args:
        folder: made where it is missing.
        params: all sections of params.yaml.
        image: the training image by digest, which holds every stage.
        nodes: machines.
        gpus: accelerators of each; 0: one process a machine on its CPUs.
        options: `digest` (the data version), `remote` (where it lies, s3://bucket/prefix), `storage` (size of the volume)
            and `storage_class` (None: the cluster's default; it must allow writing from many machines).

    Raises:
        UserError: an image that may mean another one tomorrow; settings that are wrong or need one process.
    """
    if not re.search(r"@sha256:[0-9a-f]{64}$", image):
        raise UserError(f"the image {image} is not named by digest (NAME@sha256:...): nodes might run different code")
    sections(params)
    if (params.get("train", {}).get("reinforce") or {}).get("steps"):
        raise UserError("train.reinforce runs in one process only: set train.reinforce.steps to 0 for several machines")
    row = TABLE["train"]
    values = {
        "image": image, "nodes": nodes, "processes": max(gpus, 1), "user": USER, "shm": row.shm, "retries": row.retries,
        "settings": yaml.safe_dump(dict(params), sort_keys=False), "environment": environment(), **options,
        **{name: needs(name) for name in ("fetch", "preprocess", "label")}, "train": needs("train", gpus),
        "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}] if gpus else None,
    }  # fmt: skip
    written = []
    for template in (TEMPLATES / "prepare.yaml", TEMPLATES / "train.yaml"):
        documents = [filled(one, values) for one in yaml.safe_load_all(template.read_text(encoding="utf-8"))]
        with replacing_file(folder / template.name) as part:
            part.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
        written.append(folder / template.name)
    return written


def filled(tree: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a manifest with the value of each `$name` in its place; keys whose value is None are left out."""
    if isinstance(tree, dict):
        made = {key: filled(value, values) for key, value in tree.items()}
        return {key: value for key, value in made.items() if value is not None}
    if isinstance(tree, list):
        return [filled(value, values) for value in tree]
    value = values[tree[1:]] if isinstance(tree, str) and tree.startswith("$") else tree
    return filled(value, {}) if isinstance(value, dict | list) else value  # a copy: YAML would write an alias


def needs(task: str, gpus: int = 0) -> dict[str, Any]:
    """What a container gets: as much as its task in the pipeline."""
    wanted = {"cpu": TABLE[task].cpu, "memory": TABLE[task].memory, **({GPU: str(gpus)} if gpus else {})}
    return {"requests": wanted, "limits": wanted}


def environment() -> list[dict[str, Any]]:
    """Credentials by reference to the secret; a key that it lacks is left out. All stages hang under one MLflow parent."""
    secrets = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key, "optional": True}}}
        for key, variable in TRACKING.items()
    ]
    return [{"name": "HOME", "value": "/tmp"}, {"name": "HUESONG_SESSION", "value": "huesong-train"}, *secrets]
