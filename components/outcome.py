"""Component of the exit handler: says how the run ended, whatever happened."""

from kfp import dsl

from components import component


@component
def outcome(data_digest: str, git_sha: str, summary: dsl.Output[dsl.Markdown], status: dsl.PipelineTaskFinalStatus):
    """Report the outcome.

    Args:
        data_digest: the data version.
        git_sha: the commit.
        summary: state, run, data version and commit.
        status: how the run ended (filled in by the engine).
    """
    from huesong.stages import handover

    handover.started()
    handover.write(summary, handover.outcome(status, data_digest, git_sha))
