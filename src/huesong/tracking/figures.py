"""Figures of a stage: the few that people compare, and all of them on their way into MLflow: flat, finite, in batches."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from huesong import contracts
from huesong.runtime.files import write_json
from huesong.runtime.progress import log

COMPARED: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "preprocess": {"images": ("pictures.kept",), "pieces": ("pieces.kept",)},
    "label": {
        "image_ccc": ("images_valence_ccc", "images_arousal_ccc"),
        "music_ccc": ("pieces_valence_ccc", "pieces_arousal_ccc"),
    },
    "train": {"steps": ("steps",), "val_ce": ("val_ce",)},
    "evaluate": {
        "v_ccc": ("valence_ccc",), "a_ccc": ("arousal_ccc",), "grid_v": ("grid_valence_ccc",),
        "grid_a": ("grid_arousal_ccc",), "distance": ("distance_paper",), "c2st": ("quality_c2st_shape",),
    },
}  # fmt: skip
"""Stage -> the figures that people compare: short name -> the figures that it is the mean of.

All together they fit a line of a terminal, beside the name of a file or of an experiment.
"""


def compared(stage: str, figures: Mapping[str, Any]) -> dict[str, float]:
    """Those of COMPARED that were measured, from all figures of a stage; four decimals."""
    known = numbers(figures)
    return {
        name: round(fmean(known[key] for key in keys), 4)
        for name, keys in COMPARED.get(stage, {}).items()
        if known.keys() >= set(keys)
    }


def write_figures(folder: Path, stage: str, figures: Mapping[str, Any]) -> None:
    """Write all figures of a stage, and beside them those that people compare."""
    unknown = sorted(name for name, value in figures.items() if isinstance(value, float) and not math.isfinite(value))
    if unknown:  # a gate takes what is missing as failed; the rest of an hour's work is not lost
        log.warning("%s: left out of %s, as they are no numbers: %s", stage, contracts.FIGURES, ", ".join(unknown))
        figures = {name: value for name, value in figures.items() if name not in unknown}
    write_json(folder / contracts.FIGURES, figures)
    write_json(folder / contracts.METRICS, compared(stage, figures))


def curve_points(path: Path, prefix: str) -> Iterator[tuple[str, float, int]]:
    """(name, value, step) of every filled cell of a learning-curve CSV with a `step` column."""
    with path.open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream)):
            step = int(float(row.pop("step", None) or number))
            for key, cell in row.items():
                try:
                    value = float(cell or "nan")
                except ValueError:  # a column of words (the phase) is no curve
                    continue
                if math.isfinite(value):
                    yield f"curve/{prefix}{key}", value, step


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat |= flatten(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among (nested) metrics."""
    return {
        key: float(value)
        for key, value in flatten(metrics).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def figure_name(key: str) -> str:
    """`key` in the characters that MLflow allows in names."""
    return "".join(c if (c.isascii() and c.isalnum()) or c in "_-./ " else "_" for c in key)[:250]


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Slices of at most `size` items: MLflow limits a request."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
