"""The labellers of another model folder, such as the one that comes with huesong, for data that nobody rated.

Shapes: N pictures, S image tokens, C channels, K rated pictures that the folder's head keeps.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from huesong import contracts
from huesong.emotion.kernel import PictureKernelVA
from huesong.emotion.labellers import PieceLabeller
from huesong.pictures.encoders import read_settings
from huesong.runtime.errors import UserError
from huesong.runtime.files import read_json, require, sha256

MADE_BY = "huesong export"
HEAD = "va_head."
PLACE = f"picture.{HEAD}"
"""What the head's names begin with, in the state of the image encoder and in that of the whole network."""
BUFFERS = ("mean_C", "scale_C", "known_KC", "dual_K2", "bias_2")
"""Names of the head's buffers, in the order of PictureKernelVA's fields."""


@dataclass(frozen=True)
class LentLabellers:
    """What reads music and pictures in the model folder `folder`."""

    folder: Path

    @classmethod
    def of(cls, name: str) -> LentLabellers | None:
        """Those of the folder `label.labels_from` names; None where it names none.

        Raises:
            UserError: no model folder, or a file that is not the one it was saved with.
        """
        if not name:
            return None
        folder = require(Path(name), MADE_BY)
        files = read_json(folder / contracts.MODEL_CONFIG, MADE_BY).get("files", {})
        for file in (contracts.MODEL_WEIGHTS, contracts.PIECE_LABELLER):
            if files.get(file) != sha256(require(folder / file, MADE_BY)):
                raise UserError(
                    f"{folder / file} is damaged (its digest is another): copy the whole model folder again"
                )
        return cls(folder)

    def pieces(self, out: Path) -> PieceLabeller:
        """The labeller of music, copied to `out`, where training and model find it."""
        shutil.copyfile(self.folder / contracts.PIECE_LABELLER, out)
        return PieceLabeller.load(out)

    def head(self, preprocess: Path) -> dict[str, np.ndarray]:
        """The head that reads pictures, as buffers of the image encoder by name, float32.

        Raises:
            UserError: the pictures were preprocessed with another encoder, or the folder's model has no such head.
        """
        from safetensors.numpy import load_file

        encoder, own = self.folder / contracts.ENCODER, preprocess / contracts.ENCODER
        if not same_encoder(require(encoder, MADE_BY), require(own, "huesong preprocess")):
            settings = read_settings(encoder)
            raise UserError(
                f"{self.folder} reads pictures in its own way: set preprocess.encoder to {encoder}, picture_grid to "
                f"{settings.grid} and picture_scales to {settings.scales} to let it label them"
            )
        weights = load_file(self.folder / contracts.MODEL_WEIGHTS)
        found = {HEAD + name.removeprefix(PLACE): value for name, value in weights.items() if name.startswith(PLACE)}
        if f"{HEAD}known_KC" not in found:
            raise UserError(f"{self.folder} was trained on no rated pictures: label.labels_from needs a model that was")
        return {name: value.astype(np.float32) for name, value in found.items()}


def same_encoder(one: Path, other: Path) -> bool:
    """Whether two encoder folders see the same in a picture; weights that were shortened to float16 are the same."""
    from safetensors.numpy import load_file

    says = [replace(read_settings(folder), name="") for folder in (one, other)]  # the name is where they came from
    if says[0] == says[1] and says[0].weights:  # a package's, of which version 0.1 saved a copy
        return True
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors")) for folder in (one, other)]
    if says[0] != says[1] or files[0] != files[1]:
        return False
    for name in files[0]:
        left, right = (load_file(folder / name) for folder in (one, other))
        if left.keys() != right.keys() or any(
            not np.array_equal(left[key].astype(np.float16), right[key].astype(np.float16)) for key in left
        ):
            return False
    return True


def read_pictures(head: dict[str, np.ndarray], pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Valence and arousal [N, 2] of pictures [N, S, C], as model.image_encoder.KernelRidgeHead, and the error's sd [2].

    The error is that of leaving each kept picture out, in closed form: dual_k / (K + penalty)^-1_kk (Rasmussen and
    Williams 2006, section 5.4.2), which is exact where all pictures weigh the same.
    """
    reader = PictureKernelVA(*(head[f"{HEAD}{name}"].astype(np.float64) for name in BUFFERS))
    pooled = np.stack([np.asarray(row, dtype=np.float64).mean(axis=0) for row in pictures])
    known = reader.known_KF
    square = np.square(known).sum(axis=1)
    kernel = np.exp(-np.maximum(square[:, None] + square - 2 * known @ known.T, 0) / known.shape[1])
    inverse = np.linalg.inv(kernel + PictureKernelVA.PENALTY * np.eye(len(known)))
    error = reader.dual_K2 / np.diag(inverse)[:, None]
    return np.clip(reader.predict(pooled), -1.0, 1.0), np.sqrt(np.square(error).mean(axis=0))
