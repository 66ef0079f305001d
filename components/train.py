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
        metrics: all figures.
        summary: table of figures.
        remote: s3://bucket/prefix where checkpoints are mirrored; anything else: they stay with the pod.
    """
    from pathlib import Path

    from huesong.stages import handover, launch

    folder = Path(out.path)
    inputs = {"preprocess": Path(preprocess.path), "label": Path(label.path)}
    checkpoints = folder.with_name("checkpoints")
    with (
        handover.tracked("train", params, tracking, preprocess) as (config, run),
        handover.kept(checkpoints, remote, preprocess),
    ):
        report = launch.train(config, **inputs, out=folder, checkpoints=checkpoints)
        handover.hand_over(run, report, out, metrics, summary)
