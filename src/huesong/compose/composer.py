"""From pictures to music files. Everything is checked first, then the model is loaded, then the files are written.

`Composer` is the pure middle (requests in, pieces out; the registry serves it); `compose` and `compose_many` add files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huesong import contracts
from huesong.config import PreprocessConfig, SamplingConfig
from huesong.model.requests import Piece, Request
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file

if TYPE_CHECKING:
    from huesong.model.sampling import OnStep

SUFFIXES = (".mid", ".wav", ".png")


@dataclass(frozen=True)
class Composition:
    """A composed piece and its files; `str` of it is what the console prints."""

    picture: Path
    midi: Path
    wav: Path
    roll: Path
    piece: Piece

    @property
    def seconds(self) -> float:
        """When the last note ends."""
        return float(max(note.end for track in self.piece.score.to("second").tracks for note in track.notes))

    def __str__(self) -> str:
        piece = self.piece
        rows = (
            ("predicted", piece.predicted, "what the picture shows"),
            ("requested", piece.requested, "what was asked of the model"),
            ("obtained", piece.obtained, "what the music labeller hears in the file"),
        )
        notes = sum(len(track.notes) for track in piece.score.tracks)
        lines = [f"{self.picture}: {self.seconds:.1f} s, {notes} notes"]
        lines += [f"  {name:9}  valence {va[0]:+.2f}  arousal {va[1]:+.2f}   {note}" for name, va, note in rows if va]
        files = (("MIDI", self.midi), ("audio", self.wav), ("roll", self.roll))
        return "\n".join(lines + [f"  {kind:9}  {path}" for kind, path in files])


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

    def compose(
        self, requests: Sequence[Request], config: SamplingConfig | None = None, on_step: OnStep | None = None
    ) -> list[Piece]:
        """A piece for every request, sampled side by side; the same request and seed give the same bytes.

        Raises:
            UserError: a bad picture or primer, or a tempo that the model or the length does not allow.
        """
        from huesong.model.sampling import sample
        from huesong.music import reading, tokens

        requests = [opened(request) for request in requests]
        rows = iter(self.encoder.encode([request.picture for request in requests if request.picture is not None]))
        encoded = [
            replace(
                request,
                picture=None if request.picture is None else next(rows),
                primer=None if request.primer is None else tuple(tokens.encode(self.tokenizer, request.primer)),
            )
            for request in requests
        ]
        pieces = []
        for piece in sample(self.model, encoded, config or SamplingConfig(), on_step, self.scorer):
            midi = bytes(tokens.decode(self.tokenizer, piece.ids).dumps_midi())
            score, obtained = reading.parse_score(midi, "the composed piece"), None
            if self.scorer is not None:
                valence, arousal = self.scorer([piece.ids])[0].tolist()
                obtained = (valence, arousal)
            pieces.append(replace(piece, midi=midi, score=score, obtained=obtained))
        return pieces


def opened(request: Request) -> Request:
    """The request with picture and primer read, where they are files.

    Raises:
        UserError: a bad file.
    """
    from huesong.music.reading import read_score
    from huesong.pictures.decode import decode

    picture, primer = request.picture, request.primer
    return replace(
        request,
        picture=decode(picture, PreprocessConfig().max_pixels) if isinstance(picture, Path) else picture,
        primer=read_score(primer) if isinstance(primer, Path) else primer,
    )


ModelSource = Composer | Path | Callable[[], Path]
"""A loaded model, its folder, or what finds the folder (called after everything else has been checked)."""


def compose(
    picture: Path,
    out: Path,
    model: ModelSource,
    *,
    config: SamplingConfig | None = None,
    soundfont: Path | None = None,
    on_step: OnStep | None = None,
    **asked: Any,
) -> Composition:
    """Compose for one picture; `asked` are fields of `Request`; other arguments and errors as in `compose_many`."""
    return compose_many([Request(picture, **asked)], [out], model, config, soundfont, on_step)[0]


def compose_many(
    requests: Sequence[Request],
    outs: Sequence[Path],
    model: ModelSource,
    config: SamplingConfig | None = None,
    soundfont: Path | None = None,
    on_step: OnStep | None = None,
) -> list[Composition]:
    """Compose a piece for every request in one batch and write OUT.mid, OUT.wav and OUT.png (piano roll) for each.

    A piece does not depend on the others of its batch. Either all files appear or none.

    Args:
        requests: what to compose, with picture files.
        outs: an output name for each, without suffix; a folder gets files named after the picture. Where OUT.png would
            replace the picture itself, "-music" is added to the name.
        model: a loaded Composer, a model folder, or a function that finds it.
        config: sampling settings; None = the defaults.
        soundfont: an .sf2 or .sf3 file; None = `rendering.find_soundfont`'s choice.
        on_step: told the composed share, 0 to 1.

    Raises:
        UserError: a bad value, picture, soundfont, output name or model; nothing has been written then.
    """
    assert len(requests) == len(outs), "one output name a picture"
    pictures = [request.picture for request in requests]
    names = output_names(pictures, outs)
    requests = [opened(request) for request in requests]

    from huesong.music.rendering import find_soundfont, piano_roll, render_wav

    sounds = find_soundfont(soundfont)
    if not isinstance(model, Composer):
        model = Composer(model if isinstance(model, Path) else model())
    pieces = model.compose(requests, config, on_step)
    made = []
    with ExitStack() as files:
        for picture, name, piece in zip(pictures, names, pieces, strict=True):
            targets = [name.with_name(name.name + suffix) for suffix in SUFFIXES]
            midi, wav, roll = (files.enter_context(replacing_file(target)) for target in targets)
            midi.write_bytes(piece.midi)
            render_wav(piece.score, wav, sounds)
            title = f"{picture.name}   valence {piece.requested[0]:+.2f}, arousal {piece.requested[1]:+.2f}"
            piano_roll(piece.score, roll, title)
            made.append(Composition(picture, targets[0], targets[1], targets[2], piece))
    return made


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
        targets = [name.with_name(name.name + suffix) for suffix in SUFFIXES]
        if any(target.resolve() in own for target in targets):
            name = name.with_name(f"{name.name}-music")
            targets = [name.with_name(name.name + suffix) for suffix in SUFFIXES]
        if name.resolve() in {other.resolve() for other in names}:
            raise UserError(f"two pieces would be written to {name}: give each picture a name of its own")
        for target in targets:
            if target.is_dir():
                raise UserError(f"{target} is a folder: choose another name with --out")
        above = next(folder for folder in name.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise UserError(f"cannot write {name}: {above} is not a folder to write to; choose another one with --out")
        names.append(name)
    return names
