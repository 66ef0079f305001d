"""Compile the pipeline, run it on this machine, render the job for several nodes: what needs no server.

The pipeline itself is authoring code in the checkout's folder `pipeline/`, imported from the current folder.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from huesong.cli.options import PARAMS, ParamsOption
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log

ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="JSON file: stage -> image by digest, as the image build writes it.")
]
GpusOption = Annotated[int, typer.Option("--gpus", min=0, help="Accelerators of the training task.")]
ShardsOption = Annotated[int, typer.Option("--shards", min=1, help="Tasks that preprocess side by side.")]
ReleaseOption = Annotated[bool, typer.Option("--release", help="Refuse images that are not named by digest.")]
RootOption = Annotated[Path, typer.Option("--root", help="Folder for the artifacts, the cache and MLflow's store.")]
DigestOption = Annotated[str | None, typer.Option("--digest", help="The data version; default: that of data.dvc.")]
ConfiguredRemote = Annotated[
    str | None,
    typer.Option(
        "--remote",
        envvar="HUESONG_REMOTE",
        help="s3://bucket/prefix, or the folder of a DVC remote; default: that of .dvc/config.",
    ),
]
CacheOption = Annotated[bool, typer.Option("--no-cache", help="Run every task anew.")]


@dataclass(frozen=True)
class Build:
    """Options of a compilation."""

    images: ImagesOption = None
    gpus: GpusOption = 0
    shards: ShardsOption = 1


@dataclass(frozen=True)
class Run:
    """Options of a run on this machine."""

    digest: DigestOption = None
    remote: ConfiguredRemote = None
    params: ParamsOption = PARAMS
    tracking_uri: Annotated[str, typer.Option(help="MLflow store; default: mlflow.db below --root.")] = ""
    shards: ShardsOption = 1
    no_cache: CacheOption = False

    def arguments(self) -> dict[str, Any]:
        """What pipeline.local takes; the data version is looked for first, not by a task with a long log."""
        from huesong.data.versions import require_version
        from huesong.tracking.provenance import git_sha

        remote = remote_of(self.remote)
        digest = _data_version(self.digest, remote)
        settings = _settings(self.params)
        require_version(digest, remote)
        return {
            "data_digest": digest, "remote": remote, "params": settings, "git_sha": git_sha(Path.cwd()) or "",
            "tracking_uri": self.tracking_uri, "shards": self.shards, "cache": not self.no_cache,
        }  # fmt: skip


def compile_(
    build: Build,
    out: Annotated[Path, typer.Option("-o", "--out", help="The package to write.")] = Path("out/pipeline.yaml"),
    release: ReleaseOption = False,
) -> None:
    """Compile the pipeline to a package.

    The package is the YAML file that a Kubeflow Pipelines server takes. It holds no secrets.
    """
    _compile(out, build, release)
    typer.echo(f"compiled {out}")


def local_(run: Run, root: RootOption = Path("out/pipeline")) -> None:
    """Run the whole pipeline here, in child processes.

    The same components as on a cluster, one after another, without containers; a task whose inputs have not changed is
    taken from the cache below --root.
    """
    arguments = run.arguments()
    _done(load("local").run_local(root, **arguments))


def docker(run: Run, root: RootOption = Path("out/docker"), images: ImagesOption = None) -> None:
    """Run the whole pipeline here, in its images.

    Hardened containers: no network, a user without rights, a read-only root. Needs a Docker engine and the images.
    """
    arguments = run.arguments()
    _done(load("local").run_docker(root, images=_images(images), **arguments))


@dataclass(frozen=True)
class Machines:
    """Options of a training on several machines."""

    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 2
    gpus: Annotated[int, typer.Option(min=0, help="Accelerators of each machine; 0 trains on CPUs.")] = 1
    storage: Annotated[str, typer.Option(help="Size of the volume that the machines share.")] = "100Gi"
    storage_class: Annotated[
        str | None, typer.Option(help="A class that many machines may write to (ReadWriteMany).")
    ] = None


def trainjob(
    image: Annotated[str, typer.Option(help="The training image, by digest.")],
    machines: Machines,
    remote: ConfiguredRemote = None,
    digest: DigestOption = None,
    params: ParamsOption = PARAMS,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the manifests.")] = Path("out/trainjob"),
) -> None:
    """Render the training on several machines.

    Writes prepare.yaml (volume, settings, and a job that fetches, preprocesses and labels) and train.yaml (a Kubeflow
    Trainer TrainJob), for `kubectl apply`.
    """
    data = pod_data({} if remote is None else {"remote": remote}, digest)
    digest = _data_version(data.get("data_digest"), data["remote"])
    check_data({**data, "data_digest": digest})
    options = {"image": image, "digest": digest, "remote": data["remote"], **vars(machines)}
    written = load("manifests").write_train_job(out, _settings(params), **options)
    typer.echo("\n".join(str(path) for path in written))


# --- shared --------------------------------------------------------------------------------------


def load(name: str) -> Any:
    """The module `pipeline.<name>` of the current folder."""
    if not Path("pipeline", f"{name}.py").is_file():
        raise UserError(
            f"{Path('pipeline', name + '.py')} is not in the current folder: change to the top of a huesong checkout"
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(f"pipeline.{name}")
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in ("kfp", "kfp_server_api", "kfp_kubernetes", "cronsim"):
            raise UserError("the pipeline needs kfp: pip install 'huesong[pipeline]'") from None
        raise


def _compile(out: Path, build: Build, release: bool) -> None:
    options = {**vars(build), "images": _images(build.images)}
    load("pipeline").compile_pipeline(out, **options, release=release)


def _images(path: Path | None) -> dict[str, str]:
    """The images by component that the file names."""
    if path is None:
        return {}
    try:
        images = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"--images {path} cannot be read: {error}") from error
    if not isinstance(images, dict) or not all(isinstance(value, str) for value in images.values()):
        raise UserError(f'--images {path} must hold {{"stage": "image@sha256:..."}}')
    return images


def remote_of(given: str | None) -> str:
    """The remote that is given, else that of .dvc/config; a folder as its whole path.

    Raises:
        UserError: neither names one.
    """
    from huesong.data.versions import configured_remote

    remote = given or configured_remote(Path.cwd())
    if remote is None:
        raise UserError("no remote is named here: give --remote s3://BUCKET/PREFIX or a folder, or set HUESONG_REMOTE")
    return remote if "://" in remote else str(Path(remote).resolve())


def pod_data(parameters: dict[str, str], digest: str | None = None) -> dict[str, str]:
    """The parameters with the data version of data.dvc and the configured remote where they name none.

    Raises:
        UserError: that remote is a folder of this machine, which no pod reaches.
    """
    from huesong.tracking.provenance import data_digest

    found = dict(parameters)
    if version := found.get("data_digest") or digest or data_digest(Path("data")):
        found["data_digest"] = version
    if "remote" not in found:
        remote = remote_of(os.environ.get("HUESONG_REMOTE"))
        if "://" not in remote:
            raise UserError(
                f"the configured remote {remote} is a folder of this machine, which no pod reaches: "
                "set HUESONG_REMOTE to s3://BUCKET/PREFIX (`dvc remote add -d` makes it the configured one)"
            )
        found["remote"] = remote
    return found


def check_data(parameters: dict[str, str]) -> None:
    """Refuse a data version that the remote does not have; the pods' credentials may be more than those here."""
    from huesong.data.versions import checked_digest, require_version
    from huesong.runtime.objects import MissingObject

    digest, remote = parameters.get("data_digest"), parameters.get("remote")
    if digest is None or remote is None:
        return
    if digest != "current":
        checked_digest(digest)
    try:
        require_version(digest, remote)
    except MissingObject:
        raise
    except UserError as error:
        log.warning("whether the data are there cannot be seen from here (%s)", error)


def _data_version(digest: str | None, remote: str) -> str:
    """The digest of the data version that is given, or that data.dvc names."""
    from huesong.data.versions import resolve
    from huesong.tracking.provenance import data_digest

    digest = digest or data_digest(Path("data"))
    if digest is None:
        raise UserError("there is no data.dvc here: name the data version with --digest")
    return resolve(digest, remote)


def _settings(path: Path) -> dict[str, Any]:
    """All sections of a params file as the pipeline takes them."""
    from huesong.config import load_params

    return load_params(path).model_dump(mode="json", by_alias=True)


def _done(result: Any) -> None:
    typer.echo(f"log: {result.log}")
    typer.echo(f"finished in {result.seconds:.0f} s; artifacts in {result.folder}, MLflow store {result.tracking_uri}")


@contextmanager
def package_of(package: Path | None, build: Build, release: bool = False) -> Iterator[Path]:
    """The compiled package: the one given, or this checkout's pipeline compiled for the occasion."""
    if package is not None:
        yield package
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        _compile(path, build, release)
        yield path
