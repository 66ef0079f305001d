"""What is fitted to the training pictures in closed form, before the network trains on pictures.

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
    if network.picture_shape.kind == "pixels":
        fit_map(network, examples)
        return
    pictures, side = examples.pictures, network.picture
    train = np.flatnonzero(pictures.split_I == "train")
    features_NSC = np.asarray(pictures.rows[train], dtype=np.float64)
    mean_C = features_NSC.mean(axis=(0, 1))
    scale_C = np.maximum(features_NSC.std(axis=(0, 1)), 1e-3)
    side.feature_mean_C.copy_(torch.from_numpy(mean_C))
    side.feature_scale_C.copy_(torch.from_numpy(scale_C))
    rated, guessed_N2 = pictures.rated_I[train] > 0, None
    if rated.sum() >= 2:
        pooled_NC = ((features_NSC - mean_C) / scale_C).mean(axis=1)[rated]
        told = pictures.va_I2[train][rated], pictures.rated_I[train][rated]
        weights_C2, bias_2 = ridge(pooled_NC, *told)
        guessed_N2 = out_of_fold(pooled_NC, *told)
        with torch.no_grad():
            side.va_head.weight.copy_(torch.from_numpy(weights_C2.T))
            side.va_head.bias.copy_(torch.from_numpy(bias_2))
    side.va_head.requires_grad_(False)
    fit_map(network, examples, guessed_N2)


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


def out_of_fold(x_NC: np.ndarray, y_N2: np.ndarray, weight_N: np.ndarray, folds: int = 5) -> np.ndarray:
    """What a ridge regression that has not seen the row predicts for it [N, 2]; the mean label where N < 2 folds."""
    if len(x_NC) < 2 * folds:
        return np.tile(np.average(y_N2, axis=0, weights=weight_N), (len(x_NC), 1))
    predicted_N2 = np.empty((len(x_NC), 2))
    for fold in range(folds):
        held_N = np.arange(len(x_NC)) % folds == fold
        coefficients, intercept = ridge(x_NC[~held_N], y_N2[~held_N], weight_N[~held_N])
        predicted_N2[held_N] = x_NC[held_N] @ coefficients + intercept
    return predicted_N2


def fit_map(network: HuesongNetwork, examples: Examples, predicted_N2: np.ndarray | None = None) -> None:
    """Knots of the monotone map per axis: from what the VA head says of a picture to what is asked of the music.

    Where they lead is read off the pairs, the mapped labels of the training pictures. They start from the same quantiles
    of `predicted_N2`, the head's out-of-fold predictions: a regression draws towards the mean, and without giving the
    spread back, nothing but mild music would ever be asked for (the concordance with the truth is the better for it:
    at correlation r it is r with the spread given back, and 2 r^2 / (1 + r^2) without). None: from the labels.
    """
    pairs, pictures, side = examples.pairs, examples.pictures, network.picture
    train = pairs.split_P == "train"
    own_P2, mapped_P2 = pictures.va_I2[pairs.picture_P[train]], pairs.va_P2[train]
    known = ~(np.isnan(own_P2).any(axis=1) | np.isnan(mapped_P2).any(axis=1))
    if known.sum() < 2:
        return
    shares = np.linspace(0, 1, len(side.map_from_K2))
    spread = predicted_N2 is not None and bool((np.ptp(predicted_N2, axis=0) > 1e-3).all())
    start_N2 = predicted_N2 if predicted_N2 is not None and spread else own_P2[known]
    for axis in range(2):
        from_K = np.quantile(start_N2[:, axis].astype(np.float64), shares)
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
