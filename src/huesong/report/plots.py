"""Plots of the valence-arousal plane (matplotlib's object interface: no global state)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from huesong.runtime.files import written_whole
from huesong.va import AXES, QUADRANT_NAMES, USUAL, Bootstrap, clusters, confusion, levels, quadrant

COLOURS = ("#3d5a99", "#d1622b", "#2c8a6b", "#8a4fa3")
GREY, INK = "#8b93a3", "#1d2330"
DPI = 110


def plane(axes: Axes, title: str) -> None:
    """Frame, axes and quadrant names of the VA plane."""
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    for number, (x, y) in {1: (0.97, 0.97), 2: (-0.97, 0.97), 3: (-0.97, -0.97), 4: (0.97, -0.97)}.items():
        above, right = "top" if y > 0 else "bottom", "right" if x > 0 else "left"
        axes.text(x, y, QUADRANT_NAMES[number], color=GREY, fontsize=8, va=above, ha=right)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="valence", ylabel="arousal", title=title, aspect="equal")
    _quiet(axes)


def scatter(sets: Mapping[str, pd.DataFrame], path: Path, title: str = "") -> None:
    """One panel a set: its points in the VA plane (columns `valence`, `arousal`), coloured by `origin` if there is one."""
    figure = Figure(figsize=(4.8 * len(sets), 5.6), layout="constrained")
    for number, (name, frame) in enumerate(sets.items(), start=1):
        axes = figure.add_subplot(1, len(sets), number)
        origins = frame["origin"] if "origin" in frame else pd.Series("", index=frame.index)
        # The largest part first: the few stay visible on top of the many.
        colours = [*COLOURS[(number - 1) % len(COLOURS) :], *COLOURS[: (number - 1) % len(COLOURS)]]
        for colour, (origin, count) in zip(colours, origins.value_counts().items(), strict=False):
            part = frame[origins == origin]
            _points(axes, part[list(AXES)].to_numpy(), colour, f"{str(origin).replace('_', ' ')} ({count:,})")
        plane(axes, f"{name} (n = {len(frame):,})")
        if "origin" in frame and len(frame):
            _legend_below(axes)
    if title:
        figure.suptitle(title)
    with written_whole(path) as stream:
        figure.savefig(stream, dpi=DPI, format="png")


def pair_plot(pairs: pd.DataFrame, pictures: pd.DataFrame, pieces: pd.DataFrame, path: Path, lines: int = 400) -> None:
    """Left: where pictures lie and where the map puts them. Right: the nearest piece of each mapped picture.

    Args:
        pairs: contracts.PAIR_COLUMNS.
        pictures, pieces: contracts.LABEL_COLUMNS.
        path: PNG to write.
        lines: at most so many lines are drawn, evenly over the pairs.
    """
    first = pairs[pairs["rank"] == 0]
    own = pictures.set_index("id").loc[first["image_id"], list(AXES)].to_numpy(dtype=np.float64)
    mapped = first[list(AXES)].to_numpy(dtype=np.float64)
    heard = pieces.set_index("id").loc[first["piece_id"], list(AXES)].to_numpy(dtype=np.float64)
    figure = Figure(figsize=(9.6, 5.0), layout="constrained")
    shown = np.unique(np.linspace(0, len(first) - 1, min(lines, len(first))).astype(int))
    panels: Sequence[tuple[str, np.ndarray, str, np.ndarray, str]] = (
        ("the map", own, "picture", mapped, "mapped into the music's range"),
        ("the pairs", mapped, "mapped picture", heard, "its nearest piece"),
    )
    for number, (title, start, start_name, end, end_name) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, 2, number)
        ways = list(np.stack([start[shown], end[shown]], axis=1))
        axes.add_collection(LineCollection(ways, colors=GREY, linewidths=0.5, alpha=0.45))
        _points(axes, start, COLOURS[number - 1], start_name, least=0.45)
        _points(axes, end, COLOURS[number], end_name, least=0.45)
        plane(axes, f"{title} (n = {len(first):,})")
        _legend_below(axes)
    with written_whole(path) as stream:
        figure.savefig(stream, dpi=DPI, format="png")


def calibration(
    asked: np.ndarray,
    obtained: np.ndarray,
    path: Path,
    x: str = "requested",
    y: str = "heard",
    bootstrap: Bootstrap = USUAL,
) -> None:
    """Two panels (V, A): `asked` [N, 2] against `obtained` [N, 2], the diagonal, and `va.levels` with intervals."""
    figure = Figure(figsize=(9.2, 4.8), layout="constrained")
    for axis, name in enumerate(AXES):
        axes = figure.add_subplot(1, 2, axis + 1)
        a, b = asked[:, axis], obtained[:, axis]
        axes.plot([-1, 1], [-1, 1], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        _points(axes, np.column_stack([a, b]), COLOURS[axis])
        found = levels(a, b, bootstrap)
        if len(found) > 1:
            mean = np.array([level.mean for level in found])
            ends = np.array([level.interval or (level.mean, level.mean) for level in found])
            # A bootstrap percentile interval may miss the mean by a hair; an error bar must not be negative.
            bars = np.maximum([mean - ends[:, 0], ends[:, 1] - mean], 0.0)
            style: dict[str, Any] = {"fmt": "o-", "markersize": 4, "linewidth": 1.3, "elinewidth": 1.0, "capsize": 3}
            x_levels = [level.requested for level in found]
            axes.errorbar(x_levels, mean, bars, color=INK, label="mean of each level, 95 %", **style)
            axes.legend(frameon=False, loc="upper left", fontsize=8)
        axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", title=f"{name} (n = {len(a):,})")
        axes.set(xlabel=f"{x} {name}", ylabel=f"{y} {name}")
        _quiet(axes)
    with written_whole(path) as stream:
        figure.savefig(stream, dpi=DPI, format="png")


def confusion_matrix(
    asked: np.ndarray, obtained: np.ndarray, path: Path, x: str = "heard", y: str = "asked for"
) -> None:
    """Quadrants asked for (rows) against heard (columns), as counts shaded by the row's share.

    Points asked for exactly on an axis have no quadrant and are left out, as in `va.agreement`.
    """
    signed = (asked != 0).all(axis=1)
    table = confusion(quadrant(*asked[signed].T), quadrant(*obtained[signed].T))
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if share[row, column] > 0.55 else INK
        axes.text(column, row, f"{count}\n{share[row, column]:.0%}", ha="center", va="center", color=colour, fontsize=9)
    names = [QUADRANT_NAMES[k] for k in (1, 2, 3, 4)]
    axes.set(xticks=range(4), yticks=range(4), xticklabels=names, yticklabels=names)
    axes.set(xlabel=x, ylabel=y, title=f"quadrants (n = {int(table.sum()):,})")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    with written_whole(path) as stream:
        figure.savefig(stream, dpi=DPI, format="png")


def distributions(generated: pd.DataFrame, reference: pd.DataFrame, names: list[str], path: Path) -> None:
    """Histograms of each statistic: the generated pieces over the data."""
    columns = 4
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.5 * rows), layout="constrained")
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, columns, number)
        both = np.concatenate([generated[name], reference[name]])
        edges = np.linspace(both.min(), both.max() + 1e-9, 21).tolist() if len(both) else [0.0, 1.0]
        if len(reference):
            data = f"data (n = {len(reference):,})"
            axes.hist(reference[name], edges, density=True, color=GREY, alpha=0.55, label=data)
        if len(generated):
            own: dict[str, Any] = {"histtype": "step", "color": COLOURS[1], "linewidth": 1.6}
            axes.hist(generated[name], edges, density=True, label=f"generated (n = {len(generated):,})", **own)
        axes.set(title=name.replace("_", " "), yticks=[])
        _quiet(axes)
    if figure.axes:
        figure.axes[0].legend(frameon=False, fontsize=8)
    with written_whole(path) as stream:
        figure.savefig(stream, dpi=DPI, format="png")


def evaluation_plots(
    heard: pd.DataFrame, reference: pd.DataFrame, names: list[str], judges: Mapping[str, str], folder: Path
) -> None:
    """All plots of the evaluate stage: calibration and confusion a request set and judge, and the music's distributions.

    `judges`: a prefix of file names and figures ("" for the first), and the prefix of the columns with the verdict.
    """
    for name in ("pictures", "grid"):
        part = heard[heard["set"] == name]
        if part.empty:
            continue
        asked = part[["requested_valence", "requested_arousal"]].to_numpy(dtype=np.float64)
        for judge, column in judges.items():
            obtained = part[[f"{column}_valence", f"{column}_arousal"]].to_numpy(dtype=np.float64)
            calibration(
                asked, obtained, folder / f"{judge}va_{name}_calibration.png", bootstrap=USUAL.over(clusters(part))
            )
            confusion_matrix(asked, obtained, folder / f"{judge}va_{name}_confusion.png")
    distributions(heard, reference, names, folder / "music_distributions.png")


def _points(axes: Axes, points: np.ndarray, colour: str, label: str | None = None, least: float = 0.0) -> None:
    """Points [N, 2], smaller and fainter the more there are, but not fainter than `least`."""
    root = np.sqrt(len(points) + 1)
    size, opacity = float(np.clip(220 / root, 5, 22)), max(least, float(np.clip(14 / root, 0.1, 0.75)))
    axes.scatter(points[:, 0], points[:, 1], s=size, alpha=opacity, color=colour, linewidths=0, label=label)


def _quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)


def _legend_below(axes: Axes) -> None:
    legend = axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(0.9)
