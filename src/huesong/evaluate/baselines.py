"""The baselines: what else could answer the requests, before the same judges.

* `random`: any training piece. What a model reaches that ignores the request but writes like the data.
* `retrieval`: the training piece whose valence and arousal lie nearest to the request. Real music, but nothing new.
* `rules`: the rule-based composer of the sample set, asked for the same valence and arousal.
* `unconditional`: the model itself with its condition dropped. What is better than this is the condition's work.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from symusic import Score

from huesong import contracts
from huesong.config import EvaluateConfig
from huesong.data.sample.melody import Character
from huesong.data.sample.music import compose_by_rule
from huesong.evaluate.judges import Judges
from huesong.model.folder import Model
from huesong.model.requests import Request
from huesong.model.sampling import sample
from huesong.music import reading, tokens
from huesong.runtime.progress import log, track

BASELINES = ("random", "retrieval", "rules", "unconditional")
"""Names, also prefixes of figures; what they stand for: report.tables.ANSWERS."""
REQUESTED = ["requested_valence", "requested_arousal"]


def baseline_answers(
    asked: pd.DataFrame,
    model: Model,
    judges: Judges,
    pieces: pd.DataFrame,
    labels: pd.DataFrame,
    config: EvaluateConfig,
) -> dict[str, pd.DataFrame]:
    """Every baseline's answers.

    Args:
        asked: one row a request, with `set`, `request`, `image_group` and REQUESTED.
        model: for the unconditional answers.
        judges: what says how the answers sound.
        pieces, labels: PIECES_TABLE and PIECE_LABELS; both `random` and `retrieval` take from split `train`.
        config: seed, sampling, `unconditional`.

    Returns:
        By name a frame with a row for each request answered: `set`, `request`, `image_group`, REQUESTED, and the judges' rows.
    """
    points = asked[REQUESTED].to_numpy(dtype=np.float64)
    train = np.flatnonzero((pieces["split"] == "train").to_numpy())
    library = labels[["valence", "arousal"]].to_numpy(dtype=np.float64)[train]
    log.info("evaluate: the baselines")
    every = np.arange(len(asked))
    answers = {
        "random": (every, judges.of_pieces(train[random_picks(len(train), len(asked), config.seed)])),
        "retrieval": (every, judges.of_pieces(train[nearest(points, library)])),
        "rules": (every, judges.of_scores(by_rule(points, config.sampling.seconds, config.seed))),
    }
    some = spread(len(asked), config.unconditional)
    if len(some):
        answers["unconditional"] = (some, judges.of_scores(unconditional(model, len(some), config)))
    about = asked[["set", "request", "image_group", *REQUESTED]]
    return {
        name: pd.concat([about.iloc[rows].reset_index(drop=True), found], axis=1)
        for name, (rows, found) in answers.items()
    }


def random_picks(available: int, count: int, seed: int) -> np.ndarray:
    """`count` of `available` rows, each used as often as any other (or once less)."""
    rng = np.random.default_rng([seed, 7])
    rounds = [rng.permutation(available) for _ in range(-(-count // available))]
    return np.concatenate(rounds)[:count]


def nearest(points: np.ndarray, library: np.ndarray) -> np.ndarray:
    """For each point [N, 2] the row of the nearest of `library` [M, 2]; rows without a label are never taken."""
    distance = np.where(np.isnan(library).any(axis=1), np.inf, ((points[:, None] - library) ** 2).sum(axis=-1))
    return distance.argmin(axis=1)


def by_rule(points: np.ndarray, seconds: float, seed: int) -> list[Score]:
    """A piece of the rule-based composer for each point [N, 2], of about `seconds`, as read back from its MIDI bytes."""
    found = []
    for row, (valence, arousal) in enumerate(np.clip(points, -1.0, 1.0).tolist()):
        own = 1_000_000 * (seed + 1) + row  # the sample set's own pieces have small seeds
        tempo = Character.of(valence, arousal, np.random.default_rng(own)).tempo
        score = compose_by_rule(valence, arousal, own, bars=max(4, round(seconds * tempo / 240)))
        found.append(reading.parse_score(bytes(score.dumps_midi())))
    return found


def unconditional(model: Model, count: int, config: EvaluateConfig) -> list[Score]:
    """`count` pieces of the model with its condition dropped, each with a seed of its own, as read back.

    Guidance 0 leaves exactly the logits without picture and request. The plan of each is one for an emotion drawn at random,
    which nobody asked for. One candidate: the best of several would be chosen by the request.
    """
    sampling = config.sampling.model_copy(update={"guidance": 0.0, "candidates": 1})
    drawn_N2 = np.random.default_rng([config.seed, count]).uniform(-1, 1, (count, 2)).tolist()
    tokenizer = tokens.load(model.folder / contracts.TOKENIZER)
    found: list[Score] = []
    for start in track(range(0, count, config.batch_size), "evaluate: composing without a condition"):
        batch = [
            Request(None, drawn_N2[k][0], drawn_N2[k][1], 1_000_000 * (config.seed + 1) + k, sampling.seconds)
            for k in range(start, min(start + config.batch_size, count))
        ]
        for piece in sample(model, batch, sampling):
            found.append(reading.parse_score(bytes(tokens.decode(tokenizer, piece.ids).dumps_midi())))
    return found


def spread(available: int, count: int) -> np.ndarray:
    """At most `count` of `available` rows, evenly spread."""
    return np.unique(np.linspace(0, available - 1, min(count, available)).round().astype(int))
