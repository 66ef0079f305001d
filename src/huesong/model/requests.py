"""What one piece is composed for: the request, checked once, when it is made; and the same as the network gets it.

A bad value is refused before a model is read.

Shapes: S image tokens, C channels, D the network's width.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from huesong.config import FASTEST, SLOWEST, SamplingConfig
from huesong.music.form import header
from huesong.music.form.heads import heads_of
from huesong.music.form.plan import Chord, Plan
from huesong.music.form.planner import Settings, invent
from huesong.music.keys import Constraints, Key
from huesong.runtime.errors import UserError
from huesong.va import Trajectory, check_emotion, mean_of, value_at

if TYPE_CHECKING:
    from huesong.model.folder import Model

MOST_BARS = 300
"""Ten minutes at 120 beats a minute, as the longest `--seconds`."""
MOST_INTENSITY = 5.0
NATURAL = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
"""Pitch classes."""
VA = tuple[float, float]
"""Valence and arousal in [-1, 1]."""


@dataclass(frozen=True)
class Request:
    """What one piece is composed for.

    picture: an image file, an RGB image, or the row that a model's encoder has made of it (float [S, C] or uint8
    [H, W, 3]); None = no picture, then valence and arousal are both needed. valence, arousal: in [-1, 1]; None = what
    the picture suggests. seed: 0 to 2**63 - 1. seconds: None = the sampling settings' length. bars: length in bars instead,
    at the tempo that the piece takes. tempo: quarters a minute. key: whose scale all notes are from and whose tonic ends
    the piece (`parse_key`). primer: what the piece begins with, counted towards its length: a MIDI file, a score, or token
    ids without BOS. plan: what is composed bar by bar; None = one is invented. style: one of header.STYLES. form, chords,
    metre: as form.settings reads them. loop: whether the end leads back to the beginning. intensity: how far from
    neutral what the picture suggests is asked for; None = 1, as the model's map says. primer_plan: the plan of a
    primer that is given as token ids; it begins the piece's. None = as suits the emotion.

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
    plan: Plan | None = None
    style: str | None = None
    form: tuple[tuple[str, int], ...] | None = None
    chords: tuple[tuple[Chord, ...], ...] | None = None
    metre: tuple[int, int] | None = None
    loop: bool = False
    intensity: float | None = None
    primer_plan: Plan | None = None

    @property
    def settings(self) -> Settings:
        """What of the plan is settled."""
        return Settings(
            self.form, self.chords, self.metre, self.key, self.tempo, self.style, self.loop, self.bars
        )  # fmt: skip

    def __post_init__(self) -> None:
        assert self.settings is not None, "which checks itself"
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
        if self.intensity is not None:
            if not 0 <= self.intensity <= MOST_INTENSITY:  # nan fails as well
                raise UserError(
                    f"--intensity {self.intensity:g}: give a number from 0 to {MOST_INTENSITY:g}, such as 1.5"
                )
            if self.valence is not None and self.arousal is not None:
                raise UserError("--intensity scales what the picture suggests: leave it out, or --valence or --arousal")
        if self.primer is not None:
            for name, value in (("tempo", self.tempo), ("meter", self.metre)):
                if value is not None:
                    raise UserError(f"a primer brings its own {name}: leave out --{name}")


@dataclass(frozen=True)
class Sampled:
    """What was sampled for a request; a Composer makes a piece of it (compose.piece).

    ids: token ids without BOS and EOS. requested: valence and arousal asked of the network (of a trajectory the mean
    over time). predicted: the picture's own; None without a picture. critic: what the model's own critic predicts for
    it (not independent of the model). plan: what it was composed by.
    """

    ids: list[int]
    requested: VA
    predicted: VA | None
    critic: VA
    plan: Plan


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

    picture_tokens_1SD: np.ndarray
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
    valence, arousal = request.valence, request.arousal
    if request.picture is None:
        assert valence is not None, "refused when the request was made"
        assert arousal is not None, "likewise"
        return Conditioning(model.network.no_picture(1), valence, arousal, None)
    encoding = model.network.encode_picture(np.asarray(request.picture)[None])
    request_B2, neutral_2 = encoding.request_B2, model.network.picture.neutral_2
    if request.intensity is not None:
        request_B2 = (neutral_2 + request.intensity * (request_B2 - neutral_2)).clip(-1, 1)
    suggested_valence, suggested_arousal = request_B2[0].tolist()
    predicted_valence, predicted_arousal = encoding.va_B2[0].tolist()
    return Conditioning(
        encoding.tokens_BSD,
        suggested_valence if valence is None else valence,
        suggested_arousal if arousal is None else arousal,
        (predicted_valence, predicted_arousal),
    )


