"""From pictures to music files. Everything is checked first, then the model is loaded, then the files are written.

`Composer` is the pure middle (requests in, pieces out; the registry serves it); `compose` and `compose_many` add files.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from huesong import __version__, contracts
from huesong.compose.asked import Asked, request_of
from huesong.compose.drift.counts import counted
from huesong.compose.moods import in_words
from huesong.compose.output.files import earlier_files, output_names, targets_of
from huesong.compose.output.formats import TITLES, WRITING, Writing
from huesong.compose.piece import Piece
from huesong.config import PreprocessConfig, SamplingConfig
from huesong.model.requests import VA, Request
from huesong.runtime.errors import UserError, printable
from huesong.runtime.files import replacing_files, sha256, write_json
from huesong.runtime.progress import Bar

if TYPE_CHECKING:
    from symusic import Score as Notes

    from huesong.compose.asked import Picture
    from huesong.model.requests import Sampled
    from huesong.model.sampling import OnStep

_ONE_AT_A_TIME = threading.Lock()
"""Sampling sets the number of threads of the whole process: pieces that many threads ask for are composed one by one."""


@dataclass(frozen=True)
class Composition:
    """A composed piece and its files, by kind; `str` of it is what the console prints."""

    picture: Path
    files: dict[str, Path]
    piece: Piece

    @property
    def midi(self) -> Path:
        """The MIDI file."""
        return self.files["mid"]

    @property
    def wav(self) -> Path:
        """The audio."""
        return self.files["wav"]

    @property
    def roll(self) -> Path:
        """The piano roll."""
        return self.files["png"]

    @property
    def seconds(self) -> float:
        """When the last note ends."""
        return self.piece.seconds

    def __str__(self) -> str:
        piece = self.piece
        rows = (
            ("predicted", piece.predicted, "what the picture shows"),
            ("requested", piece.requested, "what was asked of the model"),
            ("obtained", piece.obtained, "what the music labeller hears in the file"),
        )
        lines = [f"{printable(str(self.picture))}: {self.seconds:.1f} s, {piece.note_count} notes"]
        lines += [f"  {name:9}  {in_words(va)}   {note}" for name, va, note in rows if va]
        if piece.certainty is not None:
            said = [
                f"{axis} {one.word} ({one.middle:+.2f}, {one.low:+.2f} to {one.high:+.2f})"
                for axis, one in zip(("valence", "arousal"), piece.certainty, strict=True)
            ]
            lines.insert(
                2, f"  {'certainty':9}  {', '.join(said)}   people's ratings of such pictures: mean, four of five"
            )
        lines += [f"  {'plan':9}  {line}" for line in piece.plan.describe().splitlines()[:2]]
        lines += [f"  {'model':9}  {piece.model}"]
        files = [(TITLES[kind], path) for kind, path in self.files.items() if kind != "json"]
        return "\n".join(lines + [f"  {title:9}  {printable(str(path))}" for title, path in files])


class Composer:
    """A loaded model, ready to compose; threads may share it (their pieces are composed one after the other).

    Example:
        >>> from huesong import Composer
        >>> piece = Composer.load().compose("photo.jpg", seconds=30, mood="calm..joyful")
        >>> piece.save("photo.mp3")
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        """Load model, tokenizer, picture encoder and music labeller; `name` is what to call it, else its folder.

        Raises:
            UserError: the folder is no model, of another format, incomplete or damaged.
        """
        # here, not at the top: what a user got wrong is told before seconds of imports
        from huesong.compose.certainty import ReadingCertainty
        from huesong.emotion.scorer import LabellerScorer
        from huesong.model.folder import as_damage, load_model
        from huesong.music import tokens
        from huesong.pictures.encoders import Encoder

        self.name = name or str(folder)
        with as_damage(folder):
            self.model = load_model(folder)
            self.tokenizer = tokens.load(folder / contracts.TOKENIZER, self.model.vocabulary)
            self.encoder = Encoder.load(folder / contracts.ENCODER, self.model.network.picture_shape.row)
            self.scorer = LabellerScorer.of_model(folder, self.tokenizer)
            self.certainty = ReadingCertainty.of_model(self.model)

    @classmethod
    def load(cls, model: str | Path | None = None) -> Self:
        """The composer of a model folder, a registry URI such as `models:/huesong@champion`, a hub's `user/name`, or the default.

        Args:
            model: None: the registry's champion if it learnt from rated photographs, else the model that comes along.

        Raises:
            UserError: there is no such model, or it is damaged.
        """
        from huesong.compose.output import hub

        folder, name = hub.model_of(None if model is None else str(model))
        return cls(folder, name)

    def push(self, name: str, private: bool = False) -> str:
        """Push the model to the Hugging Face Hub as `user/name`, and return its address; needs `huesong[hub]` and HF_TOKEN.

        Raises:
            UserError: what it learnt from states no licence, or the hub refuses.
        """
        from huesong.compose.output import hub

        return hub.push(self.model.folder, name, private)

    @overload
    def compose(
        self, picture: Sequence[Request], config: SamplingConfig | None = None, on_step: OnStep | None = None
    ) -> list[Piece]: ...

    @overload
    def compose(
        self,
        picture: Picture | None = None,
        config: SamplingConfig | None = None,
        on_step: OnStep | None = None,
        **asked: Unpack[Asked],
    ) -> Piece: ...

    def compose(
        self,
        picture: Picture | Sequence[Request] | None = None,
        config: SamplingConfig | None = None,
        on_step: OnStep | None = None,
        **asked: Unpack[Asked],
    ) -> Piece | list[Piece]:
        """A piece for a picture; or one for every request of a list, sampled side by side.

        The same request and seed give the same bytes, whatever it is composed beside.

        Args:
            picture: a file, an image, or pixels (uint8 [H, W, 3]); None: no picture, then `asked` says valence and arousal,
                or a mood. A list of `Request`: what to compose; `asked` is empty then.
            config: sampling settings; None = those of `asked`, else the defaults.
            on_step: told the composed share, 0 to 1.
            asked: what is asked of the piece (`Asked`).

        Raises:
            UserError: a bad picture, primer or value, or what the model does not know.
        """
        if isinstance(picture, Sequence) and not isinstance(picture, str):
            if asked:
                raise TypeError("a list of requests says all that is asked: give no other arguments")
            return self._compose(picture, config or SamplingConfig(), on_step)
        request, sampling = request_of(picture, asked)
        return self._compose([request], config or sampling, on_step)[0]

    def read(self, picture: Picture) -> VA:
        """Valence and arousal that a picture asks of the music (UserError: it cannot be read)."""
        from huesong.model.requests import conditioning_of

        image = image_of(Path(picture) if isinstance(picture, str | PathLike) else picture)
        with _ONE_AT_A_TIME:
            return conditioning_of(self.model, Request(self.encoder.encode([image])[0])).requested

    def _compose(self, asked: Sequence[Request], config: SamplingConfig, on_step: OnStep | None) -> list[Piece]:
        from huesong.model.sampling import sample

        requests = [opened(request) for request in asked]
        with _ONE_AT_A_TIME:
            rows = iter(self.encoder.encode([request.picture for request in requests if request.picture is not None]))
            encoded = [
                replace(self.primed(request), picture=None if request.picture is None else next(rows))
                for request in requests
            ]
            sampled = sample(self.model, encoded, config, on_step, self.scorer)
        return counted(
            self._piece(self.notes_of(found.ids, found.plan.tempo), found, given, request.picture, row.picture)
            for given, request, row, found in zip(asked, requests, encoded, sampled, strict=True)
        )

    def token_ids(self, requests: Sequence[Request], config: SamplingConfig) -> list[list[int]]:
        """Token ids of a piece for each request, whose pictures are rows and primers token ids; nothing is chosen."""
        from huesong.model.sampling import roll_out

        with _ONE_AT_A_TIME:
            return [found.ids for found in roll_out(self.model, requests, config)]

    def notes_of(self, ids: Sequence[int], tempo: float) -> Notes:
        """The score of token ids, at so many quarters a minute."""
        from huesong.music import tokens

        return tokens.decode(self.tokenizer, ids, tempo)

    def piece_of(self, notes: Notes, request: Request, requested: VA) -> Piece:
        """A piece of notes that were composed part by part for a request without a picture; `request.plan` is their plan."""
        from huesong.model.requests import Sampled
        from huesong.model.sampling import predict_va
        from huesong.music import tokens

        assert request.plan is not None, "as it was composed by"
        ids = tokens.encode(self.tokenizer, notes)
        found = Sampled(ids, requested, None, predict_va(self.model, ids), request.plan)
        return self._piece(notes, found, request, None, None)

    def _piece(self, notes: Notes, found: Sampled, given: Request, picture: Any, row: Any) -> Piece:
        """`row`: what the encoder made of the picture."""
        from huesong.music import reading
        from huesong.music.rendering.performance import pedalled
        from huesong.score.hands import in_hands

        midi = bytes(in_hands(pedalled(notes, found.plan, found.requested[1])).dumps_midi())
        score, obtained = reading.parse_score(midi, "the composed piece"), None
        if self.scorer is not None:
            valence, arousal = self.scorer.of_scores([score])[0].tolist()
            obtained = (valence, arousal)
        sureness = self.certainty.of(row) if row is not None and self.certainty is not None else None
        return Piece(
            midi, score, found.plan, found.requested, found.predicted, obtained, found.critic, sureness, given, self.name,
            picture,
        )  # fmt: skip

    def primed(self, request: Request) -> Request:
        """The request with its primer as token ids and plan: on its bars, in one tempo, as preprocess reads music."""
        if request.primer is None:
            return request
        from symusic import Tempo

        from huesong.compose.primer import fitted
        from huesong.metre.align import align
        from huesong.metre.bars import FILE, BarLines
        from huesong.metre.estimate import says_its_bars
        from huesong.music import reading, tokens
        from huesong.music.form import header
        from huesong.music.form.analysis import analyse
        from huesong.music.form.heads import heads_of

        score = fitted(request.primer, self.model.grammar)
        if self.model.vocabulary.has_heads:
            score = align(score, BarLines.parse(FILE) if says_its_bars(score) else None).score
        else:  # all bars are 4/4
            score = score.resample(reading.TICKS_PER_QUARTER)
            score.time_signatures.clear()
        plan = analyse(score)
        score.tempos.clear()
        score.tempos.append(Tempo(0, plan.tempo))
        heads = heads_of(plan) if self.model.vocabulary.has_heads else []
        beginning = header.beginning(request.style or "mixed", plan.tonic, plan.mode)
        ids = tokens.apply_bpe(self.tokenizer, tokens.encode_base(self.tokenizer, score, heads, beginning))
        return replace(request, primer=tuple(ids), primer_plan=plan)


