"""`huesong registry ...`: which version composes, decided by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from huesong.cli.options import PARAMS, ParamsOption

app = typer.Typer(help="Promote a version of the model, or roll back.", no_args_is_help=True)


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="Its number, as `huesong status` shows it.")],
    params: ParamsOption = PARAMS,
    force: Annotated[bool, typer.Option("--force", help="Even if it did not pass the gate; needs --reason.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept as a tag of the version.")] = "",
) -> None:
    """Make a version the champion.

    A version that did not pass the promotion gate is refused, unless it is forced and a reason is given.
    """
    from huesong.config import load_params
    from huesong.register.registry import Registry

    registry = Registry(load_params(params).register_.model_name)
    with registry.alone():
        registry.promote(version, force=force, reason=reason)
    typer.echo(f"{registry.by_version(version).uri} is the champion")


@app.command()
def rollback(params: ParamsOption = PARAMS) -> None:
    """Make the champion before the present one champion again.

    The version that was champion is not promoted again by the gate, only by name.
    """
    from huesong.config import load_params
    from huesong.register.registry import Registry

    registry = Registry(load_params(params).register_.model_name)
    with registry.alone():
        before = registry.roll_back()
    typer.echo(f"{before.uri} is the champion again")
