"""How well an encoder's pictures are read: `huesong pictures check`.

Each picture is read by a head that was fitted without its whole theme, as a user's photo is new, and by one that was
fitted without this picture alone, which is what the literature reports (Conwell et al., PNAS 2025).

Shapes: N pictures, D draws of folds, C channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from huesong.compose.explain import NEAREST, Neighbour
from huesong.emotion.certainty import WITHIN, Certainty, Distance, gaussian
from huesong.emotion.kernel import PictureKernelVA
from huesong.experiments.pictures.rated import THUMBNAIL, Rated
from huesong.label.picture_reader import FOLDS, names_of, read_as_new
from huesong.runtime.errors import UserError
from huesong.runtime.files import replacing_files, write_json
from huesong.va import AXES, USUAL, ccc, pearson

DRAWS = 3
WORST = 20
COLUMNS = 5
FIGURES, SHEET = "check.json", "worst.png"


def check(rated: Rated) -> tuple[dict[str, Any], np.ndarray]:
    """Figures of the reading, and the readings [N, 2] with whole themes left out (mean over the draws).

    r and CCC are means over the draws of folds; their 95 % intervals come from a bootstrap over themes.
    """
    figures: dict[str, Any] = {
        "pictures": len(rated.ids), "themes": len(set(rated.theme_N)), "milliseconds": rated.milliseconds
    }  # fmt: skip
    singles_N = np.arange(len(rated.ids)).astype(str)
    read_N2 = np.zeros_like(rated.va_N2)
    for name, group_N in (("themes_left_out", rated.theme_N), ("pictures_left_out", singles_N)):
        draws_DN2 = np.stack([left_out(rated, group_N, draw) for draw in range(DRAWS)])
        figures[name] = {axis: _agreement(rated, draws_DN2, row) for row, axis in enumerate(AXES)}
        if name == "themes_left_out":
            read_N2 = draws_DN2.mean(axis=0)
    figures["calibration"] = calibration(rated)
    return figures, read_N2


def check_zero_shot(rated: Rated) -> dict[str, Any]:
    """Figures of readings [N, 2] that stand in place of features, by a model that knows no rating (pictures.zero_shot)."""
    return {
        "pictures": len(rated.ids), "themes": len(set(rated.theme_N)), "milliseconds": rated.milliseconds,
        "zero_shot": {axis: _agreement(rated, rated.pooled_NC[None], row) for row, axis in enumerate(AXES)},
    }  # fmt: skip


def folds(group_N: np.ndarray, draw: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(known rows, new rows) of FOLDS folds of whole groups, drawn at random."""
    names, which_N = np.unique(group_N, return_inverse=True)
    fold_N = np.random.default_rng(draw).permutation(len(names))[which_N] % FOLDS
    return [(np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)) for fold in range(FOLDS)]


def left_out(rated: Rated, group_N: np.ndarray, draw: int) -> np.ndarray:
    """Readings [N, 2] by heads that saw nothing of a picture's group."""
    read_N2 = np.zeros_like(rated.va_N2)
    for known, new in folds(group_N, draw):
        head = PictureKernelVA.fit(rated.pooled_NC[known], rated.va_N2[known], np.ones(len(known)))
        read_N2[new] = head.predict(rated.pooled_NC[new])
    return read_N2


def calibration(rated: Rated) -> dict[str, dict[str, float]]:
    """Of each axis: the share of ratings within the range that is to hold 80 %, and how often the sign is right by word.

    Everything, also how sure a reading is, was learnt without the picture's theme.
    """
    inside: dict[str, list[bool]] = {axis: [] for axis in AXES}
    right: dict[str, dict[str, list[bool]]] = {axis: {} for axis in AXES}
    for known, new in folds(rated.theme_N, 0):
        weight_N = np.ones(len(known))
        read_N2, variance_N = read_as_new(rated.pooled_NC[known], rated.va_N2[known], weight_N, rated.theme_N[known])
        certainty = Certainty.fit(read_N2, variance_N, rated.va_N2[known], len(set(rated.theme_N[known])))
        head = PictureKernelVA.fit(rated.pooled_NC[known], rated.va_N2[known], weight_N)
        variance_N = Distance(head.known_KF, head.PENALTY).variance(head.standardised(rated.pooled_NC[new]))
        read_N2 = head.predict(rated.pooled_NC[new])
        wide_N2 = WITHIN * certainty.sds(variance_N)
        apart_N2 = np.abs(certainty.middles(read_N2) - rated.va_N2[new])
        for row, variance in enumerate(variance_N):
            for column, (axis, sure) in enumerate(zip(AXES, certainty.of(read_N2[row], variance), strict=True)):
                inside[axis].append(bool(apart_N2[row, column] <= wide_N2[row, column]))
                same = sure.middle * rated.va_N2[new[row], column] > 0
                right[axis].setdefault(sure.word, []).append(bool(same))
    return {
        axis: {
            "within_80": float(np.mean(inside[axis])),
            **{f"{word}_n": len(hits) for word, hits in sorted(right[axis].items())},
            **{f"{word}_sign_right": float(np.mean(hits)) for word, hits in sorted(right[axis].items())},
        }
        for axis in AXES
    }


