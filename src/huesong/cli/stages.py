"""`huesong {preprocess,label,train,evaluate,register}`: the five stages, each in an MLflow run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from huesong.cli.options import (
    ARTIFACTS,
    PARAMS,
    DataOption,
    EvaluateOption,
    LabelOption,
    OutOption,
    ParamsOption,
    PreprocessOption,
    TrainOption,
)


def preprocess(
    params: ParamsOption = PARAMS,
    data: DataOption = Path("data"),
    out: OutOption = ARTIFACTS / "preprocess",
) -> None:
    """Check the data; make features and tokens.

    Great Expectations validates both tables, pictures become features of a frozen CNN (or pixels), music becomes
    tokens; every dropped file is named with its reason in dropped.csv.
    """
    with _tracked("preprocess", params, data=data) as (settings, tracked):
        from huesong.preprocess import stage

        tracked(stage.run(settings, data=data, out=out))
        tracked.log_data(out)


def label(
    params: ParamsOption = PARAMS,
    preprocess: PreprocessOption = ARTIFACTS / "preprocess",
    out: OutOption = ARTIFACTS / "label",
) -> None:
    """Label valence and arousal; pair pictures and music.

    Two labellers, cross-validated by group, label what people have not rated; every picture is then paired with
    the nearest pieces.
    """
    with _tracked("label", params, reads=preprocess) as (settings, tracked):
        from huesong.label import stage

        tracked(stage.run(settings, preprocess=preprocess, out=out))


def train(
    params: ParamsOption = PARAMS,
    preprocess: PreprocessOption = ARTIFACTS / "preprocess",
    label: LabelOption = ARTIFACTS / "label",
    out: OutOption = ARTIFACTS / "train",
    checkpoints: Annotated[
        Path, typer.Option("--checkpoints", help="Where a killed run leaves what the next one resumes from.")
    ] = ARTIFACTS / "checkpoints",
) -> None:
    """Train the model; resume where a killed run stopped.

    Trains the critic and the CNN-Transformer with its valence-arousal loss, checkpointing as it goes.
    """
    with _tracked("train", params, reads=preprocess) as (settings, tracked):
        from huesong.train import launch

        tracked(launch.train(settings, preprocess=preprocess, label=label, out=out, checkpoints=checkpoints))


def evaluate(
    params: ParamsOption = PARAMS,
    data: DataOption = Path("data"),
    preprocess: PreprocessOption = ARTIFACTS / "preprocess",
    label: LabelOption = ARTIFACTS / "label",
    train: TrainOption = ARTIFACTS / "train",
    out: OutOption = ARTIFACTS / "evaluate",
) -> None:
    """Compose for held-out pictures; judge the result.

    An independent judge compares the emotion asked for with the emotion heard; report.html has players.
    """
    with _tracked("evaluate", params, data=data, reads=preprocess) as (settings, tracked):
        from huesong.evaluate import stage

        tracked(stage.run(settings, data=data, preprocess=preprocess, label=label, train=train, out=out))


def register(
    params: ParamsOption = PARAMS,
    train: TrainOption = ARTIFACTS / "train",
    evaluate: EvaluateOption = ARTIFACTS / "evaluate",
    gate: Annotated[Path, typer.Option("--gate", help="The promotion gate.")] = Path("mlflow/gate.yaml"),
    out: OutOption = ARTIFACTS / "register",
    preprocess: PreprocessOption = ARTIFACTS / "preprocess",
    data: DataOption = Path("data"),
) -> None:
    """Register the model; promote it if it is good.

    A new version in the MLflow registry becomes challenger, and champion if it passes the gate. Where the gate asks for
    it, the present champion first answers the same requests, heard by the same judge.
    """
    with _tracked("register", params, reads=preprocess) as (settings, tracked):
        from huesong.register import stage

        rivalry = _rivalry(params, train=train, evaluate=evaluate, preprocess=preprocess, data=data, beside=out)
        report = stage.run(
            settings, train=train, evaluate=evaluate, gate=gate, out=out, run_id=tracked.open_id, rivalry=rivalry
        )  # fmt: skip
        tracked(report)
    typer.echo(str(report))


def _rivalry(params: Path, *, beside: Path, **places: Path) -> Any:
    """What lets the champion answer the evaluation's requests; None where the model cannot run here."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return None
    from huesong.config import load_params
    from huesong.evaluate.quality.rival import Rivalry

    return Rivalry(**places, kept=beside.absolute().parent / "rival", config=load_params(params).evaluate)


@contextmanager
def _tracked(
    stage: str, params: Path, data: Path | None = None, reads: Path | None = None
) -> Iterator[tuple[Any, Any]]:
    """The MLflow run of a stage: its section of the settings, and the function that takes its report.

    `reads`: artifacts/preprocess, whose tables are its data.
    """
    from huesong.config import load_params
    from huesong.tracking.runs import stage_run

    settings = load_params(params)
    try:
        with stage_run(stage, settings, experiment=settings.register_.experiment, data=data) as tracked:
            if reads is not None:
                tracked.log_data(reads)
            yield getattr(settings, "register_" if stage == "register" else stage), tracked
    except Exception as error:
        from huesong.register.life import hooks

        hooks.tell_of_failure(f"huesong {stage}", str(error))
        raise
