"""The figures of the evaluate stage, from what was asked and what the judges found (docs/evaluation.md names every one).

A key reads `<judge><set><who><figure>`: judge "" or `second_`; set "" (pictures) or `grid_`; who "" (the model) or a
baseline of evaluate.baselines.BASELINES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from huesong.config import EvaluateConfig
from huesong.evaluate.baselines import REQUESTED, spread
from huesong.evaluate.judges import VERDICTS
from huesong.evaluate.novelty import Corpus, Library
from huesong.music import statistics
from huesong.va import AXES, Bootstrap, agreement, beyond_a_constant, clusters, levels, same_quadrant_by_medians

SETS = {"pictures": "", "grid": "grid_"}
"""Request sets and the prefix of their figures."""
PEOPLE = [f"picture_{axis}" for axis in AXES]
"""Columns of the people's own rating of the picture."""
Figures = dict[str, float]


def measure(
    judged: pd.DataFrame,
    baselines: Mapping[str, pd.DataFrame],
    reference: pd.DataFrame,
    trained_on: pd.DataFrame,
    config: EvaluateConfig,
) -> Figures:
    """All figures but the judges' own scores and the novelty: flat, without NaN.

    Args:
        judged: contracts.REQUESTS, the model's pieces.
        baselines: their answers by name.
        reference: the statistics of rated real pieces.
        trained_on: the statistics of the pieces in the training pairs.
        config: bootstrap, seed and asked length.
    """
    bootstrap = Bootstrap(config.bootstrap, config.seed)
    metrics: Figures = {}
    for judge, column in VERDICTS.items():
        verdict = [f"{column}_{axis}" for axis in AXES]
        metrics |= control_accuracy(judged, "", judge, verdict, bootstrap)
        for name, answers in baselines.items():
            found = control_accuracy(answers, f"{name}_", judge, verdict, bootstrap)
            metrics |= {key: value for key, value in found.items() if "confusion" not in key}
        shown = judged[judged["set"] == "pictures"]
        metrics |= against_people(shown, f"{judge}picture_", verdict, bootstrap)
    metrics |= _agreement(
        "image_head_", judged[judged["set"] == "pictures"].drop_duplicates("image_id"),
        PEOPLE, ["predicted_valence", "predicted_arousal"], bootstrap,
    )  # fmt: skip
    metrics["pieces"] = len(judged)
    metrics["identical_share"] = identical_share(judged)
    metrics["invalid_tokens"] = int(judged["invalid_tokens"].sum())
    close = (judged["seconds"] - config.sampling.seconds).abs() <= 0.1 * config.sampling.seconds
    metrics["length_within_10_percent"] = float(close.mean())
    metrics |= statistics.compare(judged, reference, bootstrap)
    for key, value in statistics.distances(judged, trained_on, bootstrap).items():
        metrics[key.replace("distance_", "distance_taught_")] = value
    for name, answers in baselines.items():
        metrics[f"{name}_pieces"] = len(answers)
        metrics[f"{name}_identical_share"] = identical_share(answers)
        found = statistics.distances(answers, reference, bootstrap)
        metrics |= {f"{name}_{key}": value for key, value in found.items()}
    return metrics


def control_accuracy(answers: pd.DataFrame, who: str, judge: str, verdict: list[str], bootstrap: Bootstrap) -> Figures:
    """Requested against found by `judge` (columns `verdict`), for each request set."""
    found: Figures = {}
    for name, prefix in SETS.items():
        part = answers[answers["set"] == name]
        found |= _agreement(f"{judge}{prefix}{who}", part, REQUESTED, verdict, bootstrap)
    return found


def _agreement(prefix: str, rows: pd.DataFrame, asked: list[str], got: list[str], bootstrap: Bootstrap) -> Figures:
    if rows.empty:
        return {}
    pairs = (rows[asked].to_numpy(np.float64), rows[got].to_numpy(np.float64))
    found = agreement(*pairs, bootstrap.over(clusters(rows)))
    return {f"{prefix}{key}": value for key, value in found.items()}


