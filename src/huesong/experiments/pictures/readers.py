"""`huesong experiment readers`: what could read pictures better, each idea alone against the reader in use.

A fourth of the themes, drawn by a hash of their names, is set aside: choices are made on the others, in folds with whole
themes and with single pictures left out, and what wins is tried once on those that were set aside. Pictures of split test
are never looked at.

Shapes: N pictures, D draws of folds, F features; va [N, 2] is valence, arousal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from huesong.config import PreprocessConfig
from huesong.experiments.pictures import kernels
from huesong.experiments.pictures.check import DRAWS, folds
from huesong.experiments.pictures.kernels import Reader, Task
from huesong.experiments.pictures.rated import rated_table
from huesong.experiments.pictures.views import COLOURS, Features, features_of
from huesong.pictures.decode import decode
from huesong.report.tables import table
from huesong.runtime.errors import UserError
from huesong.runtime.files import write_json
from huesong.runtime.progress import track
from huesong.va import AXES, Bootstrap, pearson

BASE = "in use"
ERRORS = ("valence_se", "arousal_se")
"""Columns of a table beside the pictures that are no features: standard errors of the mean ratings."""
SET_ASIDE = 4
"""One theme of so many is set aside."""
SCHEMES = ("themes", "singles")


@dataclass(frozen=True)
class Ratings:
    """Mean ratings of the pictures, their themes, and whether those were set aside."""

    va_N2: np.ndarray
    theme_N: np.ndarray

    @property
    def aside_N(self) -> np.ndarray:
        """bool [N]."""
        return np.array([hashlib.sha256(name.encode()).digest()[0] % SET_ASIDE == 0 for name in self.theme_N])

    def task(self, known: np.ndarray, new: np.ndarray) -> Task:
        """To read rows `new` from rows `known`."""
        return Task(known, new, self.va_N2[known], self.theme_N[known])


def run(
    data: Path, encoders: Sequence[str], tables: Sequence[Path], preprocess: PreprocessConfig, cache: Path
) -> dict[str, Any]:
    """Figures of every idea, also written to the folder `cache` as readers.json.

    Args:
        data: the data folder.
        encoders: the first one is the base.
        tables: CSV with `id` and numbers of what another tool found in the pictures; the columns of ERRORS are weights.
        cache: folder for features.

    Raises:
        UserError: too few rated pictures, or a table that lacks some of them.
    """
    rows = rated_table(data, preprocess)
    paths = rows["path"].tolist()
    ids = rows["id"].to_numpy(str)
    seen = features_of(encoders, ids, lambda row: decode(data / paths[row], preprocess.max_pixels), cache)
    rated = Ratings(rows[["valence", "arousal"]].to_numpy(float), rows["group"].to_numpy(str))
    ideas = ideas_of(seen, [read_table(path, ids) for path in tables])
    figures = compared(rated, ideas)
    write_json(cache / "readers.json", figures)
    return figures


def read_table(path: Path, ids: np.ndarray) -> tuple[str, pd.DataFrame]:
    """Its name and its numbers, in the order of `ids`; what is missing in a row is 0."""
    try:
        found = pd.read_csv(path, dtype={"id": str}).set_index("id").reindex(ids).fillna(0.0).astype(float)
    except (OSError, ValueError, KeyError) as error:
        detail = " ".join(str(error).split())[:160]
        raise UserError(f"{path} is no table of numbers with a column id ({detail}): mend or leave it out") from error
    return path.stem.replace("_", " "), found


def ideas_of(seen: Features, tables: Sequence[tuple[str, pd.DataFrame]]) -> dict[str, Reader]:
    """The base and what is compared with it, by name."""
    names = list(dict.fromkeys(key.split(":")[0] for key in seen if key != COLOURS))
    first, others = names[0], names[1:]

    def of(view: str) -> np.ndarray:
        return np.mean([seen[f"{first}:{size}:{view}"] for size in (1, 2) if f"{first}:{size}:{view}" in seen], axis=0)

    whole = of("mean")
    alone = {name: seen[f"{name}:1:mean"] for name in others}
    ideas = {
        BASE: kernels.ridge(whole),
        "one size": kernels.ridge(seen[f"{first}:1:mean"]),
        "mirror image, too": kernels.ridge((whole + of("mirror")) / 2),
        "five crops, too": kernels.ridge((2 * whole + seen[f"{first}:1:crops"]) / 3),
        "both sizes side by side": kernels.ridge(*(seen[key] for key in seen if key.startswith(first) and key.endswith("mean"))),
        "maxima beside means": kernels.ridge(whole, of("max")),
        "spread beside means": kernels.ridge(whole, of("sd")),
        "colours and composition": kernels.beside(whole, seen[COLOURS]),
        "Gaussian process": kernels.process(whole),
        "kernels stacked": kernels.stacked([
            kernels.ridge(whole), kernels.ridge(of("max")), kernels.ridge(of("sd")), kernels.linear(whole),
            *(kernels.ridge(features) for features in alone.values()),
        ]),
        **{f"with {name}": kernels.ridge(whole, features) for name, features in alone.items()},
    }  # fmt: skip
    if len(alone) > 1:
        ideas["with all of these"] = kernels.ridge(whole, *alone.values())
    for name, found in tables:
        few = [column for column in found if column not in ERRORS]
        if few:
            ideas[name] = kernels.beside(whole, found[few].to_numpy())
        if set(ERRORS) <= set(found):
            ideas["rating noise as weights"] = kernels.noise_weighted(whole, found[list(ERRORS)].to_numpy())
    return ideas


def compared(rated: Ratings, ideas: dict[str, Reader]) -> dict[str, Any]:
    """Each idea's r and its difference to the base's, on the themes that choices are made on; the winners', on the others."""
    kept = np.flatnonzero(~rated.aside_N)
    chosen = Ratings(rated.va_N2[kept], rated.theme_N[kept])
    figures: dict[str, Any] = {"pictures": len(kept), "themes": len(set(chosen.theme_N)), "ideas": {}}
    read = {name: left_out(chosen, kept, reader) for name, reader in track(ideas.items(), "ideas", len(ideas))}
    bootstrap = Bootstrap().over(chosen.theme_N)
    for name, own in read.items():
        found = {
            scheme: {
                axis: _difference(
                    chosen.va_N2[:, row], own[scheme][:, :, row], read[BASE][scheme][:, :, row], bootstrap
                )
                for row, axis in enumerate(AXES)
            }
            for scheme in SCHEMES
        }
        lows = [found["themes"][axis]["low"] for axis in AXES]
        highs = [found["themes"][axis]["high"] for axis in AXES]
        figures["ideas"][name] = found | {"won": name != BASE and max(lows) > 0 and min(highs) > 0}
    figures["confirmed"] = confirmed(
        rated, {name: ideas[name] for name, own in figures["ideas"].items() if own["won"]}, ideas[BASE]
    )
    return figures


