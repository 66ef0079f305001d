from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from huesong import contracts
from huesong.config import CriticConfig
from huesong.model.critic import Critic
from huesong.model.folder import load_model, load_modules, save_model
from huesong.model.network import HuesongNetwork, PictureShape
from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256
from tests.older import format_1
from tests.tiny_training import CRITIC, NETWORK, SIZE, write_artifacts

SHAPE = PictureShape("pixels", size=32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    preprocess, label = write_artifacts(tmp_path)
    torch.manual_seed(0)
    network, critic = HuesongNetwork(NETWORK, SIZE, SHAPE), Critic(CRITIC, SIZE)
    out = tmp_path / "model"
    save_model(out, network=network, critic=critic, preprocess=preprocess, label=label, training={"steps": 3})
    return out


def change_config(folder: Path, **changes: object) -> None:
    path = folder / contracts.MODEL_CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def renew_digest(folder: Path, name: str) -> None:
    files = json.loads((folder / contracts.MODEL_CONFIG).read_text())["files"]
    change_config(folder, files=files | {name: sha256(folder / name)})


def test_a_saved_model_comes_back_the_same(folder: Path) -> None:
    torch.manual_seed(0)
    network, critic = HuesongNetwork(NETWORK, SIZE, SHAPE).eval(), Critic(CRITIC, SIZE).eval()
    model = load_modules(folder)
    ids, va = torch.randint(0, SIZE, (2, 9)), torch.rand(2, 2)
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    tokens = network.encode_picture(pixels).tokens_BSD
    assert torch.equal(model.network.encode_picture(pixels).tokens_BSD, tokens)
    assert torch.equal(model.network(ids, tokens, va), network(ids, tokens, va))
    assert torch.equal(model.critic(ids), critic(ids))
    assert model.vocabulary.size == SIZE
    assert model.config["training"] == {"steps": 3}
    assert not model.network.training
    assert not any(p.requires_grad for p in [*model.network.parameters(), *model.critic.parameters()])
    assert model.device.type == "cpu"


def test_it_holds_all_that_composing_needs(folder: Path) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        contracts.MODEL_CONFIG, contracts.MODEL_WEIGHTS, contracts.CRITIC_WEIGHTS, contracts.VOCABULARY,
        contracts.TOKENIZER, contracts.PIECE_LABELLER, f"{contracts.ENCODER}/encoder.json",
    }  # fmt: skip
    assert names - {contracts.MODEL_CONFIG} == set(json.loads((folder / contracts.MODEL_CONFIG).read_text())["files"])


