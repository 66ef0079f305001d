"""Component of stage 3: the critic and the CNN-Transformer."""

from kfp import dsl

from components import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train(
    params: dict,
    tracking: dict,
    preprocess: dsl.Input[dsl.Dataset],
    label: dsl.Input[dsl.Dataset],
    out: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
):
    """Train the model.

    Args:
        params: the `train` section of params.yaml.
        tracking: the MLflow store and experiment.
        preprocess: artifacts/preprocess.
        label: artifacts/label.
        out: artifacts/train: the model folder, learning curves and figures.
        metrics: all figures.
        summary: table of figures.
    """
    from pathlib import Path

    from huesong.stages import handover
    from huesong.stages import train as stage

    folder = Path(out.path)
    inputs = {"preprocess": Path(preprocess.path), "label": Path(label.path)}
    with handover.tracked("train", params, tracking, preprocess) as (config, run):
        report = stage.run(config, **inputs, out=folder, checkpoints=folder.with_name("checkpoints"))
        handover.hand_over(run, report, out, metrics, summary)
