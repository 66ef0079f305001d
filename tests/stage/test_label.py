"""stages.label: every item labelled once, held-out splits untouched, pairs within splits."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huesong import contracts
from huesong.config import LabelConfig
from huesong.emotion.labellers import ImageLabeller, PieceLabeller
from huesong.label import stage as label
from huesong.label.labels import HALF_AXIS_SD, PREDICTED_WEIGHT, RATER_SD, label_items, within_quadrant
from huesong.label.pairing import make_pairs, pair_figures
from huesong.runtime.errors import UserError
from tests.tiny_labels import music, pictures, unlabel, write_preprocess

CONFIG = LabelConfig(folds=3, bootstrap=100, pairs_per_image=3)


@pytest.fixture(scope="module")
def world() -> tuple[pd.DataFrame, np.ndarray, np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Pictures and music; a quarter of both has no label, some music only its quadrant."""
    images, rows, colours = pictures(96)
    pieces, features = music(180, segments=2)
    images = unlabel(images, np.arange(96) % 4 == 1)
    number = pieces["piece"].str[1:].astype(int).to_numpy()
    pieces = unlabel(pieces, (number % 8 < 2) & pieces["split"].isin(["train", "val"]).to_numpy())
    nominal = (number % 8 >= 6) & pieces["valence"].notna().to_numpy()
    pieces.loc[nominal, "label_kind"] = "quadrant"
    pieces.loc[nominal, "source"] = "quadrants"
    pieces.loc[nominal, ["valence", "arousal"]] = np.sign(pieces.loc[nominal, ["valence", "arousal"]]) * 0.5
    return images, rows, colours, pieces, features


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, world) -> tuple[Path, label.LabelReport]:  # type: ignore[no-untyped-def]
    root = tmp_path_factory.mktemp("label")
    report = label.run(CONFIG, preprocess=write_preprocess(root / "preprocess", *world), out=root / "label")
    return root / "label", report


def test_the_artifacts_are_those_of_the_contract(made: tuple[Path, label.LabelReport]) -> None:
    out, report = made
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [
            contracts.IMAGE_LABELS, contracts.PIECE_LABELS, contracts.PAIRS, contracts.IMAGE_LABELLER,
            contracts.PIECE_LABELLER, contracts.TRAINING_TABLE, contracts.SOURCES, contracts.FIGURES, contracts.METRICS,
            contracts.REPORT, contracts.PLOTS, contracts.PICTURE_CERTAINTY, contracts.PICTURE_NAMES,
        ]
    )  # fmt: skip
    assert all(path.is_file() for path in report.files)
    assert json.loads((out / contracts.FIGURES).read_text()) == report.metrics
    assert all(isinstance(value, int | float) for value in report.metrics.values())


def test_every_item_is_labelled_once(made: tuple[Path, label.LabelReport], world) -> None:  # type: ignore[no-untyped-def]
    for name, table in ((contracts.IMAGE_LABELS, world[0]), (contracts.PIECE_LABELS, world[3])):
        labels = pd.read_parquet(made[0] / name)
        assert tuple(labels.columns) == contracts.LABEL_COLUMNS
        assert labels["id"].tolist() == table["id"].tolist()
        assert labels["split"].tolist() == table["split"].tolist()
        assert labels.drop(columns=["id", "split", "origin"]).notna().all(axis=None)
        assert labels[["valence", "arousal"]].abs().max(axis=None) <= 1
        assert labels["weight"].between(0, 1).all()
        rated = (table["label_kind"] == "mean_rating").to_numpy()
        pd.testing.assert_frame_equal(
            labels.loc[rated, ["valence", "arousal"]], table.loc[rated, ["valence", "arousal"]]
        )
        assert (labels.loc[rated, "weight"] == 1).all()
        bare = (table["label_kind"] == "").to_numpy()
        assert bare.any()
        assert (labels.loc[bare, "origin"] == "predicted").all()
        assert (labels.loc[bare, "weight"] <= PREDICTED_WEIGHT).all()
        assert (labels.loc[~bare, "origin"].to_numpy() == table.loc[~bare, "label_kind"].to_numpy()).all()


