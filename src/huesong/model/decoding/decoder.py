"""The network on plain arrays, over new tokens alone: the same numbers as `HuesongNetwork.forward`, up to rounding.

Composing is thousands of passes over one token a piece, in which the calls of PyTorch cost more than the arithmetic, and
importing it costs more than a piece. So the weights are arrays of NumPy, whose calls cost a fourth as much. Rows may
read several tokens at once (what is planned need not be sampled): the new tokens of all rows stand one after the other.

Shapes: B rows, N new tokens of all rows, T of one row, K tokens so far, M memory tokens, D width, H heads of S of keys,
E width of a head, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from huesong.config import NetworkConfig
from huesong.model.decoding.arithmetic import EMBEDDING_STD, attention, gelu, layer_norm
from huesong.model.decoding.cache import KVCache, Memory
from huesong.model.decoding.history import BarTokens, said_by
from huesong.model.decoding.pictures import Condition, Pictures, PictureShape, Seen
from huesong.model.decoding.tensors import Tensors, arrays_of

if TYPE_CHECKING:
    from huesong.model.network import HuesongNetwork

Norm = tuple[np.ndarray, np.ndarray]


@dataclass
class Weights:
    """A layer's weights; `_t`: transposed and contiguous, as small matrices are multiplied fastest."""

    self_norm: Norm
    projection_t: np.ndarray
    smear_C: np.ndarray | None  # of each channel of the keys
    out_t: np.ndarray
    cross_norm: Norm | None
    query_t: np.ndarray | None
    cross_out_t: np.ndarray | None
    feed_norm: Norm
    feed_in: tuple[np.ndarray, np.ndarray]  # bias, transposed weight
    feed_out: tuple[np.ndarray, np.ndarray]


@dataclass
class Reading:
    """The new tokens of one pass: where they stand."""

    runs: list[tuple[int, int, int]]  # of rows that read more than one token: row, first of N, count
    last: list[int]  # of N, of each row
    singles: bool  # every row reads one token
    longest: int  # tokens of the longest row, the new ones included
    where_N: np.ndarray  # in the cache
    rotation: tuple[np.ndarray, np.ndarray] | None  # cos and sin: [N, 1, 1, E/2], [N, 1, 2, E/2]
    hidden_B11K: np.ndarray | None  # 0, or -inf where a row has no token; None: all rows are equally long


