"""A composed piece as a caller of the library gets it: its notes and emotion, and what can be made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from huesong import __version__
from huesong.compose.moods import in_words
from huesong.compose.output.files import real
from huesong.compose.output.formats import AUDIO, FORMATS, RECORD_KEY, SCORES, Writing, format_of, write_audio
from huesong.runtime.errors import UserError, printable
from huesong.runtime.files import replacing_file, sha256, write_json

if TYPE_CHECKING:
    import numpy as np
    from symusic import Score as Notes

    from huesong.emotion.certainty import Sureness
    from huesong.model.requests import VA, Request
    from huesong.music.form.plan import Plan
    from huesong.score.drawing import Score


PLAIN = (
    "valence", "arousal", "intensity", "seed", "seconds", "bars", "tempo", "key", "style", "form", "chords", "metre",
)  # fmt: skip
"""Fields of a request that a record holds as they are."""


class Emotion(NamedTuple):
    """Valence and arousal of a piece, each a pair in [-1, 1]; `str` of it says them in words.

    predicted: what the picture shows; None without a picture. requested: what was asked of the model (of a course the mean
    over time). obtained: what the music labeller hears in the piece; None where the model has no labeller.
    """

    predicted: VA | None
    requested: VA
    obtained: VA | None

    def __str__(self) -> str:
        said = (("seen", self.predicted), ("asked for", self.requested), ("heard", self.obtained))
        return "; ".join(f"{name}: {in_words(va)}" for name, va in said if va is not None)


class Audio(NamedTuple):
    """Sound: `samples` float32 [N, 2] in [-1, 1], left and right; `rate` in samples a second (48,000)."""

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    def save(self, path: str | Path) -> Path:
        """Write it as .wav, .flac, .ogg or .mp3 (UserError: another suffix, or a place that cannot be written)."""
        path = Path(path)
        kind = format_of(path, tuple(AUDIO))
        with replacing_file(path) as part:
            write_audio(*self, part, kind)
        return path

    def _repr_html_(self) -> str:
        from huesong.compose.output.display import player

        return player(self.samples, self.rate)


@dataclass(frozen=True, eq=False)
class Piece:
    """A composed piece.

    midi: a Standard MIDI File, the same bytes for the same request, seed and model. notes: that file read back
    (symusic.Score). plan: the bars, phrases and chords that it was composed by. requested, predicted, obtained: see
    `Emotion`. critic: valence and arousal as the model's own critic scores it (not independent of the model). certainty: how
    sure `predicted` is, for valence and for arousal; None without a picture, or where the model does not know. request:
    what it was composed for, as it was asked. model: what composed, in words. picture: the decoded picture, a
    PIL.Image.Image; None without one.

    Example:
        >>> from huesong import Composer
        >>> piece = Composer.load().compose("photo.jpg", seconds=30)
        >>> piece.save("photo.mid"), piece.save("photo.mp3")
        >>> print(piece.emotion)
        >>> samples, rate = piece.audio()
    """

    midi: bytes
    notes: Notes
    plan: Plan
    requested: VA
    predicted: VA | None
    obtained: VA | None
    critic: VA
    certainty: tuple[Sureness, Sureness] | None
    request: Request
    model: str
    picture: Any = field(default=None, repr=False)

    @property
    def emotion(self) -> Emotion:
        """The emotion seen, asked for and heard."""
        return Emotion(self.predicted, self.requested, self.obtained)

    @property
    def seconds(self) -> float:
        """When the last note ends."""
        return float(max(note.end for track in self.notes.to("second").tracks for note in track.notes))

    @property
    def note_count(self) -> int:
        """How many notes it has."""
        return sum(len(track.notes) for track in self.notes.tracks)

    def played(self, humanize: bool = True, instrument: str = "piano") -> Notes:
        """The notes as somebody plays them, with small timing and dynamics by metre and phrase; else as written.

        For another instrument than the piano its program is set, notes beyond its range are moved by octaves, and there is no
        pedal where it has none (UserError: no such instrument).
        """
        from huesong.music.rendering.instruments import PIANO, arranged
        from huesong.music.rendering.performance import humanized

        notes = humanized(self.notes, self.plan, self.request.seed) if humanize else self.notes
        return notes if instrument == PIANO else arranged(notes, instrument)

    def audio(self, soundfont: str | Path | None = None, humanize: bool = True, instrument: str = "piano") -> Audio:
        """The piece as sound, as loud as it is excited; the same samples every time.

        Args:
            soundfont: an .sf2 or .sf3 file; None: the piano that comes with huesong, or HUESONG_SOUNDFONT.
            humanize: whether timing and dynamics are a player's.
            instrument: piano, strings, music-box, guitar or organ; all but the piano need a General MIDI soundfont.

        Raises:
            UserError: the soundfont is missing or cannot be played, or there is no such instrument.
        """
        from huesong.music.rendering.audio import heard
        from huesong.music.rendering.instruments import soundfont_of
        from huesong.music.rendering.loudness import RATE

        font = soundfont_of(instrument, None if soundfont is None else Path(soundfont))
        return Audio(heard(self.played(humanize, instrument), font, self.requested[1]), RATE)

    def score(self) -> Score:
        """The piece as sheet music, with `.musicxml()`, `.svg()`, `.pdf()` and `.save(path)`; needs `huesong[score]`."""
        from huesong.score.drawing import Score

        picture = self.request.picture
        return Score(self.notes, self.plan, printable(picture.stem) if isinstance(picture, Path) else "")

    def save(
        self, path: str | Path, *, soundfont: str | Path | None = None, humanize: bool | None = None,
        instrument: str = "piano",
    ) -> Path:  # fmt: skip
        """Write the piece to one file, whose suffix says how; a file that is there is replaced, as a whole or not at all.

        Args:
            path: .mid, .wav, .flac, .ogg, .mp3, .png (piano roll), .musicxml, .pdf (sheet music) or .json
                (what was asked and what came out).
            soundfont, instrument: as for `audio`.
            humanize: whether timing and dynamics are a player's; None = in audio, not in MIDI.

        Returns:
            The path.

        Raises:
            UserError: another suffix, a file that the piece was composed from, or a place that cannot be written.
        """
        path = Path(path)
        kind = format_of(path, FORMATS)
        font = None if soundfont is None else Path(soundfont)
        read = [each for each in (self.request.picture, self.request.primer, font) if isinstance(each, Path)]
        if real(path) in {real(each) for each in read}:
            raise UserError(f"{path} is read for this piece and would be replaced by it: choose another name")
        with replacing_file(path) as part:
            self.write({kind: part}, Writing(font, humanize, instrument=instrument))
        return path

    def write(self, parts: Mapping[str, Path], how: Writing) -> None:
        """Write the kinds of file in `parts`; the sound is made once for all kinds of audio."""
        if "mid" in parts:
            changed = how.humanize or how.instrument != "piano"
            played = self.played(bool(how.humanize), how.instrument).dumps_midi() if changed else self.midi
            parts["mid"].write_bytes(bytes(played))
        if sounds := [kind for kind in parts if kind in AUDIO]:
            audio = self.audio(how.soundfont, how.humanize is not False, how.instrument)
            for kind in sounds:
                write_audio(*audio, parts[kind], kind)
        if "png" in parts:
            from huesong.music.rendering.roll import piano_roll

            piano_roll(self.notes, parts["png"], self.title)
        if sheets := [kind for kind in parts if kind in SCORES]:
            score = self.score()
            for kind in sheets:
                parts[kind].write_bytes(score.pdf() if kind == "pdf" else score.musicxml().encode())
        if "json" in parts:
            write_json(parts["json"], self.record({}, how))

    @property
    def title(self) -> str:
        """The picture's name and what was asked."""
        valence, arousal = self.requested
        asked, picture = f"valence {valence:+.2f}, arousal {arousal:+.2f}", self.request.picture
        return f"{printable(picture.name)}   {asked}" if isinstance(picture, Path) else asked

    def record(self, files: Mapping[str, Path], how: Writing) -> dict[str, Any]:
        """What it was composed for and what came out; `files`: name -> where the file is while it is written."""
        request, sure = self.request, self.certainty
        heard = {name: getattr(self, name) for name in ("requested", "predicted", "obtained", "critic")}
        return {
            RECORD_KEY: __version__,
            "picture": request.picture.name if isinstance(request.picture, Path) else None,
            "primer": request.primer.name if isinstance(request.primer, Path) else None,
            "asked": {name: value for name in PLAIN if (value := getattr(request, name)) is not None},
            **heard,
            **({"certainty": dict(zip(("valence", "arousal"), map(asdict, sure), strict=True))} if sure else {}),
            "plan": self.plan.describe().splitlines(),
            "bars": self.plan.to_dict(),
            "humanized": {"audio": how.humanize is not False, "midi": bool(how.humanize)},
            **({} if how.instrument == "piano" else {"instrument": how.instrument}),
            "model": self.model,
            "files": {name: sha256(path) for name, path in files.items()},
        }

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.note_count} notes; {self.emotion}"

    def _repr_html_(self) -> str:
        from huesong.compose.output.display import player, shown
        from huesong.music.rendering.roll import piano_roll_png

        words = [str(self), self.plan.describe().splitlines()[0]]
        sound = player(*self.audio())
        return shown(self.picture, self.emotion._asdict(), words, piano_roll_png(self.notes), sound)
