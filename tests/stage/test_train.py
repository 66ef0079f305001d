from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from huesong import contracts
from huesong.model.dataset import load_examples
from huesong.model.folder import load_model
from huesong.runtime.errors import UserError
from huesong.train import loop as training
from huesong.train import stage as train
from huesong.train.loop import HISTORY_COLUMNS
from tests.tiny_training import CRITIC, NETWORK, settings, write_artifacts


def run(root: Path, out: str = "train", **changes: object) -> train.TrainReport:
    return train.run(
        settings(**changes), preprocess=root / "preprocess", label=root / "label", out=root / out,
        checkpoints=root / "checkpoints",
    )  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_artifacts(tmp_path)
    return tmp_path


def test_it_leaves_a_model_curves_and_figures(root: Path) -> None:
    report = run(root, pretrain_steps=4)
    out = root / "train"
    timeless = {name: value for name, value in report.metrics.items() if name != "seconds"}
    assert load_model(out / contracts.MODEL).config["training"]["metrics"] == timeless
    assert json.loads((out / contracts.FIGURES).read_text()) == report.metrics
    assert report.metrics.keys() >= {
        "val_ce", "train_ce", "val_perplexity", "parameters", "tokens_seen", "critic_val_arousal_r",
        "critic_val_valence_ccc", "picture_val_arousal_mae", "picture_val_pictures",
    }  # fmt: skip
    with (out / contracts.HISTORY).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(HISTORY_COLUMNS)
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    assert [row["phase"] for row in rows] == ["pretrain"] * 4 + ["pairs"] * 8
    assert [bool(row["val_loss"]) for row in rows] == [step % 4 == 0 for step in range(1, 13)]
    assert all(float(row["va"]) > 0 for row in rows if row["phase"] == "pairs")
    assert all(path.is_file() for path in report.files)
    kept = {
        path.name.partition("-")[0]: [file.name for file in path.iterdir()] for path in (root / "checkpoints").iterdir()
    }
    assert kept == {"base": ["done"], "critic": ["critic"]}  # for runs with another seed or objective


