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
from huesong.music.reading import read_score
from huesong.music.rendering.audio import render_preview
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log, track
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
        (folder.parent / name).write_bytes(tokens.decode(tokenizer, piece.ids).dumps_midi())
    for column, values in (
        ("requested", [s.requested for s in samples]),
        ("predicted", [s.predicted or (np.nan, np.nan) for s in samples]),
        ("critic", [s.critic for s in samples]),
    ):
        composed[[f"{column}_valence", f"{column}_arousal"]] = np.asarray(values, dtype=np.float64)
    composed["invalid_tokens"] = [model.grammar.count_violations(s.ids) for s in samples]
    return composed


def play_all(judged: pd.DataFrame, work: Path, config: EvaluateConfig) -> pd.DataFrame:
    """Every piece as an MP3 in `work`/contracts.SOUNDS; the table with their paths as `sound`, "" where one fails."""
    (work / contracts.SOUNDS).mkdir()
    played = judged.assign(sound=[f"{contracts.SOUNDS}/{Path(name).stem}.mp3" for name in judged["file"]])
    jobs = [
        (str(work / row["file"]), str(work / row["sound"]), float(row["requested_arousal"]))
        for row in played.to_dict("records")
    ]
    pool = SafePool(min(config.workers or cores(), len(jobs)), preload=[__name__])
    made = track(pool.map(_play, jobs), "evaluate: playing pieces", total=len(jobs))
    for row, (_, failed) in zip(played.index, made, strict=True):
        if failed is not None:
            log.warning("evaluate: %s is not in the report's players: %s", played.at[row, "file"], failed.reason)
            played.at[row, "sound"] = ""
    return played


def _play(job: tuple[str, str, float]) -> None:
    midi, sound, arousal = job
    Path(sound).write_bytes(render_preview(read_score(Path(midi)), arousal=arousal, compressed=True))


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
