"""A version that huesong 0.1.0 registered: its own code beside it, a model folder of format 1; it still loads and composes."""

from __future__ import annotations

import base64
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from symusic import Score
from typer.testing import CliRunner

from huesong.cli.app import app
from huesong.register import model_logging, shipped
from huesong.register.life import promotion
from huesong.register.registry import DIGEST, Logged, Registry, resolve_model
from huesong.runtime.files import folder_digest
from huesong.tracking import store
from tests.older import format_1
from tests.stores import new_database

pytestmark = pytest.mark.slow

CODE = Path(__file__).parent.parent / "data" / "pyfunc_model_0_1_0.py"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry whose champion was logged as 0.1.0 did it."""
    import mlflow

    folder = tmp_path_factory.mktemp("older")
    uri = new_database(folder / "mlflow.db")
    model = format_1(shipped.PLACE, folder / "model")
    (folder / "README.md").write_text("# card")
    run_id = model_logging.new_run(uri, "older", folder, {})
    with store.http_limits(), store.as_default(uri), model_logging.active_run(run_id):
        logged = mlflow.pyfunc.log_model(
            name="huesong", python_model=str(CODE), artifacts={"model": str(model), "README": str(folder / "README.md")},
            signature=model_logging.signature(), pip_requirements=["huesong==0.1.0"],
        )  # fmt: skip
    registry = Registry("huesong", uri=uri)
    made = registry.create(Logged(logged.model_id, run_id), {DIGEST: folder_digest(model)}, "card")
    promotion.promote(registry, made.version, force=True, reason="0.1.0 asked no gate")
    return uri


def test_mlflow_loads_it_with_its_own_code_and_it_composes(uri: str) -> None:
    import mlflow

    folder = resolve_model("models:/huesong@champion", tracking_uri=uri)
    assert "from huesong.errors import" in (folder.parents[1] / CODE.name).read_text()
    with store.as_default(uri):
        loaded = mlflow.pyfunc.load_model("models:/huesong@champion")
    rows = pd.DataFrame([{"valence": 0.5, "arousal": -0.5, "seconds": 5.0, "seed": seed} for seed in (1, 1, 2)])
    answer = loaded.predict(rows, params={"guidance": 1.5})
    assert list(answer.columns) == ["midi", *model_logging.OUTPUTS]
    midi = [base64.b64decode(text) for text in answer["midi"]]
    assert midi[0] == midi[1] != midi[2]
    assert Score.from_midi(midi[0]).to("second").end() == pytest.approx(5, rel=0.2)
    assert answer["requested_arousal"].tolist() == pytest.approx([-0.5] * 3)
    assert answer["obtained_valence"].notna().all()


def test_the_console_composes_with_it_the_same_bytes(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert (resolve_model("models:/huesong/1") / "weights.safetensors").is_file()
    Image.new("RGB", (40, 30), "navy").save("photo.png")
    for name, model in (("old", "models:/huesong/1"), ("new", str(shipped.PLACE))):
        command = ["compose", "photo.png", "--model", model, "--seconds", "4", "--out", name]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    assert Path("old.mid").read_bytes() == Path("new.mid").read_bytes()
