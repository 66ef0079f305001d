"""Pairing pictures with music by nearness in VA space.

Still pictures are rarely exciting and music often is, so one distribution is mapped into the other first, by an explicit
choice; and the load is balanced, so that no piece stands for half of all pictures.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from huesong.emotion.space import clip_va
from huesong.errors import UserError

CANDIDATES = 64


def map_va(image_va: np.ndarray, music_va: np.ndarray, kind: str) -> np.ndarray:
    """Pictures' VA [N, 2] mapped into the distribution of the music's [M, 2], each axis by itself.

    * `none`: unchanged.
    * `affine`: (x - mean of pictures) / sd of pictures * sd of music + mean of music, cut to [-1, 1].
    * `rank`: quantile to quantile, x -> Q_music(F_pictures(x)); monotone, so order is kept.
    """
    if kind == "none":
        return clip_va(image_va)
    image_va, music_va = np.asarray(image_va, dtype=np.float64), np.asarray(music_va, dtype=np.float64)
    if kind == "affine":
        spread = np.maximum(image_va.std(axis=0), 1e-9)
        return clip_va((image_va - image_va.mean(axis=0)) / spread * music_va.std(axis=0) + music_va.mean(axis=0))
    if kind == "rank":
        mapped = np.empty_like(image_va)
        for axis in range(2):
            # Mid-ranks: equal pictures get equal music, and the ends do not cling to the extremes.
            values, inverse, counts = np.unique(image_va[:, axis], return_inverse=True, return_counts=True)
            share = (np.cumsum(counts) - counts / 2) / len(image_va)
            mapped[:, axis] = np.quantile(music_va[:, axis], share)[inverse]
        return clip_va(mapped)
    raise UserError(f"label.pairing_map = {kind!r}: use none, affine or rank")


def pair(image_va: np.ndarray, piece_va: np.ndarray, k: int, max_load: float) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest pieces of every picture, with a limit on how often a piece is taken.

    Args:
        image_va: [N, 2], already mapped.
        piece_va: [M, 2].
        k: pieces a picture; fewer (all) if M < k.
        max_load: a piece is taken at most ceil(max_load * N * k / M) times.

    Returns:
        Indices into the pieces and distances, both [N, k], nearest first.
    """
    pictures, pieces = np.asarray(image_va, dtype=np.float64), np.asarray(piece_va, dtype=np.float64)
    k = min(k, len(pieces))
    room = np.full(len(pieces), int(np.ceil(max(1.0, max_load) * len(pictures) * k / len(pieces))))
    index = NearestNeighbors(algorithm="kd_tree").fit(pieces)
    chosen = np.full((len(pictures), k), -1)
    distances = np.zeros((len(pictures), k))
    # Round by round, so that every picture gets its first choice before any gets its second.
    taken: list[set[int]] = [set() for _ in pictures]
    near_distance, near = index.kneighbors(pictures, n_neighbors=min(len(pieces), max(CANDIDATES, 2 * k)))
    for rank in range(k):
        for row in np.argsort(near_distance[:, min(rank, near.shape[1] - 1)], kind="stable"):
            found = next((j for j, p in enumerate(near[row]) if room[p] > 0 and p not in taken[row]), None)
            if found is not None:
                piece, distance = int(near[row, found]), float(near_distance[row, found])
            else:
                far = np.sqrt(((pieces - pictures[row]) ** 2).sum(axis=1))
                far[(room <= 0) | np.isin(np.arange(len(pieces)), list(taken[row]))] = np.inf
                piece = int(far.argmin())
                distance = float(np.sqrt(((pieces[piece] - pictures[row]) ** 2).sum()))
            chosen[row, rank], distances[row, rank] = piece, distance
            taken[row].add(piece)
            room[piece] -= 1
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(distances, order, axis=1)


def apply_map(image_va: np.ndarray, known_va: np.ndarray, mapped_va: np.ndarray) -> np.ndarray:
    """The monotone map that takes `known_va` to `mapped_va` (both [N, 2], from `map_va`), for other pictures [M, 2].

    Linear between the known points of each axis and constant beyond them.
    """
    out = np.empty((len(image_va), 2))
    for axis in range(2):
        order = np.argsort(known_va[:, axis], kind="stable")
        out[:, axis] = np.interp(image_va[:, axis], known_va[order, axis], mapped_va[order, axis])
    return out
