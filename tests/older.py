"""What earlier versions of huesong wrote, made from what this one writes."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import miditok
import numpy as np
from miditok import REMI

from huesong import contracts
from huesong.music import tokens
from huesong.music.grammar import Grammar
from huesong.music.vocabulary import Vocabulary, digest_of
from tests.tiny_music import pieces


def format_1(folder: Path, out: Path) -> Path:
    """A copy of the model folder as huesong 0.1.0 wrote it: weights.safetensors, no `model_type`, format 1."""
    shutil.copytree(folder, out)
    (out / contracts.MODEL_WEIGHTS).rename(out / "weights.safetensors")
    path = out / contracts.MODEL_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    assert config.pop("model_type") == "huesong"
    config["format"] = 1
    config["files"]["weights.safetensors"] = config["files"].pop(contracts.MODEL_WEIGHTS)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return out


@lru_cache
def tokenizer(size: int = 600) -> REMI:
    """As versions before time signatures made one: all in 4/4, no heads, and BPE joins whatever stands in one bar."""
    made = REMI(
        miditok.TokenizerConfig(
            pitch_range=(21, 108), beat_res={(0, 4): 8, (4, 12): 4}, num_velocities=16, special_tokens=["PAD", "BOS", "EOS"],
            use_velocities=True, use_tempos=True, use_time_signatures=False, num_tempos=32, tempo_range=(40, 220),
            log_tempos=True, delete_equal_successive_tempo_changes=True, remove_duplicated_notes=True,
            use_pitchdrum_tokens=False, encode_ids_split="no",
        )
    )  # fmt: skip
    words = []
    for score in pieces():
        ids = np.array(tokens.encode_base(made, score))
        bars = np.split(ids, np.flatnonzero(ids == made.vocab["Bar_None"]))
        words.append([made._ids_to_bytes(bar.tolist(), as_one_str=True) for bar in bars if len(bar)])
    made.train(vocab_size=size, model="BPE", iterator=words)
    return made


def write_vocabulary(folder: Path) -> Path:
    """Its vocabulary file: format 1."""
    names = tokens.base_tokens(tokenizer())
    content = {
        "format": 1, "tokens": names, "pad": 0, "bos": 1, "eos": 2, "positions_per_beat": 8, "beats_per_bar": 4,
        "digest": digest_of(names),
    }  # fmt: skip
    (folder / contracts.VOCABULARY).write_text(json.dumps(content))
    return folder / contracts.VOCABULARY


@lru_cache
def grammar() -> Grammar:
    with tempfile.TemporaryDirectory() as folder:
        return Grammar(Vocabulary.load(write_vocabulary(Path(folder))))
