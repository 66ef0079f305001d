"""The console: `huesong {preprocess,label,train,evaluate,register,compose,export,status,data,registry,...}`.

Thin shells over the stages. A command's module is imported when the command is called, and heavy imports live inside the
commands, so that `huesong --help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import UserDict
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from huesong import __version__
from huesong.cli.options import console
from huesong.runtime import progress
from huesong.runtime.errors import UserError, user_errors_in_one_line
from huesong.runtime.files import disk_errors_in_words
from huesong.runtime.signals import unwind_on_sigterm

COMMANDS = {
    "preprocess": ("stages:preprocess", "Check the data; make features and tokens."),
    "label": ("stages:label", "Label valence and arousal; pair pictures and music."),
    "train": ("stages:train", "Train the model; resume where a killed run stopped."),
    "evaluate": ("stages:evaluate", "Compose for held-out pictures; judge the result."),
    "register": ("stages:register", "Register the model; promote it if it is good."),
    "compose": ("people.commands:compose", "Compose a piano piece for each picture."),
    "film": ("people.commands:film", "Make a film of pictures, or music for a video."),
    "explain": ("people.commands:explain", "Say why a picture's music is as it is."),
    "doctor": ("people.commands:doctor", "Say what is installed and what is missing."),
    "export": ("people.commands:export", "Write a trained model as weights to pass on."),
    "status": ("people.commands:status", "Say where the artifacts are, and which model composes."),
    "retrain": ("registry:retrain", "Train anew if data, settings or code changed."),
    "settings": ("settings:app", "Choose a preset; see what differs from the defaults."),
    "data": ("data:app", "Make or import pictures and music."),
    "pictures": ("data:pictures", "Measure how well pictures are read, and fit what reads them."),
    "pipeline": ("pipeline:app", "Compile, run and schedule the Kubeflow pipeline."),
    "experiment": ("experiment:app", "Experiments over many training runs."),
    "registry": ("registry:app", "Show, promote, roll back and retire versions of the model."),
}
"""Name -> where in huesong.cli its function (or the app of a group of commands) stands, and how its own help begins."""


class Commands(UserDict[str, Any]):
    """The commands by name; each is made when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        if isinstance(place := self.data[name], str):
            module, _, attribute = place.partition(":")
            found = getattr(importlib.import_module(f"huesong.cli.{module}"), attribute)
            if not isinstance(found, typer.Typer):
                single = console()
                single.command(name)(found)
                found = single
            self.data[name] = typer.main.get_command(found)
            self.data[name].name = name
        return self.data[name]


class Console(TyperGroup):
    """The whole console."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.commands = Commands({name: place for name, (place, _) in COMMANDS.items()})

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the help."""
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """What the help says of them, from the table: none is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


app = console(
    "Music that feels like a picture: compose for a photo, or train, evaluate and register the model that does.",
    name="huesong",
    cls=Console,
    add_completion=True,
)


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


def main() -> None:
    """Entry point: user errors are one line and exit code 2, bugs a traceback and exit code 1."""
    unwind_on_sigterm()
    try:
        with user_errors_in_one_line(), disk_errors_in_words():
            if "" in sys.argv[1:]:  # as a path it would be the current folder, of which all would be read or replaced
                raise UserError(
                    f"argument {sys.argv.index('')} is empty: is a variable unset? Give a value, or leave it out"
                )
            app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
