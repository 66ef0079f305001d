"""Frozen vision backbones of transformers, from a local folder or the hub: loading, saving, feature maps.

Shapes: N pictures, H = W side in pixels, h = w side of the feature map, C channels.
"""

from __future__ import annotations

import csv
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from huesong.runtime.errors import UserError

if TYPE_CHECKING:
    import torch

KNOWN = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "builtin")
"""Encoders that are neither a folder nor on the hub."""
Triple = tuple[float, float, float]
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
CLIP_MEAN, CLIP_SD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_NORMALISATION: dict[str, tuple[Triple, Triple]] = {
    "clip": (CLIP_MEAN, CLIP_SD),
    **dict.fromkeys(("mobilenet_v1", "mobilenet_v2", "vit", "beit", "siglip"), (HALF, HALF)),
}
"""Mean and standard deviation a channel by model type, where preprocessor_config.json is missing; else ImageNet's."""
_VISION_PART = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel"}  # siglip2 checkpoints of one size, too
"""Model types whose AutoModel would want text as well."""


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            "this picture encoder needs the transformers package: pip install 'huesong[backbones]'"
        ) from error
    transformers.utils.logging.disable_progress_bar()
    # A hub that is out of reach is told of once, in the end, not at each of its six tries.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return transformers


def local_backbone(folder: Path) -> Any:
    """The backbone that save_pretrained left in `folder`; the network is never asked."""
    return _pretrained(str(folder), _model_type(folder), local=True)


def image_and_text(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """A model of pictures and texts (CLIP, SigLIP), its tokenizer and its preprocessor's settings, from a folder or the hub.

    Raises:
        UserError: no such model, or it knows no texts.
    """
    folder = Path(name)
    local = folder.is_dir()
    if not local:
        check_hub_name(name)
    transformers = _transformers()
    from huggingface_hub.errors import HFValidationError

    try:
        model_type = _model_type(folder) if local else transformers.AutoConfig.from_pretrained(name).model_type
        if model_type not in _VISION_PART:
            known = ", ".join(sorted(_VISION_PART))
            raise UserError(f"{name} is of type {model_type}, which knows no texts: give one of {known}")
        model = _pretrained(name, model_type, local, whole=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, local_files_only=local)
        own = preprocessor_config(folder) if local else _hub_preprocessor(name)
    except (OSError, ValueError, KeyError, ImportError, HFValidationError) as error:
        if local:
            detail = " ".join(str(error).split())[:160]
            raise UserError(f"{name}: cannot load its tokenizer ({detail}): save model and tokenizer again") from error
        raise _hub_error(name, error) from error
    return model, tokenizer, own


def _model_type(folder: Path) -> str:
    try:
        model_type = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except FileNotFoundError:
        raise UserError(f"{folder} holds no config.json: not a folder of transformers weights") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'} is damaged ({error}): download the backbone again") from error
    if not (folder / "model.safetensors").exists() and not (folder / "model.safetensors.index.json").exists():
        raise UserError(
            f"{folder} holds no model.safetensors: save the backbone with save_pretrained (no pickle is read)"
        )
    return model_type


def hub_backbone(name: str) -> tuple[Any, dict[str, Any]]:
    """The backbone of that name on the hub, and its preprocessor's settings."""
    check_hub_name(name)
    transformers = _transformers()
    from huggingface_hub.errors import HFValidationError

    try:
        model_type = transformers.AutoConfig.from_pretrained(name).model_type
        return _pretrained(name, model_type, local=False), _hub_preprocessor(name)
    except (OSError, ValueError, HFValidationError) as error:
        raise _hub_error(name, error) from error


def check_hub_name(name: str) -> None:
    """Refuse at once, without asking the hub, what cannot be the name of a model there.

    Raises:
        UserError: it is not `owner/name`.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII) or name.startswith((".", "-", "~")):
        raise UserError(
            f"encoder {name!r}: no such folder, and not a hub name such as openai/clip-vit-base-patch32 (owner/name); "
            f"known without either: {', '.join(KNOWN)}"
        )


def _hub_preprocessor(name: str) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return preprocessor_config(Path(hf_hub_download(name, "preprocessor_config.json")).parent)
    except EntryNotFoundError:
        return {}


def _hub_error(name: str, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    return UserError(
        f"encoder {name!r}: not a folder here, and {_trouble(error)}, or give a local folder or {KNOWN[-1]}"
    )


def _trouble(error: BaseException) -> str:
    """What the hub said, and the remedy; transformers wraps it in pages of advice, so its cause is asked first."""
    chain, seen = [error], error
    while (cause := seen.__cause__ or seen.__context__) is not None and cause not in chain:
        chain.append(cause)
        seen = cause
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    if "GatedRepoError" in kinds:
        return "the hub gives that model to those alone who were let in: log in with `hf auth login`"
    if "RepositoryNotFoundError" in kinds:
        return "the hub has no public model of that name: check the name"
    if kinds & {"ConnectionError", "TransportError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "TimeoutError"}:
        return "the hub cannot be reached: check the network and the name"
    first = str(error).strip().split("\n")[0].split(". ")[0].rstrip(".:")
    return f"the hub gave no such vision backbone ({first}): check the name and the network"


def _pretrained(source: str, model_type: str, local: bool, whole: bool = False) -> Any:
    """The backbone in evaluation mode, float32. Never pickled weights, never foreign code; `local`: never the network.

    `whole`: the part that reads texts, too.
    """
    transformers = _transformers()
    import torch
    from safetensors import SafetensorError

    loader = transformers.AutoModel if whole else getattr(transformers, _VISION_PART.get(model_type, "AutoModel"))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # for weights that are not in the file, such as an unused pooling layer's
            backbone, found = loader.from_pretrained(
                source, local_files_only=local, use_safetensors=True, dtype="float32", output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        if not local:
            raise _hub_error(source, error) from error
        detail = " ".join(str(error).split())[:200]
        raise UserError(
            f"{source}: cannot load this backbone ({detail}): save it again with save_pretrained"
        ) from error
    missing = sorted(key for key in found["missing_keys"] if "pooler" not in key)
    if missing:
        raise UserError(f"{source}: {len(missing)} weights are missing, such as {missing[0]}: save the backbone again")
    if not whole and backbone.main_input_name != "pixel_values":
        raise UserError(
            f"{source}: {type(backbone).__name__} reads {backbone.main_input_name}, it is no vision backbone"
        )
    return backbone.eval().requires_grad_(False)


def save_pretrained(backbone: Any, folder: Path) -> None:
    """Write config.json and model.safetensors, readable by all."""
    backbone.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # written as 0600, which other users of a server could not read


def feature_map(backbone: Any, pixels_N3HW: torch.Tensor) -> torch.Tensor:
    """The last feature map [N, C, h, w]; a transformer's patch tokens laid out as the grid they came from."""
    try:
        last = backbone(pixel_values=pixels_N3HW).last_hidden_state
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"{type(backbone).__name__} is no vision backbone with a feature map ({detail})") from error
    if last.dim() == 4:
        return last
    # Class and register tokens, few, stand before the patches; the picture is square, so the patches are a square too.
    side = int(np.sqrt(last.shape[1]))
    return last[:, last.shape[1] - side * side :].transpose(1, 2).unflatten(2, (side, side))


