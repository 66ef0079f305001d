"""The registered model as MLflow runs it (a model *from code*: MLflow keeps this very file beside the model folder).

Where huesong is not installed, it is the one that the version was made with, from the archive beside this file.
"""

from __future__ import annotations

import atexit
import base64
import binascii
import logging
import math
import re
import shutil
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd  # at run time: MLflow reads the type hint of `predict`
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PyFuncModel, PythonModel

if find_spec("huesong") is None:
    carried = Path(tempfile.mkdtemp(prefix="huesong-code-"))
    atexit.register(shutil.rmtree, carried, ignore_errors=True)
    zipfile.ZipFile(Path(__file__).parent / "artifacts" / "huesong.zip").extractall(carried)
    sys.path.append(str(carried))

from huesong import contracts
from huesong.config import PreprocessConfig, SamplingConfig
from huesong.runtime.errors import UserError

NUMBERS = ("valence", "arousal", "seconds")
COLUMNS = ("picture", *NUMBERS, "seed")
PIECE, ON_REQUEST = contracts.PIECE, contracts.ON_REQUEST
PARAMS = (*SamplingConfig.model_fields, *PIECE)
DROPPED = re.compile(r"Unrecognized params \[(.*?)\]|extra inputs in the model input .*?`\[(.*?)\]`", re.DOTALL)
"""What MLflow remarks in its log when it leaves out what a request holds and the signature does not."""


class Refused(MlflowException, UserError):
    """A UserError that MLflow's server answers with its text alone; of any other exception it sends the stack."""


class Strict(logging.Filter):
    """Refuses a request with unknown parameters or columns, which MLflow itself would drop before `predict` sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if (found := DROPPED.search(record.getMessage())) and asks_us(sys._getframe()):
            kind, known = ("parameter", PARAMS) if found[1] else ("column", COLUMNS)
            name = (found[1] or found[2]).split(", ")[0]
            raise Refused(f"unknown {kind} {name} (known: {', '.join(known)})", error_code=INVALID_PARAMETER_VALUE)
        return True


def asks_us(frame: Any) -> bool:
    """Whether the model of MLflow's that is being asked is one of ours: there may be others in this process."""
    while frame is not None:
        if isinstance(asked := frame.f_locals.get("self"), PyFuncModel):
            schema = asked.metadata.get_params_schema()
            return schema is not None and {param.name for param in schema.params} <= set(PARAMS)
        frame = frame.f_back
    return False


