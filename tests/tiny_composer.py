"""A model folder that composes at once, of a random network; and what tests of composing share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from huesong import contracts
from huesong.config import SamplingConfig
from huesong.emotion.labellers import PieceLabeller
from huesong.model.folder import save_model
from huesong.model.network import PictureShape
from huesong.music import tokens
from huesong.music.features import features
from huesong.pictures.encoders import load_encoder
from tests.tiny_music import modules, pieces, tokenizer

SHORT = SamplingConfig(seconds=5.0, guidance=1.0, candidates=1)


def model_folder(root: Path) -> Path:
    """A model folder: random network, real tokenizer, encoder and labeller."""
    preprocess, label = root / "preprocess", root / "label"
    preprocess.mkdir()
    label.mkdir()
    tokens.save(tokenizer(), preprocess / contracts.TOKENIZER)
    tokens.write_vocabulary(tokenizer(), preprocess / contracts.VOCABULARY)
    load_encoder("builtin", size=32, grid=4).save(preprocess / contracts.ENCODER)
    heard = pd.DataFrame([features(score) for score in pieces()] * 4)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        "valence": rng.uniform(-1, 1, len(heard)), "arousal": np.tanh(heard.iloc[:, 0] - heard.iloc[:, 0].mean()),
        "label_kind": "construction", "group": [f"g{row}" for row in range(len(heard))], "n_raters": 1, "split": "train",
    })  # fmt: skip
    PieceLabeller.fit(table, heard).save(label / contracts.PIECE_LABELLER)
    made = modules(128, PictureShape("pixels", size=32))
    save_model(
        root / "model", network=made.network, critic=made.critic, preprocess=preprocess, label=label, training={}
    )
    return root / "model"


def photo(path: Path) -> Path:
    """A small picture of one gradient."""
    ramp = np.linspace(0, 255, 48, dtype=np.uint8)
    Image.fromarray(
        np.stack([np.tile(ramp, (40, 1)), np.full((40, 48), 90, np.uint8), np.tile(ramp[::-1], (40, 1))], 2)
    ).save(path)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def never() -> tuple[Path, str]:
    pytest.fail("the model was asked for before the input had been checked")
