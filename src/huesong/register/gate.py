"""The promotion gate: which figures a model must reach, and how far it may fall behind the champion."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from huesong.config import Section
from huesong.runtime.errors import UserError
from huesong.tracking.figures import flatten


class Threshold(Section):
    """What a figure must be, whatever the champion's is; both ends included."""

    min: float | None = Field(None, allow_inf_nan=False)
    max: float | None = Field(None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_end(self) -> Threshold:
        if self.min is None and self.max is None:
            raise ValueError("needs min, max or both")
        return self


class Margin(Section):
    """How much worse than the champion's a figure may be."""

    better: Literal["higher", "lower"]
    margin: float = Field(0.0, ge=0, allow_inf_nan=False)


class Gate(Section):
    """mlflow/gate.yaml: thresholds by the name of a figure in artifacts/evaluate/metrics.json (dotted where nested)."""

    absolute: dict[str, Threshold] = {}
    relative: dict[str, Margin] = {}
    across_data: Literal["compare", "skip"] = "compare"
    """Whether `relative` also holds against a champion that was made from another version of the data."""


@dataclass(frozen=True)
class Check:
    """One figure held against one threshold."""

    metric: str
    kind: Literal["absolute", "relative"]
    threshold: str
    value: float | None
    champion: float | None
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class GateResult:
    """All checks of one model; it passes when every one of them does."""

    checks: list[Check]

    @property
    def passed(self) -> bool:
        """Whether the model may become champion."""
        return all(check.passed for check in self.checks)

    @property
    def summary(self) -> str:
        """`passed (7 checks)`, or the figures that failed."""
        failed = [check.metric for check in self.checks if not check.passed]
        return f"failed: {', '.join(failed)}" if failed else f"passed ({len(self.checks)} checks)"

    def rows(self) -> list[dict[str, Any]]:
        """The checks as JSON values."""
        return [asdict(check) for check in self.checks]

    def table(self) -> str:
        """The checks as an aligned table, one line each."""
        head = ("", "figure", "value", "threshold", "champion", "")
        lines = [
            ("pass" if c.passed else "FAIL", c.metric, number(c.value), c.threshold, number(c.champion), c.note)
            for c in self.checks
        ]
        widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in [head, *lines]
        )


def load_gate(path: Path) -> Gate:
    """Read and check a gate file.

    Raises:
        UserError: missing file, broken YAML, an unknown key (names the nearest known one) or a bad value.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: name the promotion gate with --gate") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict) or not raw:
        raise UserError(
            f"{path} must hold `absolute` and `relative` thresholds: an empty gate would let every model pass"
        )
    try:
        gate = Gate.model_validate(raw)
    except ValidationError as error:
        raise UserError(describe(error, path)) from error
    if not gate.absolute:
        raise UserError(f"{path}: `absolute` is empty, so that any first model would pass: give it a threshold")
    return gate


def describe(error: ValidationError, path: Path) -> str:
    """The first problem as one line, with the nearest known key for an unknown one."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        section: type[BaseModel] = Gate
        if len(location) > 1:
            section = Threshold if location[0] == "absolute" else Margin
        known = list(section.model_fields)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.0)
        return f"{path}: unknown key '{key}'; did you mean '{near[0]}'? (known: {', '.join(known)})"
    if first["type"] == "missing":
        return f"{path}: {key} is missing"
    return f"{path}: {key} = {first['input']!r}: {first['msg']}"


def check(
    gate: Gate,
    metrics: Mapping[str, Any],
    champion: Mapping[str, Any] | None = None,
    *,
    same_data: bool = True,
) -> GateResult:
    """Hold a model's figures against the gate.

    Args:
        gate: the thresholds.
        metrics: figures of the model (nested or flat).
        champion: figures of the current champion; None: there is none (or it is this very model), absolute checks only.
        same_data: whether the champion was made from the same version of the data.
    """
    figures = flatten(metrics)
    checks = [_absolute(figures, metric, threshold) for metric, threshold in gate.absolute.items()]
    if champion is not None:
        rival = flatten(champion)
        for metric, margin in gate.relative.items():
            checks.append(_relative(figures, rival, metric, margin, gate, same_data))
    return GateResult(checks)


def _absolute(figures: Mapping[str, Any], metric: str, threshold: Threshold) -> Check:
    value, note = _figure(figures, metric)
    ends = [f">= {threshold.min:g}"] if threshold.min is not None else []
    ends += [f"<= {threshold.max:g}"] if threshold.max is not None else []
    passed = (
        value is not None
        and (threshold.min is None or value >= threshold.min)
        and (threshold.max is None or value <= threshold.max)
    )
    return Check(metric, "absolute", " and ".join(ends), value, None, passed, note)


def _relative(
    figures: Mapping[str, Any], rival: Mapping[str, Any], metric: str, margin: Margin, gate: Gate, same_data: bool
) -> Check:
    value, note = _figure(figures, metric)
    best, _ = _figure(rival, metric)
    sign = "-" if margin.better == "higher" else "+"
    threshold = f"{'>=' if sign == '-' else '<='} champion {sign} {margin.margin:g}"
    if value is None:
        return Check(metric, "relative", threshold, value, best, False, note)
    if best is None:  # a figure that is new since the champion must not block every later model
        return Check(metric, "relative", threshold, value, best, True, "not compared: the champion has no such figure")
    if not same_data and gate.across_data == "skip":
        note = "not compared: the champion was made from other data"
        return Check(metric, "relative", threshold, value, best, True, note)
    worse_by = best - value if margin.better == "higher" else value - best
    passed = worse_by <= margin.margin + 1e-9  # .55 is not worse than .6 - .05
    if not passed and not same_data:
        note = "the champion was made from other data (across_data: skip in the gate leaves it out)"
    return Check(metric, "relative", threshold, value, best, passed, note)


def _figure(figures: Mapping[str, Any], metric: str) -> tuple[float | None, str]:
    """The finite value of a figure, or None and why."""
    value = figures.get(metric)
    if metric not in figures:
        near = difflib.get_close_matches(metric, figures, n=1)
        return None, "no such figure was measured" + (f"; did you mean '{near[0]}'?" if near else "")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None, f"is {value!r}, not a number"
    return float(value), ""


def number(value: float | None) -> str:
    """A figure in a table."""
    return "–" if value is None else f"{value:.4g}"
