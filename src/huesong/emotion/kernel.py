"""Valence and arousal of music by a kernel machine on hand features, beside the boosted trees (boosting.py).

Trees cut features at thresholds, and music that is composed to please them sits just beyond these. A kernel machine is
smooth, errs elsewhere, and far from all music it has heard it says no more than the mean: what pleases both is nearer
to what people hear. Folds of whole songs show it, too: docs/lab-diary.md.

Shapes: N segments, F features; va [N, 2] is valence, arousal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import StandardScaler

PENALTY = 0.5
"""Of the ridge; half or twice as much made a difference of .003 in r, as did the width of the kernel."""
FARTHEST = 5.0
"""Standard deviations at which a feature is cut off: one odd value should not make a piece unlike all others."""
MOST_ROWS = 5000
"""Rows that are kept; memory grows with their square."""

AT_ONCE = 2000
"""Rows that are compared with the kept ones together: memory stays flat however large the set is."""


@dataclass
class KernelVA:
    """Ridge regression with the Laplacian kernel exp(-sum |x - y| / F) on standardised features."""

    scaler: StandardScaler
    ridge: KernelRidge
    centre: np.ndarray  # [2]: mean label

    @classmethod
    def fit(cls, x: np.ndarray, va: np.ndarray, weights: np.ndarray, seed: int = 0) -> KernelVA:
        """Fit on features [N, F], labels [N, 2] and positive weights [N]; of more than MOST_ROWS rows, a random part."""
        if len(x) > MOST_ROWS:
            rows = np.sort(np.random.default_rng(seed).permutation(len(x))[:MOST_ROWS])
            x, va, weights = x[rows], va[rows], weights[rows]
        scaler = StandardScaler().fit(x)
        centre = np.average(va, axis=0, weights=weights)
        ridge = KernelRidge(kernel="laplacian", alpha=PENALTY, gamma=1.0 / x.shape[1])
        ridge.fit(_standardised(scaler, x), va - centre, sample_weight=weights / weights.mean())
        return cls(scaler, ridge, centre)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Valence and arousal [N, 2] of features [N, F]."""
        blocks = [x[start : start + AT_ONCE] for start in range(0, len(x), AT_ONCE)]
        found = [self.ridge.predict(_standardised(self.scaler, block)) for block in blocks]
        return np.concatenate([np.zeros((0, 2)), *found]) + self.centre


def _standardised(scaler: StandardScaler, x: np.ndarray) -> np.ndarray:
    """Float32 [N, F]: half the file, and far finer than the features are. What is unknown (NaN) is taken as the mean."""
    return np.nan_to_num(np.clip(scaler.transform(x), -FARTHEST, FARTHEST)).astype(np.float32)
