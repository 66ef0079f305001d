"""What bench.py holds huesong against, measured in the same run: a GPT-2 of transformers of the same size, and two floors.

The floors: a step of sampling reads all weights, and the keys and values of every row, once, so it takes at least their bytes
over the bandwidth that one thread reads with; a step of training multiplies about 6 numbers a weight and token, so it takes
at least as long as as many operations of one large matrix product of the same precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from huesong.model.folder import Model, Modules
from huesong.model.network import HuesongNetwork


def bandwidth(n: int) -> list[float]:
    """Bytes a second that one thread reads, n times: sums of 256 MiB."""
    block, threads = torch.ones(2**26), torch.get_num_threads()
    torch.set_num_threads(1)
    found = [block.nbytes / seconds(block.sum) for _ in range(n + 1)][1:]
    torch.set_num_threads(threads)
    return found


def matmul_rate(dtype: torch.dtype, n: int) -> list[float]:
    """Floating-point operations a second of products of two 2,048 x 2,048 matrices, n times."""
    side = 2048
    left, right = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    return [2 * side**3 / seconds(lambda: left @ right) for _ in range(n + 1)][1:]


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def bytes_a_step(model: Modules, rows: int, tokens: int) -> int:
    """What a step of sampling reads at least, where each row has so many tokens: weights and cache, float32."""
    config = model.network.config
    width = config.width // config.heads * (config.kv_heads or config.heads)
    cache = rows * tokens * 2 * width * (config.encoder_layers + config.decoder_layers)
    layers = [*model.network.encoder.parameters(), *model.network.decoder.parameters()]
    return 4 * (sum(weight.numel() for weight in layers) + model.network.embedding.weight.numel() + cache)


def operations_a_token(network: HuesongNetwork) -> float:
    """Of training: forward and backward, products with weights alone."""
    used = [*network.encoder.parameters(), *network.decoder.parameters(), network.embedding.weight]
    return 6.0 * sum(weight.numel() for weight in used)


def gpt2(model: Model | Modules) -> Any:
    """A GPT-2 of transformers with as many layers, heads and tokens, and of the same width; random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = model.network.config
    made = GPT2Config(
        vocab_size=model.vocabulary.size, n_positions=config.context, n_embd=config.width, n_head=config.heads,
        n_layer=config.encoder_layers + config.decoder_layers, n_inner=config.width * config.feed_forward,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(made)


def generating(network: Any, rows: int, tokens: int) -> Callable[[], object]:
    """`generate` of that many tokens for each row: sampled, with its cache."""
    begin = torch.full((rows, 1), 3)
    return lambda: network.generate(
        begin, attention_mask=torch.ones_like(begin), do_sample=True, top_p=0.97, max_new_tokens=tokens, pad_token_id=0
    )


def training(logits: Callable[[], torch.Tensor], network: Any, ids_BT: torch.Tensor, low: bool) -> Callable[[], object]:
    """A plain step: cross-entropy, backward, AdamW; `low`: in bfloat16 autocast."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss = torch.nn.functional.cross_entropy(logits().flatten(0, 1).float(), ids_BT.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
