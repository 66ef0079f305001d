"""What `huesong compose` does: for one picture at length, for many a line each."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from huesong.runtime.errors import UserError

if TYPE_CHECKING:
    from huesong.compose.batch import Outcome
    from huesong.compose.output.formats import Writing
    from huesong.config import SamplingConfig
    from huesong.model.requests import Request

PLAYERS = (
    ("paplay",), ("pw-play",), ("aplay", "-q"), ("afplay",), ("ffplay", "-v", "error", "-nodisp", "-autoexit"),
    ("play", "-q"),
)  # fmt: skip
"""Programs that play a WAV file, in the order in which they are looked for."""


@dataclass(frozen=True)
class ManyOptions:
    """How many pieces, and how they are told of."""

    variations: Annotated[int, typer.Option(help="Pieces a picture, each of the next seed.")] = 1
    jobs: Annotated[int, typer.Option(help="Processes that compose side by side.")] = 1
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a piece on standard output.")] = False
    play: Annotated[bool, typer.Option("--play", help="Play each piece when it is done.")] = False


@dataclass(frozen=True)
class WritingOptions:
    """Which files are written, and how they sound."""

    formats: Annotated[
        str | None,
        typer.Option("--format", help="Kinds of file: mid,wav,flac,ogg,mp3,png,musicxml,pdf. Default: mid,wav,png."),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace files that are no earlier piece, too.")] = False
    soundfont: Annotated[
        Path | None,
        typer.Option(help="SoundFont for the audio (.sf2, .sf3). Default: the piano that comes with huesong."),
    ] = None
    instrument: Annotated[
        str,
        typer.Option(
            help="piano, strings, music-box, guitar or organ; all but the piano need a General MIDI soundfont."
        ),
    ] = "piano"
    humanize: Annotated[
        bool | None,
        typer.Option(
            "--humanize/--no-humanize",
            help="Small timing and dynamics by metre and phrase, as somebody plays it. Default: in the audio, not the MIDI.",
        ),
    ] = None

    def how(self) -> Writing:
        """As a composition takes it.

        Raises:
            UserError: a kind of file or an instrument that there is not.
        """
        from huesong.compose.output.formats import Writing, parse_formats
        from huesong.music.rendering.instruments import instrument_of

        instrument_of(self.instrument)
        return Writing(self.soundfont, self.humanize, parse_formats(self.formats), self.force, self.instrument)


def compose_for(
    given: Sequence[str],
    request: Callable[[Path], Request],
    out: str | None,
    config: SamplingConfig,
    how: Writing,
    many: ManyOptions,
    model: Callable[[], tuple[Path, str]],
) -> None:
    """Compose for the pictures that are meant and say so.

    Raises:
        UserError: bad options; a single picture that cannot be composed for; or that some of many could not be.
    """
    from huesong.compose import batch
    from huesong.compose.composer import compose_many
    from huesong.compose.output.files import place

    if many.jobs < 1:
        raise UserError(f"--jobs {many.jobs}: give a number of processes from 1")
    player = find_player() if many.play else None
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # names need not be UTF-8
    pictures = batch.find_pictures(given, sys.stdin)
    if len(pictures) == 1 and many.variations == 1:
        picture = pictures[0]
        made = compose_many([request(picture)], [place(out, picture)], model, config, how)[0]
        typer.echo(json.dumps(batch.outcome_of(made).to_dict()) if many.as_json else str(made))
        play(player, batch.outcome_of(made), made.piece.audio(how.soundfont).save if player else None)
        return
    jobs = batch.jobs_of([request(picture) for picture in pictures], out, config, how, model(), many.variations)
    started, outcomes = time.monotonic(), []
    try:
        for outcome in batch.run(jobs, many.jobs):
            outcomes.append(outcome)
            typer.echo(json.dumps(outcome.to_dict()) if many.as_json else str(outcome))
            play(player, outcome)
    except KeyboardInterrupt:
        typer.echo("huesong: stopped; what is done stays, and the same command goes on from there", err=True)
        raise
    if not many.as_json:
        typer.echo(batch.summary(outcomes, started))
    if failed := [outcome for outcome in outcomes if outcome.state == "failed"]:
        raise UserError(
            f"{len(failed)} of {len(outcomes)} pieces could not be composed, as said above; all others are there"
        )


def find_player() -> tuple[str, ...]:
    """The command of a player.

    Raises:
        UserError: there is none.
    """
    for command in PLAYERS:
        if shutil.which(command[0]):
            return command
    raise UserError(
        "--play: no player was found: install one, such as `apt-get install alsa-utils`, or leave --play out"
    )


def play(player: tuple[str, ...] | None, outcome: Outcome, save: Callable[[Path], Path] | None = None) -> None:
    """Play the audio of a piece, from its WAV file, or from a temporary one that `save` writes."""
    if player is None or outcome.state == "failed":
        return
    wav = next((name for name in outcome.files if name.endswith(".wav")), None)
    with tempfile.TemporaryDirectory(prefix="huesong-") as folder:
        if wav is None and save is not None:
            wav = str(save(Path(folder) / "piece.wav"))
        if wav is not None:
            subprocess.run([*player, str(Path(wav).absolute())], check=False)
