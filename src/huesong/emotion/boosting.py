"""Valence and arousal of music from hand features by gradient boosting: shared by the piece labeller and the judge.

The labeller has a kernel machine (kernel.py) beside the trees; the judge has not, and is of another kind in that.

Shapes: N segments, F features; va [N, 2] is valence, arousal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from huesong.emotion.cues import CUES, valence_of_cues
from huesong.emotion.kernel import KernelVA
from huesong.emotion.labelled import Labelled, label_weights
from huesong.emotion.trees import Forest
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file, require
from huesong.va import AXES

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 3
"""1 and 2 were skops files of scikit-learn's objects: skops_files.py reads them."""
ABOUT = "labeller"
"""Entry of the file's metadata: kind, format and names of the features, as JSON."""
MEMBERS = 4
MOST_BYTES = 256 * 2**20
"""Of a labeller's file; the shipped one has 3 MB."""
Features = Mapping[str, Sequence[float]] | np.ndarray
"""A table (or dict) of columns by name, or [N, F] in the order of a labeller's names."""


@dataclass
class BoostedVA:
    """Histogram gradient boosting, one regressor an axis, averaged over members that each left one fold of groups out.

    Every row of the training set was therefore unseen by one member: its errors (`out_of_fold`) are honest and teach a
    second, small model how large the error is where (a location-scale model); `uncertainty` is that expected error.
    """

    KIND = "boosted trees"  # in the file; each subclass has its own
    MADE_BY = "huesong label"  # the command that makes such a file

    names: tuple[str, ...]
    trees: Forest  # one model an axis, member by member
    spread: Forest  # one model an axis, of |error|; reads the prediction before the features
    spread_scale: np.ndarray  # [2]: from the expected |error| to a standard deviation
    kernel: KernelVA | None = None  # has half a say, if there is one
    out_of_fold: np.ndarray | None = None  # [N, 2] for the rows given to `fit`; not saved
    cue_share: float = 0.0  # of the valence that published cues say (cues.py); uncertainty is that of the rest alone

    @classmethod
    def fit_rows(
        cls, pieces: pd.DataFrame, features: pd.DataFrame, rows: np.ndarray, seed: int, with_kernel: bool
    ) -> Self:
        """`fit_to` the labelled ones of `rows` (a mask) of contracts.PIECES_TABLE; `features` has the same rows."""
        weights = label_weights(pieces)
        rows = rows & (weights > 0)
        labels = Labelled.of(pieces[rows], weights[rows])
        return cls.fit_to(feature_columns(features)[rows], labels, seed, with_kernel)

    @classmethod
    def fit_to(cls, features: pd.DataFrame, labels: Labelled, seed: int = 0, with_kernel: bool = False) -> Self:
        """Fit on features [N, F] (columns are remembered by name) and their labels.

        Groups are never split between a member and its left-out fold. Only labels that show errors teach the
        uncertainty. `with_kernel`: the mean of the trees and of a kernel machine.

        Raises:
            UserError: too few items or groups.
        """
        from threadpoolctl import threadpool_limits

        x, y, weights = features.to_numpy(dtype=np.float64), np.asarray(labels.va, dtype=np.float64), labels.weights
        members: list[Any] = []
        held = np.zeros_like(y)
        with threadpool_limits(1, user_api="openmp"):  # small data: threads cost more than they bring
            for number, (train, test) in enumerate(labels.folds(MEMBERS)):
                boosters = [_booster(len(train), seed + number) for _ in AXES]
                members += [one.fit(x[train], y[train, c], weights[train]) for c, one in enumerate(boosters)]
                held[test] = Forest.of(boosters).predict(x[test])
                if with_kernel:
                    kernel = KernelVA.fit(x[train], y[train], weights[train], seed)
                    held[test] = (held[test] + kernel.predict(x[test])) / 2
            rows, share = labels.errors_shown_by()
            error, context = np.abs(held - y)[rows], np.hstack([held, x])[rows]
            spread = Forest.of(
                [_spread_model(len(error), seed).fit(context, error[:, c], weights[rows]) for c in range(2)]
            )
            expected = _expected_error(spread, context)
        scale = np.sqrt((share @ error**2) / np.maximum(share @ expected**2, 1e-12))
        whole = KernelVA.fit(x, y, weights, seed) if with_kernel else None
        names = tuple(map(str, features.columns))
        return cls(names, Forest.of(members), spread, scale, whole, np.clip(held, -1.0, 1.0))

    def predict(self, features: Features) -> np.ndarray:
        """Valence and arousal [N, 2] in [-1, 1] of a table with the columns of `names`, or of [N, F] in their order.

        Raises:
            UserError: a column is missing.
        """
        return self.predict_with_sd(features)[0]

    def uncertainty(self, features: Features) -> np.ndarray:
        """Expected standard deviation of the error, [N, 2]."""
        return self.predict_with_sd(features)[1]

    def predict_with_sd(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Both of the above."""
        x = self._matrix(features)
        if not len(x):
            return np.zeros((0, 2)), np.zeros((0, 2))
        mean = self.trees.predict(x).reshape(len(x), -1, len(AXES)).mean(axis=1)
        if self.kernel is not None:
            mean = (mean + self.kernel.predict(x)) / 2
        sd = _expected_error(self.spread, np.hstack([mean, x])) * self.spread_scale
        if self.cue_share:
            mean[:, 0] += self.cue_share * (valence_of_cues(self.names, x) - mean[:, 0])
        return np.clip(mean, -1.0, 1.0), sd

    def _matrix(self, features: Features) -> np.ndarray:
        if not isinstance(features, np.ndarray):
            missing = [name for name in self.names if name not in features]
            if missing:
                raise UserError(
                    f"{len(missing)} of {len(self.names)} music features are missing ({', '.join(missing[:3])}): features "
                    "and labeller are of different versions; run `huesong preprocess` and `huesong label` again"
                )
            return np.stack([np.asarray(features[name], dtype=np.float64) for name in self.names], axis=1)
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.names):
            raise UserError(f"music features of shape {list(x.shape)}: the labeller reads [N, {len(self.names)}]")
        return x

    def save(self, path: Path) -> None:
        """Write a safetensors file: arrays, and names in its metadata."""
        parts = {"trees": self.trees, "spread": self.spread} | ({"kernel": self.kernel} if self.kernel else {})
        arrays = {
            f"{part}.{field.name}": np.ascontiguousarray(getattr(value, field.name))
            for part, value in parts.items()
            for field in fields(value)
        }
        # One entry: safetensors writes several in an order of its own, and the same labeller is to be the same file.
        share = {"cue_share": self.cue_share} if self.cue_share else {}
        about = {ABOUT: json.dumps({"kind": self.KIND, "format": FORMAT, "names": self.names} | share)}
        with replacing_file(path) as part:
            part.write_bytes(save(arrays | {"spread_scale": np.asarray(self.spread_scale)}, about))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of `save`.

        Raises:
            UserError: missing, damaged, not of this kind or format.
        """
        again = f"run `{cls.MADE_BY}` again"
        size = require(path, cls.MADE_BY).stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"{path} has {size:,} bytes, more than {MOST_BYTES:,}: {again}")
        try:
            with safe_open(path, "numpy") as stream:
                about = json.loads((stream.metadata() or {}).get(ABOUT, "{}"))
                arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({type(error).__name__}): {again}") from error
        if not isinstance(about, dict) or about.get("kind") != cls.KIND:
            raise UserError(f"{path} is not a {cls.KIND} file: {again}")
        if about.get("format") != FORMAT:
            raise UserError(f"{path} has format {about.get('format')}, this version reads {FORMAT}: {again}")
        try:
            names = tuple(about["names"])
            scale = arrays.pop("spread_scale")
            parts: dict[str, dict[str, np.ndarray]] = {}
            for name, array in arrays.items():
                part, field = name.split(".")
                parts.setdefault(part, {})[field] = array
            kernel = KernelVA(**parts.pop("kernel")) if "kernel" in parts else None
            made = cls(names, Forest(**parts.pop("trees")), Forest(**parts.pop("spread")), scale, kernel)
            made.cue_share = float(about.get("cue_share", 0.0))
            if parts:
                raise ValueError(f"unknown arrays of '{next(iter(parts))}'")
            made.check()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            detail = " ".join(str(error).split())[:200]
            raise UserError(f"{path} is damaged ({type(error).__name__}: {detail}): {again}") from error
        return made

    def check(self) -> None:
        """Hold what was read against what it must be: a file is data.

        Raises:
            ValueError: a tree whose nodes lead elsewhere than down it, or a prediction that is no number.
        """
        count, models = len(self.names), len(self.trees.baseline_M)
        if not models or models % len(AXES) or not all(isinstance(name, str) for name in self.names):
            raise ValueError(f"{models} models, not one and more of each axis")
        if not 0 <= self.cue_share <= 1 or (self.cue_share and not set(CUES) <= set(self.names)):
            raise ValueError(f"a share of {self.cue_share} for cues")
        self.trees.check(count, models)
        self.spread.check(count + len(AXES), len(AXES))
        if self.kernel is not None:
            self.kernel.check(count)
        mean, sd = self.predict_with_sd(np.zeros((1, count)))
        if mean.shape != (1, 2) or not np.isfinite([mean, sd]).all():
            raise ValueError("it predicts what is no number")