def test_rewards_start_from_the_pairs_of_a_run_that_kept_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"preprocess": root / "preprocess", "label": root / "label", "checkpoints": root / "kept"}
    plain = train.run(settings(pretrain_steps=2), **places, out=root / "plain", keep_pairs=True)
    kept = sorted(path.name.partition("-")[0] for path in (root / "kept").iterdir())
    assert kept == ["base", "critic", "pairs"]
    monkeypatch.setattr(training, "step_losses", lambda *_: pytest.fail("the pairs are trained again"))
    again = train.run(settings(pretrain_steps=2), **places, out=root / "again")
    ours, theirs = (load_file(report.out / "model" / contracts.MODEL_WEIGHTS) for report in (plain, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert sorted(path.name.partition("-")[0] for path in (root / "kept").iterdir()) == ["base", "critic"]


def test_the_same_seed_gives_the_same_weights(root: Path) -> None:
    run(root, "one")
    run(root, "two")
    run(root, "three", seed=1)
    one, two, three = (load_file(root / name / "model" / contracts.MODEL_WEIGHTS) for name in ("one", "two", "three"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["embedding.weight"], three["embedding.weight"])


def test_a_killed_run_is_resumed_and_a_changed_one_is_not(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(root, "straight")
    taken, step = 0, training.step_losses

    def dying_step(*given: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == 8:
            raise KeyboardInterrupt
        return step(*given)

    monkeypatch.setattr(training, "step_losses", dying_step)
    with pytest.raises(KeyboardInterrupt):
        run(root, "resumed")
    assert not (root / "resumed").exists()
    critics: list[int] = []
    monkeypatch.setattr(train, "train_critic", lambda *_, **__: critics.append(1))
    run(root, "resumed")
    assert taken == 8 + 2  # 6 of 8 steps were in a checkpoint
    assert not critics
    straight, resumed = (load_file(root / name / "model" / contracts.MODEL_WEIGHTS) for name in ("straight", "resumed"))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)

    folders = root / "preprocess", root / "label"
    before = train.input_digests(*folders)
    assert before == train.input_digests(*folders)
    name = train.digest(settings().model_dump(mode="json"), before)
    assert name != train.digest(settings(learning_rate=0.1).model_dump(mode="json"), before)
    base = train.base_settings(settings())
    assert base == train.base_settings(settings(learning_rate=0.1, objective="ce", seed=4))
    assert base != train.base_settings(settings(pretrain_steps=9))
    with (root / "label" / contracts.TRAINING_TABLE).open("ab") as stream:
        stream.write(b" ")
    assert before != train.input_digests(*folders)


def test_the_base_outlives_another_picture_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_artifacts(tmp_path, "features")
    run(tmp_path, "first", pretrain_steps=6)
    path = tmp_path / "preprocess" / contracts.PICTURE_FEATURES
    np.save(path, 3 - 2 * np.load(path))
    phases: list[str] = []
    step = training.step_losses
    monkeypatch.setattr(training, "step_losses", lambda *given: phases.append(given[1].name) or step(*given))
    run(tmp_path, "second", pretrain_steps=6)
    assert set(phases) == {"pairs"}
    monkeypatch.undo()
    for base in (tmp_path / "checkpoints").glob("base-*"):
        shutil.rmtree(base)
    run(tmp_path, "anew", pretrain_steps=6)
    first, second, anew = (
        load_file(tmp_path / name / "model" / contracts.MODEL_WEIGHTS) for name in ("first", "second", "anew")
    )
    assert all(torch.equal(second[name], anew[name]) for name in anew)  # as if trained on these pictures from the start
    assert not torch.equal(first["picture.feature_mean_C"], second["picture.feature_mean_C"])
    examples = load_examples(tmp_path / "preprocess", tmp_path / "label")
    before = train.base_inputs(examples, ["tokens", "vocabulary", "pictures", "labels"])
    assert before == train.base_inputs(examples, ["tokens", "vocabulary", "other pictures", "other labels"])
    examples.pieces.va_N2[0] += 0.5
    assert before != train.base_inputs(examples, ["tokens", "vocabulary", "pictures", "labels"])


def test_global_settings_of_torch_are_put_back(root: Path) -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    run(root, steps=2)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_frozen_features_train_too(tmp_path: Path) -> None:
    write_artifacts(tmp_path, "features")
    report = run(tmp_path, objective="ce+contrastive", steps=4)
    assert report.metrics["picture_val_valence_ccc"] > 0.9
    assert load_model(tmp_path / "train" / contracts.MODEL).network.picture_shape.kind == "features"


def test_a_failed_run_leaves_the_last_good_one(root: Path) -> None:
    run(root, steps=2)
    before = json.loads((root / "train" / contracts.FIGURES).read_text())
    (root / "preprocess" / contracts.TOKENIZER).unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json is missing: run `huesong preprocess` first"):
        run(root, steps=3)
    assert json.loads((root / "train" / contracts.FIGURES).read_text()) == before


def test_missing_artifacts_name_the_command(root: Path) -> None:
    (root / "label" / contracts.TRAINING_TABLE).unlink()
    with pytest.raises(UserError, match="run `huesong label` first"):
        run(root)
    (root / "preprocess" / contracts.TOKENS).unlink()
    with pytest.raises(UserError, match="run `huesong preprocess` first"):
        run(root)


def test_sizes_that_do_not_fit_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"train\.network\.width = 30 .* take 28 or 32"):
        run(root, network=NETWORK.model_dump() | {"width": 30})
    with pytest.raises(UserError, match=r"train\.critic\.width = 22"):
        run(root, critic=CRITIC.model_dump() | {"width": 22})


def test_compiling_without_a_compiler_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match="install g"):
        run(root, compile=True)
    assert not (root / "checkpoints").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_cuda_where_there_is_none_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"set train\.device to auto or cpu"):
        run(root, device="cuda")


def test_the_model_says_what_it_learned_from(root: Path) -> None:
    run(root, steps=2)
    rows = load_model(root / "train" / contracts.MODEL).config["training"]["data"]
    assert {row["kind"]: row["items"] for row in rows} == {"pictures": 24, "music segments": 24}
    assert {(row["source"], row["licence"], row["labels"]) for row in rows} == {("sample", "CC0-1.0", "construction")}
