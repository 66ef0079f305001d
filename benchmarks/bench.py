"""`make bench`: speed and memory beside anchors and floors of the same run (anchors.py). Compare ratios, not seconds.

    python benchmarks/bench.py [-n 7] [--only training] [--page benchmarks/results.md]

What is compared is measured in turn, so that both see the same machine; every figure is the median of n. `--page` writes the
table between the marks `<!-- bench -->` and `<!-- /bench -->` of a page. Needs `dvc repro` for "dvc repro" and data/ for tokens.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib.util
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from anchors import bandwidth, bytes_a_step, generating, gpt2, matmul_rate, operations_a_token, seconds, training
from huesong.report.tables import CARD, number, put_into, table

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "sample.jpg"
SHIPPED = ROOT / "models" / "huesong-small"
HEADS = ("what", "unit", "huesong", "range", "anchor", "its figure", "ratio", "floor", "share of it")
Row = list[object]
Actions = dict[str, Callable[[], object]]


def in_turn(actions: Actions, n: int) -> dict[str, list[float]]:
    """Seconds of each action, n times, one after the other; the first turn, which may load and compile, does not count."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(n + 1):
        for name, action in actions.items():
            spent = seconds(action)
            if turn:
                found[name].append(spent)
    return found


def row(
    what: str, unit: str, ours: list[float], anchor: tuple[str, list[float]] | None = None, floor: float | None = None
) -> Row:
    """A row of the table; where the unit is a rate, more is better and the floor is the most that can be."""
    middle, rate = statistics.median(ours), unit.endswith("/s")
    cells: Row = [
        what,
        unit,
        number(middle, CARD),
        f"{number(min(ours), CARD)} - {number(max(ours), CARD)}",
        "",
        "",
        "",
    ]
    if anchor:
        theirs = statistics.median(anchor[1])
        cells[4:] = [anchor[0], number(theirs, CARD), f"{middle / theirs if rate else theirs / middle:.2f}"]
    if floor is None:
        return [*cells, "", ""]
    return [*cells, number(floor, CARD), f"{100 * (middle / floor if rate else floor / middle):.0f} %"]


def command(*words: str) -> Callable[[], object]:
    """A command of the environment's bin folder as an action."""
    path = Path(sys.executable).parent / words[0]
    return lambda: subprocess.run([path, *words[1:]], check=True, capture_output=True, cwd=ROOT)


def commands(n: int) -> list[Row]:
    """The console itself, a repro without work, and a piece of 30 s as a whole process."""
    python = Path(sys.executable).name
    found = in_turn({"help": command("huesong", "--help"), "python": command(python, "-c", "import typer")}, n)
    rows = [row("huesong --help", "s", found["help"], ("import typer", found["python"]))]
    if (ROOT / "artifacts" / "register").is_dir():
        found = in_turn({"repro": command("dvc", "repro"), "version": command("dvc", "--version")}, n)
        rows.append(row("dvc repro, nothing to do", "s", found["repro"], ("dvc --version", found["version"])))
    with tempfile.TemporaryDirectory() as folder:
        words = ("huesong", "compose", str(PICTURE), "-o", f"{folder}/x", "--model", str(SHIPPED))
        found = in_turn({"compose": command(*words), "torch": command(python, "-c", "import torch")}, n)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rows.append(row("huesong compose, 30 s of music", "s", found["compose"], ("import torch", found["torch"])))
    return [*rows, row("most memory of any command here", "MiB", [peak])]


