"""report.html of the evaluate stage: pictures, players, piano rolls and tables; only the sound of all pieces lies beside it."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

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
from huesong.va import AXES

THUMBNAIL = (480, 320)
GRADES = ((0.8, "is met closely"), (0.6, "is met"), (0.3, "is met loosely"), (-2.0, "is not met"))
"""From which concordance on a wish counts as how well met."""
LEAST_CCC = 0.5
"""Below this, an axis counts as controlled loosely."""
AGREEMENT_HEAD = ["", *AGREEMENT.values()]


def write_report(work: Path, judged: pd.DataFrame, metrics: dict[str, float], *, data: Path, shown: int) -> None:
    """Write `work`/report.html.

    Args:
        work: the stage's folder, with the composed music, its sound and plots already in it.
        judged: one row a piece (contracts.REQUESTS), with the path of its `sound`, "" where there is none.
        metrics: the figures of the stage.
        data: raw data folder, for the pictures.
        shown: how many pieces get a card with picture, player and piano roll.
    """
    sections = [
        pages.Section("What the figures say", in_words(metrics)),
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
        pages.Section("Pieces", [pages.cards(piece_cards(work, spread(judged, shown), data)), piece_table(judged)]),
    ]
    lead = (
        f"{len(judged)} pieces, each written as MIDI, read back and judged by models trained on song groups that "
        "neither the generator nor its critic ever saw. Intervals are bootstrap 95 %."
    )
    (work / contracts.REPORT).write_text(pages.page("huesong: evaluation", sections, lead), encoding="utf-8")


def in_words(metrics: dict[str, float]) -> list[str | Markup]:
    """What the figures mean, in sentences: control, each baseline, quality, and what falls short."""
    said: list[str | Markup] = []
    for prefix, what in (("grid_", "25 emotions of the grid"), ("", "pictures that it never saw")):
        if f"{prefix}valence_ccc" not in metrics:
            continue
        heard = " and ".join(f"{axis} {pages.with_interval(metrics, f'{prefix}{axis}_ccc')}" for axis in AXES)
        said.append(
            f"Asked for the {what}, the first judge hears what was asked for with concordance {heard} (1: exactly that, 0: "
            f"nothing of it; n = {metrics.get(f'{prefix}n', 0):.0f}). In words: "
            + ", ".join(f"{axis} {grade(metrics[f'{prefix}{axis}_ccc'])}" for axis in AXES)
            + "."
        )
        said += [
            f"Against the {title.removeprefix('the ')} on the same requests: "
            + ", ".join(
                f"{axis} {verdict(metrics, f'{prefix}{axis}_ccc', f'{prefix}{who}{axis}_ccc')}" for axis in AXES
            )
            + "."
            for who, title in ANSWERS.items()
            if who and f"{prefix}{who}valence_ccc" in metrics
        ]
    if (area := metrics.get(f"{PREFIX}c2st_shape")) is not None:
        said.append(
            f"A classifier that sees form, line and harmony tells composed from real music with an area of {area:.2f}; .50 "
            f"would be not at all, 1.00 always. So they are {'hard' if area < 0.65 else 'possible' if area < 0.85 else 'easy'} "
            "to tell apart."
        )
    if "copied_notes" in metrics and "copied_notes_data" in metrics:
        more = metrics["copied_notes"] > metrics["copied_notes_data"]
        said.append(
            f"The longest passage that a piece shares with the training music has {metrics['copied_notes']:.1f} notes on "
            f"average, {'more' if more else 'no more'} than real pieces share with it ({metrics['copied_notes_data']:.1f})."
        )
    short = falls_short(metrics)
    said.append(f"What falls short: {'; '.join(short)}." if short else "Nothing that this page looks at falls short.")
    return said


def grade(ccc: float) -> str:
    """A concordance in a word."""
    return next(word for least, word in GRADES if ccc >= least)


def two(value: float) -> str:
    """Two decimals, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def verdict(metrics: dict[str, float], own: str, other: str) -> str:
    """`better (.68 against .60)`; where the intervals overlap, no difference is clear."""
    low, high = metrics.get(f"{own}_low", metrics[own]), metrics.get(f"{own}_high", metrics[own])
    least, most = metrics.get(f"{other}_low", metrics[other]), metrics.get(f"{other}_high", metrics[other])
    word = "better" if low > most else "worse" if high < least else "not clearly different"
    return f"{word} ({two(metrics[own])} against {two(metrics[other])})"


