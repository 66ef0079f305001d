"""A tiny world for the tests of training: a REMI vocabulary, pieces whose emotion is audible, two-tone pictures.

Loud (large velocity) pieces have high arousal, pieces of high pitch high valence, so a critic can learn it; the
pictures' brightness is their valence, their redness their arousal.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from huesong import contracts
from huesong.config import CriticConfig, NetworkConfig, TrainConfig
from huesong.model.dataset import Examples, Pairs, Pictures, Pieces, Special, load_special

TOKENS = [
    ["PAD_None"], ["BOS_None"], ["EOS_None"], ["Bar_None"],
    *[[f"Position_{p}"] for p in range(0, 32)],
    *[[f"Tempo_{t}"] for t in (60.0, 90.0, 120.0, 160.0)],
    *[[f"Pitch_{p}"] for p in range(33, 109)],
    *[[f"Velocity_{v}"] for v in (31, 63, 95, 127)],
    *[[f"Duration_{d}"] for d in (f"{t // 8}.{t % 8}.8" for t in range(1, 33))],
    ["Bar_None", "Position_0", "Tempo_120.0"],
]  # fmt: skip
PLACE = {parts[0]: row for row, parts in enumerate(TOKENS) if len(parts) == 1}
SIZE = len(TOKENS)
NETWORK = NetworkConfig(
    width=16, heads=2, encoder_layers=1, decoder_layers=1, feed_forward=2, dropout=0.1, context=48, recall=False
)
"""Bars of this vocabulary have no heads, so there is nothing to recall."""
CRITIC = CriticConfig(width=16, heads=2, layers=1, steps=20, batch_size=8, learning_rate=5e-3)


def settings(**changes: object) -> TrainConfig:
    values: dict[str, object] = {
        "device": "cpu",
        "threads": 1,
        "network": NETWORK,
        "critic": CRITIC,
        "pretrain_steps": 0,
        "steps": 8,
        "batch_size": 4,
        "learning_rate": 3e-3,
        "warmup_steps": 2,
        "eval_every": 4,
        "eval_batches": 2,
        "checkpoint_every": 3,
        "objective": "ce+va_critic",
    }
    return TrainConfig.model_validate(values | changes)


@lru_cache
def special() -> Special:
    with tempfile.TemporaryDirectory() as folder:
        return load_special(write_vocabulary(Path(folder)))


def write_vocabulary(folder: Path) -> Path:
    """The vocabulary as a file: format 1, without heads of bars."""
    digest = hashlib.sha256(json.dumps(TOKENS, separators=(",", ":")).encode()).hexdigest()
    content = {
        "format": 1, "tokens": TOKENS, "pad": 0, "bos": 1, "eos": 2, "positions_per_beat": 8, "beats_per_bar": 4,
        "digest": digest,
    }  # fmt: skip
    (folder / contracts.VOCABULARY).write_text(json.dumps(content))
    return folder / contracts.VOCABULARY


def piece_tokens(valence: float, arousal: float, rng: np.random.Generator, bars: int = 3) -> list[int]:
    pitches = (72, 74, 76, 77, 79) if valence > 0 else (48, 50, 52, 53, 55)
    velocity = PLACE[f"Velocity_{127 if arousal > 0 else 31}"]
    ids: list[int] = []
    for bar in range(bars):
        ids += [SIZE - 1] if bar == 0 else [PLACE["Bar_None"]]
        for beat in range(0, 32, 8):
            ids += [] if bar == beat == 0 else [PLACE[f"Position_{beat}"]]
            ids += [PLACE[f"Pitch_{rng.choice(pitches)}"], velocity, PLACE["Duration_1.0.8"]]
    return ids


def tiny_examples(kind: str = "pixels", pieces: int = 24, bars: int = 3, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    signs = np.array([(v, a) for v in (-0.6, 0.6) for a in (-0.6, 0.6)] * (pieces // 4), dtype=np.float32)
    sequences = [piece_tokens(v, a, rng, bars) for v, a in signs]
    count = np.array([len(ids) for ids in sequences])
    split = np.array(["val" if row % 5 == 4 else "train" for row in range(pieces)])
    rows = np.stack([picture(v, a, rng, kind) for v, a in signs])
    music = Pieces(
        np.concatenate([np.array(ids, np.uint16) for ids in sequences]), np.cumsum(count) - count, count,
        [f"piece{row}#0" for row in range(pieces)], split, signs, np.ones(pieces, np.float32), np.ones(pieces, np.float32),
        np.ones(pieces, bool), np.ones(pieces, bool),
    )  # fmt: skip
    pictures = Pictures(
        rows, [f"picture{row}" for row in range(pieces)], split, signs * 0.5, np.ones(pieces, np.float32)
    )
    pairs = Pairs(np.arange(pieces), np.arange(pieces), split, signs)
    return with_reader(Examples(music, pictures, pairs, special(), {}))


def with_reader(examples: Examples) -> Examples:
    """The examples with what label fits to their pictures."""
    from huesong.label.picture_reader import picture_reader

    seen, pairs = examples.pictures, examples.pairs
    examples.reader = picture_reader(
        seen.rows, seen.va_I2, seen.rated_I, seen.split_I, pairs.picture_P, pairs.split_P, pairs.va_P2
    )
    return examples


def picture(valence: float, arousal: float, rng: np.random.Generator, kind: str) -> np.ndarray:
    if kind == "features":
        return (np.array([valence, arousal, 0.1, 1.0]) + rng.normal(0, 0.05, (4, 4))).astype(np.float16)
    base = np.array([128 + 60 * arousal, 128 + 60 * valence, 128 + 60 * valence])
    return np.clip(base + rng.normal(0, 5, (32, 32, 3)), 0, 255).astype(np.uint8)


def tables(examples: Examples) -> dict[str, Any]:
    """The same world as the tables of preprocess and label: keyword arguments of write_training_table."""
    import pandas as pd

    pieces, pictures, pairs = examples.pieces, examples.pictures, examples.pairs
    raw = {"path": "", "n_raters": 1, "label_kind": "construction", "source": "sample", "licence": "CC0-1.0"}

    def rows(ids: list[str], split: np.ndarray, va: np.ndarray) -> dict[str, Any]:
        return {"id": ids, "split": split, "valence": va[:, 0], "arousal": va[:, 1]}

    of_pieces = rows(pieces.ids, pieces.split_N, pieces.va_N2)
    of_pictures = rows(pictures.ids, pictures.split_I, pictures.va_I2)
    told = {"valence_sd": 0.1, "arousal_sd": 0.1, "origin": "construction", "weight": 1.0}
    return {
        "pieces": pd.DataFrame({
            **of_pieces, **raw, "piece": [name.split("#")[0] for name in pieces.ids], "segment_start_s": 0.0,
            "bars_from": "file",
            "token_start": pieces.start_N, "token_count": pieces.count_N,
        }),
        "images": pd.DataFrame({**of_pictures, **raw, "group": pictures.ids}),
        "pictures": pictures.rows,
        "head": {},
        "piece_labels": pd.DataFrame({**of_pieces, **told}),
        "image_labels": pd.DataFrame({**of_pictures, **told}),
        "pairs": pd.DataFrame({
            "image_id": pictures.ids, "piece_id": pieces.ids, "split": pairs.split_P, "valence": pairs.va_P2[:, 0],
            "arousal": pairs.va_P2[:, 1],
        }),
    }  # fmt: skip


def write_artifacts(root: Path, kind: str = "pixels") -> tuple[Path, Path]:
    """The same world as preprocess and label leave it on disk; returns both folders."""
    from huesong.label.training_table import write_training_table

    examples = tiny_examples(kind)
    preprocess, label = root / "preprocess", root / "label"
    (preprocess / contracts.ENCODER).mkdir(parents=True)
    label.mkdir()
    write_vocabulary(preprocess)
    (preprocess / contracts.TOKENIZER).write_text("{}")
    (preprocess / contracts.ENCODER / "encoder.json").write_text('{"name": "builtin"}')
    np.save(preprocess / contracts.TOKENS, examples.pieces.tokens)
    np.save(preprocess / contracts.PICTURE_FEATURES, examples.pictures.rows)
    (label / contracts.PIECE_LABELLER).write_bytes(b"labeller")
    write_training_table(label, **tables(examples))
    return preprocess, label
