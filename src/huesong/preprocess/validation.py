"""Tests of the raw data: Great Expectations suites over both tables, run as one Checkpoint.

Critical failures make every later figure wrong (a leak between splits, values out of range) and must stop the run;
warnings are named and logged (a corrupt file is dropped later, with its reason). The suites are code, the context
lives in memory, and the page is our own, because Great Expectations' needs a network to look right.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from huesong import contracts
from huesong.data.rules import RULES, Rule
from huesong.data.tables import missing_columns
from huesong.preprocess.files import MISSING, FileState, file_states
from huesong.preprocess.validation_page import Check, ValidationResult, render
from huesong.runtime.files import replacing_file, write_json
from huesong.runtime.progress import log

os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")

CRITICAL, WARNING = "critical", "warning"
EXAMPLES = 20
"""Failing items that are named."""
MIN_RATERS = 3
HUMAN_KINDS = ("mean_rating", "mean_slider")
MIN_RATED = 20
"""Fewer rated items cannot carry a labeller and its cross-validation."""


def validate(data: Path, tables: dict[str, pd.DataFrame], out: Path, workers: int = 0) -> ValidationResult:
    """Test both raw tables and their files; write contracts.VALIDATION_JSON and VALIDATION_HTML into `out`.

    Raises nothing for bad data: the caller stops on `.critical`; `.warnings` are logged here. The files written depend
    on the data only, not on the time.

    Args:
        data: the data folder.
        tables: `images` and `music` as tables.parse_table returns them, and, where no column is missing,
            `assigned_split`: what they are used for.
        out: folder to write into.
        workers: processes that open files; 0 = one a core.
    """
    result = ValidationResult()
    tables = dict(tables)
    for name, table in tables.items():
        if missing_columns(list(table)):
            continue
        inside = table["path"].where(table["path_problem"] == "", "")  # nothing outside the data folder is opened
        states = file_states(data, name, inside.tolist(), workers)
        tables[name] = _with_facts(table, states)
        for item, path, state in zip(table["id"], table["path"], states, strict=True):
            if state.problem:
                result.broken.append((name, item, path, state.problem))
    result.checks = _run_checkpoint(tables)
    failed = result.failed
    result.critical = [check.line() for check in failed if check.severity == CRITICAL]
    result.warnings = [check.line() for check in failed if check.severity == WARNING]
    for line in result.warnings:
        log.warning("%s", line)
    write_json(out / contracts.VALIDATION_JSON, _as_json(result, tables))
    with replacing_file(out / contracts.VALIDATION_HTML) as part:
        part.write_text(render(result, tables), encoding="utf-8")
    return result


# --- facts that the suites need beside the columns ------------------------------------------------


def _with_facts(table: pd.DataFrame, states: list[FileState]) -> pd.DataFrame:
    """The table with the columns that the suites need beside its own."""
    frame = table.reset_index(drop=True)
    frame["file_exists"] = [int(state.problem != MISSING) for state in states]
    frame["opens"] = [int(not state.problem) for state in states]
    frame["digest"] = pd.Series([state.digest or None for state in states], dtype="object")
    given = frame["split"].where(frame["split"].isin(contracts.SPLITS))
    frame["given_splits"] = _distinct(frame, "group", given)
    frame["group_splits"] = _distinct(frame, "group", frame["assigned_split"])
    frame["content_splits"] = _distinct(frame, "digest", frame["assigned_split"])
    frame["content_groups"] = _distinct(frame, "digest", frame["group"])
    frame["rated"] = frame[["valence", "arousal"]].notna().all(axis=1).astype(int)
    human = frame["label_kind"].isin(HUMAN_KINDS)
    frame["enough_raters"] = (frame["n_raters"].fillna(0) >= MIN_RATERS).where(human).astype("float64")
    return frame


def _distinct(frame: pd.DataFrame, column: str, values: pd.Series) -> pd.Series:
    """For every row: how many of `values` (at least 1) the rows with the same value of `column` have."""
    count = values.groupby(frame[column]).transform("nunique")
    return count.fillna(1).clip(lower=1).astype(int)


# --- the suites ----------------------------------------------------------------------------------


def expectations(frame: pd.DataFrame) -> list[tuple[str, Any, str, str]]:
    """The suite for one table: (severity, expectation, what it says in plain words, the remedy).

    A table that lacks columns or has no rows fails for that alone.
    """
    import great_expectations.expectations as gxe

    suite: list[tuple[str, Any, str, str]] = [
        (CRITICAL, gxe.ExpectTableColumnsToMatchSet(column_set=list(contracts.RAW_COLUMNS), exact_match=False),
         "all columns are there", f"the table needs {', '.join(contracts.RAW_COLUMNS)}"),
        (CRITICAL, gxe.ExpectTableRowCountToBeBetween(min_value=1),
         "the table has rows", "add some with `huesong data sample` or `huesong data import`"),
    ]  # fmt: skip
    if missing_columns(list(frame)):
        return suite[:1]
    if frame.empty:
        return suite
    suite += [(CRITICAL, _expectation(rule), rule.title, rule.remedy) for rule in RULES]

    def of_rows(severity: str, column: str, title: str, remedy: str, allowed: float = 1, mostly: float = 1) -> None:
        expectation = gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[allowed], mostly=mostly)
        suite.append((severity, expectation, title, remedy))

    suite.append((CRITICAL, gxe.ExpectColumnMaxToBeBetween(column="opens", min_value=1),
                  "at least one file opens", "check the data folder: `dvc pull` fetches its files"))  # fmt: skip
    of_rows(WARNING, "file_exists", "every file exists", "they are dropped; fetch them or remove their rows")
    of_rows(WARNING, "opens", "every file opens", "they are dropped; replace them or remove their rows")
    suite += [
        (WARNING, gxe.ExpectColumnValuesToBeUnique(column="digest"),
         "no two files are byte-identical", "remove the copies, or keep them knowingly"),
        (WARNING, gxe.ExpectColumnValuesToBeUnique(column="path"), "no file is listed twice", "remove one of the rows"),
    ]  # fmt: skip
    of_rows(WARNING, "content_groups", "byte-identical files share a group",
            "give the copies one group, else they may leak between splits")  # fmt: skip
    of_rows(WARNING, "given_splits", "no group is given two splits",
            "the whole group goes to the first of test, judge, val; give it one split, or leave split empty")  # fmt: skip
    of_rows(CRITICAL, "group_splits", "no group lies in two splits", "this is a fault of huesong: report it")
    of_rows(CRITICAL, "content_splits", "no file lies in two splits under two names", "give the copies one group")
    for name in ("valence", "arousal"):
        if frame[name].notna().sum() >= 2:
            suite.append((WARNING, gxe.ExpectColumnStdevToBeBetween(column=name, min_value=0.05),
                          f"{name} varies", "nothing can be learnt from a constant label"))  # fmt: skip
    suite.append((WARNING, gxe.ExpectColumnSumToBeBetween(column="rated", min_value=MIN_RATED),
                  f"at least {MIN_RATED} items are rated", "a labeller needs more rated items"))  # fmt: skip
    of_rows(WARNING, "enough_raters", f"nine in ten ratings by people have {MIN_RATERS} or more raters",
            "means of one or two raters are noise: rate again, or leave them out", mostly=0.9)  # fmt: skip
    suite.append((WARNING, gxe.ExpectColumnValuesToNotBeInSet(column="licence", value_set=[*contracts.UNSTATED_LICENCES]),
                  "every licence is stated", "find out, before the model or its music is shared"))  # fmt: skip
    return suite


def _expectation(rule: Rule) -> Any:
    import great_expectations.expectations as gxe

    if rule.unique:
        return gxe.ExpectColumnValuesToBeUnique(column=rule.column)
    if rule.pattern:
        return gxe.ExpectColumnValuesToMatchRegex(column=rule.column, regex=rule.pattern)
    if rule.span:
        low, high = rule.span
        return gxe.ExpectColumnValuesToBeBetween(column=rule.column, min_value=low, max_value=high)
    return gxe.ExpectColumnValuesToBeInSet(column=rule.column, value_set=list(rule.allowed))


def _run_checkpoint(tables: dict[str, pd.DataFrame]) -> list[Check]:
    """One Checkpoint over all tables, in an ephemeral context."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("raw")
    definitions, plans = [], {}
    with tempfile.TemporaryDirectory(prefix="huesong-validation-") as folder:
        for name, frame in tables.items():
            plans[name] = expectations(frame)
            suite = gx.ExpectationSuite(name=name)
            for number, (severity, expectation, title, remedy) in enumerate(plans[name]):
                expectation.meta = {"severity": severity, "title": title, "remedy": remedy, "number": number}
                suite.add_expectation(expectation)
            # A Checkpoint hands one set of batch parameters to all tables, so each comes from a file of its own.
            path = Path(folder) / f"{name}.parquet"
            frame.to_parquet(path, index=False)
            asset = source.add_parquet_asset(name, path=path)
            assert asset is not None
            batch = asset.add_batch_definition("whole")
            definition = gx.ValidationDefinition(name=name, data=batch, suite=context.suites.add(suite))
            definitions.append(context.validation_definitions.add(definition))
        checkpoint = gx.Checkpoint(
            name="raw data",
            validation_definitions=definitions,
            result_format={"result_format": "COMPLETE", "include_unexpected_rows": False},
        )
        run = context.checkpoints.add(checkpoint).run()
    checks = []
    for outcome in run.run_results.values():
        table = str(outcome.suite_name)
        checks += [_check(table, tables[table], result) for result in sorted(outcome.results, key=_number)]
    return sorted(checks, key=lambda check: list(tables).index(check.table))


