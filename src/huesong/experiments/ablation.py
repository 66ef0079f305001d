"""The ablation: which objective follows the requested emotion best, judged alike, seed by seed.

One base (critic and pre-trained network) is shared; every objective and seed is fine-tuned from it by the train stage
and judged by the evaluate stage, on the same requests with the same seeds. So two objectives can be compared request by
request, which is far sharper than comparing their intervals.

A finished run leaves its `evaluate/` folder and is not repeated; a killed one resumes from its checkpoint.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huesong import contracts
from huesong.config import EvaluateConfig, Params, TrainConfig
from huesong.experiments.ablation_figures import baselines, comparison, pooled
from huesong.experiments.ablation_page import chart, markdown
from huesong.report.tables import put_into, put_picture
from huesong.runtime.checkpoints import Checkpoints
from huesong.runtime.errors import UserError
from huesong.runtime.files import read_json, replacing_file, replacing_folder, write_json
from huesong.runtime.progress import log
from huesong.runtime.signals import unwind_on_sigterm
from huesong.runtime.workers import SafePool
from huesong.tracking.provenance import SESSION_VARIABLE
from huesong.tracking.store import environment

if TYPE_CHECKING:
    from huesong.evaluate.judges import Judges

PAPER: dict[str, Any] = {
    "network": {
        "width": 256,
        "heads": 4,
        "encoder_layers": 3,
        "decoder_layers": 3,
        "positions": "absolute",
        "smear": False,
        "recall": False,
    },
    "condition_dropout": 0.0,
    "repeats": 0.0,
    "transpose": False,
}
"""The network of Kundu, Singh and Iwahori (2024), without guidance; presets/paper.yaml holds the same."""
OBJECTIVES = ("ce", "ce+contrastive", "ce+va_head", "ce+va_critic")
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"objective": name, "reinforce": {"steps": 0}} for name in OBJECTIVES},
    "ce+va_critic+reward": {"objective": "ce+va_critic"},
    "ce+va_head+reward": {"objective": "ce+va_head"},
    "paper preset": {"objective": "ce+va_critic", "reinforce": {"steps": 0}, **PAPER},
}
"""What each variant changes of the `train` section. `+reward` takes train.reinforce as it is."""
REFERENCES = ("ce", "ce+contrastive")
"""What the others are compared with piece by piece: no emotion in the loss, and the objective that the paper argues against."""
REWARDED = "+reward"
"""Ending of variants that are also compared with the same objective without rewards."""
SESSION = "session.txt"
"""The name of the MLflow parent of all runs in a folder, so that a resumed ablation goes on below the same one."""
CLOCK = "clock.json"
"""Seconds that a run took, training (and the base, where it made it) and evaluation (and the judges) apart."""


@dataclass(frozen=True)
class OneRun:
    """A variant with a seed, its folder, and what it reads."""

    params: Params
    name: str
    seed: int
    folder: Path
    data: Path
    preprocess: Path
    label: Path
    checkpoints: Path

    @property
    def finished(self) -> bool:
        return (self.folder / "evaluate" / contracts.FIGURES).exists()

    @property
    def tags(self) -> dict[str, str]:
        """What tells its tracked runs from those of the other variants and seeds below the same parent."""
        return {"huesong.variant": self.name, "huesong.train_seed": str(self.seed)}


@dataclass(frozen=True)
class AblationReport:
    """The figures (variant -> name -> value), the comparisons with `references` (title -> name -> value), and the files."""

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
    jobs: int = 1,
) -> AblationReport:
    """Train and judge every variant with every seed, and write the table.

    Args:
        params: settings; `train` is what the variants change, `evaluate` judges all of them.
        data, preprocess, label: raw data and artifacts of the earlier stages.
        out: folder of the runs and of the table (`ablation.json`, `ablation.md`, `ablation.png`).
        seeds: runs a variant.
        variants: names of VARIANTS, each with `@WEIGHT` behind it for another train.va_weight: a sweep.
        report: a Markdown file whose part between the markers `<!-- ablation -->` and `<!-- /ablation -->` is replaced
            by the table; the chart goes into `images/` beside it.
        trains: False = a table of the runs that are finished; nothing is trained.
        jobs: runs at a time, each in a process of its own where there are several.

    Raises:
        UserError: an unknown variant, missing artifacts, a report without the markers, a process that ended, or nothing to
            make a table of.
    """
    for name in variants:
        changes(name)
    if report is not None:
        put_into(report, "ablation", None)  # before hours of training: are the markers there?
    planned = [  # seed by seed: after a third of the time there is one run of everything
        OneRun(
            params, name, seed, out / f"{name.replace(' ', '-')}-{seed}", data, preprocess, label, out / "checkpoints"
        )
        for seed in range(seeds)
        for name in variants
    ]
    if trains and (missing := [one for one in planned if not one.finished]):
        with environment(**{SESSION_VARIABLE: session(out)}):
            train_and_judge(missing, jobs)
    made = gather([one for one in planned if one.finished], out / "table")
    if report is not None:
        put_into(report, "ablation", (out / "table" / "ablation.md").read_text(encoding="utf-8"))
        put_picture(report, "ablation", out / "table" / "ablation.png", "ablation.png")
    return made


def gather(runs: Sequence[OneRun], table: Path) -> AblationReport:
    """The figures of finished runs, pooled and compared, written into the folder `table`.

    Raises:
        UserError: no run is finished.
    """
    if not runs:
        raise UserError(f"no run in {table.parent} is finished: leave out --no-train")
    finished: dict[str, dict[int, Path]] = {}
    for one in runs:
        finished.setdefault(one.name, {})[one.seed] = one.folder / "evaluate"
    params = runs[0].params
    figures = {name: pooled(list(folders.values()), params) for name, folders in finished.items()}
    first = next(iter(finished.values()))
    figures |= {f"- {title}": found for title, found in baselines(next(iter(first.values()))).items()}
    comparisons: dict[str, dict[str, float]] = {}
    for name, folders in finished.items():
        for plain in references(name):
            if plain in finished:
                comparisons |= comparison(f"{name} against {plain}", finished[plain], folders, params)
    paths = [one.folder / CLOCK for one in runs]
    clocks = [read_json(path, "huesong experiment ablation") for path in paths if path.exists()]
    hours = {key: sum(clock[key] for clock in clocks) / 3600 for key in ("train", "evaluate")} if clocks else {}
    with replacing_folder(table, ("ablation.json",)) as work:
        write_json(work / "ablation.json", {"figures": figures, "comparisons": comparisons, "hours": hours})
        (work / "ablation.md").write_text(markdown(figures, comparisons, hours), encoding="utf-8")
        chart(figures, work / "ablation.png")
    return AblationReport(figures, comparisons, sorted(table.iterdir()))


def references(name: str) -> list[str]:
    """The variants that one is compared with: REFERENCES, the same without rewards, and the same with its usual VA weight."""
    if "@" in name:
        return [name.partition("@")[0]]
    before = REFERENCES[: REFERENCES.index(name)] if name in REFERENCES else REFERENCES
    return [*before, *([name.removesuffix(REWARDED)] if name.endswith(REWARDED) else [])]


def session(out: Path) -> str:
    """The name that all runs in `out` are tracked under: the environment's or a new one, written there by the first."""
    path = out / SESSION
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as work:
            name = os.environ.get(SESSION_VARIABLE) or f"ablation {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
            work.write_text(f"{name}\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def train_and_judge(missing: Sequence[OneRun], jobs: int) -> None:
    """Make every run, `jobs` at a time; of each base one run before the others, so that no base is made twice at once."""
    later: dict[str, list[OneRun]] = {}
    for one in missing:
        later.setdefault(shared_base(one), []).append(one)
    if jobs == 1:
        for one in missing:
            one_run(one)
    else:
        with SafePool(jobs, preload=[__name__]).executor() as pool:
            running = {pool.submit(in_a_process, runs[0]): runs.pop(0) for runs in later.values()}
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    one = running.pop(future)
                    try:
                        future.result()
                    except BrokenProcessPool:
                        raise UserError(
                            f"the process of {one.name}, seed {one.seed}, or of one beside it was ended, perhaps for want of "
                            "memory: start the same command again, with fewer --jobs; it goes on where it stopped"
                        ) from None
                    log.info("ablation: %s, seed %d: done", one.name, one.seed)
                    running |= {pool.submit(in_a_process, other): other for other in later.pop(shared_base(one), [])}
    for pairs in missing[0].checkpoints.glob("pairs-*"):
        Checkpoints(pairs).clear()


def in_a_process(one: OneRun) -> None:
    """A run beside others: it leaves the other cores to them, and goes at once when its process is told to."""
    unwind_on_sigterm()
    alone = one.params.evaluate.model_copy(update={"workers": 1})
    try:
        one_run(replace(one, params=one.params.model_copy(update={"evaluate": alone})))
    except SystemExit as ended:  # everything is unwound; the pool would take this for a result and begin the next run
        os._exit(int(ended.code or 0))


def shared_base(one: OneRun) -> str:
    """Equal for runs that begin with the same critic and pre-trained network."""
    from huesong.train.stage import base_settings

    return json.dumps(base_settings(variant_config(one.params.train, one.name, one.seed)), sort_keys=True)


def one_run(one: OneRun) -> None:
    """One variant with one seed: train, then evaluate; both are tracked runs."""
    from huesong.evaluate import stage as evaluate
    from huesong.tracking.runs import stage_run
    from huesong.train import stage as train

    config = variant_config(one.params.train, one.name, one.seed)
    log.info("ablation: %s, seed %d", one.name, one.seed)
    started = time.monotonic()
    tracking: dict[str, Any] = {"experiment": one.params.register_.experiment, "data": one.data}
    sources: dict[str, Path] = {"preprocess": one.preprocess, "label": one.label}
    if not (one.folder / "train" / contracts.FIGURES).exists():
        with stage_run("train", config, **tracking) as tracked:
            tracked.set_tags(one.tags)
            # Rewards start where the same objective and seed without them ended.
            tracked(
                train.run(config, **sources, out=one.folder / "train", checkpoints=one.checkpoints, keep_pairs=True)
            )
    trained = time.monotonic()
    judges = judges_of(one.params.evaluate.model_dump_json(), one.preprocess)
    judging = variant_judging(one.params.evaluate, config, with_baselines=one.name == "ce" and one.seed == 0)
    with stage_run("evaluate", judging, **tracking) as tracked:
        tracked.set_tags(one.tags)
        places = {"data": one.data, **sources, "train": one.folder / "train", "out": one.folder / "evaluate"}
        tracked(evaluate.run(judging, **places, judges=judges))
    write_json(one.folder / CLOCK, {"train": trained - started, "evaluate": time.monotonic() - trained})


@functools.lru_cache(maxsize=1)
def judges_of(settings: str, preprocess: Path) -> Judges:
    """The judges, trained once a process: all variants are judged alike. `settings`: the evaluate section as JSON."""
    from huesong.evaluate.stage import train_judges

    return train_judges(EvaluateConfig.model_validate_json(settings), preprocess)


def changes(name: str) -> dict[str, Any]:
    """What the variant of this name changes of the `train` section: VARIANTS, and the VA weight of `NAME@WEIGHT`.

    Raises:
        UserError: there is no such variant, or the weight is no number.
    """
    variant, swept, weight = name.partition("@")
    if variant not in VARIANTS:
        raise UserError(f"unknown variant {variant!r}: choose from {', '.join(VARIANTS)}")
    if not swept:
        return VARIANTS[variant]
    try:
        return {**VARIANTS[variant], "va_weight": TrainConfig(va_weight=float(weight)).va_weight}
    except ValueError:  # pydantic's too
        raise UserError(f"variant {name!r}: the weight behind @ must be a number from 0 on, such as 0.5") from None


def variant_config(train: TrainConfig, name: str, seed: int) -> TrainConfig:
    """The `train` section of a variant; nested sections are merged."""
    settings = train.model_dump(mode="json")
    for key, value in changes(name).items():
        settings[key] = {**settings[key], **value} if isinstance(value, Mapping) else value
    return TrainConfig.model_validate({**settings, "seed": seed})


def variant_judging(evaluate: EvaluateConfig, config: TrainConfig, *, with_baselines: bool) -> EvaluateConfig:
    """The `evaluate` section for a variant.

    One candidate a request, since the choice among several would hide what the objective did. `with_baselines`: whether
    the baselines answer too; they are the same for all.
    """
    sampling: dict[str, float] = {"candidates": 1}
    if config.condition_dropout == 0:  # as the sampler does with such a model; here so that the tracked settings say it
        sampling["guidance"] = 1
    changed = {
        "baselines": with_baselines,
        "report_pieces": 0,
        "sampling": evaluate.sampling.model_copy(update=sampling),
    }
    return evaluate.model_copy(update=changed)
