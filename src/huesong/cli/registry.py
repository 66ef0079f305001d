"""`huesong registry ...`: what is registered, which version composes, and who decided so."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from huesong.cli.options import ARTIFACTS, PARAMS, ParamsOption

app = typer.Typer(help="Show, promote, roll back and retire versions of the model.", no_args_is_help=True)

VersionArgument = Annotated[str, typer.Argument(help="Its number, as `huesong registry list` shows it.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the audit.")]
OnPromoteOption = Annotated[
    str | None,
    typer.Option(
        "--on-promote", help="A command that gets the event as JSON, or an address. Default: HUESONG_ON_PROMOTE."
    ),
]


@app.command("list")
def list_(params: ParamsOption = PARAMS) -> None:
    """List the versions, the newest first."""
    from huesong.register.life.showing import listing

    typer.echo(listing(_registry(params)))


@app.command()
def show(version: VersionArgument, params: ParamsOption = PARAMS) -> None:
    """Show a version: origin, gate, decisions."""
    from huesong.register.life.showing import shown

    typer.echo(shown(_registry(params), version))


@app.command()
def compare(first: VersionArgument, second: VersionArgument, params: ParamsOption = PARAMS) -> None:
    """Show where two versions differ."""
    from huesong.register.life.showing import compared

    typer.echo(compared(_registry(params), first, second))


@app.command()
def promote(
    version: VersionArgument,
    params: ParamsOption = PARAMS,
    force: Annotated[bool, typer.Option("--force", help="Even if it did not pass the gate; needs --reason.")] = False,
    reason: ReasonOption = "",
    on_promote: OnPromoteOption = None,
) -> None:
    """Make a version the champion.

    A version that did not pass the promotion gate is refused, unless it is forced and a reason is given. The champion
    until now becomes `previous`.
    """
    from huesong.register.life import hooks, promotion

    registry = _registry(params)
    with registry.alone():
        done = promotion.promote(registry, version, force=force, reason=reason)
    if done is not None:
        hooks.tell_of_champion(on_promote, registry.name, done.kind, done.version, done.champion_before, done.reason)
    typer.echo(f"{registry.by_version(version).uri} is the champion")


@app.command()
def rollback(params: ParamsOption = PARAMS, reason: ReasonOption = "", on_promote: OnPromoteOption = None) -> None:
    """Make the champion before the present one champion again.

    The version that was champion is not promoted again by the gate, only by name.
    """
    from huesong.register.life import hooks, promotion

    registry = _registry(params)
    with registry.alone():
        done = promotion.roll_back(registry, reason)
    hooks.tell_of_champion(on_promote, registry.name, done.kind, done.version, done.champion_before, done.reason)
    typer.echo(f"{registry.by_version(done.version).uri} is the champion again")


@app.command()
def retire(version: VersionArgument, reason: ReasonOption = "", params: ParamsOption = PARAMS) -> None:
    """Take a version out of use.

    No roll-back goes to it, the gate does not promote it again, and `huesong registry gc` may remove it.
    """
    from huesong.register.life import promotion

    registry = _registry(params)
    with registry.alone():
        promotion.retire(registry, version, reason)
    typer.echo(f"{registry.by_version(version).uri} is retired")


@app.command()
def audit(
    params: ParamsOption = PARAMS,
    as_json: Annotated[bool, typer.Option("--json", help="Every decision in full, a line of JSON each.")] = False,
) -> None:
    """Show every decision, and who was champion when."""
    from huesong.register.life import showing

    decisions = showing.history(_registry(params))
    if as_json:
        for one in decisions:
            typer.echo(json.dumps(asdict(one), sort_keys=True))
    else:
        typer.echo(showing.audit(decisions))


@app.command()
def gc(
    params: ParamsOption = PARAMS,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without this, it is only listed.")] = False,
    hours: Annotated[float, typer.Option(min=0, help="Leave logged models alone that are younger.")] = 24.0,
) -> None:
    """Remove retired versions, and logged models that became no version.

    A version with an alias is never removed. The files themselves go with `mlflow gc`.
    """
    from huesong.config import load_params
    from huesong.register.life import cleaning

    registry = _registry(params)
    with registry.alone():
        found = cleaning.leftovers(registry, load_params(params).register_.experiment, hours)
        for one in found:
            if yes:
                cleaning.clean(registry, one)
            typer.echo(f"{'removed' if yes else 'would remove'} {one.what}")
    if not found:
        typer.echo("nothing to remove")


@app.command()
def backup(
    archive: Annotated[Path, typer.Argument(help="The tar file to write.")], params: ParamsOption = PARAMS
) -> None:
    """Write the registry of this checkout into a file.

    All versions, runs and decisions, with their artifacts. Of a server, its database and object storage are backed up.
    """
    from huesong.register.life import backup as life

    registry = _registry(params)
    with registry.alone():
        life.back_up(registry, archive)
    typer.echo(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB")


@app.command()
def restore(
    archive: Annotated[Path, typer.Argument(help="What `huesong registry backup` wrote.")],
    params: ParamsOption = PARAMS,
) -> None:
    """Put a backup back, where no registry is."""
    from huesong.register.life import backup as life
    from huesong.register.life.showing import champion_line
    from huesong.tracking import store

    life.restore(store.tracking_uri(Path.cwd()), archive)
    typer.echo(champion_line(_registry(params)))


def retrain(
    params: ParamsOption = PARAMS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run; run nothing but the pull.")] = False,
    pull: Annotated[bool, typer.Option("--pull/--no-pull", help="Pull data from the DVC remote first.")] = True,
    drift: Annotated[
        Path | None,
        typer.Option(help="Report how far the pictures counted in this file (HUESONG_COUNTS) are from the data."),
    ] = None,
    on_drift: Annotated[bool, typer.Option("--on-drift", help="With --drift: train only if they are far.")] = False,
) -> None:
    """Train anew if data, settings or code changed.

    For a scheduler, in a checkout: pulls the data, runs what changed, registers the model and promotes it if it is good.
    Exit code: 0 promoted, 3 nothing new, 4 not better, 1 failed. With train.start_from = out/champion, training goes on from
    the champion's weights.
    """
    from huesong.config import load_params
    from huesong.register.life import retraining
    from huesong.runtime.errors import SAID, UserError, printable, redacted

    try:
        settings = load_params(params)
        if on_drift and drift is None:
            raise UserError("--on-drift needs the file of --drift")
        if drift is not None and not _drifted(settings.register_, drift) and on_drift:
            raise typer.Exit(retraining.NOTHING_NEW)
        code, said = retraining.retrain(settings, Path.cwd(), pull=pull, dry_run=dry_run)
    except UserError as error:
        typer.echo(printable(redacted(f"{SAID}{error}")), err=True)
        raise typer.Exit(retraining.FAILED) from None
    typer.echo(said)
    raise typer.Exit(code)


def _drifted(settings: Any, counted: Path) -> bool:
    """Whether what is asked has moved away from what was learnt; prints the report, and tells of it."""
    from huesong.compose.drift import counts, index
    from huesong.compose.drift.learnt import learnt_counts
    from huesong.register.life import hooks

    asked = counts.read(counted)
    learnt = learnt_counts(ARTIFACTS / "preprocess", ARTIFACTS / "train")
    found = index.drift(learnt, asked, settings.drift_psi, settings.drift_pictures)
    typer.echo(str(found))
    if found.moved:
        hooks.tell_of_drift(found.moved, found.asked)
    return bool(found.moved)


def _registry(params: Path) -> Any:
    """The registry, after what a killed command left half done was finished, and what waited for the store handed over."""
    from huesong.config import load_params
    from huesong.register.life.promotion import repair
    from huesong.register.registry import Registry, answered, check_there
    from huesong.tracking import records, store

    check_there(store.tracking_uri(Path.cwd()))
    registry = Registry(load_params(params).register_.model_name)
    with answered(registry.uri), store.http_limits():
        records.replay(registry.client, registry.uri, registry.root)
    with registry.alone():
        repair(registry)
    return registry