def _number(outcome: Any) -> int:
    return int(outcome.expectation_config.meta["number"])


def _check(table: str, frame: pd.DataFrame, outcome: Any) -> Check:
    config, meta = outcome.expectation_config, outcome.expectation_config.meta
    rows = sorted(int(row) for row in outcome.result.get("unexpected_index_list") or [])
    failing = outcome.result.get("unexpected_count")
    examples = [f"{frame['id'].iloc[row]} on line {frame['line'].iloc[row]}" for row in rows[:EXAMPLES]]
    problem = ""
    if not outcome.success and not rows:
        examples = [_exception(outcome.exception_info or {}) or _observed(outcome.result)]
        if what := missing_columns(list(frame)):
            problem = f"line 1: {what}: {meta['remedy']}"
    elif not outcome.success and (rule := next((rule for rule in RULES if rule.title == meta["title"]), None)):
        problem = f"line {frame['line'].iloc[rows[0]]}: {rule.sentence(frame, rows[0])}"
    return Check(
        table,
        meta["severity"],
        meta["title"],
        config.type,
        bool(outcome.success),
        int(failing) if failing is not None else None,
        len(frame),
        [" ".join(example.split()) for example in examples if example],
        meta["remedy"],
        " ".join(problem.split()),
    )


def _observed(result: dict[str, Any]) -> str:
    value = result.get("observed_value")
    missing = result.get("details", {}).get("mismatched", {}).get("missing")
    return f"missing: {', '.join(missing)}" if missing else "" if value is None else f"found {value}"


def _exception(info: dict[str, Any]) -> str:
    if "exception_message" in info:
        return str(info["exception_message"]).splitlines()[0] if info.get("raised_exception") else ""
    return next((text for value in info.values() if isinstance(value, dict) and (text := _exception(value))), "")


def _as_json(result: ValidationResult, tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    return {
        "success": not result.critical,
        "critical": result.critical,
        "warnings": result.warnings,
        "rows": {name: len(frame) for name, frame in tables.items()},
        "checks": [vars(check) for check in result.checks],
        "broken_files": [dict(zip(("table", "id", "path", "reason"), item, strict=True)) for item in result.broken],
    }
