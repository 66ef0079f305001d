"""The model folder: everything that composing needs and nothing outside it, each file with its digest.

`load_model` reads it as arrays, for all who compose, without PyTorch; `load_modules` as modules, for those who train.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError
from safetensors.numpy import load_file, save_file

from huesong import contracts
from huesong.config import CriticConfig, NetworkConfig, Section, describe
from huesong.model.decoding.decoder import Decoder
from huesong.model.decoding.hearing import Hearing
from huesong.model.decoding.history import BarTokens
from huesong.model.decoding.pictures import PictureShape
from huesong.model.decoding.tensors import REMEDY, VOCABULARY_KEY, Tensors, arrays_of
from huesong.music.grammar import Grammar
from huesong.music.vocabulary import Vocabulary
from huesong.runtime.errors import UserError
from huesong.runtime.files import require, sha256, write_json

if TYPE_CHECKING:
    import torch

    from huesong.model.critic import Critic
    from huesong.model.network import HuesongNetwork

MOST_BYTES = 4 * 2**30
"""Of a file of a model folder; the shipped model's largest has 7 MB."""
MOST_TEXT = 16 * 2**20
"""Of a JSON file of a model folder."""
MOST_NUMBER = 20_000
"""Of the settings of tokenizer and encoder: some become numbers of tokens, or sides of arrays."""
MOST_STEPS = 2_000
"""Durations that a tokenizer may tell apart."""
REQUIRED = (contracts.CRITIC_WEIGHTS, contracts.VOCABULARY, contracts.TOKENIZER)
MODEL_TYPE = "huesong"
"""`model_type` in config.json, as model hubs have it; format 1 had none."""
OLDER_NETWORK = {"smear": False, "recall": False}
"""What a folder whose network does not say so was written before."""
WEIGHTS = {1: "weights.safetensors", contracts.MODEL_FORMAT: contracts.MODEL_WEIGHTS}
"""Format of a model folder -> its file of the network's weights; what else changed is named at MODEL_TYPE."""

RARE = 0.002
"""Share of bars below which a metre was not learnt."""
Settings = TypeVar("Settings", bound=Section)


class DataRow(Section):
    """A set of one kind that a model learnt from."""

    model_config = ConfigDict(extra="ignore")

    source: str = ""
    licence: str = ""
    kind: str = ""
    labels: str = ""
    items: int = Field(0, ge=0)


class Remembered(Section):
    """What is read of `training` in config.json, which says what a model learnt from and how."""

    model_config = ConfigDict(extra="ignore")

    config: dict[str, Any] = {}
    data: list[DataRow] | None = None
    huesong: str = ""
    metres: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = None
    metrics: dict[str, Any] = {}


@dataclass
class Model:
    """A loaded model folder: network and critic as arrays."""

    network: Decoder
    critic: Hearing
    vocabulary: Vocabulary
    grammar: Grammar
    config: dict[str, Any]
    folder: Path

    @property
    def metres(self) -> list[tuple[int, int]]:
        """Metres that it has learnt: those of at least RARE of the bars of its training music, the commonest first.

        Of a folder that does not say, written before it was asked: all that the vocabulary has tokens for.
        """
        learnt, known = self.config.get("training", {}).get("metres"), self.grammar.table.metres
        if not isinstance(learnt, dict):
            return known
        shares = {metre: float(learnt.get("/".join(map(str, metre)), 0)) for metre in known}
        return sorted((m for m in known if shares[m] >= RARE), key=lambda metre: -shares[metre]) or known


