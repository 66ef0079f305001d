"""The network's pass over new tokens alone: the same numbers as `HuesongNetwork.forward`, up to rounding.

Composing is thousands of passes over one token a piece, in which PyTorch's modules would cost more than the arithmetic. So
the layers' weights are taken out of their modules once, and a pass is a few dozen operations on plain tensors. Rows may
read several tokens at once (what is planned need not be sampled): the new tokens of all rows stand one after the other.

Shapes: B rows, N new tokens of all rows, T of one row, K tokens so far, D width, H heads of S of keys, E width of a head,
V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from huesong.model.decoding.cache import KVCache
from huesong.model.decoding.history import said_by
from huesong.model.network import EMBEDDING_STD, HuesongNetwork, Layer


@dataclass
class Weights:
    """A layer's weights; `_t`: transposed and contiguous, as small matrices are multiplied fastest."""

    self_norm: tuple[Tensor, Tensor]
    projection_t: Tensor
    smear_C: Tensor | None  # of each channel of the keys
    out_t: Tensor
    cross_norm: tuple[Tensor, Tensor] | None
    query_t: Tensor | None
    cross_out_t: Tensor | None
    feed_norm: tuple[Tensor, Tensor]
    feed_in: tuple[Tensor, Tensor]  # bias, transposed weight
    feed_out: tuple[Tensor, Tensor]


@dataclass
class Reading:
    """The new tokens of one pass: where they stand."""

    runs: list[tuple[int, int, int]]  # of rows that read more than one token: row, first of N, count
    last: list[int]  # of N, of each row
    singles: bool  # every row reads one token
    longest: int  # tokens of the longest row, the new ones included
    where_N: Tensor  # in the cache
    rotation: tuple[Tensor, Tensor] | None  # cos and sin: [N, 1, 1, E/2], [N, 1, 2, E/2]
    hidden_B11K: Tensor | None  # 0, or -inf where a row has no token; None: all rows are equally long


