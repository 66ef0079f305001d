"""Weights to pass on: small, checked, with a card; and composing with them where there is no champion."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from huesong import contracts
from huesong.cli.app import app
from huesong.compose.composer import Composer, compose
from huesong.config import Params, SamplingConfig
from huesong.experiments.pupil import Pupil
from huesong.model.folder import load_model, save_model
from huesong.model.network import PictureShape
from huesong.music import tokens
from huesong.pictures import efficientnet_lite
from huesong.pictures.encoders import PACKAGED, Encoder, Settings, write_settings
from huesong.pictures.student import Architecture
from huesong.register import shipped
from huesong.register.life import promotion
from huesong.register.model_logging import log_model, new_run
from huesong.register.registry import GATE, RATED_PICTURES, Registry, Version
from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256
from tests.conftest import Finished
from tests.stores import new_database
from tests.tiny_music import modules, tokenizer

DATA = [{"source": "pop909", "kind": "music segments", "items": 3, "licence": "MIT", "labels": "none"}]
METRICS = {"n": 12, "valence_ccc": 0.51, "valence_ccc_low": 0.4, "valence_ccc_high": 0.6, "arousal_r": 0.8123}
FIGURES = {"oasis": {"val_pictures": 70.0, "student_valence_r": 0.345, "teacher_valence_r": 0.456}}


def encoder() -> Encoder:
    torch.manual_seed(0)
    student = Pupil(Architecture((8, 8, 8, 12), (0, 0, 1, 0), 8)).graduated()
    student.figures = FIGURES
    return Encoder(Settings("student", "features", (), 112, 1, (0.45,) * 3, (0.27,) * 3), student).with_pooling(2)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """artifacts/{train,evaluate} of a random model with the project's own encoder."""
    root = tmp_path_factory.mktemp("shipped")
    for name in ("preprocess", "train", "evaluate"):
        (root / name).mkdir()
    tokens.save(tokenizer(), root / "preprocess" / contracts.TOKENIZER)
    tokens.write_vocabulary(tokenizer(), root / "preprocess" / contracts.VOCABULARY)
    encoder().save(root / "preprocess" / contracts.ENCODER)
    made = modules(128, PictureShape("features", tokens=4, channels=8))
    save_model(
        root / "train" / contracts.MODEL, network=made.network, critic=made.critic, preprocess=root / "preprocess",
        label=None, training={"data": DATA},
    )  # fmt: skip
    (root / "evaluate" / contracts.FIGURES).write_text(json.dumps(METRICS))
    return root


@pytest.fixture(scope="module")
def exported(artifacts: Path) -> Path:
    out = artifacts / "out" / shipped.NAME
    size = shipped.export(artifacts / "train", artifacts / "evaluate", out)
    assert size == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return out


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), (200, 90, 20)).save(tmp_path / "sunset.png")
    return tmp_path / "sunset.png"


def copy_of(artifacts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifacts / "train", tmp_path / "train"))


def test_the_export_is_the_model_in_float16(artifacts: Path, exported: Path) -> None:
    for name in (contracts.MODEL_WEIGHTS, contracts.CRITIC_WEIGHTS, f"{contracts.ENCODER}/{contracts.STUDENT_WEIGHTS}"):
        full = load_file(artifacts / "train" / contracts.MODEL / name)
        half = load_file(exported / name)
        assert full.keys() == half.keys()
        for key, tensor in half.items():
            assert tensor.dtype == (torch.float16 if full[key].is_floating_point() else full[key].dtype)
            assert torch.allclose(tensor.float(), full[key].float(), rtol=1e-3, atol=1e-6)
    assert load_model(exported).network.embedding_VD.dtype == np.float32
    rows = [Image.new("RGB", (30, 30), "navy")]
    own = Encoder.load(exported / contracts.ENCODER).encode(rows).astype(float)
    assert np.allclose(own, encoder().encode(rows).astype(float), atol=2e-2)
    assert own.std() > 0.01