def test_half_precision_is_half_as_large_and_nearly_the_same(tmp_path: Path) -> None:
    preprocess, label = write_artifacts(tmp_path)
    network, critic = HuesongNetwork(NETWORK, SIZE, SHAPE).eval(), Critic(CRITIC, SIZE)
    given = {"network": network, "critic": critic, "preprocess": preprocess, "label": label, "training": {}}
    save_model(tmp_path / "full", **given)
    save_model(tmp_path / "half", **given, half=True)
    sizes = [(tmp_path / name / contracts.MODEL_WEIGHTS).stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    model = load_modules(tmp_path / "half")
    assert model.network.embedding.weight.dtype == torch.float32
    ids, va = torch.randint(0, SIZE, (1, 9)), torch.zeros(1, 2)
    torch.testing.assert_close(model.network(ids, None, va), network(ids, None, va), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    "name",
    [contracts.MODEL_WEIGHTS, contracts.CRITIC_WEIGHTS, contracts.VOCABULARY, contracts.TOKENIZER,
     contracts.PIECE_LABELLER, "encoder/encoder.json"],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_missing_or_damaged_file_is_named(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is {'missing' if damage == 'missing' else 'damaged'}"):
        load_model(folder)


def test_no_folder_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a model folder.*huesong train"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "{", "\xff"])
def test_a_damaged_config_is_named(folder: Path, text: str) -> None:
    (folder / contracts.MODEL_CONFIG).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        load_model(folder)


def test_another_format_is_refused(folder: Path) -> None:
    change_config(folder, format=contracts.MODEL_FORMAT + 1)
    with pytest.raises(UserError, match=f"model format {contracts.MODEL_FORMAT + 1}"):
        load_model(folder)
    (folder / contracts.MODEL_CONFIG).write_text("[]")
    with pytest.raises(UserError, match="model format None"):
        load_model(folder)


def test_the_config_says_what_it_is_as_a_model_hub_asks(folder: Path) -> None:
    config = json.loads((folder / contracts.MODEL_CONFIG).read_text())
    assert (config["model_type"], config["format"]) == ("huesong", 2)
    assert (folder / "model.safetensors").is_file()
    change_config(folder, model_type="vit")
    with pytest.raises(UserError, match=r"model_type 'vit', but huesong .* of its own"):
        load_model(folder)


def test_a_folder_of_format_1_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    old, new = load_modules(format_1(folder, tmp_path / "old")), load_modules(folder)
    ids, va = torch.randint(0, SIZE, (2, 9)), torch.rand(2, 2)
    assert torch.equal(old.network(ids, None, va), new.network(ids, None, va))
    assert torch.equal(old.critic(ids), new.critic(ids))
    assert old.config["training"] == new.config["training"]


def test_a_damaged_folder_of_format_1_is_refused(folder: Path, tmp_path: Path) -> None:
    old = format_1(folder, tmp_path / "old")
    content = (old / "weights.safetensors").read_bytes()
    (old / "weights.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"weights\.safetensors is damaged"):
        load_model(old)
    (old / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors is missing"):
        load_model(old)


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    path = folder / contracts.MODEL_WEIGHTS
    tensors = load_file(path)
    tensors["embedding.weight"] = tensors["embedding.weight"][:-1].contiguous()
    save_file(tensors, path)
    renew_digest(folder, contracts.MODEL_WEIGHTS)
    with pytest.raises(UserError, match=r"another architecture \('embedding.weight'"):
        load_model(folder)
    save_file({"a": torch.zeros(1)}, path)
    renew_digest(folder, contracts.MODEL_WEIGHTS)
    with pytest.raises(UserError, match="another architecture"):
        load_model(folder)


def test_a_critic_of_another_vocabulary_is_refused(folder: Path) -> None:
    other = Critic(CriticConfig.model_validate(CRITIC.model_dump()), SIZE + 1)
    save_file(other.state_dict(), folder / contracts.CRITIC_WEIGHTS)
    renew_digest(folder, contracts.CRITIC_WEIGHTS)
    with pytest.raises(UserError, match=r"critic\.safetensors holds weights of another architecture"):
        load_model(folder)


def test_weights_of_another_or_an_unnamed_vocabulary_are_refused(folder: Path) -> None:
    for name in (contracts.CRITIC_WEIGHTS, contracts.MODEL_WEIGHTS):
        path = folder / name
        with safe_open(path, "pt") as stream:
            own = stream.metadata()
        tensors = load_file(path)
        save_file(tensors, path, {"vocabulary": "0" * 64})
        renew_digest(folder, name)
        with pytest.raises(UserError, match=rf"{name} was trained on another vocabulary"):
            load_model(folder)
        save_file(tensors, path)
        renew_digest(folder, name)
        with pytest.raises(UserError, match=rf"{name} does not name the vocabulary .*: train again"):
            load_model(folder)
        save_file(tensors, path, own)
        renew_digest(folder, name)
    load_model(folder)


def test_another_vocabulary_is_refused(folder: Path) -> None:
    change_config(folder, vocabulary={"size": SIZE, "digest": "0" * 64})
    with pytest.raises(UserError, match="not the vocabulary this model was trained on"):
        load_model(folder)


@pytest.mark.parametrize("change", [{"network": {"width": "wide"}}, {"picture": {"colour": 1}}, {"vocabulary": {}}])
def test_a_config_that_makes_no_sense_is_refused(folder: Path, change: dict[str, object]) -> None:
    change_config(folder, **change)
    with pytest.raises(UserError, match="does not describe a model"):
        load_model(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_no_file_outside_the_folder_is_read(folder: Path, name: str) -> None:
    files = json.loads((folder / contracts.MODEL_CONFIG).read_text())["files"]
    change_config(folder, files=files | {name: "0"})
    with pytest.raises(UserError, match="outside the model folder"):
        load_model(folder)
