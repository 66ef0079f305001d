"""evaluate/note_judge.py: reads notes, learns from split `judge` alone, the same at every run."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from huesong.config import SecondJudgeConfig
from huesong.evaluate.note_judge import ALPHABET, ATTRIBUTES, SecondJudge, attributes
from huesong.music.reading import Notes
from huesong.runtime.errors import UserError
from huesong.va import Bootstrap
from tests.tiny_labels import music, unlabel

QUICK = SecondJudgeConfig(
    members=2, steps=120, width=16, layers=1, dropout=0.0, context=32, batch_size=16, learning_rate=1e-2
)


def notes(onset: list[float], pitch: list[int], velocity: int = 80, length: float = 0.5) -> Notes:
    begin = np.array(onset, float)
    return Notes(
        begin, begin + length, begin * 2, (begin + length) * 2, np.array(pitch, int), np.full(len(pitch), velocity)
    )


def played(valence: float, arousal: float, rng: np.random.Generator, count: int = 40) -> Notes:
    """Loud and dense where excited; major where pleasant."""
    scale = (0, 4, 7, 12) if valence > 0 else (0, 3, 7, 12)
    gap = 0.6 - 0.45 * arousal
    pitch = 60 + rng.choice(scale, count)
    return notes((np.arange(count) * gap).tolist(), pitch.tolist(), round(70 + 40 * arousal), 0.9 * gap)


@pytest.fixture(scope="module")
def world() -> tuple[pd.DataFrame, list[Notes], SecondJudge]:
    pieces, _ = music(480)
    rng = np.random.default_rng(3)
    heard = [played(v, a, rng) for v, a in pieces[["valence", "arousal"]].to_numpy()]
    return pieces, heard, SecondJudge.fit(pieces, heard.__getitem__, QUICK)


def test_what_is_heard_of_a_note() -> None:
    # C major: C4 and E4 together, half a second later a G5, more than an octave above the E.
    found = attributes(notes([0.0, 0.0, 0.5], [60, 64, 79]))
    first = np.cumsum([0, *ATTRIBUTES.values()])[:-1]
    own = found - first
    assert own[:, 0].tolist() == [0, 4, 7]
    assert own[:, 3].tolist() == [0, 0, 8]  # together, together, 2^-1 s: the eighth class from 2^-4 on
    assert own[:, 5].tolist() == [13, 17, 26]  # no step, a third, more than an octave
    assert found.max() < ALPHABET
    assert (own >= 0).all()
    assert (own < list(ATTRIBUTES.values())).all()
    assert attributes(notes([], [])).shape == (0, len(ATTRIBUTES))


def test_a_transposed_piece_differs_in_height_alone() -> None:
    plain = [60, 64, 67, 72, 60, 64, 67, 62]
    onset = [k * 0.25 for k in range(8)]
    here, there = attributes(notes(onset, plain)), attributes(notes(onset, [p + 18 for p in plain]))
    height = list(ATTRIBUTES).index("height")
    np.testing.assert_array_equal(np.delete(here, height, axis=1), np.delete(there, height, axis=1))
    assert (there[:, height] - here[:, height] == 3).all()


def test_it_learns_what_the_music_carries(world: tuple[pd.DataFrame, list[Notes], SecondJudge]) -> None:
    pieces, heard, judge = world
    scores = judge.held_out(pieces, heard.__getitem__, Bootstrap(100))
    json.dumps(scores, allow_nan=False)
    assert scores["n"] == (pieces["split"] == "test").sum()
    assert scores["arousal_r"] > 0.9
    assert scores["valence_r"] > 0.7
    assert scores["arousal_r_low"] <= scores["arousal_r"] <= scores["arousal_r_high"]


def test_only_split_judge_is_read(world: tuple[pd.DataFrame, list[Notes], SecondJudge]) -> None:
    pieces, heard, judge = world
    lies = pieces.copy()
    others = lies["split"] != "judge"
    lies.loc[others, ["valence", "arousal"]] *= -1

    def notes_of(row: int) -> Notes:
        assert pieces["split"][row] == "judge"
        return heard[row]

    torch.manual_seed(99)  # what came before must not matter, nor be changed
    before = torch.get_rng_state()
    again = SecondJudge.fit(lies, notes_of, QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(again.predict(heard[:20]), judge.predict(heard[:20]))


def test_a_piece_is_heard_alone_and_in_parts(world: tuple[pd.DataFrame, list[Notes], SecondJudge]) -> None:
    _, heard, judge = world
    together = judge.predict(heard[:5])
    assert together.shape == (5, 2)
    assert np.abs(together).max() < 1
    np.testing.assert_array_equal(judge.predict([heard[3]])[0], together[3])
    assert judge.predict([notes([], [])]).tolist() == [[0.0, 0.0]]
    # 40 notes are heard as 32 and 8: the last count, by their number.
    cut = Notes(*(getattr(heard[3], name)[:32] for name in Notes.__dataclass_fields__))
    assert not np.array_equal(judge.predict([cut])[0], together[3])


def test_too_few_rated_groups() -> None:
    pieces, _ = music(30)
    bare = unlabel(pieces, (pieces["split"] == "judge").to_numpy())
    with pytest.raises(UserError, match=r"second judge.*split `judge`.*0 labelled items.*preprocess\.splits\.judge"):
        SecondJudge.fit(bare, lambda row: notes([0.0], [60]), QUICK)
