"""Stage 5, register: the model becomes a version in the MLflow registry, and the champion if it passes the gate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huesong import contracts
from huesong.config import RegisterConfig
from huesong.register import gate as gates
from huesong.register.card import model_card
from huesong.register.model_logging import log_model, new_run
from huesong.register.registry import DIGEST, FIGURES, GATE, ROLLED_BACK_AT, Registry, Version, same_data
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log
from huesong.tracking.figures import numbers
from huesong.tracking.provenance import DATA_DIGEST, GIT_SHA, LOCK_DIGEST, VERSION, provenance

VERSION_TAGS = (VERSION, DATA_DIGEST, GIT_SHA, LOCK_DIGEST)


@dataclass
class RegisterReport:
    """What the stage did."""

    version: Version
    aliases: list[str]
    gate: gates.GateResult
    note: str
    files: list[Path]

    @property
    def metrics(self) -> dict[str, float]:
        """Version, and whether it passed and is champion, as figures."""
        return {
            "version": float(self.version.version),
            "gate_passed": float(self.gate.passed),
            "champion": float(contracts.CHAMPION in self.aliases),
        }

    def __str__(self) -> str:
        aliases = ", ".join(self.aliases) or "no alias"
        return f"{self.gate.table()}\n{self.version.uri} ({aliases}): {self.note}"


def run(
    config: RegisterConfig,
    *,
    train: Path,
    evaluate: Path,
    gate: Path,
    out: Path,
    tracking_uri: str | None = None,
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> RegisterReport:
    """Register the model in `train`; the same model again is found by its digest and registered once.

    Args:
        config: names of the registered model and of the experiment.
        train, evaluate: artifact folders of the earlier stages.
        gate: the promotion gate (mlflow/gate.yaml).
        out: folder to write (contracts.REGISTRATION and the model card), replaced as a whole.
        tracking_uri: the MLflow store; None: MLFLOW_TRACKING_URI, else the sqlite file in the current folder.
        run_id: the MLflow run that the model belongs to; None: a run of its own.
        tags: what the model was made from (tracking.provenance); None: looked up in the current folder.

    Raises:
        UserError: an artifact is missing or damaged, the gate file is wrong, or the registry does not answer.
    """
    folder = artifacts.require(train / contracts.MODEL, "huesong train")
    model_config = artifacts.read_json(folder / contracts.MODEL_CONFIG, "huesong train")
    metrics = read_figures(evaluate)
    policy = gates.load_gate(gate)
    root = Path.cwd()
    made_from = dict(tags) if tags is not None else provenance(root, root / "data")
    made_from = {key: made_from[key] for key in VERSION_TAGS if key in made_from}

    registry = Registry(config.model_name, uri=tracking_uri, root=root)
    digest = artifacts.folder_digest(folder)
    version = registered(registry, digest)
    champion = registry.by_alias(contracts.CHAMPION)
    rival = None if version and champion and version.version == champion.version else champion
    comparable = rival is None or same_data(rival, made_from)
    result = gates.check(policy, metrics, rival.figures if rival else None, same_data=comparable)
    judged = {GATE: result.summary, FIGURES: json.dumps(numbers(metrics), sort_keys=True)}
    card = model_card(model_config, metrics, made_from, result)
    with artifacts.replacing_folder(out) as work:
        path = work / contracts.MODEL_CARD
        path.write_text(card, encoding="utf-8")
        if version is None:
            run_id = run_id or new_run(registry.uri, config.experiment, root, made_from)
            logged = log_model(folder, path, metrics, registry.uri, run_id, made_from)
            version = registry.create(logged, {DIGEST: digest, **judged, **made_from}, card)
            log.info("registered %s", version.uri)
        else:
            log.info("%s is this very model: nothing new to register", version.uri)
            registry.tag(version.version, judged)
        registry.challenge(version.version)
        note = decide(registry, version, champion, result)
        files = [out / contracts.REGISTRATION, out / contracts.MODEL_CARD]
        report = RegisterReport(version, registry.aliases(version.version), result, note, files)
        write_registration(work / contracts.REGISTRATION, report, digest)
    log.info("%s: %s", version.uri, note)
    return report


def read_figures(evaluate: Path) -> dict[str, Any]:
    """The evaluation's figures."""
    metrics = artifacts.read_json(evaluate / contracts.METRICS, "huesong evaluate")
    if not isinstance(metrics, dict):
        raise UserError(f"{evaluate / contracts.METRICS} holds no figures: run `huesong evaluate` again")
    return metrics


def registered(registry: Registry, digest: str) -> Version | None:
    """The version of this very model, None if it was never registered or its files are gone."""
    version = registry.by_digest(digest)
    if version is None or registry.intact(version):
        return version
    log.warning("register: the files of %s are gone; registering the model again", version.uri)
    return None


def decide(registry: Registry, version: Version, champion: Version | None, result: gates.GateResult) -> str:
    """Promote `version` if it may become champion; say what was done and why."""
    is_champion = champion is not None and champion.version == version.version
    if is_champion:
        return "it is the champion already" if result.passed else f"it stays champion, but now {result.summary}"
    if not result.passed:
        return f"not promoted, the gate {result.summary}"
    if ROLLED_BACK_AT in version.tags:
        return "passes the gate, but was rolled back before: promote it by name if it shall be champion again"
    registry.promote(version.version)
    return "passed the gate and is the champion now"


def write_registration(path: Path, report: RegisterReport, digest: str) -> None:
    """Write what was registered as JSON."""
    version, result = report.version, report.gate
    value = {
        "name": version.name, "version": version.version, "aliases": report.aliases, "uri": version.uri,
        "digest": digest, "run_id": version.run_id, "model_id": version.model_id,
        "gate": {"passed": result.passed, "summary": result.summary, "checks": [asdict(one) for one in result.checks]},
        "note": report.note,
    }  # fmt: skip
    artifacts.write_json(path, value)
