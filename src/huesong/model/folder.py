"""The model folder: everything that composing needs and nothing outside it, each file with its digest."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from huesong import contracts
from huesong.config import CriticConfig, NetworkConfig
from huesong.model.critic import Critic
from huesong.model.network import HuesongNetwork, PictureShape
from huesong.music.grammar import Grammar
from huesong.music.vocabulary import Vocabulary
from huesong.runtime.errors import UserError
from huesong.runtime.files import require, sha256, write_json

REMEDY = "train again with `huesong train`, or copy the whole model folder again"
VOCABULARY_KEY = "vocabulary"
"""Metadata of the weight files: digest of the vocabulary they were trained on, since another may have the same size."""
REQUIRED = (contracts.CRITIC_WEIGHTS, contracts.VOCABULARY, contracts.TOKENIZER)
MODEL_TYPE = "huesong"
"""`model_type` in config.json, as model hubs have it; format 1 had none."""
WEIGHTS = {1: "weights.safetensors", contracts.MODEL_FORMAT: contracts.MODEL_WEIGHTS}
"""Format of a model folder -> its file of the network's weights; what else changed is named at MODEL_TYPE."""


@dataclass
class Model:
    """A loaded model folder; `network` and `critic` are in evaluation mode, float32, on one device."""

    network: HuesongNetwork
    critic: Critic
    vocabulary: Vocabulary
    grammar: Grammar
    config: dict[str, Any]
    folder: Path

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.embedding.weight.device


def save_model(
    folder: Path,
    *,
    network: HuesongNetwork,
    critic: Critic,
    preprocess: Path,
    label: Path | None,
    training: dict[str, Any],
    half: bool = False,
) -> None:
    """Write the model folder into `folder` (made if missing; the caller replaces it as a whole).

    Args:
        folder: where to write.
        network: trained network; its config and picture shape are stored with it.
        critic: the frozen critic.
        preprocess: artifacts of the preprocess stage: vocabulary, tokenizer and picture encoder are copied.
        label: artifacts of the label stage: the piece labeller is copied; None = without.
        training: what to remember of the training (JSON values).
        half: store weights as float16 (half the size; loaded back as float32).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (contracts.VOCABULARY, contracts.TOKENIZER):
        shutil.copyfile(require(preprocess / name, "huesong preprocess"), folder / name)
    shutil.copytree(require(preprocess / contracts.ENCODER, "huesong preprocess"), folder / contracts.ENCODER)
    if label is not None:
        source = require(label / contracts.PIECE_LABELLER, "huesong label")
        shutil.copyfile(source, folder / contracts.PIECE_LABELLER)
    digest = Vocabulary.load(folder / contracts.VOCABULARY).digest
    for name, module in ((contracts.MODEL_WEIGHTS, network), (contracts.CRITIC_WEIGHTS, critic)):
        save_file(weights_of(module, half), folder / name, metadata={VOCABULARY_KEY: digest})
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / contracts.MODEL_CONFIG)
    write_json(
        folder / contracts.MODEL_CONFIG,
        {
            "model_type": MODEL_TYPE,
            "format": contracts.MODEL_FORMAT,
            "network": network.config.model_dump(),
            "critic": critic.config.model_dump(),
            "picture": asdict(network.picture_shape),
            "vocabulary": {"size": network.vocabulary_size, "digest": digest},
            "files": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
            "training": training,
        },
    )


def weights_of(module: torch.nn.Module, half: bool = False) -> dict[str, torch.Tensor]:
    """The state dict on the host, as float16 if `half`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    return {name: t.half() if half and t.is_floating_point() else t for name, t in tensors.items()}


