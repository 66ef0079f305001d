from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from huesong.config import NetworkConfig
from huesong.model.copying.passages import copy_rows
from huesong.model.copying.recall import Recall
from huesong.model.decoding.decoder import Decoder
from huesong.model.decoding.history import BarTokens, History, said_by
from huesong.model.network import HuesongNetwork
from huesong.music import tokens
from tests.tiny_music import SHAPE, encoded, grammar, pieces, tokenizer

VOCABULARY = grammar().vocabulary
BARS = BarTokens.of(VOCABULARY)


def rows() -> list[np.ndarray]:
    made = tokenizer()
    return [np.array(tokens.apply_bpe(made, encoded(made, score))) for score in pieces()]


def found(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return Recall(8, BARS).find(ids)


def by_hand(ids: list[int]) -> list[int | None]:
    """What comes next in the bar referred to, after the same place: as the docstring says it, token by token."""
    seen: list[tuple[int, tuple[int, int]]] = []  # of each token its bar and place
    bar, place, since, back, answers = 0, -1, 0, 0, list[int | None]()
    for token in ids:
        since += 1
        if BARS.opens_V[token]:
            bar, place, since, back = bar + 1, -1, 0, 0
        if BARS.position_V[token] >= 0:
            place, since = int(BARS.position_V[token]), 0
        if BARS.back_V[token] >= 0:
            back = int(BARS.back_V[token])
        seen.append((bar, (place, min(since, 63))))
        there = [index for index, (b, where) in enumerate(seen) if back and b == bar - back and where <= seen[-1][1]]
        answers.append(ids[there[-1] + 1] if there else None)
    return answers


def test_it_finds_what_the_earlier_bar_has_after_the_same_place() -> None:
    for row in rows():
        following, known = found(torch.tensor([row.tolist()]))
        got = [int(token) if yes else None for token, yes in zip(following[0], known[0], strict=True)]
        assert got == by_hand(row.tolist())
        history, said = History(), said_by(BARS)
        half = [history.read(token, said) for token in row[: len(row) // 2].tolist()]
        history = history.copied()
        assert half + [history.read(token, said) for token in row[len(row) // 2 :].tolist()] == got
        assert 0.1 < np.mean([one is not None for one in got]) < 1


def test_of_a_bar_that_repeats_it_finds_every_token_after_the_head_has_said_so() -> None:
    packed = rows()
    count = np.array([len(row) for row in packed])
    start = np.cumsum(count) - count
    copies = copy_rows(VOCABULARY, np.concatenate(packed), start, count, context=1500, kinds=("exact",))
    assert len(copies) > 10
    for row in copies:
        following, known = (values[0].numpy() for values in found(torch.tensor([row.ids.tolist()])))
        said = False
        for place in range(row.second.start, row.second.stop - 1):
            token = row.ids[place]
            said = BARS.back_V[token] >= 0 or (said and not BARS.opens_V[token])
            assert known[place] == said
            assert not said or following[place] == row.ids[place + 1]


def test_nothing_after_a_token_is_looked_at_whatever_the_tokens_are() -> None:
    generator = torch.Generator().manual_seed(0)
    names = [parts[0] if len(parts) == 1 else "" for parts in VOCABULARY.tokens]
    often = [
        index for index, (name, opens) in enumerate(zip(names, BARS.opens_V, strict=True))
        if opens or name in ("Repeat_1", "Sequence_2", "Variation_3", "Position_3", "Position_9", "Pitch_60", "Pitch_64")
    ]  # fmt: skip
    ids = torch.tensor(often)[torch.randint(0, len(often), (6, 300), generator=generator)]
    following, known = found(ids)
    assert known.any()
    for length in (1, 2, 17, 150, 299):
        first, also = found(ids[:, :length])
        assert torch.equal(also, known[:, :length])
        assert torch.equal(first[also], following[:, :length][also])


def network() -> HuesongNetwork:
    torch.manual_seed(0)
    config = NetworkConfig(width=32, heads=2, encoder_layers=1, decoder_layers=1, context=400)
    made = HuesongNetwork(config, VOCABULARY.size, SHAPE, BARS).eval()
    assert made.recall is not None
    torch.nn.init.normal_(made.recall.project.weight, std=0.1)
    return made


def close(found: np.ndarray, wanted: Tensor) -> None:
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_token_by_token_is_all_at_once_also_after_rows_were_chosen_and_put_back() -> None:
    model, rng = network(), np.random.default_rng(0)
    longest = max(rows(), key=len)[:390]
    ids = torch.from_numpy(np.array([longest, np.roll(longest, 3), rng.integers(0, VOCABULARY.size, len(longest))]))
    va, keep = torch.zeros(3, 2), torch.ones(3, dtype=torch.bool)
    whole = model(ids, None, va, keep)
    decoder = Decoder.of(model)
    cache = decoder.new_cache(None, va.numpy(), keep.numpy())
    read = ids.numpy()
    close(decoder.step(read[:, :100], cache), whole[:, :100])
    for place in range(100, 130):
        close(decoder.step(read[:, place : place + 1], cache)[:, 0], whole[:, place])
    order = [2, 0]
    chosen = cache.select(order)
    close(decoder.step(read[order, 130:200], chosen), whole[order, 130:200])
    decoder.prime(chosen, 1, read[1, :200].tolist())
    close(decoder.step(read[[2, 1], 200:210], chosen), whole[[2, 1], 200:210])
    places, rng = [210, 210], np.random.default_rng(1)
    while max(places) < 380:  # some read the head of a bar, others a note
        counts = rng.integers(1, 9, 2) if rng.random() < 0.5 else np.array([1, int(rng.integers(1, 9))])
        ends = [at + int(count) for at, count in zip(places, counts, strict=True)]
        runs = [ids[row, at:end].tolist() for row, at, end in zip((2, 1), places, ends, strict=True)]
        wanted = torch.stack([whole[row, end - 1] for row, end in zip((2, 1), ends, strict=True)])
        close(decoder.next_logits(runs, chosen), wanted)
        places = ends


def test_at_the_start_of_training_nothing_is_added_and_the_matrix_learns() -> None:
    torch.manual_seed(0)
    recall, embedding = Recall(16, BARS), torch.nn.Embedding(VOCABULARY.size, 16)
    torch.nn.init.zeros_(recall.project.weight)
    ids = torch.tensor([rows()[0].tolist()])
    added = recall(ids, embedding)
    assert not added.any()
    (added * torch.randn_like(added)).sum().backward()
    assert recall.project.weight.grad.abs().sum() > 0