def test_predictions_are_good(made: tuple[Path, label.LabelReport]) -> None:
    labels = pd.read_parquet(made[0] / contracts.PIECE_LABELS)
    truth = music(180, segments=2)[0]
    bare = (labels["origin"] == "predicted").to_numpy()
    error = (labels.loc[bare, ["valence", "arousal"]] - truth.loc[bare, ["valence", "arousal"]]).abs()
    assert error.mean().max() < 0.25
    assert made[1].metrics["pieces_arousal_r"] > 0.9


def test_quadrants_keep_their_signs_and_learn_the_rest(made: tuple[Path, label.LabelReport], world) -> None:  # type: ignore[no-untyped-def]
    labels, pieces = pd.read_parquet(made[0] / contracts.PIECE_LABELS), world[3]
    nominal = (pieces["label_kind"] == "quadrant").to_numpy()
    found, given_va = labels.loc[nominal, ["valence", "arousal"]], pieces.loc[nominal, ["valence", "arousal"]]
    assert (np.sign(found) == np.sign(given_va)).all(axis=None)
    assert (labels.loc[nominal, "weight"] == contracts.LABEL_WEIGHTS["quadrant"]).all()
    truth = music(180, segments=2)[0].loc[nominal, ["valence", "arousal"]]
    assert (found - truth).abs().mean().max() < (given_va - truth).abs().mean().max()


@given(st.floats(-1, 1), st.floats(0.01, 2), st.sampled_from([-0.5, 0.5, 0.2]))
def test_a_quadrant_label_lies_between_centre_and_prediction(predicted: float, sd: float, centre: float) -> None:
    va, spread = within_quadrant(np.full((1, 2), centre), np.full((1, 2), predicted), np.full((1, 2), sd))
    side = np.sign(centre)
    low, high = sorted([centre * side, max(predicted * side, 0.1 * abs(centre))])
    assert low - 1e-9 <= va[0, 0] * side <= high + 1e-9
    assert (spread <= min(sd, HALF_AXIS_SD) + 1e-9).all()


def test_a_sure_labeller_moves_the_label_and_an_unsure_one_does_not() -> None:
    centre, predicted = np.array([[0.5, -0.5]]), np.array([[0.9, 0.8]])
    sure, _ = within_quadrant(centre, predicted, np.full((1, 2), 0.05))
    unsure, _ = within_quadrant(centre, predicted, np.full((1, 2), 5.0))
    assert sure[0, 0] > 0.85
    assert sure[0, 1] == pytest.approx(-0.05)  # the prediction lies beyond the axis
    np.testing.assert_allclose(unsure, centre, atol=0.01)
    assert within_quadrant(np.zeros((1, 2)), np.full((1, 2), -0.3), np.full((1, 2), 0.1))[0][0, 0] < 0


def test_uncertainty_and_weight_of_each_origin() -> None:
    table = pd.DataFrame(
        {
            "id": list("abcdef"), "split": "train", "n_raters": [4, np.nan, 0, np.nan, 1, np.nan],
            "label_kind": ["mean_rating", "construction", "mean_slider", "", "tag", ""],
            "valence": [0.5, -0.5, 0.9, np.nan, 0.3, np.nan], "arousal": [0.4, -0.4, -0.9, np.nan, 0.1, np.nan],
        }
    )  # fmt: skip
    sd = np.tile([[0.2], [0.2], [0.2], [0.1], [0.2], [9.0]], (1, 2))
    labels = label_items(table, np.zeros((6, 2)), sd).set_index("id")
    assert labels.loc["a", "valence_sd"] == pytest.approx(RATER_SD / 2)
    assert labels.loc["b", "valence_sd"] == 0
    assert labels.loc["c", "valence_sd"] == pytest.approx(RATER_SD)
    assert labels.loc["d", "valence_sd"] == pytest.approx(0.1)
    assert labels["origin"].tolist() == ["mean_rating", "construction", "mean_slider", "predicted", "tag", "predicted"]
    assert labels.loc["e", "weight"] == contracts.LABEL_WEIGHTS["tag"]
    assert 0 < labels.loc["d", "weight"] < PREDICTED_WEIGHT
    assert labels.loc["f", "weight"] == 0


