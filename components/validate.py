"""Component of stage 1, fanned out: check the data once, before the shards."""

from kfp import dsl

from components import component


@component
def validate(params: dict, data: dsl.Input[dsl.Dataset], out: dsl.Output[dsl.Dataset], page: dsl.Output[dsl.HTML]):
    """Check the data; fill in the splits.

    Args:
        params: the `preprocess` section of params.yaml.
        data: raw data.
        out: settings, both tables with their splits, and the validation.
        page: validation report.
    """
    import shutil
    from pathlib import Path

    from huesong import contracts
    from huesong.component_io import inputs, outputs
    from huesong.preprocess import shards as stage

    inputs.started()
    folder = Path(out.path)
    stage.validate(inputs.section("preprocess", params), data=Path(data.path), out=folder)
    shutil.copyfile(folder / contracts.VALIDATION_HTML, page.path)
    outputs.describe_folder(out, inputs.lineage(data), {})
