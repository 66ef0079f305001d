"""Kernel machines that could read pictures, tried by `huesong experiment readers` beside the one that is in use.

Shapes: N known pictures, M new ones, F features; va [N, 2] is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from huesong.emotion.kernel import PictureKernelVA, signed_root
from huesong.emotion.labelled import group_folds
from huesong.label.picture_reader import FOLDS

PENALTY = PictureKernelVA.PENALTY
BESIDE = 0.3
"""Weight of a kernel of few features beside that of an encoder's; set before anything was measured."""
WIDTHS, PENALTIES = (0.5, 1.0, 2.0), (0.1, 0.2, 0.3, 0.5, 1.0)
"""Between which a Gaussian process chooses: the width of its kernel, times the usual one, and its noise."""


@dataclass(frozen=True)
class Task:
    """What is known, and what is to be read."""

    known: np.ndarray  # rows
    new: np.ndarray
    va_N2: np.ndarray  # of the known
    theme_N: np.ndarray


Reader = Callable[[Task], np.ndarray]
"""Readings [M, 2] of the new pictures."""


def standardised(x: np.ndarray, task: Task, root: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, F] and [M, F] of known and new pictures, as PictureKernelVA compares them (root: of activations)."""
    rows = signed_root(x) if root else np.asarray(x, dtype=np.float64)
    mean_F = rows[task.known].mean(axis=0)
    scale_F = np.maximum(rows[task.known].std(axis=0), 1e-3)
    known, new = ((rows[part] - mean_F) / scale_F for part in (task.known, task.new))
    farthest = PictureKernelVA.FARTHEST
    return known.clip(-farthest, farthest), new.clip(-farthest, farthest)


def gaussian(u: np.ndarray, v: np.ndarray, width: float = 1.0) -> np.ndarray:
    """exp(-|u - v|^2 / (width F))."""
    apart = (u**2).sum(1)[:, None] + (v**2).sum(1) - 2 * u @ v.T
    found: np.ndarray = np.exp(-np.maximum(apart, 0) / (width * u.shape[1]))
    return found


def solved(known_NN: np.ndarray, new_MN: np.ndarray, va_N2: np.ndarray, noise_N2: np.ndarray | float) -> np.ndarray:
    """The mean of a Gaussian process [M, 2] whose noise may differ by picture and axis, as a share of the kernel's height."""
    centre_2 = va_N2.mean(axis=0)
    noise_N2 = np.broadcast_to(noise_N2, va_N2.shape)
    duals = [
        np.linalg.solve(known_NN + np.diag(noise_N2[:, axis]), va_N2[:, axis] - centre_2[axis]) for axis in range(2)
    ]
    found: np.ndarray = new_MN @ np.stack(duals, axis=1) + centre_2
    return found


def ridge(*encoders: np.ndarray) -> Reader:
    """The reader in use, on the features [all, F] of these encoders side by side."""

    def read(task: Task) -> np.ndarray:
        u, v = standardised(np.concatenate(encoders, axis=1), task)
        return solved(gaussian(u, u), gaussian(v, u), task.va_N2, PENALTY)

    return read


def beside(encoder: np.ndarray, few: np.ndarray) -> Reader:
    """A kernel of few plain features added to that of the encoder's."""

    def read(task: Task) -> np.ndarray:
        (u, v), (s, t) = standardised(encoder, task), standardised(few, task, root=False)
        known, new = ((gaussian(a, u) + BESIDE * gaussian(b, s)) / (1 + BESIDE) for a, b in ((u, s), (v, t)))
        return solved(known, new, task.va_N2, PENALTY)

    return read


def noise_weighted(encoder: np.ndarray, error_2: np.ndarray) -> Reader:
    """Ratings count by how surely they are known; error_2 [all, 2]: standard errors of the mean ratings."""

    def read(task: Task) -> np.ndarray:
        u, v = standardised(encoder, task)
        share_N2 = error_2[task.known] ** 2 / task.va_N2.var(axis=0)
        noise_N2 = PENALTY + share_N2
        return solved(gaussian(u, u), gaussian(v, u), task.va_N2, noise_N2 * PENALTY / noise_N2.mean(axis=0))

    return read


def process(encoder: np.ndarray) -> Reader:
    """A Gaussian process that chooses width, height and noise for each axis by its marginal likelihood."""

    def read(task: Task) -> np.ndarray:
        u, v = standardised(encoder, task)
        centred_N2 = task.va_N2 - task.va_N2.mean(axis=0)
        best: list[tuple[float, np.ndarray]] = [(-np.inf, np.zeros(0))] * 2
        for width in WIDTHS:
            values_N, vectors_NN = np.linalg.eigh(gaussian(u, u, width))
            turned_N2 = vectors_NN.T @ centred_N2
            for noise in PENALTIES:
                scale_N = values_N.clip(0) + noise
                for axis in range(2):
                    height = np.mean(turned_N2[:, axis] ** 2 / scale_N)  # the likeliest, in closed form
                    likelihood = -0.5 * (len(u) * np.log(height) + np.log(scale_N).sum())
                    if likelihood > best[axis][0]:
                        dual_N = vectors_NN @ (turned_N2[:, axis] / scale_N)
                        best[axis] = likelihood, gaussian(v, u, width) @ dual_N
        return np.stack([found for _, found in best], axis=1) + task.va_N2.mean(axis=0)

    return read


def linear(encoder: np.ndarray) -> Reader:
    """Ridge regression, its penalty of the size of the features' number."""

    def read(task: Task) -> np.ndarray:
        u, v = standardised(encoder, task)
        return solved(u @ u.T / u.shape[1], v @ u.T / u.shape[1], task.va_N2, 1.0)

    return read


def stacked(readers: Sequence[Reader]) -> Reader:
    """Readers weighed, each axis by itself and with weights >= 0, by how they read known themes that they were not shown."""

    def read(task: Task) -> np.ndarray:
        held_NK2 = np.zeros((len(task.known), len(readers), 2))
        for inner, outer in group_folds(task.theme_N, FOLDS):
            part = Task(task.known[inner], task.known[outer], task.va_N2[inner], task.theme_N[inner])
            held_NK2[outer] = np.stack([reader(part) for reader in readers], axis=1)
        found_MK2, centre_2 = np.stack([reader(task) for reader in readers], axis=1), task.va_N2.mean(axis=0)
        columns = []
        for axis in range(2):
            weights_K, _ = nnls(held_NK2[:, :, axis] - centre_2[axis], task.va_N2[:, axis] - centre_2[axis])
            columns.append((found_MK2[:, :, axis] - centre_2[axis]) @ weights_K + centre_2[axis])
        return np.stack(columns, axis=1)

    return read
