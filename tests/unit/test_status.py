from pathlib import Path

import pytest

from huesong import contracts
from huesong.cli.people import status
from huesong.register.life import promotion
from huesong.register.model_logging import log_model, new_run
from huesong.register.registry import GATE, RATED_PICTURES, ROLLED_BACK_AT, Registry
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError
from tests.stores import new_database


def test_nothing_run_yet_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc repro"):
        status.describe(tmp_path)


def test_names_the_champion_the_challenger_and_why_it_is_not_champion(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    uri = new_database(tmp_path / "mlflow.db")
    (tmp_path / "model").mkdir()
    artifacts.write_json(tmp_path / "model" / contracts.MODEL_CONFIG, {})
    (tmp_path / "README.md").write_text("card")
    registry = Registry(uri=uri)
    logged = log_model(tmp_path / "model", tmp_path / "README.md", {}, uri, new_run(uri, "status", tmp_path, {}), {})
    for rated, verdict in (("0", "passed (9 checks)"), ("0", "failed: n, valence_ccc_low")):
        made = registry.create(logged, {GATE: verdict, RATED_PICTURES: rated}, "card")
        registry.client.set_registered_model_alias(registry.name, contracts.CHALLENGER, made.version)
    text = status.describe(tmp_path, tmp_path)
    assert "champion    none" in text
    assert "challenger  models:/huesong/2, not champion: the gate failed: n, valence_ccc_low" in text
    promotion.promote(registry, "1")
    registry.tag("2", {ROLLED_BACK_AT: "2026"})
    text = status.describe(tmp_path, tmp_path)
    assert "champion    models:/huesong/1, since 20" in text
    assert "(it passed the gate); trained on no photograph that people rated" in text
    assert "not champion: it was rolled back; the gate failed: n" in text
    assert "composes    huesong-small, the shipped one (the champion models:/huesong/1 was trained on no" in text
    registry.client.set_registered_model_alias(registry.name, contracts.CHALLENGER, "1")
    assert "challenger" not in status.describe(tmp_path, tmp_path)


def test_a_registry_that_is_down_is_a_line_of_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "registry    the model registry at http://127.0.0.1:9" in status.describe(tmp_path)


def test_names_reports_and_the_registered_version(tmp_path: Path) -> None:
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / contracts.REPORT).write_text("<html>")
    (tmp_path / "register").mkdir()
    entry = {"name": "huesong", "version": 3, "aliases": ["challenger", "champion"]}
    artifacts.write_json(tmp_path / "register" / contracts.REGISTRATION, entry)
    text = status.describe(tmp_path, tmp_path)
    assert str(tmp_path / "evaluate" / contracts.REPORT) in text
    assert "model       models:/huesong/3" in text
    assert f"registry    none yet at {tmp_path / 'mlflow.db'}" in text
    assert "composes    huesong-small, the shipped one" in text
    assert "preprocess  not run yet" in text