def load_model(folder: Path, device: str | torch.device = "cpu") -> Model:
    """Load a model folder of this or an older format, after checking every file's digest.

    Raises:
        UserError: no model folder, another format, a missing, damaged or foreign file.
    """
    config = _read_config(folder)
    weights = WEIGHTS[config["format"]]
    _check_files(folder, config["files"], (weights, *REQUIRED))
    vocabulary = Vocabulary.load(folder / contracts.VOCABULARY)
    path = folder / contracts.MODEL_CONFIG
    try:
        size, digest = config["vocabulary"]["size"], config["vocabulary"]["digest"]
        picture = PictureShape(**config["picture"])
        # A folder whose network does not say `smear` was written before there were smeared keys.
        network_config = NetworkConfig.model_validate({"smear": False} | config["network"])
        critic_config = CriticConfig.model_validate(config["critic"])
    except (KeyError, TypeError, ValidationError) as error:
        detail = " ".join(str(error).split())
        raise UserError(f"{path} does not describe a model ({detail}): {REMEDY}") from error
    if (vocabulary.size, vocabulary.digest) != (size, digest):
        raise UserError(f"{folder / contracts.VOCABULARY} is not the vocabulary this model was trained on: {REMEDY}")
    network = HuesongNetwork(network_config, size, picture)
    grammar = Grammar(vocabulary)
    critic = Critic(critic_config, size, grammar.table.heads_V)
    load_weights(network, folder / weights, digest)
    load_weights(critic, folder / contracts.CRITIC_WEIGHTS, digest)
    network.to(device).eval().requires_grad_(False)
    critic.to(device).freeze()
    return Model(network, critic, vocabulary, grammar, config, folder)


def load_weights(module: torch.nn.Module, path: Path, vocabulary: str) -> None:
    """Fill `module` from a safetensors file; every tensor must be there, none may be left over.

    Args:
        module: what to fill.
        path: the file.
        vocabulary: digest of the vocabulary, which the file's metadata must name.

    Raises:
        UserError: a damaged file, or weights of another architecture, or of another or an unnamed vocabulary.
    """
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as stream:
            learnt = (stream.metadata() or {}).get(VOCABULARY_KEY)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): {REMEDY}") from error
    own = module.state_dict()
    wrong = sorted(own.keys() ^ tensors.keys()) + sorted(
        name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape
    )
    if wrong:
        raise UserError(f"{path} holds weights of another architecture ('{wrong[0]}' does not fit): {REMEDY}")
    if learnt is None:
        raise UserError(f"{path} does not name the vocabulary it was trained on: {REMEDY}")
    if learnt != vocabulary:
        raise UserError(f"{path} was trained on another vocabulary: {REMEDY}")
    module.load_state_dict(tensors)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / contracts.MODEL_CONFIG
    if not path.is_file():
        raise UserError(f"{folder} is not a model folder ({contracts.MODEL_CONFIG} is missing): {REMEDY}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}): {REMEDY}") from error
    found = config if isinstance(config, dict) else {}
    if (other := found.get("model_type", MODEL_TYPE)) != MODEL_TYPE:
        raise UserError(f"{path}: model_type {other!r}, but huesong composes with models of its own alone: {REMEDY}")
    if (version := found.get("format")) not in list(WEIGHTS):
        raise UserError(
            f"{path}: model format {version!r}, but this huesong reads formats {', '.join(map(str, WEIGHTS))}: "
            "train again, or install the huesong version that made it"
        )
    if not isinstance(config.get("files"), dict):
        raise UserError(f"{path} lists no files: {REMEDY}")
    return config


def _check_files(folder: Path, files: dict[str, Any], required: tuple[str, ...]) -> None:
    for name in (*required, *files):
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise UserError(f"{folder / contracts.MODEL_CONFIG} names a file outside the model folder: {name!r}")
        if name not in files:
            raise UserError(f"{folder / contracts.MODEL_CONFIG} does not list {name}: {REMEDY}")
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing: {REMEDY}")
        if sha256(path) != files[name]:
            raise UserError(f"{path} is damaged (its SHA-256 is not the one in {contracts.MODEL_CONFIG}): {REMEDY}")
