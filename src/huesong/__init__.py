"""huesong makes music that feels like a picture.

    from huesong import Composer
    piece = Composer.load().compose("photo.jpg", seconds=30)
    piece.save("photo.mp3")

What `__all__` names is public and keeps; everything else may change from version to version.
"""

import importlib
import importlib.machinery  # importlib.abc and importlib.util take longer than all the rest of `import huesong`
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huesong.compose.composer import Composer
    from huesong.compose.moods import MOODS
    from huesong.compose.piece import Audio, Emotion, Piece
    from huesong.model.requests import Request
    from huesong.runtime.errors import UserError

__version__ = "0.2.0"
__all__ = ["MOODS", "Audio", "Composer", "Emotion", "Piece", "Request", "UserError", "__version__"]

_PLACES = {
    "compose.composer": ("Composer",),
    "compose.moods": ("MOODS",),
    "compose.piece": ("Audio", "Emotion", "Piece"),
    "model.requests": ("Request",),
    "runtime.errors": ("UserError",),
}
"""Module -> the public names in it: each is imported when it is first asked for, so that `import huesong` costs nothing."""


def __getattr__(name: str) -> Any:
    for place, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{place}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


_MOVED = {
    "huesong.errors": "huesong.runtime.errors",
    "huesong.model.course": "huesong.va",
}
"""Modules that the code inside registered models imports by the names of version 0.1.0, and where they stand now."""


class _Moved:
    """Finds a moved module by its old name: models that were registered before the move still load."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name in _MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(_MOVED[module.__name__])


sys.meta_path.append(_Moved())
