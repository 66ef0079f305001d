"""Kernel ridge regression for valence and arousal: of music, beside the boosted trees, and of pictures, in the model.

Fitted by scikit-learn, kept and evaluated as plain arrays. Shapes: N items, K kept ones, F features; va [N, 2] is valence, arousal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

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

    mean_F: np.ndarray
    scale_F: np.ndarray
    known_KF: np.ndarray  # standardised
    dual_K2: np.ndarray
    centre: np.ndarray  # [2]: mean label

    @classmethod
    def fit(cls, x: np.ndarray, va: np.ndarray, weights: np.ndarray, seed: int = 0) -> Self:
        """Fit on features [N, F], labels [N, 2] and positive weights [N]; of more than MOST_ROWS rows, a random part."""
        from sklearn.kernel_ridge import KernelRidge

        if len(x) > MOST_ROWS:
            rows = np.sort(np.random.default_rng(seed).permutation(len(x))[:MOST_ROWS])
            x, va, weights = x[rows], va[rows], weights[rows]
        mean_F, scale_F = cls._moments(x)
        known_KF = cls._standardised(x, mean_F, scale_F)
        centre = np.average(va, axis=0, weights=weights)
        ridge = KernelRidge(kernel=cls.KERNEL, alpha=cls.PENALTY, gamma=1.0 / x.shape[1])
        ridge.fit(known_KF, va - centre, sample_weight=weights / weights.mean())
        return cls(mean_F, scale_F, known_KF, ridge.dual_coef_, centre)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Valence and arousal [N, 2] of features [N, F], not clipped."""
        blocks = [x[start : start + AT_ONCE] for start in range(0, len(x), AT_ONCE)]
        scaled = [self._standardised(block, self.mean_F, self.scale_F) for block in blocks]
        found = [np.exp(-self._distances(block) / x.shape[1]) @ self.dual_K2 for block in scaled]
        return np.concatenate([np.zeros((0, 2)), *found]) + self.centre

    def standardised(self, x: np.ndarray) -> np.ndarray:
        """Features [N, F] as the kernel compares them."""
        return self._standardised(x, self.mean_F, self.scale_F)

    def check(self, features: int) -> None:
        """Hold what was read from a file against what a kernel machine must be.

        Raises:
            ValueError: shapes that do not fit, or values that are no numbers.
        """
        kept = len(self.known_KF)
        for name, shape in (("mean_F", (features,)), ("scale_F", (features,)), ("known_KF", (kept, features)),
                            ("dual_K2", (kept, 2)), ("centre", (2,))):  # fmt: skip
            value = getattr(self, name)
            if value.shape != shape or not np.isfinite(value).all():
                raise ValueError(f"a kernel machine whose {name} does not fit")

    def _distances(self, x: np.ndarray) -> np.ndarray:
        """Sums of absolute differences [N, K] of standardised rows."""
        known = self.known_KF.astype(np.float64)
        return np.stack([np.abs(known - row).sum(axis=1) for row in x.astype(np.float64)])

    @classmethod
    def _moments(cls, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale [F] of features; unknown values (NaN) do not count."""
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(x)
        return scaler.mean_, scaler.scale_

    @classmethod
    def _standardised(cls, x: np.ndarray, mean_F: np.ndarray, scale_F: np.ndarray) -> np.ndarray:
        """[N, F]. What is unknown (NaN) is taken as the mean."""
        return np.nan_to_num(np.clip((x - mean_F) / scale_F, -cls.FARTHEST, cls.FARTHEST)).astype(cls.DTYPE)


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

    def _distances(self, x: np.ndarray) -> np.ndarray:
        """Sums of squared differences [N, K] of standardised rows."""
        square_N, square_K = (np.square(rows).sum(axis=1) for rows in (x, self.known_KF))
        return np.maximum(square_N[:, None] + square_K - 2 * x @ self.known_KF.T, 0.0)

    @classmethod
    def _moments(cls, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        root = signed_root(x)
        return root.mean(axis=0), np.maximum(root.std(axis=0), 1e-3)

    @classmethod
    def _standardised(cls, x: np.ndarray, mean_F: np.ndarray, scale_F: np.ndarray) -> np.ndarray:
        return super()._standardised(signed_root(x), mean_F, scale_F)


def signed_root(x: np.ndarray) -> np.ndarray:
    """sign(x) sqrt(|x|), float64."""
    x = np.asarray(x, dtype=np.float64)
    return np.sign(x) * np.sqrt(np.abs(x))
