"""From a folder of pictures to a film, its music, and a plot of the course asked and heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from huesong.compose.moods import in_words
from huesong.compose.output.files import ENDINGS as NAMES
from huesong.compose.output.files import check_place, check_targets, real
from huesong.compose.output.formats import AUDIO, RECORD_KEY, SCORES, Writing, write_audio
from huesong.film.composing import compose_phrases
from huesong.film.course import Course, course_of, course_of_scenes, emotions_of, in_order
from huesong.film.encode import pyav, write_film
from huesong.film.frames import ASPECTS, RATE, USUAL_ASPECT, frames_of
from huesong.film.video import SUFFIXES, own_sound, scenes_of, under, with_sound
from huesong.music.rendering.instruments import PIANO, instrument_of, soundfont_of
from huesong.runtime.errors import UserError, printable
from huesong.runtime.files import replacing_files, sha256, write_json
from huesong.runtime.progress import Bar, duration
from huesong.score.drawing import Score, check_installed

if TYPE_CHECKING:
    from symusic import Score as Notes

    from huesong.compose.composer import Composer
    from huesong.compose.piece import Piece

PLOT = "-course.png"
USUAL = ("mid", "wav")
"""Kinds of file beside the film."""
UNDER_DB = 12.0
"""How much softer music is beneath a video's own sound."""
CLOSING_S = 1.0
"""In which the sound fades at the end of the film."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a film.

    seconds, length, order: see film/course.py. aspect: a key of ASPECTS. formats: kinds of file beside the film. keep_sound:
    of a video, its own sound stays above the music.
    """

    seconds: float | None = None
    length: float | None = None
    aspect: str = USUAL_ASPECT
    order: str | None = None
    titles: bool = False
    seed: int = 0
    force: bool = False
    soundfont: Path | None = None
    formats: tuple[str, ...] = USUAL
    keep_sound: bool = False
    instrument: str = PIANO

    def __post_init__(self) -> None:
        instrument_of(self.instrument)
        if self.aspect not in ASPECTS:
            raise UserError(f"--aspect {self.aspect}: give one of {', '.join(ASPECTS)}")
        if self.order not in (None, "date", "name"):
            raise UserError(f"--order {self.order}: give date or name")


@dataclass(frozen=True)
class Film:
    """A film that was made. heard: valence and arousal that the labeller hears in each section [S, 2]; None without one."""

    files: tuple[Path, ...]
    course: Course
    piece: Piece = field(repr=False)
    heard: np.ndarray | None
    broken: tuple[tuple[Path, str], ...]

    def __str__(self) -> str:
        sections = self.course.sections
        what = "scenes" if sections[0].scene else "pictures"
        lines = [f"{printable(str(self.files[0]))}: {len(sections)} {what}, {duration(self.course.seconds)}"]
        lines.append(f"  music      {self.piece.plan.describe().splitlines()[0]}")
        for number, section in enumerate(sections):
            heard = "" if self.heard is None else f", heard {in_words(tuple(self.heard[number]))}"
            lines.append(f"  {section.start:6.1f} s   {section.name}: {in_words(section.emotion)}{heard}")
        lines += [f"  left out   {printable(str(path))}: {reason}" for path, reason in self.broken]
        return "\n".join([*lines, f"  files      {', '.join(printable(str(path)) for path in self.files)}"])


