"""Boosted trees as plain arrays: what scikit-learn has fitted is evaluated without it, to the same bits.

Composing predicts a few rows at a time and must not wait for the import of scikit-learn, which takes seconds.
Shapes: N rows, F features, M models, T trees of all models, K nodes of all trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

AT_ONCE = 256
"""Rows that walk down the trees together: memory stays flat."""


@dataclass(frozen=True)
class Forest:
    """M models of boosted trees on the same features. Nodes of a tree lie together, its root first, parents before children."""

    feature_K: np.ndarray  # int32: what an inner node asks
    threshold_K: np.ndarray  # float64: at most this goes left
    missing_left_K: np.ndarray  # bool: where an unknown value (NaN) goes
    left_K: np.ndarray  # int32; of a leaf: the leaf itself
    right_K: np.ndarray
    value_K: np.ndarray  # float64: what a leaf adds
    root_T: np.ndarray  # int32: first node of each tree
    trees_M: np.ndarray  # int32: number of trees of each model
    baseline_M: np.ndarray  # float64: what a model says before its first tree

    @classmethod
    def of(cls, models: Sequence[Any]) -> Forest:
        """Of fitted HistGradientBoostingRegressors of numeric features and one output."""
        trees = [tree.nodes for model in models for [tree] in model._predictors]
        sizes = np.array([len(nodes) for nodes in trees])
        root_T = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        nodes, start_K = np.concatenate(trees), np.repeat(root_T, sizes)
        leaf_K, own_K = nodes["is_leaf"] != 0, np.arange(len(nodes))
        return cls(
            feature_K=np.where(leaf_K, 0, nodes["feature_idx"]).astype(np.int32),
            threshold_K=np.where(leaf_K, 0.0, nodes["num_threshold"]).astype(np.float64),
            missing_left_K=nodes["missing_go_to_left"] != 0,
            left_K=np.where(leaf_K, own_K, start_K + nodes["left"]).astype(np.int32),
            right_K=np.where(leaf_K, own_K, start_K + nodes["right"]).astype(np.int32),
            value_K=nodes["value"].astype(np.float64),
            root_T=root_T.astype(np.int32),
            trees_M=np.array([len(model._predictors) for model in models], dtype=np.int32),
            baseline_M=np.array([float(np.squeeze(model._baseline_prediction)) for model in models]),
        )

    def predict(self, x: np.ndarray) -> np.ndarray:
        """What every model says [N, M] of rows [N, F]."""
        blocks = [self._block(x[start : start + AT_ONCE]) for start in range(0, len(x), AT_ONCE)]
        return np.concatenate([np.zeros((0, len(self.trees_M))), *blocks])

    def _block(self, x: np.ndarray) -> np.ndarray:
        rows = np.arange(len(x))[:, None]
        at = np.tile(self.root_T, (len(x), 1))  # [N, T]
        while True:
            asked = x[rows, self.feature_K[at]]
            left = np.where(np.isnan(asked), self.missing_left_K[at], asked <= self.threshold_K[at])
            below = np.where(left, self.left_K[at], self.right_K[at])
            if np.array_equal(below, at):
                break
            at = below
        added = self.value_K[at]
        found, end = np.empty((len(x), len(self.trees_M))), 0
        for model, count in enumerate(self.trees_M):
            start, end = end, end + int(count)
            # One after the other, as scikit-learn adds them: another order rounds in another way.
            terms = np.hstack([np.full((len(x), 1), self.baseline_M[model]), added[:, start:end]])
            found[:, model] = np.cumsum(terms, axis=1)[:, -1]
        return found

    def check(self, features: int, models: int) -> None:
        """Hold what was read from a file against what trees must be.

        Raises:
            ValueError: another number of models, or a node that leads elsewhere than down its tree.
        """
        nodes, trees = len(self.value_K), len(self.root_T)
        of_nodes = (getattr(self, one.name) for one in fields(self) if one.name.endswith("_K"))
        if any(array.shape != (nodes,) for array in of_nodes) or not nodes or self.baseline_M.shape != (models,):
            raise ValueError(f"trees of {len(self.baseline_M)} models, not of {models}, or arrays of unequal length")
        if self.trees_M.shape != (models,) or (self.trees_M < 0).any() or self.trees_M.sum() != trees:
            raise ValueError("trees that belong to no model")
        if not trees or self.root_T[0] != 0 or (np.diff(self.root_T) <= 0).any() or self.root_T[-1] >= nodes:
            raise ValueError("trees without nodes")
        here, end = np.arange(nodes), np.repeat(np.append(self.root_T[1:], nodes), np.diff(self.root_T, append=nodes))
        leaf = (self.left_K == here) & (self.right_K == here)
        down = (np.minimum(self.left_K, self.right_K) > here) & (np.maximum(self.left_K, self.right_K) < end)
        known = (self.feature_K >= 0) & (self.feature_K < features)
        if not ((leaf | down) & known).all():
            raise ValueError("a tree whose nodes lead nowhere")
        numbers = np.isfinite(self.value_K).all() and np.isfinite(self.baseline_M).all()
        if not numbers or np.isnan(self.threshold_K).any():  # a threshold may be infinite: all known values go left
            raise ValueError("a tree whose values are no numbers")
