"""From pictures to music files. Everything is checked first, then the model is loaded, then the files are written.

`Composer` is the pure middle (pictures in, MIDI bytes and emotions out; the registry serves it); `compose` and
`compose_many` add the files.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from huesong import contracts
from huesong.config import PreprocessConfig, SamplingConfig
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file
from huesong.va import Course, check_emotion

if TYPE_CHECKING:
    from PIL.Image import Image
    from symusic import Score

    from huesong.model.sampling import OnStep
    from huesong.music.keys import Key

SUFFIXES = (".mid", ".wav", ".png")
MOST_BARS = 300
"""Ten minutes at 120 beats a minute, as the longest `--seconds`."""
NATURAL = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
"""Pitch classes."""
VA = tuple[float, float]
"""Valence and arousal in [-1, 1]."""


@dataclass(frozen=True)
class Prompt:
    """What one piece is composed for.

    picture: RGB; None = no picture, then valence and arousal are both needed. valence, arousal: in [-1, 1]; None =
    what the picture suggests; a tuple is their course over the piece. seconds: None = the sampling settings' length.
    bars: length in 4/4 bars instead, at the tempo that the piece takes. tempo: quarters a minute (the nearest that the
    model knows); None = as it comes. key: whose scale all notes are from (`parse_key`); None = as it comes.
    primer: music that the piece begins with.
    """

    picture: Image | None
    valence: Course | None = None
    arousal: Course | None = None
    seed: int = 0
    seconds: float | None = None
    bars: int | None = None
    tempo: float | None = None
    key: Key | None = None
    primer: Score | None = None


@dataclass(frozen=True)
class Piece:
    """A composed piece.

    midi: a Standard MIDI File. score: that file read back. requested: what the network was asked for. predicted: the
    picture's own emotion; None without a picture. obtained: what the music labeller hears in `score`; None if the
    model folder has no labeller. critic: what the model's own critic hears (not independent of the model).
    """

    midi: bytes
    score: Score
    requested: VA
    predicted: VA | None
    obtained: VA | None
    critic: VA


@dataclass(frozen=True)
class Composition:
    """A composed piece and its files; `str` of it is what the console prints."""

    picture: Path
    midi: Path
    wav: Path
    roll: Path
    seconds: float
    notes: int
    requested: VA
    predicted: VA
    obtained: VA | None

    def __str__(self) -> str:
        rows = [("predicted", self.predicted, "what the picture shows")]
        rows.append(("requested", self.requested, "what was asked of the model"))
        if self.obtained is not None:
            rows.append(("obtained", self.obtained, "what the music labeller hears in the file"))
        lines = [f"{self.picture}: {self.seconds:.1f} s, {self.notes} notes"]
        lines += [f"  {name:9}  valence {v:+.2f}  arousal {a:+.2f}   {note}" for name, (v, a), note in rows]
        lines += [
            f"  {kind:9}  {path}" for kind, path in (("MIDI", self.midi), ("audio", self.wav), ("roll", self.roll))
        ]
        return "\n".join(lines)


class Composer:
    """A loaded model folder, ready to compose."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Load model, tokenizer, picture encoder and music labeller.

        Raises:
            UserError: the folder is no model, of another format, incomplete or damaged.
        """
        # here, not at the top: what a user got wrong is told before seconds of imports
        from huesong.emotion.scorer import LabellerScorer
        from huesong.model.folder import load_model
        from huesong.music import tokens
        from huesong.pictures.encoders import Encoder

        self.model = load_model(folder, device)
        self.tokenizer = tokens.load(folder / contracts.TOKENIZER)
        self.encoder = Encoder.load(folder / contracts.ENCODER)
        self.scorer = LabellerScorer.of_model(folder)

    def compose(self, prompts: Sequence[Prompt], config: SamplingConfig, on_step: OnStep | None = None) -> list[Piece]:
        """A piece for every prompt, sampled side by side; the same prompt and seed give the same bytes.

        Raises:
            UserError: a value out of range, or a prompt with neither a picture nor both valence and arousal.
        """
        from huesong.model.requests import Request
        from huesong.model.sampling import sample
        from huesong.music import tokens

        for prompt in prompts:
            check_emotion(prompt.valence, prompt.arousal)
            check_bars(prompt.bars)
            check_tempo(prompt.tempo)
            if prompt.seconds is not None:
                sampling_config(seconds=prompt.seconds)
        images = [prompt.picture for prompt in prompts if prompt.picture is not None]
        rows = iter(self.encoder.encode(images))
        requests = [
            Request(
                next(rows) if prompt.picture is not None else None, prompt.valence, prompt.arousal, prompt.seed,
                config.seconds if prompt.seconds is None else prompt.seconds, bars=prompt.bars,
                tempo=prompt.tempo, key=prompt.key,
                primer=() if prompt.primer is None else tuple(tokens.encode(self.tokenizer, prompt.primer)),
            )
            for prompt in prompts
        ]  # fmt: skip
        return [
            self._piece(made.ids, made.requested, made.predicted, made.critic)
            for made in sample(self.model, requests, config, on_step, self.scorer)
        ]

    def _piece(self, ids: list[int], requested: VA, predicted: VA, critic: VA) -> Piece:
        from huesong.music import reading, tokens

        midi = bytes(tokens.decode(self.tokenizer, ids).dumps_midi())
        score = reading.parse_score(midi, "the composed piece")
        obtained = None
        if self.scorer is not None:
            valence, arousal = self.scorer([ids])[0]
            obtained = (float(valence), float(arousal))
        return Piece(midi, score, requested, None if math.isnan(predicted[0]) else predicted, obtained, critic)


ModelSource = Composer | Path | Callable[[], Path]
"""A loaded model, its folder, or what finds the folder (called after everything else has been checked)."""


def compose(picture: Path, out: Path, model: ModelSource, **options: Any) -> Composition:
    """Compose for one picture; arguments and errors as in `compose_many`."""
    return compose_many([picture], [out], model, **options)[0]


def compose_many(
    pictures: Sequence[Path],
    outs: Sequence[Path],
    model: ModelSource,
    *,
    valence: Course | None = None,
    arousal: Course | None = None,
    seed: int = 0,
    config: SamplingConfig | None = None,
    bars: int | None = None,
    tempo: float | None = None,
    key: Key | None = None,
    primer: Path | None = None,
    soundfont: Path | None = None,
    on_step: OnStep | None = None,
) -> list[Composition]:
    """Compose a piece for every picture in one batch and write OUT.mid, OUT.wav and OUT.png (piano roll) for each.

    A piece does not depend on the others of its batch. Either all files appear or none.

    Args:
        pictures: picture files.
        outs: an output name for each, without suffix; a folder gets files named after the picture. Where OUT.png would
            replace the picture itself, "-music" is added to the name.
        model: a loaded Composer, a model folder, or a function that finds it.
        valence: asked of every piece, in [-1, 1]; a tuple = its course over the piece; None = what the picture shows.
        arousal: likewise.
        seed: the same seed gives the same files.
        config: sampling settings, the length among them; None = the defaults.
        bars: length in 4/4 bars instead of the settings' seconds.
        tempo: quarters a minute throughout, the nearest that the model knows; None = as it comes.
        key: whose scale all notes are from and whose tonic ends the piece (`parse_key`); None = as it comes.
        primer: a MIDI file that every piece begins with; it counts towards the length.
        soundfont: an .sf2 or .sf3 file; None = `rendering.find_soundfont`'s choice.
        on_step: told the composed share, 0 to 1.

    Raises:
        UserError: a bad value, picture, soundfont, output name or model; nothing has been written then.
    """
    from huesong.pictures.decode import decode

    assert len(pictures) == len(outs), "one output name a picture"
    config = config or SamplingConfig()
    check_emotion(valence, arousal)
    check_bars(bars)
    check_tempo(tempo)
    names = output_names(pictures, outs)
    limit = PreprocessConfig().max_pixels
    images = [decode(picture, limit) for picture in pictures]

    from huesong.music.reading import read_score
    from huesong.music.rendering import find_soundfont, piano_roll, render_wav

    begin = None if primer is None else read_score(primer)
    sounds = find_soundfont(soundfont)
    if not isinstance(model, Composer):
        model = Composer(model if isinstance(model, Path) else model())
    prompts = [Prompt(image, valence, arousal, seed, bars=bars, tempo=tempo, key=key, primer=begin) for image in images]
    pieces = model.compose(prompts, config, on_step)
    made = []
    with ExitStack() as files:
        for picture, name, piece in zip(pictures, names, pieces, strict=True):
            targets = [name.with_name(name.name + suffix) for suffix in SUFFIXES]
            midi, wav, roll = (files.enter_context(replacing_file(target)) for target in targets)
            midi.write_bytes(piece.midi)
            render_wav(piece.score, wav, sounds)
            title = f"{picture.name}   valence {piece.requested[0]:+.2f}, arousal {piece.requested[1]:+.2f}"
            piano_roll(piece.score, roll, title)
            seconds = max(note.end for track in piece.score.to("second").tracks for note in track.notes)
            made.append(
                Composition(
                    picture=picture, midi=targets[0], wav=targets[1], roll=targets[2], seconds=float(seconds),
                    notes=sum(len(track.notes) for track in piece.score.tracks), requested=piece.requested,
                    predicted=piece.predicted or piece.requested, obtained=piece.obtained,
                )
            )  # fmt: skip
    return made


def sampling_config(
    *,
    seconds: float | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    guidance: float | None = None,
    candidates: int | None = None,
    max_polyphony: int | None = None,
    max_notes_per_second: float | None = None,
    max_silence: float | None = None,
) -> SamplingConfig:
    """Sampling settings from options; None = the default.

    Raises:
        UserError: names the option and the values it takes.
    """
    given = {
        "seconds": seconds, "temperature": temperature, "top_p": top_p, "guidance": guidance, "candidates": candidates,
        "max_polyphony": max_polyphony, "max_notes_per_second": max_notes_per_second,
        "max_silence": max_silence,
    }  # fmt: skip
    known = {key: value for key, value in given.items() if value is not None}
    for key, value in known.items():
        if not math.isfinite(value):
            raise UserError(f"--{key.replace('_', '-')} {value}: give a finite number")
    try:
        return SamplingConfig.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        hint = " (a piece lasts 4 to 600 seconds)" if option == "seconds" else ""
        raise UserError(f"--{option} {first['input']}: {first['msg']}{hint}") from error


def check_bars(bars: int | None) -> None:
    """Refuse a length of no bars, or of more than MOST_BARS.

    Raises:
        UserError: names the number.
    """
    if bars is not None and not 1 <= bars <= MOST_BARS:
        raise UserError(f"--bars {bars}: give a number from 1 to {MOST_BARS}, or --seconds")


def check_tempo(tempo: float | None) -> None:
    """Refuse what is no tempo; which ones a model knows is found out when it is there.

    Raises:
        UserError: names the value.
    """
    if tempo is not None and not 0 < tempo < math.inf:  # nan fails as well
        raise UserError(f"--tempo {tempo}: give quarters a minute, such as 96")


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


def parse_course(text: str | None, name: str) -> Course | None:
    """What a user wrote: a number, or a course such as `0.2..0.8` or `-0.5..0.8..0`.

    Raises:
        UserError: it is neither.
    """
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(".."))
    except ValueError:
        raise UserError(
            f"--{name} {text}: give a number from -1 to 1, or a course of two or more such as 0.2..0.8"
        ) from None
    return values if len(values) > 1 else values[0]


def output_names(pictures: Sequence[Path], outs: Sequence[Path]) -> list[Path]:
    """Where each piece goes, without suffix.

    Raises:
        UserError: two pieces would share a name, or a place cannot be written.
    """
    own = {picture.resolve() for picture in pictures}
    names: list[Path] = []
    for picture, out in zip(pictures, outs, strict=True):
        name = out / picture.stem if out.is_dir() else out
        if name.suffix.lower() in SUFFIXES:
            name = name.with_suffix("")
        if not name.name:
            raise UserError(f"{out} is not a name for a piece: give one with --out")
        if any(name.with_name(name.name + suffix).resolve() in own for suffix in SUFFIXES):
            name = name.with_name(f"{name.name}-music")
        if name.resolve() in {other.resolve() for other in names}:
            raise UserError(f"two pieces would be written to {name}: give each picture a name of its own")
        for suffix in SUFFIXES:
            target = name.with_name(name.name + suffix)
            if target.is_dir():
                raise UserError(f"{target} is a folder: choose another name with --out")
        above = next(folder for folder in name.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise UserError(f"cannot write {name}: {above} is not a folder to write to; choose another one with --out")
        names.append(name)
    return names
