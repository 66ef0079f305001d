import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from symusic import Score

from huesong import contracts
from huesong.data.sample.make import make_sample, plan_pictures, plan_pieces, spread_emotions


def digests(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "data"
    make_sample(out, seed=3, pictures=10, pieces=12)
    return out


def test_raw_layout(made):
    for name, count in ((contracts.IMAGES_CSV, 10), (contracts.MUSIC_CSV, 12)):
        frame = pd.read_csv(made / name)
        assert tuple(frame.columns) == contracts.RAW_COLUMNS
        assert len(frame) == count
        assert frame["id"].is_unique
        assert frame["id"].map(lambda text: contracts.SAFE_ID.fullmatch(text) is not None).all()
        assert frame["path"].map(lambda path: (made / path).is_file()).all()
        assert set(frame["label_kind"]) == {"construction"}
        assert set(frame["licence"]) == {"CC0-1.0"}
        assert (frame["n_raters"] == 0).all()
        assert frame["split"].isna().all()
        assert frame[["valence", "arousal"]].abs().le(1).all(axis=None)
    files = {path for path in digests(made) if path.startswith(("images/", "music/"))}
    listed = {path for name in (contracts.IMAGES_CSV, contracts.MUSIC_CSV) for path in pd.read_csv(made / name)["path"]}
    assert files == listed


def test_files_open(made):
    for path in made.glob("images/sample/*"):
        with Image.open(path) as image:
            assert (image.format, image.size) == ("JPEG", (256, 192))
    for path in made.glob("music/sample/*"):
        score = Score(path)
        assert score.ticks_per_quarter == 480
        assert 8 <= score.end() / 1920 <= 16


def test_same_seed_same_bytes(made, tmp_path):
    make_sample(tmp_path / "again", seed=3, pictures=10, pieces=12)
    assert digests(tmp_path / "again") == digests(made)
    make_sample(tmp_path / "other", seed=4, pictures=2, pieces=2)
    assert not set(digests(tmp_path / "other").values()) & set(digests(made).values())


@pytest.mark.parametrize(("plan", "count"), [(plan_pictures, 128), (plan_pieces, 320)])
def test_emotions_fill_the_square_and_groups_mean_something(plan, count):
    plans = plan(count, 0)
    assert len({p.id for p in plans}) == len(plans) == count
    va = np.array([(p.valence, p.arousal) for p in plans])
    cells, _, _ = np.histogram2d(va[:, 0], va[:, 1], bins=4, range=[[-1, 1], [-1, 1]])
    assert cells.min() >= count / 16 * 0.6
    assert abs(np.corrcoef(va.T)[0, 1]) < 0.1
    groups = pd.Series([p.group for p in plans]).value_counts()
    assert groups.max() <= 4
    assert (groups >= 2).mean() > 0.9
    layouts = {(p.group, p.scene, p.layout_seed) for p in plans}
    assert len(layouts) == len(groups)  # one scene or theme a group
    assert len({layout for _, _, layout in layouts}) == len(groups)  # and no other group has it


def test_every_scene_is_used_and_none_too_often():
    scenes = pd.Series([p.scene for p in plan_pictures(128, 0)]).value_counts()
    assert len(scenes) >= 24
    assert scenes.max() <= 12


def test_spread_is_even_and_rounded():
    points = spread_emotions(200, np.random.default_rng(0))
    assert np.array_equal(points, np.round(points, 3))
    assert np.abs(points).max() <= 0.95
    assert np.abs(points.mean(axis=0)).max() < 0.03


def test_pieces_are_of_a_length_that_stays_in_one_segment():
    plans = plan_pieces(320, 0)
    assert {p.bars for p in plans} == {8, 12, 16}


def test_small_counts(tmp_path):
    make_sample(tmp_path, seed=0, pictures=1, pieces=1)
    assert len(pd.read_csv(tmp_path / contracts.IMAGES_CSV)) == 1
    make_sample(tmp_path, seed=0, pictures=2, pieces=1)  # replaces what is there
    assert len(list(tmp_path.glob("images/sample/*.jpg"))) == 2
