"""Tables and plots that a command writes into a page kept by hand: between two markers, and into `images/` beside it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file
from huesong.runtime.progress import log


def put_into(report: Path, part: str, page: str | None) -> None:
    """Replace what stands between `<!-- part -->` and `<!-- /part -->` in `report`; None only checks that they are there.

    Raises:
        UserError: the file or a marker is missing.
    """
    first, last = f"<!-- {part} -->", f"<!-- /{part} -->"
    try:
        text = report.read_text(encoding="utf-8")
        head, rest = text.split(first, 1)
        _, tail = rest.split(last, 1)
    except (OSError, ValueError):
        raise UserError(f"{report} must be a text file with {first} and {last}: add both lines") from None
    if page is not None:
        with replacing_file(report) as work:
            work.write_text(f"{head}{first}\n{page}{last}{tail}", encoding="utf-8")


def put_picture(report: Path, part: str, picture: Path, name: str) -> None:
    """Copy `picture` to `images/<name>` beside `report`, unless the page shows that image with another part.

    One page can hold the tables of several runs, such as real and sample data: the image belongs to the part between
    whose marker and the next part's it is shown. A page that does not show it yet gets it, too.

    Raises:
        UserError: there is no such picture.
    """
    if not picture.is_file():
        raise UserError(f"{picture} is missing: run `huesong evaluate` first")
    sections = re.split(r"<!-- ([\w-]+) -->", report.read_text(encoding="utf-8"))
    shown = {one for one, text in zip(["", *sections[1::2]], sections[::2], strict=True) if f"images/{name}" in text}
    if shown and part not in shown:
        log.info("%s shows images/%s with another part than %s: left as it is", report, name, part)
        return
    (report.parent / "images").mkdir(exist_ok=True)
    with replacing_file(report.parent / "images" / name) as work:
        shutil.copyfile(picture, work)