def falls_short(metrics: dict[str, float]) -> list[str]:
    """What a reader should not overlook, each in a clause."""
    found = []
    for prefix, what in (("grid_", "on the grid"), ("", "for pictures")):
        for axis in AXES:
            own = metrics.get(f"{prefix}{axis}_ccc")
            if own is not None and own < LEAST_CCC:
                found.append(f"{axis} {what} is controlled loosely (CCC {two(own)})")
            for who in ("retrieval_", "rules_"):
                other = f"{prefix}{who}{axis}_ccc"
                if other in metrics and verdict(metrics, f"{prefix}{axis}_ccc", other).startswith("worse"):
                    found.append(f"on {axis} {what} the {ANSWERS[who]} does better")
            second = metrics.get(f"second_{prefix}{axis}_ccc")
            if own is not None and second is not None and abs(own - second) > 0.2:
                found.append(f"the judges differ on {axis} {what} ({two(own)} and {two(second)})")
    if metrics.get("identical_share", 0) > 0:
        found.append(f"{metrics['identical_share']:.0%} of the pieces equal another one")
    if metrics.get("length_within_10_percent", 1) < 0.95:
        found.append(
            f"only {metrics['length_within_10_percent']:.0%} of the pieces are within 10 % of the asked length"
        )
    if metrics.get("invalid_tokens", 0) > 0:
        found.append(f"{metrics['invalid_tokens']:.0f} tokens break the grammar")
    return found


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
        pages.image(path, alt=path.stem.replace("_", " "), caption=caption_of(path.stem))
        for path in sorted((work / contracts.PLOTS).glob(f"{prefix}*.png"))
    ]


def caption_of(stem: str) -> str:
    """What a plot shows, for people."""
    if stem == "music_distributions":
        return (
            "How often each value occurs in composed music and in the rated data: equal curves would be equal habits."
        )
    by = "second" if stem.startswith("second_") else "first"
    what = "the grid's 25 emotions" if "_grid_" in stem else "test pictures"
    if stem.endswith("_confusion"):
        return (
            f"Quadrants asked for (rows) and heard by the {by} judge (columns), for {what}: counts, shares of the row."
        )
    return f"Asked for (across) and heard by the {by} judge (up), for {what}: on the diagonal, every wish would be met."


def piece_table(judged: pd.DataFrame) -> Markup:
    """Every piece with its player, whose files lie beside this page, and what was asked for and heard."""
    rows: list[list[object]] = [
        [
            Markup('<a href="{}">{}</a>').format(quote(row["file"]), row["request"]),
            pages.player(quote(row["sound"])) if row["sound"] else None,
            "picture" if row["set"] == "pictures" else "grid",
            *(float(row[f"{column}_{axis}"]) for column in ("requested", "obtained", "second") for axis in AXES
              if f"{column}_{axis}" in row),
        ]
        for row in judged.to_dict("records")
    ]  # fmt: skip
    columns = [name for column, name in (("requested", "asked"), ("obtained", "heard"), ("second", "second judge"))
               if f"{column}_valence" in judged]  # fmt: skip
    head = ["piece (MIDI)", "listen", "asked by", *(f"{letter}, {name}" for name in columns for letter in ("V", "A"))]
    return pages.table(
        head,
        rows,
        caption=f"All {len(judged)} pieces: their files lie in the folder of this page, which plays them from there.",
    )


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


def write_pieces(out: Path, data: Path, folder: Path, count: int = 3) -> list[str]:
    """Write a few pieces of a finished evaluation as `piece-1` and so on: picture, MIDI, MP3 and piano roll; their titles.

    Args:
        out: artifacts/evaluate.
        data: raw data folder, for the pictures.
        folder: where to.
        count: at most how many.
    """
    rows = spread(pd.read_csv(out / contracts.REQUESTS), count).to_dict("records")
    for number, row in enumerate(rows, 1):
        name = folder / f"piece-{number}"
        name.with_suffix(".jpg").write_bytes(small_jpeg(data / row["image_path"]))
        shutil.copy(out / row["file"], name.with_suffix(".mid"))
        if (sound := out / contracts.SOUNDS / f"{Path(row['file']).stem}.mp3").is_file():
            shutil.copy(sound, name.with_suffix(".mp3"))
        piano_roll(reading.read_score(out / row["file"]), name.with_suffix(".png"))
    words = {"asked for": "requested", "heard": "obtained"}
    return [
        f"{row['image_id']}: valence and arousal "
        + ", ".join(f"{what} {row[f'{c}_valence']:+.2f} {row[f'{c}_arousal']:+.2f}" for what, c in words.items())
        for row in rows
    ]


def small_jpeg(path: Path) -> bytes:
    """The picture, small, as a JPEG."""
    with Image.open(path) as opened:
        small = ImageOps.fit(ImageOps.exif_transpose(opened).convert("RGB"), THUMBNAIL)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def thumbnail(path: Path) -> Markup:
    """The picture, small, as an embedded JPEG."""
    return pages.image(small_jpeg(path), alt=path.stem, media="image/jpeg")
