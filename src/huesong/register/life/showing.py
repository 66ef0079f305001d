"""What an operator sees of the registry: its versions, one of them, two side by side, and the history of decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from huesong import contracts
from huesong.register.gate import GateCheck, GateResult
from huesong.register.life.journal import Decision
from huesong.register.life.promotion import figures_of, talking
from huesong.register.registry import DIGEST, GATE, PROMOTED_AT, RETIRED_AT, ROLLED_BACK_AT, Registry, Version
from huesong.report.tables import CARD, number
from huesong.tracking.provenance import DATA_DIGEST, GIT_SHA, LOCK_DIGEST

MADE_FROM = {"data": DATA_DIGEST, "commit": GIT_SHA, "dvc.lock": LOCK_DIGEST, "files": DIGEST}


def listing(registry: Registry) -> str:
    """A line a version, the newest first."""
    rows = [
        (version.version, ", ".join(registry.aliases(version.version)), state(version), version.tags.get(GATE, "-")[:60],
         version.tags.get(DATA_DIGEST, "-")[:8], version.tags.get(GIT_SHA, "-")[:8])
        for version in reversed(registry.versions())
    ]  # fmt: skip
    if not rows:
        return f"{registry.name} has no version yet: `huesong register` makes one"
    return aligned([("version", "aliases", "state", "gate", "data", "commit"), *rows])


def shown(registry: Registry, version: str) -> str:
    """All that is known of a version: state, origin, the gate's lines, figures and decisions."""
    found = registry.by_version(version)
    decisions = [one for one in history(registry) if one.version == found.version]
    verdict = next((one.verdict for one in reversed(decisions) if one.verdict.get("checks")), None)
    files = "as registered" if registry.intact(found) else "missing or damaged"
    lines = [
        f"{found.uri}  {', '.join(registry.aliases(found.version)) or 'no alias'}  {state(found)}",
        *(f"  {title:<9} {found.tags.get(tag, '-')}" for title, tag in MADE_FROM.items()),
        f"  {'on disk':<9} {files}", f"  {'run':<9} {found.run_id or '-'}", f"  {'gate':<9} {found.tags.get(GATE, '-')}",
    ]  # fmt: skip
    if verdict:
        lines += ["", gate_table(verdict)]
    if figures := figures_of(registry, found):
        named = {check["metric"] for check in (verdict or {}).get("checks", [])}
        lines += [
            "",
            aligned([("figure", "value"), *((key, number(figures[key], CARD)) for key in named & figures.keys())]),
        ]
    return "\n".join([*lines, "", *map(str, decisions)])


def compared(registry: Registry, first: str, second: str) -> str:
    """Figures and origin of two versions side by side: what differs."""
    pair = registry.by_version(first), registry.by_version(second)
    ours, theirs = (figures_of(registry, one) for one in pair)
    head = ("", *(one.uri for one in pair), "difference")
    made = [
        (title, *(one.tags.get(tag, "-")[:12] for one in pair), "")
        for title, tag in MADE_FROM.items()
        if pair[0].tags.get(tag) != pair[1].tags.get(tag)
    ]
    rows = [
        (key, number(a, CARD), number(b, CARD), f"{b - a:+.4g}" if a is not None and b is not None else "")
        for key, a, b in ((key, ours.get(key), theirs.get(key)) for key in sorted(ours.keys() | theirs.keys()))
        if a != b
    ]
    same = len(ours.keys() & theirs.keys()) - sum(bool(row[-1]) for row in rows)
    return f"{aligned([head, *made, *rows])}\n{same} figures are equal"


def history(registry: Registry) -> list[Decision]:
    """All decisions, oldest first."""
    with talking(registry) as journal:
        return journal.decisions()


def audit(decisions: Sequence[Decision]) -> str:
    """The decisions, a line each, and who was champion when."""
    if not decisions:
        return "no decision was taken yet"
    lines = [str(one) for one in decisions]
    lines += ["", "champion", *(f"  {since} to {until:<20}  version {who}" for who, since, until in reigns(decisions))]
    return "\n".join(lines)


def reigns(decisions: Sequence[Decision]) -> Iterator[tuple[str, str, str]]:
    """(version, since, until) of every champion, in order; moments in UTC."""
    moves = [one for one in decisions if one.champion != one.champion_before]
    for index, move in enumerate(moves):
        if move.champion is not None:
            until = f"{moves[index + 1].at[:19]}Z" if index + 1 < len(moves) else "now"
            yield move.champion, f"{move.at[:19]}Z", until


def state(version: Version) -> str:
    """What became of a version, in a word or two."""
    if RETIRED_AT in version.tags:
        return "retired"
    if ROLLED_BACK_AT in version.tags:
        return "rolled back"
    return "promoted" if PROMOTED_AT in version.tags else "never champion"


def gate_table(verdict: Mapping[str, Any]) -> str:
    """The gate's lines as a decision holds them."""
    return GateResult([GateCheck(**check) for check in verdict["checks"]]).table()


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def champion_line(registry: Registry) -> str:
    """Champion and previous, in a line."""
    champion, before = (registry.by_alias(alias) for alias in (contracts.CHAMPION, contracts.PREVIOUS))
    return f"champion {champion.uri if champion else 'none'}, previous {before.uri if before else 'none'}"
