"""The stage from raw files to packed artifacts: what is kept lines up, what is not is named, and nothing is lost."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from symusic import Note, Score, Tempo, Track

from huesong import contracts
from huesong.config import PreprocessConfig
from huesong.data.tables import as_table, write_table
from huesong.music import tokens
from huesong.music.features import FEATURE_NAMES
from huesong.music.statistics import STATISTIC_NAMES
from huesong.pictures.encoders import Encoder
from huesong.preprocess.stage import KEPT_DROPPED, KEPT_VALIDATION, run
from huesong.runtime.errors import UserError
from huesong.runtime.files import folder_digest

CONFIG = PreprocessConfig.model_validate(
    {"picture_size": 32, "workers": 2, "segment_seconds": 10.0, "tokenizer": {"vocabulary_size": 760}}
)
PICTURES, PIECES = 16, 24


def write_piece(path: Path, number: int, bars: int = 8) -> None:
    rng = np.random.default_rng(number)
    score = Score(480)
    score.tempos.append(Tempo(0, 80 + 4 * number))
    track = Track("", program=0)
    for beat in range(4 * bars):
        track.notes.append(Note(480 * beat, 460, 60 + int(rng.integers(0, 12)), int(rng.integers(40, 100))))
        if beat % 4 == 0:
            track.notes.append(Note(480 * beat, 1900, 36 + int(rng.integers(0, 7)), 70))
    score.tracks.append(track)
    score.dump_midi(path)


def row(name: str, path: str, group: str, number: int, rated: bool = True) -> dict[str, str | float]:
    row: dict[str, str | float] = {"id": name, "path": path, "group": group, "source": "test", "licence": "CC0-1.0"}
    if rated:
        va = np.random.default_rng([7, number]).uniform(-0.9, 0.9, 2).round(2)
        row |= {"valence": float(va[0]), "arousal": float(va[1]), "n_raters": 6.0, "label_kind": "mean_rating"}
    return row


@pytest.fixture(scope="module")
def clean_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw data without a fault: pictures in pairs of one group, pieces of about 20 s, a third of them unrated."""
    data = tmp_path_factory.mktemp("raw") / "data"
    (data / "images").mkdir(parents=True)
    (data / "music").mkdir()
    images, music = [], []
    for number in range(PICTURES):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        name = f"picture {number}"
        Image.fromarray(pixels).resize((64, 48)).save(data / "images" / f"{number}.png")
        images.append(row(name, f"images/{number}.png", f"g{number // 2}", number))
    for number in range(PIECES):
        write_piece(data / "music" / f"{number}.mid", number)
        music.append(row(f"piece {number}", f"music/{number}.mid", f"g{number // 2}", number, rated=number % 6 < 4))
    write_table(as_table(images), data, contracts.IMAGES_CSV)
    write_table(as_table(music), data, contracts.MUSIC_CSV)
    return data


@pytest.fixture
def data(clean_data: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(clean_data, tmp_path / "data"))


@pytest.fixture(scope="module")
def done(clean_data: Path) -> Path:
    """Artifacts of the clean data."""
    out = clean_data.parent / "artifacts" / "preprocess"
    run(CONFIG, data=clean_data, out=out)
    return out


def test_every_artifact_is_there_and_nothing_else(done: Path) -> None:
    names = {
        contracts.IMAGES_TABLE, contracts.PIECES_TABLE, contracts.PIECE_FEATURES, contracts.PIECE_STATISTICS,
        contracts.TOKENS, contracts.TOKENIZER, contracts.VOCABULARY, contracts.PICTURE_FEATURES,
        contracts.PICTURE_COLOURS, contracts.ENCODER, contracts.DROPPED, contracts.VALIDATION_JSON,
        contracts.VALIDATION_HTML, contracts.FIGURES, contracts.METRICS,
    }  # fmt: skip
    assert {path.name for path in done.iterdir()} == names
    assert [path.name for path in done.parent.iterdir()] == [done.name]


