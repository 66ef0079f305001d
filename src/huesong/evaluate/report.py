"""report.html of the evaluate stage: pictures, players, piano rolls and tables in one self-contained page."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from PIL import Image, ImageOps

from huesong import contracts
from huesong.evaluate.quality.figures import TITLES
from huesong.evaluate.quality.group import PREFIX
from huesong.evaluate.quality.two_sample import FAMILIES
from huesong.music import reading
from huesong.music.rendering.audio import render_preview
from huesong.music.rendering.roll import piano_roll
from huesong.report import html as pages
from huesong.report.tables import AGREEMENT, ANSWERS, JUDGES, MUSIC

THUMBNAIL = (480, 320)
AGREEMENT_HEAD = ["", *AGREEMENT.values()]


def write_report(work: Path, judged: pd.DataFrame, metrics: dict[str, float], *, data: Path, shown: int) -> None:
    """Write `work`/report.html.

    Args:
        work: the stage's folder, with the composed music and plots already in it.
        judged: one row a piece (contracts.REQUESTS).
        metrics: the figures of the stage.
        data: raw data folder, for the pictures.
        shown: how many pieces get a card with picture, player and piano roll.
    """
    sections = [
        pages.Section("Emotion: asked for and heard", [agreement_table(metrics, ""), *figures(work, "va_")]),
        pages.Section("Baselines", baseline_tables(metrics)),
        pages.Section("The judges themselves", [judge_table(metrics)]),
        pages.Section(
            "A second opinion",
            [
                "The second judge is a small Transformer over the notes of the same files: no hand features.",
                agreement_table(metrics, "second_"),
                *figures(work, "second_va_"),
            ],
        ),
        pages.Section("The music against the data", [quality_table(metrics), *figures(work, "music_")]),
        pages.Section("Form, line, harmony, phrase", form_tables(metrics)),
        pages.Section("Pieces", [pages.cards(piece_cards(work, spread(judged, shown), data))]),
    ]
    lead = (
        f"{len(judged)} pieces, each written as MIDI, read back and judged by models trained on song groups that "
        "neither the generator nor its critic ever saw. Intervals are bootstrap 95 %."
    )
    (work / contracts.REPORT).write_text(pages.page("huesong: evaluation", sections, lead), encoding="utf-8")


def agreement_row(metrics: dict[str, float], prefix: str, what: str) -> list[object]:
    """A row of AGREEMENT_HEAD; `what` stands in the first column."""
    keys = [key for key in AGREEMENT if key != "n"]
    return [what, metrics.get(f"{prefix}n"), *(pages.with_interval(metrics, prefix + key) for key in keys)]


def agreement_table(metrics: dict[str, float], judge: str) -> Markup:
    """What the model reaches under a judge (prefix of its figures), and how well it reads pictures."""
    rows = [
        agreement_row(metrics, judge + prefix, what)
        for prefix, what in (
            ("", "test pictures: requested against heard"),
            ("grid_", "grid of emotions: requested against heard"),
            ("picture_", "test pictures: the picture's label against heard"),
            ("image_head_", "picture head: label against prediction"),
        )
        if f"{judge}{prefix}n" in metrics
    ]
    return pages.table(
        AGREEMENT_HEAD,
        rows,
        caption="Valence V and arousal A in [-1, 1]; sign: the share of pieces on the side of the axis that was asked for.",
    )


def baseline_tables(metrics: dict[str, float]) -> list[str | Markup]:
    """The model among the baselines: emotion by request set and judge, then the music."""
    who = {answer: title for answer, title in ANSWERS.items() if not answer or f"{answer}pieces" in metrics}
    tables: list[str | Markup] = []
    for prefix, what in (("", "Test pictures"), ("grid_", "Grid of emotions")):
        for judge, by in JUDGES.items():
            rows = [agreement_row(metrics, f"{judge}{prefix}{answer}", title) for answer, title in who.items()]
            if any(row[1] for row in rows):
                tables.append(pages.table(AGREEMENT_HEAD, rows, caption=f"{what}, {by}: the same requests to all."))
    keys = ("distance_paper", "distance_correct", "identical_share", "copied_notes", "copied_notes_p95")
    rows = [
        [title, metrics.get(f"{answer}pieces"), *(pages.with_interval(metrics, answer + key) for key in keys)]
        for answer, title in who.items()
    ]
    head = ["", "n", *(MUSIC.get(key, "its 95th percentile") for key in keys)]
    tables.append(pages.table(head, rows, caption="The music: distance to data, novelty."))
    return tables


def judge_table(metrics: dict[str, float]) -> Markup:
    """The judges' scores on human ratings of groups they never saw."""
    rows = [
        agreement_row(metrics, "judge_", "first judge (hand features, boosting)"),
        agreement_row(metrics, "second_judge_", "second judge (notes, Transformer)"),
    ]
    return pages.table(
        AGREEMENT_HEAD, rows, caption="On rated pieces of the test split: no verdict is better than this."
    )