def film(pictures: Sequence[Path], out: Path, composer: Composer, wanted: Wanted) -> Film:
    """Make a film of pictures, or music for a video.

    Args:
        pictures: files, of which those that cannot be read are left out; or one video.
        out: the film's name, ending in .mp4; OUT.mid, OUT.wav and what else is asked for, OUT-course.png and OUT.json are
            written beside it.
        composer: the model that reads the pictures and composes.
        wanted: what is asked.

    Raises:
        UserError: PyAV is missing, a bad option, no picture that can be read, or a file that is not to be replaced; nothing
            has been written then.
    """
    pyav()
    check_installed(wanted.formats)
    soundfont_of(wanted.instrument, wanted.soundfont)
    targets = targets_of(out, pictures, wanted)
    if is_video(pictures):
        return _with_music(pictures[0], targets, composer, wanted)
    ordered = in_order(pictures, wanted.order)
    read, emotions, broken = emotions_of(composer, ordered)
    if not read:
        raise UserError(f"none of {len(ordered)} pictures can be read; the first: {broken[0][1]}")
    course = course_of(read, emotions, wanted.seconds, wanted.length, wanted.seed)

    def show(movie: Path, samples: np.ndarray, rate: int) -> None:
        size = ASPECTS[wanted.aspect]
        with Bar("film", round(course.seconds * RATE), at_once=True) as bar:
            frames = _counted(frames_of(course.sections, size, course.beat, wanted.titles), bar)
            write_film(movie, frames, size, samples, rate)

    return _made(targets, course, composer, wanted, show, broken)


def is_video(pictures: Sequence[Path]) -> bool:
    """Whether what is given is a video.

    Raises:
        UserError: a video among other files.
    """
    videos = [path for path in pictures if path.suffix.lower() in SUFFIXES]
    if videos and len(pictures) > 1:
        raise UserError(f"{videos[0]} is a video: give it alone, or pictures only")
    return bool(videos)


def _with_music(video: Path, targets: Sequence[Path], composer: Composer, wanted: Wanted) -> Film:
    given = {
        "--seconds-per-picture": wanted.seconds, "--length": wanted.length, "--order": wanted.order,
        "--titles": wanted.titles or None, "--aspect": None if wanted.aspect == USUAL_ASPECT else wanted.aspect,
    }  # fmt: skip
    if wrong := next((name for name, value in given.items() if value is not None), None):
        raise UserError(f"{wrong}: a video stays as it is: leave it out")
    scenes = scenes_of(video)
    emotions = [composer.read(scene.frame) for scene in scenes]
    edges = [*(scene.start for scene in scenes), scenes[-1].end]
    course = course_of_scenes(video, edges, emotions, wanted.seed)

    def show(movie: Path, samples: np.ndarray, rate: int) -> None:
        own = own_sound(video, rate) if wanted.keep_sound else None
        with_sound(video, movie, samples if own is None else under(samples, own, UNDER_DB), rate)

    return _made(targets, course, composer, wanted, show, [])


def _made(
    targets: Sequence[Path], course: Course, composer: Composer, wanted: Wanted,
    show: Callable[[Path, np.ndarray, int], None], broken: Sequence[tuple[Path, str]],
) -> Film:  # fmt: skip
    """Compose, hear, and write all files; `show` writes the film with its sound."""
    with Bar("composing", 1, share=True) as bar:
        piece = compose_phrases(composer, course, on_step=bar.to)
    samples, rate = sound_of(piece, course, wanted)
    heard = heard_in(composer, piece, course)
    with replacing_files(list(targets)) as parts:
        part_of = dict(zip(targets, parts, strict=True))
        *others, plot, record = targets
        for target in others:
            part, kind = part_of[target], target.suffix.removeprefix(".")
            if kind == "mp4":
                show(part, samples, rate)
            elif kind in AUDIO:
                write_audio(samples, rate, part, kind)
            elif kind in SCORES:
                score = Score(piece.notes, piece.plan, printable(targets[0].stem))
                part.write_bytes(score.pdf() if kind == "pdf" else score.musicxml().encode())
            else:
                piece.write({kind: part}, Writing(instrument=wanted.instrument))
        part_of[plot].write_bytes(plot_of(course, heard))
        digests = {target: part for target, part in part_of.items() if target != record}
        write_json(part_of[record], _record(course, piece, heard, digests))
    return Film(tuple(targets), course, piece, heard, tuple(broken))


