"""`huesong {compose,film,explain,doctor,export,status}`: what a person with pictures or a finished model calls."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from huesong.cli.options import ARTIFACTS, EvaluateOption, TrainOption, grouped, with_sampling_options
from huesong.cli.people.composing import ManyOptions, WritingOptions, compose_for
from huesong.cli.people.explaining import explain_picture
from huesong.cli.people.filming import FilmOptions, film_of
from huesong.music.form.header import STYLES
from huesong.runtime.errors import UserError


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
        float | None,
        typer.Option(help="From 0 (every picture is neutral) to 5: how far what it suggests is taken. Default: 1."),
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


def explain(
    picture: Annotated[Path, typer.Argument(help="A picture.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The page, a PNG. Default: NAME-why.png.")] = None,
    seconds: Annotated[float, typer.Option(help="Length of the piece.")] = 30.0,
    seed: Annotated[int, typer.Option(help="As for compose.")] = 0,
    model: Annotated[str | None, typer.Option(help="As for compose.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    data: Annotated[Path | None, typer.Option(help="Look for rated pictures like it in this data folder.")] = None,
) -> None:
    """Say why a picture's music is as it is.

    Which regions and colours moved the emotion that is seen, which rated pictures are most like it, and how the piece that
    `huesong compose` makes of it differs from other music: in words, and as one page.
    """
    explain_picture(picture, out, seconds, seed, model, force, data)


def doctor() -> None:
    """Say what is installed and what is missing.

    Looks at the model, the soundfont, kinds of audio, and the packages of every extra; names the one command that mends it.
    """
    from huesong.cli.people.doctor import findings

    found = findings()
    typer.echo("\n".join(map(str, found)))
    if lacking := [one.what for one in found if one.needed and not one.found]:
        raise UserError(f"nothing can be composed without: {', '.join(lacking)}; the lines above say what mends it")


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


def status(
    folder: Annotated[Path, typer.Option("--artifacts", help="Folder of the stages' artifacts.")] = ARTIFACTS,
) -> None:
    """Say where the artifacts are, and which model composes.

    Names the champion, the challenger, and why it is not champion.
    """
    from huesong.cli.people.status import describe

    typer.echo(describe(folder))
