"""The valence-arousal plane: quadrants, and how well two sets of points in it agree.

Valence V (unpleasant to pleasant) and arousal A (calm to excited) both lie in [-1, 1] with 0 as the midpoint of the
rating scale (Russell 1980). An array of points has shape [N, 2], valence first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from huesong.runtime.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

AXES = ("valence", "arousal")
QUADRANT_NAMES = {1: "V+ A+", 2: "V− A+", 3: "V− A−", 4: "V+ A−"}
"""Quadrants counted anticlockwise from pleasant and excited; their usual words: happy, tense, sad, calm."""

MOST_LEVELS = 12
"""More different requests than these are grouped in a calibration."""

LEVEL = 0.95
"""Coverage of all intervals."""

_BLOCK = 2_000_000
"""Numbers held at once while resampling: memory stays flat whatever n is."""


def clip_va(va: np.ndarray) -> np.ndarray:
    """Points [..., 2] as float64, cut to [-1, 1]."""
    return np.clip(np.asarray(va, dtype=np.float64), -1.0, 1.0)


def quadrant(valence: np.ndarray | float, arousal: np.ndarray | float) -> np.ndarray:
    """Quadrant 1..4 of each point (int64, shape of the inputs). A point exactly on an axis counts as positive."""
    pleasant, excited = np.asarray(valence) >= 0, np.asarray(arousal) >= 0
    return np.where(excited, np.where(pleasant, 1, 2), np.where(pleasant, 4, 3))


def mae(requested: np.ndarray, obtained: np.ndarray) -> np.ndarray:
    """Mean absolute error over the last axis: [..., N] and [..., N] -> [...]."""
    return np.abs(np.asarray(requested) - np.asarray(obtained)).mean(axis=-1)


def pearson(requested: np.ndarray, obtained: np.ndarray) -> np.ndarray:
    """Pearson's r over the last axis; NaN where one side does not vary (r is undefined there)."""
    cov, var_x, var_y, _ = _moments(requested, obtained)
    scale = np.sqrt(var_x * var_y)
    return np.where(scale > 1e-12, cov / np.where(scale > 1e-12, scale, 1.0), np.nan)


def ccc(requested: np.ndarray, obtained: np.ndarray) -> np.ndarray:
    """Concordance correlation coefficient over the last axis (Lin 1989, Biometrics 45).

    2 cov / (var x + var y + (mean x - mean y)^2), with population moments. One constant side gives 0; two equal
    constants give NaN (undefined).
    """
    cov, var_x, var_y, shift = _moments(requested, obtained)
    scale = var_x + var_y + shift**2
    return np.where(scale > 1e-12, 2 * cov / np.where(scale > 1e-12, scale, 1.0), np.nan)


