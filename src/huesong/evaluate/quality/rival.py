"""A new model against the champion: both answer the same requests, and the same judge hears both (docs/registry.md).

The champion is evaluated anew for every challenger, since figures of two evaluations differ by their judge and data as well.
Each difference has an interval by a paired bootstrap: requests are drawn, each with both answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.config import EvaluateConfig, PreprocessConfig, SamplingConfig
from huesong.emotion.labelled import MEASURED
from huesong.emotion.scorer import LabellerScorer
from huesong.evaluate.composing import compose_all
from huesong.evaluate.feature_judge import Judge
from huesong.evaluate.metrics import SETS
from huesong.model.folder import load_model
from huesong.model.requests import Request
from huesong.model.sampling import sample
from huesong.music import features, reading, statistics
from huesong.pictures.decode import decode
from huesong.pictures.encoders import Encoder, read_settings
from huesong.register import stage as register
from huesong.register.card import built_only
from huesong.register.gate import LATENCY, load_gate
from huesong.register.registry import DIGEST, Registry
from huesong.runtime import files as artifacts
from huesong.runtime.progress import log, track
from huesong.va import AXES, Bootstrap, ccc, clusters, quadrant

ASKED = (
    "set", "request", "image_id", "image_group", "image_path", "row", "seed", "picture_valence", "picture_arousal",
    "asked_valence", "asked_arousal",
)  # fmt: skip
PAPER = ("polyphony_rate", "pitch_entropy", "groove_paper")
Differences = dict[str, dict[str, float]]
"""Figure -> `value` of the new model, `champion`, and `low`, `high` of their difference."""


@dataclass(frozen=True)
class Rivalry:
    """Where the new model's artifacts are, and where what was found about it is kept.

    train, evaluate, preprocess: artifact folders. data: raw data folder, for a champion that reads pictures by another
    encoder. kept: folder of files, one for each model and champion.
    """

    train: Path
    evaluate: Path
    preprocess: Path
    data: Path
    kept: Path
    config: EvaluateConfig

    def prepare(self, gate: Path, registry: Registry) -> None:
        """Measure all that a gate asks of the model beside its evaluation, for register.stage.Measured.

        Args:
            gate: mlflow/gate.yaml.
            registry: where the champion is.
        """
        folder = self.train / contracts.MODEL
        config = artifacts.read_json(folder / contracts.MODEL_CONFIG, "huesong train")
        policy = load_gate(gate).of(built_only(config))
        self.kept.mkdir(parents=True, exist_ok=True)
        artifacts.write_json(self.kept / register.MEASURED, self.measured() if LATENCY in policy.absolute else {})
        champion = registry.by_alias(contracts.CHAMPION)
        digest = champion.tags.get(DIGEST, champion.version) if champion else ""
        own = digest == artifacts.folder_digest(folder)
        if champion and policy.gain and not own and register.of_one_kind(champion, config):
            self.against(lambda: registry.folder(champion), digest)

    def measured(self) -> dict[str, float]:
        """LATENCY of the new model, with the settings that everybody who composes gets."""
        folder = self.train / contracts.MODEL
        model, scorer = load_model(folder), LabellerScorer.of_model(folder)
        started = time.perf_counter()
        sample(model, [Request(None, 0.0, 0.0, seconds=30.0)], SamplingConfig(), scorer=scorer)
        return {LATENCY: round(time.perf_counter() - started, 3)}

    def against(self, champion: Callable[[], Path], digest: str) -> Differences:
        """The differences from a champion, measured once for each champion, judge and set of answers.

        Args:
            champion: finds its model folder, where that is needed.
            digest: SHA-256 of that folder.
        """
        requests = artifacts.require(self.evaluate / contracts.REQUESTS, "huesong evaluate")
        judge = artifacts.require(self.evaluate / contracts.JUDGE, "huesong evaluate")
        key = {"champion": digest, "requests": artifacts.sha256(requests), "judge": artifacts.sha256(judge)}
        path = self.kept / f"{digest[:16]}-{key['requests'][:16]}.json"
        if path.is_file():
            known = json.loads(path.read_text(encoding="utf-8"))
            if {name: known.get(name) for name in key} == key:
                return dict(known["differences"])
        log.info("register: the champion answers the requests of the evaluation")
        own = read_requests(requests)
        theirs = self.answers(champion(), own, Judge.load(judge))
        found = differences(own, theirs, self._reference(), self.config)
        artifacts.write_json(path, {**key, "differences": found})
        return found

    def answers(self, champion: Path, own: pd.DataFrame, judge: Judge) -> pd.DataFrame:
        """The champion's answers to the requests of `own`, in its order, as the judge and the statistics find them."""
        asked = own[list(ASKED)].copy()
        with artifacts.scratch(self.kept / "rival") as work:
            pictures = self._pictures(champion, asked, work)
            composed = compose_all(load_model(champion), asked, pictures, self.config, work / contracts.COMPOSED)
            names = track(composed["file"], "register: reading the champion's pieces")
            scores = [reading.read_score(work / name) for name in names]
        heard = judge.predict(pd.DataFrame([features.features(score) for score in scores]))
        found = pd.DataFrame(heard, columns=[f"obtained_{axis}" for axis in AXES])
        found["seconds"] = [float(reading.listen(score).end_s.max(initial=0.0)) for score in scores]
        return pd.concat([composed, found, pd.DataFrame([statistics.statistics(score) for score in scores])], axis=1)

    def _pictures(self, champion: Path, asked: pd.DataFrame, work: Path) -> Path:
        """The folder with the pictures' features as the champion's own encoder sees them; `asked` then names its rows."""
        encoder = champion / contracts.ENCODER
        if read_settings(encoder) == read_settings(self.preprocess / contracts.ENCODER):
            return self.preprocess
        shown = asked[asked["row"] >= 0].drop_duplicates("row")
        images = (decode(self.data / path, PreprocessConfig().max_pixels) for path in shown["image_path"])
        np.save(work / contracts.PICTURE_FEATURES, Encoder.load(encoder, many=True).encode(images))
        place = {row: number for number, row in enumerate(shown["row"])}
        asked["row"] = [place.get(row, -1) for row in asked["row"]]
        return work

    def _reference(self) -> np.ndarray:
        """Means of PAPER over rated real music."""
        pieces = pd.read_parquet(artifacts.require(self.preprocess / contracts.PIECES_TABLE, "huesong preprocess"))
        found = pd.read_parquet(self.preprocess / contracts.PIECE_STATISTICS)
        return found[pieces["label_kind"].isin(MEASURED).to_numpy()][list(PAPER)].to_numpy(float).mean(axis=0)


