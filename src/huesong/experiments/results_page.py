"""The figures of one whole run as Markdown tables, read from what its stages wrote: no number is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huesong import contracts
from huesong.music.statistics import MGEVAL_NAMES
from huesong.runtime.files import read_json

Figures = Mapping[str, Any]

COLUMNS = {
    "n": "n", "valence_mae": "V MAE", "valence_r": "V r", "valence_ccc": "V CCC", "valence_half_accuracy": "V sign",
    "arousal_mae": "A MAE", "arousal_r": "A r", "arousal_ccc": "A CCC", "arousal_half_accuracy": "A sign",
    "quadrant_accuracy": "quadrant",
}  # fmt: skip
"""Figures of a row. `sign`: the share of items on the asked side of the axis, called half-axis accuracy elsewhere."""
ANSWERS = {
    "": "**the model**", "retrieval_": "nearest training piece", "rules_": "rule-based composer",
    "unconditional_": "the model, nothing asked", "random_": "random training piece",
}  # fmt: skip
SETS = {"grid_": "Grid of 25 emotions", "": "Test pictures, the request as the model reads it from the picture"}
JUDGES = {"": "first judge", "second_": "second judge"}
MUSIC = {"pieces_eimg_": "EIMG (music, 6 raters)", "pieces_vgmidi_": "VGMIDI (music, about 30 raters)",
         "pieces_emopia_": "EMOPIA (music, quadrants only)", "images_oasis_": "OASIS (pictures, 100 raters)"}  # fmt: skip
HEARD = {"judge_": "first judge, on split `test`", "second_judge_": "second judge, on split `test`",
         "critic_": "the generator's critic, on split `test`"}  # fmt: skip
STATISTICS = {
    "polyphony_rate": "polyphony rate (PR)", "pitch_entropy": "pitch entropy (PE)",
    "groove_paper": "groove consistency (GC), paper's form", "groove": "groove consistency (GC), correct form",
}  # fmt: skip
CALIBRATION = Path("evaluate", contracts.PLOTS, "va_grid_calibration.png")
"""In the artifacts: the plot that belongs to these tables."""
QUADRANTS = ("V+ A+", "V- A+", "V- A-", "V+ A-")
GOALS = (
    ("arousal CCC, grid", "grid_arousal_ccc", ">= .85"),
    ("valence CCC, grid", "grid_valence_ccc", ">= .60"),
    ("quadrant, grid", "grid_quadrant_accuracy", ">= .70"),
    ("half axis arousal, grid", "grid_arousal_half_accuracy", ">= .90"),
    ("half axis valence, grid", "grid_valence_half_accuracy", ">= .80"),
    ("arousal CCC, test pictures", "arousal_ccc", ">= .62"),
    ("valence CCC, test pictures", "valence_ccc", ">= .68"),
    ("valence CCC, music against people's rating of its test picture", "picture_valence_ccc", ""),
    ("arousal CCC, music against people's rating of its test picture", "picture_arousal_ccc", ""),
    ("picture head, valence r", "image_head_valence_r", ">= .65"),
    ("picture head, arousal r", "image_head_arousal_r", ">= .65"),
    ("distance to data, paper's form", "distance_paper", "<= .15"),
    ("distance to data, correct form", "distance_correct", ""),
    ("distance to the music of the training pairs, paper's form", "distance_taught_paper", ""),
    ("share of identical outputs", "identical_share", "= 0"),
    ("share within 10 % of the length", "length_within_10_percent", "= 1"),
    ("invalid tokens", "invalid_tokens", "= 0"),
)
"""What the project wants to reach: figure, its name in metrics.json, the goal."""


def markdown(artifacts: Path) -> str:
    """All tables of the run whose stages wrote `artifacts`.

    Raises:
        UserError: a stage has not run.
    """
    label, train, evaluate = (
        read_json(artifacts / stage / contracts.METRICS, f"huesong {stage}") for stage in ("label", "train", "evaluate")
    )
    training = (
        f"{train['parameters'] / 1e6:.2f} M parameters, {train['steps']:.0f} steps, {train['tokens_seen'] / 1e6:.1f} M tokens; "
        f"cross-entropy {train['train_ce']:.2f} nats a token on training pieces, {train.get('val_ce', float('nan')):.2f} on "
        f"validation pieces; the critic on the rated segments of split `val`, which also chose its stopping point (n = "
        f"{train.get('critic_val_segments', 0):.0f}): valence r {number(train.get('critic_val_valence_r'))}, CCC "
        f"{number(train.get('critic_val_valence_ccc'))}; arousal r {number(train.get('critic_val_arousal_r'))}, CCC "
        f"{number(train.get('critic_val_arousal_ccc'))}."
    )
    parts = ["Labellers (folds of whole groups) and judges (on music that nothing else heard):", "", *head("who")]
    parts += [row(label, prefix, title) for prefix, title in MUSIC.items() if f"{prefix}n" in label]
    parts += [row(evaluate, prefix, title) for prefix, title in HEARD.items() if f"{prefix}n" in evaluate]
    parts += ["", training]
    for requests, title in SETS.items():
        for judge, name in JUDGES.items():
            rows = [
                row(evaluate, f"{judge}{requests}{who}", shown)
                for who, shown in ANSWERS.items()
                if f"{judge}{requests}{who}n" in evaluate
            ]
            parts += ["", f"{title}, {name}:", "", *head("who"), *rows]
    parts += confusion(evaluate) + music(evaluate)
    parts += ["", "| figure | first judge | second judge | goal |", "| --- | --- | --- | --- |"]
    parts += [
        f"| {title} | {cell(evaluate, key)} | {cell(evaluate, f'second_{key}')} | {goal or '-'} |"
        for title, key, goal in GOALS
        if key in evaluate
    ]
    parts += ["", copied(evaluate)] if "copied_notes" in evaluate else []
    return "\n".join(parts) + "\n"


def confusion(figures: Figures) -> list[str]:
    """Counts of each request set's pieces by the quadrant asked for and heard, both judges side by side."""
    lines: list[str] = []
    for requests, title in SETS.items():
        if f"{requests}confusion_1_1" not in figures:
            continue
        lines += ["", f"{title.partition(',')[0]}, pieces by quadrant, heard by the first / second judge:", ""]
        lines += ["| asked for | " + " | ".join(f"heard {name}" for name in QUADRANTS) + " |", "| --- |" + " --- |" * 4]
        for row, name in enumerate(QUADRANTS, start=1):
            keys = [f"{requests}confusion_{row}_{column}" for column in range(1, 5)]
            counts = (f"{figures[k]} / {figures.get(f'second_{k}', '-')}" for k in keys)
            lines.append(f"| {name} | " + " | ".join(counts) + " |")
    return lines


