"""`huesong data import`: turn a set's own layout into the raw layout and add it to a data folder.

The readers (public.py, local.py) say what there is; here the files are copied and the tables written,
all or nothing.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.data.importers import local, public
from huesong.data.importers.common import Found, Item, safe_name
from huesong.data.tables import as_table, read_table, write_table
from huesong.runtime.errors import UserError
from huesong.runtime.files import disk_error, sha256
from huesong.runtime.progress import log, track

SAMPLE = "sample"
"""Source of the sample set, which the first real set replaces."""
TABLES = {"images": contracts.IMAGES_CSV, "music": contracts.MUSIC_CSV}
BACKBONE = "mobilenet_v2"
"""Folder in `encoders/` of the backbone that the developers' collection brings."""

READERS: dict[str, Callable[[Path, Path | None], Found]] = {
    "oasis": lambda source, words: public.read_oasis(source),
    "eimg": lambda source, words: public.read_eimg(source),
    "emopia": lambda source, words: public.read_emopia(source),
    "vgmidi": lambda source, words: public.read_vgmidi(source),
    "emid": public.read_emid,
    "folder": lambda source, words: local.read_folder(source),
    "shared": lambda source, words: local.read_shared(source),
}
KINDS = tuple(READERS)


@dataclass
class ImportReport:
    """What an import did.

    counts: files imported, by `<table>/<source>`. rated: how many of those have a label. skipped: name and reason of
    what was listed but left out. licences: by source. removed: what was taken out of the data folder.
    encoder: the converted backbone, if any.
    """

    kind: str
    out: Path
    counts: dict[str, int] = field(default_factory=dict)
    rated: dict[str, int] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    licences: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    encoder: Path | None = None

    def __str__(self) -> str:
        lines = [
            f"{key}: {count} files, {self.rated[key]} rated; licence: {self.licences[key.split('/')[1]]}"
            for key, count in self.counts.items()
        ]
        for reason, count in Counter(reason for _, reason in self.skipped).items():
            first = next(name for name, why in self.skipped if why == reason)
            lines.append(f"left out {count} because {reason} (first: {first})")
        lines += [f"removed {name}" for name in self.removed]
        if self.encoder:
            lines.append(f"picture encoder: {self.encoder} (preprocess.encoder in params.yaml)")
        return "\n".join([*lines, f"added to {self.out}"])


def import_dataset(
    kind: str,
    source: Path,
    out: Path,
    words: Path | None = None,
    keep_sample: bool = False,
    only: Sequence[str] = (),
) -> ImportReport:
    """Add a set to the data folder `out`: files to `{images,music}/<source>/`, rows to images.csv and music.csv.

    Rows and files of the same source are replaced, those of other sources stay; the sample set goes, unless
    `keep_sample`. On any error the data folder stays as it was.

    Args:
        kind: one of KINDS: oasis, eimg, emopia, vgmidi, emid, folder, shared.
        source: the set as its authors publish it, unpacked.
        out: the data folder; made if it does not exist.
        words: emid only: table of emotions with valence and arousal.
        keep_sample: whether the sample set stays.
        only: of these sources alone, where the set holds several; () = of all.

    Raises:
        UserError: unknown kind or source, wrong layout, a bad cell, no file found, or the disk is full.
    """
    items, report = _found(kind, source, out, words, only)
    old = {table: _old_table(out, name) for table, name in TABLES.items()}
    gone = {item.source for item in items} | (set() if keep_sample else {SAMPLE})
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _staging(out) as stage:
            tables = _merged_tables(items, old, gone, out, stage)
            encoder = _convert_backbone(source, stage) if kind == "shared" else None
            folders = [f"{table}/{name}" for table in TABLES for name in sorted(gone)]
            with _swapped(out, stage, [*folders, f"encoders/{BACKBONE}"] if encoder else folders):
                for table, frame in tables.items():
                    write_table(frame, out, TABLES[table])
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise disk_error(error, out) from error
        raise
    samples = sum(int((frame["source"] == SAMPLE).sum()) for frame in old.values())
    if SAMPLE in gone and samples:
        report.removed.append(f"the sample set ({samples} files)")
        log.info("removed the sample set (%d files): keep it with --keep-sample", samples)
    report.encoder = out / "encoders" / BACKBONE if encoder else None
    if report.skipped:
        log.warning("%d listed files were left out (first: %s: %s)", len(report.skipped), *report.skipped[0])
    return report


def _found(
    kind: str, source: Path, out: Path, words: Path | None, only: Sequence[str]
) -> tuple[list[Item], ImportReport]:
    """The items to import, each with an id of its own, and the report on them."""
    if kind not in READERS:
        raise UserError(f"unknown kind of set '{kind}': use one of {', '.join(KINDS)}")
    if not source.is_dir():
        raise UserError(f"{source} is not a folder: give the folder into which you unpacked the set")
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{out} lies inside {source}: choose a data folder outside of what is imported")
    found = READERS[kind](source, words)
    items = _of_sources(found.items, only, source) if only else found.items
    if not items:
        reason = f" ({found.skipped[0][0]}: {found.skipped[0][1]})" if found.skipped else ""
        raise UserError(f"{source}: not one of {len(found.skipped)} listed files can be imported{reason}")
    _name_apart(items)
    report = ImportReport(kind, out, skipped=found.skipped)
    for item in items:
        key = f"{item.table}/{item.source}"
        report.counts[key] = report.counts.get(key, 0) + 1
        report.rated[key] = report.rated.get(key, 0) + bool(item.label_kind)
        report.licences[item.source] = item.licence
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
    columns = [column for column in contracts.RAW_COLUMNS if column != "path"]
    copied = list(zip(items, *_copy(items, stage), strict=True))
    tables = {}
    for table, name in TABLES.items():
        of_table = [(item, path, digest) for item, path, digest in copied if item.table == table]
        new = as_table([{"path": path, **{c: getattr(item, c) for c in columns}} for item, path, _ in of_table])
        kept = old[table][~old[table]["source"].isin(gone)]
        if double := sorted(set(kept["id"]) & set(new["id"])):
            raise UserError(f"{out / name} already has id '{double[0]}' from another source: rename it there first")
        parts = [frame for frame in (kept, new) if len(frame)]
        merged = pd.concat(parts, ignore_index=True) if parts else as_table([])
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


@contextlib.contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A temporary folder inside `out` (so that renaming works), removed at the end."""
    stage = Path(tempfile.mkdtemp(prefix=".import-", dir=out))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def _swapped(out: Path, stage: Path, folders: list[str]) -> Iterator[None]:
    """Put the staged folders in the place of the old ones; on an error in the block, put everything back."""
    with contextlib.ExitStack() as undo:
        for name in TABLES.values():
            undo.callback(_restore, out / name, (out / name).read_bytes() if (out / name).exists() else None)
        for folder in folders:
            if (out / folder).exists():
                _move(out / folder, stage / "replaced" / folder)
                undo.callback(_move, stage / "replaced" / folder, out / folder)
            if (stage / folder).exists():
                _move(stage / folder, out / folder)
                undo.callback(_move, out / folder, stage / "refused" / folder)
        yield
        undo.pop_all()  # no error: nothing to undo


def _move(old: Path, new: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    old.rename(new)


def _restore(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    elif path.read_bytes() != content:
        path.write_bytes(content)
