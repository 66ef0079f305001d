from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from huesong.config import TrainConfig
from huesong.model.critic import Critic
from huesong.model.dataset import Batch
from huesong.model.decoding.decoder import Decoder
from huesong.model.network import HuesongNetwork, PictureShape
from huesong.model.trainer import adamw
from huesong.runtime.checkpoints import Checkpoints
from huesong.runtime.distributed import joined_processes
from huesong.runtime.errors import UserError
from huesong.train import loop as training
from huesong.train.loop import DONE, LOWEST_RATE, PAIRS, PRETRAIN, Training, rate_share, train_network
from huesong.train.picture_head import picture_figures, picture_shape, set_image_encoder
from tests.tiny_training import CRITIC, NETWORK, SIZE, settings, tiny_examples, with_reader

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


class KilledError(Exception):
    """Stands for the end of the process."""


def stores(folder: Path) -> dict[str, Checkpoints]:
    return {name: Checkpoints(folder / name) for name in (PRETRAIN, PAIRS)}


def train(folder: Path, config: TrainConfig, kind: str = "features") -> Training:
    torch.manual_seed(config.seed)
    examples = tiny_examples(kind)
    critic = Critic(CRITIC, SIZE).freeze()
    network = HuesongNetwork(config.network, SIZE, picture_shape(examples))
    return train_network(network, examples, config, critic, stores(folder), CPU)


def curve(result: Training) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "tokens_per_s"} for row in result.history]


