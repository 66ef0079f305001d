"""Component of stage 1, fanned out: the shards become the artifacts that `preprocess` makes in one pod."""

from kfp import dsl

from components import component


@component
def merge(
    params: dict,
    tracking: dict,
    checked: dsl.Input[dsl.Dataset],
    shards: dsl.Input[list[dsl.Dataset]],
    out: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
):
    """Join the shards; learn the tokens.

    Args:
        params: the `preprocess` section of params.yaml.
        tracking: the MLflow store and experiment.
        checked: what `validate` wrote.
        shards: all shards.
        out: artifacts/preprocess, the same bytes as without a fan-out.
        metrics: the figures that people compare.
        page: validation report.
        summary: table of figures.
    """
    from pathlib import Path

    from huesong.component_io import inputs, outputs
    from huesong.preprocess import stage

    folders = [Path(shard.path) for shard in shards]
    with inputs.tracked("preprocess", params, tracking, checked) as (config, run):
        report = stage.merge(config, checked=Path(checked.path), shards=folders, out=Path(out.path))
        outputs.hand_over(run, report, out, metrics, summary, page)
