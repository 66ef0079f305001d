"""Data that nobody rated: said at once, and labelled by the model that comes with huesong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from huesong import contracts
from huesong.config import LabelConfig, Params
from huesong.data.importers.importing import import_dataset
from huesong.data.ratings import lack, unrated_note
from huesong.data.tables import read_table, write_table
from huesong.label import stage as label
from huesong.label.lent import LentLabellers, read_pictures
from huesong.preprocess import stage as preprocess
from huesong.register.shipped import PLACE
from huesong.runtime.errors import UserError
from tests.conftest import TINY
from tests.tiny_labels import music, pictures, unlabel, write_preprocess

CONFIG = LabelConfig(folds=2, bootstrap=100, pairs_per_image=2)


def unrated(folder: Path) -> Path:
    """Artifacts of preprocess in which nothing is rated."""
    images, rows, colours = pictures(36)
    pieces, features = music(60)
    every = [unlabel(table, np.full(len(table), True)) for table in (images, pieces)]
    return write_preprocess(folder, every[0], rows, colours, every[1], features)


def test_label_says_at_once_how_many_ratings_it_needs_and_where(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        label.run(CONFIG, preprocess=unrated(tmp_path / "preprocess"), out=tmp_path / "label")
    text = str(refused.value)
    assert "0 rated pictures in 0 groups of splits train and val, and at least 12 in 2 are needed" in text
    assert "0 rated segments of music in 0 groups of splits train and val" in text
    assert "label.labels_from" in text
    assert "\n" not in text
    assert not (tmp_path / "label").exists()


def test_only_ratings_of_the_named_splits_count() -> None:
    table = pictures(72)[0]
    assert lack(table, "pictures", ("train", "val")) == ""
    assert lack(table, "pictures", ("val",)) == ""  # 12 of the 72
    assert lack(table.iloc[:66], "pictures", ("val",)).startswith("11 rated pictures in 11 groups of split val,")
    assert "in 1 groups" in lack(table.assign(group="one"), "pictures")
    assert unrated_note(table, music(60)[0]) == ""


def test_import_says_that_nothing_is_rated_and_how_many_must_be(tmp_path: Path, tiny_data: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for number, path in enumerate(sorted((tiny_data / "images").rglob("*.jpg"))[:3]):
        shutil.copy(path, own / f"{number}.jpg")
    report = str(import_dataset("folder", own, tmp_path / "data"))
    assert "3 files, 0 rated" in report
    assert "0 rated pictures in 0 groups, and at least 12 in 2 are needed" in report
    assert "split judge for `huesong evaluate`" in report


def test_a_damaged_folder_lends_nothing(tmp_path: Path) -> None:
    shutil.copytree(PLACE, tmp_path / "model")
    (tmp_path / "model" / contracts.PIECE_LABELLER).write_bytes(b"changed")
    with pytest.raises(UserError, match=rf"{re.escape(contracts.PIECE_LABELLER)} is damaged"):
        LentLabellers.of(str(tmp_path / "model"))
    with pytest.raises(UserError, match="is missing"):
        LentLabellers.of(str(tmp_path / "nothing"))
    assert LentLabellers.of("") is None


@pytest.mark.slow
def test_the_shipped_model_labels_what_nobody_rated_and_a_model_is_trained_on_it(
    tiny_data: Path, tmp_path: Path
) -> None:
    from huesong.model.folder import load_model
    from huesong.train import stage as train

    data = shutil.copytree(tiny_data, tmp_path / "data")
    for name in (contracts.IMAGES_CSV, contracts.MUSIC_CSV):
        table = read_table(data, name)
        write_table(unlabel(table, np.full(len(table), True)), data, name)
    tiny = {**TINY["preprocess"], "encoder": str(PLACE / contracts.ENCODER), "picture_grid": 4, "picture_scales": 2}
    params = Params.model_validate({**TINY, "preprocess": tiny, "label": {**TINY["label"], "labels_from": str(PLACE)}})
    folders = {name: tmp_path / name for name in ("preprocess", "label")}
    preprocess.run(params.preprocess, data=data, out=folders["preprocess"])
    label.run(params.label, preprocess=folders["preprocess"], out=folders["label"])

    shipped = load_model(PLACE)
    rows = np.load(folders["preprocess"] / contracts.PICTURE_FEATURES)
    labels = pd.read_parquet(folders["label"] / contracts.IMAGE_LABELS)
    assert set(labels["origin"]) == {"predicted"}
    assert labels["weight"].between(0.01, 0.5).all()
    seen = shipped.network.encode_picture(rows).va_B2
    np.testing.assert_allclose(labels[["valence", "arousal"]], seen, atol=0.02)
    assert json.loads((folders["label"] / contracts.FIGURES).read_text())["pairs"] > 0
    digest = (PLACE / contracts.PIECE_LABELLER).read_bytes()
    assert (folders["label"] / contracts.PIECE_LABELLER).read_bytes() == digest

    alone = params.train.model_copy(update={"reinforce": params.train.reinforce.model_copy(update={"steps": 0})})
    train.run(alone, **folders, out=tmp_path / "train", checkpoints=tmp_path / "checkpoints")
    own = load_model(tmp_path / "train" / contracts.MODEL)
    np.testing.assert_allclose(own.network.encode_picture(rows).va_B2, seen, atol=1e-3)


def test_the_error_of_a_lent_head_is_that_of_leaving_pictures_out() -> None:
    from huesong.emotion.kernel import PictureKernelVA

    _, rows, _ = pictures(40)
    pooled, va = rows.astype(np.float64).mean(axis=1), pictures(40)[0][["valence", "arousal"]].to_numpy()
    weights = np.ones(len(va))
    head = PictureKernelVA.fit(pooled, va, weights)
    buffers = {
        "va_head.mean_C": head.mean_F, "va_head.scale_C": head.scale_F, "va_head.known_KC": head.known_KF,
        "va_head.dual_K2": head.dual_K2, "va_head.bias_2": head.centre,
    }  # fmt: skip
    found, sd = read_pictures(buffers, rows)
    np.testing.assert_allclose(found, np.clip(head.predict(pooled), -1, 1), atol=1e-6)
    left_out = [
        PictureKernelVA.fit(np.delete(pooled, k, 0), np.delete(va, k, 0), weights[1:]).predict(pooled[k : k + 1])[0]
        for k in range(len(va))
    ]
    np.testing.assert_allclose(sd, np.sqrt(((np.array(left_out) - va) ** 2).mean(axis=0)), rtol=0.1)
