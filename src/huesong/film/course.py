"""The order of pictures, how long each is shown, and what is asked of the music while it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from huesong.compose.batch import natural
from huesong.model.requests import MOST_BARS, VA, Request
from huesong.music.form.planner import invent
from huesong.music.form.settings import Settings
from huesong.runtime.errors import UserError

if TYPE_CHECKING:
    from huesong.compose.composer import Composer

SECONDS = 5.0
"""How long a picture is shown where nothing else is said."""
SHORTEST, LONGEST = 4.0, 600.0
"""Of a film: that of a piece."""
METRE = (4, 4)
SLOWEST_BEAT, FASTEST_BEAT = 50, 200
"""Quarters a minute between which models of the usual settings know tempos, with room."""
TAKEN = (36867, 306)
"""EXIF: when a picture was taken, else when the file was changed."""


@dataclass(frozen=True)
class Section:
    """A picture with the time [start, end) in seconds in which it is shown, and the emotion that it shows."""

    picture: Path
    start: float
    end: float
    emotion: VA


@dataclass(frozen=True)
class Course:
    """The sections of a film, and what composes for them. bar: seconds of a bar."""

    sections: tuple[Section, ...]
    request: Request
    bar: float

    @property
    def seconds(self) -> float:
        """How long the film is."""
        return self.sections[-1].end


def in_order(pictures: Sequence[Path], by: str | None) -> list[Path]:
    """By `date` (when they were taken), by `name`, or (None) by date if all of them say it, else by name.

    Raises:
        UserError: by date, but a picture does not say when it was taken.
    """
    if by == "name":
        return sorted(pictures, key=natural)
    dates = [taken(path) for path in pictures]
    silent = [path for path, date in zip(pictures, dates, strict=True) if not date]
    if by == "date" and silent:
        raise UserError(f"--order date: {silent[0]} does not say when it was taken: take --order name")
    if silent:
        return sorted(pictures, key=natural)
    return [path for _, path in sorted(zip(dates, pictures, strict=True), key=lambda row: (row[0], natural(row[1])))]


def taken(path: Path) -> str:
    """When a picture was taken, as EXIF has it (it sorts as it is); empty where it does not say."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            exif = image.getexif()
            return str(exif.get_ifd(0x8769).get(TAKEN[0]) or exif.get(TAKEN[1]) or "")
    except Exception:  # a picture that cannot be read is told of when it is decoded
        return ""


def course_of(
    pictures: Sequence[Path], emotions: Sequence[VA], seconds: float | None, length: float | None, seed: int = 0
) -> Course:
    """How a film goes: every picture gets the same number of whole bars, at the tempo that fits the time best.

    Where there are more pictures than bars, as many share a bar as must, each with the same part of it.

    Args:
        pictures: in order.
        emotions: of each picture.
        seconds: how long a picture is shown; None = SECONDS, or as `length` says.
        length: how long the film is; None = as the pictures take.
        seed: of the piece.

    Raises:
        UserError: both are given, or the film would be shorter or longer than a piece may be.
    """
    if seconds is not None and length is not None:
        raise UserError("--seconds-per-picture and --length both say how long the film is: give one of them")
    for name, value in (("seconds-per-picture", seconds), ("length", length)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"--{name} {value:g}: give a number of seconds")
    count = len(pictures)
    whole = length if length is not None else count * (SECONDS if seconds is None else seconds)
    if not SHORTEST <= whole <= LONGEST:
        raise UserError(
            f"a film of {count} pictures would last {whole:g} s: from {SHORTEST:g} to {LONGEST:g} s are possible; set "
            "--length or --seconds-per-picture"
        )
    valences, arousals = zip(*emotions, strict=True)
    means = float(np.mean(valences)), float(np.mean(arousals))
    usual = 60 / invent(*means, whole, seed, Settings(metre=METRE)).tempo * METRE[0]
    together = max(1, math.ceil(count / MOST_BARS))  # pictures that share a bar
    while whole / math.ceil(count / together) < 60 / FASTEST_BEAT * METRE[0]:
        together *= 2
    groups = math.ceil(count / together)
    bars_each = max(1, min(round(whole / groups / usual), MOST_BARS // groups))
    while whole / (groups * bars_each) > 60 / SLOWEST_BEAT * METRE[0]:
        bars_each += 1
    bar = whole / (groups * bars_each)
    group_of = [index * groups // count for index in range(count)]
    size = [group_of.count(group) for group in range(groups)]
    starts = [
        (group + (index - group_of.index(group)) / size[group]) * bar * bars_each
        for index, group in enumerate(group_of)
    ]
    sections = tuple(
        Section(picture, start, end, emotion)
        for picture, start, end, emotion in zip(pictures, starts, [*starts[1:], whole], emotions, strict=True)
    )
    return Course(sections, _request(sections, groups * bars_each, bar, seed), bar)


def _request(sections: Sequence[Section], bars: int, bar: float, seed: int) -> Request:
    """What is asked: the emotion of the pictures that are shown while each bar sounds."""
    middles = (np.arange(bars) + 0.5) * bar
    ends = np.array([section.end for section in sections])
    which = np.minimum(np.searchsorted(ends, middles, "right"), len(sections) - 1)
    values = [sections[index].emotion for index in which]
    valence, arousal = (tuple(float(value[axis]) for value in values) for axis in (0, 1))
    several = bars > 1
    return Request(
        None, valence if several else valence[0], arousal if several else arousal[0], seed, bars=bars,
        tempo=60 * METRE[0] / bar, metre=METRE,
    )  # fmt: skip


def emotions_of(composer: Composer, pictures: Sequence[Path]) -> tuple[list[Path], list[VA], list[tuple[Path, str]]]:
    """The pictures that can be read, the emotion that the model reads in each, and the others with the reason."""
    read, found, broken = [], [], []
    for path in pictures:  # one at a time: memory stays flat
        try:
            found.append(composer.read(path))
        except UserError as error:
            broken.append((path, str(error)))
        else:
            read.append(path)
    return read, found, broken
