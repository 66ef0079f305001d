"""What the network remembers of the pieces that it composes, one row a piece; rows may be of different length.

Shapes: B rows, L layers, S heads of keys, E width of a head, K tokens so far, M memory tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from huesong.model.decoding.history import History

Memory = list[tuple[np.ndarray, np.ndarray]]
"""Of each decoder layer the keys and values [B, H, M, E] that the music attends to, float32."""


class KVCache:
    """Keys and values of everything attended to so far, and the condition of each row; all float32.

    The keys and values of a layer lie side by side, [B * capacity, 2 * S * E]: a step writes them in one go and in
    place. Those of the picture, [B, H, M, E], are computed once. Made by `Decoder.new_cache`.
    """

    def __init__(
        self, condition_BD: np.ndarray, memory: Memory, layers: int, shape: tuple[int, int], capacity: int
    ) -> None:
        self.condition_BD, self.memory, self.shape, self.capacity = condition_BD, memory, shape, capacity
        batch, width = len(condition_BD), shape[0] * shape[1]
        self.lengths = [0] * batch
        self.kept = [np.zeros((batch * capacity, 2 * width), np.float32) for _ in range(layers)]
        self.last_keys = [np.zeros((batch, width), np.float32) for _ in range(layers)]
        """Of the newest token of each row [B, S * E], before they were mixed."""
        self.history = [History() for _ in range(batch)]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths, default=0)

    def read(self, layer: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values [B, S, K, E] of the first `count` tokens of every row: views of what is kept."""
        kept = self.kept[layer].reshape(len(self), self.capacity, 2, *self.shape)[:, :count]
        return kept[:, :, 0].swapaxes(1, 2), kept[:, :, 1].swapaxes(1, 2)

    def select(self, rows: Sequence[int]) -> KVCache:
        """A cache of the given rows only, in that order."""
        return KVCache.joined([(self, row) for row in rows])

    @classmethod
    def joined(cls, rows: Sequence[tuple[KVCache, int]]) -> KVCache:
        """A cache of rows of several caches; what they hold is copied."""
        first = rows[0][0]
        memory = [
            (np.stack([cache.memory[at][0][row] for cache, row in rows]),
             np.stack([cache.memory[at][1][row] for cache, row in rows]))
            for at in range(len(first.memory))
        ]  # fmt: skip
        condition_BD = np.stack([cache.condition_BD[row] for cache, row in rows])
        made = cls(condition_BD, memory, len(first.kept), first.shape, first.capacity)
        for at, (cache, row) in enumerate(rows):
            made.put(at, cache, row)
        return made

    def put(self, at: int, other: KVCache, row: int = 0) -> None:
        """Let row `at` hold what a row of another cache holds."""
        count, here, there = other.lengths[row], at * self.capacity, row * other.capacity
        for mine, theirs in zip(self.kept, other.kept, strict=True):
            mine[here : here + count] = theirs[there : there + count]
        for mine, theirs in zip(self.last_keys, other.last_keys, strict=True):
            mine[at] = theirs[row]
        self.history[at] = other.history[row].copied()
        self.lengths[at] = count
