"""Where the time of `huesong compose` goes: a table by phase, cold (a new process) and warm (again in the same one).

    python benchmarks/compose.py [PICTURE] [--pieces 15x4 30x4 30x1 120x4] [-n 7] [--against OTHER/src] [--page PAGE]

A piece of 30x4 lasts 30 s and is the best of four candidates. Every figure is a median over n processes, or (warm) over n
pieces of one. `--page` writes the tables between `<!-- compose -->` and `<!-- /compose -->` of a page. A phase is what its
thread spends in it and in nothing named below it; what two threads do side by side counts for both, so phases may add up to
more than the whole. `--against` measures the source folder of another checkout in turn with this one, so that both see the
same machine: compare ratios, not seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import importlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from huesong.report.tables import CARD, number, put_into, table

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"
PICTURE = ROOT / "docs" / "images" / "sample.jpg"
PHASES: dict[str, tuple[str, ...]] = {
    "picture": ("compose.composer:opened", "pictures.encoders:Encoder.encode"),
    "model": ("register.shipped:named_model", "compose.composer:Composer.__init__"),
    "plan": ("model.sampling:conditioning_of", "model.sampling:plan_of", "model.sampling:constraints_of"),
    "sampling": ("model.sampling:roll_out",),
    "choosing": ("model.sampling:distances", "model.sampling:predict_va", "emotion.scorer:LabellerScorer.of_scores"),
    "rendering": ("compose.piece:Piece.audio",),
    "drawing": ("music.rendering.roll:piano_roll_png",),
    "writing": ("compose.piece:write_audio", "compose.composer:digest_of", "compose.piece:Piece.record"),
}
"""Phase -> the functions that it is the time of, where they are called from; what a checkout lacks is left out."""
ORDER = ("imports", *PHASES, "rest")
WHOLE = ("wall", "user CPU", "peak MiB")


class Clock:
    """Exclusive seconds of each phase, over all threads."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self._local, self._lock = threading.local(), threading.Lock()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what this thread does for `name`, but for what is counted for another phase within."""
        stack = self._local.__dict__.setdefault("stack", [])
        inner, start = [0.0], time.perf_counter()
        stack.append(inner)
        try:
            yield
        finally:
            stack.pop()
            passed = time.perf_counter() - start
            with self._lock:
                self.spent[name] += passed - inner[0]
            if stack:
                stack[-1][0] += passed

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted for a phase."""

        @functools.wraps(function)
        def counted(*args: Any, **named: Any) -> Any:
            with self.phase(name):
                return function(*args, **named)

        return counted


def time_imports(clock: Clock) -> None:
    """Count the import of every module, and hook the phases into a module of huesong as soon as it is imported."""
    system = sys.modules["_frozen_importlib"]
    find: Callable[..., Any] = getattr(system, "_find_and_load")  # noqa: B009
    wanted: dict[str, list[tuple[str, str]]] = {}
    for name, places in PHASES.items():
        for module, place in (where.split(":") for where in places):
            wanted.setdefault(f"huesong.{module}", []).append((name, place))

    def find_and_load(name: str, import_: Any) -> Any:
        with clock.phase("imports"):
            module = find(name, import_)
        for phase, place in wanted.pop(name, ()):
            *owners, last = place.split(".")
            owner = functools.reduce(getattr, owners, module)
            if hasattr(owner, last):
                setattr(owner, last, clock.timed(phase, getattr(owner, last)))
        return module

    setattr(system, "_find_and_load", find_and_load)  # noqa: B010


def child(picture: str, seconds: str, candidates: str, times: int) -> None:
    """In a new process: compose once as the console does, then `times` more; prints a JSON list of what each took."""
    clock, begin = Clock(), time.perf_counter()
    time_imports(clock)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        words = ["compose", picture, "--seconds", seconds, "--candidates", candidates, "-o", f"{folder}/piece"]
        cli = importlib.import_module("huesong.cli.app")
        sys.argv = ["huesong", *words]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            cli.main()
        assert Path(folder, "piece.wav").is_file(), "nothing was composed"
        found.append(figures(clock, time.perf_counter() - begin, 0.0))
        if times:
            warm = importlib.import_module("huesong.compose.composer")
            model = importlib.import_module("huesong.register.shipped").named_model(None)
            composer = warm.Composer(model[0], name=model[1])
            options: dict[str, Any] = {"seconds": float(seconds), "candidates": int(candidates)}
            for _ in range(times + 1):  # the first one still fills caches
                clock.spent.clear()
                begin, used = time.perf_counter(), time.process_time()
                warm.compose(Path(picture), Path(folder, "piece"), composer, **options)
                found.append(figures(clock, time.perf_counter() - begin, used))
            del found[1]
    print(json.dumps(found))


def figures(clock: Clock, wall: float, used: float) -> dict[str, float]:
    """What one composition took, by phase and as a whole."""
    known = {name: clock.spent[name] for name in ORDER[:-1]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rest = max(0.0, wall - sum(known.values()))
    return known | {"rest": rest, "wall": wall, "user CPU": time.process_time() - used, "peak MiB": peak}


def run(sources: Path, picture: Path, seconds: int, candidates: int, times: int) -> list[dict[str, float]]:
    """`child` with the huesong of a source folder; the wall time of the cold run is the whole process's if it is alone."""
    words = [sys.executable, __file__, "--child", str(picture), str(seconds), str(candidates), str(times)]
    begin = time.perf_counter()
    done = subprocess.run(
        words, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(sources)}
    )
    found: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    if not times:
        whole = time.perf_counter() - begin
        found[0] |= {"rest": found[0]["rest"] + whole - found[0]["wall"], "wall": whole}
    return found


