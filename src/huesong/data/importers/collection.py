"""Reader of the collection of several sets that the project's developers share."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from pathlib import Path

from huesong.data.importers.common import (
    FileIndex,
    Found,
    Item,
    Row,
    game_of_title,
    rows_of,
    safe_name,
    stem_of_theme,
)
from huesong.data.importers.public import LICENCES
from huesong.metre.bars import BarLines
from huesong.runtime.errors import UserError

SHARED_LICENCES = (
    LICENCES
    | {
        "pop909": "MIT",
        "nottingham": "GPL-3.0",
        "asap_scores": "CC BY-NC-SA 4.0",
        "giantmidi": "CC BY 4.0",
    }
    | dict.fromkeys(("mozart", "beethoven", "chopin", "grieg", "tchaikovsky", "schumann"), "CC BY-NC-SA 4.0")
)
POP909_SURE = 0.8
"""Share of melody notes that must match for the bar lines of a song of POP909 to be believed."""
SONATA = re.compile(r"(beethoven|mozart).*?sonatas?[ _/]+(?:no[._ ]+)?(\d+)", re.IGNORECASE)


def read_shared(source: Path) -> Found:
    """The developers' collection: `music/labels_all.csv`, `music_unlabelled/index.csv`, `music_annotated/index.csv`,
    `images/oasis/labels.csv`.

    Groups of the labelled music are kept as given (they join songs across sets); OASIS is grouped by theme; unlabelled
    and annotated music by piece, by game (VGMIDI), by sonata (of Mozart and Beethoven, across sets) and by equal
    content. `train` is left open, so that judge and test are drawn from it. `val` is kept for the sets whose `val`
    respects the groups; for the others it is left open as well, because whole groups would follow it (40 % of OASIS).

    The bars of annotated pieces are where their files say; those of POP909 where `pop909_structure/songs.csv` says.
    """
    tables = [
        source / "music/labels_all.csv",
        source / "music_unlabelled/index.csv",
        source / "images/oasis/labels.csv",
        source / "music_annotated/index.csv",
    ]
    if not any(path.is_file() for path in tables):
        raise UserError(f"{source} holds none of {', '.join(str(p.relative_to(source)) for p in tables)}")
    index = FileIndex(source, ())
    found = Found()
    columns = ("id", "path", "split")
    pop909 = _pop909_bars(source / "music_unlabelled/pop909_structure/songs.csv")
    for row in rows_of(tables[0], (*columns, "set", "group", "label_kind")) if tables[0].is_file() else []:
        _shared_item(found, index, row, "music", row["set"], f"music_{row['group']}", row["label_kind"])
    for row in rows_of(tables[1], (*columns, "set", "title")) if tables[1].is_file() else []:
        title = row["title"] or row["id"]
        piece = game_of_title(title) if row["set"].startswith("vgmidi") else safe_name(title.lower())
        _shared_item(
            found, index, row, "music", row["set"], _sonata(row) or f"{row['set']}_{piece}", "", pop909[row["id"]]
        )
    for row in rows_of(tables[3], (*columns, "set", "title")) if tables[3].is_file() else []:
        _shared_item(found, index, row, "music", row["set"], _sonata(row) or row["id"], "", "file")
    for row in rows_of(tables[2], (*columns, "theme")) if tables[2].is_file() else []:
        _shared_item(found, index, row, "images", "oasis", f"oasis_{stem_of_theme(row['theme'])}", "mean_rating")
    splits: dict[str, set[str]] = {}
    for item in found.items:
        splits.setdefault(item.group, set()).add(item.split)
    cut = {item.source for item in found.items if len(splits[item.group]) > 1}
    for item in found.items:
        item.split = "" if item.source in cut else item.split
    return found


def _sonata(row: Row) -> str:
    """The group of a movement of a sonata of Mozart or Beethoven, the same in every set; "" for other pieces."""
    match = SONATA.search(f"{row['set']} {row['title']}")
    return f"sonata_{match[1].lower()}_{int(match[2])}" if match else ""


def _pop909_bars(path: Path) -> defaultdict[str, str]:
    """Bars of the songs of POP909 that were matched well, by id; "" for all others."""
    known: defaultdict[str, str] = defaultdict(str)
    for row in (
        rows_of(path, ("id", "first_barline_quarters", "quarters_per_bar", "match_share")) if path.is_file() else []
    ):
        first, beats, share = (
            row.number(name) for name in ("first_barline_quarters", "quarters_per_bar", "match_share")
        )
        if share >= POP909_SURE and math.isfinite(first) and 1 <= beats <= 12:
            known[row["id"]] = str(BarLines(first, ((first, round(beats), 4),), "annotation", min(share, 1.0)))
    return known


def _shared_item(
    found: Found, index: FileIndex, row: Row, table: str, source: str, group: str, kind: str, bars: str = ""
) -> None:
    file, reason = index.path(row["path"])
    if file is None:
        found.skip(row["path"], reason)
        return
    if source not in SHARED_LICENCES:
        raise row.error(f"set '{source}' is unknown (known: {', '.join(SHARED_LICENCES)})")
    key = safe_name(re.sub(rf"^{source}_", "", row["id"]))
    item = Item(table, f"{source}_{key}", file, group, source, SHARED_LICENCES[source], label_kind=kind)
    item.split, item.bars = "val" if row["split"] == "val" else "", bars
    if kind:
        item.valence, item.arousal = row.scaled("valence_norm", -1, 1), row.scaled("arousal_norm", -1, 1)
        raters = [row.number(column) for column in ("n_raters", "n_raters_valence", "n_raters_arousal")]
        item.n_raters = min((n for n in raters if not math.isnan(n)), default=math.nan)
    found.items.append(item)