def against_people(shown: pd.DataFrame, prefix: str, verdict: list[str], bootstrap: Bootstrap) -> Figures:
    """What is heard (columns `verdict`) of the pieces for pictures against what people felt of the pictures, from end to end.

    Beside `va.agreement`: `quadrant_by_medians`, and `<axis>_beyond_constant`, the mean absolute error less that of the
    constant that errs least; with intervals.
    """
    found = _agreement(prefix, shown, PEOPLE, verdict, bootstrap)
    if shown.empty:
        return found
    people, heard = ([shown[name].to_numpy(np.float64) for name in names] for names in (PEOPLE, verdict))
    own = bootstrap.over(clusters(shown))
    figures: dict[str, tuple[Callable[..., np.ndarray], tuple[np.ndarray, ...]]] = {}
    figures["quadrant_by_medians"] = same_quadrant_by_medians, (*people, *heard)
    for axis, felt, got in zip(AXES, people, heard, strict=True):
        figures[f"{axis}_beyond_constant"] = (beyond_a_constant, (felt, got))
    for name, (statistic, values) in figures.items():
        found[f"{prefix}{name}"] = float(statistic(*values))
        if (ends := own.interval(statistic, *values)) is not None:
            found[f"{prefix}{name}_low"], found[f"{prefix}{name}_high"] = ends
    return found


def identical_share(answers: pd.DataFrame) -> float:
    """Share of pieces whose notes equal those of another piece of the set."""
    return float(answers["piece"].duplicated(keep=False).mean())


def novelty(
    judged: pd.DataFrame,
    baselines: Mapping[str, pd.DataFrame],
    library: Library,
    split: pd.Series,
    config: EvaluateConfig,
) -> tuple[Figures, np.ndarray]:
    """Longest passages copied from training pieces (evaluate.novelty).

    `copied_notes` (mean over pieces) with interval, `_p95`, `_max`, `copied_share` (of the piece's notes); the same of
    real pieces of split `test`, cut to the composed pieces' median length, with `_data` at the end; and of baselines
    that write pieces of their own, by prefix.

    Returns:
        The figures, and the copied notes of each row of `judged`.
    """
    corpus = Corpus(library.symbols(np.flatnonzero((split == "train").to_numpy())))
    copied = corpus.longest_copies(judged["symbols"].tolist())
    found = _copies("", "", copied, judged["symbols"], config)
    held_out = np.flatnonzero((split == "test").to_numpy())
    if len(held_out) and config.novelty_pieces:
        # Longer pieces have more chances to share a passage: real ones are cut to the length of the composed.
        length = int(judged["symbols"].map(len).median())
        real = pd.Series(
            [piece[:length] for piece in library.symbols(held_out[spread(len(held_out), config.novelty_pieces)])]
        )
        found |= _copies("", "_data", corpus.longest_copies(real.tolist()), real, config)
        found["n_copied_data"] = len(real)
    for name, answers in baselines.items():
        if "symbols" in answers:
            own = corpus.longest_copies(answers["symbols"].tolist())
            found |= _copies(f"{name}_", "", own, answers["symbols"], config)
    return found, copied


def _copies(prefix: str, suffix: str, copied: np.ndarray, symbols: pd.Series, config: EvaluateConfig) -> Figures:
    notes = np.maximum(symbols.map(len).to_numpy() + 1, 1)
    found = {
        f"{prefix}copied_notes{suffix}": float(copied.mean()),
        f"{prefix}copied_notes_p95{suffix}": float(np.quantile(copied, 0.95)),
        f"{prefix}copied_notes_max{suffix}": float(copied.max()),
        f"{prefix}copied_share{suffix}": float((copied / notes).mean()),
    }
    bootstrap = Bootstrap(config.bootstrap, config.seed)
    interval = bootstrap.interval(lambda x: x.mean(axis=-1), copied.astype(float))
    if interval is not None and not suffix:
        found[f"{prefix}copied_notes_low"], found[f"{prefix}copied_notes_high"] = interval
    return found


def calibration_table(judged: pd.DataFrame, config: EvaluateConfig) -> pd.DataFrame:
    """contracts.CALIBRATION: `va.levels` of every request set, judge and axis."""
    bootstrap = Bootstrap(config.bootstrap, config.seed)
    rows: list[dict[str, Any]] = []
    for name in SETS:
        part = judged[judged["set"] == name]
        for judge, column in VERDICTS.items():
            for axis in AXES:
                asked, got = part[f"requested_{axis}"].to_numpy(float), part[f"{column}_{axis}"].to_numpy(float)
                for level in levels(asked, got, bootstrap.over(clusters(part))) if len(part) else ():
                    low, high = level.interval or (np.nan, np.nan)
                    rows.append(
                        {
                            "set": name, "judge": judge.rstrip("_") or "first", "axis": axis,
                            "requested": level.requested, "n": level.n, "mean": level.mean, "low": low, "high": high,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)
