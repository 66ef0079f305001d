"""Component of stage 1: raw data -> validated tables, picture features, tokens."""

from kfp import dsl

from components import component


@component
def preprocess(
    params: dict,
    tracking: dict,
    data: dsl.Input[dsl.Dataset],
    out: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
):
    """Check the data; make features and tokens.

    Args:
        params: the `preprocess` section of params.yaml.
        tracking: the MLflow store and experiment.
        data: raw data.
        out: artifacts/preprocess.
        metrics: the figures that people compare.
        page: validation report.
        summary: table of figures.
    """
    from pathlib import Path

    from huesong.component_io import inputs, outputs
    from huesong.preprocess import stage

    with inputs.tracked("preprocess", params, tracking, data) as (config, run):
        report = stage.run(config, data=Path(data.path), out=Path(out.path))
        run.log_data(Path(out.path))
        outputs.hand_over(run, report, out, metrics, summary, page)
