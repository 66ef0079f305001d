"""The two raw tables, images.csv and music.csv: parsed into typed cells, checked, and written atomically.

A table is a pandas frame with the columns contracts.RAW_COLUMNS: `valence`, `arousal` float64 in [-1, 1] (NaN = not
rated), `n_raters` float64 (NaN = unknown), all others text, never NaN (empty = ""); and contracts.BARS, if the file has it.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from huesong import contracts
from huesong.data.inside import Inside
from huesong.data.rules import problems, shown
from huesong.metre.bars import BarLines
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file, require

NUMBERS = ("valence", "arousal", "n_raters")
PROBLEMS = ("path_problem", "number_problem", "label_problem", "bars_problem")
"""Columns of a parsed table: what its typed cells alone do not show, said with the remedy; "" = nothing."""
MOST_BYTES, MOST_COLUMNS = 64 * 2**20, 1000
"""Of a table; more is an error or an attack."""


def read_table(data: Path, name: str, allow_empty: bool = False) -> pd.DataFrame:
    """Parse `data/name` and check it by data.rules. Whether the files exist is not checked here (validation does).

    Args:
        data: the data folder, to which the table's paths are relative.
        name: contracts.IMAGES_CSV or contracts.MUSIC_CSV.
        allow_empty: a table without rows is returned as it is.

    Raises:
        UserError: the table is missing, unreadable, lacks a column, is empty or has a bad row. The message names
            file, line, column, value and remedy.
    """
    table = parse_table(data, name)
    if what := missing_columns(list(table)):
        raise UserError(f"{data / name} line 1: {what}")
    if found := problems(table):
        more = f" (and {len(found) - 1} more bad rows)" if len(found) > 1 else ""
        raise UserError(f"{data / name} line {found[0][0]}: {found[0][1]}{more}")
    if table.empty and not allow_empty:
        raise UserError(f"{data / name} has no rows: add some with `huesong data sample` or `huesong data import`")
    return table[kept_columns(table)]


def parse_table(data: Path, name: str) -> pd.DataFrame:
    """The rows of `data/name`, not judged yet: RAW_COLUMNS, `line` in the file (the header is 1) and PROBLEMS.

    A table that lacks one of RAW_COLUMNS comes as it is: its own columns, as text.

    Raises:
        UserError: the file is missing, not UTF-8 or not CSV.
    """
    header, rows = _read_csv(require(data / name, "huesong data sample` or `huesong data import"))
    if missing_columns(header):
        return pd.DataFrame([cells for _, cells in rows], columns=header)
    return typed(rows, Inside(data))


def missing_columns(header: Sequence[str], needed: Iterable[str] = contracts.RAW_COLUMNS) -> str:
    """Which columns are not in `header`, as one says it; or ""."""
    missing = [column for column in needed if column not in header]
    hint = " (cells must be separated by commas)" if len(header) == 1 else ""
    return f"column {', '.join(missing)} missing, found {', '.join(header)}{hint}" if missing else ""


def typed(rows: Iterable[tuple[int, dict[str, str]]], inside: Inside | None = None) -> pd.DataFrame:
    """(line, cells as text) as the table that `parse_table` returns; `inside` checks paths."""
    table = []
    for line, cells in rows:
        row: dict[str, str | float] = {column: cells[column] for column in contracts.RAW_COLUMNS}
        row |= dict.fromkeys(PROBLEMS, "") | {"line": line, "label_problem": _label_problem(cells)}
        if contracts.BARS in cells:
            row |= {contracts.BARS: cells[contracts.BARS], "bars_problem": _bars_problem(cells[contracts.BARS])}
        if inside and cells["path"] and (what := inside.problem(cells["path"])):
            row["path_problem"] = f"path {shown(cells['path'])} {what}"
        for column in NUMBERS:
            row[column] = value = _number(cells[column])
            if cells[column] and (math.isnan(value) or (column == "n_raters" and value != int(value))):
                kind = "number: give a number" if math.isnan(value) else "whole number: correct it"
                row["number_problem"] = f"{column} {shown(cells[column])} is not a {kind}, or leave it empty"
        table.append(row)
    more = {
        name: pd.Series([row[name] for row in table], dtype=None if table else object) for name in (*PROBLEMS, "line")
    }
    return as_table(table).assign(**more)


def _label_problem(cells: dict[str, str]) -> str:
    valence, arousal, kind = (cells[column] for column in ("valence", "arousal", "label_kind"))
    if bool(valence) != bool(arousal):
        given, other = ("valence", "arousal") if valence else ("arousal", "valence")
        return f"{given} is given but {other} is empty: give both or none"
    if bool(kind) == bool(valence):
        return ""
    state = "is empty though valence and arousal are given" if valence else f"{shown(kind)} without valence and arousal"
    return f"label_kind {state}: give all three or none"


def _bars_problem(text: str) -> str:
    try:
        if text:
            BarLines.parse(text)
    except ValueError as error:
        return f"{contracts.BARS} {shown(text)} {error}: correct it, or leave it empty"
    return ""


def kept_columns(table: pd.DataFrame) -> list[str]:
    """RAW_COLUMNS, and contracts.BARS if the table has it."""
    return [*contracts.RAW_COLUMNS, *(name for name in (contracts.BARS,) if name in table)]


def as_table(rows: list[dict[str, str | float]]) -> pd.DataFrame:
    """Rows as a frame of RAW_COLUMNS with its dtypes; missing columns are empty. BARS only if a row has it."""
    columns: dict[str, pd.Series] = {}
    for column in contracts.RAW_COLUMNS:
        if column in NUMBERS:
            columns[column] = pd.Series([row.get(column, math.nan) for row in rows], dtype="float64")
        else:
            columns[column] = pd.Series([row.get(column, "") for row in rows], dtype=object if not rows else None)
    if any(contracts.BARS in row for row in rows):
        columns[contracts.BARS] = pd.Series([row.get(contracts.BARS, "") for row in rows])
    return pd.DataFrame(columns)


def write_table(frame: pd.DataFrame, data: Path, name: str) -> None:
    """Write `frame` as `data/name`, atomically, with RAW_COLUMNS in their order, and BARS if some are known.

    Raises:
        UserError: the disk is full or not writable.
    """
    missing = [column for column in contracts.RAW_COLUMNS if column not in frame]
    assert not missing, f"{name}: columns {missing} are missing"
    table = frame[kept_columns(frame)].copy()
    if contracts.BARS in table and not table[contracts.BARS].any():
        del table[contracts.BARS]
    table["n_raters"] = table["n_raters"].astype("Int64")
    with replacing_file(data / name) as part:
        table.to_csv(part, index=False, lineterminator="\n", encoding="utf-8")


def read_csv(path: Path, columns: tuple[str, ...] = ()) -> list[tuple[int, dict[str, str]]]:
    """All rows of any comma-separated UTF-8 file as (line number, cell by column name), blanks around cells cut.

    The line number is that of the row's last line in the file, header = line 1. Blank lines are skipped.

    Raises:
        UserError: not UTF-8, no header, a column of `columns` missing, a row with too many or too few cells.
    """
    header, rows = _read_csv(path, columns)
    if what := missing_columns(header, columns):
        raise UserError(f"{path} line 1: {what}")
    return rows


def _read_csv(
    path: Path, columns: Sequence[str] = contracts.RAW_COLUMNS
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header and rows of a file that should have `columns`."""
    return parse_csv(read_text(path), path, columns)


