"""`huesong pictures`: what an encoder's pictures are read by is measured without leaks, and fitted anew without training."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from huesong import contracts
from huesong.cli.app import app
from huesong.compose.certainty import ReadingCertainty
from huesong.compose.composer import Composer
from huesong.compose.explain import NEAREST, neighbours_of
from huesong.config import PreprocessConfig
from huesong.data.tables import as_table, write_table
from huesong.emotion.kernel import PictureKernelVA
from huesong.experiments.pictures.check import WORST, check, nearest, sheet, worst
from huesong.experiments.pictures.rated import Rated
from huesong.experiments.pupil import Pupil
from huesong.model.decoding.pictures import KernelHead
from huesong.model.folder import load_model, save_model
from huesong.model.network import PictureShape
from huesong.model.requests import Request
from huesong.music import tokens
from huesong.pictures.encoders import Encoder, Settings, load_encoder
from huesong.pictures.student import Architecture
from huesong.runtime.errors import UserError
from tests.tiny_music import modules, tokenizer

THEMES, EACH = 30, 4


def rated_of(pooled_NC: np.ndarray, va_N2: np.ndarray, theme_N: np.ndarray) -> Rated:
    ids = np.array([f"p{row}" for row in range(len(va_N2))])
    pictures = [Image.new("RGB", (40, 30), (row % 256, 90, 90)) for row in range(len(va_N2))]
    return Rated(ids, pooled_NC, va_N2, theme_N, np.full(len(ids), "train"), pictures, 1.0)


def test_a_theme_that_is_left_out_is_new() -> None:
    """Features that tell nothing but the theme read well where a picture of it is known, and not at all where none is."""
    rng = np.random.default_rng(0)
    theme = np.repeat(np.arange(THEMES), EACH)
    code, va = rng.normal(size=(THEMES, 12)), rng.uniform(-0.7, 0.7, (THEMES, 2))
    rated = rated_of(code[theme] + rng.normal(0, 0.05, (len(theme), 12)), va[theme], theme.astype(str))
    figures, _ = check(rated)
    for axis in ("valence", "arousal"):
        assert figures["pictures_left_out"][axis]["r"] > 0.8
        assert figures["themes_left_out"][axis]["r"] < 0.4
        own = figures["themes_left_out"][axis]
        assert own["r_low"] < own["r"] < own["r_high"]


def test_what_can_be_read_is_read_and_calibrated() -> None:
    rng = np.random.default_rng(1)
    pooled = rng.normal(size=(400, 6))
    va = np.clip(0.25 * pooled[:, :2] + rng.normal(0, 0.2, (400, 2)), -1, 1)
    va[7] = -np.sign(pooled[7, :2]) * 0.99  # one is rated against all others
    rated = rated_of(pooled, va, (np.arange(400) // 8).astype(str))
    figures, read = check(rated)
    assert (figures["pictures"], figures["themes"]) == (400, 50)
    for axis in ("valence", "arousal"):
        assert figures["themes_left_out"][axis]["r"] > 0.6
        assert 0.75 < figures["calibration"][axis]["within_80"] < 0.85
        assert figures["calibration"][axis]["sure_sign_right"] > 0.85
    rows = worst(rated, read)
    assert rows[0] == 7
    assert len(rows) == WORST
    assert sheet(rated, read, rows).size == (5 * 158, 4 * 172)
    first = nearest(rated, pooled[3])[0]
    assert (first.name, first.va, first.rated) == ("p3 (0)", (va[3, 0], va[3, 1]), True)
    assert first.likeness == pytest.approx(1)


# --- a data folder and a model folder ------------------------------------------------------------


def painted(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = np.full((40, 60, 3), rng.integers(0, 200), dtype=np.uint8)
    pixels[:, :30, 0] = rng.integers(0, 255)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rated pictures, a third of them of split test, whose files are no pictures: whoever opens them says so."""
    folder = tmp_path_factory.mktemp("pictures") / "data"
    (folder / "images").mkdir(parents=True)
    rows: list[dict[str, str | float]] = []
    for seed in range(120):
        painted(seed).save(folder / f"images/{seed}.png")
        split = ("train", "test", "train")[seed % 3]
        if split == "test":
            (folder / f"images/{seed}.png").write_bytes(b"no picture")
        bright = float(np.asarray(painted(seed))[0, 0, 0]) / 127.5 - 1
        rows.append({"id": f"p{seed}", "path": f"images/{seed}.png", "group": f"{split}{seed // 6}", "source": "painted",
                     "valence": 0.8 * bright, "arousal": -0.4 * bright, "label_kind": "mean_rating", "split": split,
                     "licence": "CC0-1.0", "n_raters": 50})  # fmt: skip
    write_table(as_table(rows), folder, contracts.IMAGES_CSV)
    return folder


