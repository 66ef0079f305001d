"""What a caller asks for in plain words and numbers, as a request and sampling settings: the one way for all doors."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from huesong.compose.moods import parse_mood
from huesong.config import SamplingConfig
from huesong.model.requests import Request, parse_key, parse_trajectory, sampling_config
from huesong.music.form.settings import parse_chords, parse_form, parse_metre
from huesong.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from symusic import Score as Notes

    from huesong.music.form.plan import Chord, Plan
    from huesong.music.keys import Key

    Picture = str | PathLike[str] | Image | np.ndarray
    """A file, an image, or its pixels (uint8 [H, W, 3])."""


SAMPLING = frozenset(SamplingConfig.model_fields) - {"seconds"}
"""What is asked of the sampling; the length is the request's."""


class Asked(TypedDict, total=False):
    """What may be asked of a piece; what is left out, or None, has its default.

    valence, arousal: -1 to 1, or a course of two and more values, `(-0.5, 0.8)` or `"-0.5..0.8"`. mood: a word, or a course
    of words, `"calm..joyful"` (`huesong.MOODS`). intensity: how far from neutral what the picture suggests is taken, 0 to 5.
    seconds: 4 to 600. bars: length in bars instead. tempo: quarters a minute. meter: `"3/4"`. form: `"AABA"`. chords:
    `"Am F C G"`. style: as `huesong compose --help` lists them. key: `"D minor"`. loop: end so that the piece can begin
    again. seed: the same seed gives the same piece. primer: a MIDI file that it begins with. plan: what to compose bar by bar.
    temperature, top_p, guidance, candidates, max_polyphony, max_notes_per_second, max_silence: how it is sampled.
    """

    valence: float | tuple[float, ...] | str | None
    arousal: float | tuple[float, ...] | str | None
    mood: str | None
    intensity: float | None
    seconds: float | None
    bars: int | None
    tempo: float | None
    meter: str | tuple[int, int] | None
    form: str | tuple[tuple[str, int], ...] | None
    chords: str | tuple[tuple[Chord, ...], ...] | None
    style: str | None
    key: str | Key | None
    loop: bool
    seed: int
    primer: str | PathLike[str] | Notes | None
    plan: Plan | None
    temperature: float | None
    top_p: float | None
    guidance: float | None
    candidates: int | None
    max_polyphony: int | None
    max_notes_per_second: float | None
    max_silence: float | None


def request_of(picture: Picture | None, asked: Asked) -> tuple[Request, SamplingConfig]:
    """The request for a picture (None: without one), and the settings to sample with.

    Raises:
        UserError: a value that is out of range, or that contradicts another one.
        TypeError: a name that is none of `Asked`.
    """
    given: dict[str, Any] = dict(asked)
    if unknown := sorted(given.keys() - Asked.__annotations__.keys()):
        raise TypeError(f"compose() takes no argument '{unknown[0]}' (it takes {', '.join(Asked.__annotations__)})")
    valence, arousal = (_emotion(given.pop(name, None), name) for name in ("valence", "arousal"))
    if (mood := given.pop("mood", None)) is not None:
        if valence is not None or arousal is not None:
            raise UserError("--mood says both valence and arousal: leave it out, or --valence and --arousal")
        valence, arousal = parse_mood(str(mood))
    primer = given.pop("primer", None)
    sampling = sampling_config(**{name: given.pop(name) for name in list(given) if name in SAMPLING})
    read: dict[str, Any] = {"primer": Path(primer) if isinstance(primer, str | PathLike) else primer}
    for name, field, parse in _PARSED:
        value = given.pop(name, None)
        read[field] = parse(value) if isinstance(value, str) else value
    if isinstance(picture, str | PathLike):
        picture = Path(picture)
    return Request(picture, valence, arousal, **read, **given), sampling


_PARSED: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("key", "key", parse_key), ("form", "form", parse_form), ("chords", "chords", parse_chords),
    ("meter", "metre", parse_metre),
)  # fmt: skip
"""Argument, the request's field, and what reads it where it is text."""


def _emotion(value: Any, name: str) -> Any:
    """A number, a course as a tuple, or either as text."""
    if isinstance(value, str):
        return parse_trajectory(value, name)
    return tuple(map(float, value)) if isinstance(value, list | tuple) else value
