"""The model: a picture and a (valence, arousal) request go in, the next music token's logits come out.

    picture ──> CNN ──> S image tokens ──────────────┐
       │                                              ├─> memory ──> cross-attention
       └──> VA head ──> (V, A) ──> condition ─────────┘                   │
                                       │                                  v
    MIDI prefix ──> embedding (+ condition) ──> 3 causal encoder layers ──> 3 decoder layers ──> logits

Shapes, named at the end of a tensor's name:
    B batch, T tokens of the MIDI prefix, K attended positions, S image tokens, M = S + 1 memory tokens,
    D width, H heads, E = D / H, V vocabulary, C channels of a picture feature.

After "Emotion-Guided Image to Music Generation" (Kundu, Singh, Iwahori, arXiv 2410.22299): its three Transformer
encoders over MIDI and three decoders, here with what makes them work: causal masks, positions, feed-forward layers,
pre-norm residuals (Xiong et al. 2020), and image tokens that really are attended to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huesong.config import NetworkConfig
from huesong.model.backbone import PictureCNN
from huesong.model.cache import KVCache
from huesong.model.kernel_head import MOST_KEPT, KernelHead

EMBEDDING_STD = 0.05


@dataclass(frozen=True)
class PictureShape:
    """What one picture is to the network.

    kind "features": float [S, C] of a frozen backbone (`tokens`, `channels`); the VA head compares their mean with that
        of `rated` pictures (kernel_head.py).
    kind "pixels": uint8 [size, size, 3], read by the network's own CNN, with a linear VA head.
    """

    kind: Literal["features", "pixels"]
    tokens: int = 0
    channels: int = 0
    size: int = 0
    rated: int = 0

    @classmethod
    def of(cls, row: tuple[int, ...], rated: int = 0) -> PictureShape:
        """The shape of one row of the picture array: (S, C) features or (H, W, 3) pixels."""
        if len(row) == 2:
            return cls("features", tokens=row[0], channels=row[1], rated=min(rated, MOST_KEPT))
        return cls("pixels", size=row[0])


@dataclass
class PictureEncoding:
    """What the network sees in a batch of pictures.

    tokens_BSD: image tokens for cross-attention.
    va_B2: the pictures' own valence and arousal, on the scale of people's picture ratings.
    request_B2: the same in the music's VA distribution (the pairing's map): what to ask of the music when the
        user asks for nothing else.
    pooled_BC: pooled picture features.
    """

    tokens_BSD: Tensor
    va_B2: Tensor
    request_B2: Tensor
    pooled_BC: Tensor


class PictureSide(nn.Module):
    """Pictures to image tokens, and to their own (valence, arousal)."""

    feature_mean_C: Tensor
    feature_scale_C: Tensor
    map_from_K2: Tensor
    map_to_K2: Tensor

    def __init__(self, shape: PictureShape, width: int, knots: int = 33) -> None:
        super().__init__()
        self.cnn = PictureCNN(shape.size) if shape.kind == "pixels" else None
        channels = self.cnn.channels[-1] if self.cnn else shape.channels
        self.tokens = self.cnn.grid**2 if self.cnn else shape.tokens
        # Standardisation of frozen features, set from the training pictures; the identity for the own CNN.
        self.register_buffer("feature_mean_C", torch.zeros(channels))
        self.register_buffer("feature_scale_C", torch.ones(channels))
        self.project = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)
        self.places_SD = nn.Parameter(torch.empty(self.tokens, width))
        self.null_SD = nn.Parameter(torch.empty(self.tokens, width))
        # Without rated pictures, and in models of earlier versions, the head of frozen features is linear, too.
        self.va_head = KernelHead(shape.rated, channels) if shape.rated else nn.Linear(channels, 2)
        # The pairing's monotone map from picture VA to music VA, as knots of a piecewise linear function per axis.
        identity = torch.linspace(-1, 1, knots)[:, None].repeat(1, 2)
        self.register_buffer("map_from_K2", identity.clone())
        self.register_buffer("map_to_K2", identity.clone())

    def forward(self, pictures: Tensor) -> PictureEncoding:
        """`pictures`: [B, S, C] float features or [B, H, W, 3] uint8 pixels."""
        grid_BSC = self.cnn(pictures) if self.cnn else pictures.to(self.project.weight.dtype)
        features_BSC = (grid_BSC - self.feature_mean_C) / self.feature_scale_C
        pooled_BC = features_BSC.mean(dim=1)
        kernel = isinstance(self.va_head, KernelHead)
        raw_B2 = full_precision(self.va_head(grid_BSC.mean(dim=1) if kernel else pooled_BC))
        # What was fitted in closed form is clamped; a head trained by gradient needs tanh.
        va_B2 = raw_B2.tanh() if self.cnn else raw_B2.clamp(-1, 1)
        tokens_BSD = self.norm(self.project(features_BSC)) + self.places_SD
        return PictureEncoding(tokens_BSD, va_B2, self.map_va(va_B2), pooled_BC)

    def map_va(self, va_B2: Tensor) -> Tensor:
        """Picture VA to music VA: linear between the knots, constant beyond the outermost."""
        mapped = []
        for axis in range(2):
            from_K, to_K = self.map_from_K2[:, axis].contiguous(), self.map_to_K2[:, axis]
            value_B = va_B2[:, axis].contiguous().to(from_K.dtype)
            upper_B = torch.searchsorted(from_K, value_B).clamp(1, len(from_K) - 1)
            left_B, right_B = from_K[upper_B - 1], from_K[upper_B]
            share_B = ((value_B - left_B) / (right_B - left_B).clamp_min(1e-9)).clamp(0, 1)
            mapped.append(torch.lerp(to_K[upper_B - 1], to_K[upper_B], share_B))
        return torch.stack(mapped, dim=-1)


class Condition(nn.Module):
    """(V, A) to one vector of the network's width; a learned vector stands for "nothing was asked"."""

    frequencies = 4

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(2 + 4 * self.frequencies, 2 * width)
        self.project = nn.Linear(2 * width, width)
        self.null_D = nn.Parameter(torch.empty(width))

    def forward(self, va_B2: Tensor, keep_B: Tensor) -> Tensor:
        """[B, D]; rows with keep False get the learned null."""
        va_B2 = va_B2.to(self.null_D.dtype)
        # Half-periods of 2, 1, 2/3 ... over [-1, 1]: smooth, yet near-by requests can be told apart.
        order_F = torch.arange(1, self.frequencies + 1, device=va_B2.device, dtype=va_B2.dtype)
        angle_BF = (va_B2[:, :, None] * order_F * (math.pi / 2)).flatten(1)
        wave_BF = torch.cat([va_B2, angle_BF.sin(), angle_BF.cos()], dim=-1)
        asked_BD = self.project(F.gelu(self.expand(wave_BF)))
        return torch.where(keep_B[:, None], asked_BD, self.null_D.to(asked_BD.dtype))


