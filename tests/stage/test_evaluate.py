import dataclasses
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
import soundfile

from huesong import contracts
from huesong.evaluate import composing as evaluate_composing
from huesong.evaluate import stage as evaluate
from huesong.evaluate.quality.figures import piece_figures
from huesong.evaluate.quality.piece import cut, piece_of
from huesong.model.folder import load_model
from huesong.music.reading import read_score
from huesong.runtime.errors import UserError
from tests.conftest import Finished, World
from tests.tiny_music import model


@pytest.fixture
def evaluated(finished: Finished) -> Path:
    return finished.evaluate


def test_every_test_picture_and_grid_point_is_composed(world: World, evaluated: Path) -> None:
    heard = pd.read_csv(evaluated / contracts.REQUESTS)
    images = pd.read_parquet(world.preprocess / contracts.IMAGES_TABLE)
    assert set(heard.loc[heard["set"] == "pictures", "image_id"]) == set(images.loc[images["split"] == "test", "id"])
    assert (heard["set"] == "grid").sum() == 25
    assert all((evaluated / file).exists() for file in heard["file"])


def test_metrics_are_complete_and_consistent(evaluated: Path) -> None:
    metrics = json.loads((evaluated / contracts.FIGURES).read_text())
    heard = pd.read_csv(evaluated / contracts.REQUESTS)
    grid = heard[heard["set"] == "grid"]
    assert metrics["grid_n"] == 25
    assert metrics["pieces"] == len(heard)
    error = (grid["requested_arousal"] - grid["obtained_arousal"]).abs().mean()
    assert metrics["grid_arousal_mae"] == pytest.approx(error, abs=1e-4)
    assert metrics["grid_arousal_mae_low"] <= metrics["grid_arousal_mae"] <= metrics["grid_arousal_mae_high"]
    assert metrics["invalid_tokens"] == 0
    assert metrics["length_within_10_percent"] == 1.0
    assert metrics["distance_paper"] > 0
    assert metrics["distance_taught_paper"] > 0
    assert metrics["judge_n"] == metrics["second_judge_n"] > 0
    error = (grid["requested_arousal"] - grid["second_arousal"]).abs().mean()
    assert metrics["second_grid_arousal_mae"] == pytest.approx(error, abs=1e-4)
    assert heard["copied_notes"].mean() == pytest.approx(metrics["copied_notes"], abs=1e-4)
    assert metrics["copied_notes_max"] < metrics["note_count"] < metrics["note_count_data"] * 100


def test_the_baselines_answer_the_same_requests(world: World, evaluated: Path) -> None:
    metrics = json.loads((evaluated / contracts.FIGURES).read_text())
    heard = pd.read_csv(evaluated / contracts.REQUESTS)
    baselines = pd.read_csv(evaluated / contracts.LADDER)
    pieces = pd.read_parquet(world.preprocess / contracts.PIECES_TABLE)
    labels = pd.read_parquet(world.label / contracts.PIECE_LABELS)
    train = (pieces["split"] == "train").to_numpy()
    for name in ("random", "retrieval", "rules"):
        own = baselines[baselines["baseline"] == name].reset_index(drop=True)
        assert own["request"].tolist() == heard["request"].tolist()
        assert metrics[f"grid_{name}_n"] == metrics[f"second_grid_{name}_n"] == 25
        error = (own["requested_valence"] - own["obtained_valence"])[own["set"] == "grid"].abs().mean()
        assert metrics[f"grid_{name}_valence_mae"] == pytest.approx(error, abs=1e-4)
        if name != "rules":
            assert train[own["piece"].astype(int)].all()
    nearest = baselines[baselines["baseline"] == "retrieval"].iloc[-1]
    apart = ((labels[["valence", "arousal"]] - [0.8, 0.8]) ** 2).sum(axis=1)[train]
    assert int(nearest["piece"]) == apart.idxmin()
    assert (baselines["baseline"] == "unconditional").sum() == metrics["unconditional_pieces"] == 6
    assert metrics["rules_copied_notes"] > 0


def test_quality_stands_beside_real_music(world: World, evaluated: Path) -> None:
    metrics = json.loads((evaluated / contracts.FIGURES).read_text())
    heard = pd.read_csv(evaluated / contracts.REQUESTS)
    seconds = world.params.evaluate.sampling.seconds
    read = [cut(piece_of(read_score(evaluated / name)), seconds) for name in heard["file"]]
    own = [piece_figures(piece) for piece in read]
    assert metrics["quality_n"] == len(heard)
    for name in ("motif4", "step", "bar_repetition", "chord_fit", "cadences"):
        values = [one[name] for one in own if one[name] == one[name]]
        if name == "bar_repetition" and not values:  # such short pieces may have no bar two bars before another
            assert f"quality_{name}" not in metrics
            continue
        assert metrics[f"quality_{name}"] == pytest.approx(sum(values) / len(values))
        assert metrics[f"quality_{name}_low"] <= metrics[f"quality_{name}"] <= metrics[f"quality_{name}_high"]
        assert metrics[f"quality_{name}_data"] >= 0
    pieces = pd.read_parquet(world.preprocess / contracts.PIECES_TABLE)
    assert 0 < metrics["quality_n_data"] <= (pieces["split"] != "train").sum()
    assert metrics["quality_n_data"] == metrics["quality_c2st_n_real"]
    assert 0.5 < metrics["quality_c2st_shape"] <= 1
    assert 0.5 < metrics["quality_c2st_notes"] <= 1
    assert "Form, line, harmony, phrase" in (evaluated / contracts.REPORT).read_text()


