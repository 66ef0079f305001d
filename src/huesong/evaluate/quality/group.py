"""The group `quality_` of the figures of the evaluate stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from symusic import Score

from huesong.evaluate.novelty import Library
from huesong.evaluate.quality.figures import TITLES, piece_figures, set_figures
from huesong.evaluate.quality.piece import cut, piece_of
from huesong.evaluate.quality.two_sample import KEPT, Sample, balanced, told_apart
from huesong.va import Bootstrap, clusters

PREFIX = "quality_"
HELD_OUT = ("test", "judge", "val")
"""Splits of the groups that no generator learns its notes from."""


def quality_figures(
    scores: Sequence[Score],
    rows: pd.DataFrame,
    library: Library,
    pieces: pd.DataFrame,
    seconds: float,
    bootstrap: Bootstrap,
) -> dict[str, float]:
    """TITLES of the composed pieces with intervals, of real ones (`_data`), and the two-sample test.

    Args:
        scores: the composed pieces, read back.
        rows: for each `set` and `image_group`.
        library, pieces: the packed music, and PIECES_TABLE; the real pieces are held-out segments that are long enough,
            about as many as composed ones, equally many of each set.
        seconds: what all are cut to.
        bootstrap: over groups.

    Returns:
        Names with PREFIX; no `_data` and no test where there is no such segment.
    """
    groups = clusters(rows)
    own = [cut(piece_of(score), seconds) for score in scores]
    found: dict[str, float] = {f"{PREFIX}n": len(own)}
    found |= set_figures([piece_figures(piece) for piece in own], bootstrap.over(groups), PREFIX)
    long = np.flatnonzero(
        (
            pieces["split"].isin(HELD_OUT) & (pieces["seconds"] >= KEPT * seconds) & (pieces["token_count"] > 0)
        ).to_numpy()
    )
    chosen = long[balanced(pieces["source"].iloc[long].tolist(), len(own), bootstrap.seed)]
    if not len(chosen):
        return found
    real = [cut(piece_of(library.score(row)), seconds) for row in chosen.tolist()]
    data = set_figures([piece_figures(piece) for piece in real], bootstrap)
    found |= {f"{PREFIX}{name}_data": data[name] for name in TITLES if name in data}
    found[f"{PREFIX}n_data"] = len(real)
    return found | told_apart(
        Sample(own, [str(group) for group in groups]), Sample(real, pieces["group"].iloc[chosen].astype(str).tolist()),
        seconds, bootstrap, f"{PREFIX}c2st_",
    )  # fmt: skip
