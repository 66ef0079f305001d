"""What one piece is composed for: the request, checked once, when it is made; and the same as the network gets it.

No torch is imported before a request meets a model: a bad value is refused before anything slow happens.

Shapes: S image tokens, C channels, D the network's width.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from huesong.config import FASTEST, SLOWEST, SamplingConfig
from huesong.music.keys import FEWEST_BEATS, Constraints, Key
from huesong.runtime.errors import UserError
from huesong.va import Trajectory, check_emotion, mean_of, value_at

if TYPE_CHECKING:
    from torch import Tensor

    from huesong.model.folder import Model
    from huesong.music.grammar import Grammar

MOST_BARS = 300
"""Ten minutes at 120 beats a minute, as the longest `--seconds`."""
NATURAL = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
"""Pitch classes."""
VA = tuple[float, float]
"""Valence and arousal in [-1, 1]."""


@dataclass(frozen=True)
class Request:
    """What one piece is composed for.

    picture: an image file, an RGB image, or the row that a model's encoder has made of it (float [S, C] or uint8
    [H, W, 3]); None = no picture, then valence and arousal are both needed. valence, arousal: in [-1, 1]; None = what
    the picture suggests. seed: any integer. seconds: None = the sampling settings' length. bars: length in 4/4 bars
    instead, at the tempo that the piece takes. tempo: quarters a minute, the nearest that the model knows; None = as it
    comes. key: whose scale all notes are from and whose tonic ends the piece (`parse_key`); None = as it comes. primer:
    what the piece begins with, counted towards its length: a MIDI file, a score, or token ids without BOS.

    Raises:
        UserError: a value out of range, or neither a picture nor both valence and arousal.
    """

    picture: Any = None
    valence: Trajectory | None = None
    arousal: Trajectory | None = None
    seed: int = 0
    seconds: float | None = None
    bars: int | None = None
    tempo: float | None = None
    key: Key | None = None
    primer: Any = None

    def __post_init__(self) -> None:
        check_emotion(self.valence, self.arousal)
        if self.picture is None and (self.valence is None or self.arousal is None):
            raise UserError("a request without a picture needs both a valence and an arousal")
        if self.seconds is not None and self.bars is not None:
            raise UserError("--seconds and --bars both say how long the piece is: give one of them")
        sampling_config(seconds=self.seconds)
        if self.bars is not None and not 1 <= self.bars <= MOST_BARS:
            raise UserError(f"--bars {self.bars}: give a number from 1 to {MOST_BARS}, or --seconds")
        if self.tempo is not None and not SLOWEST <= self.tempo <= FASTEST:  # nan fails as well
            raise UserError(f"--tempo {self.tempo:g}: give quarters a minute from {SLOWEST} to {FASTEST}, such as 96")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: give a whole number from 0 to {2**63 - 1}")
        if self.tempo is not None and self.primer is not None:
            raise UserError("a primer brings its own tempo: leave out --tempo")


@dataclass(frozen=True)
class Piece:
    """A composed piece. What has a default is added by a Composer, which has the tokenizer and the music labeller.

    ids: token ids without BOS and EOS. requested: valence and arousal asked of the network (of a trajectory the mean
    over time). predicted: the picture's own; None without a picture. critic: what the model's own critic predicts for
    the piece (not independent of the model). midi: a Standard MIDI File. score: that file read back (symusic.Score).
    obtained: what the music labeller predicts for `score`; None if the model folder has no labeller.
    """

    ids: list[int]
    requested: VA
    predicted: VA | None
    critic: VA
    midi: bytes = b""
    score: Any = None
    obtained: VA | None = None


def sampling_config(**options: float | None) -> SamplingConfig:
    """Sampling settings from options; None = the default.

    Raises:
        UserError: names the option and the values it takes.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if not math.isfinite(value):
            raise UserError(f"--{name.replace('_', '-')} {value}: give a finite number")
    try:
        return SamplingConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        hint = " (a piece lasts 4 to 600 seconds)" if option == "seconds" else ""
        raise UserError(f"--{option} {first['input']}: {first['msg']}{hint}") from error


