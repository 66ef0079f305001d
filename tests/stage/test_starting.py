"""Training that goes on from the weights of a model folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from huesong import contracts
from huesong.config import NetworkConfig
from huesong.model.decoding.history import BarTokens
from huesong.model.folder import load_model, load_modules, save_model
from huesong.model.network import HuesongNetwork
from huesong.runtime.errors import UserError
from huesong.runtime.files import read_json
from huesong.train import stage as train
from huesong.train.starting import renumbered, start_from
from tests.conftest import World

pytestmark = pytest.mark.slow


def run(world: World, out: Path, **changes: object) -> dict[str, float]:
    still = {"steps": 1, "learning_rate": 1e-9, "warmup_steps": 0, "eval_every": 1, "pretrain_steps": 0}
    config = world.params.train.model_copy(update=still | changes)
    config = config.model_copy(update={"reinforce": config.reinforce.model_copy(update={"steps": 0})})
    train.run(
        config, preprocess=world.preprocess, label=world.label, out=out / "train", checkpoints=out / "checkpoints"
    )
    figures: dict[str, float] = read_json(out / "train" / contracts.FIGURES, "huesong train")
    return figures


def test_the_loss_goes_on_where_it_was(world: World, tmp_path: Path) -> None:
    first = run(world, tmp_path / "first", steps=20, learning_rate=3e-3)
    again = run(world, tmp_path / "again", start_from=str(tmp_path / "first" / "train" / contracts.MODEL))
    config = read_json(tmp_path / "again" / "train" / contracts.MODEL / contracts.MODEL_CONFIG, "huesong train")
    assert config["training"]["config"]["start_from"] == contracts.MODEL  # no path of this machine
    anew = run(world, tmp_path / "anew")
    assert again["val_ce"] == pytest.approx(first["val_ce"], abs=1e-3)
    assert anew["val_ce"] > again["val_ce"] + 0.1


def test_tokens_are_found_by_what_they_stand_for(world: World) -> None:
    vocabulary = load_model(world.train / contracts.MODEL).vocabulary
    weight_VD = torch.randn(vocabulary.size, 4)
    assert torch.equal(renumbered(weight_VD, vocabulary, vocabulary), weight_VD)
    merged = next(i for i, parts in enumerate(vocabulary.tokens) if len(parts) == 2)
    fewer = type(vocabulary)(
        vocabulary.tokens[:merged], vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.positions_per_beat, ""
    )
    moved_VD = renumbered(weight_VD[:merged], fewer, vocabulary)
    parts = [vocabulary.tokens.index((name,)) for name in vocabulary.tokens[merged]]
    torch.testing.assert_close(moved_VD[merged], weight_VD[parts].mean(dim=0))


def test_another_architecture_is_refused(world: World) -> None:
    folder = world.train / contracts.MODEL
    model = load_modules(folder)
    other = NetworkConfig.model_validate(model.network.config.model_dump() | {"smear": False})
    network = HuesongNetwork(other, model.vocabulary.size, model.network.picture_shape, BarTokens.of(model.vocabulary))
    with pytest.raises(UserError, match=r"has network.smear = True, the settings say False: make them equal"):
        start_from(folder, network, model.vocabulary)
    forgetful = NetworkConfig.model_validate(model.network.config.model_dump() | {"recall": False})
    network = HuesongNetwork(forgetful, model.vocabulary.size, model.network.picture_shape)
    with pytest.raises(UserError, match=r"has network.recall = True, the settings say False"):
        start_from(folder, network, model.vocabulary)


def test_a_network_that_recalls_may_start_from_one_that_did_not_and_is_at_first_the_same(
    world: World, tmp_path: Path
) -> None:
    folder = world.train / contracts.MODEL
    model = load_modules(folder)
    without = NetworkConfig.model_validate(model.network.config.model_dump() | {"recall": False})
    older = HuesongNetwork(without, model.vocabulary.size, model.network.picture_shape)
    weights = model.network.state_dict()
    older.load_state_dict({name: weights[name] for name in older.state_dict()})
    save_model(
        tmp_path / "older",
        network=older,
        critic=model.critic,
        preprocess=world.preprocess,
        label=world.label,
        training={},
    )
    bars = BarTokens.of(model.vocabulary)
    newer = HuesongNetwork(model.network.config, model.vocabulary.size, model.network.picture_shape, bars)
    start_from(tmp_path / "older", newer, model.vocabulary)
    ids, va, keep = torch.randint(0, model.vocabulary.size, (2, 60)), torch.zeros(2, 2), torch.ones(2, dtype=torch.bool)
    assert newer.recall is not None
    assert torch.equal(newer.eval()(ids, None, va, keep), older.eval()(ids, None, va, keep))