@dataclass
class Modules:
    """A model of PyTorch: what is trained, and what reads many pieces at once; `folder` as of `Model`."""

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

    def player(self) -> Model:
        """The model that composes with these weights, as they are now."""
        network, critic = Decoder.of(self.network), Hearing.of(self.critic)
        return Model(network, critic, self.vocabulary, self.grammar, self.config, self.folder)


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
        label: artifacts of the label stage: the piece labeller and, if there are any, the certainty of readings and the
            rated pictures' names are copied; None = without.
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
        for name in (contracts.PICTURE_CERTAINTY, contracts.PICTURE_NAMES):
            if (label / name).is_file():
                shutil.copyfile(label / name, folder / name)
    digest = Vocabulary.load(folder / contracts.VOCABULARY).digest
    for name, module in ((contracts.MODEL_WEIGHTS, network), (contracts.CRITIC_WEIGHTS, critic)):
        save_file(arrays_of(module, half), folder / name, metadata={VOCABULARY_KEY: digest})
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


def load_model(folder: Path) -> Model:
    """Load a model folder of this or an older format, after checking every file's digest.

    Raises:
        UserError: no model folder, another format, a missing, damaged or foreign file.
    """
    with as_damage(folder):
        return _loaded(folder)


def load_modules(folder: Path, device: str | torch.device = "cpu") -> Modules:
    """Load a model folder for PyTorch: network and critic in evaluation mode, float32, on one device, frozen.

    Raises:
        UserError: as `load_model`, which looks at it first.
    """
    model = load_model(folder)
    import torch

    from huesong.model.critic import Critic
    from huesong.model.network import HuesongNetwork

    bars, size, own = BarTokens.of(model.vocabulary), model.vocabulary.size, model.network
    with torch.random.fork_rng(devices=[]):  # weights of the files take the place of the first random ones
        network = HuesongNetwork(own.config, size, own.picture_shape, bars)
        critic = Critic(model.critic.config, size, model.grammar.table.heads_V)
    for module, name in ((network, WEIGHTS[model.config["format"]]), (critic, contracts.CRITIC_WEIGHTS)):
        module.load_state_dict({key: torch.from_numpy(array) for key, array in load_file(folder / name).items()})
    network.to(device).eval().requires_grad_(False)
    critic.to(device).freeze()
    return Modules(network, critic, model.vocabulary, model.grammar, model.config, folder)


def _loaded(folder: Path) -> Model:
    config = _read_config(folder)
    weights = WEIGHTS[config["format"]]
    _check_files(folder, config["files"], (weights, *REQUIRED))
    vocabulary = Vocabulary.load(folder / contracts.VOCABULARY)
    path = folder / contracts.MODEL_CONFIG
    try:
        size, digest = config["vocabulary"]["size"], config["vocabulary"]["digest"]
        picture = PictureShape(**config["picture"])
        network_config = settings_of(NetworkConfig, OLDER_NETWORK | config["network"], path, "network")
        critic_config = settings_of(CriticConfig, config["critic"], path, "critic")
        settings_of(Remembered, config.get("training", {}), path, "training")
    except (KeyError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())
        raise UserError(f"{path} does not describe a model ({detail}): {REMEDY}") from error
    if (vocabulary.size, vocabulary.digest) != (size, digest):
        raise UserError(f"{folder / contracts.VOCABULARY} is not the vocabulary this model was trained on: {REMEDY}")
    check_settings(folder, size, picture)
    grammar = Grammar(vocabulary)
    tensors = Tensors.of_file(folder / weights), Tensors.of_file(folder / contracts.CRITIC_WEIGHTS)
    network = Decoder(tensors[0], network_config, size, picture, BarTokens.of(vocabulary))
    critic = Hearing(tensors[1], critic_config, size, grammar.table.heads_V)
    for each in tensors:
        each.finish(digest)
    return Model(network, critic, vocabulary, grammar, config, folder)


