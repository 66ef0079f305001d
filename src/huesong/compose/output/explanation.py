"""An explanation as one page: the picture, what moved its reading, the plane, the piece against other music."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from huesong.report.plots import GREY, INK, plane
from huesong.runtime.errors import printable
from huesong.va import AXES

if TYPE_CHECKING:
    from huesong.compose.explain import Explanation

DPI = 100
LONGEST = 44
"""Characters of a name on the page."""
SHOWN = 480
"""Pixels of the picture's longer side."""


def page(explained: Explanation, title: str) -> bytes:
    """A PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8.4), layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=(1, 1.05))
    picture = explained.picture.copy()
    picture.thumbnail((SHOWN, SHOWN))
    shown = figure.add_subplot(grid[0, 0])
    shown.imshow(np.asarray(picture))
    words = [word for _, word in explained.colours.values() if word]
    shown.set_title(f"{title}\n{', '.join(words)}", fontsize=10)
    shown.axis("off")
    if explained.nearest:
        said = "\n".join(f"{shortened(one.name)}, likeness {one.likeness:.2f}" for one in explained.nearest)
        shown.text(
            0.5, -0.03, f"most like these rated pictures (crosses in the plane):\n{said}", transform=shown.transAxes,
            ha="center", va="top", fontsize=8, color=INK,
        )  # fmt: skip
    most = max(float(np.abs(explained.regions).max()), 1e-3)
    for axis, name in enumerate(AXES):
        _regions(figure, grid[0, axis + 1], np.asarray(picture), explained.regions[axis], most, name)
    place = figure.add_subplot(grid[1, 0])
    plane(place, "")
    piece = explained.piece
    dots = (
        ("seen", explained.seen, "#5d6678"),
        ("asked for", piece.requested, "#3d5a99"),
        ("heard", piece.obtained, "#d8433c"),
    )
    for name, dot, colour in dots:
        if dot is not None:
            place.scatter(*dot, color=colour, s=60, label=name, zorder=3, clip_on=False)
    if explained.nearest:
        valences, arousals = zip(*(one.va for one in explained.nearest), strict=True)
        place.scatter(valences, arousals, color=GREY, marker="x", s=30, label="rated pictures", zorder=2, clip_on=False)
    place.legend(  # below: in the plane its signs would be taken for places
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=4,
        fontsize=8,
        frameon=False,
        columnspacing=1,
        handletextpad=0,
    )
    _traits(figure.add_subplot(grid[1, 1:]), explained)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def shortened(name: str) -> str:
    """A name that fits below a picture, as it may be printed."""
    name = printable(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _regions(figure: Any, place: Any, picture: np.ndarray, cells: np.ndarray, most: float, name: str) -> None:
    axes = figure.add_subplot(place)
    grey = picture.mean(axis=2)
    axes.imshow(grey, cmap="gray", vmin=-120, vmax=300)
    height, width = grey.shape
    drawn = axes.imshow(
        cells, cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.55, interpolation="bicubic", extent=(0, width, height, 0)
    )
    axes.set_title(f"what raises (red) and lowers (blue) {name}", fontsize=10)
    axes.axis("off")
    figure.colorbar(drawn, ax=axes, shrink=0.7)


def _traits(axes: Any, explained: Explanation) -> None:
    """A line a trait, with a dot where the piece stands among the training music."""
    traits = explained.traits
    for row, trait in enumerate(reversed(traits)):
        axes.plot((0, 100), (row, row), color="#e3e7ee", linewidth=6, solid_capstyle="round", zorder=1)
        axes.scatter(100 * trait.below, row, color="#3d5a99", s=70, zorder=2)
        axes.text(104, row, f"{trait.value:.3g} {trait.name}", va="center", fontsize=9, color=INK)
        axes.text(-4, row, trait.word or "as usual", va="center", ha="right", fontsize=10, color=INK)
    axes.set(xlim=(-32, 165), ylim=(-0.7, max(len(traits), 1) - 0.3), yticks=[])
    axes.set_xticks([0, 50, 100], ["less than all", "in the middle", "more than all"], fontsize=8, color=GREY)
    plan = explained.piece.plan.describe().splitlines()[0]
    axes.set_title(f"the piece among rated training music\n{plan}", fontsize=10)
    for side in axes.spines.values():
        side.set_visible(False)
