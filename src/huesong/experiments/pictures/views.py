"""What encoders see of rated pictures, in several sizes and views, for `huesong experiment pictures`; computed once.

Shapes: N pictures, H = W side in pixels, S places of a feature map, C channels, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from huesong.pictures.colours import colours
from huesong.pictures.encoders import Encoder, load_encoder, squash
from huesong.runtime.errors import UserError
from huesong.runtime.progress import track

CROP = 0.75
"""Share of each side that a crop keeps: the four corners and the middle."""
COLOURS = "colours"
Look = Callable[[Encoder, Image.Image], dict[str, np.ndarray]]
Features = dict[str, np.ndarray]
"""[N, F] by name: `colours`, or `<encoder>:<size>:<view>`, size 1 or 2 (times the encoder's own side)."""


def features_of(
    encoders: Sequence[str], ids: np.ndarray, opened: Callable[[int], Image.Image], cache: Path
) -> Features:
    """Features of all pictures, from the folder `cache` as far as they are there for the same pictures.

    Of the first encoder all `views`, of the others the mean over the feature map in their own size.

    Args:
        encoders: names or folders, as of `load_encoder`.
        ids: of the pictures.
        opened: the picture of a row.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found: Features = {}
    for place, name in enumerate((*encoders, COLOURS)):
        path = cache / f"{Path(name).name}.npz"
        if not path.exists():
            np.savez(path, ids=ids, **dict(_seen(name, len(ids), opened, views if place == 0 else own_size)))  # type: ignore[arg-type]
        with np.load(path, allow_pickle=False) as kept:
            if kept["ids"].tolist() != ids.tolist():
                raise UserError(f"{path} is of other pictures: remove it, or name another folder with --cache")
            found |= {key: kept[key].astype(np.float64) for key in kept.files if key != "ids"}
    return found


def _seen(
    name: str, pictures: int, opened: Callable[[int], Image.Image], look: Look
) -> Iterator[tuple[str, np.ndarray]]:
    if name == COLOURS:
        yield COLOURS, np.stack([colours(opened(row)) for row in track(range(pictures), COLOURS, pictures)])
        return
    encoder = load_encoder(name, size=64, grid=1)
    rows: dict[str, list[np.ndarray]] = {}
    for row in track(range(pictures), encoder.name, pictures):
        for key, values in look(encoder, opened(row)).items():
            rows.setdefault(f"{encoder.name}:{key}", []).append(values)
    for key, parts in rows.items():
        yield key, np.stack(parts).astype(np.float32)


def own_size(encoder: Encoder, image: Image.Image) -> dict[str, np.ndarray]:
    """The mean [C] over the feature map in the encoder's own size."""
    return {"1:mean": _map(encoder, squash(image, encoder.settings.side), 1).mean(axis=0)}


def views(encoder: Encoder, image: Image.Image) -> dict[str, np.ndarray]:
    """Features [C] by `<size>:<view>`; a size that the encoder cannot take is left out.

    `mean`, `max` and `sd` over the feature map of the whole picture; of its mirror image and, in the encoder's own size,
    of five crops the mean.
    """
    found: dict[str, np.ndarray] = {}
    for size in (1, 2):
        try:
            whole_SC = _map(encoder, squash(image, size * encoder.settings.side), size)
        except UserError:
            break
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        found |= {
            f"{size}:mean": whole_SC.mean(axis=0),
            f"{size}:max": whole_SC.max(axis=0),
            f"{size}:sd": whole_SC.std(axis=0),
            f"{size}:mirror": _map(encoder, squash(mirrored, size * encoder.settings.side), size).mean(axis=0),
        }
    parts = [_map(encoder, squash(part, encoder.settings.side), 1).mean(axis=0) for part in crops(image)]
    return found | {"1:crops": np.mean(parts, axis=0)}


def crops(image: Image.Image) -> list[Image.Image]:
    """The four corners and the middle, each CROP of both sides."""
    (width, height), (wide, high) = image.size, (round(CROP * side) for side in image.size)
    places = [(x, y) for x in (0, width - wide) for y in (0, height - high)] + [
        ((width - wide) // 2, (height - high) // 2)
    ]
    return [image.crop((x, y, x + wide, y + high)) for x, y in places]


def _map(encoder: Encoder, pixels_HW3: np.ndarray, size: int) -> np.ndarray:
    """The feature map [S, C] of the picture in `size` times the encoder's own side."""
    side = size * encoder.settings.side
    grid = side // 32
    seer = Encoder(
        replace(encoder.settings, side=side, grid=grid, shape=(grid * grid, encoder.shape[1])),
        encoder.backbone,
        encoder.many,
    )
    found_SC: np.ndarray = seer.encode_pixels(pixels_HW3[None])[0].astype(np.float64)
    return found_SC
