"""Does the music follow the request? A small model, really trained, asked for calm and for excited music."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from huesong import contracts
from huesong.config import Params, SamplingConfig
from huesong.data.sample.make import make_sample
from huesong.label import stage as label
from huesong.model.folder import load_model
from huesong.model.requests import Request, conditioning_of, plan_of
from huesong.model.sampling import sample
from huesong.music import tokens
from huesong.music.reading import parse_score
from huesong.preprocess import stage as preprocess
from huesong.runtime.errors import UserError
from huesong.train import stage as train
from tests.conftest import TINY

pytestmark = pytest.mark.slow

SEEDS = 10
SECONDS = 12.0
"""Of eight there are two or four bars of four: no tempo in between, so calm and excited pieces may have the same."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control")
    params = Params.model_validate(
        {
            "preprocess": {**TINY["preprocess"], "picture_size": 32},
            "label": TINY["label"],
            "train": {
                "device": "cpu", "threads": 1, "objective": "ce", "steps": 450, "batch_size": 8, "learning_rate": 3e-3,
                "condition_dropout": 0.25, "label_smoothing": 0.0, "eval_every": 500, "checkpoint_every": 500,
                "network": {
                    "width": 64, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "context": 512, "dropout": 0.0,
                },
                "critic": {"width": 16, "heads": 2, "layers": 1, "steps": 5, "batch_size": 8},
            },
        }
    )  # fmt: skip
    make_sample(folder / "data", seed=1, pictures=24, pieces=240)
    preprocess.run(params.preprocess, data=folder / "data", out=folder / "preprocess")
    label.run(params.label, preprocess=folder / "preprocess", out=folder / "label")
    places = {"preprocess": folder / "preprocess", "label": folder / "label"}
    train.run(params.train, **places, out=folder / "train", checkpoints=folder / "checkpoints")
    return folder / "train" / contracts.MODEL


def asked(folder: Path, arousal: float) -> tuple[np.ndarray, np.ndarray]:
    """Notes a second and tempo (quarters a minute) of SEEDS pieces."""
    model, tokenizer = load_model(folder), tokens.load(folder / contracts.TOKENIZER)
    requests = [Request(None, 0.0, arousal, seed, SECONDS) for seed in range(SEEDS)]
    density, tempo = [], []
    for piece in sample(model, requests, SamplingConfig(candidates=1, guidance=2.0, temperature=0.9)):
        score = parse_score(bytes(tokens.decode(tokenizer, piece.ids).dumps_midi()))
        density.append(sum(len(track.notes) for track in score.tracks) / SECONDS)
        tempo.append(score.tempos[0].qpm)
    return np.array(density), np.array(tempo)


def test_more_arousal_asked_is_more_notes_a_second_and_faster(trained: Path) -> None:
    (calm_density, calm_tempo), (wild_density, wild_tempo) = asked(trained, -0.8), asked(trained, 0.8)
    assert wild_density.mean() > 1.3 * calm_density.mean()
    assert wild_tempo.mean() > 1.2 * calm_tempo.mean()
    # Not by a lucky piece: of all pairs of a calm and an excited piece nearly all are in the right order.
    assert in_order(wild_density, calm_density) > 0.8
    assert in_order(wild_tempo, calm_tempo) > 0.8


def in_order(more: np.ndarray, less: np.ndarray) -> float:
    """Share of pairs in which the first is more (Mann-Whitney); tempos are few, and equal ones count as half a pair."""
    return float((more[:, None] > less).mean() + (more[:, None] == less).mean() / 2)


def test_a_metre_that_was_not_learnt_is_neither_planned_nor_taken(trained: Path) -> None:
    model = load_model(trained)
    assert model.config["training"]["metres"] == {"4/4": 1.0}
    assert model.metres == [(4, 4)]
    settings = SamplingConfig(candidates=1, seconds=6)
    # Of calm pieces a third would be in three or six.
    plans = [plan_of(model, asked, conditioning_of(model, asked), settings) for asked in calm(40)]
    assert {bar.metre for plan in plans for bar in plan.bars} == {(4, 4)}
    with pytest.raises(UserError, match=r"the plan is in 3/4: this model composes in one metre, of 4/4"):
        sample(model, [Request(None, 0.0, 0.0, metre=(3, 4))], settings)


def calm(count: int) -> list[Request]:
    return [Request(None, 0.0, -0.8, seed, 20.0) for seed in range(count)]
