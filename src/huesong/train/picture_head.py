"""What the image encoder does not learn by gradient: it is set before the network trains on pictures.

The standardisation of frozen features, and what label fitted in closed form: the VA head on them and the map from picture
VA to music VA (label/picture_reader.py).

Shapes: S image tokens, C channels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from huesong.model.dataset import Examples
from huesong.model.decoding.pictures import PictureShape
from huesong.model.network import HuesongNetwork
from huesong.runtime.errors import UserError
from huesong.va import agreement_figures


def picture_shape(examples: Examples) -> PictureShape:
    """What a picture is to a network that is trained on these examples."""
    rated = len(examples.reader.get("va_head.known_KC", ()))
    return PictureShape.of(examples.pictures.rows.shape[1:], rated=rated)


@torch.no_grad()
def set_image_encoder(network: HuesongNetwork, examples: Examples) -> None:
    """Set the parts of `network.picture` that training does not: see the top of this file.

    Raises:
        UserError: the network was made for another number of pictures or channels.
    """
    encoder = network.picture
    if encoder.cnn is None:
        train = np.flatnonzero(examples.pictures.split_I == "train")
        features_NSC = np.asarray(examples.pictures.rows[train], dtype=np.float64)
        encoder.feature_mean_C.copy_(torch.from_numpy(features_NSC.mean(axis=(0, 1))))
        encoder.feature_scale_C.copy_(torch.from_numpy(np.maximum(features_NSC.std(axis=(0, 1)), 1e-3)))
        if isinstance(encoder.va_head, nn.Linear):  # nobody rated a picture: all are neutral
            encoder.va_head.requires_grad_(False)
            encoder.va_head.weight.zero_()
            encoder.va_head.bias.zero_()
    buffers = dict(encoder.named_buffers())
    for name, values in examples.reader.items():
        own = list(buffers[name].shape) if name in buffers else "nothing"
        if own != list(values.shape):
            raise UserError(
                f"the network's `{name}` is {own}, not {list(values.shape)}: run `huesong label`, then train again"
            )
        buffers[name].copy_(torch.from_numpy(values))


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
