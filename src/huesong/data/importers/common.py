"""What the readers of all layouts share: the item they yield, and finding and reading the files of a source."""

from __future__ import annotations

import contextlib
import math
import os
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from huesong.data.inside import Inside
from huesong.data.rules import shown
from huesong.data.tables import read_csv
from huesong.runtime.errors import UserError

MIDI = (".mid", ".midi", ".kar", ".smf", ".rmi")
HIDDEN = (".", "__MACOSX")
"""How names begin that a system gives to files of its own."""


@dataclass
class Item:
    """One file to import. `id` and `group` are unique over all sources; valence, arousal in [-1, 1] or NaN."""

    table: str
    """`images` or `music`."""
    id: str
    file: Path
    group: str
    source: str
    licence: str
    valence: float = math.nan
    arousal: float = math.nan
    n_raters: float = math.nan
    label_kind: str = ""
    split: str = ""
    bars: str = ""
    """Where its bars are, as text of BarLines."""


@dataclass
class Found:
    """What a reader found: the items, what cannot be imported, with the reason, and what else a user should know."""

    items: list[Item] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def skip(self, name: str, reason: str) -> None:
        """Note that `name` is left out."""
        self.skipped.append((name, reason))


@dataclass(frozen=True)
class Row:
    """A row of a source's own table, with where it stands, for errors."""

    path: Path
    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")

    def number(self, column: str) -> float:
        """The cell as a finite number; NaN where it is empty or the column is missing.

        Raises:
            UserError: anything else.
        """
        text = self[column]
        if text.strip().lower() in ("", "na", "nan"):
            return math.nan
        try:
            value = float(text)
        except ValueError:
            value = math.inf
        if not math.isfinite(value):
            raise self.error(f"{column} {shown(text)} is not a number: correct it, or leave it empty")
        return value

    def scaled(self, column: str, low: float, high: float) -> float:
        """The cell, mapped linearly from the scale [low, high] to [-1, 1].

        Raises:
            UserError: not a number, or outside the scale.
        """
        value = self.number(column)
        if value < low or value > high:
            raise self.error(f"{column} {self[column]} is outside its scale [{low:g}, {high:g}]: correct it")
        return to_unit(value, low, high)

    def error(self, what: str) -> UserError:
        """An error that names file and line."""
        return UserError(f"{self.path} line {self.line}: {what}")


def rows_of(path: Path, columns: tuple[str, ...] = ()) -> list[Row]:
    """All rows of a CSV of the source (UserError as `tables.read_csv`)."""
    return [Row(path, line, cells) for line, cells in read_csv(path, columns)]


def to_unit(value: float, low: float, high: float) -> float:
    """`value` mapped linearly from [low, high] to [-1, 1], six decimals."""
    return value if (low, high) == (-1, 1) else round(2 * (value - low) / (high - low) - 1, 6)


def safe_name(text: str, length: int = 120) -> str:
    """`text` as a part of an id and a file name: letters, digits, dot, dash and underscore, `length` bytes at most."""
    name = re.sub(r"[^\w.-]+", "_", text).strip("._")
    return name.encode()[:length].decode(errors="ignore") or "x"


def stem_of_theme(theme: str) -> str:
    """The theme without its number, so that near-same pictures share a group: `Acorns 1` -> `acorns`."""
    return safe_name(re.sub(r"[\s_]*\d+$", "", theme.strip()).lower())


def game_of_title(title: str) -> str:
    """The game (or series) that a title of VGMIDI names, guessed on the generous side.

    Titles are `Series_Console_Game_Piece` with blanks inside the parts, or words joined by underscores with the piece
    last: the first part of the former, the first two words (one, if there are only two) of the latter.
    """
    if " " in title and title.count("_") >= 3:
        return safe_name(title.split("_")[0].lower())
    before_dash, *after = re.split(r"[\s_]-[\s_]", title)
    words = [word for word in re.split(r"[\s_]+", before_dash) if word]
    if len(words) > 2 and words[0].lower() == "the":
        words = words[1:]
    return safe_name("_".join(words[: 2 if after or len(words) > 2 else 1]).lower())


