"""Decisions about versions: registered, promoted, rolled back, retired. Call every function of this file `registry.alone()`.

Each first finishes what a killed command left half done, then writes its decision into the journal, then carries it out:
tags first, then `previous`, then `champion`. A version that was rolled back is promoted again only by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from huesong import contracts
from huesong.register.gate import GateResult
from huesong.register.life.journal import DECISION, Decision, Journal, now
from huesong.register.registry import (
    GATE,
    PROMOTED_AT,
    PROMOTED_WHY,
    PROMOTION,
    RETIRED_AT,
    ROLLED_BACK_AT,
    Registry,
    Version,
    answered,
)
from huesong.runtime.errors import UserError, redacted
from huesong.runtime.progress import log
from huesong.tracking import store

PASSED = "it passed the gate"


@contextmanager
def talking(registry: Registry) -> Iterator[Journal]:
    """The journal of a registered model; a store that does not answer is a UserError."""
    with answered(registry.uri), store.http_limits():
        yield Journal(registry.client, registry.name, registry.uri, registry.root)


def repair(registry: Registry) -> list[Decision]:
    """Finish the decision that a killed command wrote and did not carry out; note a champion that nobody decided on.

    Returns:
        What was finished or noted.
    """
    with talking(registry) as journal:
        last, champion = journal.last(), _number(registry.by_alias(contracts.CHAMPION))
        if last is not None and last.number > journal.done():
            if last.kind != "remove" and last.version not in {one.version for one in registry.versions()}:
                # The database was put back to an earlier state, the journal was not.
                return [journal.withdraw(last)]
            log.warning(
                "%s: finishing decision %d (%s version %s)", registry.name, last.number, last.kind, last.version
            )
            journal.carry_out(last)
            return [last]
        known = last.champion if last else None
        if champion == known:
            return []
        reason = (
            "there was no journal yet" if last is None else "an alias was moved by other means than huesong registry"
        )
        found = journal.write(
            Decision(
                "found", champion or known or "", known, champion, reason, effects=_following(registry, known, reason)
            )
        )
        journal.carry_out(found)
        return [found]


def register(
    registry: Registry,
    version: Version,
    result: GateResult,
    *,
    figures: Mapping[str, float],
    policy: Mapping[str, Any],
    judge: str,
    promoted: bool,
    reason: str,
) -> Decision:
    """Decide about a version that was just registered, or registered again: it is the challenger, and champion if `promoted`.

    Args:
        version: the version.
        result: the gate's checks, held against the present champion.
        figures: all of the evaluation's figures.
        policy: the gate that was asked.
        judge: the SHA-256 of the judge that heard the pieces; empty: unknown.
        promoted: whether it becomes champion.
        reason: why, or why not.
    """
    repair(registry)
    champion = registry.by_alias(contracts.CHAMPION)
    stays = _number(champion) == version.version
    kind = "promote" if promoted and not stays else "keep" if stays else "refuse"
    verdict = {
        "passed": result.passed, "summary": result.summary, "policy": dict(policy),
        "checks": [asdict(check) for check in result.checks],
    }  # fmt: skip
    tags, aliases = _promoting(registry, version, champion, PASSED) if kind == "promote" else ({}, {})
    after = version.version if kind == "promote" else _number(champion)
    decision = Decision(
        kind, version.version, _number(champion), after, reason, verdict=verdict, figures=dict(figures), judge=judge,
        registered=True, effects={"tags": {version.version: tags}, "aliases": {contracts.CHALLENGER: version.version, **aliases}},
    )  # fmt: skip
    return _decide(registry, decision)


def promote(registry: Registry, version: str, *, force: bool = False, reason: str = "") -> Decision | None:
    """Make `version` the champion, and the champion until now `previous`. None: it was champion already.

    Args:
        version: its number.
        force: promote it even if it did not pass the gate or was retired; `reason` is kept with it then.
        reason: why.

    Raises:
        UserError: there is no such version, its files are damaged, or it did not pass the gate.
    """
    repair(registry)
    promoted, champion = registry.by_version(version), registry.by_alias(contracts.CHAMPION)
    if _number(champion) == promoted.version:
        return None
    verdict = promoted.tags.get(GATE, "was never asked")
    forced = not verdict.startswith("passed") or RETIRED_AT in promoted.tags
    if forced and not (force and reason.strip()):
        why = "it was retired" if verdict.startswith("passed") else f"the gate {verdict}"
        raise UserError(
            f"{promoted.uri}: {why}; evaluate and register it again, or promote it with --force and a --reason"
        )
    if not registry.intact(promoted):
        raise UserError(f"{promoted.uri}: its files are gone or damaged: register the model again")
    why = redacted(reason.strip()) or PASSED
    tags, aliases = _promoting(registry, promoted, champion, why)
    decision = Decision(
        "promote", promoted.version, _number(champion), promoted.version, why, forced=forced,
        effects={"tags": {promoted.version: tags}, "aliases": aliases}, **_grounds(registry, promoted),
    )  # fmt: skip
    return _decide(registry, decision)


def roll_back(registry: Registry, reason: str = "") -> Decision:
    """Make `previous`, the champion before the present one, champion again.

    Raises:
        UserError: there is no champion, none before it, or its files are damaged.
    """
    repair(registry)
    champion = registry.by_alias(contracts.CHAMPION)
    if champion is None:
        raise UserError(f"{registry.name} has no champion to roll back from: promote a version first")
    earlier = _earlier(registry, champion)
    if not earlier:
        raise UserError(f"{registry.name} had no champion before version {champion.version}: promote another version")
    before = earlier[0]
    if not registry.intact(before):
        raise UserError(f"{before.uri}: its files are gone or damaged: promote another version")
    effects = {
        "tags": {champion.version: {ROLLED_BACK_AT: now()}},
        "aliases": {
            contracts.PREVIOUS: earlier[1].version if len(earlier) > 1 else None, contracts.CHAMPION: before.version,
        },
    }  # fmt: skip
    why = reason.strip() or f"version {champion.version} was rolled back"
    decision = Decision(
        "rollback", before.version, champion.version, before.version, why, effects=effects, **_grounds(registry, before)
    )
    return _decide(registry, decision)


def retire(registry: Registry, version: str, reason: str) -> Decision:
    """Mark a version as not to be used any more: no roll-back goes to it, and it is promoted by force alone.

    Raises:
        UserError: there is no such version, it is the champion, or no reason is given.
    """
    repair(registry)
    retired, champion = registry.by_version(version), registry.by_alias(contracts.CHAMPION)
    if _number(champion) == retired.version:
        raise UserError(f"{retired.uri} is the champion: promote another version or roll back before it is retired")
    if not reason.strip():
        raise UserError(f"{retired.uri}: say why it is retired with --reason")
    aliases: dict[str, str | None] = {
        alias: None for alias in registry.aliases(version) if alias in (contracts.CHALLENGER, contracts.PREVIOUS)
    }
    if contracts.PREVIOUS in aliases and champion is not None:
        left = [one for one in _earlier(registry, champion) if one.version != retired.version]
        aliases[contracts.PREVIOUS] = left[0].version if left else None
    effects = {"tags": {version: {RETIRED_AT: now()}}, "aliases": aliases}
    return _decide(
        registry,
        Decision("retire", version, _number(champion), _number(champion), reason.strip(), effects=effects),
    )


def remove(registry: Registry, version: str, reason: str) -> Decision:
    """Delete a version from the registry; its decisions stay in the journal.

    Raises:
        UserError: there is no such version, or it has an alias.
    """
    repair(registry)
    gone, champion = registry.by_version(version), _number(registry.by_alias(contracts.CHAMPION))
    if aliases := registry.aliases(version):
        raise UserError(f"{gone.uri} is {' and '.join(aliases)}: it is not removed")
    return _decide(registry, Decision("remove", version, champion, champion, reason, effects={"remove": version}))


def figures_of(registry: Registry, version: Version) -> dict[str, float]:
    """All figures of a version's latest evaluation; those of its tag where the journal has no more."""
    name = version.tags.get(DECISION)
    with talking(registry) as journal:
        decision = journal.read(name) if name else None
    return decision.figures if decision is not None and decision.figures else version.figures


