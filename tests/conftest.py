"""A tiny world, made in code once a session: a small sample set and every stage's artifacts of a tiny model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from huesong.config import Params
from tests import stores
from tests.examples import load_profile
from tests.once import once, shared_folder

if TYPE_CHECKING:
    from tests.kfp_server import KfpServer

# Tests never talk to a tracking server, and never call home.
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
# Two workers of pytest-xdist share the cores: no library may use all of them in each. Before torch and numpy are loaded.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

load_profile()

GATE = Path(__file__).parent / "data" / "gate.yaml"
"""Lets a model of a few steps pass; the project's own does not."""
TINY = {
    "preprocess": {"tokenizer": {"vocabulary_size": 760}, "picture_size": 32, "workers": 2},
    "label": {"folds": 2, "bootstrap": 100, "pairs_per_image": 3},
    "train": {
        "device": "cpu", "threads": 1, "steps": 6, "batch_size": 4, "warmup_steps": 2, "eval_every": 3,
        "eval_batches": 1, "checkpoint_every": 3,
        "network": {"width": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "context": 128},
        "critic": {"width": 16, "heads": 2, "layers": 1, "steps": 10, "batch_size": 8},
        "reinforce": {"steps": 2, "requests": 1, "samples": 2, "seconds": 4.0, "checkpoint_every": 1},
    },
    "evaluate": {
        "bootstrap": 100, "grid_seeds": 1, "report_pieces": 2, "sampling": {"seconds": 5.0}, "unconditional": 6,
        "second_judge": {"members": 1, "steps": 5, "width": 16, "layers": 1},
    },
}  # fmt: skip


LONGEST = (
    "system/test_containers.py", "system/test_kfp_pipeline.py", "system/test_pipeline.py", "stage/test_golden.py",
    "unit/test_sampling.py", "unit/test_grammar.py", "system/test_components.py", "stage/test_control.py",
    "stage/test_evaluate.py",
)  # fmt: skip
"""These test files first, so that none is left to one process while the others have nothing more to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by LONGEST; the order within a file, and of all other files, stays."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(LONGEST)))


@dataclass
class World:
    """Folders of the tiny world."""

    params: Params
    data: Path
    preprocess: Path
    label: Path
    train: Path


@dataclass
class Finished:
    """The tiny world after all stages. No folder may be written to."""

    world: World
    evaluate: Path
    register: Path
    tracking_uri: str

    @property
    def folders(self) -> dict[str, Path]:
        """The name of a stage (`data` for what goes in) -> its folder."""
        world = self.world
        return {
            "data": world.data, "preprocess": world.preprocess, "label": world.label, "train": world.train,
            "evaluate": self.evaluate, "register": self.register,
        }  # fmt: skip


def make_data(folder: Path) -> Path:
    """A raw data folder of 32 pictures and 64 pieces."""
    from huesong.data.sample.make import make_sample

    make_sample(folder / "data", seed=1, pictures=32, pieces=64)
    return folder / "data"


def world_beside(data: Path) -> World:
    """Where the world's folders are: beside the data."""
    folder = data.parent
    return World(Params.model_validate(TINY), data, folder / "preprocess", folder / "label", folder / "train")


def make_world(data: Path) -> World:
    """Preprocess, label and train, beside the data."""
    from huesong.label import stage as label
    from huesong.preprocess import stage as preprocess
    from huesong.train import stage as train

    made = world_beside(data)
    params, checkpoints = made.params, data.parent / "checkpoints"
    preprocess.run(params.preprocess, data=made.data, out=made.preprocess)
    label.run(params.label, preprocess=made.preprocess, out=made.label)
    train.run(params.train, preprocess=made.preprocess, label=made.label, out=made.train, checkpoints=checkpoints)
    return made


def finished_beside(world: World) -> Finished:
    """Where the other artifacts are: beside the world's."""
    folder = world.data.parent
    uri = f"sqlite:///{folder / 'registry' / 'mlflow.db'}"
    return Finished(world, folder / "evaluate", folder / "register", uri)


def finish(world: World) -> Finished:
    """Evaluate and register, beside the world's other artifacts; the registry is a new database there."""
    from huesong.evaluate import stage as evaluate
    from huesong.register import stage as register

    made = finished_beside(world)
    uri = stores.new_database(world.data.parent / "registry" / "mlflow.db")
    evaluate.run(
        world.params.evaluate, data=world.data, preprocess=world.preprocess, label=world.label, train=world.train,
        out=made.evaluate,
    )  # fmt: skip
    register.run(
        world.params.register_, train=world.train, evaluate=made.evaluate, gate=GATE, out=made.register,
        tracking_uri=uri, tags={"huesong.data_digest": "tiny.dir", "huesong.git_sha": "f00"},
    )  # fmt: skip
    return made


@pytest.fixture(scope="session", autouse=True)
def _one_empty_database(tmp_path_factory: pytest.TempPathFactory) -> None:
    stores.shared = shared_folder(tmp_path_factory)


# The folders of these are made once a session and read by all its processes: no test may write to them.


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw data folder of 32 pictures and 64 pieces."""
    folder = shared_folder(tmp_path_factory) / "world"
    folder.mkdir(exist_ok=True)
    once(folder / "data", lambda: make_data(folder))
    return folder / "data"


@pytest.fixture(scope="session")
def world(tiny_data: Path) -> World:
    """The artifacts of preprocess, label and train of a model too small to be any good."""
    once(tiny_data.parent / "trained", lambda: make_world(tiny_data))
    return world_beside(tiny_data)


@pytest.fixture(scope="session")
def finished(world: World) -> Finished:
    """The artifacts of all five stages."""
    once(world.data.parent / "finished", lambda: finish(world))
    return finished_beside(world)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled Kubeflow pipeline with one task."""
    from tests.kfp_package import compile_to

    return compile_to(tmp_path_factory.mktemp("package") / "pipeline.yaml")


@pytest.fixture
def server() -> Iterator[KfpServer]:
    """A strict stand-in of a Kubeflow Pipelines server."""
    from tests.kfp_server import KfpServer

    with KfpServer() as started:
        yield started
