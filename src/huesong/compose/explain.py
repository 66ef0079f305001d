"""Why a picture is read as it is, and why its music sounds as it does: in numbers, words and one page (a PNG).

Regions: each cell of a grid is painted over with the picture's mean colour, and the picture is read again; what the reading
loses is what the cell gave to it (occlusion: Zeiler & Fergus 2014, ECCV). Music: hand features of the piece, each with the
share of the rated training music that has less of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from huesong import contracts
from huesong.compose.moods import in_words
from huesong.compose.piece import Piece
from huesong.model.requests import VA
from huesong.runtime.errors import UserError, printable
from huesong.va import AXES

if TYPE_CHECKING:
    from PIL.Image import Image

    from huesong.compose.composer import Composer

GRID = 6
"""Cells a side."""
SOFT = 0.5
"""Of a cell: how far what is painted over it fades into its neighbours; an edge would be read, too."""
FEW, MANY = 0.25, 0.75
"""Shares of the training music below and above which a piece is said to differ."""
NEAREST = 5
"""Rated pictures that are named."""
LONGEST_NAME = 400
NO_NAMES = "not known: this model folder names no rated pictures; --data names a data folder to look in"
LEAST = 0.02
"""A cell that moves a reading by less is not spoken of."""
PLACES = (("top", "middle", "bottom"), ("left", "centre", "right"))

COLOURS = (
    ("brightness_mean", "dark", "bright", 0.35, 0.6),
    ("saturation_mean", "pale", "saturated", 0.25, 0.5),
    ("warmth", "cold colours", "warm colours", -0.2, 0.2),
    ("contrast", "little contrast", "strong contrast", 0.15, 0.28),
)
"""Statistic of pictures/colours.py, words for little and much of it, and below and above which they are said."""
MUSIC = (
    ("note_rate", "notes a second", "sparse", "dense", 2.0),
    ("tempo", "quarters a minute", "slow", "fast", 0.0),
    ("velocity_mean", "mean key strength (1 to 127)", "soft", "loud", 0.0),
    ("pitch_mean", "mean pitch (MIDI)", "low", "high", 0.0),
    ("mode_margin", "major over minor", "minor", "major", 0.0),
    ("articulation", "share of the time to the next note", "short notes", "long notes", 2.0),
    ("roughness", "roughness of sounds", "smooth", "rough", 0.0),
    ("chord_size", "notes struck together", "thin", "full", 0.0),
)
"""Feature of music/features.py, what it counts, words for little and much of it, and the base of its logarithm (0: none)."""


@dataclass(frozen=True)
class Trait:
    """A feature of the piece. below: the share of the rated training music that has less of it, 0 to 1."""

    name: str
    value: float
    below: float
    word: str

    def __str__(self) -> str:
        return f"{self.word or 'as usual'}: {self.value:.3g} {self.name}, more than {100 * self.below:.0f} of 100 training pieces"


@dataclass(frozen=True)
class Neighbour:
    """A rated picture that is like the picture. likeness: by the head's kernel, 1 for the same features, 0 for nothing in
    common. va: people's rating if `rated`, else what the head reads in it."""

    name: str
    likeness: float
    va: VA
    rated: bool = False

    def __str__(self) -> str:
        said = "rated" if self.rated else "read as"
        return f"{printable(self.name)}, likeness {self.likeness:.2f}, {said} {in_words(self.va)}"


@dataclass(frozen=True)
class Explanation:
    """What moved the reading of a picture, and how its piece differs from other music.

    seen: valence and arousal of the picture. regions: what each cell gave to them [2, GRID, GRID]. colours: value and words
    of each statistic. traits: of the piece; none where the model has no labeller. nearest: the rated pictures that it is
    most like, to what reads it; none where they are not known.
    """

    picture: Image
    piece: Piece
    seen: VA
    regions: np.ndarray
    colours: dict[str, tuple[float, str]]
    traits: tuple[Trait, ...]
    nearest: tuple[Neighbour, ...] = ()

    def __str__(self) -> str:
        lines = [f"seen       {in_words(self.seen)}"]
        for axis, name in enumerate(AXES):
            lines.append(f"  {name:8} {_told(self.regions[axis])}")
        said = [
            f"{word} ({name.removesuffix('_mean')} {value:.2f})" for name, (value, word) in self.colours.items() if word
        ]
        lines.append(f"colours    {', '.join(said) or 'neither bright nor dark, neither warm nor cold'}")
        lines.append(f"most like  {'these rated pictures' if self.nearest else NO_NAMES}")
        lines += [f"  {neighbour}" for neighbour in self.nearest]
        lines.append(f"asked for  {in_words(self.piece.requested)}")
        lines.append(f"music      {self.piece.plan.describe().splitlines()[0]}")
        lines += [f"  {trait}" for trait in self.traits]
        if self.piece.obtained:
            lines.append(f"heard      {in_words(self.piece.obtained)}")
        return "\n".join(lines)


