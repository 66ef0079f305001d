"""Plots of the valence-arousal plane (matplotlib's object interface: no global state)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from huesong.emotion.space import QUADRANT_NAMES, confusion, quadrant

COLOURS = ("#3d5a99", "#d1622b", "#2c8a6b", "#8a4fa3")
GREY = "#8b93a3"


def scatter(sets: Mapping[str, pd.DataFrame], path: Path, title: str) -> None:
    """One panel a set: its points in the VA plane (columns `valence`, `arousal`), with its size in the title."""
    figure = Figure(figsize=(4.6 * len(sets), 4.6), layout="constrained")
    for number, (name, frame) in enumerate(sets.items(), start=1):
        axes = figure.add_subplot(1, len(sets), number)
        opacity = float(np.clip(60 / np.sqrt(len(frame) + 1) / 10, 0.04, 0.7))
        axes.scatter(frame["valence"], frame["arousal"], s=9, alpha=opacity, color=COLOURS[number - 1], linewidths=0)
        plane(axes, f"{name} (n = {len(frame):,})")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def plane(axes: Axes, title: str) -> None:
    """Frame, axes and quadrant names of the VA plane."""
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axvline(0, color=GREY, linewidth=0.8)
    for number, (x, y) in {1: (0.97, 0.97), 2: (-0.97, 0.97), 3: (-0.97, -0.97), 4: (0.97, -0.97)}.items():
        axes.text(x, y, QUADRANT_NAMES[number], color=GREY, fontsize=8, va="top" if y > 0 else "bottom",
                  ha="right" if x > 0 else "left")  # fmt: skip
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="valence", ylabel="arousal", title=title, aspect="equal")


def calibration(asked: np.ndarray, obtained: np.ndarray, path: Path, x: str = "requested", y: str = "heard") -> None:
    """Two panels (V, A): `asked` [N, 2] against `obtained` [N, 2], with the diagonal and means of ten bins."""
    figure = Figure(figsize=(9.2, 4.6), layout="constrained")
    for axis, name in enumerate(("valence", "arousal")):
        axes = figure.add_subplot(1, 2, axis + 1)
        a, b = asked[:, axis], obtained[:, axis]
        axes.plot([-1, 1], [-1, 1], color=GREY, linewidth=0.8)
        opacity = float(np.clip(6 / np.sqrt(len(a) + 1), 0.05, 0.6))
        axes.scatter(a, b, s=10, alpha=opacity, color=COLOURS[axis], linewidths=0)
        edges = np.unique(np.quantile(a, np.linspace(0, 1, 11)))
        if len(edges) > 2:
            bins = np.clip(np.searchsorted(edges, a, side="right") - 1, 0, len(edges) - 2)
            used = np.unique(bins)
            axes.plot([a[bins == k].mean() for k in used], [b[bins == k].mean() for k in used], "o-", color="#1d2330",
                      markersize=4, linewidth=1.2, label="mean of a tenth")  # fmt: skip
            axes.legend(frameon=False, loc="upper left")
        axes.set(xlim=(-1, 1), ylim=(-1, 1), xlabel=f"{x} {name}", ylabel=f"{y} {name}", aspect="equal",
                 title=f"{name} (n = {len(a):,})")  # fmt: skip
    figure.savefig(path, dpi=110)


def confusion_matrix(asked: np.ndarray, obtained: np.ndarray, path: Path) -> None:
    """Quadrants asked for (rows) against heard (columns), as counts shaded by the row's share."""
    table = confusion(quadrant(*asked.T), quadrant(*obtained.T))
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        axes.text(column, row, f"{count}\n{share[row, column]:.0%}", ha="center", va="center",
                  color="white" if share[row, column] > 0.55 else "#1d2330", fontsize=9)  # fmt: skip
    names = [QUADRANT_NAMES[k] for k in (1, 2, 3, 4)]
    axes.set(xticks=range(4), yticks=range(4), xticklabels=names, yticklabels=names, xlabel="heard", ylabel="asked for")
    figure.savefig(path, dpi=110)


def distributions(generated: pd.DataFrame, reference: pd.DataFrame, names: list[str], path: Path) -> None:
    """Histograms of each statistic: the generated pieces over the data."""
    columns = 4
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.5 * rows), layout="constrained")
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, columns, number)
        both = np.concatenate([generated[name], reference[name]])
        edges = np.linspace(both.min(), both.max() + 1e-9, 21)
        axes.hist(reference[name], edges, density=True, color=GREY, alpha=0.55, label="data")
        axes.hist(
            generated[name], edges, density=True, histtype="step", color=COLOURS[1], linewidth=1.6, label="generated"
        )
        axes.set(title=name.replace("_", " "), yticks=[])
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def evaluation_plots(heard: pd.DataFrame, reference: pd.DataFrame, names: list[str], folder: Path) -> None:
    """All plots of the evaluate stage: calibration and confusion a request set, and the music's distributions."""
    for name in ("pictures", "grid"):
        part = heard[heard["set"] == name]
        if part.empty:
            continue
        asked = part[["requested_valence", "requested_arousal"]].to_numpy(dtype=np.float64)
        obtained = part[["obtained_valence", "obtained_arousal"]].to_numpy(dtype=np.float64)
        calibration(asked, obtained, folder / f"va_{name}_calibration.png")
        confusion_matrix(asked, obtained, folder / f"va_{name}_confusion.png")
    distributions(heard, reference, names, folder / "music_distributions.png")
