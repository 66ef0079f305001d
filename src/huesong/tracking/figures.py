"""Figures on their way into MLflow: flat, finite, with names it allows, in batches it accepts."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


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
