"""What `huesong film` does."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True)
class FilmOptions:
    """How a film is to be."""

    seconds_per_picture: Annotated[float | None, typer.Option(help="How long a picture is shown. Default: 5.")] = None
    length: Annotated[float | None, typer.Option(help="How long the film is instead, such as 15, 30 or 60.")] = None
    aspect: Annotated[str, typer.Option(help="16:9, 9:16 or 1:1.")] = "16:9"
    order: Annotated[
        str | None, typer.Option(help="date or name. Default: by date where all pictures say when they were taken.")
    ] = None
    titles: Annotated[bool, typer.Option("--titles", help="The pictures' names at the bottom.")] = False
    formats: Annotated[
        str | None,
        typer.Option("--format", help="Kinds of file beside it: mid,wav,mp3,musicxml,pdf,... Default: mid,wav."),
    ] = None
    keep_sound: Annotated[
        bool, typer.Option("--keep-sound", help="Of a video: its own sound stays, with the music beneath it.")
    ] = False
    instrument: Annotated[str, typer.Option(help="As for compose.")] = "piano"
    seed: Annotated[int, typer.Option(help="Same seed, same music.")] = 0


def film_of(
    given: Sequence[str], out: Path, options: FilmOptions, model: str | None, soundfont: Path | None, force: bool
) -> None:
    """Make the film of the pictures that are meant, and say what it is."""
    from huesong.compose.batch import find_pictures
    from huesong.compose.composer import Composer
    from huesong.compose.output.formats import parse_formats
    from huesong.film.encode import pyav
    from huesong.film.make import USUAL, Wanted, film, is_video, targets_of

    wanted = Wanted(
        options.seconds_per_picture, options.length, options.aspect, options.order, options.titles, options.seed, force,
        soundfont, USUAL if options.formats is None else parse_formats(options.formats), options.keep_sound,
        options.instrument,
    )  # fmt: skip
    pyav()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # names need not be UTF-8
    pictures = find_pictures(given, sys.stdin)
    is_video(pictures)
    targets_of(out, pictures, wanted)  # told before the model is loaded
    typer.echo(str(film(pictures, out, Composer.load(model), wanted)))
