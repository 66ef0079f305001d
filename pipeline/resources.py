"""What every task of the pipeline gets on a cluster: one table, applied to the tasks by `give`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from components import image
from kfp import dsl, kubernetes

from huesong.runtime.errors import UserError

GPU = "nvidia.com/gpu"
SECRET = "huesong"
"""One Kubernetes secret, by name only. Keys that it does not have are left out of the pod's environment."""
STORAGE = {
    "AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY",
    "AWS_ENDPOINT_URL": "AWS_ENDPOINT_URL",
    "AWS_SESSION_TOKEN": "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION": "AWS_DEFAULT_REGION",
    "AWS_CA_BUNDLE": "AWS_CA_BUNDLE",
}
"""Key in the secret -> environment variable."""
TRACKING = {
    "MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_TOKEN": "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME": "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD": "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_SERVER_CERT_PATH": "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_S3_ENDPOINT_URL": "MLFLOW_S3_ENDPOINT_URL",
    "HUESONG_ON_PROMOTE": "HUESONG_ON_PROMOTE",
    "HUESONG_ON_FAILURE": "HUESONG_ON_FAILURE",
    "HUESONG_HOOK_SECRET": "HUESONG_HOOK_SECRET",
    **STORAGE,  # MLflow's artifacts lie in object storage as well
}
USER = 65532
"""The images' user, who has no name and no home."""


@dataclass(frozen=True)
class Resources:
    """Needs of one task. CPU and memory are requested and limited alike: a pod is never evicted for what it was given."""

    cpu: str
    memory: str
    hours: float
    """Longest run before the pod is ended."""
    retries: int = 2
    """A node can vanish: all stages write whole folders or nothing, so that trying again is safe."""
    shm: str = ""
    """Size of /dev/shm, which a container otherwise has 64 MB of: workers hand over batches there."""
    secret: Mapping[str, str] | None = None


TABLE: dict[str, Resources] = {
    "settings": Resources(cpu="250m", memory="512Mi", hours=0.1),
    "resolve": Resources(cpu="250m", memory="512Mi", hours=0.1, retries=4, secret=STORAGE),
    "fetch": Resources(cpu="1", memory="1Gi", hours=4, retries=4, secret=STORAGE),
    "preprocess": Resources(cpu="4", memory="8Gi", hours=12, shm="1Gi", secret=TRACKING),
    "validate": Resources(cpu="4", memory="4Gi", hours=4, shm="1Gi"),
    "shard": Resources(cpu="4", memory="8Gi", hours=12, shm="1Gi"),
    "merge": Resources(cpu="2", memory="8Gi", hours=12, secret=TRACKING),
    "label": Resources(cpu="2", memory="4Gi", hours=4, secret=TRACKING),
    "train": Resources(cpu="4", memory="16Gi", hours=48, retries=5, shm="4Gi", secret=TRACKING),
    "evaluate": Resources(cpu="4", memory="8Gi", hours=12, shm="1Gi", secret=TRACKING),
    "rival": Resources(cpu="4", memory="8Gi", hours=6, shm="1Gi", secret=TRACKING),
    "register": Resources(cpu="500m", memory="2Gi", hours=1, retries=4, secret=TRACKING),
    "compose": Resources(cpu="2", memory="4Gi", hours=0.5, secret=TRACKING),
    "outcome": Resources(cpu="250m", memory="512Mi", hours=0.1, secret=TRACKING),
}
BACKOFF, FACTOR, LONGEST = "60s", 2.0, "1800s"


def give(task: dsl.PipelineTask, stage: str, images: Mapping[str, str], *, gpus: int, retry: bool) -> dsl.PipelineTask:
    """Apply the table's row to a task.

    Args:
        task: a task of the pipeline.
        stage: its row.
        images: image by stage; what is missing has the name that the bake file gives it.
        gpus: accelerators of the training.
        retry: whether a failed task is tried again.
    """
    row = TABLE[stage]
    task.set_container_image(images.get(stage, image(stage)))
    task.set_cpu_request(row.cpu).set_cpu_limit(row.cpu)
    task.set_memory_request(row.memory).set_memory_limit(row.memory)
    kubernetes.set_timeout(task, int(row.hours * 3600))
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    # All stages of a run hang under one MLflow parent, named after the run; not an input, so that the cache holds.
    kubernetes.use_field_path_as_env(task, "HUESONG_SESSION", "metadata.labels['pipeline/runid']")
    if row.shm:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=row.shm)
    if row.secret:
        kubernetes.use_secret_as_env(task, SECRET, dict(row.secret), optional=True)
    if retry:
        task.set_retry(row.retries, backoff_duration=BACKOFF, backoff_factor=FACTOR, backoff_max_duration=LONGEST)
    if gpus and stage == "train":
        task.set_accelerator_type(GPU).set_accelerator_limit(gpus)
        kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")
    return task


def check_images(images: Mapping[str, str], *, release: bool) -> None:
    """Refuse images of unknown components and names that may mean another image tomorrow.

    Args:
        images: image by component.
        release: every component must be named, by digest.

    Raises:
        UserError: names the image and the remedy.
    """
    for stage, name in images.items():
        if stage not in TABLE:
            raise UserError(f"there is no component '{stage}' (known: {', '.join(TABLE)})")
        tag = name.rsplit("/", 1)[-1].partition("@")[0].partition(":")[2]
        if "@sha256:" not in name and tag in ("", "latest"):
            raise UserError(f"the image of {stage}, {name}, names no version: give it a tag or a digest")
        if release and "@sha256:" not in name:
            raise UserError(f"the image of {stage}, {name}, is not named by digest (NAME@sha256:...): push it first")
    missing = [stage for stage in TABLE if stage not in images]
    if release and missing:
        raise UserError(f"a release names every image by digest; missing: {', '.join(missing)}")
