import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from huesong import contracts
from huesong.config import Params, RegisterConfig
from huesong.register import model_logging as pyfunc_logging
from huesong.register import stage as register
from huesong.register.life import promotion
from huesong.register.registry import (
    DIGEST,
    FIGURES,
    GATE,
    PROMOTED_AT,
    PROMOTED_WHY,
    ROLLED_BACK_AT,
    Registry,
    Version,
    resolve_model,
    same_data,
)
from huesong.runtime.errors import UserError
from huesong.runtime.files import folder_digest, write_json
from huesong.tracking.provenance import DATA_DIGEST
from huesong.tracking.runs import stage_run
from tests.console import huesong
from tests.stores import new_database

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HUESONG_CACHE"):
        monkeypatch.delenv(key, raising=False)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sqlite registry."""
    return new_database(tmp_path_factory.mktemp("registry") / "store" / "mlflow.db")


@pytest.fixture(scope="module")
def logged(uri: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[pyfunc_logging.Logged, Path]:
    """A logged model: what is in its folder does not matter here."""
    folder = tmp_path_factory.mktemp("logged")
    (folder / "model" / "encoder").mkdir(parents=True)
    write_json(folder / "model" / contracts.MODEL_CONFIG, {"format": 1})
    write_json(folder / "model" / "encoder" / "encoder.json", {})
    (folder / "README.md").write_text("# card")
    return log(folder, uri, {"arousal_r": 0.5, "nested": {"n": 2}}), folder / "model"


def log(folder: Path, uri: str, metrics: dict[str, object]) -> pyfunc_logging.Logged:
    """Log `model` and `README.md` of a folder, in a run of their own."""
    tags = {"huesong.version": "1"}
    run_id = pyfunc_logging.new_run(uri, "models", folder, tags)
    return pyfunc_logging.log_model(folder / "model", folder / "README.md", metrics, uri, run_id, tags)


def registry_of(name: str, logged: pyfunc_logging.Logged, uri: str, versions: int) -> Registry:
    """A registered model with so many versions of one and the same logged model."""
    registry = Registry(name, uri=uri)
    for _ in range(versions):
        registry.create(logged, {GATE: "passed (1 checks)"}, "card")
    return registry


def champion(registry: Registry) -> str | None:
    found = registry.by_alias(contracts.CHAMPION)
    return found.version if found else None


def test_versions_are_found_by_number_digest_and_alias(logged: tuple[pyfunc_logging.Logged, Path], uri: str) -> None:
    registry = registry_of("find", logged[0], uri, 11)
    registry.tag("10", {DIGEST: "digest-10"})
    assert [v.version for v in registry.versions()] == [str(n) for n in range(1, 12)]
    found = registry.by_digest("digest-10")
    assert found is not None
    assert found.uri == "models:/find/10"
    assert registry.by_digest("digest-99") is None
    assert registry.by_alias(contracts.CHAMPION) is None
    registry.client.set_registered_model_alias(registry.name, contracts.CHALLENGER, "2")
    registry.client.set_registered_model_alias(registry.name, contracts.CHALLENGER, "3")
    assert registry.aliases("2") == []
    assert registry.aliases("3") == [contracts.CHALLENGER]
    with pytest.raises(UserError, match="no version 12"):
        registry.by_version("12")


def test_a_model_that_was_never_registered_has_no_versions(uri: str) -> None:
    registry = Registry("never", uri=uri)
    assert registry.versions() == []
    assert registry.by_alias(contracts.CHAMPION) is None


def test_promotion_moves_champion_and_is_idempotent(logged: tuple[pyfunc_logging.Logged, Path], uri: str) -> None:
    registry = registry_of("promote", logged[0], uri, 2)
    promotion.promote(registry, "1")
    since = registry.by_version("1").tags[PROMOTED_AT]
    promotion.promote(registry, "1")
    assert registry.by_version("1").tags[PROMOTED_AT] == since
    promotion.promote(registry, "2")
    assert champion(registry) == "2"
    assert registry.aliases("1") == [contracts.PREVIOUS]
    with pytest.raises(UserError, match="no version 3"):
        promotion.promote(registry, "3")
    assert champion(registry) == "2"


def test_roll_back_walks_the_champions_of_the_past(logged: tuple[pyfunc_logging.Logged, Path], uri: str) -> None:
    registry = registry_of("back", logged[0], uri, 4)
    with pytest.raises(UserError, match="no champion"):
        promotion.roll_back(registry)
    for version in ("1", "3", "4"):  # 2 was never champion
        promotion.promote(registry, version)
    assert promotion.roll_back(registry).version == "3"
    assert champion(registry) == "3"
    assert ROLLED_BACK_AT in registry.by_version("4").tags
    assert promotion.roll_back(registry).version == "1"
    with pytest.raises(UserError, match="no champion before version 1"):
        promotion.roll_back(registry)
    assert champion(registry) == "1"

    promotion.promote(registry, "4")  # by name it may come back
    assert champion(registry) == "4"
    assert ROLLED_BACK_AT not in registry.by_version("4").tags
    assert promotion.roll_back(registry).version == "1"


def test_uris_resolve_to_the_very_model_folder(logged: tuple[pyfunc_logging.Logged, Path], uri: str) -> None:
    made, source = logged
    promotion.promote(registry_of("resolve", made, uri, 1), "1")
    for name in (f"models:/resolve@{contracts.CHAMPION}", "models:/resolve/1"):
        folder = resolve_model(name, tracking_uri=uri)
        assert folder_digest(folder) == folder_digest(source)


def test_a_version_that_failed_the_gate_is_promoted_by_force_and_with_a_reason_alone(
    logged: tuple[pyfunc_logging.Logged, Path], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(contracts.MODEL_NAME, logged[0], uri, 2)
    registry.tag("2", {GATE: "failed: n"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert huesong("registry", "promote", "1").returncode == 0
    for options in ((), ("--force",), ("--force", "--reason", " "), ("--reason", "a demonstration")):
        refused = huesong("registry", "promote", "2", *options)
        assert refused.returncode == 2
        assert "the gate failed: n" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert champion(registry) == "1"
    assert "2 is the champion" in huesong("registry", "promote", "2", "--force", "--reason", "a demonstration").stdout
    assert registry.by_version("2").tags[PROMOTED_WHY] == "a demonstration"
    assert "models:/huesong/1 is the champion again" in huesong("registry", "rollback").stdout
    assert huesong("registry", "rollback").returncode == 2


def test_promotions_are_ordered_by_a_counter_not_by_clocks(
    logged: tuple[pyfunc_logging.Logged, Path], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of("clocks", logged[0], uri, 3)
    for version, clock in (("1", "2030-01-01"), ("2", "2020-01-01"), ("3", "2025-01-01")):
        monkeypatch.setattr("huesong.register.life.promotion.now", lambda clock=clock: clock)
        promotion.promote(registry, version)
    assert promotion.roll_back(registry).version == "2"
    assert promotion.roll_back(registry).version == "1"


def test_tags_come_before_the_alias(
    logged: tuple[pyfunc_logging.Logged, Path], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of("order", logged[0], uri, 2)
    promotion.promote(registry, "1")
    with monkeypatch.context() as patch:
        patch.setattr(registry.client, "set_registered_model_alias", lambda *_: pytest.fail("killed"))
        with pytest.raises(BaseException, match="killed"):
            promotion.promote(registry, "2")
    assert champion(registry) == "1"
    assert PROMOTED_AT in registry.by_version("2").tags
    promotion.repair(registry)  # as the next command does
    assert champion(registry) == "2"
    assert promotion.roll_back(registry).version == "1"


def test_figures_of_a_version_come_back(logged: tuple[pyfunc_logging.Logged, Path], uri: str) -> None:
    registry = registry_of("figures", logged[0], uri, 1)
    assert registry.by_version("1").figures == {}
    registry.tag("1", {FIGURES: '{"arousal_r": 0.5}'})
    assert registry.by_version("1").figures == {"arousal_r": 0.5}


def test_the_runs_figures_belong_to_the_logged_model(logged: tuple[pyfunc_logging.Logged, Path], uri: str) -> None:
    from mlflow import MlflowClient

    found = MlflowClient(uri).get_logged_model(logged[0].model_id)
    assert {metric.key: metric.value for metric in found.metrics} == {"evaluate/arousal_r": 0.5, "evaluate/nested.n": 2}


@pytest.mark.parametrize(
    "name", ["model", "models:/huesong", "models:/a/b/c", "models:/huesong/latest", "runs:/1/model"]
)
def test_what_is_no_model_uri_is_refused(name: str, uri: str) -> None:
    with pytest.raises(UserError, match="models:/huesong@champion"):
        resolve_model(name, tracking_uri=uri)


def test_a_missing_alias_names_the_versions(logged: tuple[pyfunc_logging.Logged, Path], uri: str) -> None:
    registry_of("noalias", logged[0], uri, 2)
    with pytest.raises(UserError, match=r"alias champion.*models:/noalias/2"):
        resolve_model("models:/noalias@champion", tracking_uri=uri)


def test_without_a_registry_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc repro"):
        resolve_model("models:/huesong@champion", root=tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "params.yaml").write_text("")
    for words in (("list",), ("show", "1"), ("rollback",), ("audit",), ("backup", "all.tar"), ("gc",)):
        done = huesong("registry", *words, cwd=tmp_path, env={"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'm.db'}"})
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert f"no model registry at {tmp_path / 'm.db'}: run `dvc repro` first" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_what_is_no_number_is_no_version(logged: tuple[pyfunc_logging.Logged, Path], uri: str) -> None:
    registry = registry_of("numbers", logged[0], uri, 1)
    for name in ("latest", "-1", "1.0", "²", ""):
        with pytest.raises(UserError, match="is no version: give its number, as `huesong registry list` shows it"):
            registry.by_version(name)
    assert registry.by_version("1").version == "1"


def test_a_registry_that_is_down_is_a_user_error() -> None:
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        resolve_model("models:/huesong@champion", tracking_uri="http://127.0.0.1:9")


def test_files_that_are_gone_are_an_error(logged: tuple[pyfunc_logging.Logged, Path], uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write_json(folder / contracts.MODEL_CONFIG, {"format": 1})
    (tmp_path / "README.md").write_text("card")
    registry = registry_of("gone", log(tmp_path, uri, {}), uri, 1)
    version = registry.by_version("1")
    assert registry.intact(version)
    local = registry.folder(version)
    local.rename(tmp_path / "away")
    assert not registry.intact(version)
    with pytest.raises(UserError, match="are missing or damaged"):
        registry.folder(version)


def test_nothing_of_the_process_is_left_changed(
    logged: tuple[pyfunc_logging.Logged, Path], uri: str, tmp_path: Path
) -> None:
    import mlflow

    before = dict(os.environ), mlflow.get_tracking_uri()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "x.json").write_text("{}")
    (tmp_path / "README.md").write_text("card")
    log(tmp_path, uri, {})
    assert (dict(os.environ), mlflow.get_tracking_uri()) == before
    assert mlflow.active_run() is None


def test_requirements_are_pinned_and_free_of_local_versions() -> None:
    found = pyfunc_logging.requirements()
    assert not any(line.startswith("huesong==") for line in found), "no index has it: a version carries it"
    assert any(line.startswith("numpy==") for line in found)
    assert not any(line.startswith(("torch==", "scikit-learn==")) for line in found), "composing needs neither"
    assert all("==" in line and "+" not in line for line in found)
    assert not any(line.startswith(("kfp", "dvc", "great")) for line in found)


def test_the_signature_takes_its_own_example() -> None:
    from mlflow.models.utils import _enforce_schema

    example = pyfunc_logging.input_example()
    signature = pyfunc_logging.signature()
    assert list(_enforce_schema(example, signature.inputs).columns) == [
        "picture",
        "valence",
        "arousal",
        "seconds",
        "seed",
    ]
    assert list(_enforce_schema(example[["valence", "arousal"]], signature.inputs).columns) == ["valence", "arousal"]
    assert set(signature.params.to_dict()[0]) >= {"name", "default"}


def test_same_data() -> None:
    version = Version("m", "1", None, None, "", {DATA_DIGEST: "a"})
    assert same_data(version, {DATA_DIGEST: "a"})
    assert not same_data(version, {DATA_DIGEST: "b"})
    assert same_data(version, {})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real tracking server with the options of mlflow/compose.yaml, but for the stores, which are files here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text())["services"]["mlflow"]
    stores = tmp_path / "server"
    stores.mkdir()
    here = {"--host": "127.0.0.1", "--port": str(port), "--backend-store-uri": f"sqlite:///{stores / 'mlflow.db'}",
            "--artifacts-destination": str(stores / "artifacts")}  # fmt: skip
    words = [word.partition("=")[::2] for word in service["command"]]
    assert set(here) <= {option for option, _ in words}
    command = [
        f"{option}={here.get(option, value.replace('${MLFLOW_PORT:-5000}', str(port)))}" if value else option
        for option, value in words
    ]
    plain = {name: value for name, value in service["environment"].items() if value and not value.startswith("${")}
    environment = {name: value for name, value in {**os.environ, **plain}.items() if "S3" not in name}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
                break
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.5)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


@pytest.mark.slow
def test_a_model_travels_through_a_real_server(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("HUESONG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HUESONG_SESSION", "over http")
    train, evaluate, gate = tmp_path / "train", tmp_path / "evaluate", tmp_path / "gate.yaml"
    model = train / contracts.MODEL
    (model / "encoder").mkdir(parents=True)
    write_json(model / contracts.MODEL_CONFIG, {"format": 1})
    (model / contracts.MODEL_WEIGHTS).write_bytes(os.urandom(2**20))
    write_json(model / "encoder" / "encoder.json", {"name": "builtin"})
    evaluate.mkdir()
    write_json(evaluate / contracts.FIGURES, {"arousal_r": 0.5})
    gate.write_text("absolute: {arousal_r: {min: 0.2}}")
    for _ in range(2):
        with stage_run("register", Params(), experiment="http", root=tmp_path) as tracked:
            folders = {"train": train, "evaluate": evaluate, "out": tmp_path / "out"}
            tracked(register.run(RegisterConfig(), **folders, gate=gate, tags={}, run_id=tracked.open_id))
            assert tracked.active
    folder = resolve_model("models:/huesong@champion")
    assert folder.is_relative_to(tmp_path / "cache")
    assert folder_digest(folder) == folder_digest(model)
    stamp = folder.stat().st_mtime_ns
    assert resolve_model("models:/huesong/1") == folder
    assert folder.stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match="no version 2"):
        resolve_model("models:/huesong/2")
    assert capfd.readouterr().out == ""
