"""The model: a picture and a (valence, arousal) request go in, the next music token's logits come out.

    picture ──> CNN ──> S image tokens ──────────────┐
       │                                              ├─> memory ──> cross-attention
       └──> VA head ──> (V, A) ──> condition ─────────┘                   │
                                       │                                  v
    MIDI prefix ──> embedding (+ condition) ──> 3 causal encoder layers ──> 3 decoder layers ──> logits

Shapes, named at the end of a tensor's name:
    B batch, T tokens of the MIDI prefix, K attended positions, S image tokens, M = S + 1 memory tokens,
    D width, H heads, E = D / H, V vocabulary.

The left side, from the picture to image tokens, (V, A) and the condition, stands in image_encoder.py.

After "Emotion-Guided Image to Music Generation" (Kundu, Singh, Iwahori, arXiv 2410.22299): its three Transformer
encoders over MIDI and three decoders, here with what makes them work: causal masks, positions, feed-forward layers,
pre-norm residuals (Xiong et al. 2020), and image tokens that really are attended to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huesong.config import NetworkConfig
from huesong.model.copying.recall import BarTokens, History, Recall
from huesong.model.image_encoder import Condition, ImageEncoder, PictureEncoding, PictureShape

EMBEDDING_STD = 0.05
Memory = list[tuple[Tensor, Tensor]]
"""Of each decoder layer the keys and values [B, H, M, E] that the music attends to."""


@dataclass
class Reading:
    """What the layers of one pass share: positions, mask and cache."""

    rotation_TE: tuple[Tensor, Tensor] | None  # cos, sin: [T, E] or, with a cache, [B, 1, T, E]
    visible_BTK: Tensor | None  # None: plain causal mask
    cache: KVCache | None


class SelfAttention(nn.Module):
    """Causal multi-head self-attention (Vaswani et al. 2017), rotary if the reading says so (Su et al. 2021).

    With `smear` each key is mixed with the key before it, by one learnt number a head ("smeared keys", Olsson et al.
    2022): to find what followed the same token earlier is then a matter of one layer, not of two.
    """

    def __init__(self, config: NetworkConfig, layer: int) -> None:
        super().__init__()
        width = config.width
        self.heads, self.shared, self.layer = config.heads, config.kv_heads or config.heads, layer
        own = width // self.heads * self.shared
        self.query_key_value = nn.Linear(width, width + 2 * own, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.smear_H = nn.Parameter(torch.zeros(self.shared)) if config.smear else None

    def forward(self, x_BTD: Tensor, reading: Reading) -> Tensor:
        width, projected = x_BTD.shape[-1], self.query_key_value(x_BTD)
        queries_BHTE = projected[..., :width].unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys_BHTE, values_BHTE = projected[..., width:].unflatten(-1, (2, self.shared, -1)).permute(2, 0, 3, 1, 4)
        if self.smear_H is not None:
            before_BH1E = torch.zeros_like(keys_BHTE[:, :, :1])
            if reading.cache is not None:
                before_BH1E = reading.cache.remember(self.layer, keys_BHTE[:, :, -1:])
            before_BHTE = torch.cat([before_BH1E, keys_BHTE[:, :, :-1]], dim=2)
            keys_BHTE = torch.lerp(keys_BHTE, before_BHTE, self.smear_H.sigmoid().to(keys_BHTE.dtype)[:, None, None])
        if reading.rotation_TE is not None:
            queries_BHTE, keys_BHTE = rotate(queries_BHTE, reading.rotation_TE), rotate(keys_BHTE, reading.rotation_TE)
        if reading.cache is not None:
            keys_BHTE, values_BHTE = reading.cache.store(self.layer, keys_BHTE, values_BHTE)
        mixed_BHTE = self._attend(queries_BHTE, keys_BHTE, values_BHTE, reading.visible_BTK)
        return self.out(mixed_BHTE.transpose(1, 2).flatten(2))

    def _attend(
        self, queries_BHTE: Tensor, keys_BHTE: Tensor, values_BHTE: Tensor, visible_BTK: Tensor | None
    ) -> Tensor:
        """Attention where several heads of queries may share one of keys and values (Ainslie et al. 2023)."""
        group, count = self.heads // self.shared, queries_BHTE.shape[2]
        if group > 1 and count == 1:  # while sampling nothing is copied: the heads of a group are its queries
            mixed_BHTE = F.scaled_dot_product_attention(
                queries_BHTE.reshape(len(queries_BHTE), self.shared, group, -1), keys_BHTE, values_BHTE,
                attn_mask=visible_BTK,
            )  # fmt: skip
            return mixed_BHTE.reshape(queries_BHTE.shape)
        if group > 1:
            keys_BHTE, values_BHTE = (x.repeat_interleave(group, dim=1) for x in (keys_BHTE, values_BHTE))
        return F.scaled_dot_product_attention(
            queries_BHTE, keys_BHTE, values_BHTE, attn_mask=visible_BTK, is_causal=visible_BTK is None
        )


class CrossAttention(nn.Module):
    """Multi-head attention from the music to the memory: image tokens and the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def keys_values(self, memory_BMD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, M, E] of the memory: once a piece, not once a token."""
        keys_BHME, values_BHME = self.key_value(memory_BMD).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return keys_BHME, values_BHME

    def forward(self, x_BTD: Tensor, keys_BHME: Tensor, values_BHME: Tensor) -> Tensor:
        queries_BHTE = self.query(x_BTD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        mixed_BHTE = F.scaled_dot_product_attention(queries_BHTE, keys_BHME, values_BHME)
        return self.out(mixed_BHTE.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """One pre-norm Transformer layer: self-attention, cross-attention (decoder only), feed-forward.

    Dropout is on the residual branches only: within attention it would rule out the fast kernels.
    """

    def __init__(self, config: NetworkConfig, index: int, cross: bool) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.feed_forward
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = SelfAttention(config, index)
        self.cross_norm = nn.LayerNorm(width) if cross else None
        self.cross_attention = CrossAttention(width, config.heads) if cross else None
        self.feed_norm = nn.LayerNorm(width)
        self.feed_in, self.feed_out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, reading: Reading, memory: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.self_attention(self.self_norm(x_BTD), reading))
        if self.cross_attention is not None and self.cross_norm is not None:
            assert memory is not None, "a decoder layer reads the memory"
            x_BTD = x_BTD + self.dropout(self.cross_attention(self.cross_norm(x_BTD), *memory))
        return x_BTD + self.dropout(self.feed_out(F.gelu(self.feed_in(self.feed_norm(x_BTD)))))


class HuesongNetwork(nn.Module):
    """Picture, condition and MIDI prefix to next-token logits; see the picture at the top of this file."""

    def __init__(
        self, config: NetworkConfig, vocabulary_size: int, picture: PictureShape, bars: BarTokens | None = None
    ) -> None:
        super().__init__()
        assert config.width % (2 * config.heads) == 0, "width must be a multiple of twice the heads"
        self.config, self.vocabulary_size, self.picture_shape = config, vocabulary_size, picture
        self.embedding = nn.Embedding(vocabulary_size, config.width)  # also the output layer (weight tying)
        assert not config.recall or bars is not None, "recall needs to know the tokens of bars"
        self.recall = Recall(config.width, bars) if config.recall and bars is not None else None
        self.dropout = nn.Dropout(config.dropout)
        self.picture = ImageEncoder(picture, config.width)
        self.condition = Condition(config.width)
        self.condition_token = nn.Linear(config.width, config.width)
        self.memory_norm = nn.LayerNorm(config.width)
        first, last = config.encoder_layers, config.encoder_layers + config.decoder_layers
        self.encoder = nn.ModuleList(Layer(config, index, cross=False) for index in range(first))
        self.decoder = nn.ModuleList(Layer(config, index, cross=True) for index in range(first, last))
        self.final_norm = nn.LayerNorm(config.width)
        self._initialise()

    def _initialise(self) -> None:
        """Unit gain by fan-in; residual outputs scaled down by their number (Radford et al. 2019)."""
        residuals = 2 * len(self.encoder) + 3 * len(self.decoder)
        for name, weight in self.named_parameters():
            if name.startswith("picture.cnn") or name.endswith("norm.weight"):
                continue  # PyTorch's own choice suits these
            if name.endswith((".bias", "smear_H", "recall.project.weight")):
                nn.init.zeros_(weight)
            elif name.endswith(("embedding.weight", "_SD", "null_D")):
                nn.init.normal_(weight, std=EMBEDDING_STD)
            elif name.endswith(("out.weight", "feed_out.weight")):
                nn.init.normal_(weight, std=1 / math.sqrt(weight.shape[1] * residuals))
            else:  # what is added to the tokens, or read off for VA, starts no larger than they are
                gain = EMBEDDING_STD if name in ("condition.project.weight", "picture.va_head.weight") else 1.0
                nn.init.normal_(weight, std=gain / math.sqrt(weight.shape[1]))

    def encode_picture(self, pictures: Tensor) -> PictureEncoding:
        """Image tokens and VA of [B, S, C] features or [B, H, W, 3] uint8 pixels."""
        return self.picture(pictures)

    def no_picture(self, batch: int) -> Tensor:
        """[B, S, D]: the learned image tokens of a request without a picture."""
        return self.picture.null_SD.expand(batch, -1, -1)

    def forward(
        self,
        ids_BT: Tensor,
        picture_tokens_BSD: Tensor | None,
        va_B2: Tensor,
        keep_condition_B: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of the token after each position.

        Args:
            ids_BT: token ids, padded at the right (the causal mask keeps padding out of what comes before).
            picture_tokens_BSD: from `encode_picture`; None = no picture. Rows without one: `no_picture`.
            va_B2: requested valence and arousal in [-1, 1].
            keep_condition_B: False drops a row's request *and* picture for learned nulls (classifier-free
                guidance, Ho & Salimans 2022); None keeps all.
            cache: from `new_cache`; then ids_BT are the tokens after those it holds, and the other arguments
                were fixed when it was made.
        """
        if cache is not None:
            return self.step(ids_BT, cache)
        return self.logits(self.states(ids_BT, picture_tokens_BSD, va_B2, keep_condition_B))

    def states(
        self, ids_BT: Tensor, picture_tokens_BSD: Tensor | None, va_B2: Tensor, keep_condition_B: Tensor | None = None
    ) -> Tensor:
        """The decoder's normalised states [B, T, D]; arguments as in `forward`."""
        condition_BD, memory = self._memory(picture_tokens_BSD, va_B2, keep_condition_B)
        return self._decode(ids_BT, condition_BD, memory, self._reading(ids_BT.shape[1], None))

    def step(self, ids_BT: Tensor, cache: KVCache) -> Tensor:
        """Logits [B, T, V] after the next T tokens of every row of the cache, which then holds them."""
        reading = self._reading(ids_BT.shape[1], cache)
        states_BTD = self._decode(ids_BT, cache.condition_BD, cache.memory, reading)
        cache.advance(ids_BT.shape[1])
        return self.logits(states_BTD)

    def logits(self, states_BTD: Tensor) -> Tensor:
        """[B, T, V] from the decoder's states, by the embedding's own weights."""
        return F.linear(states_BTD, self.embedding.weight)

    def music_states(self, ids_BT: Tensor) -> Tensor:
        """The encoder's view [B, T, D] of music alone: nothing of the request or the picture has entered it."""
        null_BD = self.condition.null_D.expand(len(ids_BT), -1)
        return self._encode(ids_BT, null_BD, self._reading(ids_BT.shape[1], None))

    def new_cache(
        self,
        picture_tokens_BSD: Tensor | None,
        va_B2: Tensor,
        keep_condition_B: Tensor | None = None,
        capacity: int | None = None,
    ) -> KVCache:
        """An empty cache for these requests, of `capacity` tokens (default: the context)."""
        condition_BD, memory = self._memory(picture_tokens_BSD, va_B2, keep_condition_B)
        shape = (self.config.kv_heads or self.config.heads, self.config.width // self.config.heads)
        layers = len(self.encoder) + len(self.decoder)
        return KVCache(condition_BD, memory, layers, shape, capacity or self.config.context)

    def recondition(
        self, cache: KVCache, picture_tokens_BSD: Tensor | None, va_B2: Tensor, keep_condition_B: Tensor | None = None
    ) -> None:
        """Ask anew of the tokens to come; what the cache holds was composed under the request before."""
        cache.condition_BD, cache.memory = self._memory(picture_tokens_BSD, va_B2, keep_condition_B)

    def reprime(self, cache: KVCache, row: int, ids: Tensor) -> Tensor:
        """Let row `row` of the cache hold `ids` ([t] long) and nothing else; logits [t, V]."""
        rows = torch.tensor([row], device=cache.lengths_B.device)
        primed = cache.select(rows).emptied()
        logits_1TV = self.step(ids[None], primed)
        cache.replace(rows, primed)
        return logits_1TV[0]

    def _memory(
        self, picture_tokens_BSD: Tensor | None, va_B2: Tensor, keep_condition_B: Tensor | None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The condition vector [B, D] and each decoder layer's cross-attention keys and values."""
        batch = len(va_B2)
        if keep_condition_B is None:
            keep_condition_B = torch.ones(batch, dtype=torch.bool, device=va_B2.device)
        null_BSD = self.no_picture(batch)
        if picture_tokens_BSD is None:
            picture_tokens_BSD = null_BSD
        image_BSD = torch.where(keep_condition_B[:, None, None], picture_tokens_BSD, null_BSD)
        condition_BD = self.condition(va_B2, keep_condition_B)
        memory_BMD = torch.cat([image_BSD, self.condition_token(condition_BD)[:, None]], dim=1)
        memory_BMD = self.memory_norm(memory_BMD)
        crossings = [layer.cross_attention for layer in self.decoder if isinstance(layer, Layer)]
        return condition_BD, [cross.keys_values(memory_BMD) for cross in crossings if cross is not None]

    def _decode(
        self, ids_BT: Tensor, condition_BD: Tensor, memory: list[tuple[Tensor, Tensor]], reading: Reading
    ) -> Tensor:
        x_BTD = self._encode(ids_BT, condition_BD, reading)
        for layer, keys_values in zip(self.decoder, memory, strict=True):
            x_BTD = layer(x_BTD, reading, keys_values)
        return self.final_norm(x_BTD)

    def _encode(self, ids_BT: Tensor, condition_BD: Tensor, reading: Reading) -> Tensor:
        """Embedded tokens with the condition added to every one, through the encoder layers."""
        # Tied embeddings are small; times sqrt(D) (Vaswani et al. 2017) they are heard beside the condition.
        x_BTD = self.embedding(ids_BT) * math.sqrt(self.config.width) + condition_BD[:, None]
        if self.recall is not None:
            history, where_BT = None, torch.arange(ids_BT.shape[1], device=ids_BT.device).expand_as(ids_BT)
            if reading.cache is not None:
                history, where_BT = reading.cache.history, reading.cache.positions(ids_BT.shape[1])
            x_BTD = x_BTD + self.recall(ids_BT, self.embedding, history, where_BT)
        if self.config.positions == "absolute":
            # Sinusoids of Vaswani et al. (2017), scaled to the size of the embeddings at the start.
            angles = self._angles(ids_BT.shape[1], reading.cache, self.config.width)
            x_BTD = x_BTD + EMBEDDING_STD * torch.cat([angles.sin(), angles.cos()], dim=-1).to(x_BTD.dtype)
        x_BTD = self.dropout(x_BTD)
        for layer in self.encoder:
            x_BTD = layer(x_BTD, reading)
        return x_BTD

    def _reading(self, count: int, cache: KVCache | None) -> Reading:
        """Positions and mask for `count` new tokens after those in the cache."""
        longest = (cache.longest if cache is not None else 0) + count
        capacity = cache.capacity if cache is not None else self.config.context
        assert longest <= capacity, f"{longest} tokens do not fit a context of {capacity}"
        visible_BTK = None
        if cache is not None and cache.longest > 0:
            keys_K = torch.arange(longest, device=cache.lengths_B.device)
            visible_BTK = (keys_K <= cache.positions(count)[:, :, None])[:, None]
        rotation = None
        if self.config.positions == "rotary":
            angles = self._angles(count, cache, self.config.width // self.config.heads)
            angles = angles if cache is None else angles[:, None]  # one head axis
            dtype = self.embedding.weight.dtype
            rotation = (angles.cos().to(dtype), angles.sin().to(dtype))
        return Reading(rotation, visible_BTK, cache)

    def _angles(self, count: int, cache: KVCache | None, width: int) -> Tensor:
        """Angles [T, width/2] (or [B, T, width/2]) of the new positions, one frequency a pair of channels."""
        device = self.embedding.weight.device
        positions = torch.arange(count, device=device) if cache is None else cache.positions(count)
        frequencies = 10000.0 ** (-torch.arange(0, width, 2, device=device, dtype=torch.float64) / width)
        return positions[..., None].double() * frequencies


def rotate(x_BHTE: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of channels (i, i + E/2) by its position's angle."""
    cos, sin = rotation
    first, second = x_BHTE.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x_BHTE.dtype)


# --- what the network remembers: H heads, E width of a head, K tokens so far, M memory tokens ----------


class KVCache:
    """Keys and values of everything attended to so far, one row a piece; rows may be of different length.

    Self-attention of encoder and decoder layers shares one list of [B, H, capacity, E] pairs; the cross-attention
    pairs [B, H, M, E] are computed once, when the cache is made. Made by `HuesongNetwork.new_cache`.
    """

    def __init__(
        self, condition_BD: Tensor, memory: Memory, layers: int, shape: tuple[int, int], capacity: int
    ) -> None:
        (heads, head_width), batch = shape, len(condition_BD)
        self.condition_BD, self.memory, self.capacity = condition_BD, memory, capacity
        self.lengths_B = torch.zeros(batch, dtype=torch.long, device=condition_BD.device)
        self.longest = 0  # max(lengths_B), kept on the host so that a step does not wait for the device
        self.keys = [memory[0][0].new_zeros(batch, heads, capacity, head_width) for _ in range(layers)]
        self.values = [torch.zeros_like(keys) for keys in self.keys]
        self.last_keys = [torch.zeros_like(keys[:, :, :1]) for keys in self.keys]  # before they were mixed
        self.history = History(batch, capacity, condition_BD.device)

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

    def remember(self, layer: int, last_BH1E: Tensor) -> Tensor:
        """Keep the newest token's key as it was before it was mixed; returns the one kept before."""
        before, self.last_keys[layer] = self.last_keys[layer], last_BH1E.clone()  # not all keys, of which it is a part
        return before.to(last_BH1E.dtype)

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
        other.last_keys = [keys[rows] for keys in self.last_keys]
        other.history = self.history.select(rows)
        other.lengths_B = self.lengths_B[rows]
        other.longest = int(other.lengths_B.max()) if len(rows) else 0
        return other

    def replace(self, rows: Tensor, other: KVCache) -> None:
        """Put the rows of `other` in the place of `rows`."""
        parts = (self.keys, other.keys), (self.values, other.values), (self.last_keys, other.last_keys)
        for mine, theirs in (pair for ours, others in parts for pair in zip(ours, others, strict=True)):
            mine[rows] = theirs
        self.history.replace(rows, other.history)
        self.lengths_B = self.lengths_B.index_copy(0, rows, other.lengths_B)
        self.longest = int(self.lengths_B.max())

    def emptied(self) -> KVCache:
        """A cache with the same condition and pictures but no tokens, to prime anew."""
        _, heads, _, width = self.keys[0].shape
        return KVCache(self.condition_BD, self.memory, len(self.keys), (heads, width), self.capacity)
