"""`huesong experiment maps`: what to ask of the music for a picture, judged by the music that comes of it.

Validation pictures alone: neither the reader nor the network has seen their themes. The same seeds for every arm. Beside
the maps of `label.request_map`, two arms say what image tokens add beyond valence and arousal: the requests of one map
with the tokens of another picture, and with none.

Shapes: P validation pictures, N rated training pictures, S image tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from huesong import contracts
from huesong.config import SamplingConfig
from huesong.emotion.kernel import PictureKernelVA
from huesong.emotion.scorer import LabellerScorer
from huesong.evaluate.judges import VERDICTS, Judges
from huesong.label.picture_reader import read_as_new
from huesong.label.va_map import VAMap, request_map
from huesong.model.dataset import IGNORE, load_examples, make_batch
from huesong.model.folder import load_model, load_modules
from huesong.model.requests import Request
from huesong.model.sampling import sample
from huesong.music import reading, tokens
from huesong.report.tables import table as rendered
from huesong.runtime.errors import UserError
from huesong.runtime.files import require, write_json
from huesong.runtime.progress import track
from huesong.va import AXES, Bootstrap, ccc, mae, pearson, same_quadrant_by_medians

AT_ONCE = 10
MAPS = ("people", "rank", "shrunk", "identity")
TOKENS_BY = "people"
"""The map whose requests are also answered with other tokens."""
OTHER, NONE = "tokens of another picture", "no tokens"
ASKED = "asked.csv"


@dataclass(frozen=True)
class Pictures:
    """Features, ratings and themes of the rated pictures of one split."""

    rows_PSC: np.ndarray
    va_P2: np.ndarray
    theme_P: np.ndarray
    ids: list[str]

    @property
    def pooled_PC(self) -> np.ndarray:
        """Mean features [P, C]."""
        found: np.ndarray = self.rows_PSC.astype(np.float64).mean(axis=1)
        return found


def pictures(preprocess: Path, split: str, most: int = 10**9) -> Pictures:
    """The (first) rated pictures of a split, as preprocess encoded them."""
    table = pd.read_parquet(require(preprocess / contracts.IMAGES_TABLE, "huesong preprocess"))
    rows = np.load(require(preprocess / contracts.PICTURE_FEATURES, "huesong preprocess"), mmap_mode="r")
    measured = table["label_kind"].map(contracts.LABEL_WEIGHTS).fillna(0.0) >= 1.0
    which = np.flatnonzero((table["split"] == split) & measured & table["valence"].notna() & table["arousal"].notna())
    if rows.ndim != 3 or len(which) < 2:
        raise UserError(f"{preprocess}: split {split} has no rated pictures that a frozen encoder sees")
    which = which[:most]
    part = table.iloc[which]
    va_P2 = part[["valence", "arousal"]].to_numpy(float)
    return Pictures(np.asarray(rows[which]), va_P2, part["group"].to_numpy(str), part["id"].tolist())


def requests_of(known: Pictures, new: Pictures, rank: VAMap) -> dict[str, np.ndarray]:
    """What each map asks for the new pictures [P, 2]; `rank` is the model's own."""
    ones = np.ones(len(known.va_P2))
    read_N2, _ = read_as_new(known.pooled_PC, known.va_P2, ones, known.theme_P)
    head = PictureKernelVA.fit(known.pooled_PC, known.va_P2, ones)
    read_P2 = head.predict(new.pooled_PC).clip(-1, 1)
    maps = {kind: request_map(kind, read_N2, known.va_P2) for kind in MAPS if kind != "rank"} | {"rank": rank}
    return {kind: maps[kind].apply(read_P2) for kind in MAPS}


