"""A picture in, music out: for the library, the console, the registered model and the components."""

from huesong.compose.composer import Composer, compose
from huesong.compose.piece import Piece
from huesong.model.requests import Request, sampling_config

Prompt = Request
"""Its name in version 0.1.0: the code inside models that were registered then asks for it here."""

__all__ = ["Composer", "Piece", "Prompt", "Request", "compose", "sampling_config"]