def quality_table(metrics: dict[str, float]) -> Markup:
    """Every music statistic beside the data's."""
    names = sorted(key.removesuffix("_data") for key in metrics if key.endswith("_data") and not key.startswith(PREFIX))
    rows = [
        [
            name.replace("_", " "),
            pages.with_interval(metrics, name),
            metrics[f"{name}_data"],
            pages.with_interval(metrics, f"{name}_overlap"),
            pages.with_interval(metrics, f"{name}_kl"),
        ]
        for name in names
    ]
    rows += [
        [MUSIC[key], pages.with_interval(metrics, key), None, None, None]
        for key in (
            "distance_paper", "distance_correct", "distance_taught_paper", "identical_share",
            "length_within_10_percent", "invalid_tokens",
        )
        if key in metrics
    ]  # fmt: skip
    return pages.table(["", "generated", "data", "overlapping area", "KL"], rows)


def form_tables(metrics: dict[str, float]) -> list[str | Markup]:
    """Form, line, harmony and phrase beside real music, and whether the two can be told apart."""
    if f"{PREFIX}n" not in metrics:
        return []
    rows = [
        [title, pages.with_interval(metrics, PREFIX + name), metrics.get(f"{PREFIX}{name}_data")]
        for name, title in TITLES.items()
        if PREFIX + name in metrics
    ]
    caption = f"n = {metrics[f'{PREFIX}n']:.0f} composed, {metrics.get(f'{PREFIX}n_data', 0):.0f} real held-out pieces."
    tables: list[str | Markup] = [pages.table(["", "composed", "real"], rows, caption=caption)]
    if f"{PREFIX}c2st_shape" in metrics:
        told = [[name, pages.with_interval(metrics, f"{PREFIX}c2st_{name}")] for name in FAMILIES]
        what = "Composed told from real: area under the ROC curve, .5 = not at all."
        tables.append(pages.table(["features", "area"], told, caption=what))
    return tables


def figures(work: Path, prefix: str) -> list[Markup]:
    """The plots whose names start with `prefix`."""
    return [
        pages.image(path, alt=path.stem.replace("_", " "), caption=path.stem.replace("_", " "))
        for path in sorted((work / contracts.PLOTS).glob(f"{prefix}*.png"))
    ]


def spread(judged: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` picture rows spread evenly over the requested arousal and valence."""
    rows = judged[judged["set"] == "pictures"].drop_duplicates("image_id")
    if rows.empty or count == 0:
        return rows.head(0)
    order = rows.sort_values(["requested_valence", "requested_arousal"], kind="stable")
    step = max(1, len(order) / count)
    picks = sorted({min(len(order) - 1, round(i * step)) for i in range(count)})
    return order.iloc[picks]


def piece_cards(work: Path, rows: pd.DataFrame, data: Path) -> list[list[str | Markup]]:
    """One card a piece: picture, emotion, player, piano roll."""
    cards: list[list[str | Markup]] = []
    for row in rows.to_dict("records"):
        score = reading.read_score(work / row["file"])
        with tempfile.TemporaryDirectory() as folder:
            roll = Path(folder) / "roll.png"
            piano_roll(score, roll)
            roll_html = pages.image(roll, alt="piano roll")
        emotion = pages.table(
            ["", "valence", "arousal"],
            [
                [what, float(row[f"{column}_valence"]), float(row[f"{column}_arousal"])]
                for what, column in (
                    ("picture's label", "picture"),
                    ("predicted", "predicted"),
                    ("requested", "requested"),
                    ("heard", "obtained"),
                )
            ],
        )
        cards.append(
            [
                thumbnail(data / row["image_path"]),
                Markup("<h3>{}</h3>").format(row["image_id"]),
                pages.audio(render_preview(score, arousal=float(row["requested_arousal"]))),
                roll_html,
                emotion,
            ]
        )
    return cards


def thumbnail(path: Path) -> Markup:
    """The picture, small, as an embedded JPEG."""
    with Image.open(path) as opened:
        small = ImageOps.fit(ImageOps.exif_transpose(opened).convert("RGB"), THUMBNAIL)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return pages.image(buffer.getvalue(), alt=path.stem, media="image/jpeg")
