"""What commands share: their app, options; options made from a dataclass (`grouped`) and from the sampling settings."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

ARTIFACTS = Path("artifacts")
PARAMS = Path("params.yaml")

ParamsOption = Annotated[Path, typer.Option("--params", help="Settings; one section a stage.")]
DataOption = Annotated[Path, typer.Option("--data", help="Folder of raw data: images.csv, music.csv and their files.")]
RemoteOption = Annotated[
    str, typer.Option("--remote", envvar="HUESONG_REMOTE", help="s3://bucket/prefix, or the folder of a DVC remote.")
]
PreprocessOption = Annotated[Path, typer.Option("--preprocess", help="Artifacts of `huesong preprocess`.")]
LabelOption = Annotated[Path, typer.Option("--label", help="Artifacts of `huesong label`.")]
TrainOption = Annotated[Path, typer.Option("--train", help="Artifacts of `huesong train`.")]
EvaluateOption = Annotated[Path, typer.Option("--evaluate", help="Artifacts of `huesong evaluate`.")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for the artifacts of the stage; replaced as a whole.")]

BEFORE = {"seconds": "bars"}
"""Option -> the one that it stands before in the help; all others stand before `primer`."""
SIGNS = {"ge": "x>=", "gt": "x>", "le": "x<=", "lt": "x<"}
"""As typer writes bounds."""


def console(help: str | None = None, **how: Any) -> typer.Typer:
    """An app for commands; `how`: as for `typer.Typer`."""
    how = {"no_args_is_help": help is not None, "add_completion": False} | how
    return typer.Typer(help=help, pretty_exceptions_enable=False, rich_markup_mode=None, **how)


def grouped(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command that has, for each parameter whose type is a dataclass, one option for each field of it."""
    hints = typing.get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in groups:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(annotation=hints[name], kind=keyword))
            continue
        types = typing.get_type_hints(groups[name], include_extras=True)
        for field in dataclasses.fields(groups[name]):
            default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter(field.name, keyword, default=default, annotation=types[field.name]))

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        return function(**given)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def with_sampling_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command that has, for its parameter `sampling`, an option for every sampling setting that has a description.

    An option that is not given is None in `sampling`: `sampling_config` fills in the default, and names the option if
    it is out of bounds.
    """
    from huesong.config import SamplingConfig

    parameters = dict(inspect.signature(function).parameters)
    del parameters["sampling"]
    own, names = list(parameters.values()), list[str]()
    for name, field in SamplingConfig.model_fields.items():
        if field.description is None:
            continue
        names.append(name)
        ends = [f"{SIGNS[key]}{getattr(end, key):g}" for end in field.metadata for key in SIGNS if hasattr(end, key)]
        option = typer.Option(help=field.description, show_default=f"{field.default:g}; {', '.join(ends)}")
        kind: Any = Annotated[field.annotation | None, option]  # type: ignore[operator]
        place = [one.name for one in own].index(BEFORE.get(name, "primer"))
        own.insert(place, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind))

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        return function(sampling={name: given.pop(name) for name in names}, **given)

    command.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in own}
    return command
