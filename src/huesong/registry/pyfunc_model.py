"""The registered model as MLflow runs it (a model *from code*: MLflow keeps this very file beside the model folder)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd  # at run time: MLflow reads the type hint of `predict`
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

EMOTIONS = ("requested", "predicted", "obtained")


class HuesongModel(PythonModel):
    """Pictures and emotions in, MIDI out; one row a piece."""

    def load_context(self, context: Any) -> None:
        """Load the model folder once; its digests are checked."""
        from huesong.compose import Composer

        self.composer = Composer(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Compose a piece for every row.

        Args:
            context: MLflow's.
            model_input: columns `picture` (an image file as base64 text or bytes), `valence`, `arousal` (-1 to 1),
                `seconds`, `seed`; each may be missing or null. A row without a picture needs both emotions; without
                emotions the picture's own are taken.
            params: temperature, top_p, guidance.

        Returns:
            One row a piece: `midi` (base64 of a MIDI file) and the valence and arousal requested, predicted from the
            picture (null without one) and obtained.

        Raises:
            UserError (a ValueError): names the row and what is wrong with it.
        """
        raise NotImplementedError


set_model(HuesongModel())