@dataclass
class Survey:
    """What lies below a folder: ordinary files that can be read, sorted; and what is left out, with the reason."""

    files: list[Path] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def survey(folder: Path) -> Survey:
    """All of a folder but what is hidden, no file, unreadable, or a link that leaves the folder (tables.Inside)."""
    found, inside = Survey(), Inside(folder)

    def leave(path: Path | str, reason: str) -> None:
        found.left_out.append((os.path.relpath(path, folder), reason))

    for at, folders, names in os.walk(folder, onerror=lambda error: leave(error.filename, "it cannot be read")):
        for name in sorted(folders):
            if name.startswith(HIDDEN):
                leave(os.path.join(at, name), "it is hidden")
            elif os.path.islink(os.path.join(at, name)):
                leave(os.path.join(at, name), "it is a link to a folder")
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        for name in names:
            path = Path(at, name)
            if name.startswith(HIDDEN):
                leave(path, "it is hidden")
            elif not inside.holds(path):
                leave(path, "it is a link that leaves the folder")
            elif not path.is_file():
                leave(path, "it is a link to nothing" if path.is_symlink() else "it is no ordinary file")
            elif not os.access(path, os.R_OK):
                leave(path, "it cannot be read")
            else:
                found.files.append(path)
    found.files.sort()
    found.left_out.sort()
    return found


def all_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files that `survey` finds, with one of the suffixes."""
    return [path for path in survey(folder).files if path.suffix.lower() in suffixes]


def find_file(folder: Path, names: tuple[str, ...], what: str) -> Path:
    """The file of one of these names (any case) nearest to the top of `folder`.

    Raises:
        UserError: there is none; `what` says what it is and where it comes from.
    """
    wanted = [name.lower() for name in names]
    files = [path for path in all_files(folder, tuple({Path(n).suffix.lower() for n in names}))]
    hits = [path for path in files if path.name.lower() in wanted]
    if not hits:
        raise UserError(f"{folder} holds no {' or '.join(names)}: give the folder with {what}")
    return min(hits, key=lambda path: (len(path.parts), wanted.index(path.name.lower()), str(path)))


class FileIndex:
    """Finds the files of a source by a path as its table writes it, or by the bare name, whatever the case."""

    def __init__(self, folder: Path, suffixes: tuple[str, ...]) -> None:
        self.folder = folder
        self._inside = Inside(folder)
        self._by_name: dict[str, list[Path]] = {}
        self._by_path: dict[str, Path] = {}
        for path in all_files(folder, suffixes):
            self._by_name.setdefault(path.name.lower(), []).append(path)
            self._by_path.setdefault(path.relative_to(folder).as_posix().lower(), path)

    def path(self, relative: str) -> tuple[Path | None, str]:
        """The file at `relative`, or None and the reason."""
        if problem := self._inside.problem(relative):
            return None, f"its path {problem.split(':')[0].replace('data folder', 'folder')}"
        full = self.folder / relative
        if not full.exists():
            full = self._by_path.get(PurePosixPath(relative).as_posix().lower(), full)
        if not full.is_file():
            return None, "its file is missing"
        return (full, "") if os.access(full, os.R_OK) else (None, "it cannot be read")

    def name(self, name: str) -> Path | None:
        """The one file of that name anywhere below the folder (the first, if there are several)."""
        hits = self._by_name.get(Path(name).name.lower())
        return hits[0] if hits else None


_MAX_SHEET = 2**24
"""Bytes that an .xlsx file may have unpacked; more is an error or an attack."""
_MAX_ROWS, _MAX_COLUMNS = 20_000, 200
"""Of a sheet: a single cell far off makes a reader fill in all before it."""


def sheet_rows(path: Path) -> list[list[str]]:
    """The cells of the first sheet of an .xlsx file as text, row by row.

    Raises:
        UserError: not an .xlsx file.
    """
    import openpyxl

    try:
        with zipfile.ZipFile(path) as archive:
            if (size := sum(part.file_size for part in archive.infolist())) > _MAX_SHEET:
                raise ValueError(f"{size >> 20} MiB unpacked, at most {_MAX_SHEET >> 20} are read")
        with contextlib.closing(openpyxl.load_workbook(path, read_only=True, data_only=True)) as book:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what the file says of its size is not to be relied on
            rows = []
            for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
                if number > _MAX_ROWS or len(row) > _MAX_COLUMNS:
                    raise ValueError(f"more than {_MAX_ROWS} rows or {_MAX_COLUMNS} columns")
                rows.append(["" if cell is None else str(cell).strip() for cell in row])
            return rows
    except (zipfile.BadZipFile, SyntaxError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise UserError(f"{path} is not a readable .xlsx sheet ({error}): save it again, or as CSV") from error
