"""What `huesong explain` does."""

from __future__ import annotations

from pathlib import Path

import typer

from huesong.runtime.errors import UserError


def explain_picture(picture: Path, out: Path | None, seconds: float, seed: int, model: str | None, force: bool) -> None:
    """Compose for the picture as `huesong compose` would, say why, and write a page beside it.

    Raises:
        UserError: a bad picture or model, or a page that would replace a file of the user's.
    """
    from huesong.compose.composer import Composer, image_of
    from huesong.compose.explain import explain
    from huesong.compose.output.explanation import page
    from huesong.model.requests import sampling_config
    from huesong.runtime.errors import printable
    from huesong.runtime.files import replacing_file

    sampling_config(seconds=seconds)
    target = out or Path(f"{picture.stem}-why.png")
    if target.suffix.lower() != ".png":
        raise UserError(f"{target}: the page is written as .png: end the name so")
    if target.resolve() == picture.resolve():
        raise UserError(f"{target} is the picture itself: name another page with --out")
    if target.exists() and not force:
        raise UserError(f"{target} is already there: name another page with --out, or replace it with --force")
    image = image_of(picture)
    composer = Composer.load(model)
    explained = explain(composer, image, composer.compose(picture, seconds=seconds, seed=seed))
    with replacing_file(target) as part:
        part.write_bytes(page(explained, printable(picture.name)))
    typer.echo(f"{printable(str(picture))}\n{explained}\npage       {printable(str(target))}")
