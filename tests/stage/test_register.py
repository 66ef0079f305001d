import json
from pathlib import Path
from typing import Any

import pytest

from huesong import contracts
from huesong.config import Params, RegisterConfig
from huesong.register import stage as register
from huesong.register.life import cleaning, promotion
from huesong.register.model_logging import log_model, new_run
from huesong.register.registry import DIGEST, GATE, RATED_PICTURES, Registry, brief, resolve_model
from huesong.runtime.errors import UserError
from huesong.runtime.files import folder_digest, write_json
from huesong.tracking.provenance import DATA_DIGEST, GIT_SHA
from huesong.tracking.runs import stage_run
from tests.stores import new_database

GATE_YAML = """
absolute: {arousal_r: {min: 0.2}}
relative: {arousal_r: {better: higher, margin: 0.05}}
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HUESONG_SESSION"):
        monkeypatch.delenv(key, raising=False)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return new_database(tmp_path_factory.mktemp("registry") / "mlflow.db")


class Bench:
    """Artifacts of models that differ in a seed, registered under one name."""

    def __init__(self, folder: Path, uri: str, name: str) -> None:
        self.folder, self.uri = folder, uri
        self.config = RegisterConfig(model_name=name, experiment="register")
        self.gate = folder / "gate.yaml"
        self.gate.write_text(GATE_YAML)

    def __call__(
        self, seed: int, arousal_r: float | None, data: list[dict[str, Any]] | None = None, **options: Any
    ) -> register.RegisterReport:
        train, evaluate = self.folder / f"train-{seed}", self.folder / "evaluate"
        model = train / contracts.MODEL
        if not model.exists():
            model.mkdir(parents=True)
            write_json(
                model / contracts.MODEL_CONFIG,
                {"format": 1, "training": {"config": {"seed": seed}, "data": data or []}},
            )
        evaluate.mkdir(exist_ok=True)
        write_json(evaluate / contracts.FIGURES, {} if arousal_r is None else {"arousal_r": arousal_r, "n": 20})
        options = {
            "out": self.folder / "register",
            "tracking_uri": self.uri,
            "tags": {DATA_DIGEST: "a.dir", GIT_SHA: "f00"},
            **options,
        }
        return register.run(self.config, train=train, evaluate=evaluate, gate=self.gate, **options)

    @property
    def registry(self) -> Registry:
        return Registry(self.config.model_name, uri=self.uri)


@pytest.fixture
def bench(tmp_path: Path, uri: str, request: pytest.FixtureRequest) -> Bench:
    return Bench(tmp_path, uri, request.node.name)


BOTH = [contracts.CHALLENGER, contracts.CHAMPION]


def test_a_first_model_that_passes_is_challenger_and_champion(bench: Bench, tmp_path: Path) -> None:
    report = bench(1, 0.5)
    assert sorted(report.aliases) == sorted(BOTH)
    entry = json.loads((tmp_path / "register" / contracts.REGISTRATION).read_text())
    assert entry["version"] == "1"
    assert sorted(entry["aliases"]) == sorted(BOTH)
    assert entry["uri"] == f"models:/{bench.config.model_name}/1"
    assert entry["digest"] == folder_digest(tmp_path / "train-1" / contracts.MODEL)
    assert entry["gate"]["passed"] is True
    assert [check["metric"] for check in entry["gate"]["checks"]] == ["arousal_r"]
    version = bench.registry.by_version("1")
    assert version.tags[DATA_DIGEST] == "a.dir"
    assert version.tags[GIT_SHA] == "f00"
    assert version.tags[GATE] == "passed (1 checks)"
    card = (tmp_path / "register" / "README.md").read_text()
    assert "passed the promotion gate" in card
    found = bench.registry.client.get_model_version(bench.config.model_name, "1")
    assert found.description == card
    folder = resolve_model(f"models:/{bench.config.model_name}@champion", tracking_uri=bench.uri)
    assert folder_digest(folder) == entry["digest"]
    assert (folder.parent / "README.md").read_text() == card


def test_the_same_model_registers_once(bench: Bench, tmp_path: Path) -> None:
    first = bench(1, 0.5)
    before = (tmp_path / "register" / contracts.REGISTRATION).read_text()
    again = bench(1, 0.5)
    assert again.version.version == first.version.version == "1"
    assert len(bench.registry.versions()) == 1
    after = json.loads((tmp_path / "register" / contracts.REGISTRATION).read_text())
    assert {**json.loads(before), "note": ""} == {**after, "note": ""}


def test_a_model_below_the_threshold_stays_challenger(bench: Bench) -> None:
    report = bench(1, 0.1)
    assert report.aliases == [contracts.CHALLENGER]
    assert bench.registry.by_alias(contracts.CHAMPION) is None
    assert "failed: arousal_r" in report.note
    assert "FAIL" in str(report)


def test_a_figure_that_was_not_measured_does_not_pass(bench: Bench) -> None:
    assert bench(1, None).aliases == [contracts.CHALLENGER]


def test_a_worse_model_does_not_replace_the_champion_and_a_better_one_does(bench: Bench) -> None:
    bench(1, 0.6)
    worse = bench(2, 0.5)
    assert worse.aliases == [contracts.CHALLENGER]
    assert worse.gate.checks[-1].rival == 0.6
    better = bench(3, 0.58)
    assert sorted(better.aliases) == sorted(BOTH)
    assert bench.registry.aliases("1") == [contracts.PREVIOUS]


def test_a_better_evaluation_of_the_same_model_can_promote_it(bench: Bench) -> None:
    assert bench(1, 0.1).aliases == [contracts.CHALLENGER]
    report = bench(1, 0.4)
    assert sorted(report.aliases) == sorted(BOTH)
    assert len(bench.registry.versions()) == 1
    # and the next challenger meets the new figures, not the old ones
    assert bench(2, 0.3).aliases == [contracts.CHALLENGER]


def test_the_champion_is_not_dethroned_by_a_stricter_gate(bench: Bench) -> None:
    bench(1, 0.5)
    bench.gate.write_text("absolute: {arousal_r: {min: 0.9}}")
    report = bench(1, 0.5)
    assert contracts.CHAMPION in report.aliases
    assert "stays champion" in report.note


def rows(labels: str, items: int = 40) -> list[dict[str, Any]]:
    return [{"kind": "pictures", "labels": labels, "items": items, "source": "s", "licence": "CC0"}]


def test_a_model_of_painted_pictures_never_replaces_one_of_rated_photographs(bench: Bench) -> None:
    assert contracts.CHAMPION in bench(1, 0.5, rows("construction")).aliases
    rated = bench(
        2, 0.3, rows("mean_rating")
    )  # below the figures of painted pictures, which say nothing of photographs
    assert contracts.CHAMPION in rated.aliases
    assert bench.registry.by_version("2").tags[RATED_PICTURES] == "40"
    painted = bench(3, 0.9, rows("construction"))
    assert painted.aliases == [contracts.CHALLENGER]
    assert "failed: rated_pictures" in painted.note


def test_a_champion_that_changes_while_the_model_is_logged_is_the_one_that_counts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, others = register.log_model, [(2, 0.9)]

    def slow(*given: Any) -> Any:
        if others:
            bench(*others.pop(), out=bench.folder / "other")
            write_json(bench.folder / "evaluate" / contracts.FIGURES, {"arousal_r": 0.5, "n": 20})
        return real(*given)

    monkeypatch.setattr(register, "log_model", slow)
    report = bench(1, 0.5)
    assert report.aliases == [contracts.CHALLENGER]
    assert "failed: arousal_r" in report.note
    champion = bench.registry.by_alias(contracts.CHAMPION)
    assert champion is not None
    assert champion.figures["arousal_r"] == 0.9


def test_the_same_model_from_two_processes_is_one_version(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real, others = register.log_model, [1]
    bench.config = RegisterConfig(model_name="same", experiment="same")

    def slow(*given: Any) -> Any:
        if others:
            bench(others.pop(), 0.5, out=bench.folder / "other")
        return real(*given)

    monkeypatch.setattr(register, "log_model", slow)
    assert bench(1, 0.5).version.version == "1"
    assert len(bench.registry.versions()) == 1
    experiment = bench.registry.client.get_experiment_by_name("same")
    logged = bench.registry.client.search_logged_models([experiment.experiment_id])
    assert [f"models:/{model.model_id}" for model in logged] == [bench.registry.by_version("1").source]


def test_a_damaged_version_is_named_and_the_advice_repairs_it(bench: Bench) -> None:
    bench(1, 0.5)
    champion = f"models:/{bench.config.model_name}@champion"
    folder = resolve_model(champion, tracking_uri=bench.uri)
    config = folder / contracts.MODEL_CONFIG
    config.write_bytes(config.read_bytes().replace(b'"format"', b'"formaT"'))
    with pytest.raises(UserError, match="missing or damaged: `huesong register` registers"):
        resolve_model(champion, tracking_uri=bench.uri)
    assert bench(1, 0.5).version.version == "2"
    assert folder_digest(resolve_model(champion, tracking_uri=bench.uri)) == bench.registry.by_version("1").tags[DIGEST]


def test_a_version_that_was_rolled_back_is_not_promoted_again_by_the_gate(bench: Bench) -> None:
    bench(1, 0.5)
    bench(2, 0.9)
    promotion.roll_back(bench.registry)
    report = bench(2, 0.9)
    assert report.aliases == [contracts.CHALLENGER]
    assert "rolled back" in report.note
    champion = bench.registry.by_alias(contracts.CHAMPION)
    assert champion is not None
    assert champion.version == "1"


def test_a_model_whose_files_are_gone_is_registered_again(bench: Bench) -> None:
    bench(1, 0.5)
    folder = resolve_model(f"models:/{bench.config.model_name}/1", tracking_uri=bench.uri)
    folder.rename(folder.with_name("away"))
    report = bench(1, 0.5)
    assert report.version.version == "2"
    assert sorted(report.aliases) == sorted(BOTH)


def test_a_tracked_stage_and_its_model_are_one_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", bench.uri)
    monkeypatch.setenv("HUESONG_SESSION", "registering")
    with stage_run("register", Params(), experiment="register", root=bench.folder) as tracked:
        report = bench(1, 0.5, tracking_uri=None, run_id=tracked.open_id)
        tracked(report)
    assert report.version.run_id == tracked.run_id
    client = MlflowClient(bench.uri)
    run = client.get_run(tracked.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == tracked.parent_id
    assert run.data.metrics["evaluate/arousal_r"] == 0.5
    assert run.data.metrics["gate_passed"] == 1.0
    assert {file.path for file in client.list_artifacts(tracked.run_id)} >= {contracts.REGISTRATION, "README.md"}


def test_a_registry_that_is_down_is_an_error_and_nothing_is_written(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        bench(1, 0.5, tracking_uri="http://127.0.0.1:9")
    assert not (tmp_path / "register").exists()


def test_inputs_and_the_gate_are_checked_before_the_registry_is_touched(bench: Bench, tmp_path: Path) -> None:
    options: dict[str, Any] = {"gate": bench.gate, "out": tmp_path / "out", "tracking_uri": "http://127.0.0.1:9"}
    with pytest.raises(UserError, match="huesong train"):
        register.run(bench.config, train=tmp_path / "none", evaluate=tmp_path, **options)
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        bench(1, 0.5, tracking_uri="http://127.0.0.1:9")
    with pytest.raises(UserError, match="huesong evaluate"):
        register.run(bench.config, train=tmp_path / "train-1", evaluate=tmp_path / "none", **options)
    bench.gate.write_text("absolut: {}")
    with pytest.raises(UserError, match="absolute"):
        bench(1, 0.5, tracking_uri="http://127.0.0.1:9")


def logged_models(registry: Registry) -> set[str]:
    where = registry.client.get_experiment_by_name("register")
    return {one.model_id for one in registry.client.search_logged_models([where.experiment_id])}


def test_cleaning_removes_logged_models_of_no_version_and_no_others(bench: Bench, tmp_path: Path) -> None:
    """None of another name's versions, none of a copied version's."""
    bench(1, 0.5)
    bench(2, 0.6)
    registry, other = bench.registry, Bench(tmp_path, bench.uri, f"{bench.config.model_name}-other")
    other(3, 0.5)
    for made in list(registry.client.search_model_versions(f"name='{other.config.model_name}'")):
        registry.client.copy_model_version(f"models:/{made.name}/{made.version}", f"{made.name}-copy")
        registry.client.delete_registered_model(made.name)
    for one in cleaning.leftovers(registry, "register", 0):  # of the tests before
        cleaning.clean(registry, one)
    kept = logged_models(registry)
    assert {version.model_id for version in registry.versions()} < kept
    run = new_run(bench.uri, "register", tmp_path, {})
    model = tmp_path / "train-1" / contracts.MODEL
    orphan = log_model(model, tmp_path / "register" / "README.md", {}, bench.uri, run, {})
    assert cleaning.leftovers(registry, "register", 1) == []
    (found,) = cleaning.leftovers(registry, "register", 0)
    assert found.model_id == orphan.model_id
    cleaning.clean(registry, found)
    assert logged_models(registry) == kept
    promotion.retire(registry, "1", "no use")
    first = registry.by_version("1").model_id
    (retired,) = cleaning.leftovers(registry, "register", 0)
    cleaning.clean(registry, retired)
    assert kept - logged_models(registry) == {first}
    assert cleaning.leftovers(registry, "register", 0) == []


def test_a_registration_that_is_refused_leaves_no_logged_model_and_one_whose_answer_is_lost_keeps_its_files(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Registry.create

    def lost(self: Registry, *given: Any) -> None:
        create(self, *given)
        raise UserError("no answer")

    def refused(*_: Any) -> None:
        raise UserError("too long")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "create", lost)
        with pytest.raises(UserError, match="no answer"):
            bench(1, 0.5)
    (version,) = bench.registry.versions()
    before = logged_models(bench.registry)
    assert version.model_id in before
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "create", refused)
        with pytest.raises(UserError, match="too long"):
            bench(2, 0.6)
    assert logged_models(bench.registry) == before
    assert bench(1, 0.5).version.version == "1"


def test_a_thousand_figures_and_a_long_card_fit_every_database(bench: Bench, tmp_path: Path) -> None:
    rows = [{"kind": "pictures", "source": f"source {n}" * 20, "items": n, "labels": "none"} for n in range(100)]
    bench(1, 0.5, rows)
    many = {f"a_figure_of_quite_a_long_name_{number}": number / 7 for number in range(1000)}
    write_json(tmp_path / "evaluate" / contracts.FIGURES, {"arousal_r": 0.6, **many})
    write_json(
        tmp_path / "train-1" / contracts.MODEL / contracts.MODEL_CONFIG, {"format": 1, "training": {"data": rows}}
    )
    report = register.run(
        bench.config, train=tmp_path / "train-1", evaluate=tmp_path / "evaluate", gate=bench.gate,
        out=tmp_path / "register", tracking_uri=bench.uri, tags={},
    )  # fmt: skip
    found = bench.registry.client.get_model_version(bench.config.model_name, report.version.version)
    assert 4000 < len(found.description) < 5000
    assert "README.md among the version's files" in found.description
    assert max(map(len, found.tags.values())) < 5000
    assert bench.registry.by_version("2").figures == {"arousal_r": 0.6}
    assert report.gate.checks[-1].rival == 0.5


def test_a_long_card_is_cut_between_lines() -> None:
    assert brief("short") == "short"
    cut = brief("\n".join(f"| row {number} |" for number in range(1000)))
    assert 4000 < len(cut) < 5000
    assert cut.splitlines()[-3].startswith("| row ")
    assert brief("```\n" + "x\n" * 4000).count("```") == 2
