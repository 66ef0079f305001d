"""How well a film's music follows its pictures: correlation of the emotion asked and heard over the sections of several films.

    python benchmarks/film.py PREPROCESS DATA [--model FOLDER] [--films 12] [--pictures 8] [--split test] [--page PAGE]

PREPROCESS: the folder of that stage, made with all rated sets; both judges of the evaluation are trained on its split `judge`.
DATA: the data folder that it was made from; pictures of a split are drawn by chance. Prints a table, and the quietest quarter
of a second of all films; `--page` writes both between `<!-- course -->` and `<!-- /course -->` of a page.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from symusic import Score

from huesong import contracts
from huesong.compose.composer import Composer
from huesong.config import EvaluateConfig, SamplingConfig
from huesong.evaluate.stage import train_judges
from huesong.film.composing import compose_phrases
from huesong.film.course import course_of, emotions_of
from huesong.film.make import Wanted, sections_of, sound_of
from huesong.music.reading import parse_score
from huesong.report.tables import put_into, table
from huesong.va import AXES, Bootstrap, pearson

QUARTER = 0.25
"""Seconds over which loudness is looked at."""


def row(name: str, asked_S2: np.ndarray, heard_S2: np.ndarray, films_S: np.ndarray) -> list[str]:
    """r of both axes with the interval over films."""
    cells = []
    for axis in range(len(AXES)):
        wanted, got = asked_S2[:, axis], heard_S2[:, axis]
        low, high = Bootstrap().over(films_S).interval(pearson, wanted, got) or (np.nan, np.nan)
        cells.append(f"{float(pearson(wanted, got)):.2f} [{low:.2f}, {high:.2f}]")
    return [name, str(len(asked_S2)), *cells]


def quietest(samples: np.ndarray, rate: int, fade_s: float) -> float:
    """The level of the quietest QUARTER second before the closing fade, dB of full scale (RMS)."""
    step = round(QUARTER * rate)
    count = max(1, round((len(samples) - fade_s * rate) // step))
    power = (samples[: count * step].astype(np.float64) ** 2).reshape(count, -1).mean(axis=1)
    return float(10 * np.log10(max(float(power.min()), 1e-12)))


def main() -> None:
    """Compose, hear, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preprocess", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--films", type=int, default=12)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--split", default="test")
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    images = pd.read_parquet(arguments.preprocess / contracts.IMAGES_TABLE)
    paths = [arguments.data / path for path in images.path[images.split == arguments.split]]
    composer = Composer.load(arguments.model)
    asked, chosen, parts, quiet, seconds = [], [], [], [], 0.0
    for film in range(arguments.films):
        drawn = np.random.default_rng(film).choice(len(paths), arguments.pictures, replace=False)
        read, emotions, _ = emotions_of(composer, [paths[index] for index in drawn])
        course = course_of(read, emotions, None, None, film)
        piece = compose_phrases(composer, course, SamplingConfig())
        sections: list[Score] = sections_of(piece, course)
        assert composer.scorer is not None, "the model has a labeller"
        asked.append(np.array(emotions))
        chosen.append(np.array(composer.scorer.of_scores(sections)).reshape(-1, 2))
        parts += [parse_score(bytes(part.dumps_midi())) for part in sections]
        quiet.append(quietest(*sound_of(piece, course, Wanted()), fade_s=1.0))
        seconds += course.seconds
        print(f"film {film + 1}: {len(read)} sections, {course.seconds:g} s", flush=True)
    judges = train_judges(EvaluateConfig(), arguments.preprocess)
    found = judges.of_scores(parts)
    asked_S2 = np.concatenate(asked)
    films_S = np.repeat(np.arange(len(asked)), [len(one) for one in asked])
    rows = [
        row("first judge", asked_S2, found[[f"obtained_{axis}" for axis in AXES]].to_numpy(), films_S),
        row("second judge", asked_S2, found[[f"second_{axis}" for axis in AXES]].to_numpy(), films_S),
        row("labeller, which chose", asked_S2, np.concatenate(chosen), films_S),
    ]
    text = (
        f"{table(('heard by', 'sections', 'valence r', 'arousal r'), rows)}\n\n"
        f"On {datetime.date.today()}: {len(asked)} films of {arguments.pictures} pictures of split `{arguments.split}`, "
        f"{seconds:g} s in all; the quietest quarter of a second of any film has {min(quiet):.0f} dB of full scale (RMS).\n"
    )
    print(text)
    if arguments.page:
        put_into(arguments.page, "course", text)


if __name__ == "__main__":
    main()