def settings_of(kind: type[Settings], value: object, path: Path, key: str) -> Settings:
    """A section of config.json as typed settings.

    Raises:
        UserError: names the value that makes no sense.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise UserError(
            f"{describe(error, path, kind)}: {path.name} does not describe a model ({key}): {REMEDY}"
        ) from error


def check_settings(folder: Path, size: object, picture: PictureShape) -> None:
    """Hold what is not typed settings of huesong's own to sane values.

    Raises:
        UserError: names the file and the value.
    """
    where = folder / contracts.MODEL_CONFIG
    numbers = {"vocabulary.size": size, **{f"picture.{key}": value for key, value in asdict(picture).items()}}
    if numbers.pop("picture.kind") not in ("features", "pixels"):
        raise UserError(f"{where} does not describe a model (picture.kind = {picture.kind!r}): {REMEDY}")
    for key, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 2**16:
            raise UserError(f"{where} does not describe a model ({key} = {value!r}): {REMEDY}")
    tokenizer = folder / contracts.TOKENIZER
    found = read_document(tokenizer)
    config = found.get("config", {}) if isinstance(found, dict) else None
    if not isinstance(config, dict):
        raise UserError(f"{tokenizer} is damaged (it has no settings): {REMEDY}")
    check_numbers(tokenizer, config)
    for key in ("beat_res", "beat_res_rest"):
        steps = config.get(key, {})
        try:
            total = sum((int(k.split("_")[1]) - int(k.split("_")[0])) * int(v) for k, v in steps.items())
        except (AttributeError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{tokenizer} is damaged (config.{key}): {REMEDY}") from error
        if not 0 <= total <= MOST_STEPS:
            raise UserError(f"{tokenizer} is damaged (config.{key} makes {total} durations): {REMEDY}")
    for path in sorted((folder / contracts.ENCODER).glob("*.json")):
        check_numbers(path, read_document(path))


def check_numbers(path: Path, value: Any, key: str = "") -> None:
    """Refuse numbers beyond MOST_NUMBER anywhere in a JSON value."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            check_numbers(path, item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, int | float) and not -MOST_NUMBER <= value <= MOST_NUMBER:  # nan as well
        raise UserError(f"{path} is damaged ({key} = {str(value)[:30]}): {REMEDY}")


def read_document(path: Path) -> Any:
    """A JSON file of a model folder.

    Raises:
        UserError: it is missing, too large, or no JSON.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no ordinary file: {REMEDY}")
        if path.stat().st_size > MOST_TEXT:
            raise UserError(f"{path} has {path.stat().st_size:,} bytes, more than {MOST_TEXT:,}: {REMEDY}")
        return json.loads(path.read_text(encoding="utf-8"))
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())[:200]}): {REMEDY}") from error


@contextlib.contextmanager
def as_damage(folder: Path) -> Iterator[None]:
    """What libraries raise on content that is no sound model, as the user's one line: a model folder is data.

    Raises:
        UserError: in place of any exception, and of the panics of libraries written in Rust.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"{folder} is no sound model ({type(error).__name__}: {detail}): {REMEDY}") from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / contracts.MODEL_CONFIG
    if not path.is_file():
        raise UserError(f"{folder} is not a model folder ({contracts.MODEL_CONFIG} is missing): {REMEDY}")
    config = read_document(path)
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
    """Every file that is read is listed, lies in the folder, and has its digest."""
    encoder = sorted(path for path in (folder / contracts.ENCODER).rglob("*") if not path.is_dir())
    names = (
        contracts.PIECE_LABELLER, contracts.OLD_PIECE_LABELLER, contracts.PICTURE_CERTAINTY, contracts.PICTURE_NAMES,
    )  # fmt: skip
    others = (folder / name for name in names)
    read = [*encoder, *(path for path in others if path.exists())]
    for name in (*required, *(path.relative_to(folder).as_posix() for path in read), *files):
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise UserError(f"{folder / contracts.MODEL_CONFIG} names a file outside the model folder: {name!r}")
        if name not in files:
            raise UserError(f"{folder / contracts.MODEL_CONFIG} does not list {name}: {REMEDY}")
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing: {REMEDY}")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} has more than {MOST_BYTES // 2**30} GiB: {REMEDY}")
        if sha256(path) != files[name]:
            raise UserError(f"{path} is damaged (its SHA-256 is not the one in {contracts.MODEL_CONFIG}): {REMEDY}")