def music(figures: Figures) -> list[str]:
    """PR, PE and GC beside the rated data's, and how the distributions of features overlap with the data's."""
    rows = [
        f"| {title} | {cell(figures, key)} | {number(figures.get(f'{key}_data'))} |"
        for key, title in STATISTICS.items()
        if key in figures
    ]
    lines = ["", "| music | composed | rated data |", "| --- | --- | --- |", *rows] if rows else []
    features = sorted(key.removesuffix("_overlap") for key in figures if key.endswith("_overlap"))
    for heading, names in (
        ("the nine features of Yang and Lerch", [name for name in features if name in MGEVAL_NAMES]),
        ("other statistics, compared in the same way", [name for name in features if name not in MGEVAL_NAMES]),
    ):
        if names:
            lines += ["", f"| {heading} | overlapping area with the data | KL divergence |", "| --- | --- | --- |"]
            lines += [
                f"| {name.replace('_', ' ')} | {cell(figures, f'{name}_overlap')} | {cell(figures, f'{name}_kl')} |"
                for name in names
            ]
    return lines


def head(first: str) -> list[str]:
    """Head of a table of COLUMNS."""
    return [f"| {first} | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " --- |" * len(COLUMNS)]


def row(figures: Figures, prefix: str, title: str) -> str:
    """A row of a table of COLUMNS."""
    return f"| {title} | " + " | ".join(cell(figures, prefix + key) for key in COLUMNS) + " |"


def cell(figures: Figures, key: str) -> str:
    """`.52 [.43, .60]`; a count as it is; a dash where there is none."""
    if key not in figures:
        return "-"
    if key == "n" or key.endswith("_n"):
        return f"{figures[key]:.0f}"
    low, high = figures.get(f"{key}_low"), figures.get(f"{key}_high")
    value = number(figures[key])
    return value if low is None or high is None else f"{value} [{number(low)}, {number(high)}]"


def number(value: float | None) -> str:
    """Two digits, without a zero before the point: `.52`, `-.07`, `1.00`; `0` and `1` where it is just that."""
    if value is None:
        return "-"
    if value in (0, 1):
        return f"{value:.0f}"
    text = f"{value:.2f}".removeprefix("-") if abs(value) < 0.005 else f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def copied(figures: Figures) -> str:
    """One line about novelty."""
    return (
        f"Longest copied passage, notes: mean {cell(figures, 'copied_notes')}, 95th percentile {figures['copied_notes_p95']:.0f}; "
        f"real held-out pieces against the same training set: {figures['copied_notes_data']:.2f} and "
        f"{figures['copied_notes_p95_data']:.0f}."
    )
