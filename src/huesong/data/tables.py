"""The two raw tables, images.csv and music.csv: read with every cell checked, written atomically.

A table is a pandas frame with the columns contracts.RAW_COLUMNS: `valence`, `arousal` float64 in [-1, 1] (NaN = not
rated), `n_raters` float64 (NaN = unknown), all others text, never NaN (empty = "").
"""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import pandas as pd

from huesong import contracts
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file, require
from huesong.runtime.progress import log

NUMBERS = ("valence", "arousal", "n_raters")


@dataclass(frozen=True)
class Problem:
    """What is wrong with one row of a table: the line of the file it stands on (the header is line 1), the id, why."""

    line: int
    id: str
    path: str
    what: str


class Rows(NamedTuple):
    """The good rows of a table (in RAW_COLUMNS form) and the problems of the others."""

    frame: pd.DataFrame
    problems: list[Problem]


def read_table(data: Path, name: str, drop_bad_rows: bool = False, allow_empty: bool = False) -> pd.DataFrame:
    """Read and check `data/name`. Whether the files exist is not checked here (validation does).

    Args:
        data: the data folder, to which the table's paths are relative.
        name: contracts.IMAGES_CSV or contracts.MUSIC_CSV.
        drop_bad_rows: leave bad rows out, each with a log line, instead of raising.
        allow_empty: a table without rows is returned as it is.

    Raises:
        UserError: the table is missing, unreadable, empty or, unless `drop_bad_rows`, has a bad row. The message
            names file, line, column, value and remedy.
    """
    frame, problems = read_rows(data, name)
    if problems and not drop_bad_rows:
        more = f" (and {len(problems) - 1} more bad rows)" if len(problems) > 1 else ""
        raise UserError(f"{data / name} line {problems[0].line}: {problems[0].what}{more}")
    for problem in problems:
        log.warning("%s line %d left out: %s", name, problem.line, problem.what)
    if frame.empty and not allow_empty:
        raise UserError(f"{data / name} has no rows: add some with `huesong data sample` or `huesong data import`")
    return frame


def read_rows(data: Path, name: str) -> Rows:
    """The good rows of `data/name` and what is wrong with the others.

    Raises:
        UserError: the file is missing, not UTF-8, not CSV, or lacks a column.
    """
    path = require(data / name, "huesong data sample` or `huesong data import")
    numbered = read_csv(path, contracts.RAW_COLUMNS)
    inside = Inside(data)
    seen: dict[str, int] = {}
    rows: list[dict[str, str | float]] = []
    problems: list[Problem] = []
    for line, cells in numbered:
        what = check_row(cells, inside)
        if not what and cells["id"] in seen:
            what = f"id '{cells['id']}' stands on line {seen[cells['id']]} too: give every row an id of its own"
        if what:
            problems.append(Problem(line, cells["id"], cells["path"], what))
            continue
        seen[cells["id"]] = line
        row: dict[str, str | float] = {column: cells[column] for column in contracts.RAW_COLUMNS}
        row.update({column: _number(cells[column]) for column in NUMBERS})
        rows.append(row)
    return Rows(as_table(rows), problems)


def as_table(rows: list[dict[str, str | float]]) -> pd.DataFrame:
    """Rows as a frame of RAW_COLUMNS with its dtypes; missing columns are empty."""
    columns = {}
    for column in contracts.RAW_COLUMNS:
        if column in NUMBERS:
            columns[column] = pd.Series([row.get(column, math.nan) for row in rows], dtype="float64")
        else:
            columns[column] = pd.Series([row.get(column, "") for row in rows], dtype=object if not rows else None)
    return pd.DataFrame(columns, columns=list(contracts.RAW_COLUMNS))


def write_table(frame: pd.DataFrame, data: Path, name: str) -> None:
    """Write `frame` as `data/name`, atomically, with exactly RAW_COLUMNS in their order.

    Raises:
        UserError: the disk is full or not writable.
    """
    missing = [column for column in contracts.RAW_COLUMNS if column not in frame]
    assert not missing, f"{name}: columns {missing} are missing"
    table = frame[list(contracts.RAW_COLUMNS)].copy()
    table["n_raters"] = table["n_raters"].astype("Int64")
    with replacing_file(data / name) as part:
        table.to_csv(part, index=False, lineterminator="\n", encoding="utf-8")