@pytest.mark.slow
def test_without_baselines(world: World, tmp_path: Path) -> None:
    config = world.params.evaluate.model_copy(update={"baselines": False, "max_pictures": 1, "report_pieces": 0})
    report = evaluate.run(
        config, data=world.data, preprocess=world.preprocess, label=world.label, train=world.train,
        out=tmp_path / "out",
    )  # fmt: skip
    assert "rules_pieces" not in report.metrics
    assert "retrieval_n" not in report.metrics
    assert not (tmp_path / "out" / contracts.LADDER).exists()
    assert report.metrics["grid_n"] == 25


def test_a_critic_of_another_vocabulary_is_not_scored(world: World) -> None:
    pieces, config = pd.read_parquet(world.preprocess / contracts.PIECES_TABLE), world.params.evaluate
    own = load_model(world.train / contracts.MODEL)
    assert "critic_valence_r" in evaluate.critic_scores(own, pieces, world.preprocess, world.label, config)
    assert evaluate.critic_scores(model(), pieces, world.preprocess, world.label, config) == {}


def test_calibration_has_the_levels_of_the_grid(evaluated: Path) -> None:
    table = pd.read_csv(evaluated / contracts.CALIBRATION)
    part = table[(table["set"] == "grid") & (table["judge"] == "second") & (table["axis"] == "arousal")]
    assert part["requested"].tolist() == list(evaluate.GRID_AXIS)
    assert (part["n"] == 5).all()
    assert (part["low"] <= part["mean"]).all()


def test_report_is_self_contained_with_players_and_rolls(evaluated: Path) -> None:
    html = (evaluated / contracts.REPORT).read_text()
    pieces = len(list((evaluated / contracts.COMPOSED).iterdir()))
    assert html.count("<audio") == 2 + pieces
    for row in ("random training piece", "rule-based composer", "the model, nothing asked", "second judge"):
        assert row in html
    assert "data:audio/wav;base64," in html
    sounds = [evaluated / unquote(source) for source in re.findall(r"src=\"(?!data:)([^\"]*)\"", html)]
    assert sorted(sounds) == sorted((evaluated / contracts.SOUNDS).iterdir())
    assert len(sounds) == pieces
    sound, rate = soundfile.read(sounds[0])
    assert len(sound) / rate > 4
    assert abs(sound).max() > 0.01
    links = re.findall(r"href=\"([^\"]*)\"", html)
    assert len(links) == pieces
    assert all((evaluated / unquote(link)).is_file() for link in links)
    assert "with concordance valence" in html
    assert "Against the rule-based composer on the same requests: valence" in html
    assert "What falls short: " in html, "a model of six steps does fall short"


@pytest.mark.slow
def test_same_seed_same_figures(world: World, evaluated: Path, tmp_path: Path) -> None:
    again = evaluate.run(
        world.params.evaluate, data=world.data, preprocess=world.preprocess, label=world.label, train=world.train,
        out=tmp_path / "again",
    )  # fmt: skip
    assert again.metrics == json.loads((evaluated / contracts.FIGURES).read_text())


def test_a_stage_without_its_inputs_names_the_command(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="huesong train"):
        evaluate.run(
            world.params.evaluate, data=world.data, preprocess=world.preprocess, label=world.label,
            train=tmp_path / "none", out=tmp_path / "out",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_requests_for_pictures_leave_the_emotion_to_the_model(world: World) -> None:
    config = world.params.evaluate.model_copy(update={"per_picture": 2, "max_pictures": 1})
    rows = evaluate.picture_requests(config, world.preprocess, world.label)
    assert rows["seed"].tolist() == [0, 1]
    import numpy as np

    pictures = np.load(world.preprocess / contracts.PICTURE_FEATURES)
    request = evaluate_composing.request(rows.iloc[0], pictures, config.sampling)
    assert request.valence is None
    assert dataclasses.asdict(request)["picture"].shape == pictures.shape[1:]


@pytest.mark.slow
def test_the_pieces_do_not_depend_on_the_processes(world: World, tmp_path: Path) -> None:
    model = load_model(world.train / contracts.MODEL)
    made = []
    for name, changes in (("one", {"workers": 1, "batch_size": 8}), ("more", {"workers": 2, "batch_size": 2})):
        config = world.params.evaluate.model_copy(update=changes)
        asked = evaluate.grid_requests(config).iloc[:5]
        (tmp_path / name).mkdir()
        composed = evaluate_composing.compose_all(
            model, asked, world.preprocess, config, tmp_path / name / contracts.COMPOSED
        )
        made.append([(tmp_path / name / file).read_bytes() for file in composed["file"]])
    assert made[0] == made[1]
    assert len(set(made[0])) == 5
