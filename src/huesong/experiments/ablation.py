"""The ablation: which objective follows the requested emotion best, judged alike, seed by seed.

One base (critic and pre-trained network) is shared; every objective and seed is fine-tuned from it by the train stage
and judged by the evaluate stage, on the same requests with the same seeds. So two objectives can be compared request by
request, which is far sharper than comparing their intervals.

A finished run leaves its `evaluate/` folder and is not repeated; a killed one resumes from its checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.artifacts import read_json, replacing_folder, require, write_json
from huesong.config import PAPER, EvaluateConfig, Params, TrainConfig
from huesong.emotion.space import AXES, agreement, bootstrap_interval
from huesong.errors import UserError
from huesong.experiments.ablation_page import chart, markdown
from huesong.experiments.report import put_into
from huesong.progress import log

OBJECTIVES = ("ce", "ce+contrastive", "ce+va_head", "ce+va_critic")
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"objective": name, "reinforce": {"steps": 0}} for name in OBJECTIVES},
    "ce+va_critic+reward": {"objective": "ce+va_critic"},
    "ce+va_head+reward": {"objective": "ce+va_head"},
    "paper preset": {"objective": "ce+va_critic", "reinforce": {"steps": 0}, **PAPER},
}
"""What each variant changes of the `train` section. `+reward` takes train.reinforce as it is."""
YARDSTICKS = ("ce", "ce+contrastive")
"""What the others are compared with piece by piece: no emotion in the loss, and the objective that the paper argues against."""
BASELINES = {"retrieval": "nearest training piece", "random": "random training piece", "rules": "rule-based composer",
             "unconditional": "the model, unconditional"}  # fmt: skip
KEPT = ("distance_paper", "distance_correct", "identical_share", "length_within_10_percent", "invalid_tokens")


@dataclass(frozen=True)
class AblationReport:
    """The figures (variant -> name -> value), the comparisons with YARDSTICKS, and the files."""

    figures: dict[str, dict[str, float]]
    comparisons: dict[str, dict[str, float]]
    files: list[Path]


def run(
    params: Params,
    *,
    data: Path,
    preprocess: Path,
    label: Path,
    out: Path,
    seeds: int = 3,
    variants: Sequence[str] = tuple(VARIANTS),
    report: Path | None = None,
    trains: bool = True,
) -> AblationReport:
    """Train and judge every variant with every seed, and write the table.

    Args:
        params: settings; `train` is what the variants change, `evaluate` judges all of them.
        data, preprocess, label: raw data and artifacts of the earlier stages.
        out: folder of the runs and of the table (`ablation.json`, `ablation.md`, `ablation.png`).
        seeds: runs a variant.
        variants: names of VARIANTS.
        report: a Markdown file whose part between the markers `<!-- ablation -->` and `<!-- /ablation -->` is replaced
            by the table.
        trains: False = a table of the runs that are finished; nothing is trained.

    Raises:
        UserError: an unknown variant, missing artifacts, a report without the markers, or nothing to make a table of.
    """
    for name in variants:
        if name not in VARIANTS:
            raise UserError(f"unknown variant {name!r}: choose from {', '.join(VARIANTS)}")
    if report is not None:
        put_into(report, "ablation", None)  # before hours of training: are the markers there?
    os.environ.setdefault("HUESONG_SESSION", f"ablation {datetime.now(UTC):%Y-%m-%d %H:%M}")
    finished: dict[str, dict[int, Path]] = {}
    for seed in range(seeds):  # seed by seed: after a third of the time there is one run of everything
        for name in variants:
            folder = out / f"{name.replace(' ', '-')}-{seed}"
            if not (folder / "evaluate" / contracts.METRICS).exists():
                if not trains:
                    continue
                one_run(params, name, seed, folder, data=data, preprocess=preprocess, label=label, out=out)
            finished.setdefault(name, {})[seed] = folder / "evaluate"
    if not finished:
        raise UserError(f"no run in {out} is finished: leave out --no-train")
    figures = {name: pooled(list(folders.values()), params) for name, folders in finished.items()}
    first = next(iter(finished.values()))
    figures |= {f"- {title}": found for title, found in baselines(next(iter(first.values()))).items()}
    comparisons = {
        f"{name} against {plain}": compared(finished[plain], folders, params)
        for plain in YARDSTICKS
        for name, folders in finished.items()
        if plain in finished and name not in YARDSTICKS[: YARDSTICKS.index(plain) + 1]
        if finished[plain].keys() & folders.keys()
    }
    page = markdown(figures, comparisons)
    with replacing_folder(out / "table") as work:
        write_json(work / "ablation.json", {"figures": figures, "comparisons": comparisons, "seeds": seeds})
        (work / "ablation.md").write_text(page, encoding="utf-8")
        chart(figures, work / "ablation.png")
    if report is not None:
        put_into(report, "ablation", page)
    return AblationReport(figures, comparisons, sorted((out / "table").iterdir()))


def one_run(
    params: Params, name: str, seed: int, folder: Path, *, data: Path, preprocess: Path, label: Path, out: Path
) -> None:
    """One variant with one seed: train, then evaluate; both are tracked runs."""
    from huesong.registry.tracking import stage_run
    from huesong.stages import evaluate, train

    config = variant_config(params.train, name, seed)
    log.info("ablation: %s, seed %d", name, seed)
    experiment = params.register_.experiment
    if not (folder / "train" / contracts.METRICS).exists():
        with stage_run("train", config, experiment=experiment, data=data) as tracked:
            tracked(
                train.run(
                    config, preprocess=preprocess, label=label, out=folder / "train", checkpoints=out / "checkpoints"
                )
            )
    judging = variant_judging(params.evaluate, config, ladder=name == "ce" and seed == 0)
    with stage_run("evaluate", judging, experiment=experiment, data=data) as tracked:
        tracked(
            evaluate.run(
                judging, data=data, preprocess=preprocess, label=label, train=folder / "train", out=folder / "evaluate"
            )
        )


def variant_config(train: TrainConfig, name: str, seed: int) -> TrainConfig:
    """The `train` section of a variant; nested sections are merged."""
    settings = train.model_dump(mode="json")
    for key, value in VARIANTS[name].items():
        settings[key] = {**settings[key], **value} if isinstance(value, Mapping) else value
    return TrainConfig.model_validate({**settings, "seed": seed})


def variant_judging(evaluate: EvaluateConfig, config: TrainConfig, *, ladder: bool) -> EvaluateConfig:
    """The `evaluate` section for a variant.

    One candidate a request, since the choice among several would hide what the objective did. `ladder`: whether the
    baselines answer too; they are the same for all.
    """
    sampling = {"candidates": 1}
    if config.condition_dropout == 0:  # never trained without its condition: there is nothing to guide away from
        sampling["guidance"] = 1
    return evaluate.model_copy(
        update={"baselines": ladder, "report_pieces": 0, "sampling": evaluate.sampling.model_copy(update=sampling)}
    )


def pooled(folders: Sequence[Path], params: Params) -> dict[str, float]:
    """Agreement of all seeds' pieces with their requests, grid and pictures apart; means of the other figures."""
    heard = pd.concat([judged(folder) for folder in folders], ignore_index=True)
    found: dict[str, float] = {"seeds_n": len(folders)}
    for kind, prefix in (("pictures", ""), ("grid", "grid_")):
        part = heard[heard["set"] == kind]
        if len(part):
            asked, got = (part[[f"{side}_{axis}" for axis in AXES]].to_numpy() for side in ("requested", "obtained"))
            scores = agreement(asked, got, bootstrap=params.evaluate.bootstrap, seed=params.evaluate.seed)
            found |= {prefix + key: value for key, value in scores.items() if "confusion" not in key}
    metrics = [read_json(folder / contracts.METRICS, "huesong experiment ablation") for folder in folders]
    for key in KEPT:
        values = [content[key] for content in metrics if key in content]
        if values:
            found[key] = float(np.mean(values))
    return found


