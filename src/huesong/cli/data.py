"""`huesong data ...`: make, import, distil, publish and fetch what the stages start from; `huesong pictures ...`: how
well pictures are read.

Heavy imports live inside the commands, as everywhere in the console.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from huesong.cli.options import PARAMS, DataOption, ParamsOption, RemoteOption, console
from huesong.runtime.errors import UserError, printable

RequestMap = Literal["identity", "shrunk", "people", "rank"]
app = console("Make or import pictures and music.")
pictures = console("Measure how well pictures are read, and fit what reads them.")


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="Data folder to make; must not exist or be empty.")] = Path("data"),
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    pictures: Annotated[int, typer.Option(min=8, help="Number of painted pictures.")] = 128,
    pieces: Annotated[int, typer.Option(min=8, help="Number of piano pieces.")] = 320,
) -> None:
    """Make the sample set by the project's own code.

    Painted pictures and composed piano pieces, whose valence and arousal are known by construction.
    """
    from huesong.data.sample.make import make_sample

    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose a folder with --out")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another folder with --out, or remove it first")
    make_sample(out, seed=seed, pictures=pictures, pieces=pieces)
    typer.echo(f"{pictures} pictures and {pieces} pieces in {out}")


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(help="oasis, eimg, emopia, vgmidi, emid, folder or shared.")],
    source: Annotated[Path, typer.Argument(help="Local folder of the set as its authors publish it.")],
    out: Annotated[Path, typer.Option(help="Data folder to add the set to.")] = Path("data"),
    words: Annotated[
        Path | None, typer.Option(help="Table of emotion words with valence and arousal (emid only).")
    ] = None,
    keep_sample: Annotated[
        bool, typer.Option("--keep-sample", help="Keep the sample set, which the first real set otherwise replaces.")
    ] = False,
    only: Annotated[str, typer.Option(help="Of these sets alone, such as oasis,emopia,pop909 (shared).")] = "",
    scale: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Lowest and highest rating in your tables, such as 1 7 (folder). Default: -1 1."),
    ] = None,
    name: Annotated[
        str,
        typer.Option(help="Name of the set; the same name replaces it (folder). Default: the folder's name and place."),
    ] = "",
) -> None:
    """Import a public set or a folder of your own.

    Turns the layout in which the set is published into huesong's raw layout and adds it to the data folder.
    """
    from huesong.data.importers.importing import Options, import_dataset

    report = import_dataset(kind, source, out, Options(words, scale, name), keep_sample=keep_sample, only=_names(only))
    typer.echo(str(report))


@app.command("distill")
def distill_(
    teacher: Annotated[str, typer.Option(help="A frozen encoder: efficientnet_lite2, folder or hub name.")],
    out: Annotated[Path, typer.Option(help="Encoder folder to write; name it as preprocess.encoder.")],
    data: DataOption = Path("data"),
    params: ParamsOption = PARAMS,
    views: Annotated[int, typer.Option(min=1, help="Views of each training picture.")] = 20,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all views.")] = 12,
    seed: Annotated[int, typer.Option(help="Same seed, same encoder.")] = 0,
) -> None:
    """Distil a small picture encoder from a large one.

    Trains the project's own CNN to see what the teacher sees in the training pictures; prints how well both tell the
    ratings of the validation pictures. About a quarter of an hour on one core.
    """
    from huesong.config import load_params
    from huesong.experiments.distill import Recipe
    from huesong.experiments.distillation import distill, table
    from huesong.pictures.encoders import load_encoder

    settings = load_params(params).preprocess
    encoder = load_encoder(teacher, size=settings.picture_size, grid=settings.picture_grid)
    typer.echo(table(distill(data, encoder, out, Recipe(seed=seed, views=views, epochs=epochs), settings)))
    typer.echo(f"picture encoder: {out} (preprocess.encoder in params.yaml)")


@app.command("publish")
def publish_(remote: RemoteOption, data: DataOption = Path("data")) -> None:
    """Store the data as a version for scheduled runs.

    Pushes the folder in DVC's layout and records its digest as the version that `current` means. An S3 server other
    than AWS is named by AWS_ENDPOINT_URL.
    """
    from huesong.data.versions import publish

    typer.echo(str(publish(data, remote)))


@app.command("fetch")
def fetch_(
    remote: RemoteOption,
    digest: Annotated[str, typer.Argument(help="As in data.dvc, or `current`: published last.")] = "current",
    out: Annotated[Path, typer.Option(help="Data folder to make; must not exist or be empty.")] = Path("data"),
    replace: Annotated[bool, typer.Option("--replace", help="Replace what is in the folder.")] = False,
) -> None:
    """Fetch one data version by its digest.

    Needs neither git nor DVC; every file is checked against its MD5. An S3 server other than AWS is named by
    AWS_ENDPOINT_URL.
    """
    from huesong.data.versions import fetch

    if not replace and out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another folder with --out, or give --replace")
    typer.echo(str(fetch(digest, remote, out)))


@pictures.command()
def check(
    encoder: Annotated[str, typer.Argument(help="efficientnet_lite2, an encoder folder or a hub name.")],
    data: DataOption = Path("data"),
    params: ParamsOption = PARAMS,
    scales: Annotated[int, typer.Option(min=1, max=3, help="Sizes in which a CNN looks at a picture.")] = 1,
    picture: Annotated[Path | None, typer.Option(help="Show the rated pictures that are nearest to this one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for check.json and worst.png, the worst errors.")] = None,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Read by sentences (CLIP, SigLIP), without learning from ratings.")
    ] = False,
) -> None:
    """Measure how well an encoder's pictures are read.

    Reads the rated pictures outside the test split, each without its whole theme and without itself alone, and prints r,
    CCC, error, calibration and the milliseconds a picture.
    """
    from huesong.config import load_params
    from huesong.experiments.pictures import check as checking
    from huesong.experiments.pictures.rated import Rated
    from huesong.pictures.decode import decode
    from huesong.pictures.encoders import load_encoder

    settings = load_params(params).preprocess
    asked = None if picture is None else decode(picture, settings.max_pixels)
    if zero_shot:
        from huesong.pictures.zero_shot import ZeroShot

        reader = ZeroShot.load(encoder)
        rated = Rated.read(data, reader, settings)
        figures, read = checking.check_zero_shot(rated), rated.pooled_NC
        typer.echo(checking.table(reader.name, figures))
        for path in checking.write(out, rated, figures, read) if out is not None else ():
            typer.echo(str(path))
        return
    seer = load_encoder(encoder, size=settings.picture_size, grid=settings.picture_grid, scales=scales)
    rated = Rated.read(data, seer, settings)
    figures, read = checking.check(rated)
    typer.echo(checking.table(seer.name, figures))
    if asked is not None:
        for neighbour in checking.nearest(rated, seer.encode([asked])[0].astype(float).mean(axis=0)):
            typer.echo(f"  near: {neighbour}")
    for path in checking.write(out, rated, figures, read) if out is not None else ():
        typer.echo(str(path))


@pictures.command("read")
def read_(
    encoder: Annotated[str, typer.Argument(help="Folder or hub name of a CLIP or SigLIP model.")],
    photos: Annotated[
        list[str], typer.Argument(help="Pictures, patterns or folders; - reads names from standard input.")
    ],
    params: ParamsOption = PARAMS,
) -> None:
    """Read valence and arousal by sentences, with no rated picture needed."""
    from huesong.compose.batch import find_pictures
    from huesong.config import load_params
    from huesong.pictures.decode import decode
    from huesong.pictures.zero_shot import ZeroShot

    most = load_params(params).preprocess.max_pixels
    found = find_pictures(photos, sys.stdin)
    reader = ZeroShot.load(encoder)
    for photo in found:
        image = decode(photo, most)
        valence, arousal = reader.read([image])[0]
        typer.echo(f"{printable(str(photo))}  valence {valence:+.2f}  arousal {arousal:+.2f}")


@pictures.command()
def fit(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    out: Annotated[Path, typer.Option(help="Model folder to write, replaced as a whole.")],
    data: DataOption = Path("data"),
    params: ParamsOption = PARAMS,
    request_map: Annotated[
        RequestMap | None, typer.Option("--map", help="What to ask of the music. Default: label.request_map.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Read by another encoder: efficientnet_lite2, a folder or a hub name.")
    ] = None,
    scales: Annotated[int, typer.Option(min=1, max=3, help="Sizes in which that encoder looks at a picture.")] = 1,
) -> None:
    """Fit what a model reads pictures by to the ratings in the data.

    Head, map and certainty are fitted anew to the rated training pictures; the music stays as it is. With --encoder it no
    longer attends to image tokens, which add nothing beyond valence and arousal.
    """
    from huesong import contracts
    from huesong.config import load_params
    from huesong.experiments.pictures.rated import Rated
    from huesong.experiments.pictures.refit import OWN, encoder_for, refit
    from huesong.model.folder import as_damage, load_modules
    from huesong.pictures.encoders import Encoder
    from huesong.runtime.files import check_replaceable

    settings = load_params(params)
    check_replaceable(out, OWN, [model])  # before minutes of reading
    with as_damage(model):
        loaded, own = load_modules(model), Encoder.load(model / contracts.ENCODER, many=True)
    other = None if encoder is None else encoder_for(loaded, encoder, scales)
    rated = Rated.read(data, other or own, settings.preprocess)
    refit(loaded, rated, out, request_map or settings.label.request_map, other)
    typer.echo(f"{out}: reads by {int((rated.split_N == 'train').sum())} rated pictures")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
