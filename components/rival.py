"""Component before `register`: the champion answers the new model's requests, heard by the same judge."""

from kfp import dsl

from components import component


@component
def rival(
    params: dict,
    register: dict,
    tracking: dict,
    gate: dict,
    data: dsl.Input[dsl.Dataset],
    preprocess: dsl.Input[dsl.Dataset],
    train: dsl.Input[dsl.Model],
    evaluate: dsl.Input[dsl.Dataset],
    out: dsl.Output[dsl.Artifact],
):
    """Compare the model with the champion, as far as the gate asks for it.

    Args:
        params: the `evaluate` section of params.yaml.
        register: its `register` section, which names the model.
        tracking: the MLflow store and experiment.
        gate: mlflow/gate.yaml as a dict.
        data: raw data, for a champion that reads pictures by another encoder.
        preprocess: artifacts/preprocess.
        train: artifacts/train.
        evaluate: artifacts/evaluate.
        out: what was measured; `register` reads it.
    """
    from pathlib import Path

    from huesong.component_io import inputs, outputs
    from huesong.evaluate.quality.rival import Rivalry

    inputs.started()
    places = {"data": data, "preprocess": preprocess, "train": train, "evaluate": evaluate}
    rivalry = Rivalry(
        **{name: Path(one.path) for name, one in places.items()},
        kept=Path(out.path),
        config=inputs.section("evaluate", params),
    )
    rivalry.prepare(inputs.gate_file(gate), inputs.registry(register["model_name"], tracking))
    outputs.describe_folder(out, inputs.lineage(train), {})
