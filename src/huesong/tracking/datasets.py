"""The data of a run as MLflow shows it: pictures and music, for training and for evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huesong import contracts

TRAINING, EVALUATION = "training", "evaluation"
USES = {TRAINING: ("train", "val"), EVALUATION: ("judge", "test")}
"""What data are for -> their splits (contracts.SPLITS); also MLflow's context."""
OF_STAGE = {"train": (TRAINING,), "evaluate": (EVALUATION,)}
"""What a stage reads; the others read all."""
TABLES = {"pictures": contracts.IMAGES_TABLE, "music": contracts.PIECES_TABLE}
CONTEXT = "mlflow.data.context"
COLUMNS = (*contracts.RAW_COLUMNS, "seconds", "n_notes")


def datasets(stage: str, preprocess: Path, version: str) -> list[dict[str, str]]:
    """What a stage reads, a set for every table and use: `name`, `digest`, `context`, `source`, `schema`, `profile`.

    The digest is that of the set's rows, so that a run that was given the same rows shows the same. The profile has the
    number of rows, of groups, the rows of every source with licence and kind of label, and the data version.

    Args:
        stage: one of contracts.STAGES.
        preprocess: artifacts/preprocess.
        version: the data version, "" where it is not known.

    Raises:
        OSError, ValueError: a table is not there or cannot be read.
    """
    import pandas as pd

    found = []
    for kind, name in TABLES.items():
        table = pd.read_parquet(preprocess / name)
        table = table[[column for column in COLUMNS if column in table.columns]]
        for use in OF_STAGE.get(stage, tuple(USES)):
            if len(rows := table[table["split"].isin(USES[use])]):
                found.append(_described(f"{kind} for {use}", use, rows, preprocess / name, version))
    return found


def _described(name: str, use: str, rows: Any, path: Path, version: str) -> dict[str, str]:
    by = ["source", "licence", "label_kind"]
    sources = [
        {**dict(zip(by, map(str, key), strict=True)), "rows": len(part)} for key, part in rows.fillna("").groupby(by)
    ]
    profile = {"num_rows": len(rows), "groups": rows["group"].nunique(), "sources": sources, "data_version": version}
    columns = [
        {"name": column, "type": "double" if rows[column].dtype.kind in "fiu" else "string"} for column in rows.columns
    ]
    return {
        "name": name,
        "digest": hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()[:16],
        "context": use,
        "source": json.dumps({"uri": str(path.resolve())}),
        "schema": json.dumps({"mlflow_colspec": columns}),
        "profile": json.dumps(profile),
    }


def dataset_input(described: Mapping[str, str]) -> Any:
    """One of `datasets` as MLflow takes it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    given = {key: value for key, value in described.items() if key != "context"}
    return DatasetInput(Dataset(**given, source_type="local"), [InputTag(CONTEXT, described["context"])])


def evaluated_on(inputs: Sequence[Any]) -> dict[str, str]:
    """Name and digest of the pictures that a run's model was evaluated on, as a metric names them; empty: not known."""
    for one in inputs:
        context = {tag.key: tag.value for tag in one.tags}.get(CONTEXT)
        if context == EVALUATION and one.dataset.name.startswith("pictures"):
            return {"dataset_name": one.dataset.name, "dataset_digest": one.dataset.digest}
    return {}