def targets_of(out: Path, pictures: Sequence[Path], wanted: Wanted) -> tuple[Path, ...]:
    """The files of a film.

    Raises:
        UserError: another suffix, a name or place that cannot be written, what is read for the film, or a file that is no
            earlier film of huesong.
    """
    if out.suffix.lower() != ".mp4":
        raise UserError(f"{out}: a film is written as .mp4: end the name so")
    endings = (".mp4", *(NAMES[kind] for kind in wanted.formats if kind != "json"), PLOT, ".json")
    targets = tuple(out.with_name(f"{out.stem}{ending}") for ending in endings)
    check_place(targets)
    read = (*pictures, wanted.soundfont)
    check_targets(targets, {real(path) for path in read if path is not None}, wanted.force, "film")
    return targets


def sound_of(piece: Piece, course: Course, wanted: Wanted) -> tuple[np.ndarray, int]:
    """The piece's sound, exactly as long as the film: bar lines where they are in the film, faded at the end."""
    from huesong.music.reading import listen

    samples, rate = piece.audio(wanted.soundfont, instrument=wanted.instrument)
    first = round(float(listen(piece.played()).onset_s.min(initial=0.0)) * rate)  # audio begins with the first note
    whole = np.zeros((round(course.seconds * rate), samples.shape[1]), np.float32)
    part = samples[: len(whole) - first]
    whole[first : first + len(part)] = part
    fade = min(round(CLOSING_S * rate), len(whole))
    whole[-fade:] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32))[:, None] ** 2
    return whole, rate


def heard_in(composer: Composer, piece: Piece, course: Course) -> np.ndarray | None:
    """Valence and arousal that the music labeller hears while each picture is shown [S, 2]; None without a labeller."""
    if composer.scorer is None:
        return None
    return np.array(composer.scorer.of_scores(sections_of(piece, course)), dtype=np.float64).reshape(-1, 2)


def sections_of(piece: Piece, course: Course) -> list[Notes]:
    """The music of each section, from tick 0; the whole piece where no note begins in it."""
    bar = piece.plan.bars[0].quarters * piece.notes.tpq
    parts = []
    for section in course.sections:
        start, end = (round(course.bar_at(at) * bar) for at in (section.start, section.end))
        part = piece.notes.clip(start, end, clip_end=True)
        parts.append(part.shift_time(-start) if part.note_num() else piece.notes)
    return parts


def _counted(frames: Any, bar: Bar) -> Any:
    for frame in frames:
        yield frame
        bar.one_more()


def plot_of(course: Course, heard: np.ndarray | None) -> bytes:
    """A PNG of valence and arousal over time: asked for, and heard in each section."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axis, name in enumerate(("valence", "arousal")):
        axes = figure.add_subplot(2, 1, axis + 1)
        edges = [section.start for section in course.sections] + [course.seconds]
        asked = [section.emotion[axis] for section in course.sections]
        axes.stairs(asked, edges, color="#3d5a99", label="asked for", baseline=None)
        if heard is not None:
            axes.stairs(heard[:, axis], edges, color="#d8433c", label="heard", baseline=None)
        axes.set(ylim=(-1.05, 1.05), xlim=(0, course.seconds), ylabel=name, xlabel="seconds" if axis else "")
        axes.legend(loc="upper right", fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _record(course: Course, piece: Piece, heard: np.ndarray | None, parts: dict[Path, Path]) -> dict[str, Any]:
    from huesong import __version__

    sections = [
        {
            "picture": section.name, "start": round(section.start, 4), "end": round(section.end, 4),
            "requested": section.emotion, "obtained": None if heard is None else heard[number].tolist(),
        }
        for number, section in enumerate(course.sections)
    ]  # fmt: skip
    return {
        RECORD_KEY: __version__,
        "sections": sections,
        "bars": [round(line, 4) for line in course.bars],
        "model": piece.model,
        "plan": piece.plan.describe().splitlines(),
        "files": {target.name: sha256(part) for target, part in parts.items()},
    }
