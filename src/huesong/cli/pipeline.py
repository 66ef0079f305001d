"""The console's `huesong pipeline`; here the commands that talk to a Kubeflow Pipelines server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from huesong.cli import pipeline_here as here
from huesong.cli.options import console, grouped
from huesong.cli.pipeline_here import Build, CacheOption, ReleaseOption, load, package_of
from huesong.runtime.errors import UserError

app = console("Compile, run and schedule the Kubeflow pipeline.")
app.command("compile")(grouped(here.compile_))
app.command("local")(grouped(here.local_))
app.command()(grouped(here.docker))
app.command()(grouped(here.trainjob))

PackageOption = Annotated[
    Path | None, typer.Option("--package", help="A compiled pipeline; default: compile the one of this checkout.")
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", help="name=value; value is JSON unless a string, or @FILE (YAML or JSON)."),
]
ExperimentOption = Annotated[str, typer.Option("--experiment", help="Groups the runs on the server.")]
VersionOption = Annotated[str | None, typer.Option("--version", help="Name of the version; default: the git commit.")]
TimeoutOption = Annotated[float | None, typer.Option("--timeout", min=0, help="Stop waiting after so many seconds.")]
AccountOption = Annotated[str | None, typer.Option("--service-account", help="Kubernetes account of the pods.")]


@dataclass(frozen=True)
class Connection:
    """Where the server is and how to log in. Secrets come from files or the environment, never from arguments."""

    # Neither a host nor KF_PIPELINES_ENDPOINT: the proxy of the cluster's API server, if kube_context is set.
    host: Annotated[
        str | None,
        typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="URL of Kubeflow Pipelines, http://localhost:8888."),
    ] = None
    namespace: Annotated[str | None, typer.Option(help="Your namespace, where many users share one.")] = None
    # Read anew for every request: a token that is renewed on disk goes on working.
    token_file: Annotated[Path | None, typer.Option(help="File with a bearer token (or set HUESONG_KFP_TOKEN).")] = None
    header_file: Annotated[
        Path | None,
        typer.Option(help="File of 'Name: value' headers, such as an OIDC session cookie."),
    ] = None
    ca_cert: Annotated[Path | None, typer.Option(help="Certificate authority of the server (PEM).")] = None
    kube_context: Annotated[
        str | None, typer.Option(help="Reach the server through this context of the kubeconfig.")
    ] = None

    def connect(self) -> Any:
        """A client that has reached the server."""
        return load("client").connect(self)


@app.command()
@grouped
def submit(
    server: Connection,
    build: Build,
    package: PackageOption = None,
    parameter: ParameterOption = None,
    experiment: ExperimentOption = "huesong",
    name: Annotated[str | None, typer.Option(help="Of the run; default: pipeline and time.")] = None,
    no_cache: CacheOption = False,
    service_account: AccountOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the run to its end.")] = True,
    timeout: TimeoutOption = None,
) -> None:
    """Start a run on the server and follow it.

    The data version is that of data.dvc and the remote the configured one, unless -p data_digest and -p remote name others.
    Exit code: 0 succeeded, 1 failed, 3 canceled, 4 still running when the wait ended, 2 the command was wrong or the
    server out of reach.
    """
    run = load("run")
    parameters = _parameters(parameter)
    with package_of(package, build) as path:
        spec = run.read_package(path)
        if run.takes_data(spec):
            parameters = here.pod_data(parameters)
        run.checked_parameters(spec, parameters)
        here.check_data(parameters)
        client = server.connect()
        options = {"experiment": experiment, "parameters": parameters, "service_account": service_account}
        run_id = run.submit(client, path, **options, name=name, caching=False if no_cache else None)
    typer.echo(f"run {run_id} started")
    if wait:
        _finish(run.wait(client, run_id, timeout_s=timeout))


@app.command("wait")
@grouped
def wait_(
    run_id: Annotated[str, typer.Argument(help="As `huesong pipeline list` shows it.")],
    server: Connection,
    timeout: TimeoutOption = None,
) -> None:
    """Follow a run that was started before. The exit code is that of `submit`."""
    _finish(load("run").wait(server.connect(), run_id, timeout_s=timeout))


@app.command()
@grouped
def upload(
    server: Connection,
    build: Build,
    package: PackageOption = None,
    release: ReleaseOption = False,
    version: VersionOption = None,
) -> None:
    """Upload the pipeline as a version named by its commit.

    A version that is there already stays as it is; one of the same name with another content is refused.
    """
    run = load("run")
    version = version or run.version_name(Path.cwd())
    with package_of(package, build, release) as path:
        done = run.upload(server.connect(), path, version=version)
    typer.echo(f"version {done.name} {'uploaded' if done.new else 'is there already'} ({done.version_id})")


@dataclass(frozen=True)
class When:
    """Options that say when a schedule runs."""

    cron: Annotated[str | None, typer.Option(help="Six fields, seconds first: '0 0 3 * * 1' is Mondays at three.")] = (
        None
    )
    time_zone: Annotated[str, typer.Option(help="The zone that the cron is meant in.")] = "UTC"
    server_time_zone: Annotated[str, typer.Option(help="CRON_SCHEDULE_TIMEZONE of the server.")] = "UTC"


@app.command()
@grouped
def schedule(
    when: When,
    server: Connection,
    name: Annotated[str, typer.Argument(help="Of the schedule; one a name.")] = "huesong-retrain",
    version: VersionOption = None,
    experiment: ExperimentOption = "huesong",
    parameter: ParameterOption = None,
    service_account: AccountOption = None,
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="Switch it on or off.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; its past runs stay.")] = False,
) -> None:
    """Retrain on a schedule: create, change, disable, delete.

    With --cron the schedule becomes what the options say, however often the command is given; without it, --enable,
    --disable or --delete apply to the one that is there. It runs an uploaded version, one run at a time, and makes up
    for no missed time.
    """
    if when.cron is None and enable is None and not delete:
        raise UserError("say when with --cron '0 0 3 * * 1', or give --enable, --disable or --delete")
    if delete and (when.cron is not None or enable is not None):
        raise UserError("--delete goes with no --cron, --enable or --disable")
    schedules = load("schedules")
    parameters = _parameters(parameter)
    if when.cron is not None:  # all that can be wrong without a server is said before it is asked
        load("cron").parse_cron(when.cron)
        load("cron").checked_zone(when.time_zone, when.server_time_zone)
        version = version or load("run").version_name(Path.cwd())
        parameters = here.pod_data(parameters)
        here.check_data(parameters)
    client = server.connect()
    if delete:
        done = schedules.delete(client, name)
    elif when.cron is None:
        done = schedules.switch(client, name, enabled=bool(enable))
    else:
        options = {"experiment": experiment, "parameters": parameters, "service_account": service_account}
        uploaded = load("run").uploaded_version(client, version)
        done = schedules.schedule(client, name, uploaded, **vars(when), **options, enabled=enable is not False)
    typer.echo(f"schedule {name}: {done}")


@app.command("list")
@grouped
def list_(server: Connection) -> None:
    """Show versions, schedules and the latest runs."""
    typer.echo(load("run").listing(server.connect()))


# --- shared --------------------------------------------------------------------------------------


def _parameters(words: list[str] | None) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UserError(f"--parameter {word}: write name=value")
        if name in given:
            raise UserError(f"--parameter {name} is given twice")
        given[name] = value
    return given


def _finish(outcome: Any) -> None:
    typer.echo(str(outcome))
    raise typer.Exit(outcome.exit_code)
