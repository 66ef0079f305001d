"""Whether a path stays inside a folder, links followed. Imports little: pods that only fetch data need it."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

_CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
"""How the path of a file in a DVC cache ends: there its links lead where `cache.type` is symlink."""


class Inside:
    """Checks that relative paths stay inside a folder, links followed; those into a DVC cache are the folder's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder.resolve()
        self._parent_stays = lru_cache(maxsize=None)(lambda parent: self._stays(self.folder / parent))

    def _stays(self, path: Path) -> bool:
        try:
            real = path.resolve()
        except (OSError, RuntimeError):  # a loop of links
            return False
        return real.is_relative_to(self.root) or _CACHED.search(real.as_posix()) is not None

    def holds(self, path: Path) -> bool:
        """Whether a path below the folder leads to something inside, links followed."""
        parent = self._parent_stays(os.path.relpath(path.parent, self.folder))
        return parent and (not os.path.islink(path) or self._stays(path))

    def problem(self, path: str) -> str:
        """What is wrong with `path`, or ""."""
        pure = PurePosixPath(path)
        if not path or "\0" in path or not pure.name:
            return "names no file: give the path relative to the data folder"
        if pure.is_absolute() or PureWindowsPath(path).drive or "\\" in path:
            return "is not relative: write it relative to the data folder, with /"
        if ".." in pure.parts:
            return "leaves the data folder: put the file inside and give its path there"
        stays = self.holds(self.folder / path)
        return "" if stays else "is a link that leaves the data folder: copy the file into it"
