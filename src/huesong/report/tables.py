"""Tables of figures as Markdown: the one renderer, how figures are written, what they are called, and where a page keeps them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file
from huesong.runtime.progress import log

Figures = Mapping[str, Any]
"""Figures by name; `<name>_low` and `<name>_high` are the interval of `<name>`."""

AGREEMENT = {
    "n": "n", "valence_mae": "V MAE", "valence_r": "V r", "valence_ccc": "V CCC", "valence_half_accuracy": "V sign",
    "arousal_mae": "A MAE", "arousal_r": "A r", "arousal_ccc": "A CCC", "arousal_half_accuracy": "A sign",
    "quadrant_accuracy": "quadrant",
}  # fmt: skip
"""How well one valence and arousal agree with another. `sign`: the share of items on the asked side of the axis."""
JUDGES = {"": "first judge", "second_": "second judge"}
REQUESTS = {"grid_": "Grid of 25 emotions", "": "Test pictures, the request as the model reads it from the picture"}
ANSWERS = {
    "": "the model", "retrieval_": "nearest training piece", "rules_": "rule-based composer",
    "unconditional_": "the model, nothing asked", "random_": "random training piece",
}  # fmt: skip
"""Who answers the requests. A name of a figure is `<judge><requests><answer><figure of AGREEMENT>`."""
MUSIC = {
    "polyphony_rate": "polyphony rate (PR)",
    "pitch_entropy": "pitch entropy (PE)",
    "groove_paper": "groove consistency (GC), paper's form",
    "groove": "groove consistency (GC), correct form",
    "distance_paper": "distance to data, paper's form",
    "distance_correct": "distance to data, correct form",
    "distance_taught_paper": "distance to the music of the training pairs, paper's form",
    "identical_share": "share of identical outputs",
    "length_within_10_percent": "share within 10 % of the asked length",
    "invalid_tokens": "invalid tokens",
    "copied_notes": "longest copied passage, notes",
}
"""What the music itself is like."""


def two_digits(value: float) -> str:
    """Without a zero before the point: `.52`, `-.07`, `1.00`; `0` and `1` where it is just that."""
    if value in (0, 1):
        return f"{value:.0f}"
    text = f"{value:.2f}".removeprefix("-") if abs(value) < 0.005 else f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text


@dataclass(frozen=True)
class Style:
    """How figures are written: a value, the ends of its interval, and what stands where there is none."""

    value: Callable[[float], str]
    end: Callable[[float], str]
    missing: str


PAGE = Style(two_digits, two_digits, "-")
"""Of the pages of results: `.52 [.43, .60]`."""
CARD = Style("{:.4g}".format, "{:.4g}".format, "–")
"""Of model cards and summaries: `0.5123 [0.4318, 0.6021]`."""
REPORT = Style("{:.3f}".format, "{:.2f}".format, "–")
"""Of the stages' HTML reports: `0.512 [0.43, 0.60]`."""


def number(value: float | None, style: Style = PAGE) -> str:
    """One number."""
    return style.missing if value is None else style.value(value)


def figure(figures: Figures, key: str, style: Style = PAGE) -> str:
    """A figure with its interval if it has one; a count as it is."""
    value, low, high = (figures.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    if value is not None and low is not None and high is not None:
        return f"{style.value(value)} [{style.end(low)}, {style.end(high)}]"
    count = isinstance(value, int) or (value is not None and key.rpartition("_")[2] == "n")
    return f"{value:.0f}" if count else number(value, style)


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, without a line break at its end; a bar or a line break in a cell does not break it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(str(cell).replace("|", "\\|").split()) for cell in line) + " |" for line in lines
    )


def row(figures: Figures, title: str, names: Iterable[str], style: Style = PAGE) -> list[str]:
    """A row of a table: the title, and the figures of these names."""
    return [title, *(figure(figures, name, style) for name in names)]


def measured(figures: Figures, titles: Mapping[str, str], style: Style = CARD) -> str:
    """A table, a row a figure, of those figures that were measured."""
    rows = [row(figures, title, [key], style) for key, title in titles.items() if is_number(figures.get(key))]
    return table(("figure", "value"), rows) if rows else "Not measured."


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