def _agreement(rated: Rated, draws_DN2: np.ndarray, axis: int) -> dict[str, float]:
    wanted, found = rated.va_N2[:, axis], list(draws_DN2[:, :, axis])
    figures: dict[str, float] = {}
    bootstrap = USUAL.over(rated.theme_N)
    for name, statistic in (("r", pearson), ("ccc", ccc)):
        figures[name] = float(_over_draws(statistic)(wanted, *found))
        if (ends := bootstrap.interval(_over_draws(statistic), wanted, *found)) is not None:
            figures[f"{name}_low"], figures[f"{name}_high"] = ends
    figures["rmse"] = float(np.sqrt(np.mean([(one - wanted) ** 2 for one in found])))
    return figures


def _over_draws(statistic: Any) -> Any:
    return lambda wanted, *draws: np.mean([statistic(wanted, one) for one in draws], axis=0)


def nearest(rated: Rated, pooled_C: np.ndarray) -> tuple[Neighbour, ...]:
    """The rated pictures that the kernel takes for most alike, with their ratings."""
    head = PictureKernelVA.fit(rated.pooled_NC, rated.va_N2, np.ones(len(rated.ids)))
    alike_N = gaussian(head.standardised(pooled_C[None]), head.known_KF)[0]
    names = names_of(rated.ids.tolist(), rated.theme_N.tolist())["names"]
    return tuple(
        Neighbour(names[row], float(alike_N[row]), (float(rated.va_N2[row, 0]), float(rated.va_N2[row, 1])), True)
        for row in np.argsort(-alike_N)[:NEAREST]
    )


def worst(rated: Rated, read_N2: np.ndarray) -> np.ndarray:
    """Rows of the pictures that are read worst, worst first: distance in standard deviations of each axis' ratings."""
    apart_N = (((read_N2 - rated.va_N2) / rated.va_N2.std(axis=0).clip(1e-6)) ** 2).sum(axis=1)
    return np.argsort(-apart_N)[:WORST]


def sheet(rated: Rated, read_N2: np.ndarray, rows: np.ndarray) -> Image.Image:
    """Thumbnails with the rating and the reading of each below."""
    wide, high = THUMBNAIL + 30, THUMBNAIL + 44
    page = Image.new("RGB", (COLUMNS * wide, -(-len(rows) // COLUMNS) * high), "white")
    pen = ImageDraw.Draw(page)
    for place, row in enumerate(rows):
        left, top = place % COLUMNS * wide, place // COLUMNS * high
        picture = rated.thumbnails[row]
        page.paste(picture, (left + (wide - picture.width) // 2, top + THUMBNAIL - picture.height + 2))
        for line, (name, va) in enumerate((("rated", rated.va_N2[row]), ("read", read_N2[row]))):
            said = f"{name:5} {va[0]:+.2f} {va[1]:+.2f}"
            pen.text((left + 10, top + THUMBNAIL + 6 + 13 * line), said, fill="black")
        pen.text((left + 10, top + THUMBNAIL + 32), str(rated.ids[row])[-24:], fill="grey")
    return page


def write(out: Path, rated: Rated, figures: dict[str, Any], read_N2: np.ndarray) -> list[Path]:
    """Write check.json and worst.png into the folder `out`, which is made; other files there are left alone.

    Raises:
        UserError: `out` is no folder.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is no folder: name another with --out")
    out.mkdir(parents=True, exist_ok=True)
    rows = worst(rated, read_N2)
    found = [
        {"id": str(rated.ids[row]), "rated": rated.va_N2[row].tolist(), "read": read_N2[row].tolist()} for row in rows
    ]
    targets = [out / FIGURES, out / SHEET]
    with replacing_files(targets) as (written, page):
        write_json(written, {**figures, "worst": found})
        sheet(rated, read_N2, rows).save(page, "PNG")
    return targets


def table(name: str, figures: dict[str, Any]) -> str:
    """The figures as lines for the console."""
    lines = [
        f"{name}: {figures['pictures']} rated pictures, {figures['themes']} themes, {figures['milliseconds']:.0f} ms a picture"
    ]
    for kind in ("themes_left_out", "pictures_left_out", "zero_shot"):
        if kind not in figures:
            continue
        said = [
            f"{axis} r {own['r']:.2f} [{own.get('r_low', np.nan):.2f}, {own.get('r_high', np.nan):.2f}], CCC {own['ccc']:.2f}, "
            f"error {own['rmse']:.2f}"
            for axis, own in figures[kind].items()
        ]
        lines.append(f"  {kind.replace('_', ' '):17}  {'; '.join(said)}")
    if "calibration" in figures:
        within = [f"{axis} {own['within_80']:.0%}" for axis, own in figures["calibration"].items()]
        lines.append(f"  {'calibration':17}  within the range for 80 %: {', '.join(within)}")
    return "\n".join(lines)
