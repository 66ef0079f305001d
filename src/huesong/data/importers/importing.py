"""`huesong data import`: turn a set's own layout into the raw layout and add it to a data folder.

The readers (public.py, local.py) say what there is; here the files are copied and the tables written,
all or nothing.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.data.importers import collection, folder, public
from huesong.data.importers.common import HIDDEN, Found, Item, safe_name, survey
from huesong.data.importers.own_tables import Scale
from huesong.data.ratings import unrated_note
from huesong.data.tables import as_table, read_table, write_table
from huesong.runtime.errors import UserError
from huesong.runtime.files import WORK, replacing_folder, sha256
from huesong.runtime.progress import log, track

SAMPLE = "sample"
"""Source of the sample set, which the first real set replaces."""
TABLES = {"images": contracts.IMAGES_CSV, "music": contracts.MUSIC_CSV}
BACKBONE = "mobilenet_v2"
"""Folder in `encoders/` of the backbone that the developers' collection brings."""
NAMED = 8
"""Files left out for one reason that are named."""
SYSTEM = ("thumbs.db", "desktop.ini")
"""Files that systems put beside others."""


@dataclass(frozen=True)
class Options:
    """What some kinds of sets can be told.

    words (emid): table of emotions with valence and arousal. scale (folder): lowest and highest rating. name (folder):
    of the set; "" = after the folder's name and place.
    """

    words: Path | None = None
    scale: Scale | None = None
    name: str = ""

    def check(self, kind: str) -> None:
        """Refuse an option that means nothing for `kind`, and a scale that is none."""
        if kind != "folder" and (self.scale or self.name):
            raise UserError(f"--scale and --name are for `data import folder`: leave them out for {kind}")
        if self.scale and not -1e6 < self.scale[0] < self.scale[1] < 1e6:
            raise UserError(
                f"--scale {self.scale[0]:g} {self.scale[1]:g}: give the lowest and the highest rating, such as 1 7"
            )


READERS: dict[str, Callable[[Path, Options], Found]] = {
    "oasis": lambda source, options: public.read_oasis(source),
    "eimg": lambda source, options: public.read_eimg(source),
    "emopia": lambda source, options: public.read_emopia(source),
    "vgmidi": lambda source, options: public.read_vgmidi(source),
    "emid": lambda source, options: public.read_emid(source, options.words),
    "folder": lambda source, options: folder.read_folder(source, options.scale, options.name),
    "shared": lambda source, options: collection.read_shared(source),
}
KINDS = tuple(READERS)
DEFAULTS = Options()


@dataclass
class ImportReport:
    """What an import did.

    counts: files imported, by `<table>/<source>`. rated: how many of those have a label. skipped: name and reason of
    what was left out. licences: by source. removed: what was replaced in the data folder, or taken out of it.
    notes: what else a user should know. encoder: the converted backbone, if any.
    """

    kind: str
    out: Path
    counts: dict[str, int] = field(default_factory=dict)
    rated: dict[str, int] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    licences: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    encoder: Path | None = None

    def __str__(self) -> str:
        lines = [
            f"{key}: {count} files, {self.rated[key]} rated; licence: {self.licences[key.split('/')[1]]}"
            for key, count in self.counts.items()
        ]
        for reason, count in Counter(reason for _, reason in self.skipped).items():
            names = [name for name, why in self.skipped if why == reason]
            more = " ..." if count > NAMED else ""
            lines.append(f"left out {count} because {reason}: {', '.join(names[:NAMED])}{more}")
        lines += [*self.removed, *self.notes]
        if self.encoder:
            lines.append(f"picture encoder: {self.encoder} (preprocess.encoder in params.yaml)")
        return "\n".join([*lines, f"added to {self.out}"])


def import_dataset(
    kind: str,
    source: Path,
    out: Path,
    options: Options = DEFAULTS,
    keep_sample: bool = False,
    only: Sequence[str] = (),
) -> ImportReport:
    """Add a set to the data folder `out`: files to `{images,music}/<source>/`, rows to images.csv and music.csv.

    Rows and files of the same source are replaced, those of other sources stay; the sample set goes, unless
    `keep_sample`. The new data folder is made beside the old one and takes its place in one step: on an error, or if the
    process is killed, it stays as it was.

    Args:
        kind: one of KINDS: oasis, eimg, emopia, vgmidi, emid, folder, shared.
        source: the set as its authors publish it, unpacked.
        out: the data folder; made if it does not exist.
        options: what only some kinds take.
        keep_sample: whether the sample set stays.
        only: of these sources alone, where the set holds several; () = of all.

    Raises:
        UserError: unknown kind or source, wrong layout, a bad cell, no file found, a file in the way that no table lists,
            or the disk is full.
    """
    items, report = _found(kind, source, out, options, only)
    old = {table: _old_table(out, name) for table, name in TABLES.items()}
    gone = {item.source for item in items} | (set() if keep_sample else {SAMPLE})
    replaced = [f"{table}/{name}" for table in TABLES for name in sorted(gone)]
    _refuse_foreign(out, old, replaced)
    if os.path.ismount(out):
        raise UserError(
            f"{out} is the top of a mounted disk, which cannot be replaced in one step: name a folder in it"
        )
    with replacing_folder(out) as stage:
        tables = _merged_tables(items, old, gone, out, stage)
        encoder = _convert_backbone(source, stage) if kind == "shared" else None
        for table, frame in tables.items():
            write_table(frame, stage, TABLES[table])
        if out.exists():
            _link_rest(
                out, stage, {*replaced, *(f"encoders/{BACKBONE}" for _ in [encoder] if encoder), *TABLES.values()}
            )
    report.notes += [note for note in [unrated_note(*tables.values())] if note]
    report.removed = _removed(old, tables, gone)
    for line in report.removed:
        log.info("%s", line)
    report.encoder = out / "encoders" / BACKBONE if encoder else None
    if report.skipped:
        log.warning("%d files were left out (first: %s: %s)", len(report.skipped), *report.skipped[0])
    return report


