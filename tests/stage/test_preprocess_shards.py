"""The fan-out of preprocess: however many shards, the same bytes; what is missing is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from huesong import contracts
from huesong.config import PreprocessConfig
from huesong.preprocess.packing import Dropped, join_packed, load_packed, write_parquet
from huesong.preprocess.shards import PLACE, part_of, shard, validate
from huesong.preprocess.stage import KEPT_VALIDATION, in_order, merge, run
from huesong.runtime.errors import UserError
from huesong.runtime.files import folder_digest

pytestmark = pytest.mark.slow

CONFIG = PreprocessConfig.model_validate(
    {"picture_size": 32, "workers": 2, "segment_seconds": 10.0, "tokenizer": {"vocabulary_size": 760}}
)
PICTURES, PIECES = 8, 10


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pictures and pieces, of which one each is damaged: one in the first part, one in the last."""
    data = Path(shutil.copytree(tiny_data, tmp_path_factory.mktemp("shards") / "data"))
    for name, count in ((contracts.IMAGES_CSV, PICTURES), (contracts.MUSIC_CSV, PIECES)):
        table = pd.read_csv(data / name, dtype=str, keep_default_na=False)
        table.iloc[:: len(table) // count].head(count).to_csv(data / name, index=False)
    (data / pd.read_csv(data / contracts.IMAGES_CSV)["path"].iloc[-1]).write_bytes(b"no picture")
    (data / pd.read_csv(data / contracts.MUSIC_CSV)["path"].iloc[0]).write_bytes(b"no music")
    return data


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """The artifacts of the stage in one go."""
    out = data.parent / "whole"
    run(CONFIG, data=data, out=out)
    return out


def fan_out(config: PreprocessConfig, data: Path, folder: Path, parts: int) -> list[Path]:
    """The folders of all shards; what `validate` wrote lies beside them."""
    validate(config, data=data, out=folder / "checked")
    shards = [folder / f"shard-{part}" for part in range(parts)]
    for part, out in enumerate(shards):
        shard(data=data, checked=folder / "checked", out=out, part=part, parts=parts)
    return shards


def digests(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("parts", [1, 3, pytest.param(PIECES + 1, marks=pytest.mark.slow)])
def test_the_bytes_do_not_depend_on_the_number_of_shards(data: Path, whole: Path, tmp_path: Path, parts: int) -> None:
    shards = fan_out(CONFIG, data, tmp_path, parts)
    report = merge(CONFIG, checked=tmp_path / "checked", shards=shards[::-1], out=tmp_path / "out")
    ours, theirs = digests(tmp_path / "out"), digests(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if ours[name] != theirs[name]] == []
    assert report.metrics["pictures.kept"] == PICTURES - 1
    assert report.metrics["pieces.kept"] == PIECES - 1
    assert pd.read_csv(tmp_path / "out" / contracts.DROPPED)["table"].tolist() == ["images", "music"]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_frozen_backbone_gives_the_same_bytes_and_is_in_the_first_shard_only(data: Path, tmp_path: Path) -> None:
    import transformers

    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    config.image_size = 64
    transformers.ResNetModel(config).save_pretrained(tmp_path / "tiny")
    settings = CONFIG.model_copy(update={"encoder": str(tmp_path / "tiny"), "picture_grid": 2})
    shards = fan_out(settings, data, tmp_path, 3)
    assert [(folder / contracts.ENCODER).exists() for folder in shards] == [True, False, False]
    merge(settings, checked=tmp_path / "checked", shards=shards, out=tmp_path / "out")
    run(settings, data=data, out=tmp_path / "whole")
    assert np.load(tmp_path / "out" / contracts.PICTURE_FEATURES).dtype == np.float16
    assert folder_digest(tmp_path / "out") == folder_digest(tmp_path / "whole")


@pytest.mark.parametrize("rows", [0, 1, 7, 12])
@pytest.mark.parametrize("parts", [1, 3, 12, 20])
def test_parts_are_contiguous_and_hold_every_row_once(rows: int, parts: int) -> None:
    table = pd.DataFrame({"row": range(rows)})
    found = [part_of(table, part, parts)["row"].tolist() for part in range(parts)]
    assert [row for rows_of_part in found for row in rows_of_part] == list(range(rows))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_a_shard_that_is_missing_or_of_another_fan_out_is_refused(tmp_path: Path) -> None:
    def of(part: int, parts: int) -> Path:
        folder = tmp_path / f"{part} of {parts}"
        folder.mkdir(exist_ok=True)
        (folder / PLACE).write_text(json.dumps({"part": part, "parts": parts}))
        return folder

    assert in_order([of(2, 3), of(0, 3), of(1, 3)]) == [of(0, 3), of(1, 3), of(2, 3)]
    for given in ([of(0, 3), of(2, 3)], [of(0, 2), of(1, 3)], [of(0, 1), of(0, 1)], []):
        with pytest.raises(UserError, match="these shards are no whole"):
            in_order(given)
    with pytest.raises(UserError, match="no part 3 of 3"):
        shard(data=tmp_path, checked=tmp_path, out=tmp_path / "out", part=3, parts=3)


def test_refused_data_keep_their_page_and_start_no_shard(data: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(data, tmp_path / "data"))
    table = pd.read_csv(broken / contracts.MUSIC_CSV, dtype=str, keep_default_na=False)
    table["path"] = "nowhere.mid"
    table.to_csv(broken / contracts.MUSIC_CSV, index=False)
    with pytest.raises(UserError, match=KEPT_VALIDATION):
        validate(CONFIG, data=broken, out=tmp_path / "checked")
    assert (tmp_path / KEPT_VALIDATION).is_file()
    assert not (tmp_path / "checked").exists()
    with pytest.raises(UserError, match="run `huesong preprocess` first"):
        shard(data=broken, checked=tmp_path / "checked", out=tmp_path / "shard", part=0, parts=1)


def test_nothing_usable_in_all_shards_is_one_line(data: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(data, tmp_path / "data"))
    shards = fan_out(CONFIG, broken, tmp_path, 2)
    for folder in shards:
        table = pd.read_parquet(folder / contracts.IMAGES_TABLE)
        write_parquet(table.iloc[:0], folder / contracts.IMAGES_TABLE)
    with pytest.raises(UserError, match=r"images\.csv: no usable picture, all 1 were dropped") as raised:
        merge(CONFIG, checked=tmp_path / "checked", shards=shards, out=tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_packed_arrays_and_dropped_lists_are_joined(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.uint16).reshape(6, 2)
    for name, part in (("a", rows[:0]), ("b", rows[:4]), ("c", rows[4:]), ("d", rows[:0])):
        np.save(tmp_path / f"{name}.npy", part)
    assert join_packed([tmp_path / f"{name}.npy" for name in "abcd"], tmp_path / "all.npy") == 6
    assert np.array_equal(load_packed(tmp_path / "all.npy"), rows)
    join_packed([tmp_path / "a.npy", tmp_path / "d.npy"], tmp_path / "none.npy")
    assert load_packed(tmp_path / "none.npy").shape == (0, 2)
    first, second = Dropped([("images", "007", "a, b", 'cut\n"off"'), ("music", "NA", "", "r")]), Dropped()
    second.rows.append(("images", "x", "y", "z"))
    first.write(tmp_path / "1.csv")
    second.write(tmp_path / "2.csv")
    joined = Dropped.join([tmp_path / "1.csv", tmp_path / "2.csv"])
    assert joined.rows == [first.rows[0], second.rows[0], first.rows[1]]
