"""What the network remembers of the tokens it has read, so that each new token costs one step.

Shapes: B batch, T new tokens, K tokens in all, H heads, E width of a head, D width, M memory tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Keys and values of everything attended to so far, one row a piece; rows may be of different length.

    Self-attention of encoder and decoder layers shares one list of [B, H, capacity, E] pairs; the cross-attention
    pairs [B, H, M, E] are computed once, when the cache is made. Made by `HuesongNetwork.new_cache`.
    """

    def __init__(self, condition_BD: Tensor, memory: list[tuple[Tensor, Tensor]], layers: int, capacity: int) -> None:
        batch, heads, _, head_width = memory[0][0].shape
        self.condition_BD, self.memory, self.capacity = condition_BD, memory, capacity
        self.lengths_B = torch.zeros(batch, dtype=torch.long, device=condition_BD.device)
        self.longest = 0  # max(lengths_B), kept on the host so that a step does not wait for the device
        self.keys = [memory[0][0].new_zeros(batch, heads, capacity, head_width) for _ in range(layers)]
        self.values = [torch.zeros_like(keys) for keys in self.keys]

    def __len__(self) -> int:
        return len(self.lengths_B)

    def positions(self, count: int) -> Tensor:
        """[B, T] positions of the next `count` tokens of every row."""
        return self.lengths_B[:, None] + torch.arange(count, device=self.lengths_B.device)

    def store(self, layer: int, keys_BHTE: Tensor, values_BHTE: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens' keys and values; return those of all tokens, [B, H, K, E]."""
        count = keys_BHTE.shape[2]
        where_BT, row_B1 = self.positions(count), torch.arange(len(self), device=self.lengths_B.device)[:, None]
        self.keys[layer][row_B1, :, where_BT] = keys_BHTE.transpose(1, 2)
        self.values[layer][row_B1, :, where_BT] = values_BHTE.transpose(1, 2)
        end = self.longest + count
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, count: int) -> None:
        """Count the tokens that every layer has stored."""
        self.lengths_B = self.lengths_B + count
        self.longest += count

    def select(self, rows: Tensor) -> KVCache:
        """A cache of the given rows only ([b] long), in that order; the rest is dropped (batch compaction)."""
        other = KVCache.__new__(KVCache)
        other.condition_BD, other.capacity = self.condition_BD[rows], self.capacity
        other.memory = [(keys[rows], values[rows]) for keys, values in self.memory]
        other.keys, other.values = [keys[rows] for keys in self.keys], [values[rows] for values in self.values]
        other.lengths_B = self.lengths_B[rows]
        other.longest = int(other.lengths_B.max()) if len(rows) else 0
        return other

    def replace(self, rows: Tensor, other: KVCache) -> None:
        """Put the rows of `other` in the place of `rows`."""
        for mine, theirs in zip(self.keys + self.values, other.keys + other.values, strict=True):
            mine[rows] = theirs
        self.lengths_B = self.lengths_B.index_copy(0, rows, other.lengths_B)
        self.longest = int(self.lengths_B.max())

    def emptied(self) -> KVCache:
        """A cache with the same condition and pictures but no tokens, to prime anew."""
        return KVCache(self.condition_BD, self.memory, len(self.keys), self.capacity)
