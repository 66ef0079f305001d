"""preprocess: raw pictures and MIDI files -> validated tables, picture features, tokens.

`run` does it in one go; a cluster runs the same steps as tasks, with as many shards as the data need (shards.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from huesong import contracts
from huesong.config import PreprocessConfig
from huesong.preprocess.packing import Dropped, join_frames, join_packed, load_packed, pack_tokens, write_parquet
from huesong.preprocess.shards import (
    BASE_TOKENS,
    KEPT_VALIDATION,
    MADE_BY,
    PLACE,
    read_checked,
    shard,
    start_workers,
    validate,
)
from huesong.runtime.errors import UserError
from huesong.runtime.files import check_replaceable, read_json, replacing_folder, scratch
from huesong.runtime.progress import log
from huesong.tracking.figures import write_figures

__all__ = ["KEPT_DROPPED", "KEPT_VALIDATION", "PreprocessReport", "merge", "run"]

OWN = (contracts.METRICS, contracts.VALIDATION_JSON)
"""What a folder holds that this stage wrote."""
KEPT_DROPPED = "preprocess-dropped.csv"
"""What a run that finds nothing usable leaves beside its artifacts' folder."""


@dataclass
class PreprocessReport:
    """Figures and files worth keeping with the run."""

    metrics: dict[str, float] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def run(config: PreprocessConfig, *, data: Path, out: Path) -> PreprocessReport:
    """Check the raw data, and make picture features and tokens of it: the fan-out of a single shard.

    Args:
        config: settings.
        data: raw data: images.csv, music.csv and their files.
        out: folder of the artifacts (contracts.py), replaced as a whole. The same data and settings give the same
            bytes, whatever the number of workers.

    Raises:
        UserError: no data, bad tables, a critical finding of the validation, or nothing usable left.
    """
    check_replaceable(out, OWN, [data])
    start_workers(config)  # they import what they need while the tables are read
    with scratch(out) as folder:
        checked, only = folder / "checked", folder / "shard"
        validate(config, data=data, out=checked, refused=out.parent)
        shard(data=data, checked=checked, out=only, part=0, parts=1)
        return merge(config, checked=checked, shards=[only], out=out)


def merge(config: PreprocessConfig, *, checked: Path, shards: Sequence[Path], out: Path) -> PreprocessReport:
    """Join the shards, learn BPE on the training split of all, and write the artifacts.

    Args:
        config: settings, those of `validate`.
        checked: what `validate` wrote.
        shards: all shards, in any order.
        out: folder of the artifacts, replaced as a whole; its bytes do not depend on the number of shards.

    Raises:
        UserError: a shard is missing, or nothing usable is left.
    """
    shards = in_order(shards)
    images, music = read_checked(checked)

    def parts(name: str) -> list[Path]:
        return [folder / name for folder in shards]

    def tables(name: str) -> list[pd.DataFrame]:
        return [pd.read_parquet(path) for path in parts(name)]

    dropped = Dropped.join(parts(contracts.DROPPED))
    with replacing_folder(out, OWN, [checked, *shards]) as work:
        pictures = join_frames(tables(contracts.IMAGES_TABLE))
        require_some(pictures, "picture", contracts.IMAGES_CSV, dropped, out)
        segments = join_segments(shards)
        require_some(segments, "piece", contracts.MUSIC_CSV, dropped, out)
        write_parquet(pictures, work / contracts.IMAGES_TABLE)
        for name in (contracts.PIECE_FEATURES, contracts.PIECE_STATISTICS):
            write_parquet(join_frames(tables(name)), work / name)
        for name in (contracts.PICTURE_FEATURES, contracts.PICTURE_COLOURS, BASE_TOKENS):
            join_packed(parts(name), work / name)
        shutil.copytree(shards[0] / contracts.ENCODER, work / contracts.ENCODER)
        for name in (contracts.VALIDATION_JSON, contracts.VALIDATION_HTML):
            shutil.copyfile(checked / name, work / name)
        dropped.write(work / contracts.DROPPED)
        base_tokens = int(segments["token_count"].sum())
        pieces, tokenizer = pack_tokens(segments, work / BASE_TOKENS, work, config)
        (work / BASE_TOKENS).unlink()
        metrics = figures(images, music, pictures, pieces, dropped, base_tokens, len(tokenizer))
        write_figures(work, "preprocess", metrics)
    log_counts(metrics, out)
    names = (contracts.VALIDATION_HTML, contracts.DROPPED, contracts.METRICS, contracts.FIGURES)
    files = [out / name for name in names]
    return PreprocessReport(flat(metrics), files)


