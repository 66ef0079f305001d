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
from huesong.preprocess.files import MISSING, FileState, file_states
from huesong.preprocess.validation_page import Check, ValidationResult, render
from huesong.runtime.files import replacing_file, write_json
from huesong.runtime.progress import log

os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")

CRITICAL, WARNING = "critical", "warning"
TEXTS = ("id", "path", "group", "label_kind", "source", "licence", "split")
NUMBERS = ("valence", "arousal", "n_raters")
EXAMPLES = 20
"""Failing items that are named."""
MIN_RATERS = 3
HUMAN_KINDS = ("mean_rating", "mean_slider")
MIN_RATED = 20
"""Fewer rated items cannot carry a labeller and its cross-validation."""


def validate(data: Path, images: pd.DataFrame, music: pd.DataFrame, out: Path, workers: int = 0) -> ValidationResult:
    """Test both raw tables and their files; write contracts.VALIDATION_JSON and VALIDATION_HTML into `out`.

    Works on raw tables and on tables whose `split` is already filled in. Raises nothing for bad data: the caller stops
    on `.critical`; `.warnings` are logged here. The files written depend on the data only, not on the time.

    Args:
        data: the data folder.
        images, music: tables with contracts.RAW_COLUMNS (missing columns are a critical failure).
        out: folder to write into.
        workers: processes that open files; 0 = one a core.
    """
    result = ValidationResult()
    tables = {}
    for name, raw in (("images", images), ("music", music)):
        states = file_states(data, name, [str(path) for path in raw.get("path", [""] * len(raw))], workers)
        tables[name] = _with_facts(raw, states)
        ids = raw["id"] if "id" in raw else pd.Series([""] * len(raw))
        for item, path, state in zip(ids, raw.get("path", ids), states, strict=True):
            if state.problem:
                result.broken.append((name, str(item), str(path), state.problem))
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


def _with_facts(raw: pd.DataFrame, states: list[FileState]) -> pd.DataFrame:
    """The table with the columns that the suites need beside its own; missing columns stay missing."""
    frame = raw.reset_index(drop=True).copy()
    for name in set(TEXTS) & set(frame):
        frame[name] = frame[name].fillna("").astype(str)
    frame["numbers"] = 1
    for name in set(NUMBERS) & set(frame):
        values = pd.to_numeric(frame[name], errors="coerce").astype("float64")
        frame["numbers"] &= (values.notna() | frame[name].isna()).astype(int)
        frame[name] = values
    frame["file_exists"] = [int(state.problem != MISSING) for state in states]
    frame["opens"] = [int(not state.problem) for state in states]
    frame["digest"] = pd.Series([state.digest or None for state in states], dtype="object")
    frame["group_splits"] = _splits_within(frame, "group")
    frame["content_splits"] = _splits_within(frame, "digest")
    frame["content_groups"] = _distinct(frame, "digest", frame["group"]) if "group" in frame else 1
    if {"valence", "arousal", "label_kind"} <= set(frame):
        rated = frame[["valence", "arousal"]].notna()
        frame["rated"] = rated.all(axis=1).astype(int)
        frame["label_complete"] = (rated.sum(axis=1) == 2 * (frame["label_kind"] != "").astype(int)).astype(int)
        if "n_raters" in frame:
            human = frame["label_kind"].isin(HUMAN_KINDS)
            frame["enough_raters"] = (frame["n_raters"].fillna(0) >= MIN_RATERS).where(human).astype("float64")
    return frame


def _splits_within(frame: pd.DataFrame, column: str) -> pd.Series | int:
    """For every row: over how many splits the rows with the same value of `column` are spread (at least 1)."""
    if column not in frame or "split" not in frame:
        return 1
    given = frame["split"].where(frame["split"].isin(contracts.SPLITS))
    return _distinct(frame, column, given)


def _distinct(frame: pd.DataFrame, column: str, values: pd.Series) -> pd.Series:
    count = values.groupby(frame[column]).transform("nunique")
    return count.fillna(1).clip(lower=1).astype(int)


# --- the suites ----------------------------------------------------------------------------------


