"""Component of the exit handler: says how the run ended, whatever happened."""

from kfp import dsl

from components import component


@component
def outcome(
    data_digest: str,
    git_sha: str,
    summary: dsl.Output[dsl.Markdown],
    status: dsl.PipelineTaskFinalStatus,
    tracking_uri: str = "",
):
    """Report the outcome, and end the MLflow runs of stages that could not.

    Args:
        data_digest: the data version.
        git_sha: the commit.
        summary: state, run, data version and commit.
        status: how the run ended (filled in by the engine).
        tracking_uri: the MLflow store; empty: that of the pod's secret.
    """
    from huesong.component_io import inputs, outputs

    inputs.started()
    left = outputs.end_orphans(tracking_uri)
    outputs.write(summary, outputs.outcome(status, data_digest, git_sha, left))