def baselines(folder: Path) -> dict[str, dict[str, float]]:
    """The ladder of baselines that the first run was judged beside."""
    metrics: dict[str, Any] = read_json(folder / contracts.METRICS, "huesong experiment ablation")
    found: dict[str, dict[str, float]] = {}
    for name, title in BASELINES.items():
        for prefix in ("", "grid_"):
            start = f"{prefix}{name}_"
            own = {prefix + key.removeprefix(start): value for key, value in metrics.items() if key.startswith(start)}
            found.setdefault(title, {}).update(own)
    return {title: figures for title, figures in found.items() if figures}


def judged(folder: Path) -> pd.DataFrame:
    """One row a composed piece: set, request, seed, requested and obtained emotion."""
    return pd.read_csv(require(folder / contracts.REQUESTS, "huesong experiment ablation"))


def compared(plain: Mapping[int, Path], other: Mapping[int, Path], params: Params) -> dict[str, float]:
    """How much nearer the request `other` is than `plain`, piece by piece, on the grid: mean and 95 % interval.

    A positive figure: `other` follows better. Pairs are pieces of the same request, request seed and training seed
    (the keys). The interval is over pieces; `AXIS_seed_N` is the mean of one training seed.
    """
    differences: dict[str, list[float]] = {axis: [] for axis in AXES}
    by_seed: dict[str, float] = {}
    for seed in sorted(plain.keys() & other.keys()):
        both = [judged(side[seed]).query("set == 'grid'").set_index("request") for side in (plain, other)]
        rows = both[0].index.intersection(both[1].index)
        for axis in AXES:
            first, second = (
                (part.loc[rows, f"obtained_{axis}"] - part.loc[rows, f"requested_{axis}"]).abs().to_numpy()
                for part in both
            )
            differences[axis] += list(first - second)
            by_seed[f"{axis}_seed_{seed}"] = float(np.mean(first - second))
    found: dict[str, float] = {"n": len(differences[AXES[0]]), **by_seed}
    mean: Callable[[np.ndarray], np.ndarray] = lambda values: values.mean(axis=-1)  # noqa: E731
    for axis, values in differences.items():
        found[axis] = float(np.mean(values))
        interval = bootstrap_interval(
            mean, np.array(values), bootstrap=params.evaluate.bootstrap, seed=params.evaluate.seed
        )
        if interval is not None:
            found[f"{axis}_low"], found[f"{axis}_high"] = interval
    return found
