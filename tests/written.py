"""Commands that write, for tests that kill or refuse them: what each reads and writes, and a place to run it again and again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huesong.runtime.files import WORK, sweep
from tests.conftest import TINY, Finished
from tests.console import ROOT, huesong
from tests.golden import measure
from tests.killing import End, in_child
from tests.stores import new_database
from tests.tiny_composer import photo
from tests.tiny_sets import midi, picture, sheet

MARK = "of-an-earlier-run"
SHORT = ("--seconds", "4", "--candidates", "1")
REMOTE = ("--remote", "remote")


@dataclass(frozen=True)
class Command:
    """One command of the console, and what it needs and writes in the folder in which it runs."""

    words: tuple[str | Path, ...]
    out: str = "out"
    """What it writes: a folder, or the folder of its files."""
    replaces: bool = True
    """Whether it takes the place of its own earlier result."""
    whole: bool = True
    """Whether it replaces its folder as a whole."""
    prepare: Callable[[Path], None] = lambda folder: None
    read: Callable[[Path], Path] | None = None
    """What of `out` counts, as a folder that is read in its place: of a remote, its current version."""


def commands(finished: Finished, model: Path) -> dict[str, Command]:
    """By name; `finished` holds the artifacts that are read, `model` a model folder."""
    artifacts = {f"--{name}": folder for name, folder in finished.folders.items()}

    def stage(name: str, *reads: str) -> Command:
        given = [word for read in reads for word in (read, artifacts[read])]
        return Command((name, *given, "--out", "out"))

    composing = ("--model", model, *SHORT)
    train = stage("train", "--preprocess", "--label")
    return {
        "sample": Command(("data", "sample", "--out", "out", "--pictures", "8", "--pieces", "8"), replaces=False),
        "import": Command(("data", "import", "folder", "own", "--out", "out"), whole=False, prepare=_own_folder),
        "publish": Command(
            ("data", "publish", *REMOTE, "--data", "own"), "remote", whole=False, replaces=False,
            prepare=_two_versions, read=_fetched,
        ),
        "fetch": Command(("data", "fetch", *REMOTE, "--out", "out", "--replace"), prepare=_published),
        "settings": Command(
            ("settings", "use", ROOT / "presets" / "cpu.yaml", "--out", "out/params.yaml", "--force"), whole=False
        ),
        "compose": Command(
            ("compose", "a.png", "--out", "out/piece", *composing, "--format", "mid,wav,png,musicxml"), whole=False,
            prepare=_picture,
        ),
        "film": Command(
            ("film", "a.png", "--out", "out/film.mp4", "--length", "4", "--aspect", "1:1", "--format", "mid", "--model", model),
            whole=False, prepare=_picture,
        ),
        "explain": Command(
            ("explain", "a.png", "--out", "out/why.png", "--seconds", "4", "--model", model, "--force"), whole=False,
            prepare=_picture,
        ),
        "preprocess": stage("preprocess", "--data"),
        "label": stage("label", "--preprocess"),
        "train": Command((*train.words, "--checkpoints", "checkpoints")),
        "evaluate": stage("evaluate", "--data", "--preprocess", "--label", "--train"),
        "export": Command(("export", "out", "--train", finished.world.train, "--evaluate", finished.evaluate)),
    }  # fmt: skip


def _picture(folder: Path) -> None:
    photo(folder / "a.png")


def _own_folder(folder: Path) -> None:
    for shade, name in enumerate(("a.jpg", "b.jpg", "sub/c.png")):
        picture(folder / "own" / name, shade)
    midi(folder / "own" / "a.mid", 60)
    sheet(folder / "own" / "labels.csv", "path,valence,arousal", "a.jpg,0.5,-0.5", "a.mid,0.1,0.2")


def _sample(folder: Path, out: str, seed: str) -> None:
    words = ("data", "sample", "--out", out, "--seed", seed, "--pictures", "8", "--pieces", "8")
    assert huesong(*words, cwd=folder).returncode == 0


def _published(folder: Path) -> None:
    _sample(folder, "data", "1")
    assert huesong("data", "publish", *REMOTE, "--data", "data", cwd=folder).returncode == 0


def _two_versions(folder: Path) -> None:
    _published(folder)
    _sample(folder, "own", "2")


def _fetched(folder: Path) -> Path:
    done = huesong("data", "fetch", *REMOTE, "--out", "../fetched", "--replace", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder.parent / "fetched"


class Place:
    """A folder in which a command runs again and again, from the same beginning."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.folder, self.command, self.out = folder, command, folder / command.out
        self.environment = {
            "HUESONG_TRACKING": "off",
            "MLFLOW_TRACKING_URI": new_database(folder / "mlflow.db"),
            "MPLCONFIGDIR": str(folder / "matplotlib"),
        }
        (folder / "params.yaml").write_text(json.dumps(TINY))
        command.prepare(folder)
        self.kept = shutil.copytree(folder, folder.with_name("kept"))
        end = self.run()
        assert (end.killed, end.code) == (False, 0), end.said
        self.operations = end.operations
        self.whole = self.content()
        self.names = self.listing()
        self.result = shutil.copytree(self.out, folder.with_name("result"))

    def act(self) -> tuple[int, str]:
        done = huesong(*self.command.words, cwd=self.folder, env=self.environment)
        return done.returncode, done.stderr

    def run(self, **how: object) -> End:
        return in_child(self.act, below=self.folder, **how)  # type: ignore[arg-type]

    def _read(self) -> Path:
        return self.command.read(self.folder) if self.command.read else self.out

    def content(self) -> dict[str, str]:
        """Digests of what the command writes; of what tells times and ids, without those."""
        return {name: each["sha256"] for name, each in measure({str(self.command.words[0]): self._read()}).items()}

    def snapshot(self) -> dict[str, bytes]:
        """The same, byte for byte; an empty folder is nothing."""
        top = self._read()
        return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}

    def listing(self) -> list[str]:
        """All that lies in the folder, but the cache of a library."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if not {"matplotlib", "mlartifacts"} & set(path.relative_to(self.folder).parts)
        )

    def reset(self, earlier: bool) -> None:
        """As before the command ran, `earlier`: with a result of it, that bears a mark where it is replaced as a whole."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder)
        if earlier:
            shutil.copytree(self.result, self.out)
            if self.command.whole:
                (self.out / MARK).write_text("yes")

    def tidy(self) -> None:
        """What the next command that writes here does first."""
        for folder in (self.folder, self.out):
            if folder.is_dir():
                sweep(folder)

    def litter(self) -> list[str]:
        return [name for name in self.listing() if any(part.startswith(WORK) for part in Path(name).parts)]