class HuesongModel(PythonModel):
    """Pictures and emotions in, MIDI out; one row a piece."""

    def load_context(self, context: Any) -> None:
        """Load the model folder, once; its files are checked by their digests."""
        from huesong.compose.composer import Composer

        self.composer = Composer(Path(context.artifacts[contracts.MODEL]))
        remarks = logging.getLogger("mlflow.models.utils")
        remarks.setLevel(logging.WARNING)
        if not any(
            type(each).__name__ == Strict.__name__ for each in remarks.filters
        ):  # each loading runs this file anew
            remarks.addFilter(Strict())

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Compose a piece for every row; a request that cannot be answered is a `Refused`, which servers answer with 400.

        Args:
            context: MLflow's.
            model_input: columns `picture` (an image file, as base64 text or bytes), `valence`, `arousal` (-1 to 1),
                `seconds`, `seed`; each may be missing, and null in a row. A row without a picture needs both
                emotions; a row without emotions takes those that its picture shows.
            params: sampling settings and PIECE; what is missing has the console's default.

        Returns:
            One row a piece, with the input's index: `midi` (base64 of a MIDI file), and the valence and arousal
            `requested_*`, `predicted_*` from the picture (None without one), and `obtained_*` (what the music labeller
            predicts for the piece); `wav` and `roll` (base64 of a WAV and a PNG file, where asked for), and `report`, what
            the piece was composed for and by, as JSON.

        Raises:
            Refused: names the row (counted from 0) and what is wrong with it.
        """
        try:
            return self.answer(model_input, params or {})
        except UserError as error:
            raise Refused(str(error), error_code=INVALID_PARAMETER_VALUE) from None

    def answer(self, model_input: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """As `predict`; UserError where that raises Refused."""
        from huesong.model.requests import sampling_config

        unknown = [str(column) for column in model_input.columns if column not in COLUMNS]
        if unknown:
            raise UserError(f"unknown column '{unknown[0]}' (known: {', '.join(COLUMNS)})")
        if odd := sorted(set(params) - set(PARAMS)):
            raise UserError(f"unknown parameter '{odd[0]}' (known: {', '.join(PARAMS)})")
        asked = PIECE | {name: params[name] for name in PIECE if params.get(name) is not None}
        config = sampling_config(**{name: value for name, value in params.items() if name not in PIECE})
        requests = [request(number, row, asked) for number, row in enumerate(model_input.to_dict("records"))]
        pieces = self.composer.compose(requests, config) if requests else []
        made = [
            {
                "midi": base64.b64encode(piece.midi).decode("ascii"),
                **emotion("requested", piece.requested),
                **emotion("predicted", piece.predicted),
                **emotion("obtained", piece.obtained),
                **written(piece, asked),
            }
            for piece in pieces
        ]
        names = [f"{kind}_{axis}" for kind in ("requested", "predicted", "obtained") for axis in ("valence", "arousal")]
        answer = pd.DataFrame(made, columns=["midi", *names, *ON_REQUEST, "report"], index=model_input.index)
        for name in names:
            if answer[name].isna().any():  # the scoring server would write NaN, which is no JSON
                answer[name] = answer[name].astype(object).where(answer[name].notna(), None)
        return answer


def request(number: int, row: dict[Any, Any], asked: dict[str, Any] = PIECE) -> Any:
    """A row as a Request; `asked`: PIECE.

    Raises:
        UserError: names the row.
    """
    from huesong.model.requests import Request, parse_key, parse_trajectory
    from huesong.music.form.settings import parse_chords, parse_form, parse_metre

    picture = row.get("picture")
    valence, arousal, seconds, seed = (number_in(number, row, key) for key in (*NUMBERS, "seed"))
    if seed is not None and not seed.is_integer():
        raise UserError(f"row {number}: seed {seed} is no integer")
    try:
        image = None if is_null(picture) else open_picture(picture)
        courses = [parse_trajectory(asked[f"{axis}_course"] or None, axis) for axis in ("valence", "arousal")]
        return Request(
            image, valence if courses[0] is None else courses[0], arousal if courses[1] is None else courses[1],
            int(seed or 0), seconds, bars=asked["bars"] or None, tempo=asked["tempo"] or None,
            key=parse_key(asked["key"] or None), style=asked["style"] or None, form=parse_form(asked["form"] or None),
            chords=parse_chords(asked["chords"] or None), metre=parse_metre(asked["meter"] or None), loop=asked["loop"],
            intensity=None if asked["intensity"] == 1.0 else asked["intensity"],
        )  # fmt: skip
    except UserError as error:
        raise UserError(f"row {number}: {error}") from None


def open_picture(given: Any) -> Any:
    """An RGB image from the bytes of an image file or their base64 text."""
    from huesong.pictures.decode import decode

    if isinstance(given, str):
        try:
            given = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            raise UserError("the picture is not base64: give the bytes of an image file as base64 text") from None
    if not isinstance(given, bytes | bytearray):
        raise UserError(f"the picture is a {type(given).__name__}: give an image file as base64 text or bytes")
    with tempfile.TemporaryDirectory(prefix="huesong-") as folder:  # the safe decoder reads files
        path = Path(folder) / "picture"
        path.write_bytes(given)
        try:
            return decode(path, PreprocessConfig().max_pixels)
        except UserError as error:
            raise UserError(str(error).replace(str(path), "the picture")) from None


def number_in(number: int, row: dict[Any, Any], key: str) -> float | None:
    """A number of a row, None where it is missing or null."""
    value = row.get(key)
    if is_null(value):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UserError(f"row {number}: {key} {value!r} is no number") from None


def is_null(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, pandas' NA."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def emotion(kind: str, va: tuple[float, float] | None) -> dict[str, float | None]:
    """Two columns of the answer."""
    valence, arousal = va or (None, None)
    return {f"{kind}_valence": valence, f"{kind}_arousal": arousal}


def written(piece: Any, wanted: dict[str, Any]) -> dict[str, str | None]:
    """WAV and piano roll as base64 text, None where they are not wanted; and the report, as `Piece.save` writes them."""
    files = {"wav": "wav" if wanted["audio"] else None, "roll": "png" if wanted["roll"] else None, "report": "json"}
    with tempfile.TemporaryDirectory(prefix="huesong-") as folder:
        made: dict[str, str | None] = dict.fromkeys(files)
        for name, kind in files.items():
            if kind is not None:
                data = piece.save(Path(folder) / f"{name}.{kind}").read_bytes()
                made[name] = data.decode() if kind == "json" else base64.b64encode(data).decode("ascii")
        return made


set_model(HuesongModel())
