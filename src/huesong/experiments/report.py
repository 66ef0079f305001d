"""Tables that a command writes into a page kept by hand, between two markers."""

from __future__ import annotations

from pathlib import Path

from huesong.artifacts import replacing_file
from huesong.errors import UserError


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
