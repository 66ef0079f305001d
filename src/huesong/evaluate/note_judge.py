"""The second judge: a small Transformer that predicts valence and arousal from the notes of a MIDI file.

It shares nothing with the first judge but the human ratings of split `judge`: no hand features, no boosting. Nor does
it share anything with the generator and its critic: other music, other weights, and an alphabet of its own, in seconds
and scale degrees, so that token ids mean nothing to it. Where the two judges agree, neither their features nor their
kind of model made the figure.

A note is the sum of the embeddings of its ATTRIBUTES; the network is model.critic.Critic, which reads such sums as it
reads soft tokens. Shapes: B batch, T notes, K attributes, A alphabet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from huesong.config import CriticConfig, SecondJudgeConfig
from huesong.emotion.labelled import by_piece, group_folds, label_weights, scores_by_source
from huesong.model.critic import Critic
from huesong.model.trainer import Part, Schedule, Trainer, warm_cosine
from huesong.music.features import TOGETHER_S, key_correlations
from huesong.music.reading import Notes
from huesong.runtime.errors import UserError
from huesong.va import Bootstrap

ATTRIBUTES = {"degree": 12, "height": 16, "length": 15, "gap": 14, "loudness": 16, "step": 27}
"""Sizes: semitones above the tonic; half octaves; log2 seconds held; log2 seconds since the onset before (0: together);
velocity by eights; semitones from the note before (one octave at most)."""
ALPHABET = sum(ATTRIBUTES.values())
LENGTH_EDGES = np.arange(-4, 3, 0.5) - 1e-3
GAP_EDGES = np.arange(-4, 2, 0.5) - 1e-3
"""Classes of log2 seconds: half octaves, which begin just below the powers of 2 (a quarter at 120 is 0.5 s, or a hair less).
"""
FOLDS = 5
"""Each network leaves one fold of the judge's groups out of its gradient."""
EVERY = 20
"""Steps between two evaluations on them."""

SHORTEST = 48
"""Notes of the shortest part of a longer piece that is trained on."""

NotesOf = Callable[[int], Notes]
"""The notes of a row of the pieces table."""


