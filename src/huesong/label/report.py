"""report.html and plots of the label stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from markupsafe import Markup

from huesong import contracts
from huesong.config import LabelConfig
from huesong.emotion.labelled import MEASURED
from huesong.report import html as pages
from huesong.report import plots
from huesong.report.tables import AGREEMENT

FIGURES = {key: title for key, title in AGREEMENT.items() if key != "n" and "half" not in key}
MAPS = {
    "none": "pictures keep their own valence and arousal.",
    "affine": "each axis of the pictures is shifted and scaled to the mean and standard deviation of the music.",
    "rank": "on each axis a picture goes to the music's quantile of its own rank among the pictures: the most exciting "
    "picture asks for the most exciting music.",
}
ORIGINS = {
    "mean_rating": "rated by people",
    "mean_slider": "rated by people while listening",
    "construction": "known by construction",
    "quadrant": "quadrant known, refined by the labeller within it",
    "tag": "emotion word known, refined by the labeller within its quadrant",
    "predicted": "predicted by the labeller",
}


def write_report(
    work: Path,
    metrics: dict[str, float],
    images: pd.DataFrame,
    pieces: pd.DataFrame,
    pairs: pd.DataFrame,
    held: dict[str, pd.DataFrame],
    config: LabelConfig,
) -> None:
    """Write the plots and report.html into `work`.

    Args:
        work: the stage's folder.
        metrics: the stage's figures.
        images, pieces: contracts.LABEL_COLUMNS.
        pairs: contracts.PAIR_COLUMNS.
        held: of `images` and `pieces` one row an item with its label and its out-of-fold prediction (`by_piece`).
        config: settings of the stage.
    """
    folder = work / contracts.PLOTS
    folder.mkdir()
    plots.scatter({"pictures": images, "music": pieces}, folder / "va_sets.png")
    plots.pair_plot(pairs[pairs["split"] == "train"], images, pieces, folder / "va_pairs.png")
    for name, items in held.items():
        measured = items[items["label_kind"].isin(MEASURED)]
        rated = measured[["valence", "arousal"]].to_numpy(dtype=float)
        predicted = measured[["predicted_valence", "predicted_arousal"]].to_numpy(dtype=float)
        plots.calibration(rated, predicted, folder / f"labeller_{name}.png", "rated", "predicted")
        plots.confusion_matrix(rated, predicted, folder / f"labeller_{name}_quadrants.png", "predicted", "rated")
    text = pages.page("huesong: labels and pairs", sections(folder, metrics, images, pieces, held, config), LEAD)
    (work / contracts.REPORT).write_text(text, encoding="utf-8")


LEAD = (
    "Valence (unpleasant to pleasant) and arousal (calm to excited) of every picture and every piece of music, each in "
    "[-1, 1], and the pairs that the model is trained on."
)


def sections(
    folder: Path,
    metrics: dict[str, float],
    images: pd.DataFrame,
    pieces: pd.DataFrame,
    held: dict[str, pd.DataFrame],
    config: LabelConfig,
) -> list[pages.Section]:
    """The page's sections in order."""
    nearest = metrics["pairs_nearest_mean_distance"]
    return [
        pages.Section(
            "The labellers, cross-validated by group",
            [
                f"Every item was predicted by a model that saw nothing of its group (one song with its versions), in up to "
                f"{config.folds} folds over all labelled items outside the test split. Intervals are bootstrap 95 % over "
                "items. Sources with nominal labels (quadrants, emotion words) are left out of the row “all”; of them only "
                "r and the quadrant say something.",
                scores_table(metrics, held),
            ],
        ),
        pages.Section("Pictures: predicted against rated", [cards(folder, "images")]),
        pages.Section("Music: predicted against rated", [cards(folder, "pieces")]),
        pages.Section(
            "Where the labels come from",
            [
                origins_table(images, pieces),
                pages.image(folder / "va_sets.png", "both sets in the valence-arousal plane"),
            ],
        ),
        pages.Section(
            "The pairs",
            [
                f"Map “{config.pairing_map}”: {MAPS[config.pairing_map]} The map is read off labelled items of the training "
                f"split. Every picture then gets its "
                f"{config.pairs_per_image} nearest pieces of its own split, no piece more than {config.max_load:g} times its "
                f"fair share. The nearest piece lies {nearest:.3f} away on average. The plot shows the training split.",
                pairs_table(metrics),
                pages.image(folder / "va_pairs.png", "the map and the pairs in the valence-arousal plane"),
            ],
        ),
    ]


def scores_table(metrics: dict[str, float], held: dict[str, pd.DataFrame]) -> Markup:
    """A row for all measured items of each set and one for each of its sources."""
    rows: list[list[object]] = []
    for prefix, what in (("images", "pictures"), ("pieces", "music")):
        if prefix not in held:
            rows.append([what, "not rated: labelled by another model", 0, *("–" for _ in FIGURES)])
            continue
        kinds = held[prefix].groupby("source")["label_kind"].agg(lambda kind: kind.isin(MEASURED).all())
        if len(kinds) > 1:
            rows.append([what, "all", metrics[f"{prefix}_n"], *(figure(metrics, prefix, key) for key in FIGURES)])
        for source, measured in kinds.items():
            start = f"{prefix}_{source}"
            if f"{start}_n" not in metrics:
                continue
            found = [figure(metrics, start, key) if measured or _is_sign(key) else "–" for key in FIGURES]
            rows.append([what, f"{source}{'' if measured else ' (nominal)'}", metrics[f"{start}_n"], *found])
    return pages.table(["", "source", "n", *FIGURES.values()], rows)


def figure(metrics: dict[str, float], prefix: str, key: str) -> str:
    """The figure with its interval."""
    return pages.with_interval(metrics, f"{prefix}_{key}")


def _is_sign(key: str) -> bool:
    return key.endswith("_r") or key == "quadrant_accuracy"


def cards(folder: Path, name: str) -> Markup:
    """Calibration and confusion of one labeller."""
    if not (folder / f"labeller_{name}.png").is_file():
        return Markup("Nobody rated enough of them to hold the labels against.")
    return Markup("{}{}").format(
        pages.image(folder / f"labeller_{name}.png", "predicted against rated valence and arousal"),
        pages.image(folder / f"labeller_{name}_quadrants.png", "quadrants, rated against predicted"),
    )


def origins_table(images: pd.DataFrame, pieces: pd.DataFrame) -> Markup:
    """Items, mean weight and mean uncertainty by origin of the label."""
    rows = [
        [
            what,
            ORIGINS.get(str(origin), str(origin)),
            len(part),
            *(float(part[column].mean()) for column in ("weight", "valence_sd", "arousal_sd")),
        ]
        for what, table in (("pictures", images), ("music segments", pieces))
        for origin, part in table.groupby("origin")
    ]
    return pages.table(["", "label", "items", "mean weight", "mean sd of V", "mean sd of A"], rows)


def pairs_table(metrics: dict[str, float]) -> Markup:
    """Counts, distances and loads."""
    names = {
        "pairs_train": "pairs, training split",
        "pairs_val": "pairs, validation split",
        "pairs_test": "pairs, test split",
        "pairs_nearest_mean_distance": "mean distance to the nearest piece (training split)",
        "pairs_mean_distance": "mean distance of all pairs",
        "pairs_p95_distance": "95 % of pairs lie within",
        "pairs_pieces_used": "segments used",
        "pairs_most_used": "most often used segment: times",
    }
    return pages.table(["", ""], [[what, metrics[key]] for key, what in names.items()])
