"""Valence and arousal of music from hand features by gradient boosting: shared by the piece labeller and the judge.

The labeller has a kernel machine (kernel.py) beside the trees; the judge has not, and is of another kind in that.

Shapes: N segments, F features; va [N, 2] is valence, arousal.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import sklearn
import skops.io
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from skops.io.exceptions import UntrustedTypesFoundException
from threadpoolctl import threadpool_limits

from huesong.emotion.kernel import KernelVA
from huesong.emotion.labelled import Labelled, label_weights
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_file, require
from huesong.runtime.progress import log
from huesong.va import AXES

FORMAT = 2
"""1, which is still read, had no kernel machine."""
MEMBERS = 4
TRUSTED_TYPES = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
"""The one class in a saved file that skops does not know as harmless: the nodes of a tree."""


MOST_BYTES = 256 * 2**20
"""Of a labeller's file, unpacked; the shipped one has 9 MB."""
MOST_TREES = 10_000
MEMORY_ADDRESS = re.compile(r'("__id__": |"file": ")(\d+)')


def steady(content: bytes) -> bytes:
    """A skops file with the same bytes for the same content, so that a model's digest says whether it is the same.

    skops names objects and arrays by their place in memory, and a zip file holds the time: here objects are numbered in
    the order in which they appear, and the time is fixed.
    """
    numbers: dict[str, int] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        schema = MEMORY_ADDRESS.sub(
            lambda found: f"{found[1]}{numbers.setdefault(found[2], len(numbers))}",
            archive.read("schema.json").decode(),
        )
        members = {
            f"{numbers[name.removesuffix('.npy')]}.npy": name for name in archive.namelist() if name != "schema.json"
        }
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as steadied:
            for name in sorted(members):
                steadied.writestr(zipfile.ZipInfo(name), archive.read(members[name]), zipfile.ZIP_DEFLATED)
            steadied.writestr(zipfile.ZipInfo("schema.json"), schema, zipfile.ZIP_DEFLATED)
    return out.getvalue()


