"""The map from the valence and arousal of pictures to that of music: for the pairs, and for what a model asks of music.

Shapes: N pictures, M pieces, K knots; points are [.., 2], valence first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huesong.runtime.errors import UserError
from huesong.va import clip_va

KNOTS = 33
"""Of the map that a model carries (model.image_encoder)."""


@dataclass
class VAMap:
    """A monotone map of each axis from the pictures' distribution into the music's.

    * `none`: x -> x.
    * `affine`: x -> (x - mean of pictures) * sd of music / sd of pictures + mean of music.
    * `rank`: x -> Q(F(x)), F the pictures' empirical distribution function at mid-ranks, Q the music's quantile
      function; linear between the pictures it was fitted to and constant beyond them.

    The result is cut to [-1, 1]. On OASIS, arousal ends at +.49 while music reaches +.9: with `none` exciting music is
    never paired; `rank` gives the most exciting pictures the most exciting music.
    """

    kind: str
    knots: list[tuple[np.ndarray, np.ndarray]]
    """For each axis (x, y): where pictures lie and where they go; two points of the line for `affine`."""

    @classmethod
    def fit(cls, image_va: np.ndarray, music_va: np.ndarray, kind: str) -> VAMap:
        """Read the map off pictures [N, 2] and music [M, 2].

        Raises:
            UserError: unknown kind, or no pictures or music to read it off.
        """
        if kind not in ("none", "affine", "rank"):
            raise UserError(f"label.pairing_map = {kind!r}: use none, affine or rank")
        if kind == "none":
            return cls(kind, [])
        pictures, music = np.asarray(image_va, dtype=np.float64), np.asarray(music_va, dtype=np.float64)
        if not len(pictures) or not len(music):
            raise UserError(
                f"label.pairing_map = {kind!r} needs pictures and music to read the map off: set it to none"
            )
        knots = []
        for x, y in zip(pictures.T, music.T, strict=True):
            if kind == "affine":
                # Pictures that are all alike have no spread to scale: they go to the music's mean.
                ends = x.mean() + np.array([-1.0, 1.0])
                slope = y.std() / x.std() if x.std() > 1e-9 else 0.0
                knots.append((ends, y.mean() + slope * np.array([-1.0, 1.0])))
            else:
                # Mid-ranks: equal pictures get equal music, and the ends do not cling to the extremes.
                values, counts = np.unique(x, return_counts=True)
                share = (np.cumsum(counts) - counts / 2) / len(x)
                knots.append((values, np.quantile(y, share)))
        return cls(kind, knots)

    @classmethod
    def between_quantiles(cls, image_va: np.ndarray, mapped_va: np.ndarray, knots: int = KNOTS) -> VAMap:
        """The map from the quantiles of `image_va` [N, 2] to those of `mapped_va` [M, 2]: a monotone map keeps ranks."""
        shares = np.linspace(0, 1, knots)
        x_K2, y_K2 = (np.quantile(va.astype(np.float64), shares, axis=0) for va in (image_va, mapped_va))
        return cls("rank", list(zip(x_K2.T, y_K2.T, strict=True)))

    def apply(self, image_va: np.ndarray) -> np.ndarray:
        """Map pictures [N, 2], also others than those of `fit`."""
        points = np.asarray(image_va, dtype=np.float64)
        if self.kind == "none":
            return clip_va(points)
        mapped = np.empty_like(points)
        for axis, (x, y) in enumerate(self.knots):
            if self.kind == "affine":
                mapped[:, axis] = y[0] + (points[:, axis] - x[0]) * (y[1] - y[0]) / (x[1] - x[0])
            else:
                mapped[:, axis] = np.interp(points[:, axis], x, y)
        return clip_va(mapped)


def request_map(kind: str, read_va: np.ndarray, rated_va: np.ndarray, knots: int = KNOTS) -> VAMap:
    """What to ask of the music for a picture, from the reading of it; each axis a line of slope > 0.

    * `identity`: what is read.
    * `shrunk`: the mean rating that people give where this is read: the regression of ratings on readings, which is
      flatter the less reliable they are.
    * `people`: readings stretched to the mean and standard deviation of people's ratings.

    Args:
        kind: one of these.
        read_va: readings [N, 2] of pictures that the reader did not know.
        rated_va: people's ratings [N, 2] of them.
        knots: of the map, the middle one at the median reading; the ends are -1 and 1.
    """
    x, y = (np.asarray(va, dtype=np.float64) for va in (read_va, rated_va))
    inner_K2 = np.quantile(x, np.linspace(0, 1, knots - 2), axis=0).clip(-1.0, 1.0)
    from_K2 = np.concatenate([[[-1.0, -1.0]], inner_K2, [[1.0, 1.0]]])
    if kind == "identity":
        return VAMap("rank", [(column, column) for column in from_K2.T])
    spread_2 = np.maximum(x.std(axis=0), 1e-6)
    if kind == "people":
        slope_2 = y.std(axis=0) / spread_2
    elif kind == "shrunk":
        slope_2 = np.maximum(((x - x.mean(axis=0)) * (y - y.mean(axis=0))).mean(axis=0), 0.0) / spread_2**2
    else:
        raise UserError(f"label.request_map = {kind!r}: use identity, shrunk, people or rank")
    to_K2 = clip_va(y.mean(axis=0) + slope_2 * (from_K2 - x.mean(axis=0)))
    return VAMap("rank", list(zip(from_K2.T, to_K2.T, strict=True)))
