"""Component of stage 2: valence and arousal for everything, and pairs of pictures and music."""

from kfp import dsl

from components import component


@component
def label(
    params: dict,
    tracking: dict,
    preprocess: dsl.Input[dsl.Dataset],
    out: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
):
    """Label valence and arousal; pair pictures and music.

    Args:
        params: the `label` section of params.yaml.
        tracking: the MLflow store and experiment.
        preprocess: artifacts/preprocess.
        out: artifacts/label.
        metrics: the figures that people compare.
        page: the labellers' report.
        summary: table of figures.
    """
    from pathlib import Path

    from huesong.component_io import inputs, outputs
    from huesong.label import stage

    with inputs.tracked("label", params, tracking, preprocess, reads=preprocess) as (config, run):
        report = stage.run(config, preprocess=Path(preprocess.path), out=Path(out.path))
        outputs.hand_over(run, report, out, metrics, summary, page)