def read_text(path: Path) -> str:
    """The text of a table: UTF-8, or UTF-16 where its first two bytes say so.

    Raises:
        UserError: no ordinary file, above MOST_BYTES, or in another encoding.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path} is no ordinary file: a table is a text file")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES >> 20} MiB: no table is; remove or split it")
        data = path.read_bytes()
        return data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV, encoding UTF-8") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def parse_csv(
    text: str, path: Path, columns: Sequence[str] = (), separator: str = ",", before: int = 0
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header and rows of a table's text; a row is (number of its last line in the file, cell by column name).

    Args:
        text: header and rows.
        path: named in errors.
        columns: those that it should have; where one is missing, rows of any length are taken.
        separator: of cells.
        before: lines of the file before `text`.

    Raises:
        UserError: no header, a column twice, or a row with too many or too few cells.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if not any(header):
            raise UserError(
                f"{path} is empty: it must begin with a header row ({', '.join(columns) or 'column names'})"
            )
        if len(header) > MOST_COLUMNS:
            raise UserError(f"{path} line 1: {len(header)} columns; a table has {MOST_COLUMNS} at most")
        if double := next((name for name in header if name and header.count(name) > 1), None):
            raise UserError(f"{path} line 1: column {double} appears twice: rename or remove one")
        whole = not missing_columns(header, columns)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            line = reader.line_num + before
            if whole and len(cells) != len(header):
                raise UserError(
                    f"{path} line {line}: {len(cells)} cells where the header has {len(header)}: "
                    "put cells that hold a comma in quotes"
                )
            rows.append((line, {name: cell.strip() for name, cell in zip(header, cells, strict=whole)}))
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num + before}: not valid CSV ({error})") from error
    return header, rows


def _number(text: str) -> float:
    """A finite number; NaN for anything else (also empty, 'inf' and '1_0')."""
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
