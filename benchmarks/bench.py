"""`make bench`: one table of speed and memory. Figures are for one machine; compare ratios within one run.

Usage: python benchmarks/bench.py [--out benchmarks/results.md]
Needs a finished `dvc repro` (artifacts/ and data/).
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PREPROCESS, TRAIN = ROOT / "artifacts" / "preprocess", ROOT / "artifacts" / "train"
REPEATS = 5


def seconds(action: Callable[[], object], repeats: int = REPEATS, warm: bool = True) -> tuple[float, float, float]:
    """Minimum, median and maximum wall-clock seconds of `action`."""
    if warm:
        action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times), statistics.median(times), max(times)


def row(what: str, unit: str, times: tuple[float, float, float], amount: float | None = None, n: int = REPEATS) -> str:
    """A table row; with `amount` the figure is amount / seconds (a rate), else seconds."""
    low, median, high = times
    values = (amount / high, amount / median, amount / low) if amount else (low, median, high)
    return f"| {what} | {unit} | {values[1]:.4g} | {values[0]:.4g} - {values[2]:.4g} | {n} |"


def command(*words: str) -> Callable[[], object]:
    """A command of the environment's bin folder as an action."""
    path = Path(sys.executable).parent / words[0]
    return lambda: subprocess.run([path, *words[1:]], check=True, capture_output=True, cwd=ROOT)


def tokenizing() -> list[str]:
    """Pieces tokenized per second, one process."""
    import pandas as pd

    from huesong.music import reading, tokens

    tokenizer = tokens.load(PREPROCESS / "tokenizer.json")
    music = pd.read_csv(ROOT / "data" / "music.csv").head(50)
    scores = [reading.read_score(ROOT / "data" / path) for path in music["path"]]
    times = seconds(lambda: [tokens.encode(tokenizer, score) for score in scores], repeats=3)
    return [row("tokenizing, one process", "pieces/s", times, len(scores), 3)]


def training_and_sampling() -> list[str]:
    """Tokens per second of one training step's size, and of sampling with and without the cache."""
    import torch

    from huesong.config import SamplingConfig
    from huesong.model.folder import load_model
    from huesong.model.requests import Request
    from huesong.model.sampling import sample

    model = load_model(TRAIN / "model")
    network, batch = model.network, 16
    context = network.config.context
    ids = torch.randint(3, model.vocabulary.size, (batch, context))
    va, keep = torch.zeros(batch, 2), torch.zeros(batch, dtype=torch.bool)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0)

    def step() -> None:
        logits = network(ids, None, va, keep)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    network.train().requires_grad_(True)  # a loaded model is frozen
    rows = [row(f"training, batch {batch} x {context}", "tokens/s", seconds(step, 3), batch * context, 3)]
    network.eval().requires_grad_(False)
    for count in (1, 8):
        made: list[int] = []

        def compose(count: int = count, made: list[int] = made) -> None:
            requests = [Request(None, 0.3, 0.3, seed, 15.0) for seed in range(count)]
            made.append(sum(len(s.ids) for s in sample(model, requests, SamplingConfig(candidates=1, guidance=1.0))))

        times = seconds(compose, 3)
        rows.append(row(f"sampling, cached, batch {count}", "tokens/s", times, statistics.mean(made), 3))
    length = 128

    @torch.inference_mode()
    def uncached() -> None:
        for end in range(1, length + 1):
            network(ids[:1, :end], None, va[:1], keep[:1])

    rows.append(row("next-token passes without cache, batch 1", "tokens/s", seconds(uncached, 3), length, 3))
    return rows


def composing() -> list[str]:
    """A 30 s piece, from picture to MIDI, audio and piano roll, as a whole process."""
    picture = next((ROOT / "data" / "images").rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder:
        compose = command(
            "huesong", "compose", str(picture), "-o", f"{folder}/x", "--seconds", "30", "--model", str(TRAIN / "model")
        )
        times = seconds(compose, 3)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return [
        row("huesong compose, 30 s of music", "s", times, n=3),
        f"| peak memory of any command here | MiB | {peak:.0f} | | 1 |",
    ]


def main() -> None:
    """Print the table, or write it to --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    import torch

    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, "
    machine += f"Python {platform.python_version()}, torch {torch.__version__}"
    lines = [f"Machine: {machine}", "", "| what | unit | median | range | n |", "| --- | --- | --- | --- | --- |"]
    lines += [row("huesong --help", "s", seconds(command("huesong", "--help"), 10), n=10)]
    lines += [row("dvc repro, nothing to do", "s", seconds(command("dvc", "repro"), 3), n=3)]
    lines += composing() + tokenizing() + training_and_sampling()
    text = "\n".join(lines) + "\n"
    print(text)
    if out:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
