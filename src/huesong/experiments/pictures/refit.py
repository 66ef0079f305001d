"""Fit anew what a model reads pictures by, without training its network: `huesong pictures fit`.

The network gets the picture's valence and arousal and the image tokens of its encoder. The head that reads valence and
arousal, the map to what is asked of the music, and how sure a reading is are in closed form: they can be fitted to other
ratings in seconds. With another encoder the music no longer attends to image tokens, but to those that the network learnt
for requests without a picture: tokens add nothing beyond valence and arousal (docs/pictures.md).
"""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from huesong import contracts
from huesong.emotion.certainty import Certainty
from huesong.emotion.kernel import PictureKernelVA
from huesong.experiments.pictures.rated import Rated
from huesong.label.picture_reader import names_of, out_of_fold, picture_certainty, request_of, thinned
from huesong.label.va_map import VAMap
from huesong.model.decoding.history import BarTokens
from huesong.model.decoding.pictures import PictureShape
from huesong.model.decoding.tensors import VOCABULARY_KEY, arrays_of
from huesong.model.folder import Modules, load_model
from huesong.model.image_encoder import KernelRidgeHead
from huesong.model.network import HuesongNetwork
from huesong.pictures.encoders import Encoder, load_encoder
from huesong.runtime.errors import UserError
from huesong.runtime.files import check_replaceable, read_json, replacing_folder, sha256, write_json

OWN = (contracts.MODEL_CONFIG,)
OF_ANOTHER = (contracts.MODEL_CARD, "SHA256SUMS")
"""What a shipped model's folder says of its own files and figures: the fitted one is another model."""


def refit(
    model: Modules, rated: Rated, out: Path, kind: str = "rank", encoder: Encoder | None = None
) -> Certainty | None:
    """Write the model to the folder `out` with head, map and certainty fitted to the training pictures of `rated`.

    A map of kind `rank` keeps where it leads, the quantiles of what the music was paired with, and starts from the new
    head's quantiles; the others (label.request_map) are fitted to people's ratings. Files that are not concerned
    are copied; weights that were float16 stay so.

    Args:
        encoder: another one than the model's, by which `rated` was read (`with_encoder`); None = the model's own.

    Raises:
        UserError: `out` is in use or the model's own folder, or the model reads pixels and no encoder is given.
    """
    check_replaceable(out, OWN, [model.folder])
    if encoder is not None:
        model = with_encoder(model, encoder, rated)
    if model.network.picture_shape.kind != "features":
        raise UserError(
            f"{model.folder} reads pixels by a CNN that learnt with its network: train again, or name an encoder with --encoder"
        )
    rows = thinned(np.flatnonzero(rated.split_N == "train"))
    pooled_NC, va_N2, weight_N = rated.pooled_NC[rows], rated.va_N2[rows], np.ones(len(rows))
    head = PictureKernelVA.fit(pooled_NC, va_N2, weight_N)
    certainty = picture_certainty(
        rated.pooled_NC[:, None], rated.va_N2, np.ones(len(rated.ids)), rated.split_N, rated.theme_N
    )
    picture = model.network.picture
    if kind == "rank":
        read_N2 = out_of_fold(pooled_NC, va_N2, weight_N)
        request = VAMap.between_quantiles(read_N2, picture.map_to_K2.numpy(), len(picture.map_to_K2))
    else:
        request = request_of(kind, pooled_NC, va_N2, weight_N, rated.theme_N[rows])
    with torch.no_grad():
        for side, buffer in enumerate((picture.map_from_K2, picture.map_to_K2)):
            buffer.copy_(torch.from_numpy(np.stack([ends[side] for ends in request.knots], axis=1)))
        picture.va_head = KernelRidgeHead(len(rows), pooled_NC.shape[1])
        for name, values in (
            ("mean_C", head.mean_F), ("scale_C", head.scale_F), ("known_KC", head.known_KF), ("dual_K2", head.dual_K2),
            ("bias_2", head.centre),
        ):  # fmt: skip
            getattr(picture.va_head, name).copy_(torch.from_numpy(values))
    model.network.picture_shape = replace(model.network.picture_shape, rated=len(rows))
    names = names_of(rated.ids[rows].tolist(), rated.theme_N[rows].tolist())
    with replacing_folder(out, OWN, [model.folder]) as work:
        _write(model, certainty, names, work, encoder)
    return certainty


def with_encoder(model: Modules, encoder: Encoder, rated: Rated) -> Modules:
    """The model reading by another encoder, with a head that is not fitted yet; its music does not see image tokens.

    `rated`: pictures by that encoder, whose features say the scale.
    """
    old = model.network
    shape = PictureShape("features", tokens=old.picture.tokens, channels=rated.pooled_NC.shape[1])
    config = old.config.model_copy(update={"image_tokens": False})
    network = HuesongNetwork(config, old.vocabulary_size, shape, BarTokens.of(model.vocabulary)).eval()
    own, taken = network.state_dict(), old.state_dict()
    fitted = ("picture.va_head.", "picture.feature_")
    network.load_state_dict(own | {name: taken[name] for name in own if not name.startswith(fitted)})
    with torch.no_grad():
        network.picture.feature_mean_C.copy_(torch.from_numpy(rated.pooled_NC.mean(axis=0)))
        network.picture.feature_scale_C.copy_(torch.from_numpy(rated.pooled_NC.std(axis=0).clip(1e-3)))
    return replace(model, network=network.requires_grad_(False))


def encoder_for(model: Modules, name: str, scales: int) -> Encoder:
    """The encoder called `name` with as many tokens as the model's pictures have (errors: `load_encoder`)."""
    return load_encoder(name, size=0, grid=math.isqrt(model.network.picture.tokens), scales=scales)


def _write(
    model: Modules, certainty: Certainty | None, pictures: dict[str, list[str]], work: Path, encoder: Encoder | None
) -> None:
    shutil.copytree(model.folder, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*OF_ANOTHER))
    if encoder is not None:
        shutil.rmtree(work / contracts.ENCODER)
        encoder.save(work / contracts.ENCODER)
    config = read_json(work / contracts.MODEL_CONFIG, "huesong train")
    half = _is_half(work / contracts.MODEL_WEIGHTS)
    tensors = arrays_of(model.network, half)
    save_file(tensors, work / contracts.MODEL_WEIGHTS, metadata={VOCABULARY_KEY: model.vocabulary.digest})
    (work / contracts.MODEL_WEIGHTS).chmod(0o644)
    write_json(work / contracts.PICTURE_NAMES, pictures)
    inside = {path.relative_to(work).as_posix() for path in (work / contracts.ENCODER).rglob("*") if path.is_file()}
    names = {name for name in config["files"] if not name.startswith(f"{contracts.ENCODER}/")} | inside
    names.add(contracts.PICTURE_NAMES)
    if certainty is not None:
        certainty.save(work / contracts.PICTURE_CERTAINTY)
        names.add(contracts.PICTURE_CERTAINTY)
    config["picture"] = asdict(model.network.picture_shape)
    config["network"] = model.network.config.model_dump()
    config["files"] = {name: sha256(work / name) for name in sorted(names)}
    write_json(work / contracts.MODEL_CONFIG, config)
    load_model(work)  # what was written loads


def _is_half(path: Path) -> bool:
    from safetensors import safe_open

    with safe_open(path, "np") as stream:
        return any(str(stream.get_slice(name).get_dtype()) == "F16" for name in stream.keys())  # noqa: SIM118
