"""The validation's result, and the page on which a person reads it: the verdict, what failed, what is in the data, every check."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd
from markupsafe import Markup

from huesong import contracts
from huesong.report.html import Section, page, status, table

NAMES = {"images": contracts.IMAGES_CSV, "music": contracts.MUSIC_CSV}
SHOWN = 5
"""Failing items named in a cell."""
BROKEN_SHOWN = 100


@dataclass(frozen=True)
class Check:
    """The outcome of one expectation: what was tested, how many of how many rows fail, which ones for example."""

    table: str
    severity: str
    title: str
    expectation: str
    success: bool
    failing: int | None
    rows: int
    examples: list[str]
    remedy: str
    problem: str = ""
    """The first bad row in full: line, column, value, what is wrong, remedy (where data.rules judge the row)."""

    def line(self) -> str:
        """The outcome as one line for a log or an error."""
        if self.problem:
            more = f" ({self.failing} of {self.rows} rows fail)" if (self.failing or 0) > 1 else ""
            return f"{NAMES[self.table]} {self.problem}{more}"
        where = f" ({', '.join(self.examples[:3])}{', ...' if len(self.examples) > 3 else ''})" if self.examples else ""
        count = f"{self.failing} of {self.rows} rows fail" if self.failing else "it does not hold"
        return f"{NAMES[self.table]}: expected that {self.title}, but {count}{where}: {self.remedy}"


@dataclass
class ValidationResult:
    """`critical` and `warnings`: one line a failed check. `broken`: table, id, path, reason of files that do not open.

    `checks`: the outcome of every expectation, in the order of the suites.
    """

    critical: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    broken: list[tuple[str, str, str, str]] = field(default_factory=list)

    @property
    def failed(self) -> list[Check]:
        """The checks that do not hold, critical ones first."""
        return sorted((check for check in self.checks if not check.success), key=lambda check: check.severity)


def render(result: ValidationResult, tables: dict[str, pd.DataFrame]) -> str:
    """The page as text; `tables` are the validated ones with their computed columns."""
    checks = result.checks
    counts = f"{sum(check.success for check in checks)} of {len(checks)} checks passed"
    rows = " and ".join(f"{len(frame):,} rows of {NAMES[name]}" for name, frame in tables.items())
    verdict = Section("Verdict")
    if result.critical:
        verdict.blocks.append(status("Stopped: the data must be corrected first.", "bad"))
    elif result.warnings:
        verdict.blocks.append(status("Usable, with warnings.", "warn"))
    else:
        verdict.blocks.append(status("Everything as expected.", "good"))
    if result.failed:
        head = ("Table", "Severity", "Should hold", "Fails", "For example", "Remedy")
        verdict.blocks.append(table(head, [_failed(check) for check in result.failed]))
    sections = [verdict]
    for name, frame in tables.items():
        note = "Valence and arousal: mean ± standard deviation of the rated items."
        sections.append(Section(f"What is in {NAMES[name]}", [note, _sources(name, frame)]))
    if result.broken:
        shown = result.broken[:BROKEN_SHOWN]
        note = f"{len(result.broken)} files; they are left out of everything that follows."
        blocks: list[str | Markup] = [note, table(("Table", "Id", "Path", "Reason"), shown)]
        if len(result.broken) > len(shown):
            blocks.append(f"The first {len(shown)}; all of them stand in {contracts.VALIDATION_JSON}.")
        sections.append(Section("Files that do not open", blocks))
    for name in tables:
        body = [_row(check) for check in checks if check.table == name]
        columns = ("", "Should hold", "Severity", "Fails", "Expectation")
        sections.append(Section(f"All checks of {NAMES[name]}", [table(columns, body)]))
    return page("Validation of the raw data", sections, lead=f"{counts}, on {rows}.")


def _failed(check: Check) -> tuple[object, ...]:
    severity = status(check.severity, "bad" if check.severity == "critical" else "warn")
    more = len(check.examples) > SHOWN
    examples = Markup("<br>").join(check.examples[:SHOWN]) + (Markup("<br>...") if more else Markup(""))
    return NAMES[check.table], severity, check.title, check.failing, examples, _code(check.remedy)


def _code(text: str) -> Markup:
    """Text whose parts between backquotes are code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))


def _row(check: Check) -> tuple[object, ...]:
    kind = "good" if check.success else "bad" if check.severity == "critical" else "warn"
    mark = status("passed" if check.success else "failed", kind)
    name = Markup("<code>{}</code>").format(check.expectation)
    return mark, check.title, check.severity, check.failing, name


def _sources(name: str, frame: pd.DataFrame) -> Markup:
    """Counts by source of one table."""
    head = ("Source", "Licence", "Items", "Open", "Groups", "Rated", "Label", "Valence", "Arousal", "Held\u00a0out")
    needed = {"source", "licence", "group", "rated", "label_kind", "valence", "arousal", "split"}
    if not needed <= set(frame):
        return Markup("<p>{} rows, but columns are missing.</p>").format(len(frame))
    body = []
    for source, part in frame.groupby("source", sort=True):
        kinds = ", ".join(sorted(set(part["label_kind"]) - {""})) or None
        licences = ", ".join(sorted(set(part["licence"]))) or None
        held = int(part["split"].isin(("val", "judge", "test")).sum())
        body.append(
            (source, licences, len(part), int(part["opens"].sum()), int(part["group"].nunique()),
             int(part["rated"].sum()), kinds, _spread(part["valence"]), _spread(part["arousal"]), held)
        )  # fmt: skip
    return table(head, body)


def _spread(values: pd.Series) -> str | None:
    known = values.dropna()
    return f"{known.mean():+.2f}\u00a0±\u00a0{known.std(ddof=0):.2f}" if len(known) else None
