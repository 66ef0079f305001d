"""report.html and plots of the label stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from huesong import contracts, pages
from huesong.emotion import plots

FIGURES = ("valence_mae", "valence_r", "valence_ccc", "arousal_mae", "arousal_r", "arousal_ccc", "quadrant_accuracy")


def write_report(
    work: Path,
    metrics: dict[str, float],
    images: pd.DataFrame,
    pieces: pd.DataFrame,
    pairs: pd.DataFrame,
    image_folds: np.ndarray,
    piece_folds: np.ndarray,
) -> None:
    """Write the plots and report.html into `work`."""
    folder = work / contracts.PLOTS
    folder.mkdir()
    plots.scatter(
        {"pictures": images, "music": pieces}, folder / "va_both_sets.png", "Valence and arousal of both sets"
    )
    asked = pairs.rename(columns={"image_id": "id"})
    found = pairs[["piece_id"]].merge(pieces[["id", "valence", "arousal"]], left_on="piece_id", right_on="id")
    plots.scatter({"pictures, mapped": asked, "paired music": found}, folder / "va_pairs.png", "The pairs")
    for name, folds in (("images", image_folds), ("pieces", piece_folds)):
        plots.calibration(folds[:, :2], folds[:, 2:], folder / f"labeller_{name}.png", "rated", "predicted")
    rows = []
    for prefix, what in (("images", "pictures"), ("pieces", "music")):
        sources = sorted(
            {
                k.removeprefix(f"{prefix}_").removesuffix("_n")
                for k in metrics
                if k.startswith(f"{prefix}_") and k.endswith("_n") and not k.endswith("quadrant_n")
            }
            - {"n", prefix}
        )
        for source in ["", *sources]:
            start = f"{prefix}_{source}_" if source else f"{prefix}_"
            rows.append(
                [
                    f"{what} {source}",
                    metrics.get(f"{start}n"),
                    *(pages.with_interval(metrics, start + f) for f in FIGURES),
                ]
            )
    head = ["", "n", "V MAE", "V r", "V CCC", "A MAE", "A r", "A CCC", "quadrant"]
    origins = pd.concat([images.assign(set="pictures"), pieces.assign(set="music")]).groupby(["set", "origin"]).size()
    sections = [
        pages.Section(
            "The labellers, cross-validated by group",
            [pages.table(head, rows), *(pages.image(folder / f"labeller_{n}.png", n) for n in ("images", "pieces"))],
        ),
        pages.Section(
            "Where the labels come from",
            [pages.table(["set", "origin", "items"], [[a, b, int(n)] for (a, b), n in origins.items()])],
        ),
        pages.Section(
            "Both sets and the pairs",
            [
                pages.table(["figure", "value"], [[k, v] for k, v in metrics.items() if k.startswith("pairs")]),
                pages.image(folder / "va_both_sets.png", "both sets"),
                pages.image(folder / "va_pairs.png", "pairs"),
            ],
        ),
    ]
    (work / contracts.REPORT).write_text(pages.page("huesong: labels", sections), encoding="utf-8")
