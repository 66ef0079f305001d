"""The tiny world's artifacts are what they were: golden.json says how they are compared, and how to renew it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from tests import golden
from tests.conftest import Finished

RENEW = "If that is meant: python -m tests.golden --write, and say why in the commit."


@pytest.fixture(scope="module")
def found(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict[str, golden.Entry]:
    out = tmp_path_factory.mktemp("golden") / "composed"
    return golden.measure_finished(finished.folders, finished.world.train / "model", out)


def test_every_artifact_is_what_it_was(found: dict[str, golden.Entry]) -> None:
    kept = golden.load()
    exact = kept["machine"] == golden.machine()
    different = golden.differences(found, kept["artifacts"], exact)
    how = "digests" if exact else f"within {golden.TOLERANCE}: this machine is of another kind"
    assert not different, "\n".join([f"{len(different)} artifacts changed ({how}).", *different, RENEW])


def test_all_stages_and_files_are_covered(found: dict[str, golden.Entry]) -> None:
    from huesong import contracts

    assert {name.partition("/")[0] for name in found} == {"data", "compose", *contracts.STAGES}
    assert all(found.values()), "every file is read"
    assert all(name in found for name in (*golden.LEFT_OUT, *golden.CURVES))


def test_a_change_is_noticed_here_and_on_another_machine(tmp_path: Path) -> None:
    speeds = itertools.count()

    def measured(loss: float, text: str = "a", more: float = 0.0) -> dict[str, golden.Entry]:
        folder = tmp_path / "train"
        folder.mkdir(exist_ok=True)
        (folder / "history.csv").write_text(f"step,loss,tokens_per_s,text\n1,{loss},{next(speeds)},{text}\n")
        (folder / "metrics.json").write_text(json.dumps({"a": 5000, "b": {"c": 0.1 + more}, "seconds": loss}))
        np.save(folder / "array.npy", np.linspace(0, 1, 9) + more)
        return golden.measure({"train": folder})

    kept = json.loads(json.dumps(measured(2.0)))
    assert not golden.differences(measured(2.0), kept, exact=True)
    assert len(golden.differences(measured(2.0001, more=1e-7), kept, exact=True)) == 3
    assert not golden.differences(measured(2.0001, more=1e-7), kept, exact=False)
    assert "2.0 -> 2.01" in golden.differences(measured(2.01), kept, exact=False)[0]
    assert len(golden.differences(measured(2.0, text="b", more=0.01), kept, exact=False)) == 3  # word, number, array
    assert golden.differences({}, {"train/history.csv": {}}, exact=False) == ["train/history.csv: is missing"]
    assert golden.differences({"train/new.csv": {}}, {}, exact=False) == ["train/new.csv: is new"]
