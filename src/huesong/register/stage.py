"""Stage 5, register: the model becomes a version in the MLflow registry, and the champion if it passes the gate."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from huesong import contracts
from huesong.config import RegisterConfig
from huesong.register import gate as gates
from huesong.register.card import built_only, model_card, rated_pictures
from huesong.register.life import hooks, promotion
from huesong.register.model_logging import log_model, new_run
from huesong.register.registry import (
    DIGEST,
    FIGURES,
    GATE,
    MOST_OF_A_TAG,
    RATED_PICTURES,
    RETIRED_AT,
    ROLLED_BACK_AT,
    Logged,
    Registry,
    Version,
    same_data,
)
from huesong.runtime import files as artifacts
from huesong.runtime.errors import UserError
from huesong.runtime.progress import log
from huesong.tracking.figures import numbers
from huesong.tracking.provenance import DATA_DIGEST, GIT_SHA, LOCK_DIGEST, VERSION, provenance

OWN = (contracts.REGISTRATION,)
"""What a folder holds that this stage wrote."""
MEASURED = "measured.json"
"""In a folder of what was measured for the gate: figures that the evaluation does not have."""
VERSION_TAGS = (VERSION, DATA_DIGEST, GIT_SHA, LOCK_DIGEST)


class Rivalry(Protocol):
    """What measures a model for the gate, which this stage cannot (evaluate.quality.rival.Rivalry)."""

    def measured(self) -> dict[str, float]:
        """Figures that the evaluation does not have."""

    def against(self, champion: Callable[[], Path], digest: str) -> gates.Differences:
        """The differences from the champion with this digest, whose folder `champion` finds."""


@dataclass(frozen=True)
class Measured:
    """What an evaluate.quality.rival.Rivalry has kept in a folder."""

    folder: Path

    def measured(self) -> dict[str, float]:
        """Figures that the evaluation does not have."""
        return dict(artifacts.read_json(self.folder / MEASURED, "the component rival"))

    def against(self, champion: Callable[[], Path], digest: str) -> gates.Differences:
        """The differences from the champion with this digest; none if it was another one then."""
        for path in sorted(self.folder.glob(f"{digest[:16]}-*.json")):
            found = artifacts.read_json(path, "the component rival")
            if found["champion"] == digest:
                return dict(found["differences"])
        return {}


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
    rivalry: Rivalry | None = None,
) -> RegisterReport:
    """Register the model in `train`; the same model again is found by its digest and registered once.

    Args:
        config: names of the registered model and of the experiment.
        train, evaluate, gate: artifact folders of the earlier stages, and the promotion gate (mlflow/gate.yaml).
        out: folder to write (contracts.REGISTRATION and the model card), replaced as a whole.
        tracking_uri: the MLflow store; None: MLFLOW_TRACKING_URI, else the sqlite file in the current folder.
        run_id: the MLflow run that the model belongs to; None: a run of its own.
        tags: what the model was made from (tracking.provenance); None: looked up in the current folder.
        rivalry: what lets the champion answer the same requests (evaluate.quality.rival.Rivalry), where the gate asks for it;
            None: it fails what it asks of the champion.

    Raises:
        UserError: an artifact is missing or damaged, the gate file is wrong, or the registry does not answer.
    """
    artifacts.check_replaceable(out, OWN, [train, evaluate, gate])
    folder = artifacts.require(train / contracts.MODEL, "huesong train")
    model_config = artifacts.read_json(folder / contracts.MODEL_CONFIG, "huesong train")
    metrics = read_figures(evaluate)
    policy = gates.load_gate(gate)
    root = Path.cwd()
    made_from = dict(tags) if tags is not None else provenance(root, root / "data")
    made_from = {key: made_from[key] for key in VERSION_TAGS if key in made_from}

    registry = Registry(config.model_name, uri=tracking_uri, root=root)
    heard_by = evaluate / contracts.JUDGE
    judge = artifacts.sha256(heard_by) if heard_by.is_file() else ""
    if rivalry is not None and gates.LATENCY in policy.of(built_only(model_config)).absolute:
        metrics = {**metrics, **rivalry.measured()}
    model = Candidate(artifacts.folder_digest(folder), model_config, metrics, made_from, judge, rivalry)
    with artifacts.replacing_folder(out, OWN, [train, evaluate, gate]) as work:
        path = work / contracts.MODEL_CARD
        model.compare(policy, registry, registry.by_alias(contracts.CHAMPION))  # before anything of the model is logged
        result, _ = model.judged(
            policy, registry, registry.by_alias(contracts.CHAMPION), registered(registry, model.digest)
        )
        path.write_text(model_card(model_config, metrics, made_from, result), encoding="utf-8")
        logged = None
        if registered(registry, model.digest) is None:
            run_id = run_id or new_run(registry.uri, config.experiment, root, made_from)
            logged = log_model(folder, path, metrics, registry.uri, run_id, made_from)
        with not_left_behind(registry, logged):
            version, result, note, aliases = entered(registry, model, policy, logged, path)
        files = [out / contracts.REGISTRATION, out / contracts.MODEL_CARD]
        report = RegisterReport(version, aliases, result, note, files)
        write_registration(work / contracts.REGISTRATION, report, model.digest)
    log.info("%s: %s", version.uri, note)
    return report


def entered(
    registry: Registry, model: Candidate, policy: gates.Gate, logged: Logged | None, card: Path
) -> tuple[Version, gates.GateResult, str, list[str]]:
    """`enter`, tried again where the champion changed while the one before was compared with."""
    for _ in range(3):
        try:
            return enter(registry, model, policy, logged, card)
        except Moved:
            continue
    raise UserError(f"{registry.name}: the champion changes all the time: register again later")


def enter(
    registry: Registry, model: Candidate, policy: gates.Gate, logged: Logged | None, card: Path
) -> tuple[Version, gates.GateResult, str, list[str]]:
    """Make the model a version, the challenger, and the champion if it may be, while nobody else changes the registry.

    The champion may be another one by now than when the model was logged, or this very model registered.

    Args:
        registry: where.
        model: the model.
        policy: the gate.
        logged: where it was logged; None: it was a version already.
        card: the model card, written anew with the verdict of this moment.

    Returns:
        The version, the gate's checks, what was done and why, and the version's aliases.
    """
    model.compare(policy, registry, registry.by_alias(contracts.CHAMPION))  # takes minutes: not while others wait
    with registry.alone():
        promotion.repair(registry)
        version, champion = registered(registry, model.digest), registry.by_alias(contracts.CHAMPION)
        if champion and not model.compared(policy, champion):
            raise Moved
        result, judged = model.judged(policy, registry, champion, version)
        text = model_card(model.config, model.metrics, model.made_from, result)
        card.write_text(text, encoding="utf-8")
        if version is None:
            if logged is None:
                raise UserError(f"{registry.name}: the registry changed meanwhile: register the model again")
            version = registry.create(logged, {DIGEST: model.digest, **judged, **model.made_from}, text)
            log.info("registered %s", version.uri)
        else:
            log.info("%s is this very model: nothing new to register", version.uri)
            registry.tag(version.version, judged)
            if logged is not None:  # another process registered it while this one logged it
                registry.forget(logged.model_id)
        promoted, note = decide(version, champion, result)
        decision = promotion.register(
            registry, version, result, figures=numbers(model.metrics), policy=policy.model_dump(mode="json"),
            judge=model.judge, promoted=promoted, reason=note,
        )  # fmt: skip
        aliases = registry.aliases(version.version)
    if decision.kind == "promote":
        hooks.tell_of_champion(None, registry.name, "promote", version.version, decision.champion_before, note)
    return version, result, note, aliases


@contextlib.contextmanager
def not_left_behind(registry: Registry, logged: Logged | None) -> Iterator[None]:
    """Where what is done in the block fails, no logged model stays that became no version."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(UserError):  # what went wrong first is what is told
            # An answer of the registry may have been lost.
            if logged is not None and logged.model_id not in {one.model_id for one in registry.versions()}:
                registry.forget(logged.model_id)
        raise


