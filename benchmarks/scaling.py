"""What the stages cost at 1x, 3x and 10x of the sample set, and what one picture, piece or pair costs: measurements only.

Usage: python benchmarks/scaling.py {stages,probes} --work FOLDER [--sizes 1 3 10] [--photos FOLDER --encoder FOLDER]
Each measurement is a process of its own and a line of benchmarks/scaling.jsonl; what stands there is not measured again.
`benchmarks/scaling_page.py` makes tables and the plan of it. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "benchmarks" / "scaling.jsonl"
PROBES = ROOT / "benchmarks" / "scaling_probes.py"
PICTURES, PIECES = 128, 320
"""Of the sample set at 1x."""
REPEATS = {1: 3, 3: 1, 10: 1}
"""Runs of every stage at each size."""
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
PROBE_SIZES = {
    "pieces": (100, 300, 1000),
    "pictures": (100, 300, 1000),
    "photos": (24, 72, 240),
    "picture-labels": (3000, 10000, 30000),
    "pairs": (10000, 30000, 100000),
    "piece-labels": (10000, 30000, 60000),
}
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""


def measured(words: list[str], log: Path, growing: Path | None = None) -> dict[str, float]:
    """Run a command to its end, with all that it leaves behind: workers outlive their parent, and count.

    Args:
        words: the command.
        log: where its output goes.
        growing: a folder; the most bytes that a checkpoint in it (`step-*`) had are `checkpoint`.

    Returns:
        Wall and CPU seconds (user and system, of all processes), peak MiB of the largest process, and the load before.
    """
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    load, start = os.getloadavg()[0], time.perf_counter()
    with log.open("a") as stream:
        to_log = [(os.POSIX_SPAWN_DUP2, stream.fileno(), place) for place in (1, 2)]
        pid = os.posix_spawnp(words[0], words, os.environ, file_actions=to_log)
    done, seen = threading.Event(), [0]

    def watch() -> None:
        while growing is not None and not done.wait(0.2):
            seen.append(max((folder_bytes(step) for step in growing.glob("*/step-*")), default=0))

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, cpu, peak = 0.0, 0.0, 0
    try:
        while True:
            ended, status, usage = os.wait4(-1, 0)
            cpu, peak = cpu + usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss)
            if ended == pid:
                wall = time.perf_counter() - start
                if status:
                    sys.exit(f"{' '.join(words)} failed; see {log}")
    except ChildProcessError:  # the last one is gone
        pass
    finally:
        done.set()
        watcher.join()
    found = {"wall": wall, "cpu": cpu, "mib": peak / 1024, "load": load}
    return found | ({"checkpoint": max(seen)} if growing else {})


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, also while another process writes and removes some."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total


def lines() -> list[dict[str, Any]]:
    """Everything measured so far."""
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


def keep(key: dict[str, Any], found: dict[str, Any]) -> None:
    """Add a line."""
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
    with LINES.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(key | rounded) + "\n")
    print(key, rounded, flush=True)


def missing(key: dict[str, Any]) -> bool:
    """Whether no line is about this."""
    return not any(key.items() <= line.items() for line in lines())


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    model = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model[0], "cores": os.cpu_count(), "gib": round(memory), "python": platform.python_version(),
        "torch": torch.__version__, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def params(steps: int, out: Path) -> Path:
    """The shipped settings with the changes of SHORT."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage, changes in {**SHORT, "train": {**SHORT["train"], "steps": steps}}.items():
        for name, value in changes.items():
            old = settings[stage].get(name)
            settings[stage][name] = {**old, **value} if isinstance(old, dict) else value
    out.write_text(yaml.safe_dump(settings))
    return out


