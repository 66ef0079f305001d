"""Tables in a user's own folder, as spreadsheets save them: separators, spellings and scales of many kinds."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from huesong.data.importers.common import Row
from huesong.data.rules import shown
from huesong.data.tables import parse_csv, read_text
from huesong.runtime.errors import UserError

SUFFIXES = (".csv", ".tsv")
LONGEST_HEADER = 10_000
"""Characters."""
UNREAD = (".xlsx", ".xls", ".ods", ".numbers")
"""Tables that are named, not read."""
SPELLINGS = {
    "path": ("path", "file", "filename", "filepath", "image", "imagefile", "picture", "photo", "midi", "midifile"),
    "valence": ("valence", "v", "valencemean", "meanvalence"),
    "arousal": ("arousal", "a", "arousalmean", "meanarousal"),
    "n_raters": ("nraters", "raters"),
    "label_kind": ("labelkind",),
    "licence": ("licence", "license"),
    "id": ("id",),
    "group": ("group",),
    "split": ("split",),
    "bars": ("bars",),
}
"""Column -> how it may be spelt; case, blanks, dashes and underscores count for nothing."""
NOTHING = ("na", "n/a", "nan", "none", "null", "-", "?")
"""What stands in a cell without a value."""
Scale = tuple[float, float]
"""Lowest and highest rating."""


@dataclass(frozen=True)
class OwnTable:
    """A table of files. rows: cells by our names of columns. notes: what a user should know of it."""

    rows: list[Row]
    notes: list[str]


def read_own_table(path: Path, scale: Scale | None) -> OwnTable | str:
    """The rows of a table of files, ratings mapped from `scale` to [-1, 1]; or why it is none.

    Raises:
        UserError: not text, two columns of one meaning, a row of another length, a rating outside the scale.
    """
    text = read_text(path)
    line, rest = _first_line(text)
    told = re.fullmatch(r'"?sep=(.)"?', line.strip(), re.IGNORECASE)
    body, before = (rest, 1) if told else (text, 0)
    first = _first_line(body)[0]
    if len(first) > LONGEST_HEADER:
        return f"its first line is no header ({len(first)} characters)"
    separator = told.group(1) if told else _separator(first)
    header = _header(first, separator)
    meaning = {name: _meaning(name) for name in header}
    if "path" not in meaning.values():
        return (
            f"it is a table without a column of files (columns found: {_listed(header)}; wanted: path, and valence and "
            "arousal where rated)"
        )
    for wanted in SPELLINGS:
        if len(same := [name for name in header if meaning[name] == wanted]) > 1:
            raise UserError(f"{path}: columns {' and '.join(same)} both mean {wanted}: keep one of them")
    _, rows = parse_csv(body, path, separator=separator, before=before)
    named = [Row(path, line, _cells(cells, meaning)) for line, cells in rows]
    return OwnTable([_scaled(row, scale) for row in named], _notes(path, header, meaning, named, scale))


def _separator(header: str) -> str:
    """What parts the cells of a header: that which makes the most columns we know, and of equals the most columns."""

    def known(separator: str) -> tuple[int, int]:
        cells = _header(header, separator)
        return sum(bool(_meaning(cell)) for cell in cells), len(cells)

    return max(",;\t|", key=known)


def _first_line(text: str) -> tuple[str, str]:
    """The first line and the rest; lines end as on any system."""
    parts = re.split(r"\r\n|\r|\n", text, maxsplit=1)
    return parts[0], "".join(parts[1:])


def _header(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return []


def _meaning(name: str) -> str:
    """Our name of a column; "" for another one."""
    plain = re.sub(r"[\s_-]", "", name).casefold()
    return next((ours for ours, spellings in SPELLINGS.items() if plain in spellings), "")


def _cells(cells: dict[str, str], meaning: dict[str, str]) -> dict[str, str]:
    found = {ours: cells.get(name, "") for name, ours in meaning.items() if ours}
    for column in ("valence", "arousal", "n_raters"):
        text = found.get(column, "").replace("\u2212", "-")
        text = "" if text.casefold() in NOTHING else text
        found[column] = text.replace(",", ".") if re.fullmatch(r"[-+]?\d*,\d+", text) else text
    return found


def _scaled(row: Row, scale: Scale | None) -> Row:
    if scale is None:
        return row
    ratings = {axis: f"{row.scaled(axis, *scale):.12g}" for axis in ("valence", "arousal") if row[axis]}
    return Row(row.path, row.line, row.cells | ratings)


def _notes(path: Path, header: list[str], meaning: dict[str, str], rows: list[Row], scale: Scale | None) -> list[str]:
    others = [name for name in header if name and not meaning[name]]
    notes = []
    if not {"valence", "arousal"} & set(meaning.values()):
        notes.append(f"{path} gives no ratings (columns found: {_listed(header)}; wanted: valence, arousal)")
    elif others:
        notes.append(f"{path}: columns {_listed(others)} are not used")
    values = [row[axis] for row in rows for axis in ("valence", "arousal") if row[axis]]
    if scale is None and len(values) >= 8 and all(re.fullmatch(r"\+?(0?\.\d+|[01](\.0*)?)", value) for value in values):
        notes.append(f"{path}: all ratings lie in 0..1, and are taken for -1..1: give --scale 0 1 if that is theirs")
    return notes


def _listed(names: list[str]) -> str:
    return shown(", ".join(names), 200)[1:-1]
