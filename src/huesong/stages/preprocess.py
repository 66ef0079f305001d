"""preprocess: raw pictures and MIDI files -> validated tables, picture features, tokens."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from huesong import contracts
from huesong.artifacts import replacing_folder, write_json
from huesong.config import PreprocessConfig
from huesong.datasets.packing import Dropped, pack_pictures, pack_tokens, read_pieces
from huesong.datasets.pool import SafePool
from huesong.datasets.splits import assign_splits
from huesong.datasets.tables import read_table
from huesong.datasets.validation import validate
from huesong.errors import UserError
from huesong.music import tokens
from huesong.pictures.encoders import load_encoder
from huesong.progress import log

KEPT_VALIDATION = "preprocess-validation.html"
KEPT_DROPPED = "preprocess-dropped.csv"
"""What a refused run leaves beside its artifacts' folder: why it was refused."""


@dataclass
class PreprocessReport:
    """Figures and files worth keeping with the run."""

    metrics: dict[str, float] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def run(config: PreprocessConfig, *, data: Path, out: Path) -> PreprocessReport:
    """Check the raw data, and make picture features and tokens of it.

    Args:
        config: settings.
        data: raw data: images.csv, music.csv and their files.
        out: folder of the artifacts (contracts.py), replaced as a whole. The same data and settings give the same
            bytes, whatever the number of workers.

    Raises:
        UserError: no data, bad tables, a critical finding of the validation, or nothing usable left.
    """
    require_data(data)
    images, music = read_table(data, contracts.IMAGES_CSV), read_table(data, contracts.MUSIC_CSV)
    images["split"] = assign_splits(images, config.splits, config.seed, with_judge=False)
    music["split"] = assign_splits(music, config.splits, config.seed, with_judge=True)
    tokens.build_tokenizer(config.tokenizer)  # settings that cannot work are refused before the long part
    pool = SafePool(config.workers, preload=["huesong.datasets.packing"])
    dropped = Dropped()
    with replacing_folder(out) as work:
        check(data, images, music, work, out, config.workers)
        encoder = load_encoder(config.encoder, size=config.picture_size, grid=config.picture_grid)
        pictures = pack_pictures(images, data, work, encoder, config, pool, dropped)
        require_some(pictures, "picture", data / contracts.IMAGES_CSV, dropped, out)
        encoder.save(work / contracts.ENCODER)
        base = work / "base_tokens.npy"
        segments = read_pieces(music, data, work, base, config, pool, dropped)
        require_some(segments, "piece", data / contracts.MUSIC_CSV, dropped, out)
        base_tokens = int(segments["token_count"].sum())
        pieces, tokenizer = pack_tokens(segments, base, work, config)
        base.unlink()
        dropped.write(work / contracts.DROPPED)
        metrics = figures(images, music, pictures, pieces, dropped, base_tokens, len(tokenizer))
        write_json(work / contracts.METRICS, metrics)
    tell(metrics, out)
    files = [out / name for name in (contracts.VALIDATION_HTML, contracts.DROPPED, contracts.METRICS)]
    return PreprocessReport(flat(metrics), files)


def require_data(data: Path) -> None:
    """Raise unless the data folder and both tables are there."""
    for path in (data, data / contracts.IMAGES_CSV, data / contracts.MUSIC_CSV):
        if not path.exists():
            raise UserError(
                f"{path} is missing: run `dvc pull` for the versioned data, or `huesong data sample --out {data}` for "
                "the sample set"
            )


def check(data: Path, images: pd.DataFrame, music: pd.DataFrame, work: Path, out: Path, workers: int) -> None:
    """Validate the data (which logs its warnings); a critical finding raises, and its page is kept beside `out`."""
    result = validate(data, images, music, work, workers)
    kept = out.parent / KEPT_VALIDATION
    if result.critical:
        shutil.copyfile(work / contracts.VALIDATION_HTML, kept)
        more = f" (and {len(result.critical) - 1} more)" if len(result.critical) > 1 else ""
        raise UserError(
            f"{data} failed validation: {result.critical[0]}{more}; see {kept}, correct the data, and run again"
        )
    kept.unlink(missing_ok=True)


def require_some(kept: pd.DataFrame, noun: str, table: Path, dropped: Dropped, out: Path) -> None:
    """Raise if nothing of a table is usable; the list of dropped files is then kept beside `out`."""
    if len(kept):
        (out.parent / KEPT_DROPPED).unlink(missing_ok=True)
        return
    lost = [row for row in dropped.rows if row[0] == table.stem]
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
        "pictures": {
            "read": len(images),
            "kept": len(pictures),
            "dropped": len(images) - len(pictures),
            "rated": int(pictures["valence"].notna().sum()),
            "by_split": by_split(pictures),
            "dropped_by_split": by_split(images[~images["id"].isin(pictures["id"])]),
            "dropped_by_reason": dropped.kinds("images"),
        },
        "pieces": {
            "read": len(music),
            "kept": len(one_a_piece),
            "dropped": len(music) - len(one_a_piece),
            "rated": int(one_a_piece["valence"].notna().sum()),
            "by_split": by_split(one_a_piece),
            "dropped_by_split": by_split(music[~music["id"].isin(one_a_piece["piece"])]),
            "dropped_by_reason": dropped.kinds("music"),
        },
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


def tell(metrics: dict[str, Any], out: Path) -> None:
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
