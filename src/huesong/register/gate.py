"""The promotion gate: which figures a model must reach, and how far it may fall behind the champion."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from huesong.config import Section, describe
from huesong.report.tables import CARD, number
from huesong.runtime.documents import read_yaml
from huesong.runtime.errors import UserError
from huesong.tracking.figures import flatten

LATENCY = "latency_30s"
"""Seconds that a model takes for 30 s of music; measured where a gate has a threshold for it."""
Differences = Mapping[str, Mapping[str, float]]
"""What the champion's own answers to the same requests say (evaluate.quality.rival.differences)."""


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


class Baseline(Margin):
    """How much worse than another figure of the same evaluation a figure may be."""

    than: str


class Gate(Section):
    """mlflow/gate.yaml: thresholds by the name of a figure in artifacts/evaluate/figures.json (dotted where nested)."""

    absolute: dict[str, Threshold] = {}
    baseline: dict[str, Baseline] = {}
    relative: dict[str, Margin] = {}
    gain: str | None = None
    """The figure of `relative` in which a model must be better than the champion for certain. Where it is named, all of
    `relative` is asked of the differences from the champion, answered anew by it: the end of each interval on the side
    of the worse is above -margin, and above 0 for this one. Where it is not, figures of two evaluations are compared."""
    across_data: Literal["compare", "skip"] = "compare"
    """Whether `relative` also holds against a champion that was made from another version of the data."""
    sample: Gate | None = None
    """The gate of models that learnt from nothing that people rated: the sample set has no other data."""

    @model_validator(mode="after")
    def _gain_is_known(self) -> Gate:
        if self.gain is not None and self.gain not in self.relative:
            raise ValueError(f"gain '{self.gain}' is not among `relative`, which says what is better")
        return self

    def of(self, built: bool) -> Gate:
        """The gate of a model; `built`: nothing that it learnt from was rated by people (card.built_only)."""
        return self.sample if built and self.sample is not None else self


@dataclass(frozen=True)
class GateCheck:
    """One figure held against one threshold."""

    metric: str
    kind: Literal["absolute", "baseline", "relative"]
    threshold: str
    value: float | None
    rival: float | None
    """What it is compared with: the baseline's figure, or the champion's."""
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class GateResult:
    """All checks of one model; it passes when every one of them does."""

    checks: list[GateCheck]

    @property
    def passed(self) -> bool:
        """Whether the model may become champion."""
        return all(check.passed for check in self.checks)

    @property
    def summary(self) -> str:
        """`passed (7 checks)`, or the figures that failed."""
        failed = dict.fromkeys(check.metric for check in self.checks if not check.passed)  # one may fail two checks
        return f"failed: {', '.join(failed)}" if failed else f"passed ({len(self.checks)} checks)"

    def table(self) -> str:
        """The checks as an aligned table, one line each."""
        head = ("", "figure", "value", "threshold", "rival", "")
        lines = [head]
        for c in self.checks:
            value, rival = number(c.value, CARD), number(c.rival, CARD)
            lines.append(("pass" if c.passed else "FAIL", c.metric, value, c.threshold, rival, c.note))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def load_gate(path: Path) -> Gate:
    """Read and check a gate file.

    Raises:
        UserError: missing file, broken YAML, an unknown key (names the nearest known one) or a bad value.
    """
    raw = read_yaml(path, "name the promotion gate with --gate")
    if not isinstance(raw, dict) or not raw:
        raise UserError(
            f"{path} must hold `absolute` and `relative` thresholds: an empty gate would let every model pass"
        )
    try:
        gate = Gate.model_validate(raw)
    except ValidationError as error:
        raise UserError(describe(error, path, Gate)) from error
    if not gate.absolute or (gate.sample is not None and not gate.sample.absolute):
        raise UserError(f"{path}: `absolute` is empty, so that any first model would pass: give it a threshold")
    return gate


