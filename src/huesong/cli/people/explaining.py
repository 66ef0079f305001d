"""What `huesong explain` does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from huesong.runtime.errors import UserError

if TYPE_CHECKING:
    from huesong.compose.composer import Composer
    from huesong.compose.explain import Neighbour


def explain_picture(
    picture: Path, out: Path | None, seconds: float, seed: int, model: str | None, force: bool, data: Path | None
) -> None:
    """Compose for the picture as `huesong compose` would, say why, and write a page beside it.

    `data`: a data folder in whose rated pictures, those of the test split left out, the ones that are most like it are looked
    for; None = in those that the model folder names.

    Raises:
        UserError: a bad picture or model, or a page that would replace a file of the user's.
    """
    from huesong.compose.composer import Composer, image_of
    from huesong.compose.explain import explain
    from huesong.compose.output.explanation import page
    from huesong.compose.output.files import check_place, real
    from huesong.model.requests import sampling_config
    from huesong.runtime.errors import printable
    from huesong.runtime.files import replacing_file

    sampling_config(seconds=seconds)
    target = out or Path(f"{picture.stem}-why.png")
    if target.suffix.lower() != ".png":
        raise UserError(f"{target}: the page is written as .png: end the name so")
    check_place([target])
    if real(target) == real(picture):
        raise UserError(f"{target} is the picture itself: name another page with --out")
    if target.is_dir():
        raise UserError(f"{target} is a folder: choose another name with --out")
    if os.path.lexists(target) and not force:
        raise UserError(f"{target} is already there: name another page with --out, or replace it with --force")
    image = image_of(picture)
    composer = Composer.load(model)
    nearest = None if data is None else _in(data, composer, image)
    explained = explain(composer, image, composer.compose(picture, seconds=seconds, seed=seed), nearest)
    with replacing_file(target) as part:
        part.write_bytes(page(explained, printable(picture.name)))
    typer.echo(f"{printable(str(picture))}\n{explained}\npage       {printable(str(target))}")


def _in(data: Path, composer: Composer, image: Any) -> tuple[Neighbour, ...]:
    """The rated pictures of a data folder that the model's encoder finds most like the image, with people's ratings."""
    from huesong.config import PreprocessConfig
    from huesong.experiments.pictures.check import nearest
    from huesong.experiments.pictures.rated import Rated

    rated = Rated.read(data, composer.encoder, PreprocessConfig())
    return nearest(rated, composer.encoder.encode([image])[0].astype(float).mean(axis=0))