def run(
    model: Path, preprocess: Path, out: Path, sampling: SamplingConfig, judges: Callable[[], Judges], *, most: int = 1000,
    seed: int = 0,
) -> str:  # fmt: skip
    """Compose what is missing in the folder `out`, judge all of it, write asked.csv and maps.json; the tables as Markdown.

    Args:
        model: a model folder whose encoder is that of `preprocess`.
        judges: called when all is composed.
        most: pictures, the first ones of the table.

    Raises:
        UserError: too few rated pictures.
    """
    known, new = pictures(preprocess, "train"), pictures(preprocess, "val", most)
    own = load_model(model).network.picture
    rank = VAMap("rank", [(own.map_from_K2[:, axis], own.map_to_K2[:, axis]) for axis in range(2)])
    asked = requests_of(known, new, rank)
    arms: dict[str, tuple[np.ndarray, np.ndarray | None]] = {kind: (asked[kind], new.rows_PSC) for kind in MAPS}
    # Half a turn along the order of themes: the other picture is of another theme wherever there are enough of them.
    order = np.argsort(new.theme_P, kind="stable")
    shuffled = np.empty_like(new.rows_PSC)
    shuffled[order] = new.rows_PSC[np.roll(order, len(order) // 2)]
    arms |= {OTHER: (asked[TOKENS_BY], shuffled), NONE: (asked[TOKENS_BY], None)}
    for arm, (va_P2, rows_PSC) in arms.items():
        compose(model, va_P2, rows_PSC, out / arm.replace(" ", "-"), sampling, seed)
    hearing = judges()
    table = pd.concat(
        [_judged(arm, new, va_P2, out / arm.replace(" ", "-"), hearing) for arm, (va_P2, _) in arms.items()],
        ignore_index=True,
    )
    table.to_csv(out / ASKED, index=False, float_format="%.5f")
    figures = figures_of(table)
    write_json(out / "maps.json", figures)
    return page(figures, len(new.ids), len(set(new.theme_P)))


def compose(
    model: Path, va_P2: np.ndarray, rows_PSC: np.ndarray | None, folder: Path, sampling: SamplingConfig, seed: int
) -> None:
    """Write a piece for each request as `<row>.mid` into the folder; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    loaded, scorer = load_model(model), LabellerScorer.of_model(model)
    tokenizer = tokens.load(model / contracts.TOKENIZER)
    missing = [row for row in range(len(va_P2)) if not (folder / f"{row}.mid").exists()]
    batches = [missing[start : start + AT_ONCE] for start in range(0, len(missing), AT_ONCE)]
    for which in track(batches, f"composing: {folder.name}", len(batches)):
        requests = [
            Request(
                None if rows_PSC is None else rows_PSC[row], valence=float(va_P2[row, 0]), arousal=float(va_P2[row, 1]),
                seed=seed + row, seconds=sampling.seconds,
            )
            for row in which
        ]  # fmt: skip
        for row, piece in zip(which, sample(loaded, requests, sampling, scorer=scorer), strict=True):
            tokens.decode(tokenizer, piece.ids).dump_midi(folder / f"{row}.mid")


def _judged(arm: str, new: Pictures, va_P2: np.ndarray, folder: Path, judges: Judges) -> pd.DataFrame:
    found = judges.of_scores([reading.read_score(folder / f"{row}.mid") for row in range(len(va_P2))])
    table = pd.DataFrame({"arm": arm, "id": new.ids, "theme": new.theme_P})
    for column, values in (("people", new.va_P2), ("asked", va_P2)):
        table[[f"{column}_{axis}" for axis in AXES]] = values
    for column in VERDICTS.values():
        names = [f"{column}_{axis}" for axis in AXES]
        table[names] = found[names].to_numpy()
    return table


def token_losses(model: Path, preprocess: Path, label: Path, most: int = 120, seed: int = 0) -> dict[str, Any]:
    """Nats a token of validation music under the same request, with its picture's tokens, another picture's, and none.

    At most `most` validation pairs, evenly spread; differences to the picture's own tokens with intervals over pictures.
    """
    loaded = load_modules(model)
    network, examples = loaded.network, load_examples(preprocess, label)
    pairs = np.flatnonzero(examples.pairs.split_P == "val")
    pairs = pairs[np.linspace(0, len(pairs) - 1, min(most, len(pairs))).astype(int)]
    picture_P, piece_P = examples.pairs.picture_P[pairs], examples.pairs.piece_P[pairs]
    arms = {"own": picture_P, OTHER: np.roll(picture_P, len(picture_P) // 2), NONE: None}
    losses: dict[str, np.ndarray] = {}
    for arm, seen_P in arms.items():
        found = []
        for row in track(range(len(pairs)), f"loss: {arm}", len(pairs)):
            batch = make_batch(
                examples, piece_P[[row]], None if seen_P is None else seen_P[[row]],
                context=network.config.context, key=(seed, row),
            )  # fmt: skip
            with torch.inference_mode():
                seen = None if batch.pictures is None else torch.from_numpy(batch.pictures)
                tokens_BSD = None if seen is None else network.encode_picture(seen).tokens_BSD
                logits_BTV = network(torch.from_numpy(batch.ids_BT), tokens_BSD, torch.from_numpy(batch.va_B2))
                loss = F.cross_entropy(logits_BTV[0], torch.from_numpy(batch.targets_BT)[0], ignore_index=IGNORE)
            found.append(float(loss))
        losses[arm] = np.array(found)
    bootstrap = Bootstrap().over(picture_P)
    figures: dict[str, Any] = {"pairs": len(pairs), "pictures": len(set(picture_P)), "own": float(losses["own"].mean())}
    for arm in (OTHER, NONE):
        gain_P = losses[arm] - losses["own"]
        figures[arm] = {"more": float(gain_P.mean()), "interval": bootstrap.interval(lambda x: x.mean(axis=-1), gain_P)}
    return figures


def tokens_said(figures: dict[str, Any]) -> str:
    """The figures of `token_losses` as a sentence."""
    parts = [
        f"with {name} {own['more']:+.4f}"
        + (f" [{own['interval'][0]:+.4f}, {own['interval'][1]:+.4f}]" if own["interval"] else "")
        for name, own in ((name, figures[name]) for name in (OTHER, NONE))
    ]
    return (
        f"Nats a token of validation music under the same request ({figures['pairs']} pairs of {figures['pictures']} pictures): "
        f"{figures['own']:.3f} with its picture's tokens; {', '.join(parts)}.\n"
    )


def figures_of(table: pd.DataFrame) -> dict[str, Any]:
    """Of each arm: how what is asked, and what both judges hear, agrees with people; intervals over themes."""
    found: dict[str, Any] = {}
    for arm, part in table.groupby("arm", sort=False):
        bootstrap = Bootstrap().over(part["theme"].to_numpy())
        own: dict[str, Any] = {}
        for column in ("asked", *VERDICTS.values()):
            own[column] = {axis: _axis(part, column, axis, bootstrap) for axis in AXES} | quadrants(part, column)
        found[str(arm)] = own
    return found


def _axis(part: pd.DataFrame, column: str, axis: str, bootstrap: Bootstrap) -> dict[str, Any]:
    people, heard = (part[f"{name}_{axis}"].to_numpy(float) for name in ("people", column))
    r, agreement = (float(value) if np.isfinite(value := own(people, heard)) else None for own in (pearson, ccc))
    return {
        "r": r, "r_interval": bootstrap.interval(pearson, people, heard), "ccc": agreement, "error": float(mae(people, heard)),
        "error_interval": bootstrap.interval(mae, people, heard),
        "constant": float(np.abs(people - np.median(people)).mean()), "mean": float(heard.mean()), "sd": float(heard.std()),
    }  # fmt: skip


def quadrants(part: pd.DataFrame, column: str) -> dict[str, float]:
    """Share of pieces in the quadrant of people's rating: about 0, and about the medians of either side."""
    people, heard = (part[[f"{name}_{axis}" for axis in AXES]].to_numpy(float).T for name in ("people", column))
    return {
        "quadrant": float(((people > 0) == (heard > 0)).all(axis=0).mean()),
        "quadrant_by_medians": float(same_quadrant_by_medians(*people, *heard)),
    }


def page(figures: dict[str, Any], pictures: int, themes: int) -> str:
    """What is asked, and what each judge hears, held against people's ratings of the pictures, as Markdown tables."""
    titles = {
        "asked": "What is asked",
        "obtained": "What the first judge hears",
        "second": "What the second judge hears",
    }
    parts = []
    for column, title in titles.items():
        rows = []
        for arm, own in figures.items():
            axes = [own[column][axis] for axis in AXES]
            rows.append([
                arm, *(_with_interval(axis, "r") for axis in axes), " / ".join(_with_interval(axis, "ccc") for axis in axes),
                *(_with_interval(axis, "error") for axis in axes),
                " / ".join(f"{axis['mean']:+.2f}" for axis in axes), " / ".join(f"{axis['sd']:.2f}" for axis in axes),
                f"{own[column]['quadrant']:.2f}", f"{own[column]['quadrant_by_medians']:.2f}",
            ])  # fmt: skip
        head = ["map", "r valence", "r arousal", "CCC V / A", "error valence", "error arousal", "mean V / A", "sd V / A",
                "quadrant", "by medians"]  # fmt: skip
        parts.append(f"{title}:\n\n{rendered(head, rows)}")
    first = next(iter(figures.values()))["asked"]
    constant = " / ".join(f"{first[axis]['constant']:.2f}" for axis in AXES)
    tail = f"{pictures} validation pictures of {themes} themes. A constant, people's median, errs by {constant}."
    return "\n\n".join([*(part.rstrip() for part in parts), tail]) + "\n"


def _with_interval(axis: dict[str, Any], name: str) -> str:
    """The figure, a dash where nothing varies, with its interval where there is one."""
    ends = axis.get(f"{name}_interval")
    if axis[name] is None:
        return "-"
    return f"{axis[name]:.2f}" + (f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else "")