def explain(
    composer: Composer, picture: Any, piece: Piece, nearest: tuple[Neighbour, ...] | None = None
) -> Explanation:
    """Explain a picture's reading and its piece.

    Args:
        composer: the model that read the one and composed the other.
        picture: the same picture, as an RGB image.
        piece: what was composed for it.
        nearest: the rated pictures that it is most like; None = those that the model folder names.

    Raises:
        UserError: the model folder's file of names is damaged.

    Returns:
        The explanation; `str` of it is in words.
    """
    from huesong.pictures.colours import COLOUR_NAMES, colours

    read_N2 = readings(composer, [picture, *occluded(picture)])
    regions = (read_N2[0] - read_N2[1:]).T.reshape(2, GRID, GRID)
    found = dict(zip(COLOUR_NAMES, colours(picture).tolist(), strict=True))
    words = {
        name: (found[name], little if found[name] < low else much if found[name] > high else "")
        for name, little, much, low, high in COLOURS
    }
    valence, arousal = read_N2[0].tolist()
    nearest = neighbours_of(composer, picture) if nearest is None else nearest
    return Explanation(picture, piece, (valence, arousal), regions, words, traits_of(composer, piece), nearest)


def readings(composer: Composer, pictures: Sequence[Image]) -> np.ndarray:
    """Valence and arousal [N, 2] that the model sees in pictures."""
    return composer.model.network.encode_picture(composer.encoder.encode(pictures)).va_B2


def neighbours_of(composer: Composer, picture: Image) -> tuple[Neighbour, ...]:
    """The rated pictures that the model's head finds most like this one; none where its folder names none.

    Raises:
        UserError: the file of names is damaged.
    """
    from huesong.model.decoding.pictures import KernelHead
    from huesong.model.folder import read_document

    head, path = composer.model.network.picture.va_head, composer.model.folder / contracts.PICTURE_NAMES
    if not isinstance(head, KernelHead) or not path.is_file():
        return ()
    found = read_document(path)
    names = found.get("names") if isinstance(found, dict) else None
    sound = isinstance(names, list) and all(isinstance(name, str) and len(name) <= LONGEST_NAME for name in names)
    if not isinstance(names, list) or not sound or len(names) != len(head.known_KC):
        raise UserError(f"{path} is damaged: run `huesong pictures fit` for this model")
    row_SC = composer.encoder.encode([picture])[0].astype(np.float32)
    alike_K = head.alike(head.standardised(row_SC.mean(axis=0)[None]))[0]
    order = np.argsort(-alike_K, kind="stable")[:NEAREST]
    read_N2 = (head.alike(head.known_KC[order]) @ head.dual_K2 + head.bias_2).clip(-1, 1)
    rows = zip(order.tolist(), read_N2.tolist(), strict=True)
    return tuple(Neighbour(names[at], float(alike_K[at]), (valence, arousal)) for at, (valence, arousal) in rows)


def occluded(picture: Image) -> list[Image]:
    """The picture with each cell of the grid painted over softly, row by row."""
    from PIL import Image, ImageDraw, ImageFilter

    scale = min(1.0, 512 / max(picture.size))  # encoders look at less
    small = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    mean = Image.new("RGB", small.size, small.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))
    width, height = small.width / GRID, small.height / GRID
    found = []
    for row in range(GRID):
        for column in range(GRID):
            mask = Image.new("L", small.size)
            corners = (column * width, row * height, (column + 1) * width, (row + 1) * height)
            ImageDraw.Draw(mask).rectangle(corners, fill=255)
            mask = mask.filter(ImageFilter.GaussianBlur(SOFT * min(width, height) / 2))
            found.append(Image.composite(mean, small, mask))
    return found


def traits_of(composer: Composer, piece: Piece) -> tuple[Trait, ...]:
    """The features of MUSIC, against the music that the labeller learnt from."""
    from huesong.music import features

    if composer.scorer is None or (kernel := composer.scorer.labeller.kernel) is None:
        return ()
    found = features.features(piece.notes)
    names = list(composer.scorer.labeller.names)
    standard_F = kernel.standardised(np.array([[found[name] for name in names]]))[0]
    traits = []
    for name, counts, little, much, base in MUSIC:
        column = names.index(name)
        below = float((kernel.known_KF[:, column] < standard_F[column]).mean())
        word = little if below < FEW else much if below > MANY else ""
        traits.append(Trait(counts, base ** found[name] if base else found[name], below, word))
    return tuple(traits)


def _told(cells: np.ndarray) -> str:
    """Where a reading comes from: the cell that raises it most and the one that lowers it most."""
    said = []
    for verb, index in (("raised", int(cells.argmax())), ("lowered", int(cells.argmin()))):
        by = float(cells.flat[index])
        if (by if verb == "raised" else -by) >= LEAST:
            said.append(f"{verb} most at the {_place(*divmod(index, GRID))} ({by:+.2f})")
    return ", ".join(said) or "no single region moves it much"


def _place(row: int, column: int) -> str:
    where = [names[min(2, index * 3 // GRID)] for names, index in zip(PLACES, (row, column), strict=True)]
    return "centre" if where == ["middle", "centre"] else " ".join(where)
