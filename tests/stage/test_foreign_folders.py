"""`--out` replaces what is absent, empty or the command's own, and never a folder that holds an input."""

from collections.abc import Callable
from pathlib import Path

import pytest

from huesong.config import Params
from huesong.data.sample.make import make_sample
from huesong.evaluate import stage as evaluate
from huesong.label import stage as label
from huesong.preprocess import stage as preprocess
from huesong.register import stage as register
from huesong.register.shipped import export
from huesong.runtime.errors import UserError
from huesong.train import stage as train
from tests.tiny_sets import snapshot

SETTINGS = Params()
PRE, LAB, TRA, EVA = (Path("artifacts") / name for name in ("preprocess", "label", "train", "evaluate"))
COMMANDS: dict[str, tuple[Callable[[Path], object], list[Path]]] = {
    # name: what writes a folder, and what it reads
    "preprocess": (lambda out: preprocess.run(SETTINGS.preprocess, data=Path("data"), out=out), [Path("data")]),
    "label": (lambda out: label.run(SETTINGS.label, preprocess=PRE, out=out), [PRE]),
    "train": (
        lambda out: train.run(SETTINGS.train, preprocess=PRE, label=LAB, out=out, checkpoints=Path("checkpoints")),
        [PRE, LAB, Path("checkpoints")],
    ),
    "evaluate": (
        lambda out: evaluate.run(SETTINGS.evaluate, data=Path("data"), preprocess=PRE, label=LAB, train=TRA, out=out),
        [PRE, LAB, TRA],
    ),
    "register": (
        lambda out: register.run(SETTINGS.register_, train=TRA, evaluate=EVA, gate=Path("gate.yaml"), out=out),
        [TRA, EVA],
    ),
    "export": (lambda out: export(TRA, EVA, out), [TRA, EVA]),
    "sample": (lambda out: make_sample(out, pictures=8, pieces=8), []),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with documents and artifacts; the current folder."""
    for folder in ("docs", "data", "checkpoints", *(path.as_posix() for path in (PRE, LAB, TRA, EVA))):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mine").write_text("mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_a_foreign_folder_is_refused_at_once(place: Path, name: str) -> None:
    write, inputs = COMMANDS[name]
    before = snapshot(place)
    for out in (Path("docs"), Path("."), place, *inputs, *(path.parent for path in inputs)):
        with pytest.raises(UserError, match="would be replaced as a whole: choose another folder with --out"):
            write(out)
    assert snapshot(place) == before
