"""What a tag publishes: the wheel, the weights alone, and a signature for each image. `.github/workflows/release.yml` calls it.

python -m pipeline.release package --tag v0.2.0 --out dist
python -m pipeline.release sign --images out/images.json
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "huesong-small"
WEIGHTS = ROOT / "models" / NAME
SUMS = "SHA256SUMS"
ADDRESSES = {
    "Homepage": "",
    "Documentation": "/tree/main/docs",
    "Changelog": "/blob/main/CHANGELOG.md",
    "Issues": "/issues",
}
BY_DIGEST = re.compile(r"[\w.:/-]+@sha256:[0-9a-f]{64}")


def version_of(tag: str) -> str:
    """The version that a tag names.

    Raises:
        SystemExit: pyproject.toml or CHANGELOG.md says another one, or that it is not released.
    """
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = str(tomllib.load(file)["project"]["version"])
    if tag != f"v{version}":
        sys.exit(f"release: the tag is {tag}, and pyproject.toml says {version}: the tag of it is v{version}")
    if f"\n## {version}\n" not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        sys.exit(f"release: CHANGELOG.md has no line '## {version}': write it, without '(unreleased)'")
    return version


def package(version: str, out: Path) -> None:
    """Build `out`/python/*.whl and `out`/huesong-small-VERSION.tar.gz, check both, and write their SHA-256 beside them.

    In a workflow the wheel names the repository that the workflow runs in: until then the project has no public address.

    Raises:
        SystemExit: weights are not those of their sums, or the wheel has other ones, or is of another version.
    """
    files = check_weights()
    python = out / "python"
    python.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = addressed(Path(scratch), version) if "GITHUB_REPOSITORY" in os.environ else ROOT
        words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(python), str(source)]
        if subprocess.run(words, check=False).returncode:
            sys.exit("release: pip wheel failed")
    wheel = python / f"huesong-{version}-py3-none-any.whl"
    if [path.name for path in python.iterdir()] != [wheel.name]:
        sys.exit(f"release: {python} should hold {wheel.name} alone: empty it, and look at the version")
    with zipfile.ZipFile(wheel) as opened:
        for name, content in files.items():
            if opened.read(f"huesong/weights/{NAME}/{name}") != content:
                sys.exit(f"release: {name} in {wheel.name} is not that of {WEIGHTS}")
    archive = out / f"{NAME}-{version}.tar.gz"
    write_archive(archive, files)
    lines = [f"{digest(path.read_bytes())}  {path.relative_to(out).as_posix()}\n" for path in (archive, wheel)]
    (out / SUMS).write_text("".join(lines), encoding="utf-8")


def addressed(folder: Path, version: str) -> Path:
    """A copy of what a wheel is built from, with the addresses of the repository, which links of its README lead to."""
    home = f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{os.environ['GITHUB_REPOSITORY']}"
    for name in ("LICENSE", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("src", f"models/{NAME}"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n[project.urls]\n" + "".join(f'{name} = "{home}{path}"\n' for name, path in ADDRESSES.items()))
    readme = folder / "README.md"
    text = re.sub(r"!\[([^]]*)\]\((?!\w+:)", rf"![\1]({home}/raw/v{version}/", readme.read_text(encoding="utf-8"))
    readme.write_text(re.sub(r"\]\((?!\w+:|#)", f"]({home}/blob/v{version}/", text), encoding="utf-8")
    return folder


def check_weights() -> dict[str, bytes]:
    """The files of the shipped weights by name, each as its sum says."""
    files = {
        path.relative_to(WEIGHTS).as_posix(): path.read_bytes() for path in sorted(WEIGHTS.rglob("*")) if path.is_file()
    }
    for line in files[SUMS].decode().splitlines():
        wanted, _, name = line.partition("  ")
        if name not in files or digest(files[name]) != wanted:
            sys.exit(f"release: {WEIGHTS / name} is not what {SUMS} says")
    return files


def write_archive(path: Path, files: dict[str, bytes]) -> None:
    """A tar.gz whose bytes depend on the files alone."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{NAME}/{name}")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))


def digest(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def sign(images: Path) -> None:
    """Sign each image of a file that components/build.py wrote, without a key (cosign, the workflow's own identity).

    Raises:
        SystemExit: one is not named by digest, or cosign failed or is not there.
    """
    named = sorted(set(json.loads(images.read_text(encoding="utf-8")).values()))
    for image in named:
        if not BY_DIGEST.fullmatch(image):
            sys.exit(f"release: {image} is not named by digest: build with --push")
    for image in named:
        try:
            failed = subprocess.run(["cosign", "sign", "--yes", image], check=False).returncode
        except FileNotFoundError:
            sys.exit("release: there is no cosign on this machine")
        if failed:
            sys.exit(f"release: cosign did not sign {image}")
    print(f"{len(named)} images signed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("package")
    packing.add_argument("--tag", required=True)
    packing.add_argument("--out", type=Path, required=True)
    signing = commands.add_parser("sign")
    signing.add_argument("--images", type=Path, required=True)
    given = parser.parse_args()
    if given.command == "package":
        package(version_of(given.tag), given.out)
    else:
        sign(given.images)
