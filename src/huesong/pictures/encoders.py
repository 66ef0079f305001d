"""Picture encoders: what the network gets to see of a picture.

`builtin` passes small pixels on to the CNN that is trained with the model. Any other name is a frozen CNN whose feature
map is pooled to grid x grid image tokens: the project's own student (student.py), from the folder that its distillation
wrote, `efficientnet_lite2` (or 0 or 1; efficientnet_lite.py), whose weights come with a package, so that encoder.json
names them and no folder holds them, or a vision backbone of transformers (backbones.py), from a local folder or the hub.

The whole picture is squashed to the encoder's square, never cropped: what lies at the border has its part in the mood,
and a mild distortion has none. A CNN may look at it in several sizes, each twice the one before: small things are seen in
the large one, the scene in the small one, and each token is the mean of both.

Shapes: N pictures, H = W side in pixels, S = grid * grid image tokens, C channels.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from huesong import contracts
from huesong.pictures import convolution
from huesong.pictures.backbones import (
    KNOWN,
    Triple,
    feature_map,
    hub_backbone,
    input_of,
    local_backbone,
    preprocessor_config,
    save_pretrained,
)
from huesong.runtime.errors import UserError
from huesong.runtime.files import sha256
from huesong.runtime.workers import one_thread_of_blas

if TYPE_CHECKING:
    import torch

MOST_SIDE = 2560
"""Pixels of a side that an encoder looks at, in its largest size; feature maps of more take gigabytes."""
*PACKAGES, BUILTIN = KNOWN
"""PACKAGES: encoders whose weights a package brings (efficientnet_lite.VARIANTS)."""
PACKAGED = PACKAGES[-1]
ENCODER_FILE = "encoder.json"
FORMAT, NAMED_FORMAT = 1, 2
"""Of encoder.json: where the weights lie beside it or there are none; where it names those of a package."""
SAVED_WEIGHTS = "model.safetensors"

Kind = Literal["pixels", "features"]


@dataclass(frozen=True)
class Settings:
    """All that encoder.json says."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    side: int  # pixels, of the smallest size that is looked at
    grid: int = 0  # 0: pixels
    mean: Triple = (0.0, 0.0, 0.0)  # of pixels in [0, 1]
    sd: Triple = (1.0, 1.0, 1.0)
    scales: int = 1  # sizes that are looked at
    format: int = FORMAT
    weights: str = ""  # SHA-256 of the package's file; empty: format 1