def opened(request: Request, say: bool = True) -> Request:
    """The request with picture (RGB, upright) and primer read, where they are files; `say`: what is left out of a primer.

    Raises:
        UserError: a bad file, or what is no picture.
    """
    from huesong.compose.primer import playable
    from huesong.music.reading import read_score

    primer = request.primer
    if isinstance(primer, Path):
        primer = playable(read_score(primer), str(primer), say)
    elif primer is not None:
        primer = playable(primer, say=say)
    return replace(request, picture=image_of(request.picture), primer=primer)


def image_of(picture: Any) -> Any:
    """A picture file, an open image, or pixels as an RGB image; None stays.

    Raises:
        UserError: a bad file, or something else.
    """
    if picture is None:
        return None
    import numpy as np
    from PIL import Image

    from huesong.pictures.decode import as_rgb, decode

    if isinstance(picture, Path):
        return decode(picture, PreprocessConfig().max_pixels)
    if isinstance(picture, Image.Image):
        return as_rgb(picture)
    if isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8:
        return Image.fromarray(picture)
    shape = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
    raise UserError(f"{shape} is no picture: give a file, an image, or pixels as uint8 [H, W, 3]")


ModelSource = Composer | Path | Callable[[], tuple[Path, str]]
"""A loaded model, its folder, or what finds the folder and its name (called after everything else has been checked)."""


