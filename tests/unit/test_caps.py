"""What the grammar holds back: runaways, tapping, clusters at the top, and silence."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from huesong.music import tokens
from huesong.music.reading import listen
from tests.examples import many
from tests.tiny_music import grammar, planned, tokenizer, walk


@pytest.mark.parametrize(("most", "crowded"), [(2, False), (99, True)])
def test_few_notes_sound_at_once_at_the_top_of_the_keyboard(most: int, crowded: bool) -> None:
    ids, _ = walk(grammar(), planned(12, high=70, high_notes=most), seed=1, habit="Pitch")
    notes = listen(tokens.decode(tokenizer(), ids, 120.0))
    high = (notes.pitch > 70) & (notes.onset_s < notes.onset_s.max())  # the last chord follows rules of its own
    sounding = [(high & (notes.onset_q <= at) & (notes.end_q > at)).sum() for at in notes.onset_q[high]]
    assert bool(max(sounding) > 2) is crowded


@pytest.mark.parametrize("most", [3, 6])
def test_one_tone_is_tapped_only_so_many_times(most: int) -> None:
    rules, asked = grammar(), planned(8, strokes=most)
    state, ids = rules.start(asked), [rules.vocabulary.bos]
    while not state.done:
        mask = rules.mask(state)
        wanted = [rules.table.ids["Pitch"][60], *rules.table.ids["Position"].values(), *np.flatnonzero(mask)]
        ids += rules.advance(state, next(int(token) for token in wanted if mask[token]))
    notes = listen(tokens.decode(tokenizer(), ids, asked.tempo))
    onsets = [tuple(notes.pitch[notes.onset_s == at]) for at in np.unique(notes.onset_s)]
    runs = [len(list(same)) for top, same in itertools.groupby(map(max, onsets)) if top == 60]
    assert max(runs) == most
    assert runs.count(most) > 3


def test_caps_hold_back_a_runaway() -> None:
    caps = planned(10, notes_per_position=4, notes_per_bar=12, polyphony=5, notes_per_second=10)
    ids, _ = walk(grammar(), caps, seed=2, habit="Pitch")
    notes = listen(tokens.decode(tokenizer(), ids, caps.tempo))
    free = notes.onset_s < notes.onset_s.max()
    _, sizes = np.unique(notes.onset_s[free], return_counts=True)
    assert sizes.max() <= 4
    # A token of many notes may begin before and end after the cap: hence the slack of one position's notes.
    bars = np.floor(notes.onset_q[free] / 4).astype(int)
    assert np.bincount(bars).max() <= 12 + 4
    sounding = [((notes.onset_q <= t) & (notes.end_q > t)).sum() for t in notes.onset_q[free]]
    assert max(sounding) <= 5
    rate = [((notes.onset_s > t - 1) & (notes.onset_s <= t)).sum() for t in notes.onset_s[free]]
    assert max(rate) <= 10


def test_silence_is_bounded() -> None:
    ids, _ = walk(grammar(), planned(20), seed=0, habit="Bar")
    notes = listen(tokens.decode(tokenizer(), ids))
    assert notes.onset_q[0] < 4
    assert np.diff(np.unique(notes.onset_q)).max() < 3 * 4


def longest_silence(ids: list[int]) -> float:
    notes = listen(tokens.decode(tokenizer(), ids, 120.0))
    order = np.argsort(notes.onset_s, kind="stable")
    ends = np.maximum.accumulate(np.concatenate([[0.0], notes.end_s[order]]))[:-1]
    return float((notes.onset_s[order] - ends).max())


@pytest.mark.parametrize("habit", ["any", "Bar", "Position"])
@pytest.mark.parametrize("silence", [0.3, 1.0])
def test_silence_is_as_short_as_asked_up_to_the_last_chord(habit: str, silence: float) -> None:
    rules, found = grammar(), {}
    for name, longest_s in (("capped", silence), ("free", 1e6)):
        longest = []
        for seed in range(many(30)):
            rng, state = np.random.default_rng(seed), rules.start(planned(10, silence=longest_s))
            ids: list[int] = []
            liked = np.array([any(kind == habit for kind, _ in base) for base in rules.table.base])
            while not state.done:
                chance = rules.mask(state) * (1.0 + 20 * liked)
                ids += rules.advance(state, int(rng.choice(len(chance), p=chance / chance.sum())))
            longest.append(longest_silence(ids))
        found[name] = max(longest)
    assert found["capped"] <= silence + 1e-6
    assert found["free"] > silence
