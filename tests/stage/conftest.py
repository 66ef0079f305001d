"""What tests of composing share: a model folder that composes at once, its composer, and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from huesong.compose.composer import Composer


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_composer import model_folder

    return model_folder(tmp_path_factory.mktemp("compose"))


@pytest.fixture(scope="session")
def composer(folder: Path) -> Composer:
    from huesong.compose.composer import Composer

    return Composer(folder)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    from tests.tiny_composer import photo

    return photo(tmp_path / "sunset.png")
