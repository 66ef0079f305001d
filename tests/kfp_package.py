"""A small Kubeflow pipeline to submit. No postponed annotations here: KFP reads a component's types from them."""

from pathlib import Path

from kfp import compiler, dsl


@dsl.component(base_image="example.org/huesong:1")
def stage(digest: str, steps: int, params: dict):
    print(digest, steps, params)


@dsl.pipeline(name="huesong")
def tiny(data_digest: str, remote: str, steps: int = 3, params: dict = {"seed": 0}):  # noqa: B006
    stage(digest=data_digest, steps=steps, params=params)


def compile_to(path: Path) -> Path:
    """Write the pipeline as YAML; returns `path`."""
    compiler.Compiler().compile(tiny, str(path))
    return path
