"""What the stages cost when the data grow: CPU and wall seconds, peak memory, bytes read and written, at 1x, 3x and 10x.

Usage: python benchmarks/scaling.py --work FOLDER [--sizes 1 3 10] [--page docs/scaling.md]
Makes the sample set at every size, runs every stage on it with one worker, and writes the table. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from huesong.report.tables import put_into, table

ROOT = Path(__file__).resolve().parent.parent
PICTURES, PIECES = 128, 320
"""Of the sample set at 1x."""
STEPS = 4, 16
"""Training is run with either number of steps: the difference is what steps cost, which no size of the data changes."""
READS = {
    "preprocess": ("data",),
    "label": ("preprocess",),
    "train": ("preprocess", "label"),
    "evaluate": ("data", "preprocess", "label", "train"),
}
"""Folders of a stage's command; Kubeflow copies each of them into the stage's pod."""
SHORT: dict[str, dict[str, Any]] = {
    "preprocess": {"workers": 1},
    "label": {},
    "train": {"threads": 1, "checkpoint_every": STEPS[0], "critic": {"steps": 10}},
    "evaluate": {
        "workers": 1, "per_picture": 1, "max_pictures": 1, "grid_seeds": 1, "unconditional": 0, "report_pieces": 0,
        "sampling": {"seconds": 4.0, "candidates": 1},
    },
}  # fmt: skip
"""Changes to params.yaml: one worker or thread, and little of what does not depend on the size of the data."""
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""


def measured(words: list[str], log: Path) -> tuple[float, float, float]:
    """Run a command to its end with all that it leaves behind: workers outlive their parent, and count.

    Args:
        words: the command.
        log: where its output goes.

    Returns:
        CPU seconds (user and system, of all processes), wall seconds, peak MiB of the largest process.
    """
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    start = time.perf_counter()
    with log.open("a") as stream:
        to_log = [(os.POSIX_SPAWN_DUP2, stream.fileno(), place) for place in (1, 2)]
        pid = os.posix_spawnp(words[0], words, os.environ, file_actions=to_log)
    cpu, wall, peak = 0.0, 0.0, 0
    while True:
        try:
            ended, status, usage = os.wait4(-1, 0)
        except ChildProcessError:  # the last one is gone
            return cpu, wall, peak / 1024
        cpu, peak = cpu + usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss)
        if ended == pid:
            wall = time.perf_counter() - start
            if status:
                sys.exit(f"{' '.join(words)} failed; see {log}")


def megabytes(*folders: Path) -> float:
    """Of all files below the folders."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()) / 1e6


def params(steps: int, out: Path) -> Path:
    """The shipped settings with the changes of SHORT."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage, changes in {**SHORT, "train": {**SHORT["train"], "steps": steps}}.items():
        for name, value in changes.items():
            old = settings[stage].get(name)
            settings[stage][name] = {**old, **value} if isinstance(old, dict) else value
    out.write_text(yaml.safe_dump(settings))
    return out


def commands(work: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(row of the table, stage, command) in the order of the pipeline; the last training is what evaluate reads."""
    for stage, folders in READS.items():
        for steps in STEPS if stage == "train" else (STEPS[0],):
            words = ["huesong", stage, "--params", str(params(steps, work / f"params-{steps}.yaml"))]
            for folder in folders:
                words += [f"--{folder}", str(work / folder)]
            words += ["--out", str(work / stage)]
            if stage == "train":
                words += ["--checkpoints", str(work / "checkpoints")]
            yield f"train, {steps} steps" if stage == "train" else stage, stage, words


def measure(work: Path, size: int) -> dict[str, tuple[float, ...]]:
    """Make the sample set at a size and run every stage on it: CPU s, wall s, MiB, MB read and written, by row."""
    here = work / f"{size}x"
    here.mkdir(parents=True, exist_ok=True)
    sample = ["huesong", "data", "sample", "--out", str(here / "data")]
    measured([*sample, "--pictures", str(size * PICTURES), "--pieces", str(size * PIECES)], here / "log")
    rows: dict[str, tuple[float, ...]] = {}
    for name, stage, words in commands(here):
        shutil.rmtree(here / "checkpoints", ignore_errors=True)  # a finished critic would not be trained again
        cost = measured(words, here / "log")
        rows[name] = (*cost, megabytes(*(here / folder for folder in READS[stage])), megabytes(here / stage))
        print(f"{size}x, {name}:", *(f"{value:.3g}" for value in rows[name]), flush=True)
    return rows


def main() -> None:
    """Measure, and print the table or put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--page", type=Path, help="a page with <!-- stages --> and <!-- /stages -->")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HUESONG_TRACKING": "off"}
    found = [measure(given.work, size) for size in given.sizes]
    head = ["stage", "CPU s", "wall s", "peak MiB", "MB read", "MB written"]
    rows = [
        [
            name,
            *(" / ".join(f"{value:.3g}" for value in values) for values in zip(*(f[name] for f in found), strict=True)),
        ]
        for name in found[0]
    ]
    page = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}; "
        f"{' / '.join(f'{size}x' for size in given.sizes)}, n = 1 each.\n\n{table(head, rows)}\n"
    )
    print(page)
    if given.page:
        put_into(given.page, "stages", page)


if __name__ == "__main__":
    main()
