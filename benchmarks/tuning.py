"""What a model, or another way to sample from it, does to control accuracy and distance from the data, without any judge.

Usage: python benchmarks/tuning.py MODEL ... [--artifacts artifacts] [--candidates 1 8] [--steering 8] [--seeds 2] [--pictures 50]
For choices: the requests are the 25 emotions of the evaluation's grid with seeds that it does not use, and pictures of
split `val`. Pieces are scored by two models that have learnt from split `train`: the labeller, which also chooses among
candidates, and a scorer of the second judge's kind, which does not. Neither judge takes part, and nothing of split `test`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.config import EvaluateConfig, EvaluationSampling, SecondJudgeConfig
from huesong.emotion.labelled import MEASURED
from huesong.emotion.labellers import PieceLabeller
from huesong.evaluate.composing import compose_all
from huesong.evaluate.note_judge import SecondJudge
from huesong.evaluate.novelty import Library
from huesong.evaluate.stage import grid_requests
from huesong.model.folder import load_model
from huesong.music import features, reading, statistics
from huesong.report.tables import figure, number, table
from huesong.va import agreement

FIRST_SEED = 1000
"""The evaluation's seeds are small."""
HEAD = (
    "model", "candidates", "parts", "n", "distance, paper's form", "correct form", "PR", "PE", "GC, correct",
    "grid V CCC, labeller / scorer", "grid A CCC", "pictures V CCC", "pictures A CCC",
)  # fmt: skip


def requests(preprocess: Path, seeds: int, pictures: int) -> pd.DataFrame:
    """The grid, and the first pictures of split `val`, in the evaluation's table of requests."""
    images = pd.read_parquet(preprocess / contracts.IMAGES_TABLE)
    val = images[images["split"] == "val"].head(pictures)
    seen = pd.DataFrame({
        "set": "pictures", "request": val["id"], "image_id": val["id"], "image_group": val["group"],
        "image_path": val["path"], "row": val.index, "seed": FIRST_SEED,
    })  # fmt: skip
    return pd.concat([grid_requests(EvaluateConfig(seed=FIRST_SEED, grid_seeds=seeds)), seen], ignore_index=True)


def train_scorer(preprocess: Path, pieces: pd.DataFrame) -> SecondJudge:
    """A VA scorer of the second judge's kind that has learnt from split `train` in place of `judge`."""
    own = pieces.assign(split=np.where(pieces["split"] == "train", "judge", "none"))
    return SecondJudge.fit(own, Library(preprocess, pieces).notes, SecondJudgeConfig(), seed=FIRST_SEED)


def rows(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """A table row for each model, number of candidates and number of parts."""
    preprocess, label = arguments.artifacts / "preprocess", arguments.artifacts / "label"
    pieces = pd.read_parquet(preprocess / contracts.PIECES_TABLE)
    known = (pieces["split"] == "train") & pieces["label_kind"].isin(MEASURED)
    data = pd.read_parquet(preprocess / contracts.PIECE_STATISTICS)[known.to_numpy()]
    labeller, scorer = PieceLabeller.load(label / contracts.PIECE_LABELLER), train_scorer(preprocess, pieces)
    asked = requests(preprocess, arguments.seeds, arguments.pictures)
    for folder, candidates, parts in product(arguments.models, arguments.candidates, arguments.steering):
        config = EvaluateConfig(sampling=EvaluationSampling(candidates=candidates, steering=parts))
        with tempfile.TemporaryDirectory() as work:
            composed = compose_all(load_model(folder), asked, preprocess, config, Path(work) / contracts.COMPOSED)
            scores = [reading.read_score(Path(work) / name) for name in composed["file"]]
        likeness = statistics.compare(pd.DataFrame([statistics.statistics(score) for score in scores]), data)
        heard = (
            labeller.predict(pd.DataFrame([features.features(score) for score in scores])),
            scorer.predict([reading.listen(score) for score in scores]),
        )
        agreed = []
        for kind, axis in product(("grid", "pictures"), ("valence", "arousal")):
            own = (composed["set"] == kind).to_numpy()
            wanted = composed.loc[own, ["requested_valence", "requested_arousal"]].to_numpy()
            agreed.append(" / ".join(number(agreement(wanted, one[own])[f"{axis}_ccc"]) for one in heard))
        music = [figure(likeness, name) for name in ("distance_paper", "distance_correct")]
        music += [number(likeness[name]) for name in ("polyphony_rate", "pitch_entropy", "groove")]
        yield [str(folder), str(candidates), str(parts), str(len(scores)), *music, *agreed]


def main() -> None:
    """Compose, listen, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--candidates", type=int, nargs="+", default=[8])
    parser.add_argument("--steering", type=int, nargs="+", default=[8])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=50)
    print(table(HEAD, []))
    for row in rows(parser.parse_args()):
        print(table(row, []).partition("\n")[0], flush=True)


if __name__ == "__main__":
    main()