def check(
    gate: Gate,
    metrics: Mapping[str, Any],
    champion: Mapping[str, Any] | None = None,
    *,
    same_data: bool = True,
    differences: Differences | None = None,
) -> GateResult:
    """Hold a model's figures against the gate.

    Args:
        gate: the thresholds.
        metrics: figures of the model (nested or flat).
        champion: figures of the current champion; None: there is none (or it is this very model), absolute checks only.
        same_data: whether the champion was made from the same version of the data.
        differences: figure -> `value`, `champion`, and `low`, `high` of value - champion (evaluate.quality.rival); asked of
            where the gate names a `gain`.
    """
    figures = flatten(metrics)
    checks = [_absolute(figures, metric, threshold) for metric, threshold in gate.absolute.items()]
    checks += [_baseline(figures, metric, margin) for metric, margin in gate.baseline.items()]
    if champion is not None and gate.gain is not None:
        found = differences or {}
        checks += [_paired(found, metric, margin, -margin.margin) for metric, margin in gate.relative.items()]
        checks.append(_paired(found, gate.gain, gate.relative[gate.gain], 0.0))
    elif champion is not None:
        rival = flatten(champion)
        for metric, margin in gate.relative.items():
            checks.append(_relative(figures, rival, metric, margin, gate, same_data))
    return GateResult(checks)


def _absolute(figures: Mapping[str, Any], metric: str, threshold: Threshold) -> GateCheck:
    value, note = _figure(figures, metric)
    ends = [f">= {threshold.min:g}"] if threshold.min is not None else []
    ends += [f"<= {threshold.max:g}"] if threshold.max is not None else []
    passed = (
        value is not None
        and (threshold.min is None or value >= threshold.min)
        and (threshold.max is None or value <= threshold.max)
    )
    return GateCheck(metric, "absolute", " and ".join(ends), value, None, passed, note)


def _baseline(figures: Mapping[str, Any], metric: str, margin: Baseline) -> GateCheck:
    value, note = _figure(figures, metric)
    rival, missing = _figure(figures, margin.than)
    threshold = f"{'>=' if margin.better == 'higher' else '<='} {margin.than} {'-+'[margin.better == 'lower']} {margin.margin:g}"
    passed = value is not None and rival is not None and _worse_by(value, rival, margin) <= 0
    return GateCheck(
        metric, "baseline", threshold, value, rival, passed, note or (missing and f"{margin.than}: {missing}")
    )


def _worse_by(value: float, rival: float, margin: Margin) -> float:
    """By how much more than the margin `value` is worse than `rival`."""
    worse_by = rival - value if margin.better == "higher" else value - rival
    return worse_by - margin.margin - 1e-9  # .55 is not worse than .6 - .05


def _relative(
    figures: Mapping[str, Any], rival: Mapping[str, Any], metric: str, margin: Margin, gate: Gate, same_data: bool
) -> GateCheck:
    value, note = _figure(figures, metric)
    best, _ = _figure(rival, metric)
    higher = margin.better == "higher"
    threshold = f"{'>= champion -' if higher else '<= champion +'} {margin.margin:g}"
    passed = value is not None
    if value is None:
        pass
    elif best is None:  # a figure that is new since the champion must not block every later model
        note = "not compared: the champion has no such figure"
    elif not same_data and gate.across_data == "skip":
        note = "not compared: the champion was made from other data"
    else:
        passed = _worse_by(value, best, margin) <= 0
        if not passed and not same_data:
            note = "the champion was made from other data (across_data: skip in the gate leaves it out)"
    return GateCheck(metric, "relative", threshold, value, best, passed, note)


def _paired(differences: Differences, metric: str, margin: Margin, least: float) -> GateCheck:
    """Whether a model is better than the champion by more than `least` (negative: worse by less), with 97.5 % certainty."""
    threshold = f"gain > {least:g}"
    one = differences.get(metric)
    numbers = [one.get(key) for key in ("value", "champion", "low", "high")] if one else []
    if not numbers or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        note = "not compared with the champion" if one is None else "an end of the difference is no number"
        return GateCheck(metric, "relative", threshold, None, None, False, note)
    value, champion, low, high = (float(n) for n in numbers)  # type: ignore[arg-type]
    sign = 1.0 if margin.better == "higher" else -1.0
    gain, ends = sign * (value - champion), sorted((sign * low, sign * high))
    note = f"gain {gain:+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]"
    return GateCheck(metric, "relative", threshold, value, champion, ends[0] > least, note)


def _figure(figures: Mapping[str, Any], metric: str) -> tuple[float | None, str]:
    """The finite value of a figure, or None and why."""
    value = figures.get(metric)
    if metric not in figures:
        near = difflib.get_close_matches(metric, figures, n=1)
        return None, "no such figure was measured" + (f"; did you mean '{near[0]}'?" if near else "")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None, f"is {value!r}, not a number"
    return float(value), ""