@pytest.fixture(scope="module")
def folder(data: Path) -> Path:
    """A model folder that reads features of the project's own encoder by a linear head, as without rated pictures."""
    root = data.parent
    torch.manual_seed(0)
    student = Pupil(Architecture((8, 8, 8, 12), (0, 0, 1, 0), 8)).graduated()
    settings = Settings("student", "features", (), 64, 1, (0.45,) * 3, (0.27,) * 3)
    (root / "preprocess").mkdir()
    Encoder(settings, student).with_pooling(2).save(root / "preprocess" / contracts.ENCODER)
    tokens.save(tokenizer(), root / "preprocess" / contracts.TOKENIZER)
    tokens.write_vocabulary(tokenizer(), root / "preprocess" / contracts.VOCABULARY)
    made = modules(128, PictureShape("features", tokens=4, channels=8))
    for name, half in (("model", False), ("half", True)):
        save_model(
            root / name, network=made.network, critic=made.critic, preprocess=root / "preprocess", label=None,
            training={}, half=half,
        )  # fmt: skip
    return root / "model"


def weights(folder: Path) -> dict[str, np.ndarray]:
    """Those of a model folder's network."""
    return {name: tensor.numpy() for name, tensor in load_file(folder / contracts.MODEL_WEIGHTS).items()}