@pytest.mark.parametrize("kind", ["features", "pixels"])
@pytest.mark.parametrize("killed_at", [2, 4, 7, 10])
def test_a_killed_run_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int, kind: str
) -> None:
    config = settings(pretrain_steps=5, steps=6, objective="ce+contrastive" if kind == "pixels" else "ce+va_critic")
    straight = train(tmp_path / "straight", config, kind)
    taken, step = 0, training.step_losses

    def dying_step(*given: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken > killed_at:
            raise KilledError
        return step(*given)

    monkeypatch.setattr(training, "step_losses", dying_step)
    with pytest.raises(KilledError):
        train(tmp_path / "killed", config, kind)
    monkeypatch.setattr(training, "step_losses", step)
    resumed = train(tmp_path / "killed", config, kind)
    assert curve(resumed) == curve(straight)
    for name, weight in straight.network.state_dict().items():
        assert torch.equal(weight, resumed.network.state_dict()[name]), name
    assert resumed.metrics["tokens_seen"] == straight.metrics["tokens_seen"]


def test_runs_of_another_seed_and_objective_share_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(tmp_path, settings(pretrain_steps=5, steps=2))
    (tmp_path / PAIRS).rename(tmp_path / "first")
    names: list[str] = []
    step = training.step_losses

    def counted(*given: Any) -> Any:
        names.append(given[1].name)
        return step(*given)

    monkeypatch.setattr(training, "step_losses", counted)
    second = train(tmp_path, settings(pretrain_steps=5, steps=2, seed=1, objective="ce"))
    assert names == [PAIRS] * 2
    assert curve(second)[:5] == curve(first)[:5]
    assert curve(second)[5:] != curve(first)[5:]


def test_the_seed_decides_the_run(tmp_path: Path) -> None:
    one, same = train(tmp_path / "a", settings()), train(tmp_path / "b", settings())
    other = train(tmp_path / "c", settings(seed=1))
    assert curve(one) == curve(same)
    assert curve(one) != curve(other)


def test_training_lowers_the_validation_loss_and_keeps_the_best_weights(tmp_path: Path) -> None:
    config = settings(steps=60, eval_every=10, batch_size=8, learning_rate=1e-2)
    result = train(tmp_path, config)
    losses = [row["val_loss"] for row in result.history if "val_loss" in row]
    assert losses[-1] < losses[0] - 0.3
    assert result.metrics["val_ce"] == pytest.approx(min(losses), rel=1e-6)
    assert result.metrics["val_perplexity"] == pytest.approx(np.exp(min(losses)), rel=1e-6)
    assert not result.network.training


def test_it_stops_when_validation_no_longer_improves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = iter([3.0, 2.0, 2.5, 2.6, 2.7, 1.0])
    monkeypatch.setattr(
        training, "validate", lambda *_: {"val_loss": next(script, 9.0), "val_va": None}
    )  # the losses are given, the loop is real
    result = train(tmp_path, settings(steps=60, eval_every=2, patience=3))
    assert result.steps == 10
    assert result.metrics["best_step"] == 4


def test_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    plain = {"network": NETWORK.model_copy(update={"dropout": 0.0}), "objective": "ce", "steps": 3}
    whole = train(tmp_path / "whole", settings(batch_size=8, accumulate=1, **plain), "pixels")
    parts = train(tmp_path / "parts", settings(batch_size=2, accumulate=4, **plain), "pixels")
    for ours, theirs in zip(whole.history, parts.history, strict=True):
        assert ours["ce"] == pytest.approx(theirs["ce"], rel=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


def losses_of_this_process(folder: Path) -> str:
    """Run by each of several processes: train, print the curve."""
    torch.set_num_threads(1)
    config = settings(network=NETWORK.model_copy(update={"dropout": 0.0}), objective="ce", steps=4)
    torch.manual_seed(0)
    network = HuesongNetwork(config.network, SIZE, PictureShape("pixels", size=32))
    with joined_processes(CPU) as processes:
        result = train_network(network, tiny_examples("pixels"), config, None, stores(folder), CPU, processes)
    return " ".join(f"{row['loss']:.5f},{row['grad_norm']:.4f}" for row in result.history)


@pytest.mark.slow
def test_two_processes_train_the_same_curve_as_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call = "import sys, pathlib, tests.stage.test_training as t; print(t.losses_of_this_process(pathlib.Path(sys.argv[1])))"
    shared = {
        **os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "WORLD_SIZE": "2",
    }  # fmt: skip
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", call, str(tmp_path / "two")], env={**shared, "RANK": str(rank)},
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    alone = losses_of_this_process(tmp_path / "one")
    first, second = (process.communicate(timeout=300)[0].strip() for process in pair)
    assert [process.returncode for process in pair] == [0, 0]
    assert first == second == alone
    assert len(alone.split()) == 4
    assert [path.name for path in (tmp_path / "two" / PAIRS).iterdir()] == [DONE]


def test_a_loss_that_is_not_finite_names_step_and_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(batch: Batch, device: torch.device) -> Any:
        tensors = original(batch, device)
        tensors.va_B2 = tensors.va_B2 * float("nan")
        return tensors

    original = training.to_device
    monkeypatch.setattr(training, "to_device", broken)
    with pytest.raises(UserError, match=r"train \(pairs\): .* not finite at step 1 \(pieces piece\d+#0.*learning_rate"):
        train(tmp_path, settings())


def test_without_training_pairs_it_says_so(tmp_path: Path) -> None:
    examples = tiny_examples("features")
    examples.pairs.split_P[:] = "test"
    network = HuesongNetwork(NETWORK, SIZE, picture_shape(examples))
    with pytest.raises(UserError, match="not one training pair"):
        train_network(network, examples, settings(), None, stores(tmp_path), CPU)


def test_without_validation_pairs_the_last_weights_are_kept(tmp_path: Path) -> None:
    examples = tiny_examples("features")
    keep = examples.pairs.split_P == "train"
    for name in ("picture_P", "piece_P", "split_P", "va_P2"):
        setattr(examples.pairs, name, getattr(examples.pairs, name)[keep])
    network = HuesongNetwork(NETWORK, SIZE, picture_shape(examples))
    result = train_network(network, examples, settings(objective="ce"), None, stores(tmp_path), CPU)
    assert result.steps == 8
    assert "val_ce" not in result.metrics
    assert result.metrics["train_ce"] > 0


def test_norms_biases_and_embeddings_do_not_decay() -> None:
    network = HuesongNetwork(NETWORK, SIZE, PictureShape("pixels", size=32))
    decayed, free = adamw(network, 1e-3, weight_decay=0.05).param_groups
    names = {id(weight): name for name, weight in network.named_parameters()}
    assert free["weight_decay"] == 0
    assert not [n for p in decayed["params"] if "norm" in (n := names[id(p)]) or "bias" in n or "embedding" in n]
    assert {names[id(p)] for p in free["params"]} >= {"embedding.weight", "final_norm.weight", "picture.null_SD"}
    assert len(decayed["params"]) + len(free["params"]) == len(names)


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    config = settings(warmup_steps=10, learning_rate=1.0)
    rates = [rate_share(config.warmup_steps, step, 100) * config.learning_rate for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(LOWEST_RATE, abs=0.01)


def test_the_head_of_frozen_features_is_fitted_in_closed_form() -> None:
    examples = tiny_examples("features", pieces=48)
    examples.pairs.va_P2 = examples.pictures.va_I2 * 2
    with_reader(examples)
    network = HuesongNetwork(NETWORK, SIZE, picture_shape(examples))
    assert network.picture_shape == PictureShape("features", 4, 4, rated=39)
    set_image_encoder(network, examples)
    figures = picture_figures(network, examples, CPU)
    assert figures["val_valence_ccc"] > 0.95
    assert figures["val_arousal_mae"] < 0.1
    encoding = Decoder.of(network).encode_picture(examples.pictures.rows[:4])
    np.testing.assert_allclose(encoding.request_B2, encoding.va_B2 * 2, atol=0.15)


@pytest.mark.slow
def test_a_compiled_run_learns_what_a_plain_one_learns(tmp_path: Path) -> None:
    """Without dropout, which compiled kernels draw in their own way. Two phases: with and without pictures."""
    same = {
        "network": NETWORK.model_copy(update={"dropout": 0.0}), "objective": "ce+va_head", "pretrain_steps": 2,
        "steps": 3, "pretrain_learning_rate": 3e-3,
    }  # fmt: skip
    plain, compiled = (train(tmp_path / str(on), settings(**same, compile=on)) for on in (False, True))
    for ours, theirs in zip(compiled.history, plain.history, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
    kept = load_file(tmp_path / "True" / PAIRS / DONE / "network.safetensors")
    assert kept.keys() == plain.network.state_dict().keys(), "plain names"
    for name, weight in plain.network.state_dict().items():
        assert torch.allclose(kept[name], weight, atol=1e-3), name
