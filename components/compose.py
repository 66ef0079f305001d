"""Component that proves a new champion: a piece for a picture, by the model as the registry gives it out."""

from kfp import dsl

from components import component


@component
def compose(
    params: dict,
    tracking: dict,
    version: str,
    data: dsl.Input[dsl.Dataset],
    out: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
):
    """Compose with the champion.

    Args:
        params: the `register` section of params.yaml, which names the model.
        tracking: the MLflow store and experiment.
        version: the champion's; another one has a proof of its own, on the same data, too.
        data: raw data; its first picture is composed for.
        out: folder with the MIDI file, the audio and the piano roll.
        summary: the emotion seen, asked for and heard.
    """
    from pathlib import Path

    from huesong.component_io import inputs, outputs
    from huesong.compose.composer import compose as compose_for

    inputs.started()
    model = f"models:/{params['model_name']}/{version}"
    picture, folder = inputs.first_picture(Path(data.path)), Path(out.path)
    folder.mkdir(parents=True, exist_ok=True)
    made = compose_for(picture, folder / picture.stem, lambda: inputs.registered(model, tracking))
    outputs.describe_folder(out, inputs.lineage(data), {"model": model})
    outputs.write(summary, f"# {model}\n\n```\n{made}\n```\n")
