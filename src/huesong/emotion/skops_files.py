"""Labellers of huesong 0.1: skops files of scikit-learn's objects, which only these were written with."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from huesong.emotion.boosting import MOST_BYTES
from huesong.emotion.kernel import KernelVA
from huesong.emotion.labellers import PieceLabeller
from huesong.emotion.trees import Forest
from huesong.runtime.errors import UserError

TRUSTED_TYPES = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
"""The one class in such a file that skops does not know as harmless: the nodes of a tree."""
REMEDY = "train again with `huesong train`, or copy the whole model folder again"


def load_skops(path: Path) -> PieceLabeller:
    """The labeller of a model folder of huesong 0.1.

    Raises:
        UserError: a damaged file, or types that a labeller does not have; skops is not installed.
    """
    try:
        import skops.io
    except ImportError:
        raise UserError(f"{path} was written by huesong 0.1, to read it needs skops: pip install skops") from None
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MOST_BYTES:
            raise UserError(f"{path} unpacks to {unpacked:,} bytes, more than {MOST_BYTES:,}: {REMEDY}")
        found = skops.io.load(path, trusted=TRUSTED_TYPES)
        if found["kind"] != PieceLabeller.KIND or found["format"] not in (1, 2):
            raise ValueError("no labeller of music")
        models = [plain(model) for member in found["members"] for model in member]
        spread = [plain(model) for model in found["spread"]]
        kernel = kernel_of(found["kernel"]) if found.get("kernel") else None
        made = PieceLabeller(tuple(found["names"]), Forest.of(models), Forest.of(spread), found["spread_scale"], kernel)
        made.check()
    except UserError:
        raise
    except Exception as error:  # whatever a library says of a file that is none of ours
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged ({type(error).__name__}: {detail}): {REMEDY}") from error
    return made


def plain(model: Any) -> Any:
    """A booster of numbers alone, as a labeller has; ValueError if it is another."""
    if model._preprocessor is not None or model.is_categorical_ is not None:
        raise ValueError("a booster of categories")
    return model


def kernel_of(found: dict[str, Any]) -> KernelVA:
    """The kernel machine of the objects that stood in the file."""
    scaler, ridge = found["scaler"], found["ridge"]
    return KernelVA(scaler.mean_, scaler.scale_, ridge.X_fit_, ridge.dual_coef_, found["centre"])
