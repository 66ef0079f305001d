"""What is asked for: a request, and the same as the network takes it.

Shapes: S image tokens, C channels, D the network's width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from huesong.model.folder import Model
from huesong.music.grammar import Grammar
from huesong.music.keys import FEWEST_BEATS, Asked, Key
from huesong.runtime.errors import UserError
from huesong.va import Course, check_emotion, mean_of, value_at


@dataclass(frozen=True)
class Request:
    """One piece to compose.

    picture: a row of the picture array, float [S, C] or uint8 [H, W, 3]; None = no picture, valence and arousal only.
    valence, arousal: in [-1, 1]; None = what the picture suggests. seed: any integer. seconds: asked length.
    bars: asked length in 4/4 bars instead of seconds. tempo: quarters a minute, the nearest that the vocabulary has;
    None = as it comes. key: whose scale all notes are from; None = as it comes. primer: token ids that the piece
    begins with (no BOS); they count towards its length.
    """

    picture: np.ndarray | None
    valence: Course | None
    arousal: Course | None
    seed: int
    seconds: float
    bars: int | None = None
    tempo: float | None = None
    key: Key | None = None
    primer: tuple[int, ...] = ()


@dataclass
class Condition:
    """A request as the network takes it."""

    picture_tokens_1SD: Tensor
    valence: Course
    arousal: Course
    predicted: tuple[float, float]

    @property
    def changes(self) -> bool:
        """Whether the request changes in the course of the piece."""
        return isinstance(self.valence, tuple) or isinstance(self.arousal, tuple)

    @property
    def requested(self) -> tuple[float, float]:
        """The mean request."""
        return mean_of(self.valence), mean_of(self.arousal)

    def until(self, share: float) -> tuple[float, float]:
        """The mean request of the first `share` of the piece."""
        points = np.linspace(0, max(share, 1e-3), 33)
        return (
            float(np.mean([value_at(self.valence, point) for point in points])),
            float(np.mean([value_at(self.arousal, point) for point in points])),
        )

    def at(self, share: float) -> tuple[float, float]:
        """The request when this share of the piece, 0 to 1, is over."""
        return value_at(self.valence, share), value_at(self.arousal, share)


def condition_of(model: Model, request: Request) -> Condition:
    """Image tokens and the valence and arousal to ask for; one picture at a time, so that batches do not matter.

    Raises:
        UserError: a value or course that cannot be asked, or neither a picture nor both valence and arousal.
    """
    check_emotion(request.valence, request.arousal)
    network = model.network
    given = (request.valence, request.arousal)
    if request.picture is None:
        if request.valence is None or request.arousal is None:
            raise UserError("a request without a picture needs both a valence and an arousal")
        return Condition(network.no_picture(1), request.valence, request.arousal, (float("nan"), float("nan")))
    pixels = torch.from_numpy(np.array(request.picture)[None]).to(model.device)
    encoding = network.encode_picture(pixels)
    predicted = [float(value) for value in encoding.va_B2[0]]
    suggested = [float(value) for value in encoding.request_B2[0]]
    valence, arousal = (own if value is None else value for value, own in zip(given, suggested, strict=True))
    return Condition(encoding.tokens_BSD, valence, arousal, (predicted[0], predicted[1]))


def asked_of(grammar: Grammar, request: Request) -> Asked:
    """What a request asks of the score.

    Raises:
        UserError: a tempo that the vocabulary does not reach, or at which the piece is too short.
    """
    asked = Asked(bars=request.bars, key=request.key)
    if request.bars is None:
        asked = replace(asked, seconds=request.seconds)
    if request.tempo is None:
        return asked
    tempos = grammar.table.tempos
    if not tempos[0] <= request.tempo <= tempos[-1]:
        raise UserError(
            f"--tempo {request.tempo:g}: this model knows {tempos[0]:.0f} to {tempos[-1]:.0f} quarters a minute"
        )
    asked = replace(asked, tempo=int(np.abs(np.log(tempos / request.tempo)).argmin()))
    if not grammar.can_be(asked):
        raise UserError(
            f"--tempo {request.tempo:g}: a piece of {request.seconds:g} s cannot be written at it, for it needs {FEWEST_BEATS} "
            "beats at least, and a length that the grid can tell: ask for more seconds, or for another tempo"
        )
    return asked