def tokenizing(n: int) -> list[Row]:
    """Pieces tokenized per second, one process, beside MidiTok alone and (where it is installed) muspy."""
    from huesong.music import reading, tokens

    paths = sorted((ROOT / "data").rglob("*.mid"))[:50]
    if not paths:
        return []
    tokenizer = tokens.load(SHIPPED / "tokenizer.json")
    scores = [reading.read_score(path) for path in paths]
    actions: Actions = {
        "ours": lambda: [tokens.encode(tokenizer, score) for score in scores],
        "MidiTok alone": lambda: [tokenizer.encode(score) for score in scores],
    }
    if importlib.util.find_spec("muspy"):
        import muspy

        actions["muspy, events"] = lambda: [muspy.to_event_representation(muspy.read_midi(path)) for path in paths]
    rates = {name: [len(scores) / spent for spent in found] for name, found in in_turn(actions, n).items()}
    ours = rates.pop("ours")
    return [row("tokenizing, one process", "pieces/s", ours, anchor) for anchor in rates.items()]


def sampling(n: int) -> list[Row]:
    """Tokens per second of one and eight pieces of 15 s, on one thread, as composing does it."""
    from huesong.config import SamplingConfig
    from huesong.model.folder import load_modules
    from huesong.model.requests import Request
    from huesong.model.sampling import roll_out

    modules, threads = load_modules(SHIPPED), torch.get_num_threads()
    model = modules.player()
    read, other, rows = statistics.median(bandwidth(n)), gpt2(model).eval(), []
    rows.append(row("reading memory, one thread", "GB/s", [read / 1e9]))

    def compose(count: int) -> int:
        requests = [Request(None, 0.3, 0.3, seed, 15.0) for seed in range(count)]
        return sum(len(found.read) for found in roll_out(model, requests, SamplingConfig(candidates=1, guidance=1.0)))

    torch.set_num_threads(1)
    for count in (1, 8):
        tokens = compose(count)  # the same seeds give the same tokens every time
        each = tokens // count
        found = in_turn({"ours": functools.partial(compose, count), "theirs": generating(other, count, each)}, n)
        ours, theirs = ([tokens / spent for spent in found[name]] for name in ("ours", "theirs"))
        most = count * read / bytes_a_step(modules, count, each // 2)
        rows.append(row(f"sampling, {count} rows of {each} tokens", "tokens/s", ours, ("transformers", theirs), most))
    torch.set_num_threads(threads)
    return rows


def learning(n: int) -> list[Row]:
    """Tokens per second of a training step of 16 rows of 512 tokens, all threads, in both precisions."""
    from huesong.model.folder import load_modules

    model, rows = load_modules(SHIPPED), []
    network, other = model.network.train().requires_grad_(True), gpt2(model).train()
    ids = torch.randint(3, model.vocabulary.size, (16, 512))
    va, keep = torch.zeros(16, 2), torch.ones(16, dtype=torch.bool)

    def ours() -> Any:
        return network(ids, None, va, keep)

    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        low, rate = dtype == torch.bfloat16, statistics.median(matmul_rate(dtype, n))
        found = in_turn(
            {
                "ours": training(ours, network, ids, low),
                "theirs": training(lambda: other(ids).logits, other, ids, low),
            },
            n,
        )
        made, theirs = ([ids.numel() / spent for spent in found[which]] for which in ("ours", "theirs"))
        rows.append(row(f"matrix products, {name}", "GFLOP/s", [rate / 1e9]))
        most = rate / operations_a_token(network)
        rows.append(row(f"training, 16 x 512, {name}", "tokens/s", made, ("transformers", theirs), most))
    return rows


PARTS = {"commands": commands, "tokenizing": tokenizing, "sampling": sampling, "training": learning}


def machine() -> str:
    """What it was measured on, and when."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {len(names)} cores of {names[0] if names else platform.machine()}, "
        f"load {os.getloadavg()[0]:.1f} at the beginning, Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )


def main() -> None:
    """Print the table; write it into --page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=7)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    if asked.page:
        put_into(asked.page, "bench", None)
    where = machine()
    parts = [part for name, part in PARTS.items() if name in asked.only]  # commands first, while this process is small
    rows = [each for part in parts for each in part(asked.n)]
    text = f"\n{where}; medians and ranges of {asked.n}.\n\n{table(list(HEADS), rows)}\n\n"
    print(text)
    if asked.page:
        put_into(asked.page, "bench", text)


if __name__ == "__main__":
    main()
