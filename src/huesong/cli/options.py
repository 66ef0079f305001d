"""Options that several commands share, and `grouped`: a dataclass of options as one parameter of a command."""

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
