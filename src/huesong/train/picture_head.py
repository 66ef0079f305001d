"""What is fitted to the training pictures in closed form, before the network trains on pictures.

The standardisation of frozen features, the image VA head on them (model/image_encoder.py), and the pairing's map from
picture VA to music VA. Only the `builtin` CNN learns its VA head by gradient, with the network.

Shapes: N pictures, S image tokens, C channels, K knots.
"""

from __future__ import annotations

import numpy as np
import torch

from huesong.model.dataset import Examples
from huesong.model.image_encoder import MOST_KEPT, KernelHead, out_of_fold
from huesong.model.network import HuesongNetwork
from huesong.va import agreement_figures


def rated_pictures(examples: Examples) -> np.ndarray:
    """Rows of the training pictures that people rated: what the VA head of frozen features is fitted to.

    Of more than kernel_head.MOST_KEPT, every so-many-th: the table's order has nothing to do with emotion.
    """
    pictures = examples.pictures
    rows = np.flatnonzero((pictures.split_I == "train") & (pictures.rated_I > 0))
    return rows[np.linspace(0, len(rows) - 1, MOST_KEPT).round().astype(int)] if len(rows) > MOST_KEPT else rows


def fit_picture_side(network: HuesongNetwork, examples: Examples) -> None:
    """Set the parts of `network.picture` that training does not: see the top of this file."""
    pictures, side = examples.pictures, network.picture
    if network.picture_shape.kind == "pixels":
        fit_map(network, examples)
        return
    train = np.flatnonzero(pictures.split_I == "train")
    features_NSC = np.asarray(pictures.rows[train], dtype=np.float64)
    side.feature_mean_C.copy_(torch.from_numpy(features_NSC.mean(axis=(0, 1))))
    side.feature_scale_C.copy_(torch.from_numpy(np.maximum(features_NSC.std(axis=(0, 1)), 1e-3)))
    guessed_N2 = None
    if isinstance(side.va_head, KernelHead):
        rows = rated_pictures(examples)
        pooled_NC = np.asarray(pictures.rows[rows], dtype=np.float64).mean(axis=1)
        told = pictures.va_I2[rows], pictures.rated_I[rows]
        side.va_head.fit(pooled_NC, *told)
        guessed_N2 = out_of_fold(pooled_NC, *told)
    else:  # nobody rated a picture: all are neutral
        side.va_head.requires_grad_(False)
        side.va_head.weight.zero_()
        side.va_head.bias.zero_()
    fit_map(network, examples, guessed_N2)


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
    return figures | agreement_figures(pictures.va_I2[rows], np.concatenate(seen), "val_")
