"""The champion answers a challenger's requests, and the gate reads the difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from huesong import contracts
from huesong.config import EvaluateConfig, RegisterConfig
from huesong.evaluate.quality.rival import ASKED, Rivalry, differences, read_requests
from huesong.register import stage as register
from huesong.register.gate import LATENCY
from huesong.register.life import showing
from huesong.register.registry import Registry
from huesong.register.stage import Measured
from huesong.runtime.errors import UserError
from huesong.runtime.files import folder_digest, write_json
from tests.conftest import Finished
from tests.stores import new_database

REFERENCE = np.array([0.5, 2.5, 0.9])


def answers(error: float, seed: int = 0, distance: float = 0.0, n: int = 60) -> pd.DataFrame:
    """Made-up answers to requests that are the same for every call: heard with an error, off the data by a distance."""
    asked, noise = np.random.default_rng(7).uniform(-1, 1, (n, 2)), np.random.default_rng(seed).normal(0, error, (n, 2))
    frame = pd.DataFrame(asked, columns=["requested_valence", "requested_arousal"])
    frame[["obtained_valence", "obtained_arousal"]] = asked + noise
    frame["set"] = np.where(np.arange(n) < n // 2, "pictures", "grid")
    frame["image_group"] = [f"group {i % 10}" for i in range(n)]
    frame["seconds"] = 30.0
    frame[["polyphony_rate", "pitch_entropy", "groove_paper"]] = REFERENCE * (1 + distance)
    return frame


def test_who_answers_better_gains_for_certain_and_who_answers_alike_does_not() -> None:
    config = EvaluateConfig(bootstrap=200)
    found = differences(answers(0.1, 1), answers(0.8, 2), REFERENCE, config)
    assert found["grid_valence_ccc"]["low"] > 0.1
    assert found["grid_valence_ccc"]["value"] > 0.9 > found["grid_valence_ccc"]["champion"]
    back = differences(answers(0.8, 2), answers(0.1, 1), REFERENCE, config)
    assert back["grid_valence_ccc"]["high"] == pytest.approx(-found["grid_valence_ccc"]["low"])
    alike = differences(answers(0.3, 1), answers(0.3, 2), REFERENCE, config)
    assert alike["grid_valence_ccc"]["low"] < 0 < alike["grid_valence_ccc"]["high"]
    same = differences(answers(0.3, 1), answers(0.3, 1), REFERENCE, config)
    assert {(one["low"], one["high"]) for one in same.values()} == {(0.0, 0.0)}
    far = differences(answers(0.3, 1, distance=0.5), answers(0.3, 1), REFERENCE, config)
    assert far["distance_paper"]["value"] == pytest.approx(1.5)
    assert far["distance_paper"]["low"] == pytest.approx(1.5)


def test_what_is_no_number_is_left_out() -> None:
    broken = answers(0.3, 1)
    broken.loc[broken["set"] == "grid", "obtained_valence"] = np.nan
    found = differences(broken, answers(0.3, 2), REFERENCE, EvaluateConfig(bootstrap=100))
    assert "grid_valence_ccc" not in found
    assert "grid_arousal_ccc" in found


@pytest.mark.slow
def test_a_champion_that_is_the_same_model_answers_the_same(finished: Finished, tmp_path: Path) -> None:
    world = finished.world
    rivalry = Rivalry(
        world.train, finished.evaluate, world.preprocess, world.data, tmp_path / "rival", world.params.evaluate
    )
    model = world.train / contracts.MODEL
    found = rivalry.against(lambda: model, "digest")
    assert {"valence_ccc", "grid_arousal_ccc", "distance_paper", "length_within_10_percent"} <= found.keys()
    for name, one in found.items():
        assert [one["low"], one["high"]] == pytest.approx([0, 0], abs=1e-3), name
        assert one["value"] == pytest.approx(one["champion"], abs=1e-3), name
    figures = register.read_figures(finished.evaluate)
    assert found["grid_valence_ccc"]["value"] == pytest.approx(figures["grid_valence_ccc"], abs=1e-3)
    assert rivalry.against(lambda: pytest.fail("measured again"), "digest") == found
    assert Measured(tmp_path / "rival").against(lambda: model, "digest") == found
    assert Measured(tmp_path / "rival").against(lambda: model, "another") == {}
    requests = read_requests(finished.evaluate / contracts.REQUESTS)
    assert set(ASKED) <= set(requests.columns)
    assert not list((tmp_path).glob(".huesong-*"))


@pytest.mark.slow
def test_the_task_measures_what_the_gate_asks_and_no_more(finished: Finished, tmp_path: Path) -> None:
    world = finished.world
    rivalry = Rivalry(
        world.train, finished.evaluate, world.preprocess, world.data, tmp_path / "rival", world.params.evaluate
    )
    registry = Registry(uri=finished.tracking_uri)
    gate = tmp_path / "gate.yaml"
    gate.write_text("absolute: {invalid_tokens: {max: 0}}")
    rivalry.prepare(gate, registry)
    assert Measured(tmp_path / "rival").measured() == {}
    gate.write_text(
        f"absolute: {{{LATENCY}: {{max: 600}}}}\nrelative: {{valence_ccc: {{better: higher}}}}\ngain: valence_ccc"
    )
    rivalry.prepare(gate, registry)
    assert 0 < Measured(tmp_path / "rival").measured()[LATENCY] < 600
    assert [path.name for path in (tmp_path / "rival").iterdir()] == ["measured.json"], (
        "the champion is this very model"
    )


class Told:
    """What a Rivalry would find, told beforehand: gains by the champion's digest."""

    def __init__(self, gain: float, half: float = 0.05) -> None:
        self.gain, self.half, self.asked = gain, half, 0

    def measured(self) -> dict[str, float]:
        return {LATENCY: 3.0}

    def against(self, champion: Callable[[], Path], digest: str) -> Any:
        assert folder_digest(champion()) == digest
        self.asked += 1
        value = 0.5 + self.gain
        return {"r": {"value": value, "champion": 0.5, "low": self.gain - self.half, "high": self.gain + self.half}}