def parse_key(text: str | None) -> Key | None:
    """What a user wrote: `C`, `F# minor`, `Bbm` ...; the tonic's pitch class and whether it is major.

    Raises:
        UserError: it is no key.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([A-Ga-g])\s*(#|b|♯|♭|sharp|flat)?\s*(m|min|minor|maj|major)?", text.strip())
    if found is None:
        raise UserError(f"--key {text}: give a key such as C, 'F# minor' or Bbm")
    letter, accidental, mode = found.groups()
    shift = {None: 0, "#": 1, "♯": 1, "sharp": 1, "b": -1, "♭": -1, "flat": -1}[accidental]
    return (NATURAL[letter.upper()] + shift) % 12, mode not in ("m", "min", "minor")


def parse_trajectory(text: str | None, name: str) -> Trajectory | None:
    """What a user wrote: a number, or a trajectory such as `0.2..0.8` or `-0.5..0.8..0`.

    Raises:
        UserError: it is neither.
    """
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(".."))
    except ValueError:
        raise UserError(
            f"--{name} {text}: give a number from -1 to 1, or a trajectory of two or more such as 0.2..0.8"
        ) from None
    return values if len(values) > 1 else values[0]


# --- as the network and the grammar get it -----------------------------------------------------------


@dataclass
class Conditioning:
    """What the network gets of a request."""

    picture_tokens_1SD: Tensor
    valence: Trajectory
    arousal: Trajectory
    predicted: VA | None

    @property
    def changes(self) -> bool:
        """Whether it changes in the course of the piece."""
        return isinstance(self.valence, tuple) or isinstance(self.arousal, tuple)

    @property
    def requested(self) -> VA:
        """The mean request."""
        return mean_of(self.valence), mean_of(self.arousal)

    def at(self, share: float) -> VA:
        """The request when this share of the piece, 0 to 1, is over."""
        return value_at(self.valence, share), value_at(self.arousal, share)

    def until(self, share: float) -> VA:
        """The mean request of the first `share` of the piece."""
        valences, arousals = zip(*map(self.at, np.linspace(0, max(share, 1e-3), 33)), strict=True)
        return float(np.mean(valences)), float(np.mean(arousals))


def conditioning_of(model: Model, request: Request) -> Conditioning:
    """Image tokens and the valence and arousal to ask for; one picture at a time, so that batches do not matter."""
    import torch

    valence, arousal = request.valence, request.arousal
    if request.picture is None:
        assert valence is not None, "refused when the request was made"
        assert arousal is not None, "likewise"
        return Conditioning(model.network.no_picture(1), valence, arousal, None)
    encoding = model.network.encode_picture(torch.from_numpy(np.array(request.picture)[None]).to(model.device))
    suggested_valence, suggested_arousal = encoding.request_B2[0].tolist()
    predicted_valence, predicted_arousal = encoding.va_B2[0].tolist()
    return Conditioning(
        encoding.tokens_BSD,
        suggested_valence if valence is None else valence,
        suggested_arousal if arousal is None else arousal,
        (predicted_valence, predicted_arousal),
    )


def constraints_of(grammar: Grammar, request: Request, config: SamplingConfig) -> Constraints:
    """What the grammar holds a request's piece to.

    Raises:
        UserError: a tempo that the vocabulary does not reach, or at which the piece is too short.
    """
    seconds = None if request.bars is not None else config.seconds if request.seconds is None else request.seconds
    tempo, tempos = None, grammar.table.tempos
    if request.tempo is not None:
        if not tempos[0] <= request.tempo <= tempos[-1]:
            raise UserError(
                f"--tempo {request.tempo:g}: this model knows {tempos[0]:.0f} to {tempos[-1]:.0f} quarters a minute"
            )
        tempo = int(np.abs(np.log(tempos / request.tempo)).argmin())
    found = Constraints(
        seconds, request.bars, tempo, request.key, polyphony=config.max_polyphony,
        notes_per_second=config.max_notes_per_second, silence=config.max_silence,
    )  # fmt: skip
    if not grammar.can_be(found):
        raise UserError(
            f"--tempo {request.tempo:g}: a piece of {seconds:g} s cannot be written at it, for it needs {FEWEST_BEATS} "
            "beats at least, and a length that the grid can tell: ask for more seconds, or for another tempo"
        )
    return found