class Decoder:
    """A network that reads token by token; it must not change meanwhile, for its weights are copied."""

    def __init__(self, network: HuesongNetwork) -> None:
        self.network, config = network, network.config
        self.heads, self.shared = config.heads, config.kv_heads or config.heads
        self.width, self.head_width = config.width, config.width // config.heads
        layers = [layer for layer in (*network.encoder, *network.decoder) if isinstance(layer, Layer)]
        with torch.no_grad():
            self.layers = [weights_of(layer, self.head_width) for layer in layers]
            self.embedding_t = network.embedding.weight.t().contiguous()
            self.rotation = self.places = None
            self.said = [] if network.recall is None else said_by(network.recall.bars)
            dtype = network.embedding.weight.dtype
            if config.positions == "rotary":
                angles = network.angles(config.context, self.head_width)[:, None, None]
                sin = angles.sin().to(dtype)
                self.rotation = angles.cos().to(dtype), torch.cat([-sin, sin], dim=2)
            else:
                angles = network.angles(config.context, self.width)
                self.places = EMBEDDING_STD * torch.cat([angles.sin(), angles.cos()], dim=-1).to(dtype)

    @torch.no_grad()
    def new_cache(
        self, picture_tokens_BSD: Tensor | None, va_B2: Tensor, keep_condition_B: Tensor | None = None
    ) -> KVCache:
        """An empty cache for these requests; arguments as in `HuesongNetwork.forward`."""
        condition_BD, memory = self.network.memory(picture_tokens_BSD, va_B2, keep_condition_B)
        shape = (self.shared, self.head_width)
        return KVCache(condition_BD, memory, len(self.layers), shape, self.network.config.context)

    @torch.no_grad()
    def recondition(
        self, cache: KVCache, picture_tokens_BSD: Tensor | None, va_B2: Tensor, keep_condition_B: Tensor | None = None
    ) -> None:
        """Ask anew of the tokens to come; what the cache holds was composed under the request before."""
        cache.condition_BD, cache.memory = self.network.memory(picture_tokens_BSD, va_B2, keep_condition_B)

    @torch.no_grad()
    def step(self, ids_BT: Tensor, cache: KVCache) -> Tensor:
        """Logits [B, T, V] after the next T tokens of every row of the cache, which then holds them."""
        states_ND = self._read(ids_BT.flatten().tolist(), [ids_BT.shape[1]] * len(ids_BT), cache)[0]
        return (states_ND @ self.embedding_t).view(*ids_BT.shape, -1)

    @torch.no_grad()
    def next_logits(self, runs: Sequence[Sequence[int]], cache: KVCache) -> Tensor:
        """Logits [B, V] after the next tokens, one or more, of every row of the cache, which then holds them."""
        ids = [token for run in runs for token in run]
        states_ND, last = self._read(ids, [len(run) for run in runs], cache)
        return (states_ND if len(states_ND) == len(last) else states_ND[last]) @ self.embedding_t

    @torch.no_grad()
    def prime(self, cache: KVCache, row: int, ids_T: Tensor) -> None:
        """Let a row of the cache hold these tokens and nothing else."""
        memory = [(keys[row : row + 1], values[row : row + 1]) for keys, values in cache.memory]
        condition_1D = cache.condition_BD[row : row + 1]
        primed = KVCache(condition_1D, memory, len(self.layers), cache.shape, cache.capacity)
        self._read(ids_T.tolist(), [len(ids_T)], primed)
        cache.put(row, primed)

    def _read(self, ids: list[int], counts: list[int], cache: KVCache) -> tuple[Tensor, list[int]]:
        """The normalised states [N, D] of new tokens, and where each row's last one stands; the cache then holds them."""
        reading, place_N = self._reading(counts, cache)
        network = self.network
        rows = cache.condition_BD
        if not reading.singles:
            rows = rows.repeat_interleave(torch.tensor(counts, device=rows.device), dim=0)
        ids_N = torch.tensor(ids, device=rows.device)
        x_ND = F.embedding(ids_N, network.embedding.weight) * math.sqrt(self.width) + rows
        if network.recall is not None:
            x_ND = self._with_recalled(x_ND, ids, counts, cache)
        if self.places is not None:
            x_ND = x_ND + self.places[place_N]
        crossed = iter(cache.memory)
        for index, weights in enumerate(self.layers):
            x_ND = self._attended(x_ND, weights, index, cache, reading)
            if weights.cross_norm is not None and weights.query_t is not None and weights.cross_out_t is not None:
                query_NHE = (self._normed(x_ND, weights.cross_norm) @ weights.query_t).unflatten(1, (self.heads, -1))
                mixed_ND = self._mixed(query_NHE, *next(crossed), reading, None)
                x_ND = torch.addmm(x_ND, mixed_ND, weights.cross_out_t)
            (bias_in, in_t), (bias_out, out_t) = weights.feed_in, weights.feed_out
            hidden_NC = F.gelu(torch.addmm(bias_in, self._normed(x_ND, weights.feed_norm), in_t))
            x_ND = torch.addmm(bias_out, hidden_NC, out_t).add_(x_ND)
        cache.lengths = [length + count for length, count in zip(cache.lengths, counts, strict=True)]
        final = network.final_norm
        return F.layer_norm(x_ND, (self.width,), final.weight, final.bias, final.eps), reading.last

    def _reading(self, counts: list[int], cache: KVCache) -> tuple[Reading, Tensor]:
        """What a pass needs to know of its tokens, and the place of each in its row [N]."""
        device, lengths, runs, last, start = cache.condition_BD.device, cache.lengths, [], [], 0
        for row, count in enumerate(counts):
            if count > 1:
                runs.append((row, start, count))
            start += count
            last.append(start - 1)
        ends = [length + count for length, count in zip(lengths, counts, strict=True)]
        longest = max(ends)
        assert longest <= cache.capacity, f"{longest} tokens do not fit a context of {cache.capacity}"
        spans = list(zip(range(len(counts)), lengths, counts, strict=True))
        place_N = torch.tensor([begin + at for _, begin, count in spans for at in range(count)], device=device)
        row_N = torch.tensor([row * cache.capacity for row, _, count in spans for _ in range(count)], device=device)
        hidden = None
        if min(ends) < longest:
            hidden = torch.zeros(len(counts), longest, device=device, dtype=cache.condition_BD.dtype)
            ends_B1 = torch.tensor(ends, device=device)[:, None]
            hidden = hidden.masked_fill_(torch.arange(longest, device=device) >= ends_B1, -torch.inf)[:, None, None]
        rotation = self.rotation and (self.rotation[0][place_N], self.rotation[1][place_N])
        return Reading(runs, last, not runs, longest, row_N + place_N, rotation, hidden), place_N

    def _attended(self, x_ND: Tensor, weights: Weights, layer: int, cache: KVCache, reading: Reading) -> Tensor:
        """After a layer's self-attention, whose new keys and values the cache then holds."""
        queries, keys_end = self.width, self.width + self.shared * self.head_width
        projected = self._normed(x_ND, weights.self_norm) @ weights.projection_t
        if weights.smear_C is not None:
            keys_NC = projected[:, queries:keys_end]
            own_NC = keys_NC.clone()
            before_NC = cache.last_keys[layer]
            if not reading.singles:
                firsts = [first for first, _ in _spans(reading.last)]
                before_NC = own_NC.roll(1, 0).index_copy_(0, torch.tensor(firsts, device=own_NC.device), before_NC)
                cache.last_keys[layer] = own_NC[reading.last]
            else:
                cache.last_keys[layer] = own_NC
            keys_NC.lerp_(before_NC, weights.smear_C)
        if reading.rotation is not None:  # pairs of channels (i, i + E/2) of queries and keys
            pairs = projected[:, :keys_end].unflatten(1, (self.heads + self.shared, 2, -1))
            turned = pairs.flip(2)
            pairs.mul_(reading.rotation[0]).addcmul_(turned, reading.rotation[1])
        cache.kept[layer].index_copy_(0, reading.where_N, projected[:, queries:])
        query_NHE = projected[:, :queries].unflatten(1, (self.heads, -1))
        keys, values = cache.read(layer, reading.longest)
        mixed_ND = self._mixed(query_NHE, keys, values, reading, cache.lengths)
        return torch.addmm(x_ND, mixed_ND, weights.out_t)

    def _mixed(
        self, query_NHE: Tensor, keys: Tensor, values: Tensor, reading: Reading, lengths: list[int] | None
    ) -> Tensor:
        """What the new tokens [N, D] attend to, of keys and values [B, S, K, E]; lengths None: they see all of them."""
        shared, group = keys.shape[1], self.heads // keys.shape[1]
        hidden = reading.hidden_B11K if lengths is not None else None
        if reading.singles:
            last_BSGE = query_NHE.unflatten(1, (shared, group))
            return F.scaled_dot_product_attention(last_BSGE, keys, values, attn_mask=hidden).flatten(1)
        mixed_ND = query_NHE.new_empty(len(query_NHE), self.width)
        if len(reading.runs) < len(reading.last):
            last_BSGE = query_NHE[reading.last].unflatten(1, (shared, group))
            mixed_ND[reading.last] = F.scaled_dot_product_attention(last_BSGE, keys, values, attn_mask=hidden).flatten(
                1
            )
        for row, first, count in reading.runs:  # heads of bars, and rows that are primed
            seen: dict[str, Any] = {}
            end = keys.shape[2]
            if lengths is not None:
                end = lengths[row] + count
                causal = torch.ones(count, end, dtype=torch.bool, device=keys.device).tril_(lengths[row])
                seen = {"attn_mask": causal} if lengths[row] else {"is_causal": True}
            query_HTE = query_NHE[first : first + count].transpose(0, 1)[None]
            own_keys, own_values = (x[row : row + 1, :, :end].repeat_interleave(group, dim=1) for x in (keys, values))
            mixed_HTE = F.scaled_dot_product_attention(query_HTE, own_keys, own_values, **seen)[0]
            mixed_ND[first : first + count] = mixed_HTE.transpose(0, 1).flatten(1)
        return mixed_ND

    def _with_recalled(self, x_ND: Tensor, ids: list[int], counts: list[int], cache: KVCache) -> Tensor:
        """The new tokens with what `Recall` adds to them."""
        network, device = self.network, x_ND.device
        assert network.recall is not None
        histories = (history for history, count in zip(cache.history, counts, strict=True) for _ in range(count))
        found = [history.read(token, self.said) for history, token in zip(histories, ids, strict=True)]
        if all(token is None for token in found):
            return x_ND
        following_N = torch.tensor([token or 0 for token in found], device=device)
        found_N = torch.tensor([token is not None for token in found], device=device)
        embedded_ND = F.embedding(following_N, network.embedding.weight) * math.sqrt(self.width)
        return F.linear(embedded_ND, network.recall.project.weight).mul_(found_N[:, None]).add_(x_ND)

    def _normed(self, x_ND: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        return F.layer_norm(x_ND, (self.width,), *norm)


def _spans(last: list[int]) -> list[tuple[int, int]]:
    """First and last of N of each row."""
    return list(zip([0, *(end + 1 for end in last[:-1])], last, strict=True))


def weights_of(layer: Layer, head_width: int) -> Weights:
    """The weights of a layer as a pass uses them."""

    def norm(module: torch.nn.LayerNorm) -> tuple[Tensor, Tensor]:
        return module.weight, module.bias

    def linear_t(module: torch.nn.Linear) -> Tensor:
        return module.weight.t().contiguous()

    own, cross = layer.self_attention, layer.cross_attention
    smear = own.smear_H
    return Weights(
        self_norm=norm(layer.self_norm),
        projection_t=linear_t(own.query_key_value),
        smear_C=None if smear is None else smear.sigmoid().repeat_interleave(head_width),
        out_t=linear_t(own.out),
        cross_norm=None if layer.cross_norm is None else norm(layer.cross_norm),
        query_t=None if cross is None else linear_t(cross.query),
        cross_out_t=None if cross is None else linear_t(cross.out),
        feed_norm=norm(layer.feed_norm),
        feed_in=(layer.feed_in.bias, linear_t(layer.feed_in)),
        feed_out=(layer.feed_out.bias, linear_t(layer.feed_out)),
    )