class Decoder:
    """A network that reads token by token."""

    def __init__(
        self,
        tensors: Tensors,
        config: NetworkConfig,
        vocabulary_size: int,
        picture: PictureShape,
        bars: BarTokens | None,
    ) -> None:
        """`tensors`: all weights of a `HuesongNetwork` of these settings; `bars`: the tokens of bars, for `recall`."""
        assert config.width % (2 * config.heads) == 0, "width must be a multiple of twice the heads"
        self.config, self.picture_shape, self.width = config, picture, config.width
        self.heads, self.shared = config.heads, config.kv_heads or config.heads
        self.head_width = config.width // config.heads
        self.embedding_VD = tensors.take("embedding.weight", vocabulary_size, self.width)
        self.embedded_VD = self.embedding_VD * np.float32(math.sqrt(self.width))
        self.embedding_t = np.ascontiguousarray(self.embedding_VD.T)
        self.recall_t = tensors.transposed("recall.project", self.width, self.width) if config.recall else None
        self.said = said_by(bars) if config.recall and bars is not None else []
        self.picture = Pictures(tensors, picture, self.width, config.image_tokens)
        self.condition = Condition(tensors, self.width)
        self.condition_token = tensors.linear("condition_token", self.width, self.width)
        self.memory_norm = tensors.norm("memory_norm", self.width)
        names = [f"encoder.{layer}" for layer in range(config.encoder_layers)]
        self.layers = [weights_of(tensors, name, config, cross=False) for name in names]
        names = [f"decoder.{layer}" for layer in range(config.decoder_layers)]
        self.layers += [weights_of(tensors, name, config, cross=True) for name in names]
        self.crossings = [
            tensors.transposed(f"{name}.cross_attention.key_value", 2 * self.width, self.width) for name in names
        ]
        self.final_norm = tensors.norm("final_norm", self.width)
        self.rotation: tuple[np.ndarray, np.ndarray] | None = None
        self.places_KD: np.ndarray | None = None
        if config.positions == "rotary":
            angles = angles_of(config.context, self.head_width)[:, None, None]
            sin = np.sin(angles).astype(np.float32)
            self.rotation = np.cos(angles).astype(np.float32), np.concatenate([-sin, sin], axis=2)
        else:
            angles = angles_of(config.context, self.width)
            waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
            self.places_KD = (EMBEDDING_STD * waves).astype(np.float32)

    @classmethod
    def of(cls, network: HuesongNetwork) -> Decoder:
        """What reads token by token as this network does now."""
        bars = None if network.recall is None else network.recall.bars
        weights = Tensors.of_arrays(arrays_of(network))
        return cls(weights, network.config, network.vocabulary_size, network.picture_shape, bars)

    def encode_picture(self, pictures: np.ndarray) -> Seen:
        """Image tokens and VA of [B, S, C] features or [B, H, W, 3] uint8 pixels."""
        return self.picture.read(pictures)

    def no_picture(self, batch: int) -> np.ndarray:
        """[B, S, D]: the learned image tokens of a request without a picture."""
        return np.repeat(self.picture.null_SD[None], batch, axis=0)

    def new_cache(
        self, picture_tokens_BSD: np.ndarray | None, va_B2: np.ndarray, keep_condition_B: np.ndarray | None = None
    ) -> KVCache:
        """An empty cache for these requests; arguments as in `HuesongNetwork.forward`."""
        condition_BD, memory = self._memory(picture_tokens_BSD, va_B2, keep_condition_B)
        return KVCache(condition_BD, memory, len(self.layers), (self.shared, self.head_width), self.config.context)

    def recondition(
        self, cache: KVCache, picture_tokens_BSD: np.ndarray | None, va_B2: np.ndarray,
        keep_condition_B: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Ask anew of the tokens to come; what the cache holds was composed under the request before."""
        cache.condition_BD, cache.memory = self._memory(picture_tokens_BSD, va_B2, keep_condition_B)

    def _memory(
        self, picture_tokens_BSD: np.ndarray | None, va_B2: np.ndarray, keep_condition_B: np.ndarray | None
    ) -> tuple[np.ndarray, Memory]:
        """The condition [B, D] and each decoder layer's cross-attention keys and values [B, H, M, E]."""
        keep_B = np.ones(len(va_B2), dtype=bool) if keep_condition_B is None else keep_condition_B
        image_BSD = null_BSD = self.no_picture(len(va_B2))
        if picture_tokens_BSD is not None:
            image_BSD = np.where(keep_B[:, None, None], picture_tokens_BSD, null_BSD)
        condition_BD = self.condition(va_B2, keep_B)
        bias, weight = self.condition_token
        memory_BMD = np.concatenate([image_BSD, (condition_BD @ weight + bias)[:, None]], axis=1)
        memory_BMD = layer_norm(memory_BMD, *self.memory_norm)
        shape = (*memory_BMD.shape[:2], 2, self.heads, self.head_width)
        found = [(memory_BMD @ key_value_t).reshape(shape) for key_value_t in self.crossings]
        return condition_BD, [(each[:, :, 0].swapaxes(1, 2), each[:, :, 1].swapaxes(1, 2)) for each in found]

    def step(self, ids_BT: np.ndarray, cache: KVCache) -> np.ndarray:
        """Logits [B, T, V] after the next T tokens of every row of the cache, which then holds them."""
        states_ND = self._read(ids_BT.ravel().tolist(), [ids_BT.shape[1]] * len(ids_BT), cache)[0]
        logits_BTV: np.ndarray = (states_ND @ self.embedding_t).reshape(*ids_BT.shape, -1)
        return logits_BTV

    def next_logits(self, runs: Sequence[Sequence[int]], cache: KVCache) -> np.ndarray:
        """Logits [B, V] after the next tokens, one or more, of every row of the cache, which then holds them."""
        ids = [token for run in runs for token in run]
        states_ND, last = self._read(ids, [len(run) for run in runs], cache)
        logits_BV: np.ndarray = (states_ND if len(states_ND) == len(last) else states_ND[last]) @ self.embedding_t
        return logits_BV

    def prime(self, cache: KVCache, row: int, ids: Sequence[int]) -> None:
        """Let a row of the cache hold these tokens and nothing else."""
        memory = [(keys[row : row + 1], values[row : row + 1]) for keys, values in cache.memory]
        condition_1D = cache.condition_BD[row : row + 1]
        primed = KVCache(condition_1D, memory, len(self.layers), cache.shape, cache.capacity)
        self._read(list(ids), [len(ids)], primed)
        cache.put(row, primed)

    def _read(self, ids: list[int], counts: list[int], cache: KVCache) -> tuple[np.ndarray, list[int]]:
        """The normalised states [N, D] of new tokens, and where each row's last one stands; the cache then holds them."""
        reading, place_N = self._reading(counts, cache)
        rows = cache.condition_BD if reading.singles else np.repeat(cache.condition_BD, counts, axis=0)
        x_ND = self.embedded_VD[ids] + rows
        if self.recall_t is not None:
            self._add_recalled(x_ND, ids, counts, cache)
        if self.places_KD is not None:
            x_ND += self.places_KD[place_N]
        crossed = iter(cache.memory)
        for index, weights in enumerate(self.layers):
            x_ND += self._attended(layer_norm(x_ND, *weights.self_norm), weights, index, cache, reading)
            if weights.cross_norm is not None and weights.query_t is not None and weights.cross_out_t is not None:
                query_NHE = (layer_norm(x_ND, *weights.cross_norm) @ weights.query_t).reshape(len(x_ND), self.heads, -1)
                x_ND += self._mixed(query_NHE, *next(crossed), reading, None) @ weights.cross_out_t
            (bias_in, in_t), (bias_out, out_t) = weights.feed_in, weights.feed_out
            hidden_NC = layer_norm(x_ND, *weights.feed_norm) @ in_t
            hidden_NC += bias_in
            x_ND += gelu(hidden_NC) @ out_t
            x_ND += bias_out
        cache.lengths = [length + count for length, count in zip(cache.lengths, counts, strict=True)]
        return layer_norm(x_ND, *self.final_norm), reading.last

    def _reading(self, counts: list[int], cache: KVCache) -> tuple[Reading, np.ndarray]:
        """What a pass needs to know of its tokens, and the place of each in its row [N]."""
        lengths, runs, last, start = cache.lengths, [], [], 0
        for row, count in enumerate(counts):
            if count > 1:
                runs.append((row, start, count))
            start += count
            last.append(start - 1)
        ends = [length + count for length, count in zip(lengths, counts, strict=True)]
        longest = max(ends)
        assert longest <= cache.capacity, f"{longest} tokens do not fit a context of {cache.capacity}"
        place_N = np.array([at for begin, end in zip(lengths, ends, strict=True) for at in range(begin, end)])
        where_N = np.repeat(np.arange(len(counts)) * cache.capacity, counts) + place_N
        hidden = None
        if min(ends) < longest:
            hidden = np.where(np.arange(longest) < np.array(ends)[:, None], np.float32(0), np.float32(-np.inf))
            hidden = hidden[:, None, None]
        rotation = self.rotation and (self.rotation[0][place_N], self.rotation[1][place_N])
        return Reading(runs, last, not runs, longest, where_N, rotation, hidden), place_N

    def _attended(
        self, normed_ND: np.ndarray, weights: Weights, layer: int, cache: KVCache, reading: Reading
    ) -> np.ndarray:
        """What a layer's self-attention adds [N, D]; the cache then holds the new keys and values."""
        queries, keys_end = self.width, self.width + self.shared * self.head_width
        projected = normed_ND @ weights.projection_t
        if weights.smear_C is not None:
            keys_NC = projected[:, queries:keys_end]
            own_NC = keys_NC.copy()
            before_NC = cache.last_keys[layer]
            if not reading.singles:
                before_NC = np.roll(own_NC, 1, axis=0)
                before_NC[[0, *(end + 1 for end in reading.last[:-1])]] = cache.last_keys[layer]
            cache.last_keys[layer] = own_NC if reading.singles else own_NC[reading.last]
            keys_NC += weights.smear_C * (before_NC - own_NC)
        if reading.rotation is not None:  # pairs of channels (i, i + E/2) of queries and keys
            pairs = projected[:, :keys_end].reshape(len(projected), self.heads + self.shared, 2, -1)
            turned = pairs * reading.rotation[0] + pairs[:, :, ::-1] * reading.rotation[1]
            projected[:, :keys_end] = turned.reshape(len(projected), -1)
        cache.kept[layer][reading.where_N] = projected[:, queries:]
        query_NHE = projected[:, :queries].reshape(len(projected), self.heads, -1)
        keys, values = cache.read(layer, reading.longest)
        return self._mixed(query_NHE, keys, values, reading, cache.lengths) @ weights.out_t

    def _mixed(
        self, query_NHE: np.ndarray, keys: np.ndarray, values: np.ndarray, reading: Reading, lengths: list[int] | None
    ) -> np.ndarray:
        """What the new tokens [N, D] attend to, of keys and values [B, S, K, E]; lengths None: they see all of them."""
        shared = keys.shape[1]
        query_NSGE = query_NHE.reshape(len(query_NHE), shared, -1, query_NHE.shape[-1])
        hidden = reading.hidden_B11K if lengths is not None else None
        if reading.singles:
            return attention(query_NSGE, keys, values, hidden).reshape(len(query_NHE), -1)
        mixed_ND = np.empty((len(query_NHE), self.width), np.float32)
        if len(reading.runs) < len(reading.last):
            found = attention(query_NSGE[reading.last], keys, values, hidden)
            mixed_ND[reading.last] = found.reshape(len(reading.last), -1)
        for row, first, count in reading.runs:  # heads of bars, and rows that are primed
            end, unseen = keys.shape[2], None
            if lengths is not None:
                end = lengths[row] + count
                later = np.arange(end) > lengths[row] + np.arange(count)[:, None]
                unseen = np.where(later, np.float32(-np.inf), np.float32(0))
            query_SGTE = query_NSGE[first : first + count].transpose(1, 2, 0, 3)
            found_SGTE = attention(query_SGTE, keys[row, :, None, :end], values[row, :, None, :end], unseen)
            mixed_ND[first : first + count] = found_SGTE.transpose(2, 0, 1, 3).reshape(count, -1)
        return mixed_ND

    def _add_recalled(self, x_ND: np.ndarray, ids: list[int], counts: list[int], cache: KVCache) -> None:
        """Add to the new tokens what `Recall` adds to them."""
        assert self.recall_t is not None
        histories = (history for history, count in zip(cache.history, counts, strict=True) for _ in range(count))
        found = [history.read(token, self.said) for history, token in zip(histories, ids, strict=True)]
        rows = [row for row, token in enumerate(found) if token is not None]
        if rows:
            x_ND[rows] += self.embedded_VD[[token for token in found if token is not None]] @ self.recall_t


def angles_of(count: int, width: int) -> np.ndarray:
    """Angles [T, width / 2] of the first positions, float64: one frequency a pair of channels."""
    frequencies = 10000.0 ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    angles: np.ndarray = np.arange(count)[:, None] * frequencies
    return angles


def weights_of(tensors: Tensors, name: str, config: NetworkConfig, cross: bool) -> Weights:
    """The weights of a layer as a pass uses them; queries come out scaled for attention."""
    width, hidden, head_width = config.width, config.width * config.feed_forward, config.width // config.heads
    shared, scale = config.kv_heads or config.heads, np.float32(1 / math.sqrt(head_width))
    own = f"{name}.self_attention"
    projection_t = tensors.transposed(f"{own}.query_key_value", width + 2 * head_width * shared, width)
    projection_t[:, :width] *= scale
    smear_C = None
    if config.smear:
        smear_C = np.repeat(1 / (1 + np.exp(-tensors.take(f"{own}.smear_H", shared))), head_width)
    crossing = f"{name}.cross_attention"
    return Weights(
        self_norm=tensors.norm(f"{name}.self_norm", width),
        projection_t=projection_t,
        smear_C=smear_C,
        out_t=tensors.transposed(f"{own}.out", width, width),
        cross_norm=tensors.norm(f"{name}.cross_norm", width) if cross else None,
        query_t=tensors.transposed(f"{crossing}.query", width, width) * scale if cross else None,
        cross_out_t=tensors.transposed(f"{crossing}.out", width, width) if cross else None,
        feed_norm=tensors.norm(f"{name}.feed_norm", width),
        feed_in=tensors.linear(f"{name}.feed_in", hidden, width),
        feed_out=tensors.linear(f"{name}.feed_out", width, hidden),
    )
