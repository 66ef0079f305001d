"""A trained tokenizer and its grammar, made from a few rule-composed pieces; and a network of random weights."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from miditok import REMI
from symusic import Score

from huesong.config import CriticConfig, NetworkConfig, TokenizerConfig
from huesong.data.sample.music import compose_by_rule
from huesong.model.critic import Critic
from huesong.model.decoding.history import BarTokens
from huesong.model.folder import Model, Modules
from huesong.model.network import HuesongNetwork, PictureShape
from huesong.music import tokens
from huesong.music.form import header
from huesong.music.form.analysis import analyse
from huesong.music.form.heads import heads_of
from huesong.music.grammar import Constraints, Grammar, State
from huesong.music.vocabulary import Vocabulary

SHAPE = PictureShape("features", tokens=4, channels=8)


@lru_cache
def pieces() -> tuple[Score, ...]:
    emotions = [(v, a) for v in (-0.8, 0.0, 0.8) for a in (-0.8, 0.0, 0.8)]
    return tuple(compose_by_rule(v, a, seed) for seed, (v, a) in enumerate(emotions))


@lru_cache
def tokenizer(positions_per_beat: int = 8, vocabulary_size: int = 800) -> REMI:
    config = TokenizerConfig(positions_per_beat=positions_per_beat, vocabulary_size=vocabulary_size)
    made = tokens.build_tokenizer(config)
    return tokens.train_bpe(made, [encoded(made, score) for score in pieces()], vocabulary_size)


def encoded(made: REMI, score: Score) -> list[int]:
    """Base tokens with the heads of bars."""
    plan = analyse(score)
    return tokens.encode_base(made, score, heads_of(plan), header.beginning("mixed", plan.tonic, plan.mode))


def planned(bars: int, metre: tuple[int, int] = (4, 4), tempo: float = 120.0, **others: Any) -> Constraints:
    """A plan with the least said, and what else is asked of the piece."""
    head = header.head(
        left=1, relation="new", back=0, density=0.3, loudness=0.6, chords=[(0, 0, "maj")], cadence=""
    )  # fmt: skip
    beginning = tuple(header.beginning("mixed", 0, "major"))
    return Constraints(bars, metre, tempo, beginning=beginning, heads=(tuple(head),) * bars, **others)


def vocabulary_of(made: REMI) -> Vocabulary:
    with tempfile.TemporaryDirectory() as folder:
        tokens.write_vocabulary(made, Path(folder) / "vocabulary.json")
        return Vocabulary.load(Path(folder) / "vocabulary.json")


@lru_cache
def grammar(positions_per_beat: int = 8) -> Grammar:
    return Grammar(vocabulary_of(tokenizer(positions_per_beat)))


@lru_cache
def modules(context: int = 128, shape: PictureShape = SHAPE) -> Modules:
    """Random weights: what it composes is noise that only the grammar holds together."""
    rules = grammar()
    torch.manual_seed(0)
    config = NetworkConfig(width=32, heads=2, encoder_layers=1, decoder_layers=1, context=context)
    network = HuesongNetwork(config, rules.vocabulary.size, shape, BarTokens.of(rules.vocabulary))
    network.eval().requires_grad_(False)
    # An untrained network hardly hears the picture or the request; make both loud, as if it had learned to.
    network.condition.project.weight.mul_(30)
    if not shape.rated:
        network.picture.va_head.weight.mul_(30)
    # Larger output weights than at the start of training: a random but opinionated model.
    network.embedding.weight.mul_(20)
    # At the start of training nothing is recalled.
    torch.nn.init.normal_(network.recall.project.weight, std=0.02)
    critic = Critic(CriticConfig(width=16, heads=2, layers=1), rules.vocabulary.size).freeze()
    return Modules(network, critic, rules.vocabulary, rules, {}, Path("nowhere"))


@lru_cache
def model(context: int = 128, shape: PictureShape = SHAPE) -> Model:
    """What composes with the weights of `modules`."""
    return modules(context, shape).player()


def walk(
    rules: Grammar, wanted: Constraints, seed: int, habit: str = "any", steps: int = 50_000
) -> tuple[list[int], State]:
    """A piece drawn from the masks alone; `habit` names a kind of base token that is preferred wherever allowed."""
    rng = np.random.default_rng(seed)
    weight = np.array([1 + 200 * any(kind == habit for kind, _ in base) for base in rules.table.base], dtype=float)
    if habit == "long":
        weight = np.array(
            [1 + sum(value for kind, value in base if kind == "Duration") ** 2 for base in rules.table.base]
        )
    state, ids = rules.start(wanted), []
    while not state.done and len(ids) < steps:
        allowed = rules.mask(state)
        assert allowed.any(), f"empty mask in {state.last_read.name}"
        chance = weight * allowed
        token = int(rng.choice(len(chance), p=chance / chance.sum()))
        ids += rules.advance(state, token)
    return ids, state
