"""The small inputs that users' reports name, which lie beside the real data: each gives what their README calls right."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from huesong import contracts
from huesong.compose.composer import compose
from huesong.compose.primer import fitted, playable
from huesong.data.importers.importing import Options, import_dataset
from huesong.data.tables import read_table
from huesong.model.folder import load_model
from huesong.model.requests import sampling_config
from huesong.music.reading import read_score
from huesong.pictures.decode import decode
from huesong.preprocess.files import inspect
from huesong.register.shipped import PLACE
from huesong.runtime.errors import UserError
from tests.tiny_sets import picture

pytestmark = pytest.mark.real_data


@pytest.fixture
def cases() -> Path:
    root = os.environ.get("HUESONG_REAL_DATA")
    if not root or not (folder := Path(root).parent / "cases").is_dir():
        pytest.skip("HUESONG_REAL_DATA is not set, or has no cases beside it")
    return folder


def pixels(path: Path) -> np.ndarray:
    return np.asarray(decode(path, 1_000_000)).astype(int)


def test_pictures(cases: Path) -> None:
    images = cases / "images"
    assert pixels(images / "exif_junk.png").shape[2] == 3
    assert decode(images / "exif_wrongtype.jpg", 10**6).size == (64, 96)  # turned as its metadata say
    assert (pixels(images / "alpha0_v4.bmp") == pixels(images / "alpha0_v3.bmp")).all()
    assert pixels(images / "grey12.tif").mean() == pytest.approx(128, abs=2)
    ramp = pixels(images / "grey8_white_is_zero.tif")
    assert ramp.mean() == pytest.approx(128, abs=2)
    assert 40 < pixels(images / "float_hdr.tif").mean() < 220
    transparent = pixels(images / "rgb16_trns.png")
    assert (transparent == 255).all(axis=2).mean() == pytest.approx(0.5, abs=0.01)
    assert pixels(images / "gama_linear.png").mean() == pytest.approx(128, abs=8)
    plain = pixels(cases / "icc" / "srgb.png")
    for name in ("display_p3", "adobe_rgb"):
        assert abs(pixels(cases / "icc" / f"{name}.png") - plain).max() <= 4, name


def test_validation_and_reader_agree_on_midi(cases: Path) -> None:
    for path in sorted((cases / "midi").iterdir()):
        assert inspect(("music", str(path))).problem == "", path.name
        assert read_score(path).note_num() > 0, path.name


def test_tables_of_any_head_and_separator(cases: Path, tmp_path: Path) -> None:
    ratings = []
    for name in ("comma", "semicolon", "tab", "capital_header"):
        import_dataset("folder", cases / "folders" / name, tmp_path / name, Options())
        table = read_table(tmp_path / name, contracts.IMAGES_CSV)
        rated = table[["valence", "arousal"]].astype(float)
        assert rated.notna().all(axis=None), name
        ratings.append(rated.sort_values(["valence", "arousal"]).to_numpy())
    assert all((each == ratings[0]).all() for each in ratings)


def test_two_folders_of_one_name_are_both_kept(cases: Path, tmp_path: Path) -> None:
    for name in ("holiday", "work"):
        import_dataset("folder", cases / "folders" / name / "images", tmp_path / "data", Options())
    files = [path for name in ("holiday", "work") for path in (cases / "folders" / name).rglob("*") if path.is_file()]
    kept = [path for top in ("images", "music") for path in (tmp_path / "data" / top).rglob("*") if path.is_file()]
    assert sorted(path.read_bytes() for path in kept) == sorted(path.read_bytes() for path in files)


def test_other_suffixes_are_taken(cases: Path, tmp_path: Path) -> None:
    import_dataset("folder", cases / "folders" / "other_suffixes", tmp_path / "data", Options())
    rows = sum(len(read_table(tmp_path / "data", name)) for name in (contracts.IMAGES_CSV, contracts.MUSIC_CSV))
    assert rows == len(list((cases / "folders" / "other_suffixes").iterdir()))


def test_primers_are_continued_or_refused_and_what_changes_is_said(
    cases: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grammar = load_model(PLACE).grammar
    said = {
        "silent_bars": "bars of silence at its beginning are left out", "long_bass": "longer than this model's longest",
        "three_four": "", "triplets": "", "tempo_30": "quarters a minute",
        "drums_only": "no piano notes", "no_notes": "no piano notes", "chords_of_8": "", "chords_of_10": "",
    }  # fmt: skip
    refused = []
    caplog.set_level(logging.WARNING, "huesong")
    logging.getLogger("huesong").propagate = True
    for path in sorted((cases / "primers").iterdir()):
        caplog.clear()
        try:
            score = fitted(playable(read_score(path), path.name), grammar, path.name)
            assert score.note_num() > 0
            if path.stem == "three_four":  # kept: the model writes it
                assert [(each.numerator, each.denominator) for each in score.time_signatures] == [(3, 4)]
            told = caplog.text
        except UserError as error:
            refused.append(path.stem)
            told = str(error)
            assert path.stem != "three_four" or "3/4" in told
        assert said[path.stem] in told, (path.stem, told)
    # A metre that the model has not learnt is refused by name, too.
    assert {"drums_only", "no_notes"} <= set(refused) <= {"drums_only", "no_notes", "tempo_30", "three_four"}
    photo = picture(tmp_path / "photo.png", 200)
    short = sampling_config(seconds=12.0, candidates=1)
    piece = compose(photo, tmp_path / "piece", PLACE, primer=cases / "primers" / "chords_of_10.mid", config=short)
    assert str(piece)
    assert read_score(tmp_path / "piece.mid").note_num() > 0