def _booster(items: int, seed: int) -> Any:
    """Settings found by group cross-validation on a part of the rated music; few features a split, as many are alike."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        learning_rate=0.06,
        max_iter=150,
        max_leaf_nodes=8,
        min_samples_leaf=int(np.clip(items // 20, 2, 15)),
        max_features=0.25,
        max_bins=96,  # as good as 255, and a much smaller file: the bins' edges are most of it
        early_stopping=False,
        random_state=seed,
    )


def _spread_model(items: int, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        learning_rate=0.05,
        max_iter=60,
        max_leaf_nodes=4,
        min_samples_leaf=int(np.clip(items // 8, 3, 40)),
        max_features=0.3,
        max_bins=96,
        early_stopping=False,
        random_state=seed,
    )


def _expected_error(spread: Forest, context: np.ndarray) -> np.ndarray:
    return np.maximum(spread.predict(context), 0.01)


def feature_columns(features: pd.DataFrame) -> pd.DataFrame:
    """`features` without its id."""
    return features.drop(columns="id", errors="ignore")


def cross_predict(features: pd.DataFrame, labels: Labelled, folds: int, seed: int = 0) -> np.ndarray:
    """Predictions [N, 2], each by trees and a kernel machine that saw nothing of the item's group.

    One booster a fold, not an average of several: slightly worse than the fitted ensemble, never better.
    """
    from threadpoolctl import threadpool_limits

    x, y, weights = features.to_numpy(dtype=np.float64), np.asarray(labels.va, dtype=np.float64), labels.weights
    held = np.zeros_like(y)
    with threadpool_limits(1, user_api="openmp"):
        for train, test in labels.folds(folds):
            for axis in range(2):
                model = _booster(len(train), seed).fit(x[train], y[train, axis], weights[train])
                held[test, axis] = model.predict(x[test])
            held[test] = (held[test] + KernelVA.fit(x[train], y[train], weights[train], seed).predict(x[test])) / 2
    return np.clip(held, -1.0, 1.0)