def run(*options: str) -> str:
    done = CliRunner().invoke(app, ["pictures", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_check_prints_and_writes(data: Path, folder: Path, tmp_path: Path) -> None:
    encoder = str(folder / contracts.ENCODER)
    said = run("check", encoder, "--data", str(data), "--out", str(tmp_path), "--picture", str(data / "images/0.png"))
    assert "student: 80 rated pictures" in said, "those of split test are not looked at"
    assert "near: p0 " in said
    figures = json.loads((tmp_path / "check.json").read_text())
    assert figures["themes_left_out"]["valence"]["r"] > 0.5
    assert f"valence r {figures['themes_left_out']['valence']['r']:.2f} [" in said
    assert len(figures["worst"]) == 20
    with Image.open(tmp_path / "worst.png") as page:
        assert page.format == "PNG"


def test_too_little_to_measure_is_one_line(folder: Path, tmp_path: Path, data: Path) -> None:
    (tmp_path / "images").mkdir()
    painted(0).save(tmp_path / "images/0.png")
    row = {"id": "a", "path": "images/0.png", "group": "g", "valence": 0.1, "arousal": 0.1, "label_kind": "mean_rating",
           "source": "painted", "licence": "CC0-1.0"}  # fmt: skip
    write_table(as_table([row]), tmp_path, contracts.IMAGES_CSV)
    with pytest.raises(UserError, match=r"has \d rated pictures of \d themes .* import a rated set"):
        run("check", str(folder / contracts.ENCODER), "--data", str(tmp_path))
    with pytest.raises(UserError, match="gives pixels"):
        run("check", "builtin", "--data", str(data))


def test_a_model_is_fitted_anew_without_training(data: Path, folder: Path, tmp_path: Path) -> None:
    run("fit", str(folder), "--out", str(tmp_path / "fitted"), "--data", str(data))
    before, after = load_model(folder), load_model(tmp_path / "fitted")
    encoder = load_encoder(str(folder / contracts.ENCODER), size=32, grid=2)
    rated = Rated.read(data, encoder, PreprocessConfig())
    known = [int(name[1:]) for name in rated.ids[rated.split_N == "train"]]
    assert 40 < len(known) < 80, "split val takes no part"
    assert after.network.picture_shape.rated == len(known)
    assert isinstance(after.network.picture.va_head, KernelHead)
    own, new = weights(folder), weights(tmp_path / "fitted")
    for name, array in new.items():
        if "va_head" not in name and "map_from" not in name:
            assert np.array_equal(array, own[name]), name
    pooled = encoder.encode([painted(seed) for seed in known]).astype(float).mean(axis=1)
    bright = np.array([float(np.asarray(painted(seed))[0, 0, 0]) / 127.5 - 1 for seed in known])
    head = PictureKernelVA.fit(pooled, np.stack([0.8 * bright, -0.4 * bright], axis=1), np.ones(len(known)))
    new = encoder.encode([painted(500)])
    read = after.network.encode_picture(new).va_B2[0]
    assert np.allclose(read, np.clip(head.predict(new.astype(float).mean(axis=1))[0], -1, 1), atol=1e-3)
    assert not np.allclose(after.network.picture.map_from_K2, own["picture.map_from_K2"])
    sure = ReadingCertainty.of_model(after)
    assert sure is not None
    assert sure.of(new[0])[0].low < sure.of(new[0])[0].middle
    assert ReadingCertainty.of_model(before) is None
    run("fit", str(folder), "--out", str(tmp_path / "people"), "--data", str(data), "--map", "people")
    people = load_model(tmp_path / "people").network.picture
    asked = people.map_va(head.predict(pooled).astype(np.float32))
    assert np.abs(asked.mean(axis=0) - (0.8 * bright.mean(), -0.4 * bright.mean())).max() < 0.1
    assert not np.array_equal(people.map_to_K2, own["picture.map_to_K2"])
    run("fit", str(folder.parent / "half"), "--out", str(tmp_path / "half"), "--data", str(data))
    kept = load_file(tmp_path / "half" / contracts.MODEL_WEIGHTS)
    assert {tensor.dtype for tensor in kept.values()} == {torch.float16}
    with pytest.raises(UserError, match="model"):
        run("fit", str(folder), "--out", str(folder), "--data", str(data))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").touch()
    with pytest.raises(UserError, match="files that this command did not write"):  # before anything is read
        run("fit", str(folder), "--out", str(tmp_path / "mine"), "--data", str(tmp_path / "nowhere"))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision model of transformers, as its save_pretrained writes it, with random weights."""
    import transformers as t

    torch.manual_seed(3)
    config = t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 24], depths=[1, 1], layer_type="basic")
    where = tmp_path_factory.mktemp("hub") / "tiny-resnet"
    t.ResNetModel(config).save_pretrained(where)
    return where


@pytest.mark.slow
def test_a_model_reads_by_another_encoder_without_training(
    data: Path, folder: Path, resnet: Path, tmp_path: Path
) -> None:
    (folder / contracts.MODEL_CARD).write_text("of the model before")
    run("fit", str(folder), "--encoder", str(resnet), "--out", str(tmp_path / "new"), "--data", str(data))
    after = load_model(tmp_path / "new")
    (folder / contracts.MODEL_CARD).unlink()
    assert not (tmp_path / "new" / contracts.MODEL_CARD).exists()
    assert not (tmp_path / "new" / contracts.ENCODER / contracts.STUDENT_WEIGHTS).exists()
    assert after.network.picture_shape == PictureShape(
        "features", tokens=4, channels=24, rated=after.network.picture_shape.rated
    )
    own, new = weights(folder), weights(tmp_path / "new")
    assert all(np.array_equal(new[name], own[name]) for name in new if not name.startswith("picture."))
    assert np.array_equal(new["picture.null_SD"], own["picture.null_SD"])
    # The same music as before for a request without a picture, and nothing of a picture but its valence and arousal is seen.
    asked = Request(None, 0.3, -0.2, seed=4, seconds=4.0)
    composer = Composer(tmp_path / "new")
    assert composer.encoder.name == "tiny-resnet"
    assert composer.compose([asked])[0].midi == Composer(folder).compose([asked])[0].midi
    shown = replace(asked, picture=painted(5))
    seen = after.network.encode_picture(composer.encoder.encode([painted(5)]))
    assert np.array_equal(seen.tokens_BSD, after.network.no_picture(1))
    pooled = composer.encoder.encode([painted(5)]).astype(float).mean(axis=1)
    rated = Rated.read(data, composer.encoder, PreprocessConfig())
    rows = rated.split_N == "train"
    head = PictureKernelVA.fit(rated.pooled_NC[rows], rated.va_N2[rows], np.ones(rows.sum()))
    assert composer.compose([shown])[0].predicted == pytest.approx(np.clip(head.predict(pooled)[0], -1, 1), abs=2e-3)
    # Once more, by the encoder of a model folder.
    own_encoder = ("--encoder", str(folder / contracts.ENCODER))
    run("fit", str(tmp_path / "new"), *own_encoder, "--out", str(tmp_path / "back"), "--data", str(data))
    assert load_model(tmp_path / "back").network.picture_shape.channels == 8


@pytest.mark.slow
def test_a_model_that_reads_pixels_gets_an_encoder(data: Path, folder: Path, tmp_path: Path) -> None:
    made = modules(128, PictureShape("pixels", size=64))
    pixels = tmp_path / "preprocess"
    shutil.copytree(folder.parent / "preprocess", pixels, ignore=shutil.ignore_patterns(contracts.ENCODER))
    load_encoder("builtin", size=64, grid=1).save(pixels / contracts.ENCODER)
    save_model(tmp_path / "model", network=made.network, critic=made.critic, preprocess=pixels, label=None, training={})
    with pytest.raises(UserError, match="gives pixels, which are read by a trained network alone: name another"):
        run("fit", str(tmp_path / "model"), "--out", str(tmp_path / "new"), "--data", str(data))
    encoder = str(folder / contracts.ENCODER)
    run("fit", str(tmp_path / "model"), "--encoder", encoder, "--out", str(tmp_path / "new"), "--data", str(data))
    network = load_model(tmp_path / "new").network
    assert (network.picture_shape.kind, network.picture.tokens, network.picture.cnn) == ("features", 16, None)


def test_the_rated_pictures_that_are_like_it_are_named(data: Path, folder: Path, tmp_path: Path) -> None:
    composer = Composer(folder)
    picture = painted(3)
    assert neighbours_of(composer, picture) == (), "it learnt from none"
    run("fit", str(folder), "--out", str(tmp_path / "fitted"), "--data", str(data))
    composer = Composer(tmp_path / "fitted")
    found = neighbours_of(composer, picture)
    names = json.loads((tmp_path / "fitted" / contracts.PICTURE_NAMES).read_text())["names"]
    assert len(found) == NEAREST
    assert {one.name for one in found} <= set(names)
    own = [seed for seed in range(120) if f"p{seed} (train{seed // 6})" in names]
    known = neighbours_of(composer, painted(own[5]))[0]
    assert (known.name, known.likeness) == (f"p{own[5]} (train{own[5] // 6})", pytest.approx(1, abs=1e-3))
    assert known.va == pytest.approx(
        composer.model.network.encode_picture(composer.encoder.encode([painted(own[5])])).va_B2[0].tolist(), abs=1e-3
    )
    assert [one.likeness for one in found] == sorted((one.likeness for one in found), reverse=True)
    assert str(known).startswith(f"{known.name}, likeness 1.00, read as ")
    path = tmp_path / "fitted" / contracts.PICTURE_NAMES
    for bad in ({"names": names[1:]}, {"names": [1] * len(names)}, [], {"names": ["x" * 500] * len(names)}):
        path.write_text(json.dumps(bad))
        with pytest.raises(UserError, match=r"rated_pictures\.json is damaged: run `huesong pictures fit`"):
            neighbours_of(composer, picture)