def test_pairs_stay_within_their_split_and_far_from_the_judge(made: tuple[Path, label.LabelReport]) -> None:
    pairs = pd.read_parquet(made[0] / contracts.PAIRS)
    assert tuple(pairs.columns) == contracts.PAIR_COLUMNS
    images = pd.read_parquet(made[0] / contracts.IMAGE_LABELS).set_index("id")
    pieces = pd.read_parquet(made[0] / contracts.PIECE_LABELS).set_index("id")
    assert (images.loc[pairs["image_id"], "split"].to_numpy() == pairs["split"].to_numpy()).all()
    assert (pieces.loc[pairs["piece_id"], "split"].to_numpy() == pairs["split"].to_numpy()).all()
    assert set(pairs["split"]) == {"train", "val", "test"}
    assert pairs.groupby("image_id")["piece_id"].nunique().eq(3).all()
    assert set(pairs["image_id"]) == set(images.index)
    assert (pairs.groupby("image_id")["rank"].apply(list).map(tuple) == (0, 1, 2)).all()
    heard = pieces.loc[pairs["piece_id"], ["valence", "arousal"]].to_numpy()
    np.testing.assert_allclose(
        np.linalg.norm(heard - pairs[["valence", "arousal"]].to_numpy(), axis=1), pairs["distance"]
    )


def test_the_map_keeps_the_order_of_pictures_and_reaches_exciting_music(made: tuple[Path, label.LabelReport]) -> None:
    images = pd.read_parquet(made[0] / contracts.IMAGE_LABELS).set_index("id")
    pairs = pd.read_parquet(made[0] / contracts.PAIRS).query("rank == 0 and split == 'train'")
    own, mapped = images.loc[pairs["image_id"], "arousal"].to_numpy(), pairs["arousal"].to_numpy()
    assert (np.diff(mapped[np.argsort(own)]) >= -1e-12).all()
    assert mapped.max() > 0.7 > own.max()