def in_order(shards: Sequence[Path]) -> list[Path]:
    """The shards by their part.

    Raises:
        UserError: they are not all parts of one whole, each once.
    """
    places = [read_json(folder / PLACE, MADE_BY) for folder in shards]
    found = sorted((place["part"], place["parts"]) for place in places)
    if not found or found != [(part, len(found)) for part in range(len(found))]:
        given = ", ".join(f"{part} of {parts}" for part, parts in found) or "none"
        raise UserError(
            f"these shards are no whole: {given}; make every part of one number of parts, and merge them all"
        )
    return [folder for _, folder in sorted(zip((place["part"] for place in places), shards, strict=True))]


def join_segments(shards: Sequence[Path]) -> pd.DataFrame:
    """The shards' segments; `token_start` points into their base tokens end to end."""
    frames, before = [], 0
    for folder in shards:
        frame = pd.read_parquet(folder / contracts.PIECES_TABLE)
        frame["token_start"] += before
        before += len(load_packed(folder / BASE_TOKENS))
        frames.append(frame)
    return join_frames(frames)


def require_some(kept: pd.DataFrame, noun: str, table: str, dropped: Dropped, out: Path) -> None:
    """Raise if nothing of a table is usable; the list of dropped files is then kept beside `out`."""
    if len(kept):
        (out.parent / KEPT_DROPPED).unlink(missing_ok=True)
        return
    lost = [row for row in dropped.rows if row[0] == Path(table).stem]
    if not lost:
        raise UserError(f"{table} lists no {noun}: import some with `huesong data import`")
    dropped.write(out.parent / KEPT_DROPPED)
    raise UserError(
        f"{table}: no usable {noun}, all {len(lost)} were dropped; the first, {lost[0][2]}: {lost[0][3]}; "
        f"{out.parent / KEPT_DROPPED} lists them all"
    )


def figures(
    images: pd.DataFrame,
    music: pd.DataFrame,
    pictures: pd.DataFrame,
    pieces: pd.DataFrame,
    dropped: Dropped,
    base_tokens: int,
    vocabulary_size: int,
) -> dict[str, Any]:
    """The stage's metrics. Seconds, notes and tokens are those of the kept segments."""
    token_count, notes = int(pieces["token_count"].sum()), int(pieces["n_notes"].sum())
    one_a_piece = pieces.drop_duplicates("piece")
    return {
        "pictures": counts(images, pictures, pictures["id"], dropped.kinds("images")),
        "pieces": counts(music, one_a_piece, one_a_piece["piece"], dropped.kinds("music")),
        "segments": {
            "kept": len(pieces),
            "by_split": by_split(pieces),
            "notes": notes,
            "seconds": round(float(pieces["seconds"].sum()), 3),
            "seconds_by_split": {
                split: round(float(pieces.loc[pieces["split"] == split, "seconds"].sum()), 3)
                for split in contracts.SPLITS
            },
        },
        "tokens": {
            "vocabulary_size": vocabulary_size,
            "count": token_count,
            "a_note": round(token_count / notes, 4),
            "base_count": base_tokens,
            "base_a_note": round(base_tokens / notes, 4),
            "compression": round(base_tokens / token_count, 4),
            "longest_segment": int(pieces["token_count"].max()),
        },
    }


def counts(read: pd.DataFrame, kept: pd.DataFrame, ids: pd.Series, reasons: dict[str, int]) -> dict[str, Any]:
    """What became of the rows of a raw table; `ids` are those of the `kept` ones."""
    return {
        "read": len(read),
        "kept": len(kept),
        "dropped": len(read) - len(kept),
        "rated": int(kept["valence"].notna().sum()),
        "by_split": by_split(kept),
        "dropped_by_split": by_split(read[~read["id"].isin(ids)]),
        "dropped_by_reason": reasons,
    }


def by_split(table: pd.DataFrame) -> dict[str, int]:
    """Number of rows in each split."""
    return {split: int((table["split"] == split).sum()) for split in contracts.SPLITS}


def flat(metrics: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested figures as `outer.inner` -> number (reasons of dropped inputs left out: their names are free text)."""
    out: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            if name != "dropped_by_reason":
                out |= flat(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = float(value)
    return out


def log_counts(metrics: dict[str, Any], out: Path) -> None:
    """Two log lines: what was kept, and what was dropped and why."""
    pictures, pieces, segments, counts = (metrics[name] for name in ("pictures", "pieces", "segments", "tokens"))
    log.info(
        "preprocess: %d pictures; %d pieces in %d segments, %.1f h, %d tokens (%.2f a note, vocabulary of %d)",
        pictures["kept"], pieces["kept"], segments["kept"], segments["seconds"] / 3600, counts["count"],
        counts["a_note"], counts["vocabulary_size"],
    )  # fmt: skip
    for noun, part in (("pictures", pictures), ("pieces", pieces)):
        if part["dropped"]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in part["dropped_by_reason"].items())
            log.warning(
                "preprocess: %d %s dropped (%s); see %s", part["dropped"], noun, reasons, out / contracts.DROPPED
            )