def commands(work: Path) -> Iterator[tuple[str, int, list[str]]]:
    """(stage, steps or 0, command) in the order of the pipeline; the last training is what evaluate reads."""
    for stage, folders in READS.items():
        for steps in STEPS if stage == "train" else (0,):
            words = ["huesong", stage, "--params", str(params(steps or STEPS[0], work / f"params-{steps}.yaml"))]
            for folder in folders:
                words += [f"--{folder}", str(work / folder)]
            words += ["--out", str(work / stage)]
            if stage == "train":
                words += ["--checkpoints", str(work / "checkpoints")]
            yield stage, steps, words


def stages(work: Path, sizes: list[int]) -> None:
    """Make the sample set at every size and run every stage on it."""
    for size in sizes:
        here = work / f"{size}x"
        here.mkdir(exist_ok=True)
        if not (here / "data").exists():
            sample = ["huesong", "data", "sample", "--out", str(here / "part")]
            measured([*sample, "--pictures", str(size * PICTURES), "--pieces", str(size * PIECES)], here / "log")
            (here / "part").rename(here / "data")
        for repeat in range(REPEATS[size]):
            for stage, steps, words in commands(here):
                key = {"stage": stage, "steps": steps, "size": size, "run": repeat}
                if not missing(key):
                    continue
                shutil.rmtree(here / "checkpoints", ignore_errors=True)  # a finished critic would not be trained again
                cost = measured(words, here / "log", here / "checkpoints" if stage == "train" else None)
                read = sum(folder_bytes(here / folder) for folder in READS[stage])
                keep(key, cost | {"read": read, "written": folder_bytes(here / stage)} | facts(stage, here))


def facts(stage: str, work: Path) -> dict[str, Any]:
    """Counts that the plan needs."""
    if stage == "preprocess":
        entries = [{"md5": "0" * 32, "relpath": str(path.relative_to(work / "data"))}
                   for path in (work / "data").rglob("*") if path.is_file()]  # fmt: skip
        tokens = json.loads((work / "preprocess" / "metrics.json").read_text())["tokens"]["count"]
        return {
            "tokens": tokens, "files": len(entries), "list": len(json.dumps(entries)),
            "image_bytes": folder_bytes(work / "data" / "images"), "music_bytes": folder_bytes(work / "data" / "music"),
        }  # fmt: skip
    if stage == "train":
        metrics = json.loads((work / "train" / "metrics.json").read_text())
        return {"tokens_seen": int(metrics["tokens_seen"]), "parameters": int(metrics["parameters"])}
    return {}


def probes(work: Path, photos: Path | None, encoder: Path | None) -> None:
    """Run every probe at every size; `photos` needs real pictures and the weights of a frozen CNN."""
    for probe, sizes in PROBE_SIZES.items():
        folder = photos if probe == "photos" else work / "10x" / "data"
        if folder is None or (encoder is None and probe == "photos"):
            print(f"{probe}: left out, it needs --photos and --encoder")
            continue
        for size in sizes:
            key = {"probe": probe, "count": size}
            if missing(key):
                words = [sys.executable, str(PROBES), probe, str(size), str(folder), str(encoder or "")]
                more = {"mean_bytes": photo_bytes(folder)} if probe == "photos" else {}
                keep(key, measured(words, work / "probes.log") | more)


def photo_bytes(folder: Path) -> int:
    """Mean size of a real picture."""
    sizes = [path.stat().st_size for path in folder.rglob("*.jpg")]
    return sum(sizes) // len(sizes)


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("stages", "probes"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", choices=REPEATS, default=[*REPEATS], help="Of the stages.")
    parser.add_argument("--photos", type=Path, help="Folder of JPEG files, such as data/images.")
    parser.add_argument("--encoder", type=Path, help="Folder of a frozen CNN, such as data/encoders/mobilenet_v2.")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HUESONG_TRACKING": "off"}
    given.work.mkdir(parents=True, exist_ok=True)
    if not any("cpu" in line and "cores" in line for line in lines()):
        keep({}, machine())
    if given.what == "stages":
        stages(given.work, given.sizes)
    else:
        probes(given.work, given.photos, given.encoder)


if __name__ == "__main__":
    main()
