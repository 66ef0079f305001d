"""What composes, on plain arrays, gives what the modules of PyTorch give that were trained: network, critic, pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from huesong.config import CriticConfig, NetworkConfig, SamplingConfig
from huesong.model.critic import Critic
from huesong.model.decoding.decoder import Decoder
from huesong.model.decoding.hearing import Hearing
from huesong.model.decoding.tensors import Tensors, arrays_of
from huesong.model.folder import load_model, load_modules
from huesong.model.network import HuesongNetwork, PictureShape
from huesong.model.requests import Request
from huesong.model.sampling import predict_va, sample
from huesong.pictures.encoders import Encoder
from huesong.register.shipped import CHECKOUT
from huesong.runtime.errors import UserError
from tests.tiny_training import NETWORK, SIZE

NEAR = 1e-4


def close(found: np.ndarray, wanted: torch.Tensor, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(found, wanted.detach().numpy(), atol=atol, rtol=0)


@pytest.mark.parametrize("plans", [False, True])
@pytest.mark.parametrize("count", [1, 7, 200])
def test_the_critic_hears_the_same(plans: bool, count: int) -> None:
    torch.manual_seed(0)
    plans_V = np.arange(SIZE) % 3 == 0 if plans else None
    critic = Critic(CriticConfig(width=24, heads=2, layers=2), SIZE, plans_V).freeze()
    critic.head.weight.mul_(30)
    ids = torch.randint(0, SIZE, (count,))
    hearing = Hearing.of(critic)
    close(hearing(ids.numpy()), critic(ids[None])[0])
    silent = np.zeros(4, dtype=int)  # a plan and no music, where token 0 plans
    close(hearing(silent), critic(torch.from_numpy(silent)[None])[0])


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize(
    "shape",
    [PictureShape("features", 4, 6), PictureShape("features", 4, 6, rated=9),
     *(PictureShape("pixels", size=size) for size in (32, 64, 96, 200))],
)  # fmt: skip
def test_pictures_are_read_the_same(shape: PictureShape, seen: bool) -> None:
    torch.manual_seed(0)
    config = NetworkConfig.model_validate(NETWORK.model_dump() | {"image_tokens": seen})
    network = HuesongNetwork(config, SIZE, shape).eval().requires_grad_(False)
    for name, tensor in network.picture.state_dict().items():
        if name.endswith("scale_C") or name.startswith(("feature_", "cnn.blocks.1.")):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
        elif name.startswith("va_head"):
            tensor.copy_(torch.randn_like(tensor) * 0.05)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (3, shape.size, shape.size, 3), dtype=np.uint8)
    if shape.kind == "features":
        rows = rng.normal(size=(3, shape.tokens, shape.channels)).astype(np.float16)
    found, wanted = Decoder.of(network).encode_picture(rows), network.encode_picture(torch.from_numpy(rows))
    close(found.tokens_BSD, wanted.tokens_BSD)
    close(found.va_B2, wanted.va_B2)
    assert found.va_B2.std() > 0.001


def test_weights_are_asked_for_by_name_and_shape_and_none_is_left() -> None:
    tensors = Tensors.of_arrays({"a.weight": np.ones((2, 3)), "a.bias": np.zeros(2), "b": np.array([np.inf])})
    assert tensors.transposed("a", 2, 3).shape == (3, 2)
    for name, shape in (("a.bias", (3,)), ("a.weight", (2, 3)), ("c", ())):
        with pytest.raises(UserError, match=rf"another architecture \('{name}' does not fit"):
            tensors.take(name, *shape)
    with pytest.raises(UserError, match=r"no numbers \('b'\)"):
        tensors.take("b", 1)
    with pytest.raises(UserError, match=r"another architecture \('a.bias'"):
        tensors.finish()


def test_a_copy_of_the_weights_does_not_change_with_them() -> None:
    torch.manual_seed(0)
    network = HuesongNetwork(NETWORK, SIZE, PictureShape("features", 4, 6)).requires_grad_(False)
    decoder = Decoder.of(network)
    before = decoder.embedding_VD.copy()
    network.embedding.weight.mul_(2)
    assert np.array_equal(decoder.embedding_VD, before)
    assert arrays_of(network, half=True)["embedding.weight"].dtype == np.float16


@pytest.fixture(scope="module")
def shipped() -> Path:
    return CHECKOUT


@torch.inference_mode()
def test_the_shipped_model_is_the_same_in_arrays(shipped: Path) -> None:
    """Features of the picture, what is read in them, what the critic hears, and the logits of a piece: within 1e-4."""
    arrays, modules = load_model(shipped), load_modules(shipped)
    pixels_NHW3 = np.random.default_rng(0).integers(0, 256, (1, 512, 512, 3), dtype=np.uint8)
    few, many = (Encoder.load(shipped / "encoder", many=many).encode_pixels(pixels_NHW3) for many in (False, True))
    np.testing.assert_allclose(few.astype(float), many.astype(float), rtol=1e-3, atol=NEAR)  # float16
    seen, wanted = arrays.network.encode_picture(many), modules.network.encode_picture(torch.from_numpy(many))
    close(seen.va_B2, wanted.va_B2, NEAR)
    close(seen.tokens_BSD, wanted.tokens_BSD, NEAR)
    assert np.abs(arrays.network.encode_picture(few).va_B2 - seen.va_B2).max() < 1e-3, "what float16 rounds"
    piece = sample(arrays, [Request(many[0], seed=3, seconds=12.0)], SamplingConfig(candidates=1))[0]
    ids = torch.tensor([[arrays.vocabulary.bos, *piece.ids]])
    close(np.array(predict_va(arrays, piece.ids)), modules.critic(ids[:, 1:])[0], NEAR)
    va = np.array([piece.requested], np.float32)
    cache = arrays.network.new_cache(seen.tokens_BSD, va)
    logits = modules.network(ids, wanted.tokens_BSD, torch.from_numpy(va))
    close(arrays.network.step(ids.numpy(), cache), logits, NEAR)