def attributes(notes: Notes) -> np.ndarray:
    """The attributes of each note: int64 [T, K], indices into the alphabet.

    The tonic is that of the best fitting key (Albrecht & Shanahan 2013): a transposed piece is the same piece but for
    its height.
    """
    held = np.minimum(notes.end_s - notes.onset_s, 2.0)
    profile = np.bincount(notes.pitch % 12, weights=held, minlength=12)
    tonic = int(key_correlations(profile, "albrecht").max(axis=0).argmax())
    gap = np.diff(notes.onset_s, prepend=notes.onset_s[:1])
    step = np.diff(notes.pitch, prepend=notes.pitch[:1])
    columns = (
        (notes.pitch - tonic) % 12,
        np.clip(notes.pitch // 6 - 3, 0, 15),
        np.searchsorted(LENGTH_EDGES, np.log2(np.maximum(notes.end_s - notes.onset_s, 0.01)), side="right"),
        np.where(gap < TOGETHER_S, 0, 1 + np.searchsorted(GAP_EDGES, np.log2(np.maximum(gap, 0.01)), side="right")),
        np.clip(notes.velocity // 8, 0, 15),
        np.clip(step, -13, 13) + 13,
    )
    first = np.cumsum([0, *ATTRIBUTES.values()])[:-1]
    return np.stack(columns, axis=1).astype(np.int64).reshape(-1, len(ATTRIBUTES)) + first


@dataclass
class SecondJudge:
    """Valence and arousal of music from its notes: the mean of some networks, each with other groups left out."""

    networks: list[Critic]
    context: int

    @classmethod
    def fit(cls, pieces: pd.DataFrame, notes_of: NotesOf, config: SecondJudgeConfig, seed: int = 0) -> SecondJudge:
        """Train on the labelled rows of split `judge` of contracts.PIECES_TABLE.

        Every network leaves out one fold of their groups, which decides which step's weights are kept.

        Raises:
            UserError: too few labelled rows or groups.
        """
        weights = label_weights(pieces)
        rows = np.flatnonzero((pieces["split"] == "judge").to_numpy() & (weights > 0))
        try:
            folds = group_folds(pieces["group"].to_numpy(dtype=str)[rows], FOLDS)
        except UserError as error:
            raise UserError(
                f"the second judge cannot be trained on split `judge` of the music: {error}, or raise "
                "preprocess.splits.judge"
            ) from error
        rated = Rated(
            [attributes(notes_of(int(row))) for row in rows],
            pieces[["valence", "arousal"]].to_numpy(np.float32)[rows],
            weights[rows].astype(np.float32),
        )
        networks = []
        for number, (train, held) in enumerate(folds[: config.members]):
            with _reproducible(seed * 1_000_003 + number):
                networks.append(_train(rated, train, held, config, (seed, number)))
        return cls(networks, config.context)

    def predict(self, music: Sequence[Notes]) -> np.ndarray:
        """Valence and arousal [N, 2] in [-1, 1] of pieces; of a long one, the mean over its parts. No notes: 0, 0."""
        read = [attributes(notes) for notes in music]
        with _reproducible(0):
            return np.mean([_predict(network, read, self.context) for network in self.networks], axis=0)

    def held_out(self, pieces: pd.DataFrame, notes_of: NotesOf, bootstrap: Bootstrap) -> dict[str, float]:
        """Agreement with people on rated pieces of split `test`, as `Judge.held_out` reports it."""
        rows = np.flatnonzero((pieces["split"] == "test").to_numpy() & (label_weights(pieces) > 0))
        predicted = self.predict([notes_of(int(row)) for row in rows])
        return scores_by_source(by_piece(pieces.iloc[rows], predicted), bootstrap)


@dataclass
class Rated:
    """What people rated: attributes [T, K] of each segment, its valence and arousal, and the trust in them."""

    music: list[np.ndarray]
    va_N2: np.ndarray  # float32
    weight_N: np.ndarray  # float32


def _train(
    rated: Rated, train: np.ndarray, held: np.ndarray, config: SecondJudgeConfig, key: tuple[int, int]
) -> Critic:
    """A network trained on some rows, with the weights of the step that predicts the rows `held` out best."""
    network = Critic(CriticConfig(width=config.width, layers=config.layers, dropout=config.dropout), ALPHABET)
    held_music = [rated.music[row] for row in held]

    def parts(step: int) -> Iterator[Part]:
        rng = np.random.default_rng([*key, step])
        rows = rng.choice(train, min(config.batch_size, len(train)), replace=False)
        notes_BTA, mask_BT = _batch([_stretch(rated.music[row], config.context, rng) for row in rows])
        found_B2 = network.train().forward_soft(notes_BTA, mask_BT)
        weight_B = torch.from_numpy(rated.weight_N[rows])
        error_B = (found_B2 - torch.from_numpy(rated.va_N2[rows])).square().mean(dim=-1)
        yield {"loss": (error_B * weight_B).sum() / weight_B.sum()}

    def validate() -> dict[str, float]:
        error_N = np.square(_predict(network, held_music, config.context) - rated.va_N2[held]).mean(axis=1)
        return {"val_loss": float(np.average(error_N, weights=rated.weight_N[held]))}

    Trainer(
        f"evaluate (second judge, network {key[1] + 1} of {config.members})",
        network,
        [torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.05)],
        Schedule(config.steps, warm_cosine(config.learning_rate, config.steps), eval_every=EVERY),
        parts,
        remedy="lower evaluate.second_judge.learning_rate",
        validate=validate,
    ).run()
    return network.freeze()


def _predict(network: Critic, music: Sequence[np.ndarray], context: int) -> np.ndarray:
    """Valence and arousal [N, 2] of attributes; the mean over parts of `context` notes."""
    network.eval()
    predicted = np.zeros((len(music), 2))
    with torch.inference_mode():
        for row, piece in enumerate(music):
            parts = [piece[start : start + context] for start in range(0, len(piece), context)]
            if parts:
                found = network.forward_soft(*_batch(parts)).double().numpy()
                predicted[row] = np.average(found, axis=0, weights=[len(part) for part in parts])
    return predicted


def _stretch(piece: np.ndarray, context: int, rng: np.random.Generator) -> np.ndarray:
    """Half of the time a part of random place and length: ratings of a whole piece teach about its parts, too."""
    longest = min(len(piece), context)
    length = int(rng.integers(min(SHORTEST, longest), longest + 1)) if rng.random() < 0.5 else longest
    start = int(rng.integers(0, len(piece) - length + 1))
    return piece[start : start + length]


def _batch(parts: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Notes as rows with a 1 for each attribute, float [B, T, A], and where there are notes, bool [B, T]."""
    longest = max(1, *(len(part) for part in parts))
    notes_BTA = torch.zeros(len(parts), longest, ALPHABET)
    mask_BT = torch.zeros(len(parts), longest, dtype=torch.bool)
    for row, part in enumerate(parts):
        notes_BTA[row, : len(part)].scatter_(1, torch.from_numpy(part), 1.0)
        mask_BT[row, : len(part)] = True
    return notes_BTA, mask_BT


@contextlib.contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """One thread and a seeded generator within: sums do not depend on the number of cores. Both are put back."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
