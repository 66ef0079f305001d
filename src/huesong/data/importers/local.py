"""Readers of a user's own folder and of the collection of several sets that the project's developers share."""

from __future__ import annotations

import math
import re
from pathlib import Path

from huesong.data.importers.common import (
    MIDI,
    PICTURES,
    FileIndex,
    Found,
    Item,
    Row,
    all_files,
    game_of_title,
    rows_of,
    safe_name,
    stem_of_theme,
)
from huesong.data.importers.public import LICENCES
from huesong.data.rules import RULES, problems
from huesong.data.tables import typed
from huesong.runtime.errors import UserError

SHARED_LICENCES = LICENCES | {
    "pop909": "MIT",
    "nottingham": "GPL-3.0",
    "asap_scores": "CC BY-NC-SA 4.0",
    "giantmidi": "CC BY 4.0",
}
OWN_LICENCE = "not stated"
PATH_COLUMNS = ("path", "file", "filename", "image", "midi")
OWN_COLUMNS = ("id", "group", "valence", "arousal", "n_raters", "label_kind", "licence", "split")


def read_folder(source: Path) -> Found:
    """Any pictures and MIDI files below a folder; every file that no table names is unlabelled.

    Tables are the CSV files at the top of the folder that have one of the columns `path`, `file`, `filename`, `image`
    or `midi` (relative to the folder). Their other columns are optional: id, group, valence and arousal in [-1, 1],
    n_raters, label_kind (`mean_rating` where ratings are given), licence, split.

    Raises:
        UserError: a bad cell, a file listed twice, or nothing to import.
    """
    name = f"folder-{safe_name(source.resolve().name, 60)}"
    index = FileIndex(source, PICTURES + MIDI)
    found = Found()
    listed: dict[Path, Row] = {}
    for path in sorted(p for p in source.iterdir() if p.suffix.lower() == ".csv" and p.is_file()):
        own: list[tuple[Row, Path]] = []
        for row in rows_of(path):
            column = next((c for c in PATH_COLUMNS if c in row.cells), None)
            if column is None:
                break
            file, reason = index.path(row[column])
            if file is None or file.suffix.lower() not in PICTURES + MIDI:
                found.skip(row[column], reason or "it is neither a picture nor MIDI")
                continue
            if file in listed:
                raise row.error(f"{row[column]} is listed on line {listed[file].line} too: remove one of them")
            listed[file] = row
            own.append((_completed(row, file, name, source), file))
        if wrong := problems(typed((row.line, row.cells) for row, _ in own), [r for r in RULES if not r.unique]):
            raise UserError(f"{path} line {wrong[0][0]}: {wrong[0][1]}")
        found.items += [_own_item(row, file) for row, file in own]
    for file in all_files(source, PICTURES + MIDI):
        if file not in listed:
            found.items.append(_own_item(_completed(Row(file, 0, {}), file, name, source), file))
    if not found.items:
        raise UserError(f"{source} holds no pictures ({', '.join(PICTURES)}) and no MIDI files")
    return found


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
        "images" if file.suffix.lower() in PICTURES else "music",
        f"{source}_{row['id']}",
        file,
        f"{source}_{row['group']}",
        source,
        row["licence"],
        label_kind=row["label_kind"],
        split=row["split"],
    )
    item.valence, item.arousal, item.n_raters = (row.number(c) for c in ("valence", "arousal", "n_raters"))
    return item


def read_shared(source: Path) -> Found:
    """The developers' collection: `music/labels_all.csv`, `music_unlabelled/index.csv`, `images/oasis/labels.csv`.

    Groups of the labelled music are kept as given (they join songs across sets); OASIS is grouped by theme; unlabelled
    music by piece, by game (VGMIDI) and by equal content. `train` is left open, so that judge and test are drawn from
    it. `val` is kept for the sets whose `val` respects the groups; for the others it is left open as well, because
    whole groups would follow it (40 % of OASIS).
    """
    tables = [
        source / "music/labels_all.csv",
        source / "music_unlabelled/index.csv",
        source / "images/oasis/labels.csv",
    ]
    if not any(path.is_file() for path in tables):
        raise UserError(f"{source} holds none of {', '.join(str(p.relative_to(source)) for p in tables)}")
    index = FileIndex(source, ())
    found = Found()
    columns = ("id", "path", "split")
    for row in rows_of(tables[0], (*columns, "set", "group", "label_kind")) if tables[0].is_file() else []:
        _shared_item(found, index, row, "music", row["set"], f"music_{row['group']}", row["label_kind"])
    for row in rows_of(tables[1], (*columns, "set", "title")) if tables[1].is_file() else []:
        title = row["title"] or row["id"]
        piece = game_of_title(title) if row["set"].startswith("vgmidi") else safe_name(title.lower())
        _shared_item(found, index, row, "music", row["set"], f"{row['set']}_{piece}", "")
    for row in rows_of(tables[2], (*columns, "theme")) if tables[2].is_file() else []:
        _shared_item(found, index, row, "images", "oasis", f"oasis_{stem_of_theme(row['theme'])}", "mean_rating")
    splits: dict[str, set[str]] = {}
    for item in found.items:
        splits.setdefault(item.group, set()).add(item.split)
    cut = {item.source for item in found.items if len(splits[item.group]) > 1}
    for item in found.items:
        item.split = "" if item.source in cut else item.split
    return found


def _shared_item(found: Found, index: FileIndex, row: Row, table: str, source: str, group: str, kind: str) -> None:
    file, reason = index.path(row["path"])
    if file is None:
        found.skip(row["path"], reason)
        return
    if source not in SHARED_LICENCES:
        raise row.error(f"set '{source}' is unknown (known: {', '.join(SHARED_LICENCES)})")
    key = safe_name(re.sub(rf"^{source}_", "", row["id"]))
    item = Item(table, f"{source}_{key}", file, group, source, SHARED_LICENCES[source], label_kind=kind)
    item.split = "val" if row["split"] == "val" else ""
    if kind:
        item.valence, item.arousal = row.scaled("valence_norm", -1, 1), row.scaled("arousal_norm", -1, 1)
        raters = [row.number(column) for column in ("n_raters", "n_raters_valence", "n_raters_arousal")]
        item.n_raters = min((n for n in raters if not math.isnan(n)), default=math.nan)
    found.items.append(item)
