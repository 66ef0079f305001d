"""Stage 4, evaluate: compose for held-out pictures and a grid of emotions; an independent judge says what is heard.

Every piece is written as MIDI, read back and judged as a listener would get it: nothing is measured on tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from huesong import artifacts, contracts
from huesong.config import EvaluateConfig, SamplingConfig
from huesong.emotion import plots
from huesong.emotion.judge import Judge
from huesong.emotion.space import agreement
from huesong.model.folder import Model, load_model
from huesong.model.sampling import Request, Sample, sample
from huesong.music import features, reading, statistics, tokens
from huesong.progress import log, track
from huesong.stages.evaluate_report import write_report

RATED = ("mean_rating", "mean_slider", "construction")
GRID_AXIS = (-0.8, -0.4, 0.0, 0.4, 0.8)
"""Both axes of the grid of requested emotions: 5 x 5 targets."""


@dataclass
class EvaluateReport:
    """What the stage measured; `files` are worth keeping with the tracked run."""

    metrics: dict[str, float]
    files: list[Path]


def run(config: EvaluateConfig, *, data: Path, preprocess: Path, label: Path, train: Path, out: Path) -> EvaluateReport:
    """Evaluate the model in `train` and write the folder `out` (contracts: metrics, requests, plots, report, judge).

    Args:
        data: raw data folder (for the pictures shown in the report).
        preprocess, label, train: artifact folders of the earlier stages.
        out: folder to write, replaced as a whole.

    Raises:
        UserError: an artifact is missing or damaged, or there is nothing to evaluate on.
    """
    pieces = pd.read_parquet(artifacts.require(preprocess / contracts.PIECES_TABLE, "huesong preprocess"))
    piece_features = pd.read_parquet(preprocess / contracts.PIECE_FEATURES)
    piece_statistics = pd.read_parquet(preprocess / contracts.PIECE_STATISTICS)
    piece_labels = pd.read_parquet(artifacts.require(label / contracts.PIECE_LABELS, "huesong label"))
    model = load_model(artifacts.require(train / contracts.MODEL, "huesong train"))

    log.info("evaluate: training the judge on its own groups")
    judge = Judge.fit(pieces, piece_features, seed=config.seed)
    judge_scores = judge.held_out(pieces, piece_features, bootstrap=config.bootstrap, seed=config.seed)

    with artifacts.replacing_folder(out) as work:
        asked = pd.concat([picture_requests(config, preprocess, label), grid_requests(config)], ignore_index=True)
        composed = compose_all(model, asked, preprocess, config, work / contracts.COMPOSED)
        heard = listen(composed, judge, work)
        heard = pd.concat([heard, retrieval(heard, pieces, piece_labels, piece_features, judge)], axis=1)

        reference = piece_statistics[pieces["label_kind"].isin(RATED).to_numpy()]
        metrics = measure(heard, reference, judge_scores, config)
        bins = [name for names in statistics.VECTOR_COLUMNS.values() for name in names]
        heard.drop(columns=bins).to_csv(work / contracts.REQUESTS, index=False, float_format="%.5f")
        judge.save(work / contracts.JUDGE)
        artifacts.write_json(work / contracts.METRICS, metrics)
        (work / contracts.PLOTS).mkdir()
        plots.evaluation_plots(heard, reference, list(statistics.SCALAR_STATISTICS), work / contracts.PLOTS)
        write_report(work, heard, metrics, judge_scores, data=data, shown=config.report_pieces)
    flat = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
    files = [out / contracts.METRICS, out / contracts.REQUESTS, out / contracts.REPORT]
    return EvaluateReport(flat, [*files, *sorted((out / contracts.PLOTS).glob("*.png"))])


def picture_requests(config: EvaluateConfig, preprocess: Path, label: Path) -> pd.DataFrame:
    """One row for every piece to compose for a picture of the test split; the model itself reads the emotion."""
    images = pd.read_parquet(preprocess / contracts.IMAGES_TABLE)
    labels = pd.read_parquet(label / contracts.IMAGE_LABELS).set_index("id")
    test = images[images["split"] == "test"].head(config.max_pictures)
    rows = [
        {
            "set": "pictures",
            "request": f"{row.id}-{k}",
            "image_id": row.id,
            "image_path": row.path,
            "row": row.Index,
            "seed": config.seed + k,
            "picture_valence": labels.loc[row.id, "valence"],
            "picture_arousal": labels.loc[row.id, "arousal"],
        }
        for row in test.itertuples()
        for k in range(config.per_picture)
    ]
    return pd.DataFrame(rows)


def grid_requests(config: EvaluateConfig) -> pd.DataFrame:
    """5 x 5 emotions, each with `grid_seeds` seeds and no picture."""
    rows = [
        {
            "set": "grid",
            "request": f"v{valence:+.1f}a{arousal:+.1f}-{k}",
            "image_id": "",
            "image_path": "",
            "row": -1,
            "seed": config.seed + k,
            "asked_valence": valence,
            "asked_arousal": arousal,
        }
        for valence in GRID_AXIS
        for arousal in GRID_AXIS
        for k in range(config.grid_seeds)
    ]
    return pd.DataFrame(rows)


def compose_all(
    model: Model, asked: pd.DataFrame, preprocess: Path, config: EvaluateConfig, folder: Path
) -> pd.DataFrame:
    """Sample every request in batches and write the pieces as MIDI files into `folder`."""
    pictures = np.load(preprocess / contracts.PICTURE_FEATURES, mmap_mode="r", allow_pickle=False)
    tokenizer = tokens.load(model.folder / contracts.TOKENIZER)
    folder.mkdir()
    starts = range(0, len(asked), config.batch_size)
    samples: list[Sample] = []
    for start in track(starts, "evaluate: composing batches"):
        batch = asked.iloc[start : start + config.batch_size]
        samples += sample(
            model, [request(row, pictures, config.sampling) for _, row in batch.iterrows()], config.sampling
        )
    composed = asked.copy()
    composed["file"] = [f"{contracts.COMPOSED}/{name}.mid" for name in file_names(asked["request"])]
    for name, piece in zip(composed["file"], samples, strict=True):
        tokens.decode(tokenizer, piece.ids).dump_midi(folder.parent / name)
    for column, values in (
        ("requested", [s.requested for s in samples]),
        ("predicted", [s.predicted for s in samples]),
        ("critic", [s.critic for s in samples]),
    ):
        composed[[f"{column}_valence", f"{column}_arousal"]] = np.asarray(values, dtype=np.float64)
    composed["ids"] = [",".join(map(str, s.ids)) for s in samples]
    composed["invalid_tokens"] = [model.grammar.count_violations(s.ids) for s in samples]
    return composed


def request(row: pd.Series, pictures: np.ndarray, sampling: SamplingConfig) -> Request:
    """A row of the request table as the sampler takes it."""
    has_picture = row["row"] >= 0
    return Request(
        picture=pictures[int(row["row"])] if has_picture else None,
        valence=None if has_picture else float(row["asked_valence"]),
        arousal=None if has_picture else float(row["asked_arousal"]),
        seed=int(row["seed"]),
        seconds=sampling.seconds,
    )


def file_names(requests: pd.Series) -> list[str]:
    """Request names as file names: numbered, so that two ids never meet in one name."""
    return [f"{i:04d}-{''.join(c if c.isalnum() or c in '-+._' else '_' for c in r)}" for i, r in enumerate(requests)]


def listen(composed: pd.DataFrame, judge: Judge, work: Path) -> pd.DataFrame:
    """Read every written file back: its statistics, length, and the valence and arousal the judge hears."""
    scores = [reading.read_score(work / name) for name in composed["file"]]
    hand = pd.DataFrame([features.features(score) for score in scores])
    stats = pd.DataFrame([statistics.statistics(score) for score in scores])
    heard = composed.copy()
    heard[["obtained_valence", "obtained_arousal"]] = judge.predict(hand)
    heard["seconds"] = [score.copy().to("second").end() for score in scores]
    identical = heard["ids"].duplicated(keep=False)
    heard["identical"] = identical.astype(int)
    return pd.concat([heard.drop(columns="ids"), stats], axis=1)


def retrieval(
    heard: pd.DataFrame, pieces: pd.DataFrame, labels: pd.DataFrame, piece_features: pd.DataFrame, judge: Judge
) -> pd.DataFrame:
    """The baseline: for every request the nearest training piece in VA space, heard by the same judge."""
    usable = np.flatnonzero((pieces["split"] == "train").to_numpy())
    library = labels[["valence", "arousal"]].to_numpy()[usable]
    asked = heard[["requested_valence", "requested_arousal"]].to_numpy()
    nearest = np.array([np.argmin(((library - point) ** 2).sum(axis=1)) for point in asked])
    found = judge.predict(piece_features.iloc[usable[nearest]].reset_index(drop=True))
    return pd.DataFrame(found, columns=["retrieved_valence", "retrieved_arousal"])


def measure(
    heard: pd.DataFrame, reference: pd.DataFrame, judge_scores: dict[str, float], config: EvaluateConfig
) -> dict[str, float]:
    """All figures of the stage, flat. Keys of picture requests have no prefix, those of the grid `grid_`."""
    metrics: dict[str, float] = {f"judge_{key}": value for key, value in judge_scores.items()}
    bootstrap = {"bootstrap": config.bootstrap, "seed": config.seed}
    for name, prefix in (("pictures", ""), ("grid", "grid_")):
        part = heard[heard["set"] == name]
        if part.empty:
            continue
        asked = part[["requested_valence", "requested_arousal"]].to_numpy()
        for obtained, kind in (("obtained", ""), ("retrieved", "retrieval_")):
            got = part[[f"{obtained}_valence", f"{obtained}_arousal"]].to_numpy()
            metrics |= {f"{prefix}{kind}{key}": value for key, value in agreement(asked, got, **bootstrap).items()}
    shown = heard[heard["set"] == "pictures"]
    obtained = shown[["obtained_valence", "obtained_arousal"]].to_numpy()
    seen = shown[["picture_valence", "picture_arousal"]].to_numpy()
    metrics |= {f"picture_{key}": value for key, value in agreement(seen, obtained, **bootstrap).items()}
    predicted = shown.drop_duplicates("image_id")
    metrics |= {
        f"image_head_{key}": value
        for key, value in agreement(
            predicted[["picture_valence", "picture_arousal"]].to_numpy(),
            predicted[["predicted_valence", "predicted_arousal"]].to_numpy(),
            **bootstrap,
        ).items()
    }
    metrics["pieces"] = len(heard)
    metrics["identical_share"] = float(heard["identical"].mean())
    metrics["invalid_tokens"] = int(heard["invalid_tokens"].sum())
    close = (heard["seconds"] - config.sampling.seconds).abs() <= 0.1 * config.sampling.seconds
    metrics["length_within_10_percent"] = float(close.mean())
    metrics |= statistics.compare(heard, reference, **bootstrap)
    return metrics
