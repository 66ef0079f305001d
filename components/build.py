"""Build the images of all components with plain `docker build`, from what docker-bake.json says; print their sizes.

`docker buildx bake -f components/docker-bake.json` does the same where buildx is there.
"""

from __future__ import annotations

import argparse
import json
import os
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BAKE = ROOT / "components" / "docker-bake.json"
LIMITS_MB = {"light": 700, "torch": 1900}
"""What the images may weigh (torch: its CPU build)."""


def plan(environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Component -> target, tag and build arguments, with the variables of the environment or their defaults."""
    bake = json.loads(BAKE.read_text(encoding="utf-8"))
    values = {name: environment.get(name, variable["default"]) for name, variable in bake["variable"].items()}

    def filled(text: str) -> str:
        return string.Template(text).substitute(values)

    targets = bake["target"]
    found = {}
    for component in bake["group"]["default"]["targets"]:
        row = {**targets["any"], **targets[component]}
        arguments = {name: filled(value) for name, value in row["args"].items()}
        found[component] = {"target": row["target"], "tag": filled(row["tags"][0]), "args": arguments}
    return found


def docker(*words: str, quiet: bool = False) -> str:
    """Run docker; its output if `quiet`, else it goes to the console.

    Raises:
        SystemExit: docker failed, or is not there.
    """
    try:
        done = subprocess.run(["docker", *words], cwd=ROOT, check=True, text=True, capture_output=quiet)
    except FileNotFoundError:
        sys.exit("build: there is no docker on this machine")
    except subprocess.CalledProcessError as error:
        sys.exit(f"build: docker {words[0]} failed{': ' + error.stderr.strip() if quiet else ''}")
    return (done.stdout or "").strip()


def git_sha() -> str:
    """The commit of the checkout, `unknown` without one."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def build(network: str, push: bool) -> dict[str, str]:
    """Build every target once, give it the tags of its components, and check the sizes.

    Returns component -> image: by digest where it was pushed, else its tag. An empty `network` means docker's own.
    """
    wanted = plan({"GIT_SHA": git_sha(), **os.environ})
    built: dict[str, str] = {}
    images = {}
    for component, row in wanted.items():
        target, tag = row["target"], row["tag"]
        if target not in built:
            words = [word for name, value in row["args"].items() for word in ("--build-arg", f"{name}={value}")]
            words += ["--network", network] if network else []
            docker("build", "-q", "-f", "components/Dockerfile", "--target", target, "-t", tag, *words, ".")
            built[target] = tag
        else:
            docker("tag", built[target], tag)
        if push:
            docker("push", "-q", tag)
        digests = docker("image", "inspect", "-f", "{{range .RepoDigests}}{{println .}}{{end}}", tag, quiet=True)
        repository = tag.rpartition(":")[0]
        images[component] = next((d for d in digests.split() if d.startswith(f"{repository}@")), tag)
    base = size_mb(wanted["train"]["args"]["BASE"])
    heavy = []
    for target, tag in built.items():
        size = size_mb(tag)
        print(f"{target}: {size:.0f} MB, {size - base:.0f} MB of it above the base image")
        if wanted["train"]["args"]["TORCH"] == "cpu" and size > LIMITS_MB[target]:
            heavy.append(f"{target} weighs {size:.0f} MB, more than {LIMITS_MB[target]} MB")
    if heavy:
        sys.exit("build: " + "; ".join(heavy))
    return images


def size_mb(image: str) -> float:
    """Size of an image in 10^6 bytes, as `docker images` shows it; 0 if it is not here."""
    words = ("docker", "image", "inspect", "-f", "{{.Size}}", image)
    return int(subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or 0) / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--network", default=os.environ.get("BUILD_NETWORK", ""), help="network of the build")
    parser.add_argument("--push", action="store_true", help="push the images (REGISTRY names where to)")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "images.json", help="component -> image, as JSON")
    given = parser.parse_args()
    named = build(given.network, given.push)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
    print(f"{len(named)} components in {given.out}")