def read_csv(path: Path, columns: tuple[str, ...] = ()) -> list[tuple[int, dict[str, str]]]:
    """All rows of any comma-separated UTF-8 file as (line number, cell by column name), blanks around cells cut.

    The line number is that of the row's last line in the file, header = line 1. Blank lines are skipped.

    Raises:
        UserError: not UTF-8, no header, a column of `columns` missing, a row with too many or too few cells.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV, encoding UTF-8") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = [cell.strip() for cell in next(reader, [])]
        _check_header(path, header, columns)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{path} line {reader.line_num}: {len(cells)} cells where the header has {len(header)}: "
                    "put cells that hold a comma in quotes"
                )
            rows.append((reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}))
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num}: not valid CSV ({error})") from error
    return rows


def _check_header(path: Path, header: list[str], columns: tuple[str, ...]) -> None:
    if not any(header):
        raise UserError(f"{path} is empty: it must begin with a header row ({', '.join(columns) or 'column names'})")
    missing = [column for column in columns if column not in header]
    if missing:
        hint = " (cells must be separated by commas)" if len(header) == 1 else ""
        raise UserError(f"{path} line 1: column {', '.join(missing)} missing, found {', '.join(header)}{hint}")
    double = next((name for name in header if name and header.count(name) > 1), None)
    if double:
        raise UserError(f"{path} line 1: column {double} appears twice: rename or remove one")


def check_row(cells: dict[str, str], inside: Inside | None = None) -> str:
    """What is wrong with a row's cells, column by column, or "". `inside` checks its path (not for computed rows)."""
    if not contracts.SAFE_ID.fullmatch(cells["id"]):
        return f"id {shown(cells['id'])} must be 1 to 200 letters, digits, blanks or any of . # ( ) + & ' , ! ~ -"
    if inside and (what := inside.problem(cells["path"])):
        return f"path {shown(cells['path'])} {what}"
    if not cells["group"]:
        return "group is empty: give related items one group name, and every other item its own id"
    for column, low, high in (("valence", -1, 1), ("arousal", -1, 1), ("n_raters", 0, math.inf)):
        if not cells[column]:
            continue
        try:
            number = _number(cells[column])
        except ValueError:
            return f"{column} {shown(cells[column])} is not a number: give a number, or leave it empty"
        if not low <= number <= high:
            span = f"outside [{low}, {high}]: map the scale to it" if column != "n_raters" else "negative"
            return f"{column} {cells[column]} is {span}, or leave it empty"
        if column == "n_raters" and number != int(number):
            return f"n_raters {cells[column]} is not a whole number"
    given = [column for column in ("valence", "arousal") if cells[column]]
    if len(given) == 1:
        other = "arousal" if given == ["valence"] else "valence"
        return f"{given[0]} is given but {other} is empty: give both or none"
    kind = cells["label_kind"]
    if kind not in contracts.LABEL_WEIGHTS:
        return f"label_kind {shown(kind)} is unknown: use one of {', '.join(filter(None, contracts.LABEL_WEIGHTS))}"
    if bool(kind) != bool(given):
        state = "is empty though valence and arousal are given" if given else f"'{kind}' without valence and arousal"
        return f"label_kind {state}: give all three or none"
    if cells["split"] and cells["split"] not in contracts.SPLITS:
        return f"split {shown(cells['split'])} is unknown: use one of {', '.join(contracts.SPLITS)}, or leave it empty"
    return ""


class Inside:
    """Checks that relative paths stay inside a folder, links followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder.resolve()
        self._parent_stays = lru_cache(maxsize=None)(lambda parent: self._stays(self.folder / parent))

    def _stays(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError):  # a loop of links
            return False

    def problem(self, path: str) -> str:
        """What is wrong with `path`, or ""."""
        pure = PurePosixPath(path)
        if not path or "\0" in path or not pure.name:
            return "names no file: give the path relative to the data folder"
        if pure.is_absolute() or PureWindowsPath(path).drive or "\\" in path:
            return "is not relative: write it relative to the data folder, with /"
        if ".." in pure.parts:
            return "leaves the data folder: put the file inside and give its path there"
        full = self.folder / path
        stays = self._parent_stays(str(pure.parent)) and (not os.path.islink(full) or self._stays(full))
        return "" if stays else "is a link that leaves the data folder: copy the file into it"


def shown(value: str, length: int = 60) -> str:
    """`value` quoted, and cut short for one line."""
    return repr(value if len(value) <= length else value[: length - 3] + "...")


def _number(text: str) -> float:
    """A finite number; NaN for empty. ValueError for anything else (also 'nan', 'inf' and '1_0')."""
    if not text:
        return math.nan
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value