def plan_of(model: Model, request: Request, conditioning: Conditioning, config: SamplingConfig) -> Plan:
    """The request's plan, or one that suits its emotion, length, tempo and key.

    Raises:
        UserError: what was settled does not fit together, or the model does not know it.
    """
    plan = request.plan
    if request.tempo is not None:
        _check_tempo(model, request.tempo)
    if plan is None:
        plan = _invented(request, conditioning, config, model.metres)
    _check_tempo(model, plan.tempo)
    return plan


def plan_seed(seed: int, emotion: VA) -> int:
    """The seed of a plan: at one seed two pictures, or two emotions asked for without a picture, have plans of their own.

    Without it all photos would get pieces of one key and form. In hundredths, so that another processor's last bits do not
    make another piece; a picture's own emotion counts, so that it keeps its key where another one is asked for.
    """
    words = ":".join(str(round(100 * value)) for value in emotion)
    return int.from_bytes(hashlib.sha256(f"{seed}:{words}".encode()).digest()[:8], "big") >> 1


def _check_tempo(model: Model, tempo: float) -> None:
    tempos = model.grammar.table.tempos
    if not 0.9 * tempos[0] <= tempo <= 1.1 * tempos[-1]:
        raise UserError(f"--tempo {tempo:g}: this model knows {tempos[0]:.0f} to {tempos[-1]:.0f} quarters a minute")


def _invented(
    request: Request, conditioning: Conditioning, config: SamplingConfig, metres: Sequence[tuple[int, int]]
) -> Plan:
    """A plan for the request; after a primer's bars, if it has some, one for the time that is left."""
    seconds = config.seconds if request.seconds is None else request.seconds
    bars, begun = request.bars, request.primer_plan
    settings, seed = request.settings, plan_seed(request.seed, conditioning.predicted or conditioning.requested)
    if begun is None:
        return invent(conditioning.valence, conditioning.arousal, seconds, seed, settings, metres)
    left, count = seconds - begun.seconds, None if bars is None else bars - len(begun.bars)
    if left < 60 / begun.tempo if count is None else count < 1:
        length = f"{seconds:g} s" if bars is None else f"{bars} bars"
        room = f"{seconds - 60 / begun.tempo:.1f} s" if bars is None else f"{bars - 1} bars"
        raise UserError(
            f"the primer is too long for a piece of {length}: it has {len(begun.bars)} bars, {begun.seconds:.1f} s, and may "
            f"have {room}; ask for more, or take a shorter one"
        )
    if count is None:  # at the primer's tempo, so in whole bars
        count = max(1, round(left * begun.tempo / 60 / begun.bars[-1].quarters))
    settings = replace(settings, key=begun.key, tempo=begun.tempo, metre=begun.bars[-1].metre, bars=count)
    rest = invent(conditioning.valence, conditioning.arousal, left, seed, settings)
    return replace(
        rest, tempo=begun.tempo, bars=begun.bars + rest.bars, dynamics=begun.dynamics + rest.dynamics,
        density=begun.density + rest.density,
    )  # fmt: skip


def constraints_of(model: Model, request: Request, plan: Plan, config: SamplingConfig) -> Constraints:
    """What the grammar holds a request's piece to.

    Raises:
        UserError: a metre that changes, or that the model does not know.
    """
    metres = {(4, 4) if bar.metre == (2, 2) else bar.metre for bar in plan.bars}
    metre, heads = min(metres), model.vocabulary.has_heads
    if len(metres) > 1 or metre not in model.metres:
        known = ", ".join(f"{upper}/{lower}" for upper, lower in model.metres)
        found = " and ".join(f"{upper}/{lower}" for upper, lower in sorted(metres))
        raise UserError(f"the plan is in {found}: this model composes in one metre, of {known}")
    return Constraints(
        len(plan.bars), metre, plan.tempo, request.key, tonic=plan.key if heads else None,
        beginning=tuple(header.beginning(request.style or "mixed", plan.tonic, plan.mode)) if heads else (),
        heads=tuple(map(tuple, heads_of(plan))) if heads else (), closing=not request.loop,
        polyphony=config.max_polyphony, notes_per_second=config.max_notes_per_second, silence=config.max_silence,
    )  # fmt: skip