def preprocessor_config(folder: Path) -> dict[str, Any]:
    """How the backbone wants its pictures, as far as its folder says."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if path.exists():
            try:
                raw = json.loads(path.read_text(encoding="utf-8"))
                return dict(raw.get("image_processor", raw))
            except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
                raise UserError(f"{path} is damaged ({error}): download the backbone again") from error
    return {}


def input_of(config: dict[str, Any], own: dict[str, Any]) -> tuple[int, Triple, Triple]:
    """Side in pixels, mean and sd of pixels in [0, 1] that the backbone was trained with."""
    vision = {**config, **config.get("vision_config", {})}
    wanted = own.get("crop_size") if own.get("do_center_crop", "crop_size" in own) else None
    side = _side(wanted or own.get("size") or vision.get("image_size") or 224)
    mean, sd = _NORMALISATION.get(str(config.get("model_type")), (IMAGENET_MEAN, IMAGENET_SD))
    mean, sd = _triple(own.get("image_mean"), mean), _triple(own.get("image_std"), sd)
    return side, mean, sd


def _triple(value: Any, default: Triple) -> Triple:
    if value is None:
        return default
    first, second, third = (float(v) for v in value)
    return first, second, third


def _side(size: Any) -> int:
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or next(iter(size.values()))
    if isinstance(size, list | tuple):
        size = size[0]
    return int(size)


def convert_mobilenet(npz: Path, key_map: Path, out: Path) -> None:
    """Turn MobileNetV2 1.0 weights with folded batch norm into a folder that `load_encoder` and transformers read.

    Args:
        npz: float32 arrays `<torchvision convolution name>.weight` and `.bias`.
        key_map: CSV with columns npz_key, hf_conv, hf_bn: where each convolution and its batch norm stand in
            transformers' MobileNetV2ForImageClassification.
        out: folder to write: config.json, model.safetensors, preprocessor_config.json.

    Raises:
        UserError: a missing file, or weights that do not fill the model exactly.
    """
    transformers = _transformers()
    import torch

    model = transformers.MobileNetV2Model(transformers.MobileNetV2Config(tf_padding=True)).eval()
    eps = model.config.layer_norm_eps
    state: dict[str, torch.Tensor] = {}
    try:
        with np.load(npz, allow_pickle=False) as arrays, key_map.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                if not row["hf_bn"]:
                    continue  # the classifier
                conv, norm = (row[key].removeprefix("mobilenet_v2.") for key in ("hf_conv", "hf_bn"))
                weight, bias = (torch.from_numpy(arrays[f"{row['npz_key']}.{part}"]) for part in ("weight", "bias"))
                state[f"{conv}.weight"] = weight
                # The norm is folded in: all that is left to do is to add the bias (it divides by sqrt(var + eps)).
                state[f"{norm}.bias"] = bias
                state[f"{norm}.weight"] = torch.full_like(bias, float(np.sqrt(1.0 + eps)))
                state[f"{norm}.running_mean"] = torch.zeros_like(bias)
                state[f"{norm}.running_var"] = torch.ones_like(bias)
                state[f"{norm}.num_batches_tracked"] = torch.zeros((), dtype=torch.long)
        model.load_state_dict(state, strict=True)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"{npz} with {key_map} does not fill MobileNetV2 ({detail}): check both files") from error
    out.mkdir(parents=True, exist_ok=True)
    save_pretrained(model, out)
    side = {"height": 224, "width": 224}
    own = {"size": side, "do_center_crop": False, "image_mean": HALF, "image_std": HALF, "rescale_factor": 1 / 255}
    (out / "preprocessor_config.json").write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")
