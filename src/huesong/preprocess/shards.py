"""The parts of preprocess that come before the fan-out and within it: one validation, then shards of pictures and music.

    validate -> shard 0 of n, shard 1 of n, ... -> preprocess.merge

A shard is a contiguous part of the rows of both tables. Its folder holds what `preprocess.merge` joins: features and
colours of its pictures, base tokens, features and statistics of its pieces, and the list of what was dropped.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from huesong import contracts
from huesong.config import PreprocessConfig
from huesong.data.splits import assign_splits
from huesong.data.tables import kept_columns, missing_columns, parse_table
from huesong.music import tokens
from huesong.pictures.encoders import load_encoder
from huesong.preprocess.packing import Dropped, pack_pictures, read_pieces, write_parquet
from huesong.preprocess.validation import validate as check_tables
from huesong.preprocess.validation_page import NAMES
from huesong.runtime.errors import UserError
from huesong.runtime.files import read_json, replacing_folder, require, write_json
from huesong.runtime.workers import SafePool

KEPT_VALIDATION = "preprocess-validation.html"
"""What refused data leave beside the artifacts' folder: why they were refused."""
SETTINGS = "settings.json"
"""In the folder of `validate`: the `preprocess` section, so that all shards work by the same one."""
MUSIC_TABLE = "music.parquet"
"""In the folder of `validate`, beside contracts.IMAGES_TABLE: all rows of the raw table with `split` filled in."""
BASE_TOKENS = "base_tokens.npy"
"""uint16, a shard's base token ids end to end."""
PLACE = "shard.json"
"""`part` of `parts`: which rows a shard holds."""
MADE_BY = "huesong preprocess"


def start_workers(config: PreprocessConfig) -> SafePool:
    """The worker processes; the first call of a process decides what they have imported."""
    return SafePool(config.workers, preload=["huesong.preprocess.packing"])


def validate(config: PreprocessConfig, *, data: Path, out: Path, refused: Path | None = None) -> None:
    """Check settings and raw data, and fill in the splits.

    Args:
        config: the `preprocess` section of params.yaml.
        data: raw data: images.csv, music.csv and their files.
        out: folder for the settings, both tables and the report of the validation; replaced as a whole.
        refused: folder for that report if the data are refused; None: that of `out`.

    Raises:
        UserError: settings that cannot work, no data, bad tables, or a critical finding.
    """
    require_data(data)
    tables = {name: parse_table(data, table) for name, table in NAMES.items()}
    for name, table in tables.items():
        if not missing_columns(list(table)):
            music = name == "music"
            table["assigned_split"] = assign_splits(table, config.splits, config.seed, with_judge=music)
    tokens.build_tokenizer(config.tokenizer)  # settings that cannot work are refused before the long part
    with replacing_folder(out, (SETTINGS,), [data]) as work:
        check(data, tables, work, refused or out.parent, config.workers)
        for name, file in (("images", contracts.IMAGES_TABLE), ("music", MUSIC_TABLE)):
            table = tables[name].assign(split=tables[name]["assigned_split"])
            write_parquet(table[kept_columns(table)], work / file)
        write_json(work / SETTINGS, config.model_dump(mode="json"))


def shard(*, data: Path, checked: Path, out: Path, part: int, parts: int) -> None:
    """Read part `part` of `parts` of the pictures and pieces: everything but BPE, which needs all of them.

    Args:
        data: raw data.
        checked: what `validate` wrote, settings and all.
        out: folder of the shard; replaced as a whole. The same data and settings give the same bytes.
        part: from 0 to parts - 1.
        parts: how many there are; there may be more than rows.

    Raises:
        UserError: no such part, or no such encoder.
    """
    if not 0 <= part < parts:
        raise UserError(f"there is no part {part} of {parts}: parts are numbered from 0")
    images, music = read_checked(checked)
    config = PreprocessConfig.model_validate(read_json(checked / SETTINGS, MADE_BY))
    pool = start_workers(config)
    dropped = Dropped()
    with replacing_folder(out, (PLACE,), [data, checked]) as work:
        encoder = load_encoder(
            config.encoder, size=config.picture_size, grid=config.picture_grid, scales=config.picture_scales
        )
        if part == 0:  # weights are large, and the same for all
            encoder.save(work / contracts.ENCODER)
        pack_pictures(part_of(images, part, parts), data, work, encoder, config, pool, dropped)
        own = part_of(music, part, parts)
        segments = read_pieces(own, data, work, work / BASE_TOKENS, config, pool, dropped)
        write_parquet(segments, work / contracts.PIECES_TABLE)
        dropped.write(work / contracts.DROPPED)
        write_json(work / PLACE, {"part": part, "parts": parts})


def part_of(table: pd.DataFrame, part: int, parts: int) -> pd.DataFrame:
    """The rows of one part: contiguous, of equal size but for one row, the same for the same table."""
    return table.iloc[len(table) * part // parts : len(table) * (part + 1) // parts]


def read_checked(checked: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables as `validate` left them: contracts.RAW_COLUMNS and BARS, `split` filled in."""
    images, music = (require(checked / name, MADE_BY) for name in (contracts.IMAGES_TABLE, MUSIC_TABLE))
    return pd.read_parquet(images), pd.read_parquet(music)


def require_data(data: Path) -> None:
    """Raise unless the data folder and both tables are there."""
    for path in (data, data / contracts.IMAGES_CSV, data / contracts.MUSIC_CSV):
        if not path.exists():
            raise UserError(
                f"{path} is missing: run `dvc pull data.dvc` for the versioned data, or `huesong data sample --out {data}` for "
                "the sample set"
            )


def check(data: Path, tables: dict[str, pd.DataFrame], work: Path, refused: Path, workers: int) -> None:
    """Validate the data (which logs its warnings); a critical finding raises, and its page is kept in `refused`."""
    critical = check_tables(data, tables, work, workers).critical
    kept = refused / KEPT_VALIDATION
    if critical:
        shutil.copyfile(work / contracts.VALIDATION_HTML, kept)
        more = f" (and {len(critical) - 1} more)" if len(critical) > 1 else ""
        raise UserError(f"{data}/{critical[0]}{more}; see {kept}, correct the data, and run again")
    kept.unlink(missing_ok=True)