@dataclass
class Reading:
    """What the layers of one pass share: positions, mask and cache."""

    rotation_TE: tuple[Tensor, Tensor] | None  # cos, sin: [T, E] or, with a cache, [B, 1, T, E]
    visible_BTK: Tensor | None  # None: plain causal mask
    cache: KVCache | None


class SelfAttention(nn.Module):
    """Causal multi-head self-attention (Vaswani et al. 2017), rotary if the reading says so (Su et al. 2021)."""

    def __init__(self, width: int, heads: int, layer: int) -> None:
        super().__init__()
        self.heads, self.layer = heads, layer
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BTD: Tensor, reading: Reading) -> Tensor:
        projected = self.query_key_value(x_BTD).unflatten(-1, (3, self.heads, -1))
        queries_BHTE, keys_BHTE, values_BHTE = projected.permute(2, 0, 3, 1, 4)
        if reading.rotation_TE is not None:
            queries_BHTE, keys_BHTE = rotate(queries_BHTE, reading.rotation_TE), rotate(keys_BHTE, reading.rotation_TE)
        if reading.cache is not None:
            keys_BHTE, values_BHTE = reading.cache.store(self.layer, keys_BHTE, values_BHTE)
        mixed_BHTE = F.scaled_dot_product_attention(
            queries_BHTE, keys_BHTE, values_BHTE, attn_mask=reading.visible_BTK, is_causal=reading.visible_BTK is None
        )
        return self.out(mixed_BHTE.transpose(1, 2).flatten(2))


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
        self.self_attention = SelfAttention(width, config.heads, index)
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

    def __init__(self, config: NetworkConfig, vocabulary_size: int, picture: PictureShape) -> None:
        super().__init__()
        assert config.width % (2 * config.heads) == 0, "width must be a multiple of twice the heads"
        self.config, self.vocabulary_size, self.picture_shape = config, vocabulary_size, picture
        self.embedding = nn.Embedding(vocabulary_size, config.width)  # also the output layer (weight tying)
        self.dropout = nn.Dropout(config.dropout)
        self.picture = PictureSide(picture, config.width)
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
            if name.endswith(".bias"):
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
        return KVCache(condition_BD, memory, len(self.encoder) + len(self.decoder), capacity or self.config.context)

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


def full_precision(x: Tensor) -> Tensor:
    """At least float32, also under autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
