"""The student learns what its teacher sees, is stored whole, and is the same for the same seed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from huesong import contracts
from huesong.cli.app import app
from huesong.config import PreprocessConfig
from huesong.data.tables import as_table, write_table
from huesong.experiments.distill import Pictures, Pool, Projection, Recipe, augment, draw_pool, mix, train_student
from huesong.experiments.distillation import FIGURES, distill
from huesong.experiments.pupil import Pupil
from huesong.pictures.encoders import Encoder, Settings, load_encoder
from huesong.pictures.student import Architecture, Student
from huesong.runtime.errors import UserError

TINY = Architecture((8, 8, 8, 12), (0, 0, 1, 0), 6)
RECIPE = Recipe(views=4, epochs=4, batch_size=16, architecture=TINY, precision="float32")


def painted(seed: int) -> Image.Image:
    """A picture whose redness at the left and brightness are what differs between pictures."""
    rng = np.random.default_rng(seed)
    pixels = np.full((40, 60, 3), rng.integers(0, 200), dtype=np.uint8)
    pixels[:, :30, 0] = rng.integers(0, 255)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def teacher() -> Encoder:
    """A larger student with random weights: any fixed function of the pixels can teach."""
    torch.manual_seed(0)
    student = Pupil(Architecture((8, 8, 8, 16), (0, 0, 0, 0), 24)).graduated()
    return Encoder(Settings("teacher", "features", (), 64, 1, (0.5,) * 3, (0.3,) * 3), student).with_pooling(2)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    images = [painted(seed) for seed in range(16)]
    va_N2 = np.array([[np.asarray(i)[0, 0, 0] / 127.5 - 1, np.asarray(i)[0, -1, 0] / 127.5 - 1] for i in images])
    return Pictures(images, va_N2, np.ones(16), np.array(["painted"] * 16))


@pytest.fixture(scope="module")
def pool(teacher: Encoder, pictures: Pictures) -> Pool:
    return draw_pool(pictures, teacher, Projection.fit(teacher.encode(pictures.images), TINY.channels), RECIPE)


def test_the_projection_keeps_the_largest_components() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(50, 4, 2))
    tokens = hidden @ rng.normal(size=(2, 10)) + 3  # ten channels, of rank two
    projected = Projection.fit(tokens, 2)(tokens).astype(float)
    assert projected.shape == (50, 4, 2)
    assert np.abs(projected.mean(axis=(0, 1))).max() < 1e-2
    assert (projected**2).mean() == pytest.approx(1, abs=1e-2)
    again = np.linalg.lstsq(projected.reshape(-1, 2), hidden.reshape(-1, 2), rcond=None)[1]
    assert again.max() < 0.01 * (hidden**2).sum(), "two components tell the two hidden numbers"


def test_views_differ_and_keep_their_shape() -> None:
    rng = np.random.default_rng(0)
    views = [augment(painted(1), 32, rng)[0] for _ in range(8)]
    assert {(view.shape, view.dtype) for view in views} == {((32, 32, 3), np.dtype(np.uint8))}
    assert len({view.tobytes() for view in views}) == 8
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    for _ in range(20):
        mixed, share = mix(black, white, rng)
        assert 0.3 <= share <= 1
        assert mixed.mean() / 255 == pytest.approx(1 - share, abs=0.01)
    assert black.max() == 0, "the views that are mixed stay as they were"


def test_a_view_of_other_colours_does_not_keep_the_rating() -> None:
    """On one colour crop, mirror and squash change nothing: what differs is light and colour."""
    own = np.array([150, 90, 60])
    plain = Image.fromarray(np.tile(own.astype(np.uint8), (32, 32, 1)))
    views = [augment(plain, 32, np.random.default_rng(seed)) for seed in range(400)]
    # The middle of the values: a hole covers at most a sixth of the view, turned corners less.
    apart = np.array([np.abs(np.median(view, axis=(0, 1)) - own).max() for view, _ in views])
    kept_N = np.array([kept for _, kept in views])
    assert 0.05 < kept_N.mean() < 0.35
    assert apart[kept_N].max() <= 0.3 * own.max() < apart.max()
    assert apart[kept_N].mean() < 0.7 * apart[~kept_N].mean()


def test_views_draw_from_the_generator_as_they_always_did() -> None:
    """Else the views of a given seed, and every student taught with them, would be others."""
    rng = np.random.default_rng(7)
    for seed in range(40):
        augment(painted(seed), 32, rng)
    assert rng.integers(1 << 40) == 600211277224


def test_only_views_that_keep_their_colours_teach_ratings(teacher: Encoder, pictures: Pictures) -> None:
    projection = Projection.fit(teacher.encode(pictures.images), TINY.channels)
    unmixed = draw_pool(pictures, teacher, projection, replace(RECIPE, views=8, mixed=0.0))
    rng = np.random.default_rng(RECIPE.seed)
    drawn = []
    for _ in range(8):
        for image in pictures.images:
            drawn.append(augment(image, teacher.side, rng)[1])
            rng.random()  # whether the view is mixed
    assert unmixed.rated_N.tolist() == [float(kept) for kept in drawn]
    assert 0 < unmixed.rated_N.sum() < len(drawn) / 2
    both = draw_pool(pictures, teacher, projection, replace(RECIPE, views=8, mixed=1.0))
    assert both.rated_N.mean() < unmixed.rated_N.mean(), "of a mixture both parts must keep their colours"


def test_the_student_learns_what_the_teacher_sees(pool: Pool) -> None:
    assert pool.pixels_NHW3.shape == (64, 112, 112, 3)
    assert pool.tokens_NSC.shape == (64, 4, TINY.channels)

    def error(student: Student) -> float:
        settings = Settings("student", "features", (), 112, 1, (0.45,) * 3, (0.27,) * 3)
        seen_NSC = Encoder(settings, student).with_pooling(2).encode_pixels(pool.pixels_NHW3).astype(float)
        return float(((seen_NSC - pool.tokens_NSC) ** 2).mean())

    guess = float((pool.tokens_NSC.astype(float) ** 2).mean())  # the error of always saying the mean
    assert error(train_student(pool, replace(RECIPE, epochs=15, batch_size=8, learning_rate=0.01))) < 0.7 * guess


def test_the_same_seed_gives_the_same_weights(teacher: Encoder, pictures: Pictures, pool: Pool) -> None:
    projection = Projection.fit(teacher.encode(pictures.images), TINY.channels)
    short = replace(RECIPE, epochs=1)
    state = train_student(pool, short).tensors
    torch.manual_seed(99)
    again = train_student(draw_pool(pictures, teacher, projection, short), short).tensors
    other = train_student(pool, replace(short, seed=1)).tensors
    assert all(np.array_equal(state[name], again[name]) for name in state)
    assert not np.array_equal(state["features.weight"], other["features.weight"])


def test_an_encoder_folder_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student = Pupil(TINY).graduated()
    settings = Settings("own", "features", (), 112, 1, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    encoder = Encoder(settings, student).with_pooling(4)
    many = Encoder(encoder.settings, student, many=True)
    assert encoder.shape == (16, 6)
    encoder.save(tmp_path / "own")
    again = Encoder.load(tmp_path / "own")
    assert again.settings == encoder.settings
    rows = [painted(seed) for seed in range(3)]
    assert np.array_equal(again.encode(rows), encoder.encode(rows))
    np.testing.assert_allclose(again.encode(rows), many.encode(rows), rtol=2e-3, atol=1e-3)  # float16
    named = load_encoder(str(tmp_path / "own"), size=32, grid=2)
    assert (named.name, named.shape, named.settings.mean) == ("own", (4, 6), (0.4, 0.5, 0.6))
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == ["encoder.json", contracts.STUDENT_WEIGHTS]


def test_a_damaged_student_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing or damaged"):
        Student.load(tmp_path)
    Pupil(TINY).graduated().save(tmp_path)
    path = tmp_path / contracts.STUDENT_WEIGHTS
    good = path.read_bytes()
    for bad in (
        good[:100],
        good.replace(b"[0, 0, 1, 0]", b"[0, 1, 1, 0]"),
        good.replace(b"architecture", b"Architecture"),
    ):
        path.write_bytes(bad)
        with pytest.raises(UserError, match="missing or damaged") as caught:
            Student.load(tmp_path)
        assert "\n" not in str(caught.value)


def test_distill_writes_a_folder_that_preprocess_can_name(teacher: Encoder, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    rows: list[dict[str, str | float]] = []
    for seed in range(40):
        painted(seed).save(data / f"images/{seed}.png")
        rows.append({"id": f"p{seed}", "path": f"images/{seed}.png", "group": f"g{seed}", "source": "painted",
                     "valence": float(np.asarray(painted(seed))[0, 0, 0]) / 127.5 - 1, "arousal": (seed % 7) / 7,
                     "label_kind": "mean_rating"})  # fmt: skip
    write_table(as_table(rows), data, contracts.IMAGES_CSV)
    (data / "images/3.png").write_bytes(b"no picture")  # left out, not fatal
    figures = distill(data, teacher, tmp_path / "out", RECIPE, PreprocessConfig(picture_grid=2))
    assert json.loads((tmp_path / "out" / FIGURES).read_text()) == figures
    own = figures["painted"]
    assert own["val_pictures"] >= 2
    assert {"student_valence_r", "teacher_valence_r", "student_arousal_ccc"} <= own.keys()
    assert load_encoder(str(tmp_path / "out"), size=32, grid=2).encode([painted(0)]).shape == (1, 4, 6)


def test_the_console_refuses_a_teacher_of_pixels(tmp_path: Path) -> None:
    options = ["data", "distill", "--teacher", "builtin", "--out", str(tmp_path / "o"), "--data", str(tmp_path)]
    result = CliRunner().invoke(app, [*options, "--params", "params.yaml"])
    assert isinstance(result.exception, UserError)
    assert "gives pixels" in str(result.exception)