class Moved(Exception):
    """The champion is another one than the model was compared with."""


@dataclass(frozen=True)
class Candidate:
    """The model that is to be registered: what the gate is asked about."""

    digest: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    made_from: dict[str, str]
    judge: str = ""
    """SHA-256 of the judge that heard its pieces."""
    rivalry: Rivalry | None = None

    differences: dict[str, gates.Differences] = field(default_factory=dict)
    """By the digest of the champion that was compared with."""

    def compare(self, policy: gates.Gate, registry: Registry, champion: Version | None) -> None:
        """Let the champion answer the same requests, where the gate asks for that and it can be done."""
        if champion is not None and not self.compared(policy, champion) and self.rivalry is not None:
            digest = champion.tags.get(DIGEST, champion.version)
            self.differences[digest] = self.rivalry.against(lambda: registry.folder(champion), digest)

    def compared(self, policy: gates.Gate, champion: Version) -> bool:
        """Whether all is known that the gate asks of this champion."""
        if policy.of(built_only(self.config)).gain is None or self.rivalry is None:
            return True
        own = champion.tags.get(DIGEST, champion.version) in (self.digest, *self.differences)
        return own or not of_one_kind(champion, self.config)

    def judged(
        self, policy: gates.Gate, registry: Registry, champion: Version | None, version: Version | None
    ) -> tuple[gates.GateResult, dict[str, str]]:
        """The gate's checks, and the tags that say so.

        Args:
            policy: the gate.
            registry: where the champion's figures are.
            champion: the present champion.
            version: the version that this very model is already.
        """
        rated, built = rated_pictures(self.config), built_only(self.config)
        rival = None if version and champion and version.version == champion.version else champion
        checks = []
        if rival and not of_one_kind(rival, self.config):
            theirs = float(rival.tags[RATED_PICTURES])
            if not rated:
                checks = [gates.GateCheck("rated_pictures", "relative", ">= 1 as the champion", 0, theirs, False)]
            rival = None  # figures on painted pictures say nothing about photographs
        comparable = rival is None or same_data(rival, self.made_from)
        best = promotion.figures_of(registry, rival) if rival else None
        gate = policy.of(built)
        differences = self.differences.get(rival.tags.get(DIGEST, rival.version)) if rival else None
        found = gates.check(gate, self.metrics, best, same_data=comparable, differences=differences)
        result = gates.GateResult([*found.checks, *checks])
        figures = json.dumps(numbers(self.metrics), sort_keys=True)
        if len(figures) > MOST_OF_A_TAG:  # the logged model has all of them
            asked = {check.metric: check.value for check in found.checks if check.value is not None}
            figures = json.dumps(asked, sort_keys=True)
        return result, {GATE: result.summary, FIGURES: figures, RATED_PICTURES: str(rated)}