def left_out(chosen: Ratings, rows: np.ndarray, reader: Reader) -> dict[str, np.ndarray]:
    """Readings [D, N, 2] of each scheme by readers that saw nothing of a picture's theme, or of the picture.

    rows: where the features of `chosen` stand.
    """
    found = {}
    for scheme, group_N in zip(SCHEMES, (chosen.theme_N, np.arange(len(rows)).astype(str)), strict=True):
        draws = np.zeros((DRAWS, len(rows), 2))
        for draw in range(DRAWS):
            for known, new in folds(group_N, draw):
                draws[draw, new] = reader(Task(rows[known], rows[new], chosen.va_N2[known], chosen.theme_N[known]))
        found[scheme] = draws
    return found


def confirmed(rated: Ratings, winners: dict[str, Reader], base: Reader) -> dict[str, Any]:
    """The winners against the base on the themes that were set aside, from all others."""
    known, new = np.flatnonzero(~rated.aside_N), np.flatnonzero(rated.aside_N)
    wanted_M2, bootstrap = rated.va_N2[new], Bootstrap().over(rated.theme_N[new])
    before_M2 = base(rated.task(known, new))
    figures: dict[str, Any] = {"pictures": len(new), "themes": len(set(rated.theme_N[new])), "ideas": {}}
    for name, reader in {BASE: base, **winners}.items():
        found_M2 = reader(rated.task(known, new))
        figures["ideas"][name] = {
            axis: _difference(wanted_M2[:, row], found_M2[None, :, row], before_M2[None, :, row], bootstrap)
            for row, axis in enumerate(AXES)
        }
    return figures


def _difference(
    wanted_N: np.ndarray, own_DN: np.ndarray, base_DN: np.ndarray, bootstrap: Bootstrap
) -> dict[str, float]:
    def gain(wanted: np.ndarray, *read: np.ndarray) -> np.ndarray:
        rs = [pearson(wanted, one) for one in read]
        half = len(rs) // 2
        return np.asarray(np.mean(rs[:half], axis=0) - np.mean(rs[half:], axis=0))

    ends = bootstrap.interval(gain, wanted_N, *own_DN, *base_DN) or (np.nan, np.nan)
    return {
        "r": float(np.mean([pearson(wanted_N, one) for one in own_DN])),
        "gain": float(gain(wanted_N, *own_DN, *base_DN)), "low": ends[0], "high": ends[1],
    }  # fmt: skip


def markdown(figures: dict[str, Any]) -> str:
    """The comparison, and what was confirmed, as tables."""
    said: Callable[[dict[str, float]], str] = lambda one: f"{one['gain']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"  # noqa: E731
    rows = []
    for name, own in figures["ideas"].items():
        cells = [own[scheme][axis] for scheme in SCHEMES for axis in AXES]
        rows.append(
            [
                name,
                *((f"r {one['r']:.3f}" if name == BASE else said(one)) for one in cells),
                "" if name == BASE else "yes" if own["won"] else "no",
            ]
        )
    head = [
        "idea",
        *(f"{scheme}, {axis}" for scheme in ("themes left out", "singles left out") for axis in AXES),
        "won",
    ]
    lines = [
        f"Gain in r over the reader in use, paired, mean of {DRAWS} draws of folds, 95 % intervals over themes; "
        f"{figures['pictures']} pictures of {figures['themes']} themes.", "", table(head, rows),
    ]  # fmt: skip
    aside = figures["confirmed"]
    lines.append(f"\nOn {aside['pictures']} pictures of {aside['themes']} themes that were set aside:\n")
    rows = [
        [name, *(f"r {own[axis]['r']:.3f}" + ("" if name == BASE else f", {said(own[axis])}") for axis in AXES)]
        for name, own in aside["ideas"].items()
    ]
    lines.append(table(["winner", *AXES], rows))
    return "\n".join(lines) + "\n"
