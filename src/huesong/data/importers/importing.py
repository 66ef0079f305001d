"""`huesong data import`: turn a set's own layout into the raw layout and add it to a data folder.

The readers (importers_public, importers_local) say what there is; here the files are copied and the tables written,
all or nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from huesong import contracts
from huesong.data.importers import local as importers_local
from huesong.data.importers import public as importers_public
from huesong.data.importers.common import Found, Item, safe_name
from huesong.data.tables import as_table, read_table, write_table
from huesong.runtime.errors import UserError
from huesong.runtime.files import disk_error
from huesong.runtime.progress import log, track

SAMPLE = "sample"
"""Source of the sample set, which the first real set replaces."""
TABLES = {"images": contracts.IMAGES_CSV, "music": contracts.MUSIC_CSV}
BACKBONE = "mobilenet_v2"
"""Folder in `encoders/` of the backbone that the developers' collection brings."""

READERS: dict[str, Callable[[Path, Path | None], Found]] = {
    "oasis": lambda source, words: importers_public.read_oasis(source),
    "eimg": lambda source, words: importers_public.read_eimg(source),
    "emopia": lambda source, words: importers_public.read_emopia(source),
    "vgmidi": lambda source, words: importers_public.read_vgmidi(source),
    "emid": importers_public.read_emid,
    "folder": lambda source, words: importers_local.read_folder(source),
    "shared": lambda source, words: importers_local.read_shared(source),
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
    if kind not in READERS:
        raise UserError(f"unknown kind of set '{kind}': use one of {', '.join(KINDS)}")
    if not source.is_dir():
        raise UserError(f"{source} is not a folder: give the folder into which you unpacked the set")
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{out} lies inside {source}: choose a data folder outside of what is imported")
    found = READERS[kind](source, words)
    if only:
        found.items = _of_sources(found.items, only, source)
    if not found.items:
        reason = f" ({found.skipped[0][0]}: {found.skipped[0][1]})" if found.skipped else ""
        raise UserError(f"{source}: not one of {len(found.skipped)} listed files can be imported{reason}")
    _name_apart(found.items)

    old = {table: _old_table(out, name) for table, name in TABLES.items()}
    gone = {item.source for item in found.items}
    if not keep_sample:
        gone.add(SAMPLE)
    report = ImportReport(kind, out, skipped=found.skipped)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _staging(out) as stage:
            paths, digests = _copy(found.items, stage)
            tables = {}
            for table, name in TABLES.items():
                new, new_digests = _new_table(found.items, paths, digests, table)
                kept = old[table][~old[table]["source"].isin(gone)]
                kept_digests = _digests_of_equals(out, kept, [stage / path for path in new["path"]])
                merged = _merged(kept, new, out / name)
                merged["group"] = _joined_groups(list(merged["group"]), kept_digests + new_digests)
                tables[table] = merged.sort_values(["source", "id"], ignore_index=True)
            encoder = _convert_backbone(source, stage) if kind == "shared" else None
            folders = [f"{table}/{name}" for table in TABLES for name in sorted(gone)]
            with _swapped(out, stage, [*folders, f"encoders/{BACKBONE}"] if encoder else folders):
                for table, frame in tables.items():
                    write_table(frame, out, TABLES[table])
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise disk_error(error, out) from error
        raise

    for item in found.items:
        key = f"{item.table}/{item.source}"
        report.counts[key] = report.counts.get(key, 0) + 1
        report.rated[key] = report.rated.get(key, 0) + bool(item.label_kind)
        report.licences[item.source] = item.licence
    samples = sum(int((frame["source"] == SAMPLE).sum()) for frame in old.values())
    if SAMPLE in gone and samples:
        report.removed.append(f"the sample set ({samples} files)")
        log.info("removed the sample set (%d files): keep it with --keep-sample", samples)
    if encoder:
        report.encoder = out / "encoders" / BACKBONE
    if found.skipped:
        log.warning("%d listed files were left out (first: %s: %s)", len(found.skipped), *found.skipped[0])
    return report


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
        digests.append(_digest(target))
        paths.append(path)
    assert len(set(paths)) == len(paths), "two items share a file name"
    return paths, digests


def _digests_of_equals(out: Path, kept: pd.DataFrame, new: list[Path]) -> list[str]:
    """For each kept row: the digest of its file if a new file has the same size (so could be a copy), else ""."""
    sizes = {path.stat().st_size for path in new}
    files = [out / path for path in kept["path"]]
    return [_digest(path) if path.is_file() and path.stat().st_size in sizes else "" for path in files]


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _joined_groups(groups: list[str], digests: list[str]) -> list[str]:
    """The groups, merged wherever two hold byte-identical files (union-find), so that no split parts the copies."""
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while parent.setdefault(group, group) != group:
            group = parent[group] = parent[parent[group]]
        return group

    first: dict[str, str] = {}
    for group, digest in zip(groups, digests, strict=True):
        if digest:
            one, other = root(first.setdefault(digest, group)), root(group)
            parent[max(one, other)] = min(one, other)
    return [root(group) for group in groups]


def _new_table(items: list[Item], paths: list[str], digests: list[str], table: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows of one table, and the digests of their files."""
    columns = [column for column in contracts.RAW_COLUMNS if column != "path"]
    rows, row_digests = [], []
    for item, path, digest in zip(items, paths, digests, strict=True):
        if item.table == table:
            rows.append({"path": path, **{column: getattr(item, column) for column in columns}})
            row_digests.append(digest)
    return as_table(rows), row_digests


def _merged(kept: pd.DataFrame, new: pd.DataFrame, path: Path) -> pd.DataFrame:
    double = sorted(set(kept["id"]) & set(new["id"]))
    if double:
        raise UserError(f"{path} already has id '{double[0]}' from another source: rename it there first")
    parts = [frame for frame in (kept, new) if len(frame)]
    return pd.concat(parts, ignore_index=True) if parts else as_table([])


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
