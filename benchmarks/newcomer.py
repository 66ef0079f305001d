"""What a new user does, in an environment that has the wheel alone: a photo, a folder, a film, a video, a score, three lines.

    python benchmarks/newcomer.py ENVIRONMENT [PICTURE ...] [-n 3] [--page benchmarks/results.md]

ENVIRONMENT is a virtual environment in which `pip install "huesong-....whl[film,score]"` was run. Every command runs in an
empty folder outside of a checkout, with a home of its own: first cold (nothing was run since the files were written to disk
as far as `posix_fadvise` can make them be forgotten, no byte code cached), then n times more. Pictures are painted where none
are given. `--page` writes the table between `<!-- newcomer -->` and `<!-- /newcomer -->`.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import av
from PIL import Image, ImageOps

from huesong.data.sample.pictures import paint
from huesong.report.tables import put_into, table

THREE_LINES = """\
from huesong import Composer
piece = Composer.load().compose("photo.jpg", seconds=30, mood="calm..joyful")
piece.save("three.mp3")
"""
COMMANDS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("a photo", ("huesong", "compose", "photo.jpg"), ("photo.mid", "photo.wav", "photo-roll.png")),
    ("five photos", ("huesong", "compose", "holiday/", "-o", "music"), ("music/1.wav", "music/5.wav")),
    ("a film of them", ("huesong", "film", "holiday/", "-o", "holiday.mp4", "--length", "15"), ("holiday.mp4",)),
    ("music for a video", ("huesong", "film", "clip.mp4", "-o", "scored.mp4"), ("scored.mp4",)),
    ("a score", ("huesong", "compose", "photo.jpg", "-o", "sheet", "--format", "pdf"), ("sheet.pdf",)),
    ("why", ("huesong", "explain", "photo.jpg"), ("photo-why.png",)),
    ("three lines of Python", ("python", "three.py"), ("three.mp3",)),
)
"""What, the command, and files that it must have written."""
PAINTED = ((0.6, 0.5), (-0.5, 0.6), (-0.6, -0.5), (0.6, -0.5), (0.0, 0.0))
SCENES_S = (4.0, 3.48, 5.0)
SIZE, RATE = (640, 360), 25


def prepare(desk: Path, pictures: Sequence[Path]) -> None:
    """The photos, a video of three scenes, and a program, in an empty folder."""
    (desk / "holiday").mkdir(parents=True)
    for number, emotion in enumerate(PAINTED):
        shown = Image.open(pictures[number]) if number < len(pictures) else paint(*emotion, number, (960, 640))
        shown.convert("RGB").save(desk / "holiday" / f"{number + 1}.jpg", quality=92)
    shutil.copy(desk / "holiday" / "1.jpg", desk / "photo.jpg")
    (desk / "three.py").write_text(THREE_LINES, encoding="utf-8")
    with av.open(str(desk / "clip.mp4"), "w") as made:
        stream = made.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number, seconds in enumerate(SCENES_S):
            frame = ImageOps.fit(Image.open(desk / "holiday" / f"{number + 1}.jpg"), SIZE)
            for _ in range(round(seconds * RATE)):
                made.mux(stream.encode(av.VideoFrame.from_image(frame)))
        made.mux(stream.encode(None))


def forget(folder: Path) -> None:
    """Ask the system to read the files of a folder from disk again; remove cached byte code."""
    for cache in sorted(folder.rglob("__pycache__")):
        shutil.rmtree(cache)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(environment: Path, home: Path, desk: Path, command: tuple[str, ...], files: tuple[str, ...]) -> list[float]:
    """Seconds by the clock and of the processor that a command takes.

    Raises:
        SystemExit: it failed, or a file that it should write is missing.
    """
    kept = {key: os.environ[key] for key in ("LANG", "TMPDIR") if key in os.environ}
    env = {**kept, "HOME": str(home), "PATH": f"{environment / 'bin'}:/usr/bin:/bin"}
    words = [str(environment / "bin" / command[0]), *command[1:]]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, cwd=desk, env=env, capture_output=True, text=True, check=False)
    spent, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    missing = [name for name in files if not (desk / name).is_file()]
    if done.returncode or missing:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}, missing {missing}\n{done.stdout}{done.stderr}")
    return [spent, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime]


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=Path)
    parser.add_argument("pictures", type=Path, nargs="*")
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    environment, rows = arguments.environment.resolve(), []
    with tempfile.TemporaryDirectory(prefix="newcomer-") as scratch:
        home = Path(scratch) / "home"
        home.mkdir()
        desks = [Path(scratch) / f"desk {number}" for number in range(arguments.n + 1)]
        for desk in desks:
            prepare(desk, arguments.pictures)
        for what, command, files in COMMANDS:
            forget(environment)
            cold, *warm = (run(environment, home, desk, command, files) for desk in desks)
            wall, cpu = (statistics.median(times) for times in zip(*warm, strict=True))
            rows.append([what, f"`{' '.join(command)}`", *(f"{number:.1f}" for number in (*cold, wall, cpu))])
            print(*rows[-1], flush=True)
    load = os.getloadavg()[2]
    text = (
        f"{table(('what', 'command', 'cold, s', 'of CPU', 'again, s', 'of CPU'), rows)}\n\n"
        f"On {datetime.date.today()}, {platform.machine()}, {os.cpu_count()} threads, Python {platform.python_version()}; "
        f"load over the last 15 minutes {load:.1f}; cold n = 1, again: median of n = {arguments.n}.\n"
    )
    print(text)
    if arguments.page:
        put_into(arguments.page, "newcomer", text)


if __name__ == "__main__":
    main()
