"""Component of stage 4: compose for held-out pictures; an independent judge listens."""

from kfp import dsl

from components import component


@component
def evaluate(
    params: dict,
    tracking: dict,
    data: dsl.Input[dsl.Dataset],
    preprocess: dsl.Input[dsl.Dataset],
    label: dsl.Input[dsl.Dataset],
    train: dsl.Input[dsl.Model],
    out: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    quadrants: dsl.Output[dsl.ClassificationMetrics],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
):
    """Evaluate the model.

    Args:
        params: the `evaluate` section of params.yaml.
        tracking: the MLflow store and experiment.
        data: raw data (pictures of the report).
        preprocess: artifacts/preprocess.
        label: artifacts/label.
        train: artifacts/train.
        out: artifacts/evaluate.
        metrics: the figures that people compare.
        quadrants: confusion of the quadrants asked for and heard.
        page: report with players.
        summary: table of figures.
    """
    from pathlib import Path

    from huesong.component_io import inputs, outputs
    from huesong.evaluate import stage

    with inputs.tracked("evaluate", params, tracking, train, reads=preprocess) as (config, run):
        report = stage.run(
            config,
            data=Path(data.path),
            preprocess=Path(preprocess.path),
            label=Path(label.path),
            train=Path(train.path),
            out=Path(out.path),
        )
        outputs.hand_over(run, report, out, metrics, summary, page, quadrants)