class Encoder:
    """A fixed function from pictures to arrays; make one with `load_encoder` or `Encoder.load`."""

    def __init__(self, settings: Settings, backbone: Any = None, many: bool = False) -> None:
        """`backbone`: what has `blocks` (convolution.py), or a network of transformers; None for pixels.

        `many`: blocks run in PyTorch, which takes half the time for a picture, and a second or two to be imported.
        """
        assert (backbone is None) == (settings.kind == "pixels")
        self.settings, self.many = settings, many
        self._backbone = backbone

    @property
    def name(self) -> str:
        """`builtin`, the hub name, or the name of the local folder it came from."""
        return self.settings.name

    @property
    def kind(self) -> Kind:
        """`pixels` or `features`."""
        return self.settings.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one picture's row: (H, W, 3) pixels or (S, C) features."""
        return self.settings.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 for pixels, float16 for features."""
        return np.dtype(np.uint8 if self.kind == "pixels" else np.float16)

    @property
    def side(self) -> int:
        """Side in pixels of the square a picture is squashed to: the largest size that is looked at."""
        return self.settings.side * 2 ** (self.settings.scales - 1)

    def encode(self, images: Iterable[Image.Image]) -> np.ndarray:
        """RGB pictures of any sizes -> [N, *shape] of `dtype`."""
        squashed = [squash(image, self.side) for image in images]
        return self.encode_pixels(np.stack(squashed) if squashed else np.zeros((0, self.side, self.side, 3), np.uint8))

    def encode_pixels(self, pixels_NHW3: np.ndarray) -> np.ndarray:
        """Squashed pictures uint8 [N, side, side, 3] -> [N, *shape]; by one thread, so that bits depend on no number of cores."""
        assert pixels_NHW3.shape[1:] == (self.side, self.side, 3)
        if self._backbone is None:
            return pixels_NHW3
        if not len(pixels_NHW3):
            return np.zeros((0, *self.shape), dtype=self.dtype)
        # One at a time: on a CPU twice as fast at 448 pixels as eight, whose feature maps do not fit its cache, and a
        # picture's last bits do not depend on what is beside it.
        with one_thread_of_blas(), self._one_thread_of_torch():
            rows_NSC = np.stack([self._features(pixels_HW3) for pixels_HW3 in pixels_NHW3])
        if self.shape and rows_NSC.shape[1:] != self.shape:
            raise UserError(
                f"{ENCODER_FILE} says that {self.name} gives {list(self.shape)} for a picture, but it gives "
                f"{list(rows_NSC.shape[1:])}: copy the whole model folder again"
            )
        return rows_NSC

    @property
    def backbone(self) -> Any:
        """The frozen network; None for pixels."""
        return self._backbone

    @property
    def _plain(self) -> bool:
        """Whether the backbone is made of blocks, not one of transformers."""
        return hasattr(self._backbone, "blocks")

    @contextlib.contextmanager
    def _one_thread_of_torch(self) -> Iterator[None]:
        if self._plain and not self.many:
            yield
            return
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(before)

    @cached_property
    def _map(self) -> Callable[[np.ndarray], np.ndarray]:
        """From normalised pixels [H, W, 3] to the feature map [h, w, C]."""
        if self._plain and not self.many:
            return functools.partial(convolution.run, self._backbone.blocks)
        import torch

        network = convolution.in_torch(self._backbone.blocks) if self._plain else self._transformers

        def mapped(pixels_HW3: np.ndarray) -> np.ndarray:
            map_1Chw = network(torch.from_numpy(pixels_HW3.transpose(2, 0, 1)[None].copy()))
            found_hwC: np.ndarray = map_1Chw[0].permute(1, 2, 0).numpy()
            return found_hwC

        return mapped

    def _transformers(self, pixels_N3HW: torch.Tensor) -> torch.Tensor:
        return feature_map(self._backbone, pixels_N3HW)

    def _features(self, pixels_HW3: np.ndarray) -> np.ndarray:
        mean, sd = (np.array(value, dtype=np.float32) for value in (self.settings.mean, self.settings.sd))
        values = (pixels_HW3.astype(np.float32) / 255.0 - mean) / sd
        tokens_SC = np.zeros((), np.float32)
        for halvings in range(self.settings.scales):
            seen_HW3 = convolution.halved(values, halvings) if halvings else values
            tokens_SC = tokens_SC + convolution.pooled(self._map(seen_HW3), self.settings.grid)
        limit = float(np.finfo(np.float16).max)
        return np.clip(tokens_SC / np.float32(self.settings.scales), -limit, limit).astype(np.float16)

    def save(self, folder: Path) -> None:
        """Write encoder.json and the weights of a backbone that no package brings, so that `load` needs nothing else."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._backbone is not None and not self.settings.weights:
            self._backbone.save(folder) if self._plain else save_pretrained(self._backbone, folder)
        write_settings(self.settings, folder)

    @classmethod
    def load(cls, folder: Path, row: tuple[int, ...] | None = None, many: bool = False) -> Encoder:
        """Read what `save` wrote; `row`: the shape of a picture's row that it must have. `many` as of the encoder.

        Raises:
            UserError: missing, damaged or of another format or shape; or a package that it needs is missing or another one.
        """
        settings = read_settings(folder)
        if row is not None and settings.shape != row:
            raise UserError(
                f"{folder / ENCODER_FILE} gives {list(settings.shape)} for a picture, and the model reads {list(row)}: "
                "copy the whole model folder again"
            )
        if settings.kind == "pixels":
            return cls(settings)
        if settings.weights:
            return cls(settings, _packaged(folder / ENCODER_FILE, settings), many)
        if not (folder / contracts.STUDENT_WEIGHTS).exists():
            return cls(settings, local_backbone(folder))
        from huesong.pictures.student import Student

        return cls(settings, Student.load(folder), many)

    def with_pooling(self, grid: int, scales: int = 1) -> Encoder:
        """The same backbone, its feature maps of `scales` sizes pooled to grid x grid tokens.

        Raises:
            UserError: the backbone takes pictures of one size only.
        """
        settings = replace(self.settings, grid=grid, scales=scales, shape=())
        encoder = Encoder(settings, self._backbone, self.many)
        try:
            probe = encoder.encode([Image.new("RGB", (encoder.side, encoder.side))])
        except UserError as error:
            if scales == 1:
                raise
            raise UserError(f"{error}; if it takes one size only, set preprocess.picture_scales: 1") from error
        return Encoder(replace(settings, shape=probe.shape[1:]), self._backbone, self.many)


