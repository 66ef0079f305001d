"""benchmarks/scaling.py: all processes of a command count, and the stages' commands are those of the console."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from huesong.cli.app import app
from huesong.config import load_params
from tests.benchmark_modules import benchmark

BUSY = "import time\nwhile time.process_time() < .3: pass"
PARENT = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {BUSY!r}])  # outlives its parent
"""


def test_a_worker_that_outlives_its_parent_counts(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'benchmarks'); from scaling import measured; "
        f"print(*measured([sys.executable, '-c', {PARENT!r}], Path({str(tmp_path / 'log')!r})))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    cpu, wall, mib = map(float, done.stdout.split())
    assert cpu > 0.3
    assert wall > 0
    assert mib > 1


def test_the_stages_run_by_the_consoles_commands_on_settings_that_the_console_takes(tmp_path: Path) -> None:
    found = list(benchmark("scaling").commands(tmp_path))
    assert [name for name, _, _ in found] == ["preprocess", "label", "train, 4 steps", "train, 16 steps", "evaluate"]
    for _, stage, words in found:
        usage = CliRunner().invoke(app, [stage, "--help"]).output
        assert all(word in usage for word in words if word.startswith("--"))
        settings = load_params(Path(words[words.index("--params") + 1]))
        assert settings.evaluate.sampling.seconds == 4
        assert settings.preprocess.workers == 1