def test_tables_and_arrays_line_up(done: Path, clean_data: Path) -> None:
    images = pd.read_parquet(done / contracts.IMAGES_TABLE)
    assert tuple(images.columns) == contracts.RAW_COLUMNS
    pixels = np.load(done / contracts.PICTURE_FEATURES, mmap_mode="r")
    assert pixels.shape == (PICTURES, 32, 32, 3)
    assert np.load(done / contracts.PICTURE_COLOURS).shape[0] == PICTURES
    encoder = Encoder.load(done / contracts.ENCODER)
    for place in (0, 5, PICTURES - 1):
        with Image.open(clean_data / images["path"][place]) as image:
            assert np.array_equal(encoder.encode([image])[0], pixels[place])

    pieces = pd.read_parquet(done / contracts.PIECES_TABLE)
    extra = ("piece", "segment_start_s", "seconds", "n_notes", "n_bars", "token_start", "token_count", "bars_from")
    assert set(pieces.columns) == {*contracts.RAW_COLUMNS, *extra}
    assert pieces["piece"].nunique() == PIECES
    assert set(pieces["bars_from"]) <= {"file", "shift", "tracked", "none"}
    assert len(pieces) > PIECES, "20 s were to be cut into segments of 10 s"
    assert pieces["id"].tolist()[:3] == ["piece 0#0", "piece 0#1", "piece 1#0"]
    for name, names in ((contracts.PIECE_FEATURES, FEATURE_NAMES), (contracts.PIECE_STATISTICS, STATISTIC_NAMES)):
        table = pd.read_parquet(done / name)
        assert tuple(table.columns) == ("id", *names)
        assert table["id"].tolist() == pieces["id"].tolist()
    ids = np.load(done / contracts.TOKENS, mmap_mode="r")
    assert ids.dtype == np.uint16
    assert pieces["token_start"].tolist() == [0, *np.cumsum(pieces["token_count"])[:-1]]
    assert pieces["token_count"].sum() == len(ids)
    tokenizer = tokens.load(done / contracts.TOKENIZER)
    for piece in pieces.itertuples():
        part = ids[piece.token_start : piece.token_start + piece.token_count].tolist()
        assert tokens.decode(tokenizer, part).note_num() == piece.n_notes
    vocabulary = json.loads((done / contracts.VOCABULARY).read_text())
    assert len(vocabulary["tokens"]) == 700 == len(tokenizer)


def test_splits_hold_groups_together(done: Path) -> None:
    for name, splits in (
        (contracts.IMAGES_TABLE, {"train", "val", "test"}),
        (contracts.PIECES_TABLE, {*contracts.SPLITS}),
    ):
        table = pd.read_parquet(done / name)
        assert set(table["split"]) == splits
        assert (table.groupby("group")["split"].nunique() == 1).all()
    unrated = pd.read_parquet(done / contracts.PIECES_TABLE).groupby("group")
    assert all(set(part["split"]) <= {"train", "val"} for _, part in unrated if part["valence"].isna().all())


def test_metrics_count_what_was_kept(done: Path) -> None:
    metrics = json.loads((done / contracts.FIGURES).read_text())
    pieces = pd.read_parquet(done / contracts.PIECES_TABLE)
    assert metrics["pictures"]["kept"] == sum(metrics["pictures"]["by_split"].values()) == PICTURES
    assert metrics["pieces"]["kept"] == PIECES
    assert metrics["segments"]["by_split"] == {
        split: int((pieces["split"] == split).sum()) for split in contracts.SPLITS
    }
    assert metrics["segments"]["seconds"] == pytest.approx(pieces["seconds"].sum(), abs=0.01)
    counts = metrics["tokens"]
    assert counts["compression"] == pytest.approx(counts["base_count"] / counts["count"], abs=1e-3)
    assert counts["compression"] > 1
    assert counts["a_note"] == pytest.approx(counts["count"] / pieces["n_notes"].sum(), abs=1e-3)


def test_the_bytes_do_not_depend_on_workers_or_place(data: Path, done: Path, tmp_path: Path) -> None:
    report = run(CONFIG.model_copy(update={"workers": 1}), data=data, out=tmp_path / "again")
    assert folder_digest(tmp_path / "again") == folder_digest(done)
    assert report.metrics["pieces.kept"] == PIECES
    assert all(isinstance(value, float) for value in report.metrics.values())
    assert all(path.exists() for path in report.files)