def load_encoder(name: str, *, size: int, grid: int, scales: int = 1) -> Encoder:
    """The encoder called `name`, for many pictures.

    Args:
        name: `builtin`, `efficientnet_lite2` (or 0, 1), a local folder that `huesong data distill` or transformers'
            save_pretrained made, `encoder` of a model folder, or a name on the hub.
        size: side in pixels of what `builtin` sees; a backbone brings its own.
        grid: a backbone's feature map is average-pooled to grid x grid tokens.
        scales: sizes in which a backbone looks at a picture: its own, twice that, and so on; the tokens are the means.

    Raises:
        UserError: no such folder or model, not a vision backbone, transformers missing, or the hub is out of reach.
    """
    if name == BUILTIN:
        return Encoder(Settings(BUILTIN, "pixels", (size, size, 3), size))
    folder = Path(name)
    if (folder / ENCODER_FILE).exists() and read_settings(folder).kind == "features":  # a model folder's
        return Encoder.load(folder, many=True).with_pooling(grid, scales)
    if folder.is_dir():
        backbone, own = local_backbone(folder), preprocessor_config(folder)
        name = folder.resolve().name  # not the path: artifacts do not depend on where the weights lay
    elif name in PACKAGES:
        return _packaged_encoder(name).with_pooling(grid, scales)
    else:
        backbone, own = hub_backbone(name)
    side, mean, sd = input_of(backbone.config.to_dict(), own)
    return Encoder(Settings(name, "features", (), side, grid, mean, sd), backbone).with_pooling(grid, scales)


def read_settings(folder: Path) -> Settings:
    """What encoder.json says; where version 0.1 saved a package's weights in `folder`, as if it named them.

    Raises:
        UserError: missing, damaged or of another format.
    """
    path = folder / ENCODER_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] not in (FORMAT, NAMED_FORMAT):
            known = f"{FORMAT} and {NAMED_FORMAT}"
            raise UserError(f"{path} has format {raw['format']}, this version reads {known}: preprocess again")
        settings = Settings(**{**raw, **{key: tuple(raw[key]) for key in ("shape", "mean", "sd")}})
        if settings.kind not in ("pixels", "features"):
            raise KeyError(f"kind {settings.kind!r}")
        for key, most in (("side", MOST_SIDE), ("grid", 64), ("scales", 8)):
            if type(value := getattr(settings, key)) is not int or not (key != "grid") <= value <= most:
                raise KeyError(f"{key} = {value!r}")
        if (settings.format == NAMED_FORMAT) != bool(settings.weights):
            raise KeyError("weights")
        _check_numbers(settings)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `huesong preprocess`, or copy the whole model folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): run `huesong preprocess` again") from error
    if settings.name != PACKAGED or settings.weights or not (folder / SAVED_WEIGHTS).is_file():
        return settings
    from huesong.pictures import efficientnet_lite as lite

    same = sha256(folder / SAVED_WEIGHTS) == lite.SAVED_SHA256
    return replace(settings, format=NAMED_FORMAT, weights=lite.VARIANTS[PACKAGED].sha256) if same else settings


def _check_numbers(settings: Settings) -> None:
    """Refuse (KeyError) a size that takes gigabytes, what is no shape of a row, and what is no mean and deviation of colours."""
    if (side := settings.side * 2 ** max(settings.scales - 1, 0)) > MOST_SIDE:
        raise KeyError(f"pictures of {side} pixels a side")
    shape = settings.shape
    whole = all(type(size) is int and 0 < size <= 2**16 for size in shape)
    if settings.kind == "pixels":
        whole = whole and shape == (settings.side, settings.side, 3)
    else:
        whole = whole and len(shape) == 2 and shape[0] == settings.grid**2
    if not whole:
        raise KeyError(f"shape = {str(shape)[:60]}")
    for key, lowest in (("mean", -1e3), ("sd", 1e-6)):
        values = getattr(settings, key)
        numbers = [value for value in values if type(value) in (int, float) and lowest <= value <= 1e3]
        if len(values) != 3 or len(numbers) != 3:
            raise KeyError(f"{key} = {str(values)[:60]}")


def write_settings(settings: Settings, folder: Path) -> None:
    """Write encoder.json."""
    values = asdict(settings)
    if not values["weights"]:
        del values["weights"]
    (folder / ENCODER_FILE).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _packaged_encoder(name: str) -> Encoder:
    from huesong.pictures import efficientnet_lite as lite

    own = lite.VARIANTS[name]
    settings = Settings(name, "features", (), own.side, 1, lite.MEAN, lite.SD, format=NAMED_FORMAT, weights=own.sha256)
    return Encoder(settings, lite.EfficientNetLite.load(name), many=True)


def _packaged(path: Path, settings: Settings) -> Any:
    """The network whose weights `path`, an encoder.json, names."""
    from huesong.pictures import efficientnet_lite as lite

    if settings.name not in lite.VARIANTS or settings.weights != lite.VARIANTS[settings.name].sha256:
        raise UserError(
            f"{path} names weights of {settings.name!r} that this version does not know (SHA-256 {settings.weights[:12]}...): "
            "install the huesong version that made it"
        )
    try:
        return lite.EfficientNetLite.load(settings.name)
    except UserError as error:
        raise UserError(f"{path} names {settings.name}: {error}") from None


def squash(image: Image.Image, side: int) -> np.ndarray:
    """The whole picture as uint8 [side, side, 3], its aspect ratio given up, downscaling antialiased."""
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
