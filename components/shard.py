"""Component of stage 1, fanned out: one part of the pictures and pieces."""

from kfp import dsl

from components import component


@component
def shard(
    part: int,
    parts: int,
    data: dsl.Input[dsl.Dataset],
    checked: dsl.Input[dsl.Dataset],
    out: dsl.Output[dsl.Dataset],
):
    """Make features and base tokens of one part of the data.

    Args:
        part: which part, from 0.
        parts: how many there are.
        data: raw data.
        checked: what `validate` wrote, settings and all.
        out: the shard, for `merge`.
    """
    from pathlib import Path

    from huesong.component_io import inputs, outputs
    from huesong.preprocess import shards as stage

    inputs.started()
    stage.shard(data=Path(data.path), checked=Path(checked.path), out=Path(out.path), part=part, parts=parts)
    outputs.describe_folder(out, inputs.lineage(data), {"part": part, "parts": parts})
