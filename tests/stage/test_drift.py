"""Whether what is asked is still like what was learnt: counts of served requests, the index, and `huesong retrain --drift`."""

from __future__ import annotations

import json
import math
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from huesong import contracts
from huesong.compose.composer import Composer
from huesong.compose.drift import counts, index
from huesong.compose.drift.learnt import learnt_counts
from huesong.config import RegisterConfig, SamplingConfig
from huesong.register.life import retraining
from huesong.runtime.errors import UserError
from tests.console import huesong

if TYPE_CHECKING:
    from tests.conftest import Finished, World

SHORT = SamplingConfig(seconds=4.0)


def picture(red: int, green: int, blue: int) -> Image.Image:
    return Image.new("RGB", (64, 64), (red, green, blue))


def test_the_index_is_that_of_its_formula_and_knows_chance() -> None:
    learnt, asked = [50, 30, 20], [20, 30, 50]
    shares = [[(n + 0.5) / 101.5 for n in one] for one in (learnt, asked)]
    by_hand = sum((a - e) * math.log(a / e) for e, a in zip(*shares, strict=True))
    assert index.stability(learnt, asked) == pytest.approx(by_hand)
    assert index.stability(learnt, learnt) == 0
    assert 0 < index.stability([100, 0], [0, 100]) < math.inf
    rng = np.random.default_rng(0)
    drawn = [[np.histogram(rng.random(n), 10, (0, 1))[0] for n in (400, 250)] for _ in range(300)]
    mean = np.mean([index.stability(*pair) for pair in drawn])
    assert mean == pytest.approx(index.expected(10, 400, 250), rel=0.15)


def test_a_feature_that_moved_is_named_and_too_few_say_nothing() -> None:
    rng = np.random.default_rng(1)

    def drawn(n: int, shift: float) -> counts.Counts:
        return counts.of_values(
            {name: float(rng.uniform(low, high)) for name, (low, high) in counts.FEATURES.items()}
            | {"valence": float(np.clip(rng.normal(shift, 0.3), -1, 1))}
            for _ in range(n)
        )

    learnt = drawn(1000, 0.0)
    same = index.drift(learnt, drawn(300, 0.0), 0.25, 200)
    assert same.moved == []
    assert str(same).endswith("no drift")
    moved = index.drift(learnt, drawn(300, 0.5), 0.25, 200)
    assert moved.moved == ["valence"]
    assert str(moved).endswith("drift in valence")
    few = index.drift(learnt, drawn(20, 0.9), 0.25, 200)
    assert few.moved == []
    assert "too few to tell: 200 are asked for" in str(few)


def test_composing_adds_counts_and_keeps_no_picture(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "served" / "counts.json"
    composer = Composer(world.train / contracts.MODEL)
    composer.compose(picture(200, 200, 200), SHORT)
    assert not path.exists()
    monkeypatch.setenv(counts.VARIABLE, str(path))
    piece = composer.compose(picture(250, 10, 10), SHORT)
    composer.compose(None, SHORT, valence=0.1, arousal=0.2)  # no picture: nothing is seen
    kept = counts.read(path)
    assert {name: sum(bins) for name, bins in kept.items()} == dict.fromkeys(counts.FEATURES, 1)
    assert piece.predicted is not None
    assert kept["valence"][min(9, int((piece.predicted[0] + 1) * 5))] == 1
    assert kept["brightness_mean"][int((0.299 * 250 + 0.587 * 10 + 0.114 * 10) / 255 * 10)] == 1
    assert path.stat().st_size < 1000
    path.write_text("{}")
    composer.compose(picture(0, 0, 255), SHORT)  # a warning, and music
    assert path.read_text() == "{}"
    with pytest.raises(UserError, match="no counts that can be read"):
        counts.read(path)


def test_the_registered_model_counts_too(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64
    import io

    import mlflow.pyfunc

    from huesong.register.registry import Registry
    from huesong.tracking import store

    path = tmp_path / "counts.json"
    monkeypatch.setenv(counts.VARIABLE, str(path))
    version = Registry(uri=finished.tracking_uri).by_version("1")
    with store.as_default(finished.tracking_uri):
        loaded = mlflow.pyfunc.load_model(version.source)
    shown = io.BytesIO()
    picture(10, 200, 10).save(shown, "PNG")
    row: dict[str, Any] = {"picture": base64.b64encode(shown.getvalue()).decode(), "seconds": 4.0}
    loaded.predict(pd.DataFrame([row, row]))
    assert sum(counts.read(path)["saturation_mean"]) == 2


def test_many_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    one = counts.of_values([dict.fromkeys(counts.FEATURES, 0.05)])
    path = tmp_path / "counts.json"
    threads = [threading.Thread(target=lambda: [counts.add(path, one) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {sum(bins) for bins in counts.read(path).values()} == {40}


def test_what_was_learnt_is_counted_as_the_model_sees_it(world: World) -> None:
    images = pd.read_parquet(world.preprocess / contracts.IMAGES_TABLE)
    learnt = learnt_counts(world.preprocess, world.train)
    known = int(images["split"].isin(["train", "val"]).sum())
    assert {sum(bins) for bins in learnt.values()} == {known}
    colours = np.load(world.preprocess / contracts.PICTURE_COLOURS)[images["split"].isin(["train", "val"])]
    assert learnt["brightness_mean"] == np.histogram(colours[:, 0], 10, (0, 1))[0].tolist()


def test_retrain_reports_drift_and_trains_only_then_where_asked(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "artifacts").mkdir()
    for name in ("preprocess", "train"):
        os.symlink(getattr(world, name), tmp_path / "artifacts" / name)
    (tmp_path / "params.yaml").write_text(json.dumps({"register": {"drift_pictures": 10}}))
    told, path = tmp_path / "told.json", tmp_path / "counts.json"
    monkeypatch.setenv("HUESONG_ON_FAILURE", f"tee {told}")
    calls: list[object] = []
    # What a retraining does is tested in tests/system/test_retrain.py; here, whether it is begun.
    monkeypatch.setattr(retraining, "retrain", lambda *given, **named: calls.append(given) or (0, "trained"))  # type: ignore[func-returns-value]

    def retrain(*words: str) -> Any:
        return huesong("retrain", "--drift", path, *words, cwd=tmp_path)

    missing = retrain()
    assert (missing.returncode, "counts.json does not exist" in missing.stderr) == (retraining.FAILED, True)
    alone = huesong("retrain", "--on-drift", cwd=tmp_path)
    assert (alone.returncode, "needs the file of --drift" in alone.stderr) == (retraining.FAILED, True)
    learnt = learnt_counts(world.preprocess, world.train)
    counts.add(path, learnt)
    same = retrain("--on-drift")
    assert (same.returncode, "no drift" in same.stdout) == (retraining.NOTHING_NEW, True)
    assert retrain().stdout.endswith("trained\n")
    assert (len(calls), told.exists()) == (1, False)
    path.unlink()
    counts.add(path, {name: [50, *[0] * 9] for name in counts.FEATURES})
    moved = retrain("--on-drift")
    assert (moved.returncode, "drift in" in moved.stdout) == (0, True)
    event = json.loads(told.read_text())
    assert (len(calls), event["event"], event["pictures"]) == (2, "drift", 50)
    assert "brightness_mean" in event["what"]
    assert RegisterConfig().drift_psi == 0.25
