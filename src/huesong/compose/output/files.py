"""The files of a piece: their names, and which files they may replace.

OUT.mid, OUT.wav, OUT-roll.png or others that are asked for, and OUT.json, which says what the piece was composed for and
lists the digests of the others. Nothing of the user's is lost: a file is replaced only if a record beside it says that it is
an earlier piece, unchanged since; and the files that are read for a piece (picture, primer, soundfont) never are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from huesong import contracts
from huesong.compose.output.formats import FORMATS, RECORD_KEY, WRITING, Writing
from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256

ENDINGS = {kind: f".{kind}" for kind in FORMATS} | {"png": "-roll.png"}
"""What is added to the name of a piece, by kind of file."""
OWN = tuple(f".{kind}" for kind in FORMATS)
"""Suffixes that a user may give with the name."""
FOREIGN = (".midi", ".m4a", ".aac", ".opus", ".aiff", ".mp4", ".svg", ".xml", ".mxl")
"""What else sounds like a piece; no such file is written."""
LONGEST_NAME = 255
"""Bytes that file systems allow."""


def place(out: str | None, picture: Path) -> Path:
    """The name that a user asks for: OUT, in the folder OUT/ (made if need be) after the picture, or after the picture."""
    if out is None:
        return Path(picture.stem)
    return Path(out) / picture.stem if out.endswith(("/", os.sep)) else Path(out)


def output_names(
    pictures: Sequence[Path], outs: Sequence[Path], read: Sequence[Path | None] = (), how: Writing = WRITING
) -> list[Path]:
    """Where each piece goes, without ending.

    Args:
        pictures: the pictures.
        outs: an output name for each; an existing folder gets files named after the picture.
        read: other files that are read for the pieces.
        how: which kinds of file, and whether files that are not an earlier piece are replaced, too.

    Raises:
        UserError: two pieces would share a name, a place cannot be written, or a file would be lost.
    """
    inputs = {real(path) for path in (*pictures, *read) if path is not None}
    names: list[Path] = []
    for picture, out in zip(pictures, outs, strict=True):
        name = out / picture.stem if out.is_dir() else out
        if name.suffix.lower() in FOREIGN:
            raise UserError(
                f"{out}: no {name.suffix} is written, but {', '.join(OWN)}: leave the suffix out of --out, and name it with "
                "--format"
            )
        if name.suffix.lower() in OWN:
            name = name.with_suffix("")
        if not name.name:
            raise UserError(f"{out} is not a name for a piece: give one with --out")
        if real(name) in {real(other) for other in names}:
            raise UserError(f"two pieces would be written to {name}: give each picture a name of its own")
        targets = targets_of(name, how.formats)
        check_place([*targets_of(name, tuple(ENDINGS)).values()])
        check_targets([*targets.values()], inputs, how.force)
        names.append(name)
    return names


def real(path: Path) -> Path:
    """Where a path leads; links that go round in circles lead to themselves (`Path.resolve` raises)."""
    return Path(os.path.realpath(path))


def check_place(targets: Sequence[Path]) -> None:
    """Refuse files of one folder that no file system, or this one, lets be written, before anything slow happens.

    Raises:
        UserError: a name that is too long, or a folder that is none or may not be written to.
    """
    longest = max(targets, key=lambda target: len(os.fsencode(target.name)))
    if (length := len(os.fsencode(longest.name))) > LONGEST_NAME:
        raise UserError(f"{longest} would be a name of {length} bytes: give one of {LONGEST_NAME} at most with --out")
    above = next(folder for folder in longest.absolute().parents if os.path.lexists(folder))
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"cannot write {longest}: {above} is not a folder to write to; choose another one with --out")


def targets_of(name: Path, formats: Sequence[str]) -> dict[str, Path]:
    """The files of a piece of that name by kind, in the order of ENDINGS; the record is the last."""
    return {kind: name.with_name(name.name + ending) for kind, ending in ENDINGS.items() if kind in (*formats, "json")}


def check_targets(targets: Sequence[Path], inputs: set[Path], force: bool, what: str = "piece") -> None:
    """Refuse files that would replace one that is not ours to replace.

    Args:
        targets: the files; the last one is the record, which says of an earlier one what is ours.
        inputs: what is read, by `real`; it is never replaced, nor is a file of a model folder.
        force: whether other files may be.
        what: to call what is made.

    Raises:
        UserError: names the file.
    """
    record = earlier_record(targets[-1])
    for target in targets:
        if target.is_dir():
            raise UserError(f"{target} is a folder: choose another name with --out")
        if real(target) in inputs:
            raise UserError(
                f"{target} is read for this {what} and would be replaced by it: name another one with --out"
            )
        if not os.path.lexists(target):
            continue
        own = record is not None if target == targets[-1] else unchanged(target, record)
        if not own and (model := model_folder_of(target)):
            raise UserError(
                f"{target} belongs to the model in {model} and is never replaced: name another one with --out"
            )
        if not own and not force:
            raise UserError(
                f"{target} is already there and is no unchanged {what} of huesong: name another one with --out, or replace "
                "it with --force"
            )


def model_folder_of(path: Path) -> Path | None:
    """The model folder that a file lies in, at its top or in its picture encoder; None if in none."""
    return next(
        (
            folder
            for folder in path.absolute().parents[:2]
            if all((folder / name).is_file() for name in (contracts.MODEL_CONFIG, contracts.VOCABULARY))
        ),
        None,
    )


def earlier_record(path: Path) -> dict[str, Any] | None:
    """The record of an earlier piece; None if there is none."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and RECORD_KEY in found and isinstance(found.get("files"), dict) else None


def unchanged(path: Path, record: dict[str, Any] | None) -> bool:
    """Whether a file is the one that the record lists, byte for byte."""
    return record is not None and path.is_file() and listed(record).get(path.name) == sha256(path)


def listed(record: dict[str, Any]) -> dict[str, str]:
    """Name -> digest of the files of a record, and of those that pieces before it left beside them."""
    before = record.get("earlier_files")
    return (before if isinstance(before, dict) else {}) | record["files"]


def earlier_files(path: Path, replaced: Iterable[Path]) -> dict[str, dict[str, str]]:
    """What the next record at `path` says of an earlier piece's other files: they are still huesong's to replace."""
    record, names = earlier_record(path), {each.name for each in replaced}
    if record is None:
        return {}
    kept = {n: d for n, d in listed(record).items() if n not in names and unchanged(path.parent / n, record)}
    return {"earlier_files": kept} if kept else {}
