"""A registered model, loaded back by its URI and called as MLflow calls it."""

import base64
import contextlib
import importlib.util
import io
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from huesong import contracts
from huesong.compose import serve as pyfunc_model
from huesong.config import RegisterConfig, SamplingConfig
from huesong.register import model_logging as pyfunc_logging
from huesong.register import shipped
from huesong.register import stage as register
from huesong.runtime.errors import UserError
from huesong.runtime.files import write_json
from huesong.tracking import store
from tests.conftest import World
from tests.s3_server import free_port
from tests.stores import new_database

pytestmark = pytest.mark.slow

LOGGED: dict[str, str] = {}
"""Where the artifacts of the `loaded` model lie."""
OLD = Path(__file__).parent.parent / "data" / "pyfunc_model_0_1_0.py"


def picture(colour: str = "orange") -> str:
    """A small PNG as base64 text."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def loaded(world: World, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`models:/huesong@champion` of a tiny model."""
    import mlflow

    folder = tmp_path_factory.mktemp("pyfunc")
    uri = new_database(folder / "mlflow.db")
    (folder / "evaluate").mkdir()
    write_json(folder / "evaluate" / "figures.json", {"arousal_r": 1.0})
    (folder / "gate.yaml").write_text("absolute: {arousal_r: {min: 0}}")
    register.run(
        RegisterConfig(), train=world.train, evaluate=folder / "evaluate", gate=folder / "gate.yaml",
        out=folder / "register", tracking_uri=uri, tags={},
    )  # fmt: skip
    LOGGED["folder"] = str(folder / "mlartifacts")
    with store.as_default(uri):
        yield mlflow.pyfunc.load_model("models:/huesong@champion")


def seconds(midi: str) -> float:
    from symusic import Score

    return float(Score.from_midi(base64.b64decode(midi)).to("second").end())


def test_the_logged_example_gives_a_piece_with_its_emotions(loaded: Any) -> None:
    answer = loaded.predict(loaded.input_example)
    assert list(answer.columns) == ["midi", *pyfunc_logging.OUTPUTS, "wav", "roll", "report"]
    row = answer.iloc[0]
    assert row["wav"] is row["roll"] is None
    assert json.loads(row["report"])["asked"]["seconds"] == 10.0
    assert base64.b64decode(row["midi"])[:4] == b"MThd"
    assert seconds(row["midi"]) == pytest.approx(10.0, rel=0.1)
    assert (row["requested_valence"], row["requested_arousal"]) == pytest.approx((0.5, -0.25))
    assert abs(row["predicted_valence"]) <= 1
    assert abs(row["obtained_arousal"]) <= 1


def test_rows_may_lack_the_picture_or_the_emotions(loaded: Any) -> None:
    rows = pd.DataFrame(
        {
            "picture": [picture(), None, picture("navy")],
            "valence": [np.nan, -0.5, 0.25],
            "arousal": [np.nan, 0.75, np.nan],
            "seconds": [5.0, 6.0, np.nan],
        },
        index=[7, 8, 9],
    )
    answer = loaded.predict(rows)
    assert list(answer.index) == [7, 8, 9]
    assert (answer.loc[8, "requested_valence"], answer.loc[8, "requested_arousal"]) == pytest.approx((-0.5, 0.75))
    assert answer.loc[8, "predicted_valence"] is None
    assert answer.loc[9, "requested_valence"] == pytest.approx(0.25)
    assert answer[["requested_valence", "requested_arousal"]].notna().all(axis=None)
    assert [round(seconds(midi)) for midi in answer["midi"]] == pytest.approx([5, 6, 30], abs=1.5)


def test_columns_may_be_missing(loaded: Any) -> None:
    answer = loaded.predict(pd.DataFrame({"valence": [1.0], "arousal": [0.0], "seconds": [5.0]}))
    assert answer.loc[0, "requested_valence"] == pytest.approx(1.0)


def test_the_scoring_server_answers_json(loaded: Any) -> None:
    """What `mlflow models serve` runs, without the network: whole numbers and nulls, as JSON has them."""
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    client = TestClient(scoring_server.init(loaded))
    rows = [
        {"picture": picture(), "valence": None, "arousal": None, "seconds": 5, "seed": 1},
        {"picture": None, "valence": 1, "arousal": 0, "seconds": 5, "seed": 2},
    ]
    answer = client.post("/invocations", json={"dataframe_records": rows, "params": {"guidance": 1.0}})
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["predictions"]
    assert base64.b64decode(first["midi"])[:4] == b"MThd"
    assert second["requested_valence"] == pytest.approx(1.0)
    assert second["predicted_valence"] is None
    refused = client.post("/invocations", json={"dataframe_records": [{"valence": 0.5}]})
    assert refused.status_code == 400
    assert "row 0: a request without a picture needs both" in refused.text
    assert "stack_trace" not in refused.text
    assert "Traceback" not in refused.text
    for body, said in (
        ({"dataframe_records": rows, "params": {"tempi": 90.0}}, "unknown parameter 'tempi' (known: seconds, "),
        ({"dataframe_records": [{**rows[0], "tempo": 90}]}, "unknown column 'tempo' (known: picture, "),
    ):
        refused = client.post("/invocations", json=body)
        assert (refused.status_code, said in refused.text) == (400, True), refused.text
        assert "Traceback" not in refused.text


