"""Reader of a user's own folder of pictures and MIDI files, with or without tables of ratings."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from huesong.contracts import PICTURE_SUFFIXES
from huesong.data.importers.common import MIDI, FileIndex, Found, Item, Row, safe_name, survey
from huesong.data.importers.own_tables import SUFFIXES, UNREAD, Scale, read_own_table
from huesong.data.rules import RULES, problems
from huesong.data.tables import typed
from huesong.runtime.errors import UserError

OWN_LICENCE = "not stated"
OWN_COLUMNS = ("id", "group", "valence", "arousal", "n_raters", "label_kind", "licence", "split", "bars")
NO_MEDIA = "it is neither a picture nor MIDI"


def read_folder(source: Path, scale: Scale | None = None, name: str = "") -> Found:
    """Any pictures and MIDI files below a folder; every file that no table names is unlabelled.

    Tables are the .csv and .tsv files, anywhere in the folder, with a column for the files (own_tables.SPELLINGS), whose
    paths are relative to the table's folder or to `source`. The other columns are optional: id, group, valence and
    arousal in [-1, 1] or on `scale`, n_raters, label_kind (`mean_rating` where ratings are given), licence, split,
    bars (of MIDI files: metre.bars.BarLines as text).

    Args:
        source: the folder.
        scale: lowest and highest rating of the tables; None = -1 and 1.
        name: what to call the set; importing another folder under that name replaces it. "" = after the folder's name
            and place, so that two folders of one name stay apart.

    Raises:
        UserError: a bad cell, a file listed twice, or nothing to import.
    """
    name = f"folder-{safe_name(name or _name_of_place(source), 60)}"
    around, found = survey(source), Found()
    index = FileIndex(source, PICTURE_SUFFIXES + MIDI)
    listed: dict[Path, Row] = {}
    tables = [path for path in around.files if path.suffix.lower() in SUFFIXES]
    for path in tables:
        table = read_own_table(path, scale)
        if isinstance(table, str):
            found.skip(path.relative_to(source).as_posix(), table)
            continue
        found.notes += table.notes
        found.items += _listed_items(path, table.rows, listed, index, found, name)
    for path in around.files:
        suffix = path.suffix.lower()
        if suffix in PICTURE_SUFFIXES + MIDI and path not in listed:
            found.items.append(_own_item(_completed(Row(path, 0, {}), path, name, source), path))
        elif suffix in UNREAD:
            found.skip(path.relative_to(source).as_posix(), f"a table in {suffix} is not read: save it as CSV")
        elif suffix not in (*PICTURE_SUFFIXES, *MIDI, *SUFFIXES):
            found.skip(path.relative_to(source).as_posix(), f"{suffix or 'no suffix'} is neither a picture nor MIDI")
    found.skipped += around.left_out
    if not found.items:
        held = "; ".join(f"{path}: {reason}" for path, reason in found.skipped[:2])
        raise UserError(
            f"{source} holds no pictures ({', '.join(PICTURE_SUFFIXES)}) and no MIDI files ({', '.join(MIDI)})"
            f"{held and f' ({held})'}"
        )
    return found


def _name_of_place(source: Path) -> str:
    """The folder's name and a digest of where it lies: two folders called `images` are two sets."""
    place = source.resolve()
    return f"{safe_name(place.name, 50)}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:6]}"


def _listed_items(
    path: Path, rows: list[Row], listed: dict[Path, Row], index: FileIndex, found: Found, name: str
) -> list[Item]:
    """The items that the table at `path` lists; adds them to `listed`, and what it lists in vain to `found.skipped`."""
    own: list[tuple[Row, Path]] = []
    for row in rows:
        file, reason = _file_of(row["path"], path, index)
        if file is None or file.suffix.lower() not in PICTURE_SUFFIXES + MIDI:
            found.skip(row["path"], reason or NO_MEDIA)
            continue
        if file in listed:
            first = listed[file]
            where = "" if first.path == path else f" of {first.path}"
            raise row.error(f"{row['path']} is listed on line {first.line}{where} too: remove one of them")
        listed[file] = row
        own.append((_completed(row, file, name, index.folder), file))
    if wrong := problems(typed((row.line, row.cells) for row, _ in own), [r for r in RULES if not r.unique]):
        line, what = wrong[0]
        hint = " (ratings on another scale: --scale 1 7, or what theirs is)" if "outside [-1, 1]" in what else ""
        raise UserError(f"{path} line {line}: {what}{hint}")
    return [_own_item(row, file) for row, file in own]


def _file_of(written: str, table: Path, index: FileIndex) -> tuple[Path | None, str]:
    """The file that a table means, seen from its own folder, else from the imported one; or None and the reason."""
    written = written.replace("\\", "/")
    from_table = (table.parent / written).relative_to(index.folder).as_posix() if written[:1] != "/" else written
    file, reason = index.path(from_table)
    if file is None and from_table != written:
        file, reason = index.path(written)
    return file, reason


def _completed(row: Row, file: Path, source: str, folder: Path) -> Row:
    """The row with all of RAW_COLUMNS: what it leaves open comes from the file's path."""
    cells = {column: row[column] for column in OWN_COLUMNS} | {"source": source, "path": file.name}
    cells["id"] = safe_name(cells["id"] or file.relative_to(folder).with_suffix("").as_posix())
    cells["group"] = cells["group"] or cells["id"]
    cells["licence"] = cells["licence"] or OWN_LICENCE
    if cells["valence"] and not cells["label_kind"]:
        cells["label_kind"] = "mean_rating"
    return Row(row.path, row.line, cells)


def _own_item(row: Row, file: Path) -> Item:
    source = row["source"]
    item = Item(
        "images" if file.suffix.lower() in PICTURE_SUFFIXES else "music",
        f"{source}_{row['id']}",
        file,
        f"{source}_{row['group']}",
        source,
        row["licence"],
        label_kind=row["label_kind"],
        split=row["split"],
        bars=row["bars"] if file.suffix.lower() in MIDI else "",
    )
    item.valence, item.arousal, item.n_raters = (row.number(c) for c in ("valence", "arousal", "n_raters"))
    return item