def _found(
    kind: str, source: Path, out: Path, options: Options, only: Sequence[str]
) -> tuple[list[Item], ImportReport]:
    """The items to import, each with an id of its own, and the report on them."""
    if kind not in READERS:
        raise UserError(f"unknown kind of set '{kind}': use one of {', '.join(KINDS)}")
    if not source.is_dir():
        raise UserError(f"{source} is not a folder: give the folder into which you unpacked the set")
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{out} lies inside {source}: choose a data folder outside of what is imported")
    options.check(kind)
    found = READERS[kind](source, options)
    found.skipped += [
        (name, why) for name, why in survey(source).left_out if kind != "folder" and why != "it is hidden"
    ]
    items = _of_sources(found.items, only, source) if only else found.items
    if not items:
        reason = f" ({found.skipped[0][0]}: {found.skipped[0][1]})" if found.skipped else ""
        raise UserError(f"{source}: not one of {len(found.skipped)} listed files can be imported{reason}")
    _name_apart(items)
    named = {name: reason for name, reason in reversed(found.skipped)}
    report = ImportReport(kind, out, skipped=sorted(named.items(), key=lambda item: item[::-1]), notes=found.notes)
    licences: dict[str, set[str]] = {}
    for item in items:
        key = f"{item.table}/{item.source}"
        report.counts[key] = report.counts.get(key, 0) + 1
        report.rated[key] = report.rated.get(key, 0) + bool(item.label_kind)
        licences.setdefault(item.source, set()).add(item.licence)
    report.licences = {name: ", ".join(sorted(stated)) for name, stated in licences.items()}
    return items, report


def _of_sources(items: list[Item], only: Sequence[str], folder: Path) -> list[Item]:
    known = sorted({item.source for item in items})
    if unknown := sorted(set(only) - set(known)):
        raise UserError(f"{folder} holds no set '{unknown[0]}' (it holds: {', '.join(known)})")
    return [item for item in items if item.source in only]


def _old_table(out: Path, name: str) -> pd.DataFrame:
    return read_table(out, name, allow_empty=True) if (out / name).exists() else as_table([])


def _name_apart(items: list[Item]) -> None:
    """Give ids that differ only in case, or not at all, a number: they become file names."""
    seen: set[tuple[str, str]] = set()
    for item in items:
        plain, n = item.id, 1
        while (item.table, item.id.casefold()) in seen:
            n += 1
            item.id = f"{plain}_{n}"
        seen.add((item.table, item.id.casefold()))


def _copy(items: list[Item], stage: Path) -> tuple[list[str], list[str]]:
    """Copy all files into `stage`; their paths relative to the data folder, and SHA-256 digests, in order."""
    paths, digests = [], []
    for item in track(items, "copying", len(items)):
        name = safe_name(item.id.removeprefix(f"{item.source}_"), 150) + item.file.suffix.lower()
        path = f"{item.table}/{item.source}/{name}"
        target = stage / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(item.file, target)
        digests.append(sha256(target))
        paths.append(path)
    assert len(set(paths)) == len(paths), "two items share a file name"
    return paths, digests


def _digests_of_equals(out: Path, kept: pd.DataFrame, new: list[Path]) -> list[str]:
    """For each kept row: the digest of its file if a new file has the same size (so could be a copy), else ""."""
    sizes = {path.stat().st_size for path in new}
    files = [out / path for path in kept["path"]]
    return [sha256(path) if path.is_file() and path.stat().st_size in sizes else "" for path in files]


