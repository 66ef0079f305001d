"""The weights of a module as arrays: each is asked for by name and shape, and none may be left over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from huesong.runtime.errors import UserError

REMEDY = "train again with `huesong train`, or copy the whole model folder again"
VOCABULARY_KEY = "vocabulary"
"""Metadata of the weight files: digest of the vocabulary they were trained on, since another may have the same size."""


class Tensors:
    """Weights of one module, float32; made of a file (`of_file`) or of arrays (`of_arrays`)."""

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], np.ndarray], metadata: Mapping[str, str],
        where: object,
    ) -> None:  # fmt: skip
        self._shapes, self._read, self._metadata, self._where = shapes, read, metadata, where
        self._left = set(shapes)

    @classmethod
    def of_file(cls, path: Path) -> Tensors:
        """Of a safetensors file, whose head alone is read before a tensor is asked for.

        Raises:
            UserError: a damaged file.
        """
        try:
            stream: Any = safe_open(path, "np")
            shapes = {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118
            return cls(shapes, stream.get_tensor, stream.metadata() or {}, path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}): {REMEDY}") from error

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Tensors:
        """Of arrays by name; they are copied when they are asked for."""
        return cls({name: array.shape for name, array in arrays.items()}, arrays.__getitem__, {}, "the network")

    def take(self, name: str, *shape: int) -> np.ndarray:
        """The tensor of that name and shape.

        Raises:
            UserError: there is none, or it holds values that are no numbers.
        """
        if name not in self._left or self._shapes[name] != shape:
            raise UserError(f"{self._where} holds weights of another architecture ('{name}' does not fit): {REMEDY}")
        self._left.discard(name)
        try:
            found: np.ndarray = self._read(name).astype(np.float32)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{self._where} is damaged ({error}): {REMEDY}") from error
        if not np.isfinite(found).all():
            raise UserError(f"{self._where} holds values that are no numbers ('{name}'): {REMEDY}")
        return found

    def transposed(self, name: str, after: int, before: int) -> np.ndarray:
        """The weight [before, after] of a linear layer, contiguous, as small matrices are multiplied fastest."""
        return np.ascontiguousarray(self.take(f"{name}.weight", after, before).T)

    def linear(self, name: str, after: int, before: int) -> tuple[np.ndarray, np.ndarray]:
        """Bias [after] and transposed weight [before, after] of a linear layer."""
        return self.take(f"{name}.bias", after), self.transposed(name, after, before)

    def norm(self, name: str, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of a norm."""
        return self.take(f"{name}.weight", width), self.take(f"{name}.bias", width)

    def finish(self, vocabulary: str | None = None) -> None:
        """Nothing may be left; `vocabulary`: the digest of the one that a file must name.

        Raises:
            UserError: a tensor is left over, or the weights are of another or an unnamed vocabulary.
        """
        if self._left:
            name = min(self._left)
            raise UserError(f"{self._where} holds weights of another architecture ('{name}' does not fit): {REMEDY}")
        if vocabulary is None:
            return
        learnt = self._metadata.get(VOCABULARY_KEY)
        if learnt is None:
            raise UserError(f"{self._where} does not name the vocabulary it was trained on: {REMEDY}")
        if learnt != vocabulary:
            raise UserError(f"{self._where} was trained on another vocabulary: {REMEDY}")


def arrays_of(module: Any, half: bool = False) -> dict[str, np.ndarray]:
    """The state of a module of PyTorch as arrays on the host, as float16 if `half`; they may share its memory."""
    arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in module.state_dict().items()}
    return {name: a.astype(np.float16) if half and a.dtype.kind == "f" else a for name, a in arrays.items()}
