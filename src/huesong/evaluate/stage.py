"""Stage 4, evaluate: compose for held-out pictures and a grid of emotions; two independent judges say how it sounds.

Every piece is written as MIDI, read back and judged as a listener would get it: nothing is measured on what was sampled.
The protocol is docs/evaluation.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.config import EvaluateConfig
from huesong.emotion.labelled import MEASURED, by_piece, label_weights, scores_by_source
from huesong.evaluate.baselines import REQUESTED, baseline_answers, spread
from huesong.evaluate.composing import compose_all, play_all
from huesong.evaluate.feature_judge import Judge
from huesong.evaluate.judges import VERDICT_COLUMNS, VERDICTS, Judges
from huesong.evaluate.metrics import calibration_table, measure, novelty
from huesong.evaluate.note_judge import SecondJudge
from huesong.evaluate.novelty import Library
from huesong.evaluate.quality.group import quality_figures
from huesong.evaluate.report import write_pieces, write_report
from huesong.model.dataset import load_examples
from huesong.model.folder import Model, load_model
from huesong.music import reading, statistics
from huesong.music.vocabulary import Vocabulary
from huesong.report import plots
from huesong.runtime import files as artifacts
from huesong.runtime.progress import log, track
from huesong.tracking.figures import write_figures
from huesong.va import Bootstrap

OWN = (contracts.METRICS, contracts.REQUESTS)
"""What a folder holds that this stage wrote."""
GRID_AXIS = (-0.8, -0.4, 0.0, 0.4, 0.8)
"""Both axes of the grid of requested emotions: 5 x 5 targets."""


@dataclass
class EvaluateReport:
    """What the stage measured; `files` are worth keeping with the tracked run. `out`: its folder, `data`: raw data."""

    metrics: dict[str, float]
    files: list[Path]
    out: Path
    data: Path

    def pieces(self, folder: Path) -> list[str]:
        """A few pieces for the page of the tracked run, as files in `folder`; their titles."""
        return write_pieces(self.out, self.data, folder)


def run(
    config: EvaluateConfig,
    *,
    data: Path,
    preprocess: Path,
    label: Path,
    train: Path,
    out: Path,
    judges: Judges | None = None,
) -> EvaluateReport:
    """Evaluate the model in `train` and write the folder `out` (contracts: metrics, requests, plots, report, judge).

    Args:
        data: raw data folder (for the pictures shown in the report).
        preprocess, label, train: artifact folders of the earlier stages.
        out: folder to write, replaced as a whole.
        judges: those of `train_judges` on the same artifacts, where several models are evaluated; None = train them.

    Raises:
        UserError: an artifact is missing or damaged, or there is nothing to evaluate on.
    """
    artifacts.check_replaceable(out, OWN, [preprocess, label, train])
    pieces = pd.read_parquet(artifacts.require(preprocess / contracts.PIECES_TABLE, "huesong preprocess"))
    piece_labels = pd.read_parquet(artifacts.require(label / contracts.PIECE_LABELS, "huesong label"))
    model = load_model(artifacts.require(train / contracts.MODEL, "huesong train"))
    judges = judges or train_judges(config, preprocess)
    reference = judges.statistics[pieces["label_kind"].isin(MEASURED).to_numpy()]
    trained_on = training_music(judges, label)

    with artifacts.replacing_folder(out, OWN, [preprocess, label, train]) as work:
        asked = pd.concat([picture_requests(config, preprocess, label), grid_requests(config)], ignore_index=True)
        judged = judge_files(compose_all(model, asked, preprocess, config, work / contracts.COMPOSED), judges, work)
        baselines = baseline_answers(judged, model, judges, pieces, piece_labels, config) if config.baselines else {}

        metrics = judges.scores | critic_scores(model, pieces, preprocess, label, config)
        metrics |= measure(judged, baselines, reference, trained_on, config)
        copies, judged["copied_notes"] = novelty(judged, baselines, judges.library, pieces["split"], config)
        metrics |= copies | musical_quality(judged, judges, pieces, config, work)
        write_tables(work, judged, baselines, config)
        judges.first.save(work / contracts.JUDGE)
        write_figures(work, "evaluate", metrics)
        (work / contracts.PLOTS).mkdir()
        names = list(statistics.SCALAR_STATISTICS)
        plots.evaluation_plots(judged, reference, names, VERDICTS, work / contracts.PLOTS)
        write_report(work, play_all(judged, work, config), metrics, data=data, shown=config.report_pieces)
    tables = (
        contracts.METRICS,
        contracts.FIGURES,
        contracts.REQUESTS,
        contracts.LADDER,
        contracts.CALIBRATION,
        contracts.REPORT,
    )
    files = [out / name for name in tables if (out / name).exists()]
    return EvaluateReport(metrics, [*files, *sorted((out / contracts.PLOTS).glob("*.png"))], out, data)


def train_judges(config: EvaluateConfig, preprocess: Path) -> Judges:
    """Both judges, with their own scores on rated music of split `test`.

    Of the settings only `seed`, `bootstrap` and `second_judge` matter.
    """
    pieces = pd.read_parquet(artifacts.require(preprocess / contracts.PIECES_TABLE, "huesong preprocess"))
    piece_features = pd.read_parquet(preprocess / contracts.PIECE_FEATURES)
    library = Library(preprocess, pieces)
    bootstrap = Bootstrap(config.bootstrap, config.seed)
    log.info("evaluate: training the judges on their own groups")
    first = Judge.fit(pieces, piece_features, seed=config.seed)
    second = SecondJudge.fit(pieces, library.notes, config.second_judge, seed=config.seed)
    scores = {
        **{f"judge_{key}": value for key, value in first.held_out(pieces, piece_features, bootstrap).items()},
        **{f"second_judge_{key}": value for key, value in second.held_out(pieces, library.notes, bootstrap).items()},
    }
    piece_statistics = pd.read_parquet(preprocess / contracts.PIECE_STATISTICS)
    return Judges(first, second, library, piece_features, piece_statistics, scores)


def training_music(judges: Judges, label: Path) -> pd.DataFrame:
    """Statistics of the music in the training pairs, as often as a pair names it: that is how often the model reads it."""
    pairs = pd.read_parquet(artifacts.require(label / contracts.PAIRS, "huesong label"))
    return judges.statistics.set_index("id").loc[pairs.loc[pairs["split"] == "train", "piece_id"]]


def critic_scores(
    model: Model, pieces: pd.DataFrame, preprocess: Path, label: Path, config: EvaluateConfig
) -> dict[str, float]:
    """The frozen critic's own scores, on the music that the judges are measured on (`critic_*`).

    The figures of the train stage are on split `val`, which also chose when its training stopped. None of a model from
    elsewhere, whose critic reads another vocabulary than these pieces are written in.
    """
    if model.vocabulary.digest != Vocabulary.load(preprocess / contracts.VOCABULARY).digest:
        log.info("evaluate: the critic reads another vocabulary than that of %s: it is not scored", preprocess)
        return {}
    rows = ((pieces["split"] == "test") & (label_weights(pieces) > 0) & (pieces["token_count"] > 0)).to_numpy()
    if rows.sum() < 2:
        return {}
    context, music = model.network.config.context, load_examples(preprocess, label).pieces
    spans = zip(music.start_N[rows].tolist(), music.count_N[rows].tolist(), strict=True)
    heard = np.array([model.critic(music.tokens[start : start + min(count, context)]) for start, count in spans])
    own = scores_by_source(by_piece(pieces[rows], heard), Bootstrap(config.bootstrap, config.seed))
    return {f"critic_{key}": value for key, value in own.items()}


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
            "image_group": row.group,
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
            "image_group": "",
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


def judge_files(composed: pd.DataFrame, judges: Judges, work: Path) -> pd.DataFrame:
    """What both judges and the statistics say of every written file, read back, beside what was asked."""
    found = judges.of_scores(
        [reading.read_score(work / name) for name in track(composed["file"], "evaluate: reading the pieces")]
    )
    found["identical"] = found["piece"].duplicated(keep=False).astype(int)
    return pd.concat([composed, found], axis=1)


def musical_quality(
    judged: pd.DataFrame, judges: Judges, pieces: pd.DataFrame, config: EvaluateConfig, work: Path
) -> dict[str, float]:
    """`quality_*` of at most `config.quality_pieces` of the written files, evenly spread; nothing if that is 0."""
    rows = judged.iloc[spread(len(judged), config.quality_pieces)] if config.quality_pieces else judged.head(0)
    if rows.empty:
        return {}
    scores = [reading.read_score(work / name) for name in rows["file"]]
    bootstrap = Bootstrap(config.bootstrap, config.seed)
    return quality_figures(scores, rows, judges.library, pieces, config.sampling.seconds, bootstrap)


def write_tables(work: Path, judged: pd.DataFrame, baselines: dict[str, pd.DataFrame], config: EvaluateConfig) -> None:
    """REQUESTS, LADDER and CALIBRATION: what the figures were computed from."""
    bins = [name for names in statistics.VECTOR_COLUMNS.values() for name in names]
    judged.drop(columns=[*bins, "symbols"]).to_csv(work / contracts.REQUESTS, index=False, float_format="%.5f")
    calibration_table(judged, config).to_csv(work / contracts.CALIBRATION, index=False, float_format="%.5f")
    if baselines:
        kept = ["set", "request", *REQUESTED, *VERDICT_COLUMNS, "piece", *statistics.SCALAR_STATISTICS]
        rows = [answers[kept].assign(baseline=name) for name, answers in baselines.items()]
        pd.concat(rows).to_csv(work / contracts.LADDER, index=False, float_format="%.5f")
