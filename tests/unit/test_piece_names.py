"""A piece never takes the place of a file of a model folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from huesong import contracts
from huesong.compose.output.files import output_names
from huesong.compose.output.formats import Writing
from huesong.runtime.errors import UserError


@pytest.mark.parametrize("name", ["config", "encoder/encoder"])
@pytest.mark.parametrize("force", [False, True])
def test_no_file_of_a_model_folder_is_replaced(tmp_path: Path, name: str, force: bool) -> None:
    model = tmp_path / "model"
    (model / contracts.ENCODER).mkdir(parents=True)
    for file in (contracts.MODEL_CONFIG, contracts.VOCABULARY, "encoder/encoder.json"):
        (model / file).write_text("{}")
    with pytest.raises(UserError, match=r"belongs to the model in .*model and is never replaced"):
        output_names([tmp_path / "photo.jpg"], [model / name], how=Writing(force=force))
    assert (model / f"{name}.json").read_text() == "{}"


def test_beside_a_model_and_with_force_elsewhere_a_piece_is_written(tmp_path: Path) -> None:
    (tmp_path / "song.json").write_text("{}")
    assert output_names([tmp_path / "photo.jpg"], [tmp_path / "song"], how=Writing(force=True)) == [tmp_path / "song"]
    with pytest.raises(UserError, match="--force"):
        output_names([tmp_path / "photo.jpg"], [tmp_path / "song"])
