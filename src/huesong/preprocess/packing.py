"""Pictures and pieces into packed arrays: one file each, however many there are, written as the results stream in.

What touches foreign files runs in worker processes (runtime/workers.py); results come in table order, so the bytes of the
artifacts do not depend on the number of workers. Only small numbers a picture or segment stay in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from miditok import REMI

from huesong import contracts
from huesong.config import PreprocessConfig, TokenizerConfig
from huesong.metre.align import align
from huesong.metre.bars import BarLines
from huesong.music import tokens
from huesong.music.features import FEATURE_NAMES, features
from huesong.music.form import header
from huesong.music.form.analysis import analyse
from huesong.music.form.heads import heads_of
from huesong.music.reading import Limits, Unusable, clean, read_score
from huesong.music.statistics import STATISTIC_NAMES, statistics
from huesong.pictures.colours import COLOUR_NAMES, colours
from huesong.pictures.decode import decode
from huesong.pictures.encoders import Encoder, squash
from huesong.runtime.errors import UserError
from huesong.runtime.progress import track
from huesong.runtime.workers import Crashed, SafePool

PICTURES_AT_ONCE = 64
ROWS_AT_ONCE = 4096
"""Rows that joining packed arrays copies at once."""
BPE_TRAINING_TOKENS = 2_000_000
"""Base tokens of the training split that BPE is learnt from; more changes next to no merge."""


class PackedArray:
    """A .npy file that grows along its first axis; readable with np.load(mmap_mode="r") once closed."""

    def __init__(self, path: Path, row_shape: Sequence[int], dtype: Any) -> None:
        self.path, self.row_shape, self.dtype = path, tuple(row_shape), np.dtype(dtype)
        self.rows = 0

    def __enter__(self) -> PackedArray:
        self._stream: IO[bytes] = self.path.open("wb")
        self._write_header()
        return self

    def append(self, rows: np.ndarray) -> None:
        """Add rows [n, *row_shape]."""
        assert (rows.shape[1:], rows.dtype) == (self.row_shape, self.dtype)
        self._stream.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            body = self._stream.tell()
            self._stream.seek(0)
            self._write_header()
            assert self._stream.tell() == self._start, "numpy pads a header so that its first axis can grow in place"
            assert body == self._start + self.rows * int(np.prod(self.row_shape)) * self.dtype.itemsize
        self._stream.close()

    def _write_header(self) -> None:
        np.lib.format.write_array_header_1_0(
            self._stream,
            {
                "descr": np.lib.format.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (self.rows, *self.row_shape),
            },
        )
        self._start = self._stream.tell()


def join_packed(parts: Sequence[Path], out: Path) -> int:
    """Write the rows of packed arrays [n, *row_shape] end to end into `out`; how many there are in all."""
    arrays = [load_packed(path) for path in parts]
    with PackedArray(out, arrays[0].shape[1:], arrays[0].dtype) as file:
        for rows_NX in arrays:
            for start in range(0, len(rows_NX), ROWS_AT_ONCE):
                file.append(rows_NX[start : start + ROWS_AT_ONCE])
        return file.rows


def load_packed(path: Path) -> np.ndarray:
    """A packed array, memory-mapped; one without rows, which no system maps, as it is."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        return np.load(path, allow_pickle=False)


@dataclass
class Dropped:
    """Inputs that could not be used, each with its reason."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, table: str, row: Any, reason: str) -> None:
        """`row`: a row of `table`, which is `images` or `music`."""
        self.rows.append((table, row.id, row.path, reason))

    def write(self, path: Path) -> None:
        """CSV with contracts.DROPPED_COLUMNS, in table order."""
        frame = pd.DataFrame(self.rows, columns=list(contracts.DROPPED_COLUMNS))
        frame.to_csv(path, index=False, lineterminator="\n")

    @classmethod
    def join(cls, paths: Sequence[Path]) -> Dropped:
        """What `write` wrote for consecutive parts of the tables, in table order again."""
        frames = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths]
        rows = [row for frame in frames for row in frame.itertuples(index=False, name=None)]
        return cls(sorted(rows, key=lambda row: row[0]))  # stable: only the pictures of all parts go before the music

    def kinds(self, table: str) -> dict[str, int]:
        """How many of `table` were dropped for each kind of reason (the reason up to its figures)."""
        kinds = pd.Series([_kind(reason) for name, _, _, reason in self.rows if name == table], dtype=object)
        return {str(kind): int(count) for kind, count in sorted(kinds.value_counts().items())}


def _kind(reason: str) -> str:
    return reason.partition(" (")[0].partition(":")[0].strip()


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table; the same rows give the same bytes, however many frames they came from."""
    table = pa.Table.from_pandas(frame.reset_index(drop=True), preserve_index=False)
    pq.write_table(table.combine_chunks(), path, compression="zstd")


