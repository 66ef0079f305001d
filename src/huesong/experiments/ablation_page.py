"""The ablation's table, verdicts and chart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from huesong.emotion.space import AXES
from huesong.experiments.results_page import cell

COLUMNS = {
    "seeds_n": "seeds", "grid_n": "n", "grid_valence_mae": "V MAE", "grid_valence_r": "V r", "grid_valence_ccc": "V CCC",
    "grid_arousal_mae": "A MAE", "grid_arousal_r": "A r", "grid_arousal_ccc": "A CCC", "grid_quadrant_accuracy": "quadrant",
    "distance_paper": "distance",
}  # fmt: skip


def markdown(figures: Mapping[str, Mapping[str, float]], comparisons: Mapping[str, Mapping[str, float]]) -> str:
    """Table and verdicts as Markdown."""
    lines = [
        "Grid of 25 emotions, pieces pooled over the training seeds; brackets: bootstrap 95 % over pieces. "
        "Distance: the paper's form over polyphony rate, pitch entropy and groove, lower is better.",
        "",
        "| objective | " + " | ".join(COLUMNS.values()) + " |",
        "| --- |" + " --- |" * len(COLUMNS),
    ]
    for name, found in figures.items():
        lines.append(f"| {name} | " + " | ".join(cell(found, key) for key in COLUMNS) + " |")
    lines += ["", *(verdict(title, found) for title, found in comparisons.items())]
    return "\n".join(lines).rstrip() + "\n"


def verdict(title: str, found: Mapping[str, float]) -> str:
    """One line: whether an objective follows the request better than another (`title`: which against which)."""
    parts = []
    for axis in AXES:
        low, high = found.get(f"{axis}_low", 0.0), found.get(f"{axis}_high", 0.0)
        word = "helps" if low > 0 else "hurts" if high < 0 else "cannot be told apart"
        seeds = [f"{value:+.3f}" for key, value in found.items() if key.startswith(f"{axis}_seed_")]
        each = f"; seed by seed {', '.join(seeds)}" if len(seeds) > 1 else ""
        parts.append(f"{axis} {word} ({found[axis]:+.3f} [{low:+.3f}, {high:+.3f}]{each})")
    return f"* **{title}**: {'; '.join(parts)}. Mean reduction of the error, paired by request and seed, n = {found['n']:.0f}."


def chart(figures: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Concordance of both axes with intervals, a row a variant."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(figures)[::-1]
    figure, panels = plt.subplots(1, 2, figsize=(9, 0.6 + 0.42 * len(names)), sharey=True, layout="constrained")
    for panel, axis in zip(panels, AXES, strict=True):
        key = f"grid_{axis}_ccc"
        for row, name in enumerate(names):
            found = figures[name]
            if key in found:
                low, high = found.get(f"{key}_low", found[key]), found.get(f"{key}_high", found[key])
                colour = "0.55" if name.startswith("- ") else "tab:blue"
                panel.plot([low, high], [row, row], color=colour, linewidth=3, alpha=0.5)
                panel.plot(found[key], row, "o", color=colour)
        panel.axvline(0, color="0.8", zorder=0)
        panel.set_title(f"{axis}: concordance of asked and heard")
        panel.set_xlim(-0.5, 1)
    panels[0].set_yticks(range(len(names)), [name.removeprefix("- ") for name in names])
    figure.savefig(path, dpi=110)
    plt.close(figure)
