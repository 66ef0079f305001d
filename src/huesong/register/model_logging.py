"""Logging a model folder as a pyfunc model *from code*: weights and tokenizer as files, nothing pickled."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import io
import os
import re
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huesong import contracts
from huesong.config import SamplingConfig
from huesong.register.registry import Logged, answered
from huesong.tracking import store
from huesong.tracking.datasets import evaluated_on
from huesong.tracking.figures import batches, figure_name, numbers
from huesong.tracking.sessions import PARENT_TAG, STAGE_TAG, user_name

CARRIED = "huesong.zip"
CODE = Path(__file__).parent.parent / "compose" / "serve.py"
OUTPUTS = (
    "requested_valence",
    "requested_arousal",
    "predicted_valence",
    "predicted_arousal",
    "obtained_valence",
    "obtained_arousal",
)


def log_model(
    folder: Path, card: Path, metrics: Mapping[str, Any], uri: str, run_id: str, tags: Mapping[str, str]
) -> Logged:
    """Log the model folder with its signature, input example, requirements and card.

    Args:
        folder: the model folder.
        card: the model card; logged as README.md beside the model's files.
        metrics: the evaluation's figures, logged to the run as `evaluate/<figure>`, and to the pictures among its data.
        uri: the store.
        run_id: run to log to.
        tags: what the model was made from.

    Raises:
        UserError: the store does not answer.
    """
    with answered(uri), store.http_limits(timeout_s=120, retries=2), store.as_default(uri):
        client = store.connect(uri)
        import mlflow
        from mlflow.entities import LoggedModelOutput, Metric

        with begun(client, run_id, tags) as model_id, tempfile.TemporaryDirectory() as work, active_run(run_id):
            code = carried_code(Path(work) / CARRIED)
            mlflow.pyfunc.log_model(
                model_id=model_id,
                python_model=str(CODE),
                artifacts={contracts.MODEL: str(folder), "README": str(card), "code": str(code)},
                signature=signature(),
                input_example=input_example(),
                pip_requirements=requirements(),
            )
            mlflow.clear_active_model()  # else the metrics that follow, of any run, count as this model's
        run = client.get_run(run_id)
        parent = run.data.tags.get(PARENT_TAG)
        known = [run, *([client.get_run(parent)] if parent else [])]
        on = next((found for one in known if (found := evaluated_on(one.inputs.dataset_inputs))), {})
        stamp = int(time.time() * 1000)
        points = [
            Metric(figure_name(f"evaluate/{key}"), value, stamp, 0, model_id=model_id, run_id=run_id, **on)
            for key, value in numbers(metrics).items()
        ]
        for batch in batches(points, 1000):
            client.log_batch(run_id, metrics=batch)
        if parent:
            client.log_outputs(parent, [LoggedModelOutput(model_id, 0)])
    return Logged(model_id, run_id)


@contextlib.contextmanager
def begun(client: Any, run_id: str, tags: Mapping[str, str]) -> Iterator[str]:
    """The id of a new logged model of a run, which is to get its files in the block; deleted again where that fails."""
    import mlflow

    run = client.get_run(run_id)
    model = mlflow.initialize_logged_model(
        name=contracts.MODEL_NAME, source_run_id=run_id, experiment_id=run.info.experiment_id, tags=dict(tags),
        params=run.data.params,
    )  # fmt: skip
    try:
        yield str(model.model_id)
    except BaseException:
        with contextlib.suppress(*store.errors()):  # what went wrong first is what is told; `gc` finds what is left
            client.delete_logged_model(model.model_id)
        raise


def new_run(uri: str, experiment: str, root: Path, tags: Mapping[str, str]) -> str:
    """Id of a run for a model that is registered outside of a tracked stage; the default store is in the folder `root`."""
    own = {STAGE_TAG: "register", "mlflow.user": user_name(), "mlflow.source.name": "huesong register", **tags}
    with answered(uri), store.http_limits():
        client = store.connect(uri)
        where = store.experiment_id(client, experiment, uri, root)
        return str(client.create_run(where, tags=own, run_name="register").info.run_id)


@contextlib.contextmanager
def active_run(run_id: str) -> Iterator[None]:
    """MLflow's active run, which `log_model` belongs to."""
    import mlflow

    with mlflow.start_run(run_id=run_id, nested=True, log_system_metrics=False):
        yield


def carried_code(path: Path) -> Path:
    """Write this package as an archive, from which compose/serve.py imports it where it is not installed.

    No index has the package, and a version is to work where nothing of this checkout is. The weights in models/ stay
    out: a version has its own. The same code makes the same bytes.
    """
    package = Path(__file__).parents[1]
    with zipfile.ZipFile(path, "w", compresslevel=1) as archive:
        for file in sorted(package.rglob("*")):
            inside = file.relative_to(package)
            if file.is_file() and "__pycache__" not in inside.parts and inside.parts[0] != "weights":
                entry = zipfile.ZipInfo(f"huesong/{inside.as_posix()}")
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
    return path


def requirements() -> list[str]:
    """What the model needs beside huesong, whose code it carries, each at the version that is installed here.

    The container that registers holds little of what composing needs: what is not installed has the version of the
    constraints file that PIP_CONSTRAINT names, else the range that huesong declares.
    """
    import mlflow

    found = [f"mlflow=={mlflow.__version__}"]
    for line in importlib.metadata.requires("huesong") or []:
        match = re.match(r"[A-Za-z0-9._-]+", line)
        if match is None or "extra ==" in line:
            continue
        try:
            version = importlib.metadata.version(match[0]).split("+")[0]  # +cpu is no version of the package index
        except importlib.metadata.PackageNotFoundError:
            found.append(constraints().get(match[0].lower().replace("_", "-"), line))
        else:
            found.append(f"{match[0]}=={version}")
    return found


def constraints() -> dict[str, str]:
    """Package -> line of the file that PIP_CONSTRAINT names; empty without one."""
    path = Path(os.environ.get("PIP_CONSTRAINT", os.devnull))
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line.partition("==")[0]: line for line in lines if "==" in line}


def signature() -> Any:
    """One row a piece; every column may be missing or null, but a row without a picture needs both emotions."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    inputs: list[Any] = [ColSpec("string", "picture", required=False)]
    inputs += [ColSpec("double", column, required=False) for column in ("valence", "arousal", "seconds")]
    inputs += [ColSpec("long", "seed", required=False)]
    outputs: list[Any] = [ColSpec("string", "midi"), *(ColSpec("double", column) for column in OUTPUTS)]
    outputs += [
        *(ColSpec("string", column, required=False) for column in contracts.ON_REQUEST),
        ColSpec("string", "report"),
    ]
    params = [
        ParamSpec(name, "long" if field.annotation is int else "double", field.default)
        for name, field in SamplingConfig.model_fields.items()
        if name != "seconds"  # a column
    ]
    kinds = {bool: "boolean", int: "long", float: "double", str: "string"}
    params += [ParamSpec(name, kinds[type(value)], value) for name, value in contracts.PIECE.items()]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs), params=ParamSchema(params))


def input_example() -> Any:
    """A row with a tiny picture, made here."""
    import pandas as pd
    from PIL import Image

    picture = io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).convert("RGB").save(picture, "PNG")
    row = {"picture": base64.b64encode(picture.getvalue()).decode(), "valence": 0.5, "arousal": -0.25, "seconds": 10.0}
    return pd.DataFrame([{**row, "seed": 0}])
