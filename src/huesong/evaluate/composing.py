"""The evaluation's pieces: every request is answered by the model and written as MIDI, on all cores."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.config import EvaluateConfig, SamplingConfig
from huesong.emotion.scorer import LabellerScorer
from huesong.model.folder import Model, load_model
from huesong.model.requests import Request, Sampled
from huesong.model.sampling import sample
from huesong.music import tokens
from huesong.runtime.errors import UserError
from huesong.runtime.progress import track
from huesong.runtime.workers import Crashed, SafePool, cores

TIME_LIMIT_S = 3600
"""A batch that takes longer hangs."""


@dataclass(frozen=True)
class Batch:
    """Requests that one worker answers side by side."""

    model: Path
    pictures: Path
    asked: pd.DataFrame
    sampling: SamplingConfig


def compose_all(
    model: Model, asked: pd.DataFrame, preprocess: Path, config: EvaluateConfig, folder: Path
) -> pd.DataFrame:
    """Answer every request and write the pieces as MIDI files into `folder`.

    The batches are shared by worker processes; a piece depends on its request and seed alone.

    Raises:
        UserError: a worker process ended, as it does for want of memory.
    """
    tokenizer = tokens.load(model.folder / contracts.TOKENIZER)
    folder.mkdir()
    pictures = preprocess / contracts.PICTURE_FEATURES
    batches = [
        Batch(model.folder, pictures, asked.iloc[start : start + config.batch_size], config.sampling)
        for start in range(0, len(asked), config.batch_size)
    ]
    pool = SafePool(min(config.workers or cores(), len(batches)), preload=[__name__], time_limit_s=TIME_LIMIT_S)
    samples: list[Sampled] = []
    for _, answers in track(pool.map(answer, batches, raises=True), "evaluate: composing batches", total=len(batches)):
        if isinstance(answers, Crashed):
            raise UserError(
                "a process that composed for the evaluation was ended, perhaps for want of memory: "
                "lower evaluate.workers or evaluate.batch_size"
            )
        samples += answers
    composed = asked.copy()
    composed["file"] = [f"{contracts.COMPOSED}/{name}.mid" for name in file_names(asked["request"])]
    for name, piece in zip(composed["file"], samples, strict=True):
        tokens.decode(tokenizer, piece.ids).dump_midi(folder.parent / name)
    for column, values in (
        ("requested", [s.requested for s in samples]),
        ("predicted", [s.predicted or (np.nan, np.nan) for s in samples]),
        ("critic", [s.critic for s in samples]),
    ):
        composed[[f"{column}_valence", f"{column}_arousal"]] = np.asarray(values, dtype=np.float64)
    composed["invalid_tokens"] = [model.grammar.count_violations(s.ids) for s in samples]
    return composed


def answer(batch: Batch) -> list[Sampled]:
    """The model's answers to a batch, in a worker process."""
    model, scorer = _loaded(batch.model)
    pictures = np.load(batch.pictures, mmap_mode="r", allow_pickle=False)
    requests = [request(row, pictures, batch.sampling) for _, row in batch.asked.iterrows()]
    # The best of several is chosen as `huesong compose` chooses it; the labeller shares no music with the judges.
    return sample(model, requests, batch.sampling, scorer=scorer if batch.sampling.candidates > 1 else None)


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path) -> tuple[Model, LabellerScorer | None]:
    """The model and its scorer, once a worker."""
    return load_model(folder), LabellerScorer.of_model(folder)


def request(row: pd.Series, pictures: np.ndarray, sampling: SamplingConfig) -> Request:
    """A row of the request table as the sampler takes it."""
    has_picture = row["row"] >= 0
    return Request(
        picture=pictures[int(row["row"])] if has_picture else None,
        valence=None if has_picture else float(row["asked_valence"]),
        arousal=None if has_picture else float(row["asked_arousal"]),
        seed=int(row["seed"]),
        seconds=sampling.seconds,
    )


def file_names(requests: pd.Series) -> list[str]:
    """Request names as file names: numbered, so that two ids never meet in one name."""
    return [f"{i:04d}-{''.join(c if c.isalnum() or c in '-+._' else '_' for c in r)}" for i, r in enumerate(requests)]
