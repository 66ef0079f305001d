"""Words for places on the valence-arousal plane, and places for words.

The circumplex of affect (Russell 1980, Journal of Personality and Social Psychology 39): words of feeling lie on a circle
around neutral, pleasure at 0 degrees, arousal at 90. Where `RUSSELL` has a word's angle (the paper's circular scaling of 28
words, Ross's technique), that angle counts; a word of music that he did not scale stands between two that he did.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from huesong.runtime.errors import UserError
from huesong.va import Trajectory

RADIUS = 0.75
"""How far from neutral a mood is asked for: well felt, and still within what rated music reaches."""
RUSSELL = {
    "happy": 7.8, "delighted": 24.9, "excited": 48.6, "tense": 92.8, "angry": 99.0, "afraid": 116.0,
    "miserable": 188.7, "sad": 207.5, "gloomy": 209.0, "tired": 267.7, "sleepy": 271.9, "calm": 316.2, "relaxed": 318.0,
    "content": 323.0, "serene": 328.6, "pleased": 353.2,
}  # fmt: skip
"""Degrees of the words that he scaled and huesong knows."""
BETWEEN = {
    "joyful": ("happy", "delighted"),
    "triumphant": ("delighted", "excited"),
    "dramatic": ("tense", "angry"),
    "restless": ("excited", "tense"),
    "dark": ("miserable", "afraid"),
    "melancholic": ("sad", "tired"),
    "dreamy": ("sleepy", "serene"),
    "tender": ("calm", "pleased"),
    "peaceful": ("calm", "serene"),
}
"""Words of music -> the two of his that each stands half-way between."""


class Mood(NamedTuple):
    """valence, arousal: in [-1, 1]. degrees: on the circle, from pleasure to arousal. source: where that is from."""

    valence: float
    arousal: float
    degrees: float
    source: str


def _mood(degrees: float, source: str) -> Mood:
    angle = math.radians(degrees)
    return Mood(round(RADIUS * math.cos(angle), 2), round(RADIUS * math.sin(angle), 2), degrees, source)


def _half_way(one: float, other: float) -> float:
    """The middle of the shorter way round from one angle to another."""
    return round((one + ((other - one + 180) % 360 - 180) / 2) % 360, 1)


MOODS: dict[str, Mood] = {
    **{word: _mood(degrees, "Russell 1980") for word, degrees in RUSSELL.items()},
    **{
        word: _mood(_half_way(RUSSELL[one], RUSSELL[other]), f"between {one} and {other}")
        for word, (one, other) in BETWEEN.items()
    },
}
"""Every word that `--mood` takes."""


def parse_mood(text: str) -> tuple[Trajectory, Trajectory]:
    """Valence and arousal of a mood, `calm`, or of a course of several, `calm..joyful`.

    Raises:
        UserError: a word that is no mood here; names those that are.
    """
    words = [word.strip().lower() for word in text.split("..")]
    for word in words:
        if word not in MOODS:
            raise UserError(f"--mood {text}: '{word}' is no mood; give one of {', '.join(sorted(MOODS))}, or a..b")
    valences, arousals = zip(*((MOODS[word].valence, MOODS[word].arousal) for word in words), strict=True)
    return (valences, arousals) if len(words) > 1 else (valences[0], arousals[0])


NEUTRAL, SLIGHT, STRONG = 0.1, 0.3, 0.65
"""Less than that on an axis is not said; less is said with `slightly`; more with `very`."""
CALM, LIVELY = "calm", "excited"
VALENCE_WORDS = {(True, True): "happy", (False, True): "tense", (False, False): "sad", (True, False): "content"}
"""(pleasant, excited) -> the word for such a valence."""


def in_words(va: tuple[float, float]) -> str:
    """Such as `calm and slightly sad (V -0.17, A -0.35)`: the stronger of the two first."""
    valence, arousal = va
    parts = [
        (abs(arousal), CALM if arousal < 0 else LIVELY),
        (abs(valence), VALENCE_WORDS[valence >= 0, arousal >= 0]),
    ]
    said = [_degree(size) + word for size, word in sorted(parts, reverse=True) if size >= NEUTRAL]
    return f"{' and '.join(said) or 'neutral'} (V {valence:+.2f}, A {arousal:+.2f})"


def _degree(size: float) -> str:
    return "slightly " if size < SLIGHT else "very " if size >= STRONG else ""
