"""Component of stage 3: the critic and the CNN-Transformer."""

from kfp import dsl

from components import component


@component
def train(
    params: dict,
    tracking: dict,
    preprocess: dsl.Input[dsl.Dataset],
    label: dsl.Input[dsl.Dataset],
    out: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
    remote: str = "",
):
    """Train the model, on all GPUs that the pod has.

    A preempted pod goes on from the checkpoints that the last one left in object storage.

    Args:
        params: the `train` section of params.yaml.
        tracking: the MLflow store and experiment.
        preprocess: artifacts/preprocess.
        label: artifacts/label.
        out: artifacts/train: the model folder, learning curves and figures.
        metrics: the figures that people compare.
        summary: table of figures.
        remote: s3://bucket/prefix where checkpoints are mirrored; anything else: they stay with the pod.
    """
    from pathlib import Path

    from huesong.component_io import inputs, outputs
    from huesong.train import launch

    folder = Path(out.path)
    folders = {"preprocess": Path(preprocess.path), "label": Path(label.path)}
    checkpoints = folder.with_name("checkpoints")
    with (
        inputs.tracked("train", params, tracking, preprocess, reads=preprocess) as (config, run),
        inputs.kept(checkpoints, remote, preprocess),
    ):
        report = launch.train(config, **folders, out=folder, checkpoints=checkpoints)
        outputs.hand_over(run, report, out, metrics, summary)