def compose(
    picture: Path,
    out: Path,
    model: ModelSource,
    *,
    config: SamplingConfig | None = None,
    how: Writing = WRITING,
    on_step: OnStep | None = None,
    **asked: Unpack[Asked],
) -> Composition:
    """Compose for one picture and write its files; other arguments and errors as in `compose_many`."""
    request, sampling = request_of(picture, asked)
    return compose_many([request], [out], model, config or sampling, how, on_step)[0]


def compose_many(
    requests: Sequence[Request],
    outs: Sequence[Path],
    model: ModelSource,
    config: SamplingConfig | None = None,
    how: Writing = WRITING,
    on_step: OnStep | None = None,
) -> list[Composition]:
    """Compose a piece for every request in one batch and write its files (compose/output/files.py).

    A piece does not depend on the others of its batch. Either all files appear or none.

    Args:
        requests: what to compose, with picture files.
        outs: an output name for each, without suffix; a folder gets files named after the picture.
        model: a loaded Composer, a model folder, or a function that finds one and says what it is called.
        config: sampling settings; None = the defaults.
        how: which kinds of file, and how they are written.
        on_step: told the composed share, 0 to 1.

    Raises:
        UserError: a bad value, picture, soundfont, output name or model, or a file of the user's that would be replaced;
            nothing has been written then.
    """
    assert len(requests) == len(outs), "one output name a picture"
    primers = [request.primer if isinstance(request.primer, Path) else None for request in requests]
    names = output_names([request.picture for request in requests], outs, [*primers, how.soundfont], how)
    asked = requests
    for request in requests:
        opened(request, say=False)  # what is bad is told before the model is loaded

    from huesong.music.rendering.instruments import soundfont_of
    from huesong.score.drawing import check_installed

    soundfont_of(how.instrument, how.soundfont)
    check_installed(how.formats)
    composer = loaded(model)
    with Bar("composing", 1, share=True) as composing:
        pieces = composer.compose(requests, config, on_step or composing.to)
    made = []
    with ExitStack() as files, Bar("files", len(asked), at_once=True) as writing:
        for request, name, piece in zip(asked, names, pieces, strict=True):
            targets = targets_of(name, how.formats)
            earlier = earlier_files(targets["json"], targets.values())
            parts = dict(zip(targets, files.enter_context(replacing_files(list(targets.values()))), strict=True))
            record = parts.pop("json")
            piece.write(parts, how)
            digest = {"digest": digest_of(request, config or SamplingConfig(), how, composer.model.folder)}
            files_of = {targets[kind].name: part for kind, part in parts.items()}
            write_json(record, piece.record(files_of, how) | earlier | digest)
            writing.one_more()
            made.append(Composition(request.picture, targets, piece))
    return made


def digest_of(request: Request, config: SamplingConfig, how: Writing, model: Path) -> str:
    """SHA-256 of all that a piece is made of: files that are read, what is asked, the model, and this version."""
    files = {"picture": request.picture, "primer": request.primer, "soundfont": how.soundfont}
    parts = {
        **{name: sha256(path) for name, path in files.items() if isinstance(path, Path)},
        "asked": repr(replace(request, picture=None if request.picture is None else "", primer=None)),
        "sampling": config.model_dump(mode="json"),
        "humanize": how.humanize,
        "instrument": how.instrument,
        "model": sha256(model / contracts.MODEL_CONFIG),
        "huesong": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def loaded(model: ModelSource) -> Composer:
    """The composer itself, or of the folder that is given or found."""
    if isinstance(model, Composer):
        return model
    folder, title = (model, None) if isinstance(model, Path) else model()
    return Composer(folder, name=title)
