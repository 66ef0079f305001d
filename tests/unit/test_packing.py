"""Packed arrays are plain .npy files; workers give results or reasons; BPE sees the training split only."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from symusic import Note, Score, Tempo, Track

from huesong import contracts
from huesong.config import PreprocessConfig, TokenizerConfig
from huesong.metre.align import align
from huesong.metre.bars import BarLines
from huesong.music import tokens
from huesong.music.features import FEATURE_NAMES
from huesong.music.form.analysis import analyse
from huesong.music.form.heads import head_of
from huesong.music.reading import Limits, read_score
from huesong.music.statistics import STATISTIC_NAMES
from huesong.pictures.colours import COLOUR_NAMES
from huesong.preprocess.packing import (
    Dropped,
    PackedArray,
    PictureJob,
    PieceJob,
    pack_tokens,
    read_picture,
    read_piece,
    training_rows,
    write_parquet,
)
from tests.examples import examples

SIZE = 760
"""Of a vocabulary: more than the base tokens, as many as there are pairs to join."""


def write_piece(
    path: Path, bars: int = 8, drums: bool = False, tempo: float = 120.0, key: int = 60, loud: int = 60
) -> Path:
    """Quarter notes of a broken triad over a bass, two seconds a bar at 120."""
    score = Score(480)
    score.tempos.append(Tempo(0, tempo))
    track = Track("", program=0, is_drum=drums)
    for beat in range(4 * bars):
        track.notes.append(Note(480 * beat, 470, key + (0, 4, 7, 4)[beat % 4], loud + beat % 5 * 8))
        if beat % 4 == 0:
            track.notes.append(Note(480 * beat, 1900, key - 24, 70))
    score.tracks.append(track)
    score.dump_midi(path)
    return path


def job(path: Path, style: str = "mixed", bars: str = "", **limits: float) -> PieceJob:
    return PieceJob(0, path, Limits(**limits), TokenizerConfig(), style, bars)  # type: ignore[arg-type]


def names(ids: np.ndarray) -> list[str]:
    table = tokens.base_tokens(tokens.build_tokenizer(TokenizerConfig()))
    return [name for token in ids.tolist() for name in table[token]]


# --- PackedArray ---------------------------------------------------------------------------------


@examples(40)
@given(
    st.lists(st.integers(0, 40), max_size=6),
    st.lists(st.integers(1, 4), max_size=3),
    st.sampled_from(["uint8", "uint16", "float16", "float32"]),
)
def test_packed_arrays_read_back(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], row: list[int], dtype: str
) -> None:
    path = tmp_path_factory.mktemp("packed") / "a.npy"
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 200, (count, *row)).astype(dtype) for count in counts]
    with PackedArray(path, row, dtype) as file:
        for part in parts:
            file.append(part)
    got = np.load(path, mmap_mode="r" if sum(counts) else None, allow_pickle=False)
    want = np.concatenate([*parts, np.zeros((0, *row), dtype)])
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert np.array_equal(got, want)


def test_the_header_has_room_for_many_rows(tmp_path: Path) -> None:
    file = PackedArray(tmp_path / "a.npy", (2,), "uint8")
    with file:
        empty = file._stream.tell()
        file.rows = 10**15
        file._stream.seek(0)
        file._write_header()
        assert file._stream.tell() == empty
        file.rows = 0


def test_other_rows_are_refused(tmp_path: Path) -> None:
    with PackedArray(tmp_path / "a.npy", (2,), np.uint8) as file:
        with pytest.raises(AssertionError):
            file.append(np.zeros((1, 3), np.uint8))
        with pytest.raises(AssertionError):
            file.append(np.zeros((1, 2), np.uint16))


# --- workers -------------------------------------------------------------------------------------


def test_read_picture(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    result = read_picture(PictureJob(0, tmp_path / "a.png", 10_000, 16))
    assert isinstance(result, tuple)
    assert result[0].shape == (16, 16, 3)
    assert result[0][0, 0].tolist() == [255, 0, 0]
    assert result[1].shape == (len(COLOUR_NAMES),)
    (tmp_path / "b.png").write_text("no picture")
    reason = read_picture(PictureJob(0, tmp_path / "b.png", 10_000, 16))
    assert isinstance(reason, str)
    assert reason.startswith("not a picture in JPEG")
    assert str(tmp_path) not in reason, "artifacts must not depend on where the data lie"


def test_read_piece_gives_segments_that_decode(tmp_path: Path) -> None:
    got = read_piece(job(write_piece(tmp_path / "a.mid", bars=16), segment_seconds=16.0, bars="file"))
    assert isinstance(got, list)
    assert [segment.start_s for segment in got] == [0.0, 16.0]
    tokenizer = tokens.build_tokenizer(TokenizerConfig())
    for segment in got:
        assert segment.bars == 8
        assert segment.notes == 40
        assert segment.seconds == pytest.approx(16.0, abs=0.1)
        assert tokens.decode(tokenizer, segment.ids.tolist()).note_num() == 40
        assert len(segment.features) == len(FEATURE_NAMES)
        assert len(segment.statistics) == len(STATISTIC_NAMES)
        assert np.isfinite(segment.features).all()
        assert segment.bars_from == "annotation"


def test_a_segment_begins_with_its_style_and_key_and_each_bar_with_its_head(tmp_path: Path) -> None:
    path = write_piece(tmp_path / "a.mid", bars=16)
    plan = analyse(align(read_score(path), BarLines.parse("file")).score)
    got = read_piece(job(path, bars="file", style="pop", segment_seconds=16.0))
    assert isinstance(got, list)
    for number, segment in enumerate(got):
        found = names(segment.ids)
        assert found[:2] == ["Style_pop", "Key_0.major"]
        places = [place for place, name in enumerate(found) if name == "Bar_None"]
        assert len(places) == segment.bars == 8
        for bar, place in enumerate(places):
            head = head_of(plan, 8 * number + bar)
            assert found[place + 1 : place + 2 + len(head)] == ["TimeSig_4/4", *head]
    assert names(got[1].ids)[:2] == ["Style_pop", "Key_0.major"], "of the whole piece, not of the segment"


def test_bar_lines_that_are_known_hold(tmp_path: Path) -> None:
    path = write_piece(tmp_path / "a.mid", bars=12)
    known = BarLines(1.0, ((1.0, 3, 4),), "annotation")
    got = read_piece(job(path, bars=str(known)))
    assert isinstance(got, list)
    assert [segment.bars_from for segment in got] == ["annotation"]
    assert "TimeSig_3/4" in names(got[0].ids)
    assert "TimeSig_4/4" not in names(got[0].ids)
    assert got[0].start_s == pytest.approx(-1.0), "the upbeat's bar begins before the file does"


def test_read_piece_gives_reasons(tmp_path: Path) -> None:
    assert read_piece(job(write_piece(tmp_path / "short.mid", bars=3), bars="file", min_seconds=30.0)) == (
        "too short (6.0 s of at least 30 s)"
    )
    assert read_piece(job(write_piece(tmp_path / "drums.mid", drums=True))) == "drums only"
    whole = write_piece(tmp_path / "whole.mid").read_bytes()
    (tmp_path / "cut.mid").write_bytes(whole[: len(whole) // 2])
    reason = read_piece(job(tmp_path / "cut.mid"))
    assert isinstance(reason, str)
    assert reason.startswith("truncated: ")
    assert str(tmp_path) not in reason
    missing = read_piece(job(tmp_path / "none.mid"))
    assert isinstance(missing, str)
    assert missing.startswith("cannot be read (No such file")


def test_dropped_inputs_are_counted_by_kind(tmp_path: Path) -> None:
    dropped = Dropped()
    row = pd.Series({"id": "a, b", "path": "music/a.mid"})
    for reason in ("too short (1 s of 4)", "too short (2 s of 4)", "damaged: at byte 7", "drums only"):
        dropped.add("music", row, reason)
    dropped.add("images", row, "damaged")
    assert dropped.kinds("music") == {"damaged": 1, "drums only": 1, "too short": 2}
    dropped.write(tmp_path / "dropped.csv")
    frame = pd.read_csv(tmp_path / "dropped.csv")
    assert tuple(frame.columns) == contracts.DROPPED_COLUMNS
    assert frame["reason"].tolist()[:2] == ["too short (1 s of 4)", "too short (2 s of 4)"]
    assert frame["id"][0] == "a, b"
    empty = Dropped()
    empty.write(tmp_path / "none.csv")
    assert tuple(pd.read_csv(tmp_path / "none.csv").columns) == contracts.DROPPED_COLUMNS
    assert empty.kinds("music") == {}


# --- tokens --------------------------------------------------------------------------------------


def packed(
    folder: Path, scores: list[Path], splits: list[str], seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray, bytes]:
    folder.mkdir()
    config = PreprocessConfig(seed=seed, tokenizer=TokenizerConfig(vocabulary_size=SIZE))
    rows = []
    with PackedArray(folder / "base.npy", (), np.uint16) as base:
        for path, split in zip(scores, splits, strict=True):
            segments = read_piece(PieceJob(0, path, Limits(), config.tokenizer, "mixed", ""))
            assert isinstance(segments, list)
            for segment in segments:
                rows.append((path.stem, split, base.rows, len(segment.ids)))
                base.append(segment.ids)
    table = pd.DataFrame(rows, columns=["id", "split", "token_start", "token_count"])
    table, tokenizer = pack_tokens(table, folder / "base.npy", folder, config)
    assert len(tokens.build_tokenizer(config.tokenizer).vocab) < len(tokenizer) <= SIZE
    assert np.load(folder / contracts.TOKENS).dtype == np.uint16
    return table, np.load(folder / contracts.TOKENS), (folder / contracts.TOKENIZER).read_bytes()


def test_bpe_is_learnt_from_the_training_split_only(tmp_path: Path) -> None:
    pieces = [write_piece(tmp_path / f"{n}.mid", key=50 + 3 * n, loud=40 + 15 * n) for n in range(4)]
    splits = ["train", "train", "val", "test"]
    table, ids, tokenizer = packed(tmp_path / "one", pieces, splits)
    others = [*pieces[:2], *(write_piece(tmp_path / f"x{n}.mid", bars=12, loud=20 + n) for n in range(2))]
    _, _, same = packed(tmp_path / "two", others, splits)
    assert tokenizer == same, "held-out pieces changed the tokenizer"
    _, _, changed = packed(tmp_path / "three", pieces[::-1], splits)
    assert tokenizer != changed
    # Every piece, held out or not, comes back whole from its ids.
    loaded = tokens.load(tmp_path / "one" / contracts.TOKENIZER)
    for row in table.itertuples():
        part = ids[row.token_start : row.token_start + row.token_count].tolist()
        assert tokens.decode(loaded, part).note_num() == 40
    base = np.load(tmp_path / "one" / "base.npy")
    assert len(ids) < len(base)
    assert table["token_count"].sum() == len(ids)


def test_training_rows() -> None:
    train, count = np.array([True, False, True, True, True]), np.array([5, 100, 5, 5, 5])
    assert training_rows(train, count, 100, seed=0) == [0, 2, 3, 4]
    some = training_rows(train, count, 11, seed=0)
    assert len(some) == 2
    assert some == sorted(some) == training_rows(train, count, 11, seed=0)
    assert any(training_rows(train, count, 11, seed=seed) != some for seed in range(1, 9))
    assert training_rows(~train, count, 1000, seed=0) == [1]
    assert training_rows(train & False, count, 10, seed=0) == []


def test_parquet_bytes_depend_on_the_rows_only(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["a", "b", "c"], "x": [1.0, np.nan, 3.0]})
    write_parquet(frame, tmp_path / "one")
    write_parquet(frame.iloc[[2, 0, 1]].iloc[[1, 2, 0]], tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert pd.read_parquet(tmp_path / "two").equals(frame)
