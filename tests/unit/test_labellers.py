"""emotion.labellers and emotion.boosting: fitting, uncertainty, files."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import StandardScaler

from huesong import contracts
from huesong.emotion import boosting
from huesong.emotion.boosting import BoostedVA, cross_predict, feature_columns
from huesong.emotion.kernel import KernelVA
from huesong.emotion.labelled import Labelled, group_folds, label_weights
from huesong.emotion.labellers import (
    ImageLabeller,
    PieceLabeller,
    cross_predict_images,
)
from huesong.emotion.skops_files import load_skops
from huesong.emotion.trees import Forest
from huesong.evaluate.feature_judge import Judge
from huesong.runtime.errors import UserError
from huesong.va import Bootstrap, agreement, ccc, pearson
from tests.tiny_labels import FEATURES, music, pictures, unlabel


@pytest.fixture(scope="module")
def fitted() -> tuple[PieceLabeller, pd.DataFrame, pd.DataFrame]:
    pieces, features = music(160)
    return PieceLabeller.fit(pieces, features), pieces, features


def va(table: pd.DataFrame) -> np.ndarray:
    return table[["valence", "arousal"]].to_numpy()


def test_weights_are_trust_shared_by_the_segments() -> None:
    table = pd.DataFrame(
        {
            "piece": ["a", "a", "b", "c", "d"], "label_kind": ["mean_rating", "mean_rating", "quadrant", "", "tag"],
            "valence": [0.1, 0.1, 0.5, np.nan, np.nan], "arousal": [0.1, 0.1, 0.5, np.nan, 0.2],
        }
    )  # fmt: skip
    assert label_weights(table).tolist() == [0.5, 0.5, contracts.LABEL_WEIGHTS["quadrant"], 0, 0]
    assert label_weights(table.drop(columns="piece")).tolist()[:2] == [1, 1]


def test_it_predicts_pieces_it_never_saw(fitted: tuple[PieceLabeller, pd.DataFrame, pd.DataFrame]) -> None:
    labeller, *_ = fitted
    pieces, features = music(80, seed=9)
    heard = labeller.predict(features)
    assert heard.shape == (80, 2)
    assert np.abs(heard).max() <= 1
    assert (pearson(va(pieces).T, heard.T) > 0.85).all()


def test_columns_are_found_by_name_and_arrays_read_in_order(
    fitted: tuple[PieceLabeller, pd.DataFrame, pd.DataFrame],
) -> None:
    labeller, _, features = fitted
    assert labeller.names == FEATURES
    heard = labeller.predict(features)
    np.testing.assert_array_equal(heard, labeller.predict(features[features.columns[::-1]]))
    np.testing.assert_array_equal(heard, labeller.predict(features[list(FEATURES)].to_numpy()))
    assert labeller.predict(features[:0]).shape == (0, 2)


def test_missing_features_are_named(fitted: tuple[PieceLabeller, pd.DataFrame, pd.DataFrame]) -> None:
    labeller, _, features = fitted
    with pytest.raises(UserError, match=r"1 of 4 music features are missing \(mode\).*huesong preprocess"):
        labeller.predict(features.drop(columns="mode"))
    with pytest.raises(UserError, match=r"reads \[N, 4\]"):
        labeller.predict(np.zeros((3, 5)))


def test_members_never_see_the_rows_they_are_checked_on() -> None:
    # Labels that only the group explains: out-of-fold predictions must know nothing of them.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 4)
    va_of_group = rng.uniform(-0.8, 0.8, (40, 2))
    features = pd.DataFrame({"group": groups.astype(float) % 7, "who": rng.permutation(40)[groups].astype(float)})
    model = BoostedVA.fit_to(features, Labelled(va_of_group[groups], np.ones(160), groups.astype(str)))
    assert model.out_of_fold is not None
    inside = model.predict(features)
    assert (ccc(va_of_group[groups].T, inside.T) > 0.5).all()  # it can learn them by heart
    assert (ccc(va_of_group[groups].T, model.out_of_fold.T) < 0.35).all()
    held = cross_predict(features, Labelled(va_of_group[groups], np.ones(160), groups.astype(str)), 5)
    assert (ccc(va_of_group[groups].T, held.T) < 0.35).all()


def test_far_from_all_music_the_kernel_machine_says_the_mean() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6))
    va = np.tanh(x[:, :2]) * 0.5 + 0.1
    kernel = KernelVA.fit(x, va, np.ones(300))
    assert (ccc(va.T, kernel.predict(x).T) > 0.9).all()
    strange = np.tile([9.0, -9.0], (1, 3))
    assert np.abs(kernel.predict(strange) - va.mean(axis=0)).max() < 0.15
    unknown = kernel.predict(np.full((1, 6), np.nan))  # taken as the mean features
    np.testing.assert_allclose(unknown, kernel.predict(x.mean(axis=0, keepdims=True)), atol=1e-5)


def test_of_many_rows_the_kernel_machine_keeps_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huesong.emotion.kernel.MOST_ROWS", 100)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    kernel = KernelVA.fit(x, np.tanh(x[:, :2]), np.ones(300), seed=1)
    assert kernel.known_KF.shape == (100, 4)
    heard = kernel.predict(x)
    np.testing.assert_array_equal(heard, KernelVA.fit(x, np.tanh(x[:, :2]), np.ones(300), 1).predict(x))
    monkeypatch.setattr("huesong.emotion.kernel.AT_ONCE", 7)
    np.testing.assert_allclose(heard, kernel.predict(x), atol=1e-6)
    assert kernel.predict(x[:0]).shape == (0, 2)


def boosters(x: np.ndarray, va: np.ndarray) -> list[HistGradientBoostingRegressor]:
    return [HistGradientBoostingRegressor(max_iter=20, max_leaf_nodes=6).fit(x, va[:, axis]) for axis in range(2)]


def test_trees_as_arrays_say_what_scikit_learn_says_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 5))
    x[rng.random(x.shape) < 0.1] = np.nan
    models = boosters(x, np.nan_to_num(x[:, :2]) ** 2 + np.nan_to_num(x[:, 2:3]))
    forest = Forest.of(models)
    forest.check(5, 2)
    np.testing.assert_array_equal(forest.predict(x), np.stack([one.predict(x) for one in models], axis=1))
    assert forest.predict(x[:0]).shape == (0, 2)


@pytest.mark.parametrize("kernel", [False, True])
def test_labellers_of_earlier_versions_are_read(kernel: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    va = np.tanh(x[:, :2])
    scaler, ridge = StandardScaler().fit(x), KernelRidge(kernel="laplacian", alpha=0.5, gamma=1 / 3)
    known = scaler.transform(x).astype(np.float32)
    models, spread = boosters(x, va), boosters(np.hstack([va, x]), np.abs(va))
    content = {
        "format": 2 if kernel else 1, "kind": "piece labeller", "sklearn": "1.7.0", "names": ["a", "b", "c"],
        "members": [models], "spread": spread, "spread_scale": np.ones(2),
    }  # fmt: skip
    if kernel:
        content["kernel"] = {"scaler": scaler, "ridge": ridge.fit(known, va), "centre": np.array([0.1, 0.2])}
    skops.io.dump(content, tmp_path / "old.skops")
    seen = np.stack([one.predict(x) for one in models], axis=1)
    if kernel:
        seen = (seen + ridge.predict(known) + [0.1, 0.2]) / 2
    np.testing.assert_allclose(load_skops(tmp_path / "old.skops").predict(x), seen.clip(-1, 1), atol=1e-6)
    skops.io.dump(content | {"spread_scale": Path}, tmp_path / "odd.skops")
    with pytest.raises(UserError, match=r"odd\.skops is damaged"):
        load_skops(tmp_path / "odd.skops")


def test_uncertainty_is_large_where_errors_are_large() -> None:
    rng = np.random.default_rng(0)
    n = 600
    wild = rng.integers(0, 2, n)
    x = rng.uniform(-0.6, 0.6, (n, 2))
    y = x + rng.normal(0, 1, (n, 2)) * np.where(wild, 0.3, 0.03)[:, None]
    features = pd.DataFrame({"v": x[:, 0], "a": x[:, 1], "wild": wild})
    model = BoostedVA.fit_to(features, Labelled(y, np.ones(n), [f"g{i}" for i in range(n)]))
    sd = model.uncertainty(features)
    assert sd.shape == (n, 2)
    assert (sd[wild == 1].mean(axis=0) > 2 * sd[wild == 0].mean(axis=0)).all()
    # Its size is right: a third of the errors on unseen rows lie beyond one sd.
    x2 = rng.uniform(-0.6, 0.6, (n, 2))
    fresh = pd.DataFrame({"v": x2[:, 0], "a": x2[:, 1], "wild": wild})
    error = np.abs(x2 + rng.normal(0, 1, (n, 2)) * np.where(wild, 0.3, 0.03)[:, None] - model.predict(fresh))
    assert 0.5 < (error < model.uncertainty(fresh)).mean() < 0.9


@pytest.mark.slow
def test_nominal_labels_do_not_teach_the_uncertainty() -> None:
    pieces, features = music(200)
    nominal = np.arange(200) >= 100
    pieces.loc[nominal, ["valence", "arousal"]] = np.sign(pieces.loc[nominal, ["valence", "arousal"]]) * 0.9
    blind = PieceLabeller.fit(pieces, features).uncertainty(features).mean()
    pieces.loc[nominal, "label_kind"] = "quadrant"
    assert PieceLabeller.fit(pieces, features).uncertainty(features).mean() < blind


@pytest.mark.slow
def test_the_same_data_gives_the_same_file(tmp_path: Path) -> None:
    pieces, features = music(60)
    heard = []
    for name in ("a", "b"):
        PieceLabeller.fit(pieces, features, seed=3).save(tmp_path / name)
        heard.append(PieceLabeller.load(tmp_path / name).predict(features))
    np.testing.assert_array_equal(*heard)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    PieceLabeller.load(tmp_path / "a").save(tmp_path / "c")  # other places in memory
    np.testing.assert_array_equal(heard[0], PieceLabeller.load(tmp_path / "c").predict(features))


@pytest.mark.parametrize(("pieces_n", "groups"), [(6, 6), (40, 1)])
def test_too_little_to_learn_from(pieces_n: int, groups: int) -> None:
    pieces, features = music(pieces_n)
    pieces["group"] = [f"g{i % groups}" for i in range(pieces_n)]
    with pytest.raises(UserError, match=r"labelled items in \d+ groups.*huesong data import"):
        PieceLabeller.fit(pieces, features)


def test_unlabelled_rows_are_ignored(fitted: tuple[PieceLabeller, pd.DataFrame, pd.DataFrame]) -> None:
    labeller, pieces, features = fitted
    extra, extra_features = music(30, seed=5)
    extra = unlabel(extra, np.ones(30, dtype=bool)).assign(group="other")
    extra["piece"] = extra["id"] = [f"u{i}" for i in range(30)]
    more = PieceLabeller.fit(
        pd.concat([pieces, extra], ignore_index=True), pd.concat([features, extra_features], ignore_index=True)
    )
    np.testing.assert_array_equal(labeller.predict(features), more.predict(features))


def test_folds_keep_groups_whole_and_are_never_more_than_groups() -> None:
    groups = np.repeat(["a", "b", "c"], 6)
    folds = group_folds(groups, 5)
    assert len(folds) == 3
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(18))


def test_a_saved_labeller_is_small_and_says_the_same(
    fitted: tuple[PieceLabeller, pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    labeller, _, features = fitted
    path = tmp_path / contracts.PIECE_LABELLER
    labeller.save(path)
    again = PieceLabeller.load(path)
    np.testing.assert_array_equal(labeller.predict(features), again.predict(features))
    np.testing.assert_array_equal(labeller.uncertainty(features), again.uncertainty(features))
    assert path.stat().st_size < 3_000_000
    assert os.listdir(tmp_path) == [path.name]


def test_damaged_labeller_files(fitted: tuple[PieceLabeller, pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    path = tmp_path / "labeller.safetensors"
    with pytest.raises(UserError, match="missing: run `huesong label`"):
        PieceLabeller.load(path)
    fitted[0].save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"no arrays at all", whole[: len(whole) // 2], whole[:5000] + b"\xff" * 2000 + whole[7000:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            PieceLabeller.load(path)


@pytest.mark.slow
def test_other_kinds_and_formats_are_refused(
    fitted: tuple[PieceLabeller, pd.DataFrame, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "labeller.safetensors"
    Judge(**vars(fitted[0])).save(path)
    with pytest.raises(UserError, match="is not a piece labeller"):
        PieceLabeller.load(path)
    monkeypatch.setattr(boosting, "FORMAT", 4)
    fitted[0].save(path)
    monkeypatch.undo()
    with pytest.raises(UserError, match="has format 4, this version reads 3"):
        PieceLabeller.load(path)


@pytest.mark.parametrize("pixels", [False, True])
def test_pictures_are_predicted_from_features_and_colours(pixels: bool) -> None:
    table, rows, colours = pictures(120, pixels=pixels)
    labeller = ImageLabeller.fit(rows, colours, Labelled.of(table, np.ones(120)))
    assert labeller.channels == (0 if pixels else 6)
    fresh, fresh_rows, fresh_colours = pictures(60, seed=7, pixels=pixels)
    seen = labeller.predict(fresh_rows, fresh_colours)
    assert np.abs(seen).max() <= 1
    found = agreement(va(fresh), seen, Bootstrap(100))
    assert found["arousal_r"] > 0.85  # from the first colour
    assert (found["valence_r"] > 0.85) == (not pixels)  # mostly from the features
    sd = labeller.uncertainty(60)
    assert sd.shape == (60, 2)
    np.testing.assert_allclose(sd[0], np.sqrt(((va(fresh) - seen) ** 2).mean(axis=0)), rtol=0.4)


def test_pictures_of_another_encoder_are_refused() -> None:
    table, rows, colours = pictures(40)
    labeller = ImageLabeller.fit(rows, colours, Labelled.of(table, np.ones(40)))
    with pytest.raises(UserError, match="reads 6 channels and 3 colour statistics, not 0"):
        labeller.predict(np.zeros((2, 8, 8, 3), np.uint8), colours[:2])
    with pytest.raises(UserError, match="not 6 and 2"):
        labeller.predict(rows[:2], colours[:2, :2])


def test_picture_folds_never_see_their_group() -> None:
    table, _, colours = pictures(80)
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(20, 1, 30)), 4, axis=0)  # four pictures of a group look alike
    target = np.repeat(rng.uniform(-0.8, 0.8, (20, 2)), 4, axis=0)
    groups = np.repeat([f"g{i}" for i in range(20)], 4)
    held = cross_predict_images(rows, colours, Labelled(target, np.ones(80), groups), 5)
    assert (ccc(target.T, held.T) < 0.4).all()
    assert len(table) == len(held)


def test_picture_labeller_files(tmp_path: Path) -> None:
    table, rows, colours = pictures(40)
    labeller = ImageLabeller.fit(rows, colours, Labelled.of(table, np.ones(40)))
    path = tmp_path / contracts.IMAGE_LABELLER
    labeller.save(path)
    np.testing.assert_array_equal(labeller.predict(rows, colours), ImageLabeller.load(path).predict(rows, colours))
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            ImageLabeller.load(path)
    np.savez(path.open("wb"), mean=np.zeros(3))
    with pytest.raises(UserError, match="not a picture labeller"):
        ImageLabeller.load(path)
    np.savez(path.open("wb"), mean=np.array([object()], dtype=object))
    with pytest.raises(UserError, match="damaged"):
        ImageLabeller.load(path)
    with pytest.raises(UserError, match="missing"):
        ImageLabeller.load(tmp_path / "none.npz")


@pytest.mark.real_data
def test_eimg_by_group_folds_reaches_the_bar() -> None:
    root = os.environ.get("HUESONG_REAL_DATA")
    if not root:
        pytest.skip("HUESONG_REAL_DATA is not set")
    from huesong.music.features import features
    from huesong.music.reading import Unusable, clean, read_score

    table = pd.read_csv(Path(root) / "music/eimg/labels.csv", dtype={"group": str})
    table = table[table["group"].isin(sorted(table["group"].unique())[::2])]  # half of the songs: enough, and quick
    kept, rows = [], []
    for index, name in table["path"].items():
        try:
            rows.append(features(clean(read_score(Path(root) / name))[0].score))
        except Unusable:
            continue
        kept.append(index)
    table = table.loc[kept]
    target = table[["valence_norm", "arousal_norm"]].to_numpy()
    labels = Labelled(target, np.ones(len(table)), table["group"].to_numpy())
    held = cross_predict(feature_columns(pd.DataFrame(rows)), labels, 5)
    found = agreement(target, held, Bootstrap(100))
    assert found["arousal_r"] >= 0.87
    assert found["valence_r"] >= 0.64
