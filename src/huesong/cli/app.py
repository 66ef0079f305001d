"""The console: `huesong {preprocess,label,train,evaluate,register,compose,export,status,data,registry,...}`.

Thin shells over the stages. Heavy imports live inside the commands, so that `huesong --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from huesong import __version__
from huesong.cli import data as cli_data
from huesong.cli import experiment as cli_experiment
from huesong.cli import pipeline as cli_pipeline
from huesong.cli import registry as cli_registry
from huesong.cli import settings as cli_settings
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
    grouped,
    with_sampling_options,
)
from huesong.cli.people.composing import ManyOptions, WritingOptions, compose_for
from huesong.cli.people.explaining import explain_picture
from huesong.cli.people.filming import FilmOptions, film_of
from huesong.music.form.header import STYLES
from huesong.runtime import progress
from huesong.runtime.errors import UserError, user_errors_in_one_line
from huesong.runtime.files import disk_errors_in_words
from huesong.runtime.signals import unwind_on_sigterm

app = typer.Typer(
    name="huesong",
    help="Music that feels like a picture: compose for a photo, or train, evaluate and register the model that does.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_settings.app, name="settings")
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_data.pictures, name="pictures")
app.add_typer(cli_pipeline.app, name="pipeline")
app.add_typer(cli_experiment.app, name="experiment")
app.add_typer(cli_registry.app, name="registry")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"huesong {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="More log lines.")] = False,
) -> None:
    progress.configure(verbose)


# --- the five stages -----------------------------------------------------------------------------


@app.command()
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


@app.command()
def label(
    params: ParamsOption = PARAMS,
    preprocess: PreprocessOption = ARTIFACTS / "preprocess",
    out: OutOption = ARTIFACTS / "label",
) -> None:
    """Label valence and arousal; pair pictures and music.

    Two labellers, cross-validated by group, label what people have not rated; every picture is then paired with
    the nearest pieces.
    """
    with _tracked("label", params) as (settings, tracked):
        from huesong.label import stage

        tracked(stage.run(settings, preprocess=preprocess, out=out))


@app.command()
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
    with _tracked("train", params) as (settings, tracked):
        from huesong.train import launch

        tracked(launch.train(settings, preprocess=preprocess, label=label, out=out, checkpoints=checkpoints))


@app.command()
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
    with _tracked("evaluate", params, data=data) as (settings, tracked):
        from huesong.evaluate import stage

        tracked(stage.run(settings, data=data, preprocess=preprocess, label=label, train=train, out=out))


@app.command()
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
    with _tracked("register", params) as (settings, tracked):
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


# --- compose -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PieceOptions:
    """What is asked of a piece, beside its picture and length."""

    valence: Annotated[
        str | None,
        typer.Option(
            help="-1 (unpleasant) to 1 (pleasant), or a trajectory: -0.5..0.8. Default: what the picture shows."
        ),
    ] = None
    arousal: Annotated[
        str | None, typer.Option(help="-1 (calm) to 1 (excited), or a trajectory. Default: what the picture shows.")
    ] = None
    mood: Annotated[
        str | None,
        typer.Option(help="A word in place of both: calm, joyful, tense, melancholic ...; or a course, calm..joyful."),
    ] = None
    intensity: Annotated[
        float | None, typer.Option(help="How far from neutral what the picture suggests is taken, 0 to 5. Default: 1.")
    ] = None
    bars: Annotated[int | None, typer.Option(help="Length in bars instead, at the tempo the piece takes.")] = None
    tempo: Annotated[
        float | None, typer.Option(help="Quarters a minute throughout. Default: as suits the emotion.")
    ] = None
    meter: Annotated[str | None, typer.Option(help="Time signature, such as 3/4. Default: as suits the emotion.")] = (
        None
    )
    form: Annotated[
        str | None, typer.Option(help="A letter a phrase: AABA, or with bars: 'A8 A8 B8 A8'. Default: invented.")
    ] = None
    chords: Annotated[str | None, typer.Option(help="A chord a bar, over and over: 'Am F C G'. Default: invented.")] = (
        None
    )
    style: Annotated[str | None, typer.Option(help=f"Of what music: {', '.join(STYLES)}. Default: no certain one.")] = (
        None
    )
    loop: Annotated[bool, typer.Option("--loop", help="End so that the piece can begin again.")] = False
    key: Annotated[str | None, typer.Option(help="Key, such as C, 'F# minor' or Bbm. Default: as the music comes.")] = (
        None
    )
    seed: Annotated[int, typer.Option(help="Same seed, same piece.")] = 0
    primer: Annotated[Path | None, typer.Option(help="A MIDI file that the piece begins with.")] = None


@app.command()
@with_sampling_options
@grouped
def compose(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURE...",
            help="Pictures to compose for (JPEG, PNG, WebP, BMP, TIFF, GIF): files, patterns, folders; - reads their names "
            "from standard input.",
        ),
    ],
    asked: PieceOptions,
    many: ManyOptions,
    writing: WritingOptions,
    sampling: dict[str, Any],
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            help="Output name; .mid, .wav, -roll.png and .json are added. Of many pictures a folder. Default: the picture's name.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A model folder or models:/NAME@ALIAS. Default: the champion if it learnt from rated photographs, else "
            "the shipped model."
        ),
    ] = None,
) -> None:
    """Compose a piano piece for each picture.

    Writes MIDI, audio, a piano roll and a record, and prints the emotion seen, asked for and heard. Of many pictures: a
    line each; what is done already is kept, and one that cannot be read does not stop the rest.
    """
    from huesong.compose.asked import request_of
    from huesong.compose.output.hub import model_of

    options: Any = {**asdict(asked), **sampling}
    _, config = request_of("", options)  # what is wrong is told before any picture is looked for
    how = writing.how()
    compose_for(
        pictures, lambda picture: request_of(picture, options)[0], out, config, how, many, lambda: model_of(model)
    )


@app.command()
@grouped
def film(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURE...", help="A folder of pictures; files, patterns, - as for compose; or one video."
        ),
    ],
    options: FilmOptions,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The film; its music, a plot and a record are written beside it.")
    ] = Path("film.mp4"),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are no earlier film, too.")] = False,
    model: Annotated[str | None, typer.Option(help="As for compose.")] = None,
    soundfont: Annotated[Path | None, typer.Option(help="As for compose.")] = None,
) -> None:
    """Make a film of pictures, or music for a video.

    One continuous piece follows the emotion of pictures or scenes, which change on its bar lines. Writes MP4 (H.264, AAC),
    MIDI, WAV and a plot.
    """
    film_of(pictures, out, options, model, soundfont, force)


@app.command()
def explain(
    picture: Annotated[Path, typer.Argument(help="A picture.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The page, a PNG. Default: NAME-why.png.")] = None,
    seconds: Annotated[float, typer.Option(help="Length of the piece.")] = 30.0,
    seed: Annotated[int, typer.Option(help="As for compose.")] = 0,
    model: Annotated[str | None, typer.Option(help="As for compose.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Say why a picture's music is as it is.

    Which regions and colours moved the emotion that is seen, and how the piece that `huesong compose` makes of it differs
    from other music: in words, and as one page.
    """
    explain_picture(picture, out, seconds, seed, model, force)


