"""model/trainer.py: the one loop, on a network of a single weight."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from huesong.model.trainer import Part, Progress, Schedule, Trainer, adamw, due, muon
from huesong.runtime.checkpoints import Checkpoints
from huesong.runtime.errors import UserError


def tiny() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def trained(network: nn.Module, schedule: Schedule, dies_at: int = -1, **changes: Any) -> Progress:
    """Two parts a step, whose numbers depend on the step alone."""

    def parts(step: int) -> Iterator[Part]:
        if step == dies_at:
            raise KeyboardInterrupt
        torch.manual_seed(step)
        for _ in range(2):
            x = torch.randn(8, 3)
            error = (network(x)[:, 0] - x.sum(dim=1)).square().mean()
            yield {"loss": error / 2, "half": 0.5, "tokens": 8}

    given: dict[str, Any] = {"parts": parts, "remedy": "lower the rate", "optimizers": [adamw(network, 0.1, 0.01)]}
    return Trainer("train (tiny)", network, schedule=schedule, **{**given, **changes}).run()


def constant(steps: int, **changes: Any) -> Schedule:
    return Schedule(steps, lambda step: 0.05, **changes)


def test_parts_are_summed_and_rows_say_what_happened() -> None:
    progress = trained(tiny(), Schedule(3, lambda step: 0.1 / (step + 1), first=10))
    assert [row["step"] for row in progress.history] == [11, 12, 13]
    assert [row["lr"] for row in progress.history] == [0.1, 0.05, 0.1 / 3]
    assert [row["half"] for row in progress.history] == [1.0] * 3
    assert progress.tokens == 48
    assert all(row["tokens_per_s"] > 0 and "tokens" not in row for row in progress.history)
    network = tiny()
    torch.manual_seed(0)
    losses = [(network(x)[:, 0] - x.sum(dim=1)).square().mean() / 2 for x in (torch.randn(8, 3), torch.randn(8, 3))]
    assert progress.history[0]["loss"] == pytest.approx(sum(float(loss.detach()) for loss in losses))
    sum(losses).backward()  # type: ignore[union-attr]
    norm = torch.stack([p.grad.norm() for p in network.parameters()]).norm()  # type: ignore[union-attr]
    assert progress.history[0]["grad_norm"] == pytest.approx(float(norm))


def test_it_learns_and_keeps_the_best_weights() -> None:
    network, scripted = tiny(), iter([3.0, 1.0, 2.0, 2.5, 0.1])
    seen = []

    def validate() -> dict[str, float]:
        seen.append(network.weight.detach().clone())
        return {"val_loss": next(scripted)}

    progress = trained(network, constant(100, eval_every=2, patience=2), validate=validate)
    assert progress.step == 8
    assert (progress.best_loss, progress.best_step) == (1.0, 4)
    assert torch.equal(network.weight, seen[1])
    assert not torch.equal(seen[1], seen[3])
    assert [row.get("val_loss") for row in progress.history] == [None, 3.0, None, 1.0, None, 2.0, None, 2.5]
    free = trained(other := tiny(), constant(300))
    assert free.history[-1]["loss"] < free.history[0]["loss"] / 10
    assert not torch.equal(other.weight, tiny().weight)


def test_the_last_step_is_evaluated_too() -> None:
    progress = trained(tiny(), constant(5, eval_every=3), validate=lambda: {"val_loss": 1.0})
    assert [row["step"] for row in progress.history if "val_loss" in row] == [3, 5]


@pytest.mark.parametrize("optimizer", [adamw, muon])
def test_a_killed_run_resumes_to_the_same_bits(
    optimizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def optimized(network: nn.Linear) -> dict[str, Any]:
        made = optimizer(network, 0.1, 0.01)
        return {"optimizers": made if isinstance(made, list) else [made]}

    def validated(network: nn.Linear) -> dict[str, Any]:
        return {"validate": lambda: {"val_loss": abs(float(network.weight.detach().sum()) - 2)}}

    schedule = constant(9, eval_every=2, checkpoint_every=3)
    straight, killed, resumed = tiny(), tiny(), tiny()
    wanted = trained(
        straight, schedule, checkpoints=Checkpoints(tmp_path / "a"), **optimized(straight), **validated(straight)
    )
    store = Checkpoints(tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        trained(killed, schedule, dies_at=7, checkpoints=store, **optimized(killed), **validated(killed))
    with caplog.at_level(logging.INFO, logger="huesong"):
        found = trained(resumed, schedule, checkpoints=store, **optimized(resumed), **validated(resumed))
    assert "train (tiny): resuming from step-000006" in caplog.text
    assert "train (tiny): 9 done" in caplog.text, "it counts on from where it resumed"
    assert torch.equal(straight.weight, resumed.weight)
    for one in (found, wanted):
        for row in one.history:
            row.pop("tokens_per_s")
    assert found == wanted


def test_muon_takes_the_matrices_and_adamw_the_rest_at_one_rate() -> None:
    network = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    first, second = muon(network, 0.1, 0.01)
    names = {id(p): name for name, p in network.named_parameters()}
    owned = [{names[id(p)] for group in one.param_groups for p in group["params"]} for one in (first, second)]
    assert owned == [{"1.weight", "3.weight"}, {"0.weight", "1.bias", "2.weight", "2.bias", "3.bias"}]
    before = network[1].weight.detach().clone()

    def parts(step: int) -> Iterator[Part]:
        yield {"loss": network(torch.arange(5)).square().sum()}

    trained(network, constant(1), parts=parts, optimizers=[first, second])
    # About orthogonal, by five rounds of Newton and Schulz; .2 is the root mean square of what AdamW moves by.
    moved = (network[1].weight.detach() - before * (1 - 0.05 * 0.01)) / -0.05 / 0.2 / 2
    assert torch.linalg.svdvals(moved)[:3].sub(1).abs().max() < 0.4
    assert all(group["lr"] == 0.05 for one in (first, second) for group in one.param_groups)


def test_only_what_learns_is_clipped_and_changed() -> None:
    networks = tiny(), tiny()
    for network, left in zip(networks, (0.0, 1e6), strict=True):
        network.bias.requires_grad_(False).grad = torch.full((1,), left)
    first, second = (trained(network, constant(3, clip_norm=0.1)) for network in networks)
    assert torch.equal(networks[0].weight, networks[1].weight)
    assert [row["grad_norm"] for row in first.history] == [row["grad_norm"] for row in second.history]
    assert torch.equal(networks[0].bias, tiny().bias)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change() -> None:
    network = tiny()

    def parts(step: int) -> Iterator[Part]:
        yield {"loss": network(torch.full((1, 3), float("inf"))).sum()}

    with pytest.raises(UserError) as caught:
        trained(network, constant(3, first=4), parts=parts, pieces=lambda step: ["a#0", "b#1"])
    said = "train (tiny): the loss is not finite at step 5 (pieces a#0, b#1): lower the rate"
    assert str(caught.value) == said
    assert torch.equal(network.weight, tiny().weight)


def test_long_runs_keep_about_a_thousand_rows() -> None:
    def parts(step: int) -> Iterator[Part]:
        yield {"loss": network.weight.sum()}

    network = tiny()
    progress = trained(network, constant(2500, eval_every=999), parts=parts, validate=lambda: {"val_loss": 0.0})
    assert len(progress.history) == 1250 + 1
    assert progress.history[-1]["step"] == 2500


def test_never_is_zero() -> None:
    assert [step for step in range(10) if due(step, 4)] == [3, 7]
    assert not any(due(step, 0) for step in range(10))
