"""Ctrl-C at a known moment of a real process, however busy the machine is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.console import ROOT

INTERRUPTED = """
import os, signal, sys
end, moment, later = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
count = 0
def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)
def hook(event, arguments):
    global count
    if event == "open" and str(arguments[0]).endswith(end):
        count += 1
        if count == moment:
            signal.setitimer(signal.ITIMER_VIRTUAL, later) if later else interrupt()
# A shell starts what runs in its background with Ctrl-C ignored, and all below it inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGVTALRM, interrupt)
sys.argv[:] = ["huesong", *sys.argv[4:]]
from huesong.cli import main
sys.addaudithook(hook)
main()
"""


def interrupted(
    *words: str | Path, end: str, moment: int, cwd: Path, later: float = 0
) -> subprocess.CompletedProcess[str]:
    """Run `huesong WORDS` in a process of its own, which gets SIGINT as it opens a file.

    Args:
        end: how the file's name ends.
        moment: which of the files that it opens, of those with such a name; counted from 1.
        later: seconds of the processor, its own, between that and the signal.
    """
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED, end, str(moment), str(later), *map(str, words)], cwd=cwd, check=False,
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}, timeout=300,
    )  # fmt: skip