class Gains:
    """Registers models whose gain over the champion is told beforehand."""

    def __init__(self, folder: Path, uri: str, name: str) -> None:
        self.folder, self.uri, self.name = folder, uri, name
        (folder / "evaluate").mkdir()
        write_json(folder / "evaluate" / contracts.FIGURES, {"n": 3})
        self.gate = folder / "gate.yaml"
        relative = "relative: {r: {better: higher, margin: 0.1}}\ngain: r\n"
        self.gate.write_text(f"absolute: {{{LATENCY}: {{max: 5}}}}\n{relative}")

    def enter(self, seed: int, rivalry: Told | None, data: Sequence[dict[str, Any]] = ()) -> register.RegisterReport:
        model = self.folder / f"{seed}" / contracts.MODEL
        model.mkdir(parents=True, exist_ok=True)
        write_json(model / contracts.MODEL_CONFIG, {"format": 1, "training": {"seed": seed, "data": list(data)}})
        return register.run(
            RegisterConfig(model_name=self.name, experiment="rivals"), train=model.parent,
            evaluate=self.folder / "evaluate", gate=self.gate, out=self.folder / "register", tracking_uri=self.uri,
            tags={}, rivalry=rivalry,
        )  # fmt: skip

    def first_tie_better_worse(self) -> None:
        """What the gate makes of each, and what the journal then tells."""
        first = Told(0.0)
        assert contracts.CHAMPION in self.enter(1, first).aliases
        assert first.asked == 0
        tie = self.enter(2, Told(0.0, 0.0))
        assert tie.aliases == [contracts.CHALLENGER]
        assert "failed: r" in tie.note
        assert "gain +0.000 [+0.000, +0.000]" in str(tie)
        better = Told(0.2)
        assert contracts.CHAMPION in self.enter(3, better).aliases
        assert better.asked == 1, "once before the model was logged, and not again"
        assert self.enter(4, Told(-0.2)).note == "not promoted, the gate failed: r"
        history = showing.history(Registry(self.name, uri=self.uri))
        assert [one.kind for one in history] == ["promote", "refuse", "promote", "refuse"]
        assert history[2].verdict["checks"][-1]["note"] == "gain +0.200 [+0.150, +0.250]"


def test_first_better_worse_and_tie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HUESONG_SESSION"):
        monkeypatch.delenv(key, raising=False)
    gains = Gains(tmp_path, new_database(tmp_path / "mlflow.db"), "rivals")
    gains.first_tie_better_worse()
    entered = gains.enter
    unmeasured = entered(5, None)
    assert unmeasured.note == f"not promoted, the gate failed: {LATENCY}, r"
    photographs = {"kind": "pictures", "labels": "mean_rating", "items": 40, "source": "s", "licence": "CC0"}
    worse = Told(-0.2)
    assert contracts.CHAMPION in entered(6, worse, [photographs]).aliases
    assert worse.asked == 0, "the first model of photographs is no rival of one without"
    painted = entered(7, worse)
    assert painted.note == "not promoted, the gate failed: rated_pictures"
    assert worse.asked == 0

    monkeypatch.setattr(register, "log_model", lambda *_: pytest.fail("logged, and no version comes of it"))
    with pytest.raises(UserError, match="cannot be read"):
        entered(8, Damaged(0.0), [photographs])


class Damaged(Told):
    """A champion that cannot answer."""

    def against(self, champion: Callable[[], Path], digest: str) -> Any:
        raise UserError("the champion's weights cannot be read")