def _promoting(
    registry: Registry, version: Version, champion: Version | None, reason: str
) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Tags of a version that becomes champion, and the aliases that move."""
    last = max((one.promotion[0] for one in registry.versions()), default=0)
    tags: dict[str, str | None] = {PROMOTION: str(last + 1), PROMOTED_AT: now(), PROMOTED_WHY: reason[:1000]}
    tags |= {key: None for key in (ROLLED_BACK_AT, RETIRED_AT) if key in version.tags}
    return tags, {contracts.PREVIOUS: _number(champion), contracts.CHAMPION: version.version}


def _following(registry: Registry, known: str | None, reason: str) -> dict[str, Any]:
    """What makes a champion whom nobody decided on the one after `known`, so that a roll-back leads there; {}: nothing does."""
    champion = registry.by_alias(contracts.CHAMPION)
    before = [one for one in registry.versions() if one.version == known]
    if champion is None or not before:
        return {}
    tags, aliases = _promoting(registry, champion, before[0], reason)
    return {"tags": {champion.version: tags}, "aliases": aliases}


def _decide(registry: Registry, decision: Decision) -> Decision:
    """Write a decision, and carry it out."""
    with talking(registry) as journal:
        written = journal.write(decision)
        registry.check_alone()
        journal.carry_out(written)
        return written


def _grounds(registry: Registry, version: Version) -> dict[str, Any]:
    """Verdict, figures and judge of the decision in which a version was registered."""
    name = version.tags.get(DECISION)
    with talking(registry) as journal:
        decision = journal.read(name) if name else None
    if decision is None:
        return {"verdict": {"summary": version.tags.get(GATE, "was never asked")}, "figures": version.figures}
    return {"verdict": decision.verdict, "figures": decision.figures, "judge": decision.judge}


def _earlier(registry: Registry, champion: Version) -> Sequence[Version]:
    """The champions before this one that a roll-back may go to, the last one first."""
    found = [
        one
        for one in registry.versions()
        if PROMOTED_AT in one.tags and not {ROLLED_BACK_AT, RETIRED_AT} & one.tags.keys()
        and one.promotion < champion.promotion
    ]  # fmt: skip
    return sorted(found, key=lambda one: one.promotion, reverse=True)


def _number(version: Version | None) -> str | None:
    return version.version if version else None
