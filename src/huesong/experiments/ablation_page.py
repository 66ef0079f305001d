"""The ablation's table, verdicts and chart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from huesong.report.tables import AGREEMENT, JUDGES, REQUESTS, Figures, row, table
from huesong.runtime.files import written_whole
from huesong.va import AXES

WHOLE = {"seeds_n": "seeds", "distance_paper": "distance"}
"""Figures of a variant as a whole, in the first table."""
MUSIC = {
    "polyphony_rate": "PR", "pitch_entropy": "PE", "groove_paper": "GC, paper", "groove": "GC, correct",
    "distance_paper": "distance, paper", "distance_correct": "distance, correct", "overlap": "overlap", "kl": "KL",
    "copied_notes": "copied notes", "identical_share": "identical", "length_within_10_percent": "length",
    "invalid_tokens": "invalid",
}  # fmt: skip
"""Short titles, for a table of many columns."""


def markdown(
    figures: Mapping[str, Figures], comparisons: Mapping[str, Figures], hours: Mapping[str, float] | None = None
) -> str:
    """Tables of both request sets by both judges, and verdicts, as Markdown; `hours`: the sums of the runs' clocks."""
    parts = [
        "Pieces are pooled over the training seeds; brackets: bootstrap 95 %, over whole groups of pictures for the figures "
        "of test pictures, over pieces elsewhere. V sign, A sign: share of pieces on the asked side of the axis. Distance: the "
        "paper's form over polyphony rate, pitch entropy and groove, lower is better.",
    ]
    for requests, words in REQUESTS.items():
        for judge, name in JUDGES.items():
            columns = {judge + requests + key: title for key, title in AGREEMENT.items()}
            if not judge and requests == next(iter(REQUESTS)):
                columns |= WHOLE
            rows = [row(found, one, columns) for one, found in figures.items() if f"{judge}{requests}n" in found]
            if rows:
                parts += [f"{words}, {name}:", table(["objective", *columns.values()], rows)]
    parts += [*music(figures), "\n".join(verdict(title, found) for title, found in comparisons.items())]
    if hours:
        spent = ", ".join(f"{key} {value:.1f}" for key, value in hours.items())
        parts.append(f"Hours by the runs' own clocks: {spent}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def music(figures: Mapping[str, Figures]) -> list[str]:
    """A row a variant of what its music is like beside the rated data."""
    made = {name: found for name, found in figures.items() if "polyphony_rate" in found}
    if not made:
        return []
    data = {
        key.removesuffix("_data"): value for key, value in next(iter(made.values())).items() if key.endswith("_data")
    }
    return [
        "The music, all pieces of a variant: PR, PE and GC, their distance to the rated data; overlapping area and KL divergence, "
        "means of the nine features of Yang and Lerch and of the seeds; notes of the longest copied passage; share of identical "
        "pieces, share within 10 % of the asked length, invalid tokens:",
        table(
            ["objective", *MUSIC.values()],
            [row(found, name, MUSIC) for name, found in [*made.items(), ("- rated data", data)]],
        ),
    ]


def verdict(title: str, found: Figures) -> str:
    """One line: whether an objective follows the request better than another (`title`: which against which, and on what)."""
    if not found["n"]:
        return f"* **{title}**: left out, as the two ask for different emotions, up to {found['requests_apart']:.2f} apart."
    heard = []
    for judge, name in JUDGES.items():
        parts = []
        for axis in AXES:
            key = f"{judge}{axis}"
            low, high = found.get(f"{key}_low", 0.0), found.get(f"{key}_high", 0.0)
            word = "helps" if low > 0 else "hurts" if high < 0 else "cannot be told apart"
            seeds = [f"{value:+.3f}" for one, value in found.items() if one.startswith(f"{key}_seed_")]
            each = f"; seed by seed {', '.join(seeds)}" if len(seeds) > 1 else ""
            parts.append(f"{axis} {word} ({found[key]:+.3f} [{low:+.3f}, {high:+.3f}]{each})")
        heard.append(f"{name.capitalize()}: {'; '.join(parts)}.")
    how = f"reduction of the error, paired by request and seed, n = {found['n']:.0f}"
    if "pictures_n" in found:
        how += f" for {found['pictures_n']:.0f} pictures of {found['groups_n']:.0f} groups"
    return f"* **{title}** ({how}). {' '.join(heard)}"


def chart(figures: Mapping[str, Figures], path: Path) -> None:
    """Concordance of both axes with intervals, a row a variant."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(figures)[::-1]
    figure, panels = plt.subplots(1, 2, figsize=(9, 0.6 + 0.42 * len(names)), sharey=True, layout="constrained")
    for panel, axis in zip(panels, AXES, strict=True):
        key = f"grid_{axis}_ccc"
        for place, name in enumerate(names):
            found = figures[name]
            if key in found:
                low, high = found.get(f"{key}_low", found[key]), found.get(f"{key}_high", found[key])
                colour = "0.55" if name.startswith("- ") else "tab:blue"
                panel.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.5)
                panel.plot(found[key], place, "o", color=colour)
        panel.axvline(0, color="0.8", zorder=0)
        panel.set_title(f"{axis}: concordance of asked and heard")
        panel.set_xlim(-0.5, 1)
    panels[0].set_yticks(range(len(names)), [name.removeprefix("- ") for name in names])
    with written_whole(path) as stream:
        figure.savefig(stream, dpi=110, format="png")
    plt.close(figure)
