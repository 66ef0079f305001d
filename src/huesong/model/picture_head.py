"""What is fitted to the training pictures in closed form, before the network trains.

The standardisation of frozen features, the image VA head on them (ridge regression), and the pairing's map from
picture VA to music VA. Only the `builtin` CNN learns its VA head by gradient, with the network.

Shapes: N pictures, S image tokens, C channels, K knots.
"""

from __future__ import annotations

import numpy as np
import torch

from huesong.datasets.examples import Examples
from huesong.model.critic import agreement_figures
from huesong.model.network import HuesongNetwork

PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)


def fit_picture_side(network: HuesongNetwork, examples: Examples) -> None:
    """Set the parts of `network.picture` that training does not: see the top of this file."""
    fit_map(network, examples)
    if network.picture_shape.kind == "pixels":
        return
    pictures, side = examples.pictures, network.picture
    train = np.flatnonzero(pictures.split_I == "train")
    features_NSC = np.asarray(pictures.rows[train], dtype=np.float64)
    mean_C = features_NSC.mean(axis=(0, 1))
    scale_C = np.maximum(features_NSC.std(axis=(0, 1)), 1e-3)
    side.feature_mean_C.copy_(torch.from_numpy(mean_C))
    side.feature_scale_C.copy_(torch.from_numpy(scale_C))
    rated = pictures.rated_I[train] > 0
    if rated.sum() >= 2:
        pooled_NC = ((features_NSC - mean_C) / scale_C).mean(axis=1)[rated]
        weights_C2, bias_2 = ridge(pooled_NC, pictures.va_I2[train][rated], pictures.rated_I[train][rated])
        with torch.no_grad():
            side.va_head.weight.copy_(torch.from_numpy(weights_C2.T))
            side.va_head.bias.copy_(torch.from_numpy(bias_2))
    side.va_head.requires_grad_(False)


def ridge(x_NC: np.ndarray, y_N2: np.ndarray, weight_N: np.ndarray, folds: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Weighted ridge regression with intercept: coefficients [C, 2] and intercepts [2].

    The penalty is the one with the least weighted squared error over interleaved folds.
    """
    x_NC, y_N2 = x_NC.astype(np.float64), y_N2.astype(np.float64)

    def solve(rows: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        share = weight_N[rows] / weight_N[rows].sum()
        x_mean, y_mean = share @ x_NC[rows], share @ y_N2[rows]
        root = np.sqrt(weight_N[rows])[:, None]
        x, y = (x_NC[rows] - x_mean) * root, (y_N2[rows] - y_mean) * root
        if len(rows) < x.shape[1]:  # the dual form: as many unknowns as pictures, not as channels
            coefficients = x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(rows)), y)
        else:
            coefficients = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
        return coefficients, y_mean - x_mean @ coefficients

    everything, folds = np.arange(len(x_NC)), min(folds, len(x_NC))
    errors = []
    for penalty in PENALTIES:
        error = 0.0
        for fold in range(folds):
            held = everything[everything % folds == fold]
            coefficients, intercept = solve(everything[everything % folds != fold], penalty)
            error += float((weight_N[held, None] * (x_NC[held] @ coefficients + intercept - y_N2[held]) ** 2).sum())
        errors.append(error)
    return solve(everything, PENALTIES[int(np.argmin(errors))])


def fit_map(network: HuesongNetwork, examples: Examples) -> None:
    """Knots of the monotone map per axis, read off the pairs: a picture's own label against its mapped one."""
    pairs, pictures, side = examples.pairs, examples.pictures, network.picture
    train = pairs.split_P == "train"
    own_P2, mapped_P2 = pictures.va_I2[pairs.picture_P[train]], pairs.va_P2[train]
    known = ~(np.isnan(own_P2).any(axis=1) | np.isnan(mapped_P2).any(axis=1))
    if known.sum() < 2:
        return
    shares = np.linspace(0, 1, len(side.map_from_K2))
    for axis in range(2):
        from_K = np.quantile(own_P2[known, axis].astype(np.float64), shares)
        # A monotone map keeps ranks, so quantiles go to quantiles.
        to_K = np.quantile(mapped_P2[known, axis].astype(np.float64), shares)
        side.map_from_K2[:, axis] = torch.from_numpy(from_K)
        side.map_to_K2[:, axis] = torch.from_numpy(to_K)


@torch.no_grad()
def picture_figures(network: HuesongNetwork, examples: Examples, device: torch.device) -> dict[str, float]:
    """Agreement of the image VA head with people's ratings of the validation pictures."""
    pictures = examples.pictures
    rows = np.flatnonzero((pictures.split_I == "val") & (pictures.rated_I > 0))
    figures = {"val_pictures": float(len(rows))}
    if len(rows) < 2:
        return figures
    network.eval()
    seen = [
        network.encode_picture(torch.from_numpy(np.array(pictures.rows[part])).to(device)).va_B2.float().cpu().numpy()
        for part in np.array_split(rows, -(-len(rows) // 64))
    ]
    return figures | agreement_figures(pictures.va_I2[rows], np.concatenate(seen))
