"""From pictures to music files. Everything is checked first, then the model is loaded, then the files are written.

`Composer` is the pure middle (requests in, pieces out; the registry serves it); `compose` and `compose_many` add files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huesong import __version__, contracts
from huesong.compose.files import RECORD_KEY, output_names, targets_of
from huesong.config import PreprocessConfig, SamplingConfig
from huesong.model.requests import Piece, Request
from huesong.runtime.errors import printable
from huesong.runtime.files import replacing_files, sha256, write_json
from huesong.runtime.progress import Bar

if TYPE_CHECKING:
    from huesong.model.sampling import OnStep


@dataclass(frozen=True)
class Composition:
    """A composed piece and its files; `str` of it is what the console prints."""

    picture: Path
    midi: Path
    wav: Path
    roll: Path
    piece: Piece
    model: str
    """What composed, in words."""

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
        lines = [f"{printable(str(self.picture))}: {self.seconds:.1f} s, {notes} notes"]
        lines += [f"  {name:9}  valence {va[0]:+.2f}  arousal {va[1]:+.2f}   {note}" for name, va, note in rows if va]
        if piece.certainty is not None:
            said = [
                f"{axis} {one.word} ({one.low:+.2f} to {one.high:+.2f})"
                for axis, one in zip(("valence", "arousal"), piece.certainty, strict=True)
            ]
            lines.insert(2, f"  {'certainty':9}  {', '.join(said)}   four of five such pictures are rated within")
        lines += [f"  {'plan':9}  {line}" for line in piece.plan.describe().splitlines()[:2]]
        lines += [f"  {'model':9}  {self.model}"]
        files = (("MIDI", self.midi), ("audio", self.wav), ("roll", self.roll))
        return "\n".join(lines + [f"  {kind:9}  {printable(str(path))}" for kind, path in files])


class Composer:
    """A loaded model folder, ready to compose."""

    def __init__(self, folder: Path, device: str = "cpu", name: str | None = None) -> None:
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
            self.model = load_model(folder, device)
            self.tokenizer = tokens.load(folder / contracts.TOKENIZER)
            self.encoder = Encoder.load(folder / contracts.ENCODER)
            self.scorer = LabellerScorer.of_model(folder)
            self.certainty = ReadingCertainty.of_model(self.model)

    def compose(
        self, requests: Sequence[Request], config: SamplingConfig | None = None, on_step: OnStep | None = None
    ) -> list[Piece]:
        """A piece for every request, sampled side by side; the same request and seed give the same bytes.

        Raises:
            UserError: a bad picture or primer, or a tempo that the model or the length does not allow.
        """
        from huesong.model.sampling import sample
        from huesong.music import reading, tokens
        from huesong.music.rendering.performance import pedalled

        requests = [opened(request) for request in requests]
        rows = iter(self.encoder.encode([request.picture for request in requests if request.picture is not None]))
        encoded = [
            replace(self.primed(request), picture=None if request.picture is None else next(rows))
            for request in requests
        ]
        pieces = []
        sampled = sample(self.model, encoded, config or SamplingConfig(), on_step, self.scorer)
        for request, piece in zip(encoded, sampled, strict=True):
            notes = tokens.decode(self.tokenizer, piece.ids, piece.plan.tempo)
            midi = bytes(pedalled(notes, piece.plan, piece.requested[1]).dumps_midi())
            score, obtained = reading.parse_score(midi, "the composed piece"), None
            if self.scorer is not None:
                valence, arousal = self.scorer.of_scores([score])[0].tolist()
                obtained = (valence, arousal)
            knows = self.certainty if request.picture is not None else None
            sureness = knows.of(request.picture) if knows is not None else None
            pieces.append(replace(piece, midi=midi, score=score, obtained=obtained, certainty=sureness))
        return pieces

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


def opened(request: Request) -> Request:
    """The request with picture and primer read, where they are files.

    Raises:
        UserError: a bad file.
    """
    from huesong.compose.primer import playable
    from huesong.music.reading import read_score
    from huesong.pictures.decode import decode

    picture, primer = request.picture, request.primer
    if isinstance(primer, Path):
        primer = playable(read_score(primer), str(primer))
    elif primer is not None:
        primer = playable(primer)
    return replace(
        request,
        picture=decode(picture, PreprocessConfig().max_pixels) if isinstance(picture, Path) else picture,
        primer=primer,
    )


ModelSource = Composer | Path | Callable[[], tuple[Path, str]]
"""A loaded model, its folder, or what finds the folder and its name (called after everything else has been checked)."""


def compose(
    picture: Path,
    out: Path,
    model: ModelSource,
    *,
    config: SamplingConfig | None = None,
    soundfont: Path | None = None,
    on_step: OnStep | None = None,
    force: bool = False,
    humanize: bool | None = None,
    **asked: Any,
) -> Composition:
    """Compose for one picture; `asked` are fields of `Request`; other arguments and errors as in `compose_many`."""
    return compose_many([Request(picture, **asked)], [out], model, config, soundfont, on_step, force, humanize)[0]


def compose_many(
    requests: Sequence[Request],
    outs: Sequence[Path],
    model: ModelSource,
    config: SamplingConfig | None = None,
    soundfont: Path | None = None,
    on_step: OnStep | None = None,
    force: bool = False,
    humanize: bool | None = None,
) -> list[Composition]:
    """Compose a piece for every request in one batch and write its files (compose/files.py): MIDI, audio, roll, record.

    A piece does not depend on the others of its batch. Either all files appear or none.

    Args:
        requests: what to compose, with picture files.
        outs: an output name for each, without suffix; a folder gets files named after the picture.
        model: a loaded Composer, a model folder, or a function that finds one and says what it is called.
        config: sampling settings; None = the defaults.
        soundfont: an .sf2 or .sf3 file; None = the package's own piano, or the environment's (`find_soundfont`).
        on_step: told the composed share, 0 to 1.
        force: replace files that are not an earlier piece, too.
        humanize: whether timing and dynamics are a player's (`humanized`); None = in the audio, not in the MIDI file.

    Raises:
        UserError: a bad value, picture, soundfont, output name or model, or a file of the user's that would be replaced;
            nothing has been written then.
    """
    assert len(requests) == len(outs), "one output name a picture"
    pictures = [request.picture for request in requests]
    primers = [request.primer if isinstance(request.primer, Path) else None for request in requests]
    names = output_names(pictures, outs, [*primers, soundfont], force)
    asked = requests
    requests = [opened(request) for request in requests]

    from huesong.music.rendering.roll import piano_roll
    from huesong.music.rendering.soundfont import find_soundfont

    sounds = find_soundfont(soundfont)
    if not isinstance(model, Composer):
        folder, title = (model, None) if isinstance(model, Path) else model()
        model = Composer(folder, name=title)
    with Bar("composing", 1, share=True) as composing:
        pieces = model.compose(requests, config, on_step or composing.to)
    made = []
    with ExitStack() as files, Bar("audio and piano roll", 2 * len(asked), at_once=True) as rendering:
        for request, name, piece in zip(asked, names, pieces, strict=True):
            picture, targets = request.picture, targets_of(name)
            midi, wav, roll, record = files.enter_context(replacing_files(targets))
            played_in = _write_sound(piece, request.seed, humanize, midi, wav, sounds)
            rendering.one_more()
            title = f"{printable(picture.name)}   valence {piece.requested[0]:+.2f}, arousal {piece.requested[1]:+.2f}"
            piano_roll(piece.score, roll, title)
            rendering.one_more()
            written = {target.name: part for target, part in zip(targets[:-1], (midi, wav, roll), strict=True)}
            write_json(record, record_of(request, piece, written) | {"humanized": played_in, "model": model.name})
            made.append(Composition(picture, targets[0], targets[1], targets[2], piece, model.name))
    return made


def _write_sound(
    piece: Piece, seed: int, humanize: bool | None, midi: Path, wav: Path, soundfont: Path
) -> dict[str, bool]:
    """Write a piece's MIDI and audio; which of them were humanized."""
    from huesong.music.rendering.audio import render_wav
    from huesong.music.rendering.performance import humanized

    played = humanized(piece.score, piece.plan, seed)
    midi.write_bytes(bytes(played.dumps_midi()) if humanize else piece.midi)
    render_wav(piece.score if humanize is False else played, wav, soundfont, piece.requested[1])
    return {"audio": humanize is not False, "midi": bool(humanize)}


def record_of(request: Request, piece: Piece, files: Mapping[str, Path]) -> dict[str, Any]:
    """What a piece was composed for and what came out; `files`: name -> where the file is while it is written."""
    plain = (
        "valence",
        "arousal",
        "intensity",
        "seed",
        "seconds",
        "bars",
        "tempo",
        "key",
        "style",
        "form",
        "chords",
        "metre",
    )
    sure = piece.certainty
    heard = {name: getattr(piece, name) for name in ("requested", "predicted", "obtained", "critic")}
    return {
        RECORD_KEY: __version__,
        "picture": request.picture.name,
        "primer": request.primer.name if isinstance(request.primer, Path) else None,
        "asked": {name: value for name in plain if (value := getattr(request, name)) is not None},
        **heard,
        **({"certainty": dict(zip(("valence", "arousal"), map(asdict, sure), strict=True))} if sure else {}),
        "plan": piece.plan.describe().splitlines(),
        "bars": piece.plan.to_dict(),
        "files": {name: sha256(path) for name, path in files.items()},
    }
