"""The ablation's figures, from what the evaluation of each run wrote: pooled over seeds, and paired between variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from huesong import contracts
from huesong.config import Params
from huesong.evaluate.baselines import BASELINES
from huesong.evaluate.judges import VERDICTS
from huesong.music.statistics import MGEVAL_NAMES, distances
from huesong.report.tables import ANSWERS
from huesong.runtime.errors import UserError
from huesong.runtime.files import read_json, require
from huesong.va import AXES, Bootstrap, agreement, clusters

MEANS = ("polyphony_rate", "pitch_entropy", "groove_paper", "groove", "copied_notes")
"""Figures that are means over pieces: those of all seeds are pooled, with an interval."""
KEPT = ("identical_share", "length_within_10_percent", "invalid_tokens")
"""Figures of a run as a whole: the mean over the seeds."""
SPREAD = ("overlap", "kl")
"""Endings of the figures of Yang and Lerch's nine features: the mean over features and seeds."""
COMPARED_ON = {"grid": "on the grid", "pictures": "on test pictures"}
"""Request sets that variants are compared on, and how the verdict says so."""
SAME_REQUEST = 0.02
"""Two variants whose requests for a picture lie farther apart than this, on either axis, were not asked for the same."""


def pooled(folders: Sequence[Path], params: Params) -> dict[str, float]:
    """Of all seeds' pieces: agreement with their requests, by both judges, grid and pictures apart, and what the music is like."""
    heard = pd.concat([judged(folder) for folder in folders], ignore_index=True)
    bootstrap = Bootstrap(params.evaluate.bootstrap, params.evaluate.seed)
    found: dict[str, float] = {"seeds_n": len(folders)}
    for kind, prefix in (("pictures", ""), ("grid", "grid_")):
        part = heard[heard["set"] == kind]
        for judge, column in VERDICTS.items() if len(part) else ():
            asked, got = (part[[f"{side}_{axis}" for axis in AXES]].to_numpy() for side in ("requested", column))
            scores = agreement(asked, got, bootstrap.over(clusters(part)))
            found |= {judge + prefix + key: value for key, value in scores.items() if "confusion" not in key}
    metrics = [read_json(folder / contracts.FIGURES, "huesong experiment ablation") for folder in folders]
    data = {key: metrics[0][f"{key}_data"] for key in MEANS if f"{key}_data" in metrics[0]}
    for key in data:
        found |= {key: float(heard[key].mean()), f"{key}_data": data[key]}
        if interval := bootstrap.interval(mean, heard[key].to_numpy(float)):
            found[f"{key}_low"], found[f"{key}_high"] = interval
    if data:
        found |= distances(heard, pd.DataFrame([data]), bootstrap)
    for key, endings in [(key, [key]) for key in KEPT] + [
        (e, [f"{name}_{e}" for name in MGEVAL_NAMES]) for e in SPREAD
    ]:
        values = [content[name] for content in metrics for name in endings if name in content]
        if values:
            found[key] = float(np.mean(values))
    return found


def mean(values: np.ndarray) -> np.ndarray:
    """Of each row [B, N]: [B]."""
    return values.mean(axis=-1)


def baselines(folder: Path) -> dict[str, dict[str, float]]:
    """The baselines that the first run was judged beside."""
    metrics: dict[str, Any] = read_json(folder / contracts.FIGURES, "huesong experiment ablation")
    found: dict[str, dict[str, float]] = {}
    for name in BASELINES:
        for prefix in (judge + kind for judge in VERDICTS for kind in ("", "grid_")):
            start = f"{prefix}{name}_"
            own = {prefix + key.removeprefix(start): value for key, value in metrics.items() if key.startswith(start)}
            found.setdefault(ANSWERS[f"{name}_"], {}).update(own)
    return {title: figures for title, figures in found.items() if figures}


def judged(folder: Path, kind: str | None = None) -> pd.DataFrame:
    """One row a composed piece, of the request set `kind` or of all: set, request, image_id, image_group, seed, the
    emotion that was requested and what each judge heard.

    Raises:
        UserError: the file is missing, or was written by a version that did not know the pictures' groups.
    """
    path = require(folder / contracts.REQUESTS, "huesong experiment ablation")
    rows = pd.read_csv(path, dtype={"image_id": str, "image_group": str})
    if "image_group" not in rows:
        raise UserError(f"{path} was written by an earlier version: remove {folder} and run the ablation again")
    return rows if kind is None else rows[rows["set"] == kind]


def comparison(
    title: str, plain: Mapping[int, Path], other: Mapping[int, Path], params: Params
) -> dict[str, dict[str, float]]:
    """`compared` on each request set that both answered, by `title` and the set's words."""
    each = {f"{title}, {words}": compared(plain, other, params, kind) for kind, words in COMPARED_ON.items()}
    return {words: found for words, found in each.items() if found}


def compared(
    plain: Mapping[int, Path], other: Mapping[int, Path], params: Params, kind: str = "grid"
) -> dict[str, float]:
    """How much nearer the request `other` is than `plain`, piece by piece, on the request set `kind`: mean and 95 % interval.

    A positive figure: `other` follows better. Pairs are pieces of the same request, request seed and training seed
    (the keys). The interval is over pieces on the grid and over whole groups of pictures, with all their seeds, on the pictures;
    `AXIS_seed_N` is the mean of one training seed. The second judge's figures begin with `second_`.

    What is requested of a picture is what the model reads from it. That is the same for variants that share the picture
    head and its map; errors against requests that differ by more than SAME_REQUEST are not errors at the same task, and
    then all there is are `n` = 0 and `requests_apart`, the largest difference. Nothing where no request is shared.
    """
    pairs = []
    for seed in sorted(plain.keys() & other.keys()):
        first, second = (judged(side[seed], kind).set_index("request") for side in (plain, other))
        shared = first.index.intersection(second.index)
        pairs.append((seed, first.loc[shared], second.loc[shared]))
    if not sum(len(first) for _, first, _ in pairs):
        return {}
    requested = [f"requested_{axis}" for axis in AXES]
    apart = max(
        float((first[requested] - second[requested]).abs().to_numpy().max(initial=0)) for _, first, second in pairs
    )
    if apart > SAME_REQUEST:
        return {"n": 0, "requests_apart": apart}
    drawn_together = clusters(pd.concat([first for _, first, _ in pairs]))
    bootstrap = Bootstrap(params.evaluate.bootstrap, params.evaluate.seed, drawn_together)
    found: dict[str, float] = {"n": len(drawn_together)}
    if kind == "pictures":
        found["pictures_n"] = pd.concat([first["image_id"] for _, first, _ in pairs]).nunique()
        found["groups_n"] = len(np.unique(drawn_together))
    for judge, column in VERDICTS.items():
        for axis in AXES:
            nearer = [miss(first, axis, column) - miss(second, axis, column) for _, first, second in pairs]
            values, key = np.concatenate(nearer), f"{judge}{axis}"
            found[key] = float(values.mean())
            found |= {
                f"{key}_seed_{seed}": float(own.mean())
                for (seed, _, _), own in zip(pairs, nearer, strict=True)
                if len(own)
            }
            if (interval := bootstrap.interval(mean, values)) is not None:
                found[f"{key}_low"], found[f"{key}_high"] = interval
    return found


def miss(pieces: pd.DataFrame, axis: str, column: str) -> np.ndarray:
    """How far each piece is heard from its request on an axis, by the judge whose verdict begins with `column`."""
    return (pieces[f"{column}_{axis}"] - pieces[f"requested_{axis}"]).abs().to_numpy(np.float64)