@app.command()
def doctor() -> None:
    """Say what is installed and what is missing.

    Looks at the model, the soundfont, kinds of audio, and the packages of every extra; names the one command that mends it.
    """
    from huesong.cli.people.doctor import findings

    found = findings()
    typer.echo("\n".join(map(str, found)))
    if lacking := [one.what for one in found if one.needed and not one.found]:
        raise UserError(f"nothing can be composed without: {', '.join(lacking)}; the lines above say what mends it")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="Folder to write, such as models/huesong-small; replaced as a whole.")],
    train: TrainOption = ARTIFACTS / "train",
    evaluate: EvaluateOption = ARTIFACTS / "evaluate",
) -> None:
    """Write a trained model as weights to pass on.

    float16 weights, a model card and SHA256SUMS; refused where the licences do not allow it, or above 24 MB.
    """
    from huesong.register.shipped import export as export_model

    typer.echo(f"{out}: {export_model(train, evaluate, out) / 1e6:.1f} MB")


@app.command()
def status(
    folder: Annotated[Path, typer.Option("--artifacts", help="Folder of the stages' artifacts.")] = ARTIFACTS,
) -> None:
    """Say where the artifacts are, and which model composes.

    Names the champion, the challenger, and why it is not champion.
    """
    from huesong.cli.status import describe

    typer.echo(describe(folder))


app.command()(cli_registry.retrain)


# --- shared --------------------------------------------------------------------------------------


@contextmanager
def _tracked(stage: str, params: Path, data: Path | None = None) -> Iterator[tuple[Any, Any]]:
    """The MLflow run of a stage: its section of the settings, and the function that takes its report."""
    from huesong.config import load_params
    from huesong.tracking.runs import stage_run

    settings = load_params(params)
    with stage_run(stage, settings, experiment=settings.register_.experiment, data=data) as tracked:
        yield getattr(settings, "register_" if stage == "register" else stage), tracked


def main() -> None:
    """Entry point: user errors are one line and exit code 2, bugs a traceback and exit code 1."""
    unwind_on_sigterm()
    try:
        with user_errors_in_one_line(), disk_errors_in_words():
            app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