def read_requests(path: Path) -> pd.DataFrame:
    """contracts.REQUESTS, its text columns as text."""
    text = {name: str for name in ("set", "request", "image_id", "image_group", "image_path", "piece")}
    return pd.read_csv(path, dtype=text, keep_default_na=True).fillna({name: "" for name in text})


def differences(own: pd.DataFrame, theirs: pd.DataFrame, reference: np.ndarray, config: EvaluateConfig) -> Differences:
    """The figures of both, and the interval of their difference.

    Args:
        own, theirs: answers to the same requests in the same order.
        reference: means of PAPER in the data.
        config: bootstrap, seed, asked length.
    """
    found: Differences = {}

    def note(name: str, bootstrap: Bootstrap, figure: Callable[..., np.ndarray], ours: Any, others: Any) -> None:
        half = len(ours)

        def difference(*values: np.ndarray) -> np.ndarray:
            return figure(*values[:half]) - figure(*values[half:])

        value, champion = float(figure(*ours)), float(figure(*others))
        interval = bootstrap.interval(difference, *ours, *others)
        if np.isfinite([value, champion]).all() and interval is not None:
            found[name] = {"value": value, "champion": champion, "low": interval[0], "high": interval[1]}

    every = Bootstrap(config.bootstrap, config.seed).over(clusters(own))
    for name, prefix in SETS.items():
        rows = (own["set"] == name).to_numpy()
        if not rows.any():
            continue
        a, b, drawn = own[rows], theirs[rows], every.among(rows)
        for axis in AXES:
            pair = [(f[f"requested_{axis}"].to_numpy(float), f[f"obtained_{axis}"].to_numpy(float)) for f in (a, b)]
            note(f"{prefix}{axis}_ccc", drawn, ccc, *pair)
        hits, both = _hits(a, b)
        note(f"{prefix}quadrant_accuracy", drawn.among(both), _mean, *[(hit[both].astype(float),) for hit in hits])
    close = [((f["seconds"] - config.sampling.seconds).abs() <= 0.1 * config.sampling.seconds) for f in (own, theirs)]
    note("length_within_10_percent", every, _mean, *[(hit.to_numpy(float),) for hit in close])
    unit = np.where(reference > 0, reference, 1.0)

    def distance(*columns: np.ndarray) -> np.ndarray:
        means = np.stack([column.mean(axis=-1) for column in columns], axis=-1)
        return (np.abs(means - reference) / unit).sum(axis=-1)

    note("distance_paper", every, distance, *[tuple(f[name].to_numpy(float) for name in PAPER) for f in (own, theirs)])
    return found


def _hits(a: pd.DataFrame, b: pd.DataFrame) -> tuple[list[np.ndarray], np.ndarray]:
    """Of both whether each piece is heard in the asked quadrant, and the rows where both were asked for one."""
    hits, signed = [], np.full(len(a), True)
    for rows in (a, b):
        asked, got = (rows[[f"{what}_{axis}" for axis in AXES]].to_numpy(float).T for what in ("requested", "obtained"))
        hits.append(quadrant(*asked) == quadrant(*got))
        signed &= (asked != 0).all(axis=0)
    return hits, signed


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1)
