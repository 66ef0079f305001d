"""emotion.baselines and the figures over them."""

import numpy as np
import pandas as pd
import pytest

from huesong.config import EvaluateConfig
from huesong.evaluate import baselines
from huesong.evaluate import metrics as evaluate_figures
from huesong.model.requests import Request, Sampled
from huesong.model.sampling import sample
from huesong.music import tokens
from huesong.music.features import features
from tests.tiny_music import model, tokenizer

CONFIG = EvaluateConfig.model_validate({"bootstrap": 100, "batch_size": 3, "sampling": {"seconds": 6.0}})


def test_the_nearest_piece_is_taken_and_never_an_unlabelled_one() -> None:
    library = np.array([[0.0, 0.0], [np.nan, 0.5], [0.5, 0.5], [-0.5, 0.2]])
    points = np.array([[0.4, 0.6], [-0.9, 0.9], [0.1, -0.1]])
    assert baselines.nearest(points, library).tolist() == [2, 3, 0]


def test_random_pieces_are_used_evenly_and_by_seed() -> None:
    picks = baselines.random_picks(10, 25, seed=4)
    assert sorted(np.bincount(picks, minlength=10)) == [2] * 5 + [3] * 5
    assert picks.tolist() == baselines.random_picks(10, 25, seed=4).tolist()
    assert picks.tolist() != baselines.random_picks(10, 25, seed=5).tolist()


@pytest.mark.parametrize(("available", "count", "rows"), [(5, 3, [0, 2, 4]), (3, 9, [0, 1, 2]), (4, 0, [])])
def test_requests_are_spread_evenly(available: int, count: int, rows: list[int]) -> None:
    assert baselines.spread(available, count).tolist() == rows


def test_the_rules_obey_and_keep_the_length() -> None:
    points = np.array([[0.8, 0.8], [-0.8, -0.8], [1.0, -1.0]])
    scores = baselines.by_rule(points, seconds=20.0, seed=0)
    heard = [features(score) for score in scores]
    assert heard[0]["tempo"] > heard[1]["tempo"] + 40
    assert heard[0]["mode_margin"] > 0 > heard[1]["mode_margin"]
    for score in scores:
        assert score.copy().to("second").end() == pytest.approx(20.0, rel=0.25)
    assert baselines.by_rule(points, 20.0, seed=1)[0] != scores[0]


def test_the_unconditional_model_hears_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "load", lambda path: tokenizer())
    seen: list[Request] = []
    composed: list[Sampled] = []

    def spy(*arguments: object) -> list[Sampled]:
        seen.extend(arguments[1])  # type: ignore[arg-type]
        assert arguments[2].guidance == 0  # type: ignore[attr-defined]
        assert arguments[2].candidates == 1  # type: ignore[attr-defined]
        composed.extend(made := sample(*arguments))  # type: ignore[arg-type]
        return made

    monkeypatch.setattr(baselines, "sample", spy)
    config = CONFIG.model_copy(update={"sampling": CONFIG.sampling.model_copy(update={"candidates": 3})})
    scores = baselines.unconditional(model(), 5, config)
    assert len(scores) == 5
    assert len({request.seed for request in seen}) == 5
    # With guidance 0 what is asked changes nothing.
    asked = zip(seen, composed, strict=True)
    loud = [Request(None, 0.9, 0.9, request.seed, request.seconds, plan=piece.plan) for request, piece in asked]
    made = sample(model(), loud, config.sampling.model_copy(update={"guidance": 0.0, "candidates": 1}))
    written = [tokens.decode(tokenizer(), piece.ids) for piece in made]
    for score, piece in zip(scores, written, strict=True):
        assert score.note_num() == piece.note_num()
        assert score.end() == piece.end()


def answers(asked: np.ndarray, first: np.ndarray, second: np.ndarray, **columns: object) -> pd.DataFrame:
    frame = pd.DataFrame(asked, columns=baselines.REQUESTED)
    frame[["obtained_valence", "obtained_arousal"]] = first
    frame[["second_valence", "second_arousal"]] = second
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


def test_figures_are_named_by_judge_set_and_who() -> None:
    rng = np.random.default_rng(0)
    asked = rng.uniform(-0.9, 0.9, (40, 2))
    stats = {name: rng.uniform(1, 2, 40) for name in evaluate_figures.statistics.STATISTIC_NAMES}
    sets = np.array(["pictures", "grid"])[np.arange(40) % 2]
    frame = answers(
        asked, asked, -asked, set=sets, image_id=[f"i{k // 2}" for k in range(40)],
        image_group=[f"g{k // 2}" for k in range(40)], piece=[f"p{k % 39}" for k in range(40)],
        invalid_tokens=0, seconds=6.0, picture_valence=asked[:, 0], picture_arousal=asked[:, 1],
        predicted_valence=asked[:, 0], predicted_arousal=asked[:, 1], **stats,
    )  # fmt: skip
    half = answers(asked, asked / 2, asked, set=sets, image_group=frame["image_group"], piece="x", **stats)
    twice = frame.assign(**{name: 2 * values for name, values in stats.items()})
    found = evaluate_figures.measure(frame, {"rules": half}, frame, twice, CONFIG)
    assert found["valence_r"] == found["grid_arousal_ccc"] == found["picture_valence_r"] == pytest.approx(1)
    assert found["second_valence_r"] == found["second_grid_arousal_r"] == pytest.approx(-1)
    assert found["picture_quadrant_by_medians"] == 1
    assert found["second_picture_quadrant_by_medians"] == pytest.approx(0, abs=0.1)  # turned round
    assert found["picture_valence_beyond_constant"] < -0.3 < 0.3 < found["second_picture_valence_beyond_constant"]
    assert found["picture_arousal_beyond_constant_low"] < found["picture_arousal_beyond_constant"]
    assert found["second_quadrant_accuracy"] == 0
    assert found["grid_rules_valence_r"] == found["second_rules_valence_ccc"] == pytest.approx(1)
    assert found["rules_valence_ccc"] < 0.9
    assert found["confusion_1_1"] > 0
    assert not [key for key in found if key.startswith("rules_confusion")]
    assert found["identical_share"] == pytest.approx(2 / 40)
    assert found["rules_identical_share"] == 1
    assert found["distance_paper"] == found["rules_distance_correct"] == pytest.approx(0)
    assert found["distance_taught_paper"] == found["distance_taught_correct"] == pytest.approx(3 * 0.5)
    assert found["length_within_10_percent"] == 1
    assert found["rules_pieces"] == 40