def _joined_groups(groups: list[str], digests: list[str]) -> list[str]:
    """The groups, merged wherever two hold byte-identical files, so that no split parts the copies."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not groups:
        return []
    names, group = np.unique(groups, return_inverse=True)
    _, content = np.unique(digests, return_inverse=True)
    known = np.array(digests) != ""
    nodes = len(names) + len(digests)
    edges = (group[known], len(names) + content[known])  # from each group to the contents of its files
    _, part = connected_components(coo_array((np.ones(known.sum()), edges), shape=(nodes, nodes)), directed=False)
    first = {int(part[i]): str(names[i]) for i in reversed(range(len(names)))}  # names are sorted
    return [first[int(part[i])] for i in group]


def _merged_tables(
    items: list[Item], old: dict[str, pd.DataFrame], gone: set[str], out: Path, stage: Path
) -> dict[str, pd.DataFrame]:
    """Both tables with the items in place of the rows of `gone` sources; the items' files are copied into `stage`."""
    copied = list(zip(items, *_copy(items, stage), strict=True))
    tables = {}
    for table, name in TABLES.items():
        columns = [column for column in contracts.RAW_COLUMNS if column != "path"]
        of_table = [(item, path, digest) for item, path, digest in copied if item.table == table]
        columns += [contracts.BARS] if any(item.bars for item, _, _ in of_table) else []
        new = as_table([{"path": path, **{c: getattr(item, c) for c in columns}} for item, path, _ in of_table])
        kept = old[table][~old[table]["source"].isin(gone)]
        if double := sorted(set(kept["id"]) & set(new["id"])):
            raise UserError(f"{out / name} already has id '{double[0]}' from another source: rename it there first")
        parts = [frame for frame in (kept, new) if len(frame)]
        merged = pd.concat(parts, ignore_index=True) if parts else as_table([])
        if contracts.BARS in merged:
            merged[contracts.BARS] = merged[contracts.BARS].fillna("")
        digests = _digests_of_equals(out, kept, [stage / path for path in new["path"]])
        merged["group"] = _joined_groups(list(merged["group"]), digests + [digest for _, _, digest in of_table])
        tables[table] = merged.sort_values(["source", "id"], ignore_index=True)
    return tables


def _convert_backbone(source: Path, stage: Path) -> Path | None:
    """Convert the collection's MobileNetV2 weights, if it has them, into a folder that preprocess can name."""
    weights = source / "weights"
    archive, key_map = weights / "mobilenet_v2_1.0_224_imagenet_ptq.npz", weights / "mobilenet_v2_key_map.csv"
    if not (archive.is_file() and key_map.is_file()):
        return None
    from huesong.pictures.backbones import convert_mobilenet

    out = stage / "encoders" / BACKBONE
    out.parent.mkdir(parents=True, exist_ok=True)
    convert_mobilenet(archive, key_map, out)
    return out


def _refuse_foreign(out: Path, old: dict[str, pd.DataFrame], replaced: list[str]) -> None:
    """Refuse to remove a file from the folders to be replaced that no table lists: it is not ours."""
    for folder_name in replaced:
        listed = {path.casefold() for path in old[folder_name.split("/")[0]]["path"]}
        for path in sorted((out / folder_name).rglob("*")):
            name = path.relative_to(out).as_posix()
            hidden = any(part.startswith(HIDDEN) for part in path.relative_to(out).parts) or path.name.lower() in SYSTEM
            if not path.is_dir() and not hidden and name.casefold() not in listed:
                raise UserError(
                    f"{path} is listed in no table and would be lost, for {out / folder_name} is replaced: move it elsewhere first"
                )


def _link_rest(out: Path, stage: Path, replaced: set[str]) -> None:
    """Put all of the old data folder into the new one but what is replaced: the same files under one more name."""
    for at, folders, files in os.walk(out):
        below = Path(at).relative_to(out)
        links = [name for name in folders if os.path.islink(os.path.join(at, name))]
        folders[:] = [
            name
            for name in folders
            if name not in links
            and not name.startswith((WORK, ".import-"))
            and (below / name).as_posix() not in replaced
        ]
        (stage / below).mkdir(parents=True, exist_ok=True)
        for name in (*files, *links):
            if (below / name).as_posix() not in replaced:
                _link(Path(at, name), stage / below / name)


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:  # the file system has no hard links
        shutil.copy2(old, new, follow_symlinks=False)


def _removed(old: dict[str, pd.DataFrame], new: dict[str, pd.DataFrame], gone: set[str]) -> list[str]:
    """What became of the rows of the sources that were replaced, as one says it."""
    lines = []
    for source in sorted(gone):
        before, after = (
            [f"{table}/{row}" for table, frame in tables.items() for row in frame["id"][frame["source"] == source]]
            for tables in (old, new)
        )
        lost = sorted(set(before) - set(after))
        if before and not after and source == SAMPLE:
            lines.append(f"removed the sample set ({len(before)} files): --keep-sample keeps it")
        elif before:
            names = f": {', '.join(lost[:3])}{' ...' if len(lost) > 3 else ''}" if lost else ""
            lines.append(
                f"replaced {source} ({len(before)} files before, {len(after)} now; {len(lost)} removed{names})"
            )
    return lines
