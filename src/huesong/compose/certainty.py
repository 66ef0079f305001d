"""How sure a model is of what it reads in a picture: what its folder knows of readings, for one picture."""

from __future__ import annotations

import numpy as np

from huesong import contracts
from huesong.emotion.certainty import Certainty, Distance, Sureness
from huesong.emotion.kernel import PictureKernelVA
from huesong.model.decoding.pictures import KernelHead
from huesong.model.folder import Model


class ReadingCertainty:
    """Of a model whose head is a kernel ridge on frozen features."""

    def __init__(self, head: KernelHead, certainty: Certainty) -> None:
        self._head, self._certainty = head, certainty
        self._distance = Distance(head.known_KC, PictureKernelVA.PENALTY)

    @classmethod
    def of_model(cls, model: Model) -> ReadingCertainty | None:
        """None where the folder does not say how sure its readings are (pixels, few ratings, version 0.1).

        Raises:
            UserError: what the folder says is damaged.
        """
        path, head = model.folder / contracts.PICTURE_CERTAINTY, model.network.picture.va_head
        if not path.is_file() or not isinstance(head, KernelHead):
            return None
        return cls(head, Certainty.load(path))

    def of(self, row_SC: np.ndarray) -> tuple[Sureness, Sureness]:
        """How sure the reading of a picture with these features is, in valence and in arousal."""
        pooled_1C = np.asarray(row_SC, dtype=np.float32).mean(axis=0)[None]
        read_2, u_1C = self._head(pooled_1C)[0], self._head.standardised(pooled_1C)
        return self._certainty.of(read_2, float(self._distance.variance(u_1C)[0]))