def test_bad_files_are_dropped_with_their_reasons(data: Path, tmp_path: Path) -> None:
    (data / "images" / "3.png").write_bytes((data / "images" / "3.png").read_bytes()[:300])
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(data / "images" / "4.png", format="GIF", save_all=True, append_images=frames[1:])
    whole = (data / "music" / "0.mid").read_bytes()
    (data / "music" / "0.mid").write_bytes(whole[: len(whole) // 2])
    write_piece(data / "music" / "1.mid", 1, bars=1)
    out = tmp_path / "out"
    run(CONFIG, data=data, out=out)
    dropped = pd.read_csv(out / contracts.DROPPED)
    assert dropped["path"].tolist() == ["images/3.png", "images/4.png", "music/0.mid", "music/1.mid"]
    assert dropped["table"].tolist() == ["images", "images", "music", "music"]
    for reason, start in zip(
        dropped["reason"], ("damaged or truncated", "animated", "truncated", "too few notes"), strict=True
    ):
        assert reason.startswith(start)
    images, pieces = pd.read_parquet(out / contracts.IMAGES_TABLE), pd.read_parquet(out / contracts.PIECES_TABLE)
    assert len(images) == PICTURES - 2 == len(np.load(out / contracts.PICTURE_FEATURES))
    assert "picture 3" not in set(images["id"])
    assert pieces["piece"].nunique() == PIECES - 2
    metrics = json.loads((out / contracts.FIGURES).read_text())
    assert metrics["pieces"]["dropped_by_reason"] == {"too few notes": 1, "truncated": 1}
    assert sum(metrics["pieces"]["dropped_by_split"].values()) == 2


def damage_all(data: Path, pattern: str) -> None:
    for path in data.glob(pattern):
        path.write_bytes(b"MThd" if path.suffix == ".mid" else b"GIF89a")


@pytest.mark.parametrize(("pattern", "noun"), [("images/*", "picture"), ("music/*", "piece")])
def test_nothing_usable_is_an_error_and_loses_nothing(
    data: Path, done: Path, tmp_path: Path, pattern: str, noun: str
) -> None:
    out = tmp_path / "artifacts" / "preprocess"
    shutil.copytree(done, out)
    damage_all(data, pattern)
    with pytest.raises(UserError) as caught:
        run(CONFIG, data=data, out=out)
    message = str(caught.value)
    assert "\n" not in message
    if f"no usable {noun}" in message:
        assert len(pd.read_csv(out.parent / KEPT_DROPPED)) in (PICTURES, PIECES)
    else:  # the validation may already have refused it
        assert KEPT_VALIDATION in message
        assert (out.parent / KEPT_VALIDATION).exists()
    assert folder_digest(out) == folder_digest(done), "a refused run must leave the former artifacts"
    assert not list(out.parent.glob(".*")), "and no temporary folder"


def test_missing_data_names_the_remedy(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is missing: run `dvc pull data.dvc` .* `huesong data sample --out"):
        run(CONFIG, data=tmp_path / "nowhere", out=tmp_path / "out")
    (data / contracts.MUSIC_CSV).unlink()
    with pytest.raises(UserError, match=r"music\.csv is missing: run `dvc pull data.dvc`"):
        run(CONFIG, data=data, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_that_cannot_work_are_refused_first(data: Path, tmp_path: Path) -> None:
    small = CONFIG.model_copy(
        update={"tokenizer": CONFIG.tokenizer.model_copy(update={"tempos": 128, "vocabulary_size": 300})}
    )
    with pytest.raises(UserError, match=r"vocabulary_size = 300 is less than"):
        run(small, data=data, out=tmp_path / "out")
    with pytest.raises(UserError, match=r"encoder '\./none': no such folder"):
        run(CONFIG.model_copy(update={"encoder": "./none"}), data=data, out=tmp_path / "out")


def both(data: Path, name: str, change: Callable[[pd.DataFrame], None]) -> None:
    frame = pd.read_csv(data / name)
    change(frame)
    frame.to_csv(data / name, index=False)


def test_a_failed_validation_keeps_its_page(data: Path, done: Path, tmp_path: Path) -> None:
    """A missing file or a leaking group is found before anything long runs."""
    out = tmp_path / "artifacts" / "preprocess"
    shutil.copytree(done, out)

    def leak(frame: pd.DataFrame) -> None:
        frame["split"] = ""
        frame["path"] = "music/0.mid"

    both(data, contracts.MUSIC_CSV, leak)
    with pytest.raises(UserError, match=KEPT_VALIDATION):
        run(CONFIG, data=data, out=out)
    assert (out.parent / KEPT_VALIDATION).read_text().startswith("<!doctype html>")
    assert folder_digest(out) == folder_digest(done)


def test_a_frozen_backbone_fills_float16_features(data: Path, tmp_path: Path) -> None:
    import transformers

    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    config.image_size = 64
    transformers.ResNetModel(config).save_pretrained(tmp_path / "tiny")
    settings = CONFIG.model_copy(update={"encoder": str(tmp_path / "tiny"), "picture_grid": 2})
    run(settings, data=data, out=tmp_path / "out")
    features = np.load(tmp_path / "out" / contracts.PICTURE_FEATURES, mmap_mode="r")
    assert features.dtype == np.float16
    assert features.shape == (PICTURES, 4, 12)
    encoder = Encoder.load(tmp_path / "out" / contracts.ENCODER)  # as compose will, from the model folder
    with Image.open(data / "images" / "2.png") as image:
        assert np.allclose(encoder.encode([image.convert("RGB")])[0], features[2], atol=2e-3)


@pytest.mark.real_data
def test_real_music_and_pictures(tmp_path: Path) -> None:
    """A few files of each real set, through the stage."""
    root = os.environ.get("HUESONG_REAL_DATA")
    if not root:
        pytest.skip("HUESONG_REAL_DATA is not set")
    data = tmp_path / "data"
    images, music = [], []
    for kind, rows, suffix, number in (("images", images, "*.jpg", 12), ("music", music, "*.mid", 15)):
        folders = sorted({path.parent for path in Path(root).glob(f"{kind}*/**/{suffix}")})
        assert folders
        for folder in folders:
            for path in sorted(folder.glob(suffix))[:number]:
                name = f"{kind}/{len(rows)}{path.suffix}"
                (data / kind).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, data / name)
                rows.append(row(f"{folder.parent.name} {path.stem[:20]} {len(rows)}", name, str(len(rows)), len(rows)))
    write_table(as_table(images), data, contracts.IMAGES_CSV)
    write_table(as_table(music), data, contracts.MUSIC_CSV)
    run(PreprocessConfig(), data=data, out=tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / contracts.FIGURES).read_text())
    assert metrics["pictures"]["dropped"] == 0
    assert metrics["pieces"]["dropped"] <= 0.05 * len(music)
    assert metrics["tokens"]["compression"] > 1.2
    assert 10 < metrics["segments"]["seconds"] / metrics["segments"]["kept"] < 50