def measure(sources: list[Path], picture: Path, seconds: int, candidates: int, n: int) -> list[list[object]]:
    """The columns of a length: for each source folder, cold and warm, the medians of all phases."""
    cold: list[list[dict[str, float]]] = [[] for _ in sources]
    warm: list[list[dict[str, float]]] = [[] for _ in sources]
    for turn in range(n):
        for each, place in enumerate(sources):
            cold[each] += run(place, picture, seconds, candidates, 0)
            if not turn:
                warm[each] += run(place, picture, seconds, candidates, n)[1:]
    return [
        [number(statistics.median(one[name] for one in column), CARD) for name in (*WHOLE, *ORDER)]
        for pair in zip(cold, warm, strict=True)
        for column in pair
    ]


def main() -> None:
    """Print a table for each kind of piece; write them into --page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, nargs="?", default=PICTURE)
    parser.add_argument("--pieces", nargs="+", default=["15x4", "30x4", "30x1", "120x4"])
    parser.add_argument("-n", type=int, default=7)
    parser.add_argument("--against", type=Path, help="src folder of another checkout")
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    if asked.page:
        put_into(asked.page, "compose", None)
    today, load = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}", os.getloadavg()[0]
    page = f"\n{today}: {os.cpu_count()} cores, load {load:.1f} at the beginning.\n"
    sources = [*([asked.against.resolve()] if asked.against else []), SOURCES]
    for piece in asked.pieces:
        seconds, candidates = map(int, piece.split("x"))
        columns = measure(sources, asked.picture.resolve(), seconds, candidates, asked.n)
        heads = [f"{which}{kind}" for which in ("before ", "")[-len(sources) :] for kind in ("cold, s", "warm, s")]
        rows = [[name, *cells] for name, *cells in zip((*WHOLE, *ORDER), *columns, strict=True)]
        part = f"\n{seconds} s of music, {candidates} candidates, n = {asked.n}\n\n{table(['', *heads], rows)}\n"
        print(part, flush=True)
        page += part
    if asked.page:
        put_into(asked.page, "compose", f"{page}\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        main()
