"""Component of stage 5: the model becomes a version in the MLflow registry, and the champion if it passes the gate."""

from typing import NamedTuple

from kfp import dsl

from components import component


@component
def register(
    params: dict,
    tracking: dict,
    gate: dict,
    git_sha: str,
    train: dsl.Input[dsl.Model],
    evaluate: dsl.Input[dsl.Dataset],
    rival: dsl.Input[dsl.Artifact],
    out: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> NamedTuple("Registered", [("Output", str), ("version", str)]):
    """Register the model; promote it if it is good.

    Args:
        params: the `register` section of params.yaml.
        tracking: the MLflow store and experiment.
        gate: mlflow/gate.yaml as a dict.
        git_sha: the commit; a tag of the version.
        train: artifacts/train.
        evaluate: artifacts/evaluate.
        rival: what was measured beside the evaluation, by the component of that name.
        out: artifacts/register.
        metrics: version and gate as figures.
        summary: the model card.

    Returns:
        The new version's standing, `champion` or `challenger`, and the version. The standing is called `Output` since
        KFP's local runner (2.17) finds what `dsl.If` asks for under no other name.
    """
    from pathlib import Path

    from huesong import contracts
    from huesong.component_io import inputs, outputs
    from huesong.register import stage

    with inputs.tracked("register", params, tracking, train, git_sha) as (config, run):
        report = stage.run(
            config,
            train=Path(train.path),
            evaluate=Path(evaluate.path),
            gate=inputs.gate_file(gate),
            out=Path(out.path),
            tracking_uri=run.uri,
            run_id=run.open_id,
            tags=run.tags,
            rivalry=stage.Measured(Path(rival.path)),
        )
        outputs.hand_over(run, report, out, metrics, summary)
    standing = contracts.CHAMPION if contracts.CHAMPION in report.aliases else contracts.CHALLENGER
    return (standing, report.version.version)