def test_another_model_in_the_same_process_is_as_lax_as_before(loaded: Any, tmp_path: Path) -> None:
    import mlflow
    from mlflow.models import infer_signature

    class Other(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> list[Any]:
            return [params]

    signature = infer_signature(pd.DataFrame({"a": [1.0]}), ["x"], {"temper": 1.0})
    mlflow.pyfunc.save_model(tmp_path / "other", python_model=Other(), signature=signature)
    other = mlflow.pyfunc.load_model(str(tmp_path / "other"))
    assert other.predict(pd.DataFrame({"a": [1.0], "b": [2.0]}), params={"tempo": 9.0}) == [{"temper": 1.0}]


def test_the_same_row_gives_the_same_bytes_and_another_seed_does_not(loaded: Any) -> None:
    row = {"picture": picture(), "seconds": 5.0}
    rows = pd.DataFrame([{**row, "seed": 3}, {**row, "seed": 3}, {**row, "seed": 4}])
    midi = loaded.predict(rows)["midi"]
    assert midi[0] == midi[1] != midi[2]
    assert loaded.predict(rows[:1])["midi"][0] == midi[0]


def test_the_signature_has_every_sampling_setting_with_the_default_that_all_get(loaded: Any) -> None:
    params = {param.name: param.default for param in loaded.metadata.signature.params.params}
    assert {"seconds": 30.0, **params} == SamplingConfig().model_dump() | contracts.PIECE


def test_everything_that_the_console_asks_can_be_asked_and_heard_and_seen(loaded: Any) -> None:
    row = pd.DataFrame([{"picture": picture(), "seconds": 8.0}])
    asked = {
        "tempo": 120.0, "key": "D", "form": "AB", "meter": "4/4", "audio": True, "roll": True,
        "valence_course": "-0.5..0.8",
    }  # fmt: skip
    answer = loaded.predict(row, params=asked).iloc[0]
    assert base64.b64decode(answer["wav"])[:4] == b"RIFF"
    assert base64.b64decode(answer["roll"])[1:4] == b"PNG"
    told = json.loads(answer["report"])
    assert (told["asked"]["tempo"], told["asked"]["key"], told["asked"]["valence"]) == (120.0, [2, True], [-0.5, 0.8])
    assert answer["requested_valence"] == pytest.approx(0.15, abs=0.01)
    with pytest.raises(UserError, match="row 0: --key H"):
        loaded.predict(row, params={"key": "H"})
    plain = loaded.predict(row).iloc[0]
    assert plain["midi"] == loaded.predict(row, params=dict(contracts.PIECE)).iloc[0]["midi"], (
        "the defaults ask nothing"
    )


CARRIED = """
import sys
assert not [path for path in sys.path if path.endswith("src")]
import importlib.util
assert importlib.util.find_spec("huesong") is None
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
row = pd.DataFrame([{"valence": 0.5, "arousal": -0.5, "seconds": 5.0, "seed": 1}])
print(model.predict(row)["midi"][0])
import huesong
assert "huesong-code-" in huesong.__file__, huesong.__file__
"""


def test_a_version_composes_where_nothing_of_this_checkout_is(loaded: Any, tmp_path: Path) -> None:
    """An environment with MLflow and the packages of the requirements, and no huesong: it brings its own."""
    import venv

    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    here = Path(torch_place()).parents[1]
    site = next((tmp_path / "venv" / "lib").glob("python3*/site-packages"))
    for entry in here.iterdir():  # every package of this environment but huesong, and no .pth file that leads to it
        if "huesong" not in entry.name and entry.suffix != ".pth":
            (site / entry.name).symlink_to(entry)
    row = pd.DataFrame([{"valence": 0.5, "arousal": -0.5, "seconds": 5.0, "seed": 1}])
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLFLOW"))}
    env["PATH"] = f"{python.parent}{os.pathsep}{env['PATH']}"
    server_program = python.parent / "uvicorn"  # as pip writes it
    server_program.write_text(f"#!{python}\nfrom uvicorn.main import main\nmain()\n")
    server_program.chmod(0o755)
    (place,) = Path(LOGGED["folder"]).rglob("MLmodel")
    command = [str(python), "-c", CARRIED, str(place.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().splitlines()[-1] == loaded.predict(row)["midi"][0]
    port = free_port()
    serve = ["-m", "mlflow", "models", "serve", "-m", str(place.parent), "-p", str(port), "--env-manager", "local"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [str(python), *serve], cwd=tmp_path, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        body = json.dumps({"dataframe_records": row.to_dict("records")}).encode()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )  # fmt: skip
        for _ in range(600):
            assert server.poll() is None, (tmp_path / "log").read_text()
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                answer = json.loads(urllib.request.urlopen(asked, timeout=300).read())["predictions"][0]
                break
            time.sleep(0.5)
        assert answer["midi"] == loaded.predict(row)["midi"][0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def torch_place() -> str:
    import torch

    return str(torch.__file__)


def test_parameters_reach_the_sampler(loaded: Any) -> None:
    row = pd.DataFrame([{"valence": 0.0, "arousal": 0.0, "seconds": 5.0}])
    usual = loaded.predict(row)["midi"][0]
    daring = loaded.predict(row, params={"temperature": 3.0, "top_p": 1.0})["midi"][0]
    assert daring != usual
    with pytest.raises(UserError, match="top-p"):
        loaded.predict(row, params={"top_p": 1.5})
    with pytest.raises(UserError, match="unknown parameter 'tempi'"):
        loaded.predict(row, params={"tempi": 90.0})
    with pytest.raises(UserError, match="unknown parameter 'tempi'"):
        loaded.unwrap_python_model().predict(None, row, {"tempi": 90.0})


def test_bytes_are_taken_where_no_schema_stands_before(loaded: Any) -> None:
    model = loaded.unwrap_python_model()
    text = picture()
    rows = pd.DataFrame([{"picture": text, "seconds": 5.0}, {"picture": base64.b64decode(text), "seconds": 5.0}])
    midi = model.predict(None, rows)["midi"]
    assert midi[0] == midi[1]
    assert model.predict(None, rows[:0]).empty


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"picture": "not base64!"}, "row 0: the picture is not base64"),
        ({"picture": base64.b64encode(b"GIF? no").decode()}, "row 0: the picture"),
        ({"picture": ""}, "row 0: the picture is empty"),
        ({"picture": 3}, "row 0: the picture is a int"),
        ({"valence": 0.5}, "row 0: a request without a picture needs both a valence and an arousal"),
        ({"valence": 2.0, "arousal": 0.0}, "row 0: --valence 2.0"),
        ({"valence": "high", "arousal": 0.0}, "row 0: valence 'high' is no number"),
        ({"valence": 0.0, "arousal": 0.0, "seconds": 9999.0}, "row 0: --seconds 9999"),
        ({"valence": 0.0, "arousal": 0.0, "seed": 0.5}, "row 0: seed 0.5 is no integer"),
        ({"valence": 0.0, "arousal": 0.0, "tempo": 90}, "unknown column 'tempo'"),
    ],
)
def test_a_bad_row_is_named(row: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        pyfunc_model.HuesongModel().predict(None, pd.DataFrame([row]))
    assert str(caught.value).startswith(said)
    assert "/huesong-" not in str(caught.value)


def test_a_model_of_version_0_1_0_composes_with_todays_package(tmp_path: Path) -> None:
    """MLflow keeps the code of a model beside it: the file as it was then runs on the package as it is now."""
    spec = importlib.util.spec_from_file_location("pyfunc_model_0_1_0", OLD)
    assert spec is not None
    assert spec.loader is not None
    old = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(old)
    model = old.HuesongModel()
    model.load_context(SimpleNamespace(artifacts={"model": str(shipped.PLACE)}))
    rows = [{"picture": picture(), "seconds": 5.0, "seed": 1}, {"valence": 0.5, "arousal": -0.5, "seconds": 6.0}]
    answer = model.predict(None, pd.DataFrame(rows), {"guidance": 1.5})
    assert list(answer.columns) == ["midi", *pyfunc_logging.OUTPUTS]
    assert [round(seconds(midi)) for midi in answer["midi"]] == pytest.approx([5, 6], abs=1)
    assert answer.loc[1, "requested_valence"] == pytest.approx(0.5)
    assert answer.loc[0, "predicted_valence"] is not None
    assert answer.loc[1, "predicted_valence"] is None
    assert answer["obtained_arousal"].notna().all()
    with pytest.raises(UserError, match="row 0: --valence 2"):
        model.predict(None, pd.DataFrame([{"valence": 2.0, "arousal": 0.0}]))


def test_the_code_file_stands_alone() -> None:
    """MLflow keeps a copy of the file: it may import huesong, but nothing relative."""
    text = pyfunc_logging.CODE.read_text()
    assert "from ." not in text
    assert text.rstrip().endswith("set_model(HuesongModel())")
    assert Path(pyfunc_model.__file__) == pyfunc_logging.CODE