def of_one_kind(champion: Version, config: Mapping[str, Any]) -> bool:
    """Whether champion and model both learnt from rated photographs or both from painted ones, as far as the champion says."""
    theirs = champion.tags.get(RATED_PICTURES, "")
    return theirs == "" or (theirs != "0") is bool(rated_pictures(config))


def read_figures(evaluate: Path) -> dict[str, Any]:
    """The evaluation's figures."""
    metrics = artifacts.read_json(evaluate / contracts.FIGURES, "huesong evaluate")
    if not isinstance(metrics, dict):
        raise UserError(f"{evaluate / contracts.FIGURES} holds no figures: run `huesong evaluate` again")
    return metrics


def registered(registry: Registry, digest: str) -> Version | None:
    """The version of this very model, None if it was never registered or its files are gone."""
    version = registry.by_digest(digest)
    if version is None or registry.intact(version):
        return version
    log.warning("register: the files of %s are gone or damaged; registering the model again", version.uri)
    return None


def decide(version: Version, champion: Version | None, result: gates.GateResult) -> tuple[bool, str]:
    """Whether `version` becomes champion; and what was decided, and why."""
    is_champion = champion is not None and champion.version == version.version
    if is_champion:
        return False, "it is the champion already" if result.passed else f"it stays champion, but now {result.summary}"
    if not result.passed:
        return False, f"not promoted, the gate {result.summary}"
    if ROLLED_BACK_AT in version.tags or RETIRED_AT in version.tags:
        what = "rolled back" if ROLLED_BACK_AT in version.tags else "retired"
        return False, f"passes the gate, but was {what} before: promote it by name if it shall be champion again"
    return True, "passed the gate and is the champion now"


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
