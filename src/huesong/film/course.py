"""The order of pictures, how long each is shown, and what is asked of the music while it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from huesong.compose.batch import natural
from huesong.film.harmony import Phrase, phrases_of, plan_for
from huesong.model.requests import MOST_BARS, VA, Request
from huesong.music.form.planner import invent
from huesong.music.form.settings import Settings
from huesong.runtime.errors import UserError, printable

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
    """What is shown in the time [start, end) in seconds, and the emotion that it shows; a picture, or a video's scene."""

    picture: Path
    start: float
    end: float
    emotion: VA
    scene: int = 0
    """Of a video, from 1."""

    @property
    def name(self) -> str:
        """What to call it."""
        return f"scene {self.scene}" if self.scene else printable(self.picture.name)


@dataclass(frozen=True)
class Course:
    """The sections of a film, the phrases of its piece, what is asked of the whole, and where bars begin.

    bars: seconds of every bar line, the last one's the end [B + 1].
    """

    sections: tuple[Section, ...]
    phrases: tuple[Phrase, ...]
    request: Request
    bars: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """How long the film is."""
        return self.sections[-1].end

    @property
    def beat(self) -> float:
        """The shortest beat, seconds."""
        return float(np.diff(self.bars).min()) / METRE[0]

    @property
    def tempos(self) -> list[tuple[int, float]]:
        """Each bar from which on another tempo holds, and that, quarters a minute."""
        found = [(0, 60 * METRE[0] / (self.bars[1] - self.bars[0]))]
        for bar, length in enumerate(np.diff(self.bars)):
            if abs(60 * METRE[0] / length - found[-1][1]) > 1e-3:
                found.append((bar, float(60 * METRE[0] / length)))
        return found

    def bar_at(self, second: float) -> float:
        """How many bars have passed."""
        return float(np.interp(second, self.bars, range(len(self.bars))))


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
    usual = _usual_bar(emotions, whole, seed)
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
    shown = _shown(sections, groups, bar * bars_each)
    return _course(
        sections, shown, [bars_each] * groups, [bar * number for number in range(groups * bars_each + 1)], seed
    )


def course_of_scenes(video: Path, edges: Sequence[float], emotions: Sequence[VA], seed: int = 0) -> Course:
    """How the music of a video goes: every scene has whole bars, whose tempo is what makes them as long as it.

    Args:
        video: its file.
        edges: seconds at which scenes begin, and the end [S + 1].
        emotions: of each scene.
        seed: of the piece.

    Raises:
        UserError: it is shorter or longer than a piece may be.
    """
    whole = edges[-1]
    if not SHORTEST <= whole <= LONGEST:
        raise UserError(f"{video} lasts {whole:.1f} s: music is made for {SHORTEST:g} to {LONGEST:g} s; cut it")
    lengths = np.diff(edges)
    usual = _usual_bar(emotions, whole, seed)
    counts = np.maximum(1, np.rint(lengths / usual)).astype(int)
    while counts.sum() > MOST_BARS:
        usual *= 1.1
        counts = np.maximum(1, np.rint(lengths / usual)).astype(int)
    bars = [0.0]
    for end, count in zip(edges[1:], counts, strict=True):
        bars += np.linspace(bars[-1], end, count + 1)[1:].tolist()
    sections = tuple(
        Section(video, edges[index], edges[index + 1], emotion, index + 1) for index, emotion in enumerate(emotions)
    )
    return _course(sections, emotions, counts.tolist(), bars, seed)


def _usual_bar(emotions: Sequence[VA], seconds: float, seed: int) -> float:
    """Seconds of a bar at the tempo that suits the mean emotion."""
    valence, arousal = (float(mean) for mean in np.mean(emotions, axis=0))
    return 60 / invent(valence, arousal, seconds, seed, Settings(metre=METRE)).tempo * METRE[0]


def _course(
    sections: tuple[Section, ...], emotions: Sequence[VA], counts: Sequence[int], bars: Sequence[float], seed: int
) -> Course:
    """`emotions` and `counts` of bars: of parts of the piece, one after the other."""
    phrases = phrases_of(emotions, counts, seed)
    tempo = 60 * METRE[0] * (len(bars) - 1) / bars[-1]
    plan = plan_for(phrases, tempo, METRE, seed)
    edges = [value for value, count in zip(emotions, counts, strict=True) for _ in range(count)]
    valence, arousal = zip(edges[0], *edges, strict=True)
    asked = Request(None, valence, arousal, seed, bars=len(bars) - 1, tempo=tempo, metre=METRE, plan=plan)
    return Course(sections, tuple(phrases), asked, tuple(bars))


def _shown(sections: Sequence[Section], groups: int, seconds: float) -> list[VA]:
    """The emotion of the pictures that are shown in the middle of each phrase."""
    ends = [section.end for section in sections]
    which = np.searchsorted(ends, (np.arange(groups) + 0.5) * seconds, "right")
    return [sections[min(int(index), len(sections) - 1)].emotion for index in which]


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
