"""A dataclass as one parameter of a command: an option for each field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from huesong.cli.options import grouped


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option(min=1, help="In pixels.")]
    names: Annotated[list[str] | None, typer.Option("--name", "-n")] = None


app = typer.Typer()


@app.command()
@grouped
def paint(colour: Annotated[str, typer.Argument()], size: Size, twice: bool = False) -> None:
    """Paint."""
    typer.echo(f"{colour} {size} {twice}")


def test_fields_are_options_and_come_back_as_one_value() -> None:
    result = CliRunner().invoke(app, ["blue", "--width", "3", "-n", "a", "--name", "b", "--twice"])
    assert result.output == "blue Size(width=3, names=['a', 'b']) True\n"
    assert CliRunner().invoke(app, ["blue", "--width", "3"]).output == "blue Size(width=3, names=None) False\n"


def test_bounds_help_and_what_is_needed_hold() -> None:
    assert "In pixels." in CliRunner().invoke(app, ["--help"]).output
    assert CliRunner().invoke(app, ["blue"]).exit_code == 2
    assert CliRunner().invoke(app, ["blue", "--width", "0"]).exit_code == 2
