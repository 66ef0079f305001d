"""The figures of one whole run as Markdown tables, read from what its stages wrote: no number is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

from huesong import contracts
from huesong.music.statistics import MGEVAL_NAMES
from huesong.report.tables import AGREEMENT, ANSWERS, JUDGES, MUSIC, REQUESTS, Figures, figure, row, table
from huesong.runtime.files import read_json
from huesong.va import AXES

LABELLERS = {
    "pieces_eimg_": "EIMG (music, 6 raters)", "pieces_vgmidi_": "VGMIDI (music, about 30 raters)",
    "pieces_emopia_": "EMOPIA (music, quadrants only)", "images_oasis_": "OASIS (pictures, 100 raters)",
}  # fmt: skip
LISTENERS = {
    "judge_": "first judge, on split `test`", "second_judge_": "second judge, on split `test`",
    "critic_": "the generator's critic, on split `test`",
}  # fmt: skip
STATISTICS = ("polyphony_rate", "pitch_entropy", "groove_paper", "groove")
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
    *(
        (f"{title}, test pictures, music against people", f"picture_{key}", goal)
        for title, key, goal in (
            ("valence r", "valence_r", ">= .60"),
            ("arousal r", "arousal_r", ">= .60"),
            ("quadrant", "quadrant_accuracy", ">= .50"),
            ("quadrant by medians", "quadrant_by_medians", ">= .58"),
            ("valence error beyond a constant's", "valence_beyond_constant", "<= 0"),
            ("arousal error beyond a constant's", "arousal_beyond_constant", "<= 0"),
            ("valence CCC", "valence_ccc", ""),
            ("arousal CCC", "arousal_ccc", ""),
        )
    ),
    ("picture head, valence r", "image_head_valence_r", ">= .65"),
    ("picture head, arousal r", "image_head_arousal_r", ">= .65"),
    (MUSIC["distance_paper"], "distance_paper", "<= .15"),
    (MUSIC["distance_correct"], "distance_correct", ""),
    (MUSIC["distance_taught_paper"], "distance_taught_paper", ""),
    (MUSIC["identical_share"], "identical_share", "= 0"),
    (MUSIC["length_within_10_percent"], "length_within_10_percent", "= 1"),
    (MUSIC["invalid_tokens"], "invalid_tokens", "= 0"),
)
"""What the project wants to reach: figure, its name in figures.json, the goal."""


def markdown(artifacts: Path) -> str:
    """All tables of the run whose stages wrote `artifacts`.

    Raises:
        UserError: a stage has not run.
    """
    label, train, evaluate = (
        read_json(artifacts / stage / contracts.FIGURES, f"huesong {stage}") for stage in ("label", "train", "evaluate")
    )
    goals = [
        [title, figure(evaluate, key), figure(evaluate, f"second_{key}"), goal or "-"]
        for title, key, goal in GOALS
        if key in evaluate
    ]
    parts = [
        "Labellers (folds of whole groups) and judges (on music that nothing else heard):",
        table(["who", *AGREEMENT.values()], agreement(label, LABELLERS) + agreement(evaluate, LISTENERS)),
        training(train),
    ]
    for requests, title in REQUESTS.items():
        for judge, name in JUDGES.items():
            answers = {judge + requests + who: shown for who, shown in ANSWERS.items()}
            answers[judge + requests] = f"**{ANSWERS['']}**"
            rows = agreement(evaluate, answers)
            parts += [f"{title}, {name}:", table(["who", *AGREEMENT.values()], rows)]
    parts += [*confusion(evaluate), *music(evaluate), table(["figure", *JUDGES.values(), "goal"], goals)]
    if "copied_notes" in evaluate:
        parts.append(
            f"Longest copied passage, notes: mean {figure(evaluate, 'copied_notes')}, 95th percentile "
            f"{evaluate['copied_notes_p95']:.0f}; real held-out pieces against the same training set: "
            f"{evaluate['copied_notes_data']:.2f} and {evaluate['copied_notes_p95_data']:.0f}."
        )
    return "\n\n".join(parts) + "\n"


def agreement(figures: Figures, prefixes: Mapping[str, str]) -> list[list[str]]:
    """Rows of a table of AGREEMENT, of those prefixes that have figures."""
    return [
        row(figures, title, [prefix + key for key in AGREEMENT])
        for prefix, title in prefixes.items()
        if f"{prefix}n" in figures
    ]


def training(train: Figures) -> str:
    """Size and length of the training, and how well generator and critic learnt."""
    critic = "; ".join(
        f"{axis} r {figure(train, f'critic_val_{axis}_r')}, CCC {figure(train, f'critic_val_{axis}_ccc')}"
        for axis in AXES
    )
    return (
        f"{train['parameters'] / 1e6:.2f} M parameters, {train['steps']:.0f} steps, {train['tokens_seen'] / 1e6:.1f} M "
        f"tokens; cross-entropy {train['train_ce']:.2f} nats a token on training pieces, "
        f"{train.get('val_ce', float('nan')):.2f} on validation pieces; the critic on the rated segments of split `val`, "
        f"which also chose its stopping point (n = {train.get('critic_val_segments', 0):.0f}): {critic}."
    )


def confusion(figures: Figures) -> list[str]:
    """Counts of each request set's pieces by the quadrant asked for and heard, both judges side by side."""
    parts: list[str] = []
    for requests, title in REQUESTS.items():
        if f"{requests}confusion_1_1" not in figures:
            continue
        rows = [[name] for name in QUADRANTS]
        for asked, heard in product(range(1, 5), range(1, 5)):
            key = f"{requests}confusion_{asked}_{heard}"
            rows[asked - 1].append(f"{figures[key]} / {figures.get(f'second_{key}', '-')}")
        parts.append(f"{title.partition(',')[0]}, pieces by quadrant, heard by the first / second judge:")
        parts.append(table(["asked for", *(f"heard {name}" for name in QUADRANTS)], rows))
    return parts


def music(figures: Figures) -> list[str]:
    """PR, PE and GC beside the rated data's, and how the distributions of features overlap with the data's."""
    rows = [row(figures, MUSIC[key], [key, f"{key}_data"]) for key in STATISTICS if key in figures]
    parts = [table(["music", "composed", "rated data"], rows)] if rows else []
    features = sorted(key.removesuffix("_overlap") for key in figures if key.endswith("_overlap"))
    for heading, of_the_nine in (
        ("the nine features of Yang and Lerch", True),
        ("other statistics, compared in the same way", False),
    ):
        rows = [
            row(figures, name.replace("_", " "), [f"{name}_overlap", f"{name}_kl"])
            for name in features
            if (name in MGEVAL_NAMES) == of_the_nine
        ]
        parts += [table([heading, "overlapping area with the data", "KL divergence"], rows)] if rows else []
    return parts