def join_frames(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several tables end to end; empty ones, whose columns may have lost their types, count for nothing."""
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


# --- pictures ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PictureJob:
    """What a worker needs to know of a picture."""

    row: int
    path: Path
    max_pixels: int
    side: int


def read_picture(job: PictureJob) -> tuple[np.ndarray, np.ndarray] | str:
    """Pixels uint8 [side, side, 3] and colour statistics float32 [K]; or why the picture is dropped."""
    try:
        image = decode(job.path, job.max_pixels)
    except UserError as error:
        return _reason(error, job.path)
    return squash(image, job.side), colours(image)


def pack_pictures(
    images: pd.DataFrame,
    data: Path,
    out: Path,
    encoder: Encoder,
    config: PreprocessConfig,
    pool: SafePool,
    dropped: Dropped,
) -> pd.DataFrame:
    """Write PICTURE_FEATURES, PICTURE_COLOURS and IMAGES_TABLE of all readable pictures; return that table."""
    jobs = (
        PictureJob(row, data / path, config.max_pixels, encoder.side)
        for row, path in enumerate(images["path"].tolist())
    )
    kept: list[int] = []
    with (
        PackedArray(out / contracts.PICTURE_FEATURES, encoder.shape, encoder.dtype) as features_file,
        PackedArray(out / contracts.PICTURE_COLOURS, (len(COLOUR_NAMES),), np.float32) as colours_file,
    ):
        held: list[tuple[np.ndarray, np.ndarray]] = []

        def flush() -> None:
            if held:
                features_file.append(encoder.encode_pixels(np.stack([pixels for pixels, _ in held])))
                colours_file.append(np.stack([numbers for _, numbers in held]))
                held.clear()

        for job, result in track(pool.map(read_picture, jobs), "pictures", total=len(images)):
            if isinstance(result, tuple):
                kept.append(job.row)
                held.append(result)
            else:
                reason = result.reason if isinstance(result, Crashed) else result
                dropped.add("images", images.iloc[job.row], reason)
            if len(held) == PICTURES_AT_ONCE:
                flush()
        flush()
    table = images.iloc[kept].reset_index(drop=True)
    write_parquet(table, out / contracts.IMAGES_TABLE)
    return table


# --- music ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PieceJob:
    """What a worker needs to know of a piece."""

    row: int
    path: Path
    limits: Limits
    tokenizer: TokenizerConfig
    style: str
    bars: str
    """BarLines as text; empty: not known."""


@dataclass(frozen=True)
class ReadSegment:
    """A worker's result for one segment; `ids` are base tokens, uint16 [T]."""

    ids: np.ndarray
    start_s: float
    seconds: float
    notes: int
    bars: int
    features: tuple[float, ...]
    statistics: tuple[float, ...]
    bars_from: str


@lru_cache(maxsize=1)
def _base_tokenizer(config: TokenizerConfig) -> REMI:
    return tokens.build_tokenizer(config)


def read_piece(job: PieceJob) -> list[ReadSegment] | str:
    """The segments of a MIDI file; or why the file is dropped."""
    try:
        aligned = align(read_score(job.path), BarLines.parse(job.bars) if job.bars else None)
        segments = clean(aligned.score, job.limits)
    except Unusable as error:
        return str(error)
    except UserError as error:
        return _reason(error, job.path)
    plan, read = analyse(aligned.score), []
    beginning = header.beginning(job.style, plan.tonic, plan.mode)
    for segment in segments:
        of_features, of_statistics = features(segment.score), statistics(segment.score)
        heads = heads_of(plan, segment.first_bar, segment.bars)
        ids = tokens.encode_base(_base_tokenizer(job.tokenizer), segment.score, heads, beginning)
        read.append(
            ReadSegment(
                np.array(ids, dtype=np.uint16),
                segment.start_s - aligned.later_s,
                segment.seconds,
                segment.notes,
                segment.bars,
                tuple(float(of_features[name]) for name in FEATURE_NAMES),
                tuple(float(of_statistics[name]) for name in STATISTIC_NAMES),
                aligned.bars.source,
            )
        )
    return [segment for segment in read if len(segment.ids)] or "no token is left"


def read_pieces(
    music: pd.DataFrame, data: Path, out: Path, base: Path, config: PreprocessConfig, pool: SafePool, dropped: Dropped
) -> pd.DataFrame:
    """Write base tokens into `base`, and PIECE_FEATURES and PIECE_STATISTICS; return the table of segments.

    Its `token_start` and `token_count` point into `base` until `pack_tokens` replaces them.
    """
    limits = Limits(
        config.min_notes, config.min_seconds, config.max_seconds, config.segment_seconds, config.max_polyphony
    )
    known = music["bars"].fillna("").tolist() if "bars" in music else [""] * len(music)
    styles = [header.STYLE_OF_SOURCE.get(source, "mixed") for source in music["source"].tolist()]
    jobs = (
        PieceJob(row, data / path, limits, config.tokenizer, style, bars)
        for row, (path, style, bars) in enumerate(zip(music["path"].tolist(), styles, known, strict=True))
    )
    bars_from: list[str] = []
    rows, numbers, count = (
        array("q"),
        array("d"),
        array("q"),
    )  # by segment: row in `music`; figures; number in its piece
    with PackedArray(base, (), np.uint16) as ids_file:
        for job, result in track(pool.map(read_piece, jobs), "pieces", total=len(music)):
            if isinstance(result, Crashed | str):
                reason = result.reason if isinstance(result, Crashed) else result
                dropped.add("music", music.iloc[job.row], reason)
                continue
            for number, segment in enumerate(result):
                rows.append(job.row)
                count.append(number)
                bars_from.append(segment.bars_from)
                numbers.extend((segment.start_s, segment.seconds, segment.notes, segment.bars, ids_file.rows))
                numbers.extend((len(segment.ids), *segment.features, *segment.statistics))
                ids_file.append(segment.ids)
    columns = ["segment_start_s", "seconds", "n_notes", "n_bars", "token_start", "token_count"]
    width = len(columns) + len(FEATURE_NAMES) + len(STATISTIC_NAMES)
    figures = np.frombuffer(numbers, dtype=np.float64).reshape(-1, width) if rows else np.zeros((0, width))
    table = music.iloc[list(rows)].reset_index(drop=True)
    table["piece"] = table["id"]
    table["id"] = [f"{piece}#{number}" for piece, number in zip(table["piece"].tolist(), count, strict=True)]
    for place, name in enumerate(columns):
        values = figures[:, place]
        table[name] = values if name.endswith("_s") or name == "seconds" else values.astype(np.int64)
    table["bars_from"] = bars_from
    of_features = slice(len(columns), len(columns) + len(FEATURE_NAMES))
    for name, names, part in (
        (contracts.PIECE_FEATURES, FEATURE_NAMES, figures[:, of_features]),
        (contracts.PIECE_STATISTICS, STATISTIC_NAMES, figures[:, of_features.stop :]),
    ):
        frame = pd.DataFrame(part, columns=list(names))
        frame.insert(0, "id", table["id"])
        write_parquet(frame, out / name)
    return table


def pack_tokens(table: pd.DataFrame, base: Path, out: Path, config: PreprocessConfig) -> tuple[pd.DataFrame, REMI]:
    """Learn BPE on the training split, write TOKENS, PIECES_TABLE, TOKENIZER and VOCABULARY.

    Args:
        table: segments, with `token_start` and `token_count` in `base`.
        base: file of base token ids.
        out: folder of the artifacts.
        config: tokenizer settings and the seed that samples what BPE is learnt from.

    Returns:
        PIECES_TABLE and the tokenizer.
    """
    base_ids = np.load(base, mmap_mode="r", allow_pickle=False)
    start_N, count_N = table["token_start"].to_numpy(), table["token_count"].to_numpy()

    def ids(row: int) -> list[int]:
        part: list[int] = base_ids[start_N[row] : start_N[row] + count_N[row]].tolist()
        return part

    tokenizer = tokens.build_tokenizer(config.tokenizer)
    chosen = training_rows(table["split"].to_numpy() == "train", count_N, BPE_TRAINING_TOKENS, config.seed)
    tokens.train_bpe(tokenizer, (ids(row) for row in chosen), config.tokenizer.vocabulary_size)
    starts, counts = np.zeros_like(start_N), np.zeros_like(count_N)
    with PackedArray(out / contracts.TOKENS, (), np.uint16) as file:
        for row in track(range(len(table)), "byte pair encoding"):
            packed = np.array(tokens.apply_bpe(tokenizer, ids(row)), dtype=np.uint16)
            starts[row], counts[row] = file.rows, len(packed)
            file.append(packed)
    table = table.assign(token_start=starts, token_count=counts)
    write_parquet(table, out / contracts.PIECES_TABLE)
    tokens.save(tokenizer, out / contracts.TOKENIZER)
    tokens.write_vocabulary(tokenizer, out / contracts.VOCABULARY)
    return table, tokenizer


def training_rows(train_N: np.ndarray, count_N: np.ndarray, limit: int, seed: int) -> list[int]:
    """Rows of the training split, in table order: all, or a seeded sample of about `limit` tokens."""
    rows = np.flatnonzero(train_N)
    if count_N[rows].sum() > limit:
        shuffled = np.random.default_rng(seed).permutation(rows)
        rows = np.sort(shuffled[np.cumsum(count_N[shuffled]) <= limit])
    return [int(row) for row in rows]


def _reason(error: UserError, path: Path) -> str:
    """The error without the path, which stands in a column of its own (and depends on where the data lie)."""
    return str(error).removeprefix(str(path)).lstrip(": ").removeprefix("is ").replace(str(path), path.name)
