"""The composed pieces of the experiment: by any model folder, at any settings of the sampler; kept as MIDI and used again."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from huesong import contracts
from huesong.compose.composer import Composer
from huesong.config import SamplingConfig
from huesong.model.requests import Request
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file, require, sha256
from huesong.runtime.progress import track
from huesong.runtime.workers import Crashed, SafePool, cores

Asked = Literal["grid", "pictures"]
AXIS = (-0.8, -0.4, 0.0, 0.4, 0.8)
"""Both axes of the grid of emotions, as in the evaluate stage."""
TOGETHER = 8
"""Pieces that one process composes side by side."""
TIME_LIMIT_S = 4 * 3600


@dataclass(frozen=True)
class Arm:
    """A model folder and how it is sampled."""

    model: Path
    settings: str
    """As the user wrote them; "" = the usual ones."""
    sampling: SamplingConfig

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.model.name} {self.settings}".strip()

    def folder(self, seconds: float, asked: Asked, seed: int) -> str:
        """A folder's name: the same for the same weights, settings, length and kind of request."""
        facts = [sha256(self.model / contracts.MODEL_CONFIG), self.sampling.model_dump(), seconds, asked, seed]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
        return f"{self.model.name}-{seconds:g}s-{digest}"


def arms_of(models: Sequence[Path], settings: Sequence[str], base: SamplingConfig) -> list[Arm]:
    """Every model with every settings such as `guidance=1,temperature=0.8`; no settings: `base` as it is.

    Raises:
        UserError: a folder that is no model, or settings that are none.
    """
    for model in models:
        require(model / contracts.MODEL_CONFIG, "huesong train")
    return [Arm(model, text, changed(base, text)) for model in models for text in settings or [""]]


def changed(base: SamplingConfig, text: str) -> SamplingConfig:
    """`base` with the settings that `text` names.

    Raises:
        UserError: an unknown name, or a value that does not fit.
    """
    from huesong.model.requests import sampling_config

    known = set(SamplingConfig.model_fields) - {"seconds"}
    given: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        try:
            given[name] = float(value)
        except ValueError:
            raise UserError(f"--arm {text}: give settings such as guidance=1,temperature=0.8") from None
        if name not in known:
            raise UserError(f"--arm {text}: {name!r} is none of {', '.join(sorted(known))}")
    merged = {name: value for name, value in base.model_dump().items() if name in SamplingConfig.model_fields} | given
    return sampling_config(**merged)


def requests_of(asked: Asked, count: int, seconds: float, seed: int, data: Path, preprocess: Path) -> list[Request]:
    """`count` requests: the 25 emotions of the grid, or the pictures of split `test`, in turn, each round with other seeds.

    Raises:
        UserError: no pictures.
    """
    if asked == "grid":
        points = [(valence, arousal) for valence in AXIS for arousal in AXIS]
        return [
            Request(valence=points[k % 25][0], arousal=points[k % 25][1], seed=seed + k // 25, seconds=seconds)
            for k in range(count)
        ]
    images = pd.read_parquet(require(preprocess / contracts.IMAGES_TABLE, "huesong preprocess"))
    paths = [data / str(path) for path in images.loc[images["split"] == "test", "path"]]
    if not paths:
        raise UserError(f"{preprocess} has no pictures of split test: ask by --requests grid")
    return [Request(picture=paths[k % len(paths)], seed=seed + k // len(paths), seconds=seconds) for k in range(count)]


def composed(arm: Arm, requests: Sequence[Request], folder: Path, workers: int) -> list[Path]:
    """The MIDI files of an arm's answers; only those that `folder` lacks are composed.

    Raises:
        UserError: a worker process ended, as it does for want of memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:04d}.mid" for number in range(len(requests))]
    missing = [number for number, file in enumerate(files) if not file.exists()]
    batches = [
        (arm.model, arm.sampling, tuple(requests[number] for number in missing[begin : begin + TOGETHER]))
        for begin in range(0, len(missing), TOGETHER)
    ]
    if not batches:
        return files
    pool = SafePool(min(workers or cores(), len(batches)), preload=[__name__], time_limit_s=TIME_LIMIT_S)
    answers = track(pool.map(answer, batches), f"quality: composing ({arm.name})", total=len(batches))
    for number, (_, pieces) in enumerate(answers):
        if isinstance(pieces, Crashed):
            raise UserError("a process that composed was ended, perhaps for want of memory: lower --workers")
        for place, midi in zip(missing[number * TOGETHER :], pieces, strict=False):
            with replacing_file(files[place]) as part:
                part.write_bytes(midi)
    return files


def answer(batch: tuple[Path, SamplingConfig, tuple[Request, ...]]) -> list[bytes]:
    """The MIDI bytes of a batch of requests, in a worker process."""
    model, sampling, requests = batch
    return [piece.midi for piece in loaded(model).compose(list(requests), sampling)]


@functools.lru_cache(maxsize=1)
def loaded(model: Path) -> Composer:
    """The composer, once a worker and model."""
    return Composer(model)