def test_pictures_of_a_group_count_as_one_draw_for_all_who_answer_and_those_of_the_grid_as_many() -> None:
    rng = np.random.default_rng(0)
    asked, heard = rng.uniform(-0.9, 0.9, (30, 2)), rng.uniform(-0.9, 0.9, (30, 2))
    stats = dict.fromkeys(evaluate_figures.statistics.STATISTIC_NAMES, 1.0)

    def found(copies: int, kind: str) -> dict[str, float]:
        asked_N2, heard_N2 = np.repeat(asked, copies, axis=0), np.repeat(heard, copies, axis=0)
        frame = answers(
            asked_N2, heard_N2, heard_N2, set=kind, image_id=[f"i{k}" for k in range(30 * copies)],
            image_group=np.repeat([f"g{k}" for k in range(30)], copies), piece="x",
            invalid_tokens=0, seconds=6.0, picture_valence=asked_N2[:, 1], picture_arousal=asked_N2[:, 0],
            predicted_valence=asked_N2[:, 0], predicted_arousal=asked_N2[:, 1], **stats,
        )  # fmt: skip
        return evaluate_figures.measure(frame, {"rules": frame}, frame, frame, CONFIG)

    def width(figures: dict[str, float], key: str) -> float:
        return figures[f"{key}_high"] - figures[f"{key}_low"]

    once, four = found(1, "pictures"), found(4, "pictures")
    for key in ("valence_ccc", "second_rules_arousal_mae", "picture_valence_r", "rules_quadrant_accuracy"):
        assert four[key] == pytest.approx(once[key])
        assert width(four, key) == pytest.approx(width(once, key))
    one, many = found(1, "grid"), found(4, "grid")
    assert width(many, "grid_rules_valence_ccc") < 0.7 * width(one, "grid_rules_valence_ccc")


class PackedMusic:
    """Stands for evaluate.novelty.Library: symbols of five pieces."""

    pieces = [np.arange(20), np.arange(100, 130), np.arange(50, 60), np.arange(105, 145), np.arange(300, 340)]

    def symbols(self, rows: np.ndarray) -> list[np.ndarray]:
        return [self.pieces[row] for row in rows]


def test_copied_notes_of_the_model_the_baselines_and_real_music() -> None:
    split = pd.Series(["train", "train", "val", "test", "test"])
    heard = pd.DataFrame({"symbols": [np.arange(5, 15), np.arange(200, 210), np.arange(95, 105)]})
    rules = pd.DataFrame({"symbols": [np.arange(20)]})
    found, copied = evaluate_figures.novelty(
        heard, {"rules": rules, "random": pd.DataFrame()}, PackedMusic(), split, CONFIG  # type: ignore[arg-type]
    )  # fmt: skip
    assert copied.tolist() == [11, 0, 6]
    assert found["copied_notes"] == pytest.approx(17 / 3)
    assert found["copied_share"] == pytest.approx((1 + 6 / 11) / 3)
    assert found["copied_notes_max"] == 11
    assert found["copied_notes_low"] <= found["copied_notes"] <= found["copied_notes_high"]
    # Real pieces are cut to 10 symbols, the composed pieces' median: 105..114 is in a training piece, 300.. is not.
    assert found["copied_notes_data"] == pytest.approx(11 / 2)
    assert found["n_copied_data"] == 2
    assert found["rules_copied_notes"] == 21
    assert "random_copied_notes" not in found


def test_calibration_has_a_row_for_every_level() -> None:
    axis = np.repeat([-0.8, 0.0, 0.8], 4)
    asked = np.stack([axis, axis], axis=1)
    frame = answers(asked, asked / 2, asked, set="grid")
    table = evaluate_figures.calibration_table(frame, CONFIG)
    assert table.shape[0] == 2 * 2 * 3
    first = table[(table["judge"] == "first") & (table["axis"] == "valence")]
    assert first["requested"].tolist() == [-0.8, 0.0, 0.8]
    assert first["mean"].tolist() == pytest.approx([-0.4, 0.0, 0.4])
    assert (first["n"] == 4).all()