@pytest.mark.slow
def test_the_labellers_never_saw_judge_or_test(made: tuple[Path, label.LabelReport], world, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    images, rows, colours, pieces, features = world
    lies, lying_images = pieces.copy(), images.copy()
    held = lies["split"].isin(["judge", "test"])
    lies.loc[held, ["valence", "arousal"]] *= -1
    lying_images.loc[lying_images["split"] == "test", ["valence", "arousal"]] *= -1
    folder = write_preprocess(tmp_path / "preprocess", lying_images, rows, colours, lies, features)
    label.run(CONFIG, preprocess=folder, out=tmp_path / "label")
    first, second = (PieceLabeller.load(root / contracts.PIECE_LABELLER) for root in (made[0], tmp_path / "label"))
    np.testing.assert_array_equal(first.predict(features), second.predict(features))
    seen, again = (ImageLabeller.load(root / contracts.IMAGE_LABELLER) for root in (made[0], tmp_path / "label"))
    np.testing.assert_array_equal(seen.predict(rows, colours), again.predict(rows, colours))


def test_cross_validation_leaves_the_test_split_out_and_nominal_sources_by_themselves(
    made: tuple[Path, label.LabelReport],
    world,  # type: ignore[no-untyped-def]
) -> None:
    pieces, metrics = world[3], made[1].metrics
    outside = pieces[(pieces["split"] != "test") & (pieces["valence"].notna())]
    by_kind = outside.groupby("label_kind")["piece"].nunique()
    assert metrics["pieces_n"] == by_kind["mean_rating"]
    assert metrics["pieces_quadrants_n"] == by_kind["quadrant"]
    assert metrics["images_n"] == int(((world[0]["split"] != "test") & world[0]["valence"].notna()).sum())
    for figure in ("mae", "r", "ccc"):
        assert metrics[f"images_valence_{figure}_low"] < metrics[f"images_valence_{figure}_high"]


@pytest.mark.slow
def test_the_same_input_gives_the_same_tables(made: tuple[Path, label.LabelReport], world, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    label.run(CONFIG, preprocess=write_preprocess(tmp_path / "preprocess", *world), out=tmp_path / "label")
    for path in sorted(made[0].rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "label" / path.relative_to(made[0])).read_bytes(), path.name


def test_the_report_is_self_contained_and_names_its_sources(made: tuple[Path, label.LabelReport]) -> None:
    text = (made[0] / contracts.REPORT).read_text()
    assert "quadrants (nominal)" in text
    assert 'src="http' not in text
    assert text.count("data:image/png;base64,") == 6
    assert "nan" not in text.replace("base64", "").split("<main>")[1].split("<img")[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "affine"])
def test_without_anything_to_predict_and_with_other_maps(kind: str, tmp_path: Path) -> None:
    images, rows, colours = pictures(48, pixels=True)
    pieces, features = music(72)
    folder = write_preprocess(tmp_path / "preprocess", images, rows, colours, pieces, features)
    config = CONFIG.model_copy(update={"pairing_map": kind})
    report = label.run(config, preprocess=folder, out=tmp_path / "label")
    assert set(pd.read_parquet(tmp_path / "label" / contracts.PIECE_LABELS)["origin"]) == {"mean_rating"}
    pairs = pd.read_parquet(tmp_path / "label" / contracts.PAIRS).drop_duplicates("image_id").set_index("image_id")
    own = images.set_index("id").loc[pairs.index, ["valence", "arousal"]].to_numpy()
    assert np.allclose(own, pairs[["valence", "arousal"]]) == (kind == "none")
    assert report.metrics["pairs"] == 48 * 3


def bare_images(images: pd.DataFrame, pieces: pd.DataFrame) -> None:
    images[:] = unlabel(images, np.ones(len(images), dtype=bool))


def few_rated_pieces(images: pd.DataFrame, pieces: pd.DataFrame) -> None:
    pieces[:] = unlabel(pieces, np.arange(len(pieces)) > 5)


def no_training_pictures(images: pd.DataFrame, pieces: pd.DataFrame) -> None:
    images["split"] = "val"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (bare_images, r"too little is rated to label by: 0 rated pictures in 0 groups"),
        (few_rated_pieces, r"too little is rated to label by: \d+ rated segments of music"),
        pytest.param(
            no_training_pictures, r"split train has 0 pictures and \d+ pieces", marks=pytest.mark.slow
        ),  # is seen when all is labelled
    ],
)
def test_what_cannot_work_is_said_and_nothing_is_written(spoil, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    images, rows, colours = pictures(36)
    pieces, features = music(72)
    spoil(images, pieces)
    folder = write_preprocess(tmp_path / "preprocess", images, rows, colours, pieces, features)
    with pytest.raises(UserError, match=message):
        label.run(CONFIG, preprocess=folder, out=tmp_path / "label")
    assert [path.name for path in tmp_path.iterdir()] == ["preprocess"]


def test_a_split_without_music_has_no_pairs() -> None:
    images = label_items(pictures(36)[0], np.zeros((36, 2)), np.ones((36, 2)))
    pieces = label_items(music(72)[0], np.zeros((72, 2)), np.ones((72, 2)))
    pairs = make_pairs(images, pieces[pieces["split"] != "test"], CONFIG)
    assert pair_figures(pairs)["pairs_test"] == 0
    assert set(pairs["split"]) == {"train", "val"}


def test_missing_damaged_and_mismatched_inputs(tmp_path: Path) -> None:
    images, rows, colours = pictures(36)
    pieces, features = music(72)
    folder = write_preprocess(tmp_path / "preprocess", images, rows, colours, pieces, features)
    np.save(folder / contracts.PICTURE_COLOURS, colours[:-1])
    with pytest.raises(UserError, match="do not belong together: run `huesong preprocess` again"):
        label.run(CONFIG, preprocess=folder, out=tmp_path / "label")
    np.save(folder / contracts.PICTURE_COLOURS, colours)
    (folder / contracts.PIECES_TABLE).write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"preprocess is damaged"):
        label.run(CONFIG, preprocess=folder, out=tmp_path / "label")
    (folder / contracts.PIECES_TABLE).unlink()
    with pytest.raises(UserError, match=r"pieces\.parquet is missing: run `huesong preprocess`"):
        label.run(CONFIG, preprocess=folder, out=tmp_path / "label")
