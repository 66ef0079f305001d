"""Models on the Hugging Face Hub: a model folder from `user/name`, and a folder pushed there with its card (huggingface_hub)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huesong import __version__, contracts
from huesong.register.shipped import SUMS, licence_of, named_model
from huesong.runtime.errors import UserError, redacted
from huesong.runtime.files import read_json

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""As the hub names models."""
INSTALL = "models of the hub need one more package: `pip install 'huesong[hub]'`"
KEPT = ("*.safetensors", "*.json", contracts.MODEL_CARD, SUMS)
"""Files that a model is made of; nothing else is fetched or pushed."""
FIGURES = {
    "picture_val_valence_ccc": "valence of pictures (validation)", "picture_val_arousal_ccc": "arousal of pictures (validation)",
    "critic_val_valence_ccc": "valence of music (critic, validation)",
    "critic_val_arousal_ccc": "arousal of music (critic, validation)",
}  # fmt: skip
"""Figures of training that a card tells as results."""


def is_name(model: str) -> bool:
    """Whether a model that is no path here may be one of the hub."""
    return NAME.fullmatch(model) is not None and not Path(model).exists()


def fetched(name: str) -> Path:
    """The folder of a model of the hub, from the cache if it is there (HF_ENDPOINT, HF_HOME and HF_TOKEN as everywhere).

    Raises:
        UserError: huggingface_hub is missing, the hub has no such model, is out of reach, or the model is no huesong model.
    """
    hub = _hub()
    try:
        folder = Path(hub.snapshot_download(name, allow_patterns=list(KEPT)))
    except _errors() as error:
        raise UserError(
            f"{name} is no folder here, and was not found on the hub ({_first_line(error)}): check the name, the connection, "
            "and HF_TOKEN if it is private"
        ) from error
    if not (folder / contracts.MODEL_CONFIG).is_file():
        raise UserError(f"{name} on the hub is no model of huesong: it has no {contracts.MODEL_CONFIG}")
    return folder


def model_of(name: str | None) -> tuple[Path, str]:
    """The folder of a model, as `named_model` takes it or of the hub, and what to call it (UserError: there is none)."""
    if name is not None and is_name(name):
        return fetched(name), name
    return named_model(name)


def push(folder: Path, name: str, private: bool = False) -> str:
    """Push a model folder to the hub as `name`, with metadata in its card; made there if need be. Returns its address.

    Raises:
        UserError: another kind of name, a training set without a stated licence, huggingface_hub is missing, or the hub
            refuses.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"{name} is no name of the hub: give user/name")
    config = read_json(folder / contracts.MODEL_CONFIG, "huesong train")
    for row in config.get("training", {}).get("data", []):
        if row.get("licence", "").partition(":")[0].strip().lower() in contracts.UNSTATED_LICENCES:
            raise UserError(f"{folder} was trained on {row['source']}, whose licence is not stated: train without it")
    hub = _hub()
    card = card_of(folder, name, config)
    try:
        api = hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and any(path.match(one) for one in KEPT)]
        changes = [
            hub.CommitOperationAdd(path.relative_to(folder).as_posix(), str(path))
            for path in files
            if path.name not in (contracts.MODEL_CARD, SUMS)  # the card is another one, so the sums would not hold
        ]
        changes.append(hub.CommitOperationAdd(contracts.MODEL_CARD, card.encode()))
        done = api.create_commit(name, changes, commit_message=f"huesong {__version__}")
    except _errors() as error:
        raise UserError(
            f"{name} was not pushed ({_first_line(error)}): check the name, the connection and HF_TOKEN"
        ) from error
    return str(done.commit_url)


def card_of(folder: Path, name: str, config: Mapping[str, Any]) -> str:
    """The folder's card, or a short one, with the metadata that the hub reads: library, task, licence, data, figures."""
    hub = _hub()
    training = config.get("training", {})
    metrics = {key: training.get("metrics", {}).get(key) for key in FIGURES}
    results = [
        hub.EvalResult(
            task_type="other", task_name=FIGURES[key], dataset_type="validation", dataset_name="validation groups",
            metric_type="ccc", metric_name="concordance (CCC)", metric_value=round(float(value), 4),
        )
        for key, value in metrics.items()
        if value is not None
    ]  # fmt: skip
    data = hub.ModelCardData(
        license=licence_of(config)[0], library_name="huesong", pipeline_tag="other", language=None,
        tags=["music-generation", "midi", "emotion", "image-to-music"],
        datasets=sorted({row["source"] for row in training.get("data", [])}) or None,
        model_name=name.partition("/")[2] if results else None, eval_results=results or None,
    )  # fmt: skip
    own = folder / contracts.MODEL_CARD
    text = own.read_text(encoding="utf-8") if own.is_file() else f"# {name}\n\nA model of huesong {__version__}.\n"
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    use = f'    from huesong import Composer\n    Composer.load("{name}").compose("photo.jpg").save("photo.mp3")\n'
    return f"---\n{data.to_yaml()}\n---\n{body}\n## Use\n\n{use}"


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(INSTALL) from None
    return huggingface_hub


def _errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import OfflineModeIsEnabled

    return HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError


def _first_line(error: Exception) -> str:
    return redacted((str(error).strip() or type(error).__name__).splitlines()[0])
