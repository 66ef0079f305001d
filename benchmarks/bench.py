"""`make bench`: one table of speed and memory. Figures are for one machine; compare ratios within one run.

Usage: python benchmarks/bench.py [--out benchmarks/results.md]
Needs a finished `dvc repro` (artifacts/ and data/).
"""

from __future__ import annotations

import argparse
import functools
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from huesong.report.tables import CARD, number, table

ROOT = Path(__file__).resolve().parent.parent
PREPROCESS, TRAIN = ROOT / "artifacts" / "preprocess", ROOT / "artifacts" / "train"
Row = list[object]


def timed(what: str, action: Callable[[], object], n: int = 3, *, unit: str = "s", amount: float | None = None) -> Row:
    """A table row: median and range of the wall-clock seconds of `action`, or of `amount` a second."""
    action()  # the first call may load and compile
    values = []
    for _ in range(n):
        start = time.perf_counter()
        action()
        spent = time.perf_counter() - start
        values.append(amount / spent if amount else spent)
    low, median, high = (number(value, CARD) for value in (min(values), statistics.median(values), max(values)))
    return [what, unit, median, f"{low} - {high}", n]


def command(*words: str) -> Callable[[], object]:
    """A command of the environment's bin folder as an action."""
    path = Path(sys.executable).parent / words[0]
    return lambda: subprocess.run([path, *words[1:]], check=True, capture_output=True, cwd=ROOT)


def tokenizing() -> list[Row]:
    """Pieces tokenized per second, one process."""
    import pandas as pd

    from huesong.music import reading, tokens

    tokenizer = tokens.load(PREPROCESS / "tokenizer.json")
    music = pd.read_csv(ROOT / "data" / "music.csv").head(50)
    scores = [reading.read_score(ROOT / "data" / path) for path in music["path"]]

    def encode() -> None:
        for score in scores:
            tokens.encode(tokenizer, score)

    return [timed("tokenizing, one process", encode, unit="pieces/s", amount=len(scores))]


def training_and_sampling() -> list[Row]:
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

    def compose(count: int) -> int:
        requests = [Request(None, 0.3, 0.3, seed, 15.0) for seed in range(count)]
        return sum(len(sampled.ids) for sampled in sample(model, requests, SamplingConfig(candidates=1, guidance=1.0)))

    length = 128

    @torch.inference_mode()
    def uncached() -> None:
        for end in range(1, length + 1):
            network(ids[:1, :end], None, va[:1], keep[:1])

    network.train().requires_grad_(True)  # a loaded model is frozen
    rows = [timed(f"training, batch {batch} x {context}", step, unit="tokens/s", amount=batch * context)]
    network.eval().requires_grad_(False)
    for count in (1, 8):  # the same seeds give the same tokens every time
        made = compose(count)
        action = functools.partial(compose, count)
        rows.append(timed(f"sampling, cached, batch {count}", action, unit="tokens/s", amount=made))
    rows.append(timed("next-token passes without cache, batch 1", uncached, unit="tokens/s", amount=length))
    return rows


def composing() -> list[Row]:
    """A 30 s piece, from picture to MIDI, audio and piano roll, as a whole process."""
    picture = next((ROOT / "data" / "images").rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "huesong",
            "compose",
            str(picture),
            "-o",
            f"{folder}/x",
            "--seconds",
            "30",
            "--model",
            str(TRAIN / "model"),
        ]
        row = timed("huesong compose, 30 s of music", command(*words))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return [row, ["peak memory of any command here", "MiB", f"{peak:.0f}", "", 1]]


def main() -> None:
    """Print the table, or write it to --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    import torch

    rows = [
        timed("huesong --help", command("huesong", "--help"), 10),
        timed("dvc repro, nothing to do", command("dvc", "repro")),
        *composing(),
        *tokenizing(),
        *training_and_sampling(),
    ]
    text = (
        f"Machine: {platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}\n\n{table(['what', 'unit', 'median', 'range', 'n'], rows)}\n"
    )
    print(text)
    if out:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