def expectations(frame: pd.DataFrame) -> list[tuple[str, Any, str, str]]:
    """The suite for one table: (severity, expectation, what it says in plain words, the remedy).

    Expectations about a column that is missing are left out; the first one reports it.
    """
    import great_expectations.expectations as gxe

    numbers = [name for name in ("valence", "arousal") if name in frame]
    texts = [name for name in ("id", "path", "group", "source") if name in frame]
    suite: list[tuple[str, Any, str, str]] = [
        (CRITICAL, gxe.ExpectTableColumnsToMatchSet(column_set=list(contracts.RAW_COLUMNS), exact_match=False),
         "all columns are there", f"the table needs {', '.join(contracts.RAW_COLUMNS)}"),
        (CRITICAL, gxe.ExpectTableRowCountToBeBetween(min_value=1),
         "the table has rows", "add data with `huesong data sample` or `huesong data import`"),
        (CRITICAL, gxe.ExpectColumnMaxToBeBetween(column="opens", min_value=1),
         "at least one file opens", "check the data folder: `dvc pull` fetches its files"),
        (CRITICAL, gxe.ExpectColumnValuesToBeInSet(column="numbers", value_set=[1]),
         "numbers are numbers", "correct the text in valence, arousal or n_raters"),
        (WARNING, gxe.ExpectColumnValuesToBeInSet(column="file_exists", value_set=[1]),
         "every file exists", "they are dropped; fetch them or remove their rows"),
        (WARNING, gxe.ExpectColumnValuesToBeInSet(column="opens", value_set=[1]),
         "every file opens", "they are dropped; replace them or remove their rows"),
        (WARNING, gxe.ExpectColumnValuesToBeUnique(column="digest"),
         "no two files are byte-identical", "remove the copies, or keep them knowingly"),
        (WARNING, gxe.ExpectColumnValuesToBeInSet(column="content_groups", value_set=[1]),
         "byte-identical files share a group", "give the copies one group, else they may leak between splits"),
        (CRITICAL, gxe.ExpectColumnValuesToBeInSet(column="group_splits", value_set=[1]),
         "no group lies in two splits", "give all items of a group one split, or leave split empty"),
        (CRITICAL, gxe.ExpectColumnValuesToBeInSet(column="content_splits", value_set=[1]),
         "no file lies in two splits under two names", "give the copies one group"),
    ]  # fmt: skip
    for name in texts:
        suite.append((CRITICAL, gxe.ExpectColumnValuesToMatchRegex(column=name, regex=r"(?s).*\S"),
                      f"{name} is never empty", "fill it in"))  # fmt: skip
    if "id" in frame:
        suite += [
            (CRITICAL, gxe.ExpectColumnValuesToBeUnique(column="id"), "no id stands twice", "rename or remove one"),
            (CRITICAL, gxe.ExpectColumnValuesToMatchRegex(column="id", regex=rf"^{contracts.SAFE_ID.pattern}\Z"),
             "ids are safe file names", "use letters, digits, dot, dash and underscore"),
        ]  # fmt: skip
    if "path" in frame:
        suite.append((WARNING, gxe.ExpectColumnValuesToBeUnique(column="path"),
                      "no file is listed twice", "remove one of the rows"))  # fmt: skip
    for name in numbers:
        suite.append((CRITICAL, gxe.ExpectColumnValuesToBeBetween(column=name, min_value=-1, max_value=1),
                      f"{name} lies in [-1, 1]", "map the scale of the ratings to [-1, 1]"))  # fmt: skip
        if frame[name].notna().sum() >= 2:
            suite.append((WARNING, gxe.ExpectColumnStdevToBeBetween(column=name, min_value=0.05),
                          f"{name} varies", "nothing can be learnt from a constant label"))  # fmt: skip
    if "label_kind" in frame:
        kinds = list(contracts.LABEL_WEIGHTS)
        suite.append((CRITICAL, gxe.ExpectColumnValuesToBeInSet(column="label_kind", value_set=kinds),
                      "every label_kind is known", f"use {', '.join(filter(None, kinds))}"))  # fmt: skip
    if "split" in frame:
        suite.append((CRITICAL, gxe.ExpectColumnValuesToBeInSet(column="split", value_set=["", *contracts.SPLITS]),
                      "every split is known", f"use {', '.join(contracts.SPLITS)} or leave it empty"))  # fmt: skip
    if "n_raters" in frame:
        suite.append((CRITICAL, gxe.ExpectColumnValuesToBeBetween(column="n_raters", min_value=0),
                      "n_raters is not negative", "correct it, or leave it empty"))  # fmt: skip
    if "label_complete" in frame:
        suite += [
            (CRITICAL, gxe.ExpectColumnValuesToBeInSet(column="label_complete", value_set=[1]),
             "valence, arousal and label_kind are given together", "give all three or none"),
            (WARNING, gxe.ExpectColumnSumToBeBetween(column="rated", min_value=MIN_RATED),
             f"at least {MIN_RATED} items are rated", "a labeller needs more rated items"),
        ]  # fmt: skip
    if "enough_raters" in frame:
        suite.append((WARNING, gxe.ExpectColumnValuesToBeInSet(column="enough_raters", value_set=[1.0], mostly=0.9),
                      f"nine in ten ratings by people have {MIN_RATERS} or more raters",
                      "means of one or two raters are noise: rate again, or leave them out"))  # fmt: skip
    if "licence" in frame:
        suite.append((WARNING, gxe.ExpectColumnValuesToNotBeInSet(column="licence", value_set=[*contracts.UNSTATED_LICENCES]),
                      "every licence is stated", "find out, before the model or its music is shared"))  # fmt: skip
    return suite


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
    config = outcome.expectation_config
    rows = [int(row) for row in outcome.result.get("unexpected_index_list") or []]
    names = frame.get("id", frame.index)
    failing = outcome.result.get("unexpected_count")
    examples = [str(names[row]) for row in rows[:EXAMPLES]]
    raised = _exception(outcome.exception_info or {})
    if not outcome.success and not rows:
        examples = [raised or _observed(outcome.result)]
    return Check(
        table,
        config.meta["severity"],
        config.meta["title"],
        config.type,
        bool(outcome.success),
        int(failing) if failing is not None else None,
        len(frame),
        [" ".join(example.split()) for example in examples if example],
        config.meta["remedy"],
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
