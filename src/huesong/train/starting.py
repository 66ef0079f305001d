"""Training that goes on from the weights of a model folder (`train.start_from`): weights alone, the optimizer starts anew."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from huesong import contracts
from huesong.config import TrainConfig
from huesong.model.folder import load_modules
from huesong.model.network import HuesongNetwork
from huesong.music.vocabulary import Vocabulary
from huesong.runtime.errors import UserError
from huesong.runtime.files import require, sha256
from huesong.runtime.progress import log

FREE = ("dropout", "context")
"""Settings of the network that may differ: no weight depends on them."""
GAINED = "recall"
"""A setting that the network may have and the model not: its weights begin as zeros and change nothing then."""


def start_from(folder: Path, network: HuesongNetwork, vocabulary: Vocabulary) -> None:
    """Fill `network` with the weights of the model in `folder`.

    A network that recalls may start from one that did not: its matrix begins as zeros.
    The vocabularies may differ, as byte pair encoding does from data set to data set: a token that the model has not
    keeps the mean of what it stands for. The picture side is kept where it is of the same shape.

    Raises:
        UserError: no model folder, or a network of another architecture.
    """
    model = load_modules(folder)
    for name, value in network.config.model_dump().items():
        theirs = getattr(model.network.config, name)
        if theirs != value and name not in FREE and not (name == GAINED and value):
            raise UserError(
                f"train.start_from: {folder} has network.{name} = {theirs}, the settings say {value}: make them equal, "
                "or leave start_from out"
            )
    taken = dict(model.network.state_dict())
    taken["embedding.weight"] = renumbered(taken["embedding.weight"], model.vocabulary, vocabulary)
    own = network.state_dict()
    other = sorted(name for name in own if name not in taken or taken[name].shape != own[name].shape)
    if wrong := [name for name in other if not name.startswith(("picture.", f"{GAINED}."))]:
        raise UserError(f"train.start_from: '{wrong[0]}' of {folder} is of another shape: leave start_from out")
    network.load_state_dict(own | {name: taken[name] for name in own if name not in other})
    log.info("train: starting from the weights of %s", folder)


def renumbered(weight_VD: Tensor, old: Vocabulary, new: Vocabulary) -> Tensor:
    """The embeddings in the order of another vocabulary."""
    place = {parts: index for index, parts in reversed(list(enumerate(old.tokens)))}
    mean_D = weight_VD.mean(dim=0)
    rows = []
    for parts in new.tokens:
        known = [place[key] for key in ([parts] if parts in place else [(part,) for part in parts]) if key in place]
        rows.append(weight_VD[known].mean(dim=0) if known else mean_D)
    return torch.stack(rows)


def starting_digest(config: TrainConfig) -> list[str]:
    """SHA-256 of the weights that training starts from; nothing if it starts anew. What checkpoints depend on."""
    if not config.start_from:
        return []
    return [sha256(require(Path(config.start_from) / contracts.MODEL_WEIGHTS, "huesong export"))]