def _moments(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    mean_x, mean_y = x.mean(axis=-1, keepdims=True), y.mean(axis=-1, keepdims=True)
    cov = ((x - mean_x) * (y - mean_y)).mean(axis=-1)
    return cov, x.var(axis=-1), y.var(axis=-1), (mean_x - mean_y)[..., 0]


def same_quadrant_by_medians(*sides: np.ndarray) -> np.ndarray:
    """Share of items over the last axis that lie in the same quadrant about the medians of either set of points.

    What is left when nobody minds that one side is pleasanter, or spreads wider, than the other; by chance a quarter.

    Args:
        sides: valence and arousal of one set of points, then of the other: four arrays [..., N], giving [...].
    """
    one_v, one_a, other_v, other_a = (side > np.median(side, axis=-1, keepdims=True) for side in sides)
    return np.asarray(((one_v == other_v) & (one_a == other_a)).mean(axis=-1))


def beyond_a_constant(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """By how much the mean absolute error of `found` is larger than that of the constant that errs least, the truth's
    median: [..., N] and [..., N] -> [...]; above 0 it is no better than saying the same of everything.
    """
    middle = np.median(np.asarray(truth), axis=-1, keepdims=True)
    return mae(truth, found) - mae(truth, middle)


def agreement_figures(wanted_N2: np.ndarray, got_N2: np.ndarray, prefix: str = "") -> dict[str, float]:
    """r, CCC and MAE of both axes without intervals, such as `<prefix>valence_r`; no r and CCC where r is undefined."""
    figures: dict[str, float] = {}
    for axis, name in enumerate(AXES):
        wanted, got = wanted_N2[:, axis].astype(float), got_N2[:, axis].astype(float)
        if np.isfinite(r := pearson(wanted, got)):
            figures |= {f"{prefix}{name}_r": float(r), f"{prefix}{name}_ccc": float(ccc(wanted, got))}
        figures[f"{prefix}{name}_mae"] = float(mae(wanted, got))
    return figures


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Resampling of items, or of whole groups of them, for 95 % percentile intervals (Efron & Tibshirani 1993).

    n: number of resamples.
    seed: the same seed and number of items draw the same items for every statistic.
    groups: the group of each item [N]. Items of one group, such as the pieces for one picture, say less than as many
        unrelated ones: groups are drawn, each with all its items. None = every item is on its own.
    """

    n: int = 1000
    seed: int = 0
    groups: np.ndarray | None = None

    def over(self, groups: np.ndarray) -> Bootstrap:
        """The same with these groups."""
        return replace(self, groups=np.asarray(groups))

    def among(self, rows: np.ndarray) -> Bootstrap:
        """The same for some of the items."""
        return self if self.groups is None else self.over(self.groups[rows])

    def interval(self, statistic: Callable[..., np.ndarray], *values: np.ndarray) -> tuple[float, float] | None:
        """(low, high) of `statistic`, which takes arrays [B, N], one row a resample, in place of `values` [N]: [B].

        None where there are fewer than two items (groups) or the statistic is undefined on most resamples.
        """
        items = len(values[0])
        which = np.arange(items) if self.groups is None else _in_order(self.groups)
        if items < 2 or which.max() < 1:
            return None
        generator = np.random.default_rng(self.seed)
        most = max(1, _BLOCK // items)
        found = []
        for start in range(0, self.n, most):
            for index in _resamples(which, min(most, self.n - start), generator):
                found.append(statistic(*(np.asarray(value)[index] for value in values)))
        drawn = np.concatenate(found)
        drawn = drawn[np.isfinite(drawn)]
        if len(drawn) < self.n / 2:
            return None
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)


USUAL = Bootstrap()


def _in_order(groups: np.ndarray) -> np.ndarray:
    """Groups [N] as numbers from 0 in order of appearance: groups of one item each draw what items alone would."""
    _, first, which = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which.reshape(-1)]


def _resamples(which: np.ndarray, rows: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """`rows` resamples of whole groups: rows of items [B, M], those of equal length M together."""
    members, size = np.argsort(which, kind="stable"), np.bincount(which)
    start = np.cumsum(size) - size
    drawn = generator.integers(0, len(size), size=(rows, len(size)))
    lengths = size[drawn].sum(axis=1)
    for length in np.unique(lengths):
        picked = drawn[lengths == length].reshape(-1)
        ends = np.cumsum(size[picked])
        within = np.arange(ends[-1]) - np.repeat(ends - size[picked], size[picked])
        yield members[np.repeat(start[picked], size[picked]) + within].reshape(-1, length)


def agreement(requested: np.ndarray, obtained: np.ndarray, bootstrap: Bootstrap = USUAL) -> dict[str, float]:
    """How well `obtained` [N, 2] meets `requested` [N, 2].

    Returns a flat dict that is safe for JSON (no NaN, no None): a figure that is undefined is left out, such as r where
    one side is constant.

    * `n`: items.
    * `valence_mae`, `valence_r`, `valence_ccc` and the same for arousal, each with `_low`, `_high` (bootstrap 95 %).
    * `valence_half_accuracy`, `arousal_half_accuracy`: share of items with the requested sign, with interval.
    * `quadrant_accuracy` with interval, `quadrant_n`, and `confusion_<requested>_<obtained>` (counts, 1..4).
      An item whose requested V or A is exactly 0 has no sign to hit: it is left out of the accuracies that need it.
    """
    wanted, got = np.asarray(requested, dtype=np.float64), np.asarray(obtained, dtype=np.float64)
    if wanted.shape != got.shape or wanted.ndim != 2 or wanted.shape[1] != 2:
        raise ValueError(f"agreement needs two arrays [N, 2], got {list(wanted.shape)} and {list(got.shape)}")
    if not (np.isfinite(wanted).all() and np.isfinite(got).all()):
        raise ValueError("agreement needs finite numbers: leave unlabelled items out")
    found: dict[str, float] = {"n": len(wanted)}
    every = np.full(len(wanted), True)

    def note(name: str, statistic: Callable[..., np.ndarray], *values: np.ndarray, rows: np.ndarray = every) -> None:
        if not len(values[0]):
            return
        value = float(statistic(*values))
        if not np.isfinite(value):
            return
        found[name] = value
        if (interval := bootstrap.among(rows).interval(statistic, *values)) is not None:
            found[f"{name}_low"], found[f"{name}_high"] = interval

    for column, axis in enumerate(AXES):
        x, y = wanted[:, column], got[:, column]
        note(f"{axis}_mae", mae, x, y)
        note(f"{axis}_r", pearson, x, y)
        note(f"{axis}_ccc", ccc, x, y)
        signed = x != 0
        note(f"{axis}_half_accuracy", _mean, ((x >= 0) == (y >= 0))[signed], rows=signed)
    signed = (wanted != 0).all(axis=1)
    asked, found_there = quadrant(*wanted[signed].T), quadrant(*got[signed].T)
    found["quadrant_n"] = int(signed.sum())
    note("quadrant_accuracy", _mean, asked == found_there, rows=signed)
    for row, line in enumerate(confusion(asked, found_there), start=1):
        for column, count in enumerate(line, start=1):
            found[f"confusion_{row}_{column}"] = int(count)
    return found


def _mean(hits: np.ndarray) -> np.ndarray:
    return hits.mean(axis=-1)


@dataclass(frozen=True)
class Level:
    """What was obtained where about the same was requested: mean with its bootstrap 95 % interval (None for one item or group)."""

    requested: float
    n: int
    mean: float
    interval: tuple[float, float] | None


def levels(requested: np.ndarray, obtained: np.ndarray, bootstrap: Bootstrap = USUAL) -> list[Level]:
    """The calibration of one axis: `obtained` [N] by level of `requested` [N], from low to high.

    Up to MOST_LEVELS different requests are levels themselves (a grid); more are cut into tenths of equal size, each
    placed at its mean request.
    """
    x, y = np.asarray(requested, dtype=np.float64), np.asarray(obtained, dtype=np.float64)
    places, which = np.unique(x, return_inverse=True)
    if len(places) > MOST_LEVELS:
        edges = np.unique(np.quantile(x, np.linspace(0, 1, 11)))
        which = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    return [
        Level(
            float(x[which == k].mean()),
            int((which == k).sum()),
            float(y[which == k].mean()),
            bootstrap.among(which == k).interval(_mean, y[which == k]),
        )
        for k in np.unique(which)
    ]


def confusion(requested: np.ndarray, obtained: np.ndarray) -> np.ndarray:
    """Counts [4, 4] of quadrants: rows requested 1..4, columns obtained 1..4."""
    table = np.zeros((4, 4), dtype=np.int64)
    np.add.at(table, (np.asarray(requested) - 1, np.asarray(obtained) - 1), 1)
    return table


def clusters(rows: pd.DataFrame) -> np.ndarray:
    """A number for each piece [N], equal for pieces that are drawn together (`Bootstrap.groups`).

    The pieces for one picture, of whatever seed and model, share its request and what its features lead the model to,
    and nine pictures of sharks are much alike: they say little about the next picture, and the pictures are a sample of
    all there could be. So whole groups of pictures are drawn, the same that splits and folds keep together. The grid is
    a fixed design: all evaluations ask for the same 25 emotions, and no claim is made about others; what varies is the
    piece, and each is drawn on its own.

    Args:
        rows: `set` and, where any is of the set `pictures`, `image_group`.
    """
    import pandas as pd  # here: training needs no pandas

    pictures = (rows["set"] == "pictures").to_numpy()
    found = len(rows) + np.arange(len(rows))
    if pictures.any():
        found[pictures] = pd.factorize(rows.loc[pictures, "image_group"])[0]
    return found


# --- what is asked of a piece: a value, or a trajectory ----------------------------------------------

Trajectory = float | tuple[float, ...]
"""A value for the whole piece, or two and more, evenly spaced in time, linear in between."""


def check_emotion(valence: Trajectory | None, arousal: Trajectory | None) -> None:
    """Refuse values outside [-1, 1] and trajectories of fewer than two values.

    Raises:
        UserError: names the value.
    """
    for name, given in (("valence", valence), ("arousal", arousal)):
        for value in given if isinstance(given, tuple) else () if given is None else (given,):
            if not -1 <= value <= 1:  # nan fails as well
                raise UserError(
                    f"--{name} {value}: give a number from -1 to 1, or leave it out to take the picture's own"
                )
        if isinstance(given, tuple) and len(given) < 2:
            raise UserError(f"--{name}: a trajectory needs at least two values, such as 0.2..0.8")


def value_at(trajectory: Trajectory, share: float) -> float:
    """The value when `share` of the piece, 0 to 1, is over."""
    if isinstance(trajectory, tuple):
        return float(np.interp(share, np.linspace(0, 1, len(trajectory)), trajectory))
    return trajectory


def mean_of(trajectory: Trajectory) -> float:
    """The mean over time."""
    if isinstance(trajectory, tuple):
        return float(np.trapezoid(trajectory) / (len(trajectory) - 1))
    return trajectory
