"""The pipeline on one page: fetch -> preprocess -> label -> train -> evaluate -> rival -> register -> compose.

With several shards, preprocess is three tasks: validate -> shard, as often as there are shards -> merge.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from components.compose import compose
from components.evaluate import evaluate
from components.fetch import fetch
from components.label import label
from components.merge import merge
from components.outcome import outcome
from components.preprocess import preprocess
from components.register import register
from components.resolve import resolve
from components.rival import rival
from components.settings import settings
from components.shard import shard
from components.train import train
from components.validate import validate
from kfp import compiler, dsl
from kfp.dsl.base_component import BaseComponent

from huesong import contracts
from huesong.runtime.errors import UserError
from pipeline.resources import check_images, give

ROOT = Path(__file__).resolve().parent.parent
NAME = "huesong"
CACHE_DAYS = 90
"""Days after which nothing is taken from the cache: artifacts in storage must stay longer than that."""


def preprocessed(on: Callable[..., dsl.PipelineTask], shards: int, *, params: Any, tracking: Any, data: Any) -> Any:
    """The artifacts of `preprocess`: by one task, or by `validate`, `shards` tasks side by side, and `merge`."""
    if shards == 1:
        return on(preprocess(params=params, tracking=tracking, data=data), "preprocess").outputs["out"]
    valid = on(validate(params=params, data=data), "validate").outputs["out"]
    with dsl.ParallelFor(list(range(shards)), name="shards") as part:
        read = on(shard(part=part, parts=shards, data=data, checked=valid), "shard")
    whole = dsl.Collected(read.outputs["out"])
    return on(merge(params=params, tracking=tracking, checked=valid, shards=whole), "merge").outputs["out"]


def make_pipeline(
    images: Mapping[str, str] | None = None, *, gpus: int = 0, shards: int = 1, retry: bool = True, root: Path = ROOT
) -> BaseComponent:
    """The pipeline with its resources.

    Args:
        images: image by component; what is missing has its local name.
        gpus: accelerators of the training task.
        shards: tasks that read pictures and pieces side by side.
        retry: whether failed tasks are tried again (on one's own machine they fail at once).
        root: the checkout whose params.yaml and mlflow/gate.yaml are the defaults.
    """
    defaults = {
        "params": yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")),
        "gate": yaml.safe_load((root / "mlflow" / "gate.yaml").read_text(encoding="utf-8")),
    }

    def on(task: dsl.PipelineTask, stage: str) -> dsl.PipelineTask:
        return give(task, stage, images or {}, gpus=gpus, retry=retry)

    @dsl.pipeline(name=NAME, description="From a data version to a registered model that composes for pictures.")
    def huesong(
        data_digest: str,
        remote: str,
        params: dict = defaults["params"],
        gate: dict = defaults["gate"],
        git_sha: str = "",
        tracking_uri: str = "",
        cache_days: int = CACHE_DAYS,
    ) -> None:
        reporting = on(outcome(data_digest=data_digest, git_sha=git_sha, tracking_uri=tracking_uri), "outcome")
        reporting.set_caching_options(False)
        with dsl.ExitHandler(reporting, name="from data to model"):
            checked = on(settings(params=params, tracking_uri=tracking_uri), "settings").outputs
            tracking = checked["tracking"]
            version = on(resolve(digest=data_digest, remote=remote, cache_days=cache_days), "resolve")
            version.set_caching_options(False)  # `current` is another version tomorrow
            data = on(fetch(remote=remote, **version.outputs), "fetch").outputs["out"]
            features = preprocessed(on, shards, params=checked["preprocess"], tracking=tracking, data=data)
            labels = on(label(params=checked["label"], tracking=tracking, preprocess=features), "label").outputs["out"]
            known = {"tracking": tracking, "preprocess": features, "label": labels}
            trained = on(train(params=checked["train"], remote=remote, **known), "train").outputs["out"]
            judged = on(evaluate(params=checked["evaluate"], data=data, train=trained, **known), "evaluate")
            model = {"train": trained, "evaluate": judged.outputs["out"], "gate": gate, "tracking": tracking}
            seen = {"data": data, "preprocess": features, "params": checked["evaluate"]}
            compared = on(rival(register=checked["register"], **seen, **model), "rival")
            compared.set_caching_options(False)  # tomorrow's champion is another one
            registered = on(
                register(params=checked["register"], git_sha=git_sha, rival=compared.outputs["out"], **model),
                "register",
            )
            # Cached, the registry might have forgotten what this run says; asking costs seconds.
            registered.set_caching_options(False)
            with dsl.If(registered.outputs["Output"] == contracts.CHAMPION, name="new champion"):
                proof = {"version": registered.outputs["version"], "data": data}
                on(compose(params=checked["register"], tracking=tracking, **proof), "compose")

    return huesong


def compile_pipeline(
    path: Path,
    images: Mapping[str, str] | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    gpus: int = 0,
    shards: int = 1,
    release: bool = False,
) -> Path:
    """Write the pipeline as the YAML that a Kubeflow server takes.

    Args:
        path: the file to write, .yaml.
        images: image by component; what is missing has its local name.
        params: default of the parameter `params`; None: params.yaml.
        gpus: accelerators of the training task.
        shards: tasks that preprocess side by side.
        release: refuse images that are not named by digest.

    Raises:
        UserError: images that cannot be relied on, settings that are wrong, or a path that is no .yaml.
    """
    from huesong.component_io.inputs import sections

    check_images(images or {}, release=release)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"{path} must end in .yaml: a Kubeflow server takes nothing else")
    if params is not None:
        sections(params)
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(
        make_pipeline(images, gpus=gpus, shards=shards),
        str(path),
        pipeline_parameters={"params": dict(params)} if params is not None else None,
    )
    return path
