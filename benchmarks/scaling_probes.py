"""One piece of work, COUNT times over, for `scaling.py` to measure from outside: what differs between counts is its cost.

Usage: python benchmarks/scaling_probes.py PROBE COUNT FOLDER [ENCODER]
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

FEW = 500
"""Rows that trees are fitted to here."""
PAIRS_A_PICTURE, PICTURES_A_PIECE, MOST_OFTEN = 8, 10, 3.0


def some(folder: Path, ends: tuple[str, ...], count: int) -> Iterable[Path]:
    """`count` files, the same again where there are fewer."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in ends)
    if not files:
        sys.exit(f"{folder} has no {' or '.join(ends)}")
    return itertools.islice(itertools.cycle(files), count)


def pieces(count: int, folder: Path) -> None:
    """A MIDI file as a worker of preprocess reads it: cleaned, in segments, with features, statistics and base tokens."""
    from huesong.config import PreprocessConfig
    from huesong.music.reading import Limits
    from huesong.preprocess.packing import PieceJob, read_piece

    config = PreprocessConfig()
    limits = Limits(
        config.min_notes, config.min_seconds, config.max_seconds, config.segment_seconds, config.max_polyphony
    )
    for row, path in enumerate(some(folder / "music", (".mid",), count)):
        assert isinstance(read_piece(PieceJob(row, path, limits, config.tokenizer)), list)


def pictures(count: int, folder: Path, encoder: str = "builtin") -> None:
    """A picture decoded, its colours counted, and encoded."""
    import torch

    from huesong.config import PreprocessConfig
    from huesong.pictures.encoders import load_encoder
    from huesong.preprocess.packing import PICTURES_AT_ONCE, PictureJob, read_picture

    torch.set_num_threads(1)
    config = PreprocessConfig()
    made = load_encoder(encoder, size=config.picture_size, grid=config.picture_grid)
    files = some(folder, (".jpg", ".png"), count)
    while batch := list(itertools.islice(files, PICTURES_AT_ONCE)):
        read = [read_picture(PictureJob(0, path, config.max_pixels, made.side)) for path in batch]
        made.encode_pixels(np.stack([found[0] for found in read]))  # a dropped one would raise here


def piece_labels(count: int) -> None:
    """Labels of segments, by trees and a kernel machine that keeps as many rows as it ever does."""
    from pandas import DataFrame

    from huesong.emotion.boosting import BoostedVA
    from huesong.emotion.kernel import MOST_ROWS, KernelVA
    from huesong.music.features import FEATURE_NAMES

    draw = np.random.default_rng(0)
    x = draw.standard_normal((MOST_ROWS, len(FEATURE_NAMES)))
    va, weights = np.tanh(x[:, :2]), np.ones(len(x))
    few = slice(FEW)
    # Trees that are fitted to few rows are asked as fast as others; the probe should not be all fitting.
    labeller = BoostedVA.fit(DataFrame(x[few], columns=list(FEATURE_NAMES)), va[few], weights[few], np.arange(FEW))
    labeller.kernel = KernelVA.fit(x, va, weights)
    labeller.predict_with_sd(draw.standard_normal((count, len(FEATURE_NAMES))))


def picture_labels(count: int) -> None:
    """Labels of pictures, by ridge regression on the features of a frozen CNN and on colours."""
    from huesong.emotion.labellers import ImageLabeller
    from huesong.pictures.colours import COLOUR_NAMES

    channels, colours = 1280, len(COLOUR_NAMES)
    inputs, two = channels + colours, np.ones(2)
    labeller = ImageLabeller(np.zeros(inputs), np.ones(inputs), np.ones((inputs, 2)), two, two, two, channels, colours)
    labeller.predict(np.zeros((count, 16, channels), np.float16), np.zeros((count, colours), np.float32))


def pairs(count: int) -> None:
    """Pictures and music evenly spread over the plane, paired."""
    from huesong.label.pairing import pair

    draw = np.random.default_rng(0)
    shown, heard = (draw.uniform(-1, 1, (rows, 2)) for rows in (count, count // PICTURES_A_PIECE))
    pair(shown, heard, PAIRS_A_PICTURE, MOST_OFTEN)


def main() -> None:
    """Do it."""
    probe, count, folder, encoder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    work = {
        "pieces": lambda: pieces(count, folder),
        "pictures": lambda: pictures(count, folder / "images"),
        "photos": lambda: pictures(count, folder, encoder),
        "piece-labels": lambda: piece_labels(count),
        "picture-labels": lambda: picture_labels(count),
        "pairs": lambda: pairs(count),
    }
    work[probe]()


if __name__ == "__main__":
    main()
