"""The model: a picture and a (valence, arousal) request go in, the next music token's logits come out.

    picture ──> CNN ──> S image tokens ──────────────┐
       │                                              ├─> memory ──> cross-attention
       └──> VA head ──> (V, A) ──> condition ─────────┘                   │
                                       │                                  v
    MIDI prefix ──> embedding (+ condition) ──> 3 causal encoder layers ──> 3 decoder layers ──> logits

Shapes, named at the end of a tensor's name:
    B batch, T tokens of the MIDI prefix, S image tokens, M = S + 1 memory tokens,
    D width, H heads, E = D / H, V vocabulary.

The left side, from the picture to image tokens, (V, A) and the condition, stands in image_encoder.py.

After "Emotion-Guided Image to Music Generation" (Kundu, Singh, Iwahori, arXiv 2410.22299): its three Transformer
encoders over MIDI and three decoders, here with what makes them work: causal masks, positions, feed-forward layers,
pre-norm residuals (Xiong et al. 2020), and image tokens that really are attended to.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huesong.config import NetworkConfig
from huesong.model.copying.recall import Recall
from huesong.model.decoding.arithmetic import EMBEDDING_STD
from huesong.model.decoding.history import BarTokens
from huesong.model.decoding.pictures import PictureShape
from huesong.model.image_encoder import Condition, ImageEncoder, PictureEncoding

Memory = list[tuple[Tensor, Tensor]]
"""Of each decoder layer the keys and values [B, H, M, E] that the music attends to."""


Rotation = tuple[Tensor, Tensor] | None
"""Cosine and sine [T, E/2] of the positions; None: they are not rotary."""


class SelfAttention(nn.Module):
    """Causal multi-head self-attention (Vaswani et al. 2017), rotary if there is a rotation (Su et al. 2021).

    With `smear` each key is mixed with the key before it, by one learnt number a head ("smeared keys", Olsson et al.
    2022): to find what followed the same token earlier is then a matter of one layer, not of two.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.shared = config.heads, config.kv_heads or config.heads
        own = width // self.heads * self.shared
        self.query_key_value = nn.Linear(width, width + 2 * own, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.smear_H = nn.Parameter(torch.zeros(self.shared)) if config.smear else None

    def forward(self, x_BTD: Tensor, rotation: Rotation) -> Tensor:
        width, projected = x_BTD.shape[-1], self.query_key_value(x_BTD)
        queries_BHTE = projected[..., :width].unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys_BHTE, values_BHTE = projected[..., width:].unflatten(-1, (2, self.shared, -1)).permute(2, 0, 3, 1, 4)
        if self.smear_H is not None:
            before_BHTE = torch.cat([torch.zeros_like(keys_BHTE[:, :, :1]), keys_BHTE[:, :, :-1]], dim=2)
            keys_BHTE = torch.lerp(keys_BHTE, before_BHTE, self.smear_H.sigmoid().to(keys_BHTE.dtype)[:, None, None])
        if rotation is not None:
            queries_BHTE, keys_BHTE = rotate(queries_BHTE, rotation), rotate(keys_BHTE, rotation)
        if (group := self.heads // self.shared) > 1:  # heads that share keys and values (Ainslie et al. 2023)
            keys_BHTE, values_BHTE = (x.repeat_interleave(group, dim=1) for x in (keys_BHTE, values_BHTE))
        mixed_BHTE = F.scaled_dot_product_attention(queries_BHTE, keys_BHTE, values_BHTE, is_causal=True)
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

    def __init__(self, config: NetworkConfig, cross: bool) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.feed_forward
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = SelfAttention(config)
        self.cross_norm = nn.LayerNorm(width) if cross else None
        self.cross_attention = CrossAttention(width, config.heads) if cross else None
        self.feed_norm = nn.LayerNorm(width)
        self.feed_in, self.feed_out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, rotation: Rotation, memory: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.self_attention(self.self_norm(x_BTD), rotation))
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
        self.picture = ImageEncoder(picture, config.width, config.image_tokens)
        self.condition = Condition(config.width)
        self.condition_token = nn.Linear(config.width, config.width)
        self.memory_norm = nn.LayerNorm(config.width)
        self.encoder = nn.ModuleList(Layer(config, cross=False) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(Layer(config, cross=True) for _ in range(config.decoder_layers))
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
        self, ids_BT: Tensor, picture_tokens_BSD: Tensor | None, va_B2: Tensor, keep_condition_B: Tensor | None = None
    ) -> Tensor:
        """Logits [B, T, V] of the token after each position.

        Args:
            ids_BT: token ids, padded at the right (the causal mask keeps padding out of what comes before).
            picture_tokens_BSD: from `encode_picture`; None = no picture. Rows without one: `no_picture`.
            va_B2: requested valence and arousal in [-1, 1].
            keep_condition_B: False drops a row's request *and* picture for learned nulls (classifier-free
                guidance, Ho & Salimans 2022); None keeps all.
        """
        return self.logits(self.states(ids_BT, picture_tokens_BSD, va_B2, keep_condition_B))

    def states(
        self, ids_BT: Tensor, picture_tokens_BSD: Tensor | None, va_B2: Tensor, keep_condition_B: Tensor | None = None
    ) -> Tensor:
        """The decoder's normalised states [B, T, D]; arguments as in `forward`."""
        condition_BD, memory = self.memory(picture_tokens_BSD, va_B2, keep_condition_B)
        x_BTD, rotation = self._encode(ids_BT, condition_BD), self._rotation(ids_BT.shape[1])
        for layer, keys_values in zip(self.decoder, memory, strict=True):
            x_BTD = layer(x_BTD, rotation, keys_values)
        return self.final_norm(x_BTD)

    def logits(self, states_BTD: Tensor) -> Tensor:
        """[B, T, V] from the decoder's states, by the embedding's own weights."""
        return F.linear(states_BTD, self.embedding.weight)

    def music_states(self, ids_BT: Tensor) -> Tensor:
        """The encoder's view [B, T, D] of music alone: nothing of the request or the picture has entered it."""
        return self._encode(ids_BT, self.condition.null_D.expand(len(ids_BT), -1))

    def memory(
        self, picture_tokens_BSD: Tensor | None, va_B2: Tensor, keep_condition_B: Tensor | None
    ) -> tuple[Tensor, Memory]:
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

    def _encode(self, ids_BT: Tensor, condition_BD: Tensor) -> Tensor:
        """Embedded tokens with the condition added to every one, through the encoder layers."""
        # Tied embeddings are small; times sqrt(D) (Vaswani et al. 2017) they are heard beside the condition.
        x_BTD = self.embedding(ids_BT) * math.sqrt(self.config.width) + condition_BD[:, None]
        count = ids_BT.shape[1]
        if self.recall is not None:
            x_BTD = x_BTD + self.recall(ids_BT, self.embedding)
        if self.config.positions == "absolute":
            # Sinusoids of Vaswani et al. (2017), scaled to the size of the embeddings at the start.
            angles = self.angles(count, self.config.width)
            x_BTD = x_BTD + EMBEDDING_STD * torch.cat([angles.sin(), angles.cos()], dim=-1).to(x_BTD.dtype)
        x_BTD, rotation = self.dropout(x_BTD), self._rotation(count)
        for layer in self.encoder:
            x_BTD = layer(x_BTD, rotation)
        return x_BTD

    def _rotation(self, count: int) -> Rotation:
        assert count <= self.config.context, f"{count} tokens do not fit a context of {self.config.context}"
        if self.config.positions != "rotary":
            return None
        angles, dtype = self.angles(count, self.config.width // self.config.heads), self.embedding.weight.dtype
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def angles(self, count: int, width: int) -> Tensor:
        """Angles [T, width/2] of the first positions, float64: one frequency a pair of channels."""
        device = self.embedding.weight.device
        frequencies = 10000.0 ** (-torch.arange(0, width, 2, device=device, dtype=torch.float64) / width)
        return torch.arange(count, device=device)[:, None].double() * frequencies


def rotate(x_BHTE: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of channels (i, i + E/2) by its position's angle."""
    cos, sin = rotation
    first, second = x_BHTE.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x_BHTE.dtype)
