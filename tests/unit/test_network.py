from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from huesong.config import NetworkConfig
from huesong.model.decoding.decoder import Decoder
from huesong.model.network import HuesongNetwork, PictureShape
from tests.tiny_training import NETWORK, SIZE

FEATURES = PictureShape("features", tokens=4, channels=6)


def tiny(
    positions: str = "rotary", picture: PictureShape = FEATURES, smear: bool = True, kv_heads: int = 0
) -> HuesongNetwork:
    torch.manual_seed(0)
    changes = {"positions": positions, "encoder_layers": 2, "smear": smear, "kv_heads": kv_heads}
    network = HuesongNetwork(NetworkConfig.model_validate(NETWORK.model_dump() | changes), SIZE, picture)
    for name, weight in network.named_parameters():
        if name.endswith("smear_H"):
            torch.nn.init.normal_(weight)  # every head as it likes, as if it had learnt to
    return network.double().eval()


def inputs(batch: int = 3, count: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randint(0, SIZE, (batch, count)), torch.randn(batch, 4, 6).double(), torch.rand(batch, 2).double()


@pytest.mark.parametrize("smear", [True, False])
@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_a_future_token_does_not_change_past_logits(positions: str, smear: bool) -> None:
    network = tiny(positions, smear=smear)
    ids, pictures, va = inputs()
    tokens = network.encode_picture(pictures).tokens_BSD
    before = network(ids, tokens, va)
    changed = ids.clone()
    changed[:, 7] = (changed[:, 7] + 1) % SIZE
    after = network(changed, tokens, va)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def close(found: np.ndarray, wanted: Tensor) -> None:
    """What the arrays of composing give is what the network gives."""
    np.testing.assert_allclose(found, wanted.detach().numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kv_heads", [0, 1])
@pytest.mark.parametrize("smear", [True, False])
@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_cached_steps_equal_the_uncached_pass(positions: str, smear: bool, kv_heads: int) -> None:
    network = tiny(positions, smear=smear, kv_heads=kv_heads).float()
    ids, pictures, va = inputs()
    pictures, va = pictures.float(), va.float()
    keep = torch.tensor([True, False, True])
    tokens = network.encode_picture(pictures).tokens_BSD
    whole = network(ids, tokens, va, keep)
    decoder = Decoder.of(network)
    cache = decoder.new_cache(tokens.detach().numpy(), va.numpy(), keep.numpy())
    read = ids.numpy()
    parts = [decoder.step(read[:, :5], cache), decoder.step(read[:, 5:7], cache)]
    parts += [decoder.step(read[:, t : t + 1], cache) for t in range(7, 12)]
    close(np.concatenate(parts, axis=1), whole)


def test_a_compacted_cache_goes_on_as_before() -> None:
    network = tiny().float()
    ids, pictures, va = inputs()
    pictures, va = pictures.float(), va.float()
    tokens = network.encode_picture(pictures).tokens_BSD
    whole = network(ids, tokens, va)
    decoder = Decoder.of(network)
    cache = decoder.new_cache(tokens.detach().numpy(), va.numpy())
    decoder.step(ids[:, :8].numpy(), cache)
    kept = cache.select([2, 0])
    assert len(kept) == 2
    close(decoder.step(ids[[2, 0], 8:].numpy(), kept), whole[[2, 0], 8:])


@pytest.mark.parametrize("kv_heads", [0, 1])
@pytest.mark.parametrize("smear", [True, False])
@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_rows_may_read_several_tokens_in_a_pass_and_others_one(positions: str, smear: bool, kv_heads: int) -> None:
    network = tiny(positions, smear=smear, kv_heads=kv_heads).float()
    ids, pictures, va = inputs()
    pictures, va = pictures.float(), va.float()
    tokens = network.encode_picture(pictures).tokens_BSD
    whole = network(ids, tokens, va)
    decoder = Decoder.of(network)
    cache, read = decoder.new_cache(tokens.detach().numpy(), va.numpy()), [0, 0, 0]
    for counts in ((1, 4, 2), (1, 1, 1), (3, 1, 1), (1, 5, 1), (2, 1, 3)):
        runs = [ids[row, at : at + count].tolist() for row, (at, count) in enumerate(zip(read, counts, strict=True))]
        read = [at + count for at, count in zip(read, counts, strict=True)]
        assert cache.lengths != read
        logits = decoder.next_logits(runs, cache)
        assert cache.lengths == read
        wanted = torch.stack([whole[row, at - 1] for row, at in enumerate(read)])
        close(logits, wanted)


def test_a_row_primed_anew_forgets_and_leaves_the_others_alone() -> None:
    network = tiny().float()
    ids, pictures, va = inputs()
    pictures, va = pictures.float(), va.float()
    tokens = network.encode_picture(pictures).tokens_BSD
    decoder = Decoder.of(network)
    cache = decoder.new_cache(tokens.detach().numpy(), va.numpy())
    decoder.step(ids[:, :8].numpy(), cache)
    decoder.prime(cache, 1, ids[1, 5:8].tolist())
    following = decoder.step(ids[:, 8:9].numpy(), cache)
    fresh = network(ids[1:2, 5:9], tokens[1:2], va[1:2])[0, -1]
    close(following[1, 0], fresh)
    close(following[0, 0], network(ids[:1, :9], tokens[:1], va[:1])[0, -1])


def test_a_smeared_key_is_mixed_with_the_one_before_it_and_no_other() -> None:
    """Keys alone are smeared: seen through an attention whose queries and values are fixed."""
    attention = tiny().encoder[0].self_attention
    width, heads = NETWORK.width, NETWORK.heads
    with torch.no_grad():
        projected = torch.randn(1, 6, width).double()
        keys = attention.query_key_value(projected).unflatten(-1, (3, heads, -1))[:, :, 1]
        queries, values = (
            attention.query_key_value(projected).unflatten(-1, (3, heads, -1))[:, :, row] for row in (0, 2)
        )
        share = attention.smear_H.sigmoid()[:, None]
        before = torch.cat([torch.zeros_like(keys[:, :1]), keys[:, :-1]], dim=1)
        mixed = (1 - share) * keys + share * before
        score = torch.einsum("bthe,bkhe->bhtk", queries, mixed) / (width // heads) ** 0.5
        score = score.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(dim=-1)
        wanted = attention.out(torch.einsum("bhtk,bkhe->bthe", score, values).flatten(2))
        torch.testing.assert_close(attention(projected, None), wanted, atol=1e-12, rtol=0)
    assert not [name for name in tiny(smear=False).state_dict() if "smear" in name]


def test_a_dropped_condition_hides_request_and_picture() -> None:
    network = tiny()
    ids, pictures, va = inputs(2)
    tokens = network.encode_picture(pictures).tokens_BSD
    dropped = torch.tensor([False, False])
    hidden = network(ids, tokens, va, dropped)
    assert torch.equal(hidden, network(ids, tokens.flip(0), -va, dropped))
    shown = network(ids, tokens, va)
    assert not torch.allclose(shown, hidden)
    assert not torch.allclose(shown, network(ids, tokens, -va))
    assert not torch.allclose(shown, network(ids, tokens.flip(0), va))
    assert torch.equal(network(ids, None, va), network(ids, network.no_picture(2), va))


def test_without_image_tokens_pictures_are_read_and_not_seen() -> None:
    """Valence and arousal of a picture are read, and the music is the same whatever the picture is."""
    config = NetworkConfig.model_validate(NETWORK.model_dump() | {"image_tokens": False})
    network = HuesongNetwork(config, SIZE, FEATURES).double().eval()
    ids, pictures, va = inputs(2)
    encoding = network.encode_picture(pictures)
    assert not torch.allclose(encoding.va_B2, network.encode_picture(pictures.flip(0)).va_B2)
    assert torch.equal(encoding.tokens_BSD, network.no_picture(2))
    assert torch.equal(network(ids, encoding.tokens_BSD, va), network(ids, None, va))
    lacks = set(HuesongNetwork(NETWORK, SIZE, FEATURES).state_dict()) - set(network.state_dict())
    assert lacks == {
        f"picture.{name}" for name in ("project.weight", "project.bias", "norm.weight", "norm.bias", "places_SD")
    }


def test_music_states_know_nothing_of_the_request() -> None:
    network = tiny()
    ids, pictures, va = inputs()
    states = network.music_states(ids)
    assert states.shape == (3, 12, NETWORK.width)
    assert not torch.allclose(states, network.states(ids, network.encode_picture(pictures).tokens_BSD, va))


@pytest.mark.parametrize(("size", "tokens"), [(32, 4), (64, 16), (96, 9), (200, 16)])
def test_the_cnn_makes_at_most_sixteen_tokens_of_any_size(size: int, tokens: int) -> None:
    network = tiny(picture=PictureShape.of((size, size, 3))).float()
    encoding = network.encode_picture(torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8))
    assert encoding.tokens_BSD.shape == (2, tokens, NETWORK.width)
    assert encoding.va_B2.abs().max() <= 1


def test_picture_tokens_do_not_depend_on_their_neighbours() -> None:
    network = tiny(picture=PictureShape("pixels", size=32)).train()
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    together, alone = network.encode_picture(pixels), network.encode_picture(pixels[:1])
    torch.testing.assert_close(together.tokens_BSD[:1], alone.tokens_BSD, atol=1e-12, rtol=0)


def test_the_map_is_linear_between_knots_and_constant_beyond() -> None:
    network = tiny()
    network.picture.map_from_K2[:] = torch.linspace(-0.5, 0.5, 33)[:, None]
    network.picture.map_to_K2[:] = torch.linspace(-1, 1, 33)[:, None]
    side = Decoder.of(network).picture
    mapped = side.map_va(np.array([[0.0, 0.25], [-0.9, 0.9]], np.float32))
    np.testing.assert_allclose(mapped, [[0.0, 0.5], [-1.0, 1.0]], atol=1e-6)
    assert side.neutral_2.tolist() == [0.0, 0.0]


def test_embedding_and_output_are_one_tensor() -> None:
    network = tiny()
    assert sum(name.startswith("embedding") for name, _ in network.named_parameters()) == 1
    assert not [name for name in network.state_dict() if "output" in name or ("head" in name and "va_head" not in name)]


def test_more_tokens_than_the_context_are_refused() -> None:
    network = tiny()
    with pytest.raises(AssertionError, match="context"):
        network(torch.zeros(1, NETWORK.context + 1, dtype=torch.long), None, torch.zeros(1, 2).double())


def test_it_can_learn_one_batch_by_heart() -> None:
    network = tiny().float().train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ids, pictures, va = inputs(4, 13)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        tokens = network.encode_picture(pictures.float()).tokens_BSD
        logits = network(ids[:, :-1], tokens, va.float())
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
