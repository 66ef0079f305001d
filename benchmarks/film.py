"""How well a film's music follows its pictures: correlation of the emotion asked and heard over the sections of several films.

Usage: python benchmarks/film.py LABELS_CSV [--model FOLDER] [--judge JUDGE] [--films 4] [--pictures 8] [--candidates 4]
LABELS_CSV: a table with columns `path` (from the folder two levels above it) and `split`; pictures of split `train` are drawn
by chance. JUDGE: the first judge of an evaluation, which shares no music with the labeller that chooses. Prints a table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from symusic import Score

from huesong.compose.composer import Composer
from huesong.config import SamplingConfig
from huesong.evaluate.feature_judge import Judge
from huesong.film.composing import compose_phrases
from huesong.film.course import course_of, emotions_of
from huesong.film.make import sections_of
from huesong.music import features
from huesong.report.tables import table
from huesong.va import AXES, Bootstrap, pearson


def heard_by(judge: Judge, parts: list[Score]) -> np.ndarray:
    """Valence and arousal [S, 2] of sections that sound."""
    return judge.predict(pd.DataFrame([features.features(part) for part in parts]))


def row(name: str, asked_S2: np.ndarray, heard_S2: np.ndarray, films_S: np.ndarray) -> list[str]:
    """r of both axes with the interval over films."""
    cells = []
    for axis in range(len(AXES)):
        wanted, got = asked_S2[:, axis], heard_S2[:, axis]
        low, high = Bootstrap().over(films_S).interval(pearson, wanted, got) or (np.nan, np.nan)
        cells.append(f"{float(pearson(wanted, got)):.2f} [{low:.2f}, {high:.2f}]")
    return [name, str(len(asked_S2)), *cells]


def main() -> None:
    """Compose, hear, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--films", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--candidates", type=int, default=4)
    arguments = parser.parse_args()
    labels = pd.read_csv(arguments.labels)
    paths = [arguments.labels.parents[2] / path for path in labels.path[labels.split == "train"]]
    composer, asked, heard, judged = Composer.load(arguments.model), [], [], []
    judge = Judge.load(arguments.judge) if arguments.judge else None
    for film in range(arguments.films):
        drawn = np.random.default_rng(film).choice(len(paths), arguments.pictures, replace=False)
        read, emotions, _ = emotions_of(composer, [paths[index] for index in drawn])
        course = course_of(read, emotions, None, None, film)
        config = SamplingConfig(candidates=arguments.candidates)
        piece = compose_phrases(composer, course, config)
        parts = sections_of(piece, course)
        assert composer.scorer is not None, "the model has a labeller"
        asked.append(np.array(emotions))
        heard.append(composer.scorer.of_scores(parts).reshape(-1, 2))
        judged.append(heard_by(judge, parts) if judge else np.zeros((len(parts), 0)))
        print(f"film {film + 1}: {len(read)} sections, {course.seconds:g} s", flush=True)
    films_S = np.repeat(np.arange(len(asked)), [len(one) for one in asked])
    rows = [row("labeller, which chose", np.concatenate(asked), np.concatenate(heard), films_S)]
    if judge:
        rows.append(row("independent judge", np.concatenate(asked), np.concatenate(judged), films_S))
    print(table(("heard by", "sections", "valence r", "arousal r"), rows))


if __name__ == "__main__":
    main()
