"""Kernel ridge regression for valence and arousal: of music, beside the boosted trees, and of pictures, in the model.

Shapes: N items, F features; va [N, 2] is valence, arousal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import StandardScaler

MOST_ROWS = 5000
"""Rows that are kept; memory grows with their square."""
AT_ONCE = 2000
"""Rows that are compared with the kept ones together: memory stays flat however large the set is."""


@dataclass
class KernelVA:
    """Of music: the Laplacian kernel exp(-sum |x - y| / F) on standardised features.

    Trees cut features at thresholds, and music that is composed to please them lies just beyond these. A kernel machine
    is smooth, errs elsewhere, and far from all music that it knows it predicts the mean: what pleases both is nearer
    to what people hear. Folds of whole songs show it, too: docs/lab-diary.md.
    """

    KERNEL = "laplacian"
    PENALTY = 0.5  # half or twice as much made a difference of .003 in r, as did the width of the kernel
    FARTHEST = 5.0  # standard deviations at which a feature is cut off: one odd value makes no piece unlike all others
    DTYPE: ClassVar[type[np.floating]] = np.float32  # half the file, and far finer than the features are

    scaler: StandardScaler
    ridge: KernelRidge
    centre: np.ndarray  # [2]: mean label

    @classmethod
    def fit(cls, x: np.ndarray, va: np.ndarray, weights: np.ndarray, seed: int = 0) -> Self:
        """Fit on features [N, F], labels [N, 2] and positive weights [N]; of more than MOST_ROWS rows, a random part."""
        if len(x) > MOST_ROWS:
            rows = np.sort(np.random.default_rng(seed).permutation(len(x))[:MOST_ROWS])
            x, va, weights = x[rows], va[rows], weights[rows]
        scaler = cls._scaler(x)
        centre = np.average(va, axis=0, weights=weights)
        ridge = KernelRidge(kernel=cls.KERNEL, alpha=cls.PENALTY, gamma=1.0 / x.shape[1])
        ridge.fit(cls._standardised(scaler, x), va - centre, sample_weight=weights / weights.mean())
        return cls(scaler, ridge, centre)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Valence and arousal [N, 2] of features [N, F], not clipped."""
        blocks = [x[start : start + AT_ONCE] for start in range(0, len(x), AT_ONCE)]
        found = [self.ridge.predict(self._standardised(self.scaler, block)) for block in blocks]
        return np.concatenate([np.zeros((0, 2)), *found]) + self.centre

    @classmethod
    def _scaler(cls, x: np.ndarray) -> StandardScaler:
        return StandardScaler().fit(x)

    @classmethod
    def _standardised(cls, scaler: StandardScaler, x: np.ndarray) -> np.ndarray:
        """[N, F]. What is unknown (NaN) is taken as the mean."""
        return np.nan_to_num(np.clip(scaler.transform(x), -cls.FARTHEST, cls.FARTHEST)).astype(cls.DTYPE)


class PictureKernelVA(KernelVA):
    """Of pictures: the Gaussian kernel exp(-|u(x) - u(y)|^2 / C) on pooled CNN features x [N, C].

    u is the signed square root, standardised: activations are skewed, and the root lets many weak ones say as much as a
    few strong ones. With a few hundred ratings and a thousand channels this follows people's ratings clearly better, in
    folds of whole themes, than a linear ridge does (docs/lab-diary.md).
    """

    KERNEL = "rbf"
    PENALTY = 0.3  # a third or three times as much changes r by less than .01
    FARTHEST = 6.0
    DTYPE = np.float64

    @classmethod
    def _scaler(cls, x: np.ndarray) -> StandardScaler:
        scaler = StandardScaler().fit(signed_root(x))
        scaler.scale_ = np.maximum(np.sqrt(scaler.var_), 1e-3)
        return scaler

    @classmethod
    def _standardised(cls, scaler: StandardScaler, x: np.ndarray) -> np.ndarray:
        return super()._standardised(scaler, signed_root(x))


def signed_root(x: np.ndarray) -> np.ndarray:
    """sign(x) sqrt(|x|), float64."""
    x = np.asarray(x, dtype=np.float64)
    return np.sign(x) * np.sqrt(np.abs(x))
