"""huesong makes music that feels like a picture."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

__version__ = "0.1.0"

_MOVED = {
    "huesong.errors": "huesong.runtime.errors",
    "huesong.model.course": "huesong.va",
}
"""Modules that the code inside registered models imports by the names of version 0.1.0, and where they stand now."""


class _Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a moved module by its old name: models that were registered before the move still load."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name in _MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(_MOVED[module.__name__])


sys.meta_path.append(_Moved())