def test_the_packages_encoder_is_named_not_copied(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where version 0.1 left a copy of its weights in the model folder."""
    train = copy_of(artifacts, tmp_path)
    model = train / contracts.MODEL
    settings = Settings(PACKAGED, "features", (4, 8), 256, 2)
    (model / contracts.ENCODER / contracts.STUDENT_WEIGHTS).rename(model / contracts.ENCODER / "model.safetensors")
    monkeypatch.setattr(efficientnet_lite, "SAVED_SHA256", sha256(model / contracts.ENCODER / "model.safetensors"))
    write_settings(settings, model / contracts.ENCODER)
    shipped.export(train, artifacts / "evaluate", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / contracts.ENCODER).iterdir()] == ["encoder.json"]
    assert (
        Encoder.load(tmp_path / "out" / contracts.ENCODER).settings.weights
        == efficientnet_lite.VARIANTS[PACKAGED].sha256
    )
    load_model(tmp_path / "out")  # which checks every file's digest
    assert shipped.verified(tmp_path / "out") == tmp_path / "out"
    assert "EfficientNet-Lite2 with ImageNet weights (Apache-2.0)" in (tmp_path / "out/README.md").read_text()


def test_the_card_says_what_was_measured(exported: Path) -> None:
    card = (exported / contracts.MODEL_CARD).read_text()
    for word in ("license: cc-by-nc-sa-4.0", "pop909", "MIT", "0.51 [0.4, 0.6]", "0.8123", "## Limits", "n = 12"):
        assert word in card, word
    row = next(line for line in card.splitlines() if line.startswith("| oasis"))
    assert row == "| oasis | 70 | 0.345 | 0.456 | - | - |"


def test_sums_are_those_of_every_file(exported: Path) -> None:
    listed = {line.split("  ", 1)[1] for line in (exported / shipped.SUMS).read_text().splitlines()}
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert listed == files - {shipped.SUMS}
    assert shipped.verified(exported) == exported


@pytest.mark.parametrize(
    "name", [contracts.MODEL_WEIGHTS, contracts.MODEL_CARD, f"{contracts.ENCODER}/{contracts.STUDENT_WEIGHTS}"]
)
def test_a_damaged_file_is_named(exported: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / shipped.NAME
    shutil.copytree(exported, folder)
    good = (folder / name).read_bytes()
    (folder / name).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match=f"{name} is missing or damaged .*git checkout"):
        shipped.verified(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing or damaged"):
        shipped.verified(folder)
    (folder / shipped.SUMS).write_text("no digest\n")
    with pytest.raises(UserError, match=f"{shipped.SUMS} is missing or damaged"):
        shipped.verified(folder)


def test_what_may_not_be_passed_on_is_refused(artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(train: Path) -> str:
        with pytest.raises(UserError) as caught:
            shipped.export(train, artifacts / "evaluate", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    train = copy_of(artifacts, tmp_path)
    config = train / contracts.MODEL / contracts.MODEL_CONFIG
    good = json.loads(config.read_text())
    for licence in ("none stated: research use only", "not stated", "Unknown", ""):
        unstated = {**DATA[0], "source": "eimg", "licence": licence}
        config.write_text(json.dumps({**good, "training": {"data": [*DATA, unstated]}}))
        assert "trained on eimg, whose licence is not stated" in refused(train)
    config.write_text(json.dumps(good))
    weights = train / contracts.MODEL / contracts.MODEL_WEIGHTS
    tensors = load_file(weights)
    save_file({**tensors, "embedding.weight": tensors["embedding.weight"] + 1e6}, weights)
    assert "'embedding.weight' holds values that float16 cannot" in refused(train)
    (train / contracts.MODEL / contracts.ENCODER / contracts.STUDENT_WEIGHTS).unlink()
    assert "neither a package's encoder nor the project's own" in refused(train)
    assert "huesong train" in refused(tmp_path / "nowhere")
    monkeypatch.setattr(shipped, "MOST_BYTES", 100_000)
    assert "more than the 0 MB that are shipped" in refused(artifacts / "train")


def test_compose_without_a_champion_uses_it(
    artifacts: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    place = tmp_path / "models" / shipped.NAME
    monkeypatch.setattr(shipped, "PLACE", place)
    runner, options = CliRunner(), [str(picture), "--out", "piece", "--seconds", "4", "--candidates", "1"]
    absent = runner.invoke(app, ["compose", *options])
    assert isinstance(absent.exception, UserError)
    assert str(place) in str(absent.exception)
    assert "--model" in str(absent.exception)
    paths = ["--train", str(artifacts / "train"), "--evaluate", str(artifacts / "evaluate")]
    written = runner.invoke(app, ["export", str(place), *paths])
    assert written.exit_code == 0, written.output
    made = runner.invoke(app, ["compose", *options])
    assert made.exit_code == 0, made.output
    assert (tmp_path / "piece.mid").stat().st_size > 0
    said = "huesong-small, the shipped one (the registry has no champion)"
    assert f"model      {said}" in made.output
    assert json.loads((tmp_path / "piece.json").read_text())["model"] == said
    named = runner.invoke(app, ["compose", *options, "--model", str(place)])
    assert f"model      {place}" in named.output
    (place / shipped.SUMS).unlink()
    with pytest.raises(UserError, match="SHA256SUMS is missing"):
        shipped.default_model()
    assert Composer(place).scorer is None, "the model folder itself is whole"


def test_a_champion_comes_first_if_it_learnt_from_rated_photographs(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A champion of painted pictures, too, made every photograph sad: `make run` used to leave one."""

    def champion(rows: list[dict[str, object]], tags: dict[str, str]) -> Version:
        folder = tmp_path / f"model-{len(rows)}{len(tags)}" / "model"
        folder.mkdir(parents=True)
        (folder / contracts.MODEL_CONFIG).write_text(json.dumps({"training": {"data": rows}}))
        (folder.parent / "README.md").write_text("card")
        run = new_run(uri, "shipped", tmp_path, {})
        registry = Registry(uri=uri)
        made = registry.create(
            log_model(folder, folder.parent / "README.md", {}, uri, run, {}), {GATE: "passed", **tags}, "card"
        )
        promotion.promote(registry, made.version)
        return made

    uri = new_database(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(shipped, "PLACE", exported)
    assert shipped.default_model() == (exported, "huesong-small, the shipped one (the registry has no champion)")
    painted = {"kind": "pictures", "labels": "construction", "items": 128, "source": "sample", "licence": "CC0-1.0"}
    music = {**painted, "kind": "music segments", "labels": "mean_rating"}
    for rows, tags in (([painted, music], {}), ([painted], {RATED_PICTURES: "0"})):
        version = champion(rows, tags)
        folder, said = shipped.default_model()
        assert folder == exported
        assert f"{version.uri} was trained on no photograph that people rated; --model {version.uri}" in said
    rated = [
        painted,
        {**painted, "labels": "mean_rating", "items": 30},
        {**painted, "labels": "mean_slider", "items": 3},
    ]
    version = champion(rated, {})
    folder, said = shipped.default_model()
    assert said == f"{version.uri}, the champion, trained on 33 photographs that people rated"
    assert json.loads((folder / contracts.MODEL_CONFIG).read_text()) == {"training": {"data": rated}}
    champion([painted, painted, painted], {RATED_PICTURES: "7"})
    assert "trained on 7 photographs" in shipped.default_model()[1]


def test_a_model_of_the_settings_as_they_stand_can_be_passed_on(
    finished: Finished, picture: Path, tmp_path: Path
) -> None:
    """The tiny world has params.yaml's own encoder, and its data are the sample set's."""
    assert finished.world.params.preprocess.encoder == Params().preprocess.encoder
    out = tmp_path / "exported"
    assert shipped.export(finished.world.train, finished.evaluate, out) < shipped.MOST_BYTES
    card = (out / contracts.MODEL_CARD).read_text()
    assert "license: cc0-1.0" in card
    assert "non-commercial" not in card
    assert "own small CNN, which learnt with it" in card
    made = compose(picture, tmp_path / "piece", out, config=SamplingConfig(seconds=4))
    own = compose(picture, tmp_path / "own", finished.world.train / contracts.MODEL, config=SamplingConfig(seconds=4))
    assert made.piece.predicted == pytest.approx(own.piece.predicted, abs=0.01)
