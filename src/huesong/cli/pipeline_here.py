"""Compile the pipeline, run it on this machine, render the job for several nodes: what needs no server.

The pipeline itself is authoring code in the checkout's folder `pipeline/`, imported from the current folder.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from huesong.runtime.errors import UserError

ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="JSON file: stage -> image by digest, as the image build writes it.")
]
GpusOption = Annotated[int, typer.Option("--gpus", min=0, help="Accelerators of the training task.")]
ShardsOption = Annotated[int, typer.Option("--shards", min=1, help="Tasks that preprocess side by side.")]
ReleaseOption = Annotated[bool, typer.Option("--release", help="Refuse images that are not named by digest.")]
RootOption = Annotated[Path, typer.Option("--root", help="Folder for the artifacts, the cache and MLflow's store.")]
DigestOption = Annotated[str | None, typer.Option("--digest", help="The data version; default: that of data.dvc.")]
RemoteOption = Annotated[str, typer.Option("--remote", envvar="HUESONG_REMOTE", help="Where the data versions lie.")]
ParamsOption = Annotated[Path, typer.Option("--params", help="Settings; one section a stage.")]
TrackingOption = Annotated[str, typer.Option("--tracking-uri", help="MLflow store; default: mlflow.db below --root.")]
CacheOption = Annotated[bool, typer.Option("--no-cache", help="Run every task anew.")]


def compile_(
    out: Annotated[Path, typer.Option("-o", "--out", help="The package to write.")] = Path("out/pipeline.yaml"),
    images: ImagesOption = None,
    gpus: GpusOption = 0,
    shards: ShardsOption = 1,
    release: ReleaseOption = False,
) -> None:
    """Compile the pipeline to a package.

    The package is the YAML file that a Kubeflow Pipelines server takes. It holds no secrets.
    """
    _compile(out, images, gpus, shards, release)
    typer.echo(f"compiled {out}")


def local_(
    root: RootOption = Path("out/pipeline"),
    digest: DigestOption = None,
    remote: RemoteOption = "dvc-remote",
    params: ParamsOption = Path("params.yaml"),
    tracking_uri: TrackingOption = "",
    shards: ShardsOption = 1,
    no_cache: CacheOption = False,
) -> None:
    """Run the whole pipeline here, in child processes.

    The same components as on a cluster, one after another, without containers; a task whose inputs have not changed is
    taken from the cache below --root.
    """
    arguments = _with_data(_here(digest, remote, params, tracking_uri, no_cache))
    _done(load("local").run_local(root, shards=shards, **arguments))


def docker(
    root: RootOption = Path("out/docker"),
    digest: DigestOption = None,
    remote: RemoteOption = "dvc-remote",
    params: ParamsOption = Path("params.yaml"),
    tracking_uri: TrackingOption = "",
    images: ImagesOption = None,
    shards: ShardsOption = 1,
    no_cache: CacheOption = False,
) -> None:
    """Run the whole pipeline here, in its images.

    Hardened containers: no network, a user without rights, a read-only root. Needs a Docker engine and the images.
    """
    arguments = _with_data(_here(digest, remote, params, tracking_uri, no_cache))
    _done(load("local").run_docker(root, images=_images(images), shards=shards, **arguments))


def trainjob(
    image: Annotated[str, typer.Option("--image", help="The training image, by digest.")],
    remote: Annotated[str, typer.Option("--remote", envvar="HUESONG_REMOTE", help="s3://bucket/prefix of the data.")],
    digest: DigestOption = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines.")] = 2,
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="Accelerators of each machine; 0 trains on CPUs.")] = 1,
    params: ParamsOption = Path("params.yaml"),
    storage: Annotated[str, typer.Option("--storage", help="Size of the volume that the machines share.")] = "100Gi",
    storage_class: Annotated[
        str | None, typer.Option("--storage-class", help="A class that many machines may write to (ReadWriteMany).")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the manifests.")] = Path("out/trainjob"),
) -> None:
    """Render the training on several machines.

    Writes prepare.yaml (volume, settings, and a job that fetches, preprocesses and labels) and train.yaml (a Kubeflow
    Trainer TrainJob), for `kubectl apply`.
    """
    arguments = _here(digest, remote, params, "", False)
    written = load("manifests").write_train_job(
        out, arguments["params"], image=image, digest=arguments["data_digest"], remote=remote, nodes=nodes, gpus=gpus,
        storage=storage, storage_class=storage_class,
    )  # fmt: skip
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
        if error.name and error.name.split(".")[0] in ("kfp", "kfp_server_api", "kfp_kubernetes"):
            raise UserError("the pipeline needs kfp: pip install 'huesong[pipeline]'") from None
        raise


def _compile(out: Path, images: Path | None, gpus: int, shards: int, release: bool) -> None:
    load("pipeline").compile_pipeline(out, images=_images(images), gpus=gpus, shards=shards, release=release)


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


def _here(digest: str | None, remote: str, params: Path, tracking_uri: str, no_cache: bool) -> dict[str, Any]:
    """Arguments of a run on this machine."""
    from huesong.config import load_params
    from huesong.data.versions import resolve
    from huesong.tracking.provenance import data_digest, git_sha

    digest = digest or data_digest(Path("data"))
    if digest is None:
        raise UserError("there is no data.dvc here: name the data version with --digest")
    settings = load_params(params).model_dump(mode="json", by_alias=True)
    return {
        "data_digest": resolve(digest, remote), "remote": str(Path(remote).resolve()) if "://" not in remote else remote,
        "params": settings, "git_sha": git_sha(Path.cwd()) or "", "tracking_uri": tracking_uri, "cache": not no_cache,
    }  # fmt: skip


def _with_data(arguments: dict[str, Any]) -> dict[str, Any]:
    """`arguments`, if their data version is in the remote: else its remedy would stand far up in the log of a task."""
    from huesong.data.versions import require_version

    require_version(arguments["data_digest"], arguments["remote"])
    return arguments


def _done(result: Any) -> None:
    typer.echo(f"finished in {result.seconds:.0f} s; artifacts in {result.folder}, MLflow store {result.tracking_uri}")


@contextmanager
def package_of(package: Path | None, images: Path | None, gpus: int, shards: int, release: bool) -> Iterator[Path]:
    """The compiled package: the one given, or this checkout's pipeline compiled for the occasion."""
    if package is not None:
        yield package
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        _compile(path, images, gpus, shards, release)
        yield path
