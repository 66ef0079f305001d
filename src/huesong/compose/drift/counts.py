"""What was asked of a model that serves, as counts: how often each emotion and each look of a picture. No picture is kept.

Where HUESONG_COUNTS names a file, everything that composes adds to it: console, library and registered model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from huesong.register.lock import file_lock
from huesong.runtime.errors import UserError
from huesong.runtime.files import write_json
from huesong.runtime.progress import log

if TYPE_CHECKING:
    from huesong.compose.piece import Piece

VARIABLE = "HUESONG_COUNTS"
"""Environment variable: the file that counts are added to."""
FORMAT = 1
BINS = 10
LOOKS: Final[Mapping[str, tuple[float, float]]] = {
    "brightness_mean": (0.0, 1.0), "contrast": (0.0, 1.0), "saturation_mean": (0.0, 1.0), "warmth": (-1.0, 1.0),
    "colourfulness": (0.0, 0.6), "edge_density": (0.0, 0.6),
}  # fmt: skip
"""Statistics of pictures.colours that are counted, and the range that BINS equal bins share; what is beyond counts at its end."""
FEATURES: Final[Mapping[str, tuple[float, float]]] = {"valence": (-1.0, 1.0), "arousal": (-1.0, 1.0), **LOOKS}
"""The emotion is the one that the model sees in the picture, whatever was asked for."""
Counts = dict[str, list[int]]
"""Feature -> how many fell into each of its bins."""


def of_values(values: Iterable[Mapping[str, float]]) -> Counts:
    """The counts of pictures, each a value a feature."""
    counts = {name: [0] * BINS for name in FEATURES}
    for one in values:
        for name, (low, high) in FEATURES.items():
            bin_ = int((one[name] - low) / (high - low) * BINS)
            counts[name][min(BINS - 1, max(0, bin_))] += 1
    return counts


def looks(image: Any) -> dict[str, float]:
    """LOOKS of an RGB picture."""
    from huesong.pictures.colours import COLOUR_NAMES, colours

    return {name: value for name, value in zip(COLOUR_NAMES, colours(image).tolist(), strict=True) if name in LOOKS}


def counted(pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces, once their pictures were added to the file of VARIABLE, where it names one.

    A file that cannot be written is a warning: who asked for music gets it.
    """
    made = list(pieces)
    if name := os.environ.get(VARIABLE):
        seen = [(piece.predicted, piece.picture) for piece in made]
        values = [
            {"valence": va[0], "arousal": va[1], **looks(image)} for va, image in seen if va and image is not None
        ]
        try:
            add(Path(name), of_values(values))
        except (OSError, UserError) as error:
            log.warning("what was asked for is not counted: %s", error)
    return made


def add(path: Path, counts: Counts) -> None:
    """Add counts to a file, made if it is not there; several processes may do so at once."""
    with file_lock(path.with_name(f"{path.name}.lock")):
        before = read(path) if path.exists() else {name: [0] * BINS for name in FEATURES}
        total = {name: [a + b for a, b in zip(before[name], counts[name], strict=True)] for name in FEATURES}
        write_json(path, {"format": FORMAT, "bins": BINS, "features": total})


def read(path: Path) -> Counts:
    """The counts of a file.

    Raises:
        UserError: it is not there, or holds none of this version.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        features = kept["features"]
        if (kept["format"], kept["bins"], set(features)) != (FORMAT, BINS, set(FEATURES)):
            raise ValueError("of another version")
        return {name: [int(number) for number in features[name]] for name in FEATURES}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: let what serves name it in {VARIABLE}") from None
    except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} holds no counts that can be read ({error}): move it away, and a new one is begun"
        ) from None