@dataclass
class BoostedVA:
    """Histogram gradient boosting, one regressor an axis, averaged over members that each left one fold of groups out.

    Every row of the training set was therefore unseen by one member: its errors (`out_of_fold`) are honest and teach a
    second, small model how large the error is where (a location-scale model); `uncertainty` is that expected error.
    """

    KIND = "boosted trees"  # in the file; each subclass has its own
    MADE_BY = "huesong label"  # the command that makes such a file

    names: tuple[str, ...]
    members: list[list[Any]]  # [member][axis] -> HistGradientBoostingRegressor
    spread: list[Any]  # [axis] -> HistGradientBoostingRegressor of |error|
    spread_scale: np.ndarray  # [2]: from the expected |error| to a standard deviation
    kernel: KernelVA | None = None  # has half a say, if there is one
    out_of_fold: np.ndarray | None = None  # [N, 2] for the rows given to `fit`; not saved

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
        x, y, weights = features.to_numpy(dtype=np.float64), np.asarray(labels.va, dtype=np.float64), labels.weights
        members: list[list[Any]] = []
        held = np.zeros_like(y)
        with threadpool_limits(1, user_api="openmp"):  # small data: threads cost more than they bring
            for number, (train, test) in enumerate(labels.folds(MEMBERS)):
                boosters = [_booster(len(train), seed + number) for _ in AXES]
                members.append([one.fit(x[train], y[train, c], weights[train]) for c, one in enumerate(boosters)])
                held[test] = np.stack([model.predict(x[test]) for model in members[-1]], axis=1)
                if with_kernel:
                    kernel = KernelVA.fit(x[train], y[train], weights[train], seed)
                    held[test] = (held[test] + kernel.predict(x[test])) / 2
            rows, share = labels.errors_shown_by()
            error, context = np.abs(held - y)[rows], np.hstack([held, x])[rows]
            spread = [_spread_model(len(error), seed).fit(context, error[:, c], weights[rows]) for c in range(2)]
            expected = _expected_error(spread, context)
        scale = np.sqrt((share @ error**2) / np.maximum(share @ expected**2, 1e-12))
        whole = KernelVA.fit(x, y, weights, seed) if with_kernel else None
        return cls(tuple(map(str, features.columns)), members, spread, scale, whole, np.clip(held, -1.0, 1.0))

    def predict(self, features: pd.DataFrame | np.ndarray) -> np.ndarray:
        """Valence and arousal [N, 2] in [-1, 1] of a table with the columns of `names`, or of [N, F] in their order.

        Raises:
            UserError: a column is missing.
        """
        return self.predict_with_sd(features)[0]

    def uncertainty(self, features: pd.DataFrame | np.ndarray) -> np.ndarray:
        """Expected standard deviation of the error, [N, 2]."""
        return self.predict_with_sd(features)[1]

    def predict_with_sd(self, features: pd.DataFrame | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both of the above."""
        x = self._matrix(features)
        if not len(x):
            return np.zeros((0, 2)), np.zeros((0, 2))
        with threadpool_limits(1, user_api="openmp"):
            mean = np.mean(
                [np.stack([model.predict(x) for model in member], axis=1) for member in self.members], axis=0
            )
            if self.kernel is not None:
                mean = (mean + self.kernel.predict(x)) / 2
            sd = _expected_error(self.spread, np.hstack([mean, x])) * self.spread_scale
        return np.clip(mean, -1.0, 1.0), sd

    def _matrix(self, features: pd.DataFrame | np.ndarray) -> np.ndarray:
        if isinstance(features, pd.DataFrame):
            missing = [name for name in self.names if name not in features.columns]
            if missing:
                raise UserError(
                    f"{len(missing)} of {len(self.names)} music features are missing ({', '.join(missing[:3])}): features "
                    "and labeller are of different versions; run `huesong preprocess` and `huesong label` again"
                )
            return features[list(self.names)].to_numpy(dtype=np.float64)
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.names):
            raise UserError(f"music features of shape {list(x.shape)}: the labeller reads [N, {len(self.names)}]")
        return x

    def save(self, path: Path) -> None:
        """Write a skops file (no pickle)."""
        content = {
            "format": FORMAT,
            "kind": self.KIND,
            "sklearn": sklearn.__version__,
            "names": list(self.names),
            "members": self.members,
            "spread": self.spread,
            "spread_scale": self.spread_scale,
            "kernel": None if self.kernel is None else vars(self.kernel),
        }
        with replacing_file(path) as part:
            part.write_bytes(steady(skops.io.dumps(content)))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of `save`.

        Raises:
            UserError: missing, damaged, not of this kind or format, or it holds a type that is not expected.
        """
        again = f"run `{cls.MADE_BY}` again"
        try:
            with zipfile.ZipFile(require(path, cls.MADE_BY)) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > MOST_BYTES:
                raise UserError(f"{path} unpacks to {unpacked:,} bytes, more than {MOST_BYTES:,}: {again}")
            content = skops.io.load(path, trusted=TRUSTED_TYPES)
        except UserError:
            raise
        except UntrustedTypesFoundException as error:
            raise UserError(f"{path} holds types that are not trusted ({error}): {again}") from error
        except (
            zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, TypeError, AttributeError,
            ImportError, NotImplementedError, RuntimeError, IndexError,
        ) as error:  # fmt: skip
            raise UserError(f"{path} is damaged ({type(error).__name__}): {again}") from error
        if not isinstance(content, dict) or content.get("kind") != cls.KIND:
            raise UserError(f"{path} is not a {cls.KIND} file: {again}")
        if content.get("format") not in (1, FORMAT):
            raise UserError(f"{path} has format {content.get('format')}, this version reads {FORMAT}: {again}")
        if content["sklearn"].split(".")[:2] != sklearn.__version__.split(".")[:2]:
            log.warning(
                "%s was written with scikit-learn %s, here is %s", path, content["sklearn"], sklearn.__version__
            )
        try:
            kernel = KernelVA(**found) if (found := content.get("kernel")) else None
            made = cls(tuple(content["names"]), content["members"], content["spread"], content["spread_scale"], kernel)
            made.check()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            detail = " ".join(str(error).split())[:200]
            raise UserError(f"{path} is damaged ({type(error).__name__}: {detail}): {again}") from error
        return made

    def check(self) -> None:
        """Hold what was read against what it must be, before compiled code trusts it: a file is data.

        Raises:
            ValueError: a tree whose nodes lead elsewhere than down it, or a prediction that is no number.
        """
        count = len(self.names)
        if not self.members or len(self.spread) != len(AXES) or any(len(one) != len(AXES) for one in self.members):
            raise ValueError(f"{len(self.members)} members, not one and more of {len(AXES)} each")
        for member in self.members:
            for model in member:
                check_trees(model, count)
        for model in self.spread:
            check_trees(model, count + len(AXES))
        mean, sd = self.predict_with_sd(np.zeros((1, count)))
        if mean.shape != (1, 2) or not np.isfinite([mean, sd]).all():
            raise ValueError("it predicts what is no number")


def check_trees(model: Any, features: int) -> None:
    """Every tree reads features that there are, and leads from node to later node down to a leaf.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(model, HistGradientBoostingRegressor):
        raise ValueError(f"a {type(model).__name__} where a booster belongs")
    if model.n_features_in_ != features or model._preprocessor is not None or model.is_categorical_ is not None:
        raise ValueError(f"a booster of {model.n_features_in_} features, not of {features}")
    if len(model._predictors) > MOST_TREES:
        raise ValueError(f"{len(model._predictors)} trees")
    for [tree] in model._predictors:
        nodes = tree.nodes
        if nodes.dtype != PREDICTOR_RECORD_DTYPE or nodes.ndim != 1 or not len(nodes):
            raise ValueError("a tree whose nodes have another layout")
        inner = nodes["is_leaf"] == 0
        here, left, right = np.flatnonzero(inner), nodes["left"][inner], nodes["right"][inner]
        down = (np.minimum(left, right) > here).all() and (np.maximum(left, right) < len(nodes)).all()
        reads = nodes["feature_idx"][inner]
        known = ((reads >= 0) & (reads < features)).all() and not nodes["is_categorical"].any()
        if not down or not known or not np.isfinite(nodes["value"]).all():
            raise ValueError("a tree whose nodes lead nowhere")


def _booster(items: int, seed: int) -> HistGradientBoostingRegressor:
    """Settings found by group cross-validation on a part of the rated music; few features a split, as many are alike."""
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


def _spread_model(items: int, seed: int) -> HistGradientBoostingRegressor:
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


def _expected_error(spread: list[Any], context: np.ndarray) -> np.ndarray:
    return np.stack([np.maximum(model.predict(context), 0.01) for model in spread], axis=1)


def feature_columns(features: pd.DataFrame) -> pd.DataFrame:
    """`features` without its id."""
    return features.drop(columns="id", errors="ignore")


def cross_predict(features: pd.DataFrame, labels: Labelled, folds: int, seed: int = 0) -> np.ndarray:
    """Predictions [N, 2], each by trees and a kernel machine that saw nothing of the item's group.

    One booster a fold, not an average of several: slightly worse than the fitted ensemble, never better.
    """
    x, y, weights = features.to_numpy(dtype=np.float64), np.asarray(labels.va, dtype=np.float64), labels.weights
    held = np.zeros_like(y)
    with threadpool_limits(1, user_api="openmp"):
        for train, test in labels.folds(folds):
            for axis in range(2):
                model = _booster(len(train), seed).fit(x[train], y[train, axis], weights[train])
                held[test, axis] = model.predict(x[test])
            held[test] = (held[test] + KernelVA.fit(x[train], y[train], weights[train], seed).predict(x[test])) / 2
    return np.clip(held, -1.0, 1.0)
