from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from symusic import Note, Score, Tempo, Track
from torch import Tensor, nn

from huesong.config import TokenizerConfig
from huesong.model.copying.losses import copy_figures
from huesong.model.copying.passages import DISTANCES, Merges, Row, copy_rows, transposed, varied
from huesong.model.copying.recall import BarTokens
from huesong.model.network import HuesongNetwork, PictureShape
from huesong.music import tokens
from huesong.music.vocabulary import Vocabulary
from tests.tiny_training import NETWORK


def tune(seed: int, bars: int = 24) -> Score:
    """Random chords, so nothing comes back by itself."""
    rng = np.random.default_rng(seed)
    score, track = Score(480), Track()
    score.tempos.append(Tempo(0, 100))
    for tick in range(0, bars * 1920, 480):
        for pitch in rng.choice(np.arange(48, 80), 2, replace=False):
            track.notes.append(Note(tick, 480, int(pitch), 80))
    score.tracks.append(track)
    return score


class Music:
    """Tunes packed as preprocess packs them."""

    def __init__(self, folder: Path, size: int) -> None:
        self.tokenizer = tokens.build_tokenizer(TokenizerConfig(vocabulary_size=size))
        base = [tokens.encode_base(self.tokenizer, tune(seed)) for seed in range(12)]
        tokens.train_bpe(self.tokenizer, base, size)
        self.rows = [tokens.apply_bpe(self.tokenizer, ids) for ids in base]
        tokens.write_vocabulary(self.tokenizer, folder / "vocabulary.json")
        self.vocabulary = Vocabulary.load(folder / "vocabulary.json")
        self.packed = np.concatenate(self.rows).astype(np.uint16)
        self.count = np.array([len(row) for row in self.rows])
        self.start = np.cumsum(self.count) - self.count

    def copies(self, context: int = 1024, **options: object) -> list[Row]:
        return copy_rows(self.vocabulary, self.packed, self.start, self.count, context=context, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Music:
    return Music(tmp_path_factory.mktemp("copying"), 760)


class Copier(nn.Module):
    """Expects what followed the last six ids when they were last read; before that, anything alike."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, ids_BT: Tensor, picture: None, va_B2: Tensor, keep_B: Tensor) -> Tensor:
        logits = torch.zeros(*ids_BT.shape, self.size)
        for row, ids in enumerate(ids_BT.tolist()):
            last: dict[tuple[int, ...], int] = {}
            for place in range(6, len(ids)):
                key = tuple(ids[place - 5 : place + 1])
                if key in last:
                    logits[row, place, ids[last[key] + 1]] = 30.0
                last[key] = place
        return logits


def text(row: Row, where: slice, vocabulary: Vocabulary) -> list[str]:
    return Merges(vocabulary).base(row.ids[where])


def test_bpe_by_the_vocabulary_alone_is_the_tokenizers(music: Music) -> None:
    merges = Merges(music.vocabulary)
    joined = {tuple(name.partition("_")[0] for name in names) for names in music.vocabulary.tokens if len(names) > 1}
    assert joined == tokens.MERGED
    for ids in music.rows:
        assert merges.encode(merges.base(ids)).tolist() == ids


def test_a_row_holds_a_passage_other_bars_and_the_passage_again(music: Music) -> None:
    rows = music.copies(passages=5)
    assert {(row.kind, row.distance) for row in rows} == {
        *((kind, distance) for kind in ("exact", "transposed", "varied", "unsaid") for distance in DISTANCES),
        ("random", 0),
    }  # fmt: skip
    for row in rows:
        first, second = (text(row, where, music.vocabulary) for where in (row.first, row.second))
        assert row.ids[0] == music.vocabulary.bos
        assert len(first) == len(second) == row.base
        assert len(row.ids) <= 1025
        if row.kind == "random":
            assert not np.isin(row.ids[1:], [music.vocabulary.pad, music.vocabulary.bos, music.vocabulary.eos]).any()
        else:
            assert first.count("Bar_None") == 4
            between = text(row, slice(row.first.stop, row.second.start), music.vocabulary)
            assert between.count("Bar_None") == row.distance
        if row.kind in ("exact", "unsaid", "random"):
            assert row.ids[row.first].tolist() == row.ids[row.second].tolist()
        if row.kind == "transposed":
            assert second == transposed(first)
        if row.kind == "varied":
            changed = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
            assert 0 < len(changed) < 0.5 * len(first) / 3
            assert all(a.startswith("Pitch") and b.startswith("Pitch") for a, b in changed)


def test_the_plan_of_a_transposed_repeat_is_transposed_too() -> None:
    base = ["Key_11.minor", "Bar_None", "TimeSig_4/4", "New_0", "Chord_11.min7", "At_2", "Chord_0.N", "Pitch_60"]
    moved = ["Key_1.minor", "Bar_None", "TimeSig_4/4", "New_0", "Chord_1.min7", "At_2", "Chord_0.N", "Pitch_62"]
    assert transposed(base) == moved
    assert transposed(["Pitch_107"]) == [""]


def test_varied_notes_of_a_chord_still_ascend() -> None:
    base = ["Bar_None", "Position_0", "Pitch_60", "Velocity_63", "Pitch_61", "Velocity_63", "Pitch_64", "Velocity_63"]
    seen = set()
    for seed in range(60):
        pitches = [int(name[6:]) for name in varied(base, np.random.default_rng(seed)) if name.startswith("Pitch")]
        assert sorted(set(pitches)) == pitches
        seen.add(tuple(pitches))
    assert len(seen) > 4


def test_who_expects_anything_alike_has_a_ratio_of_one(music: Music) -> None:
    class Alike(nn.Module):
        def forward(self, ids_BT: Tensor, picture: None, va_B2: Tensor, keep_B: Tensor) -> Tensor:
            assert not keep_B.any()
            return torch.zeros(*ids_BT.shape, music.vocabulary.size)

    figures = copy_figures(Alike(), music.copies(passages=4))
    assert figures["copy_exact"] == pytest.approx(1)
    assert figures["copy_random"] == pytest.approx(1)
    exact = [row for row in music.copies(passages=4) if row.kind == "exact"]
    spent = sum(row.first.stop - row.first.start for row in exact) * math.log(music.vocabulary.size)
    assert figures["copy_first_exact"] == pytest.approx(spent / sum(row.base for row in exact), rel=1e-4)


def test_who_copies_is_found_out_at_every_distance(music: Music) -> None:
    figures = copy_figures(Copier(music.vocabulary.size), music.copies(passages=4))
    assert figures["copy_random"] < 0.2
    assert all(figures[f"copy_exact_{distance}"] < 0.2 for distance in DISTANCES)
    assert figures["copy_exact"] < figures["copy_varied"]
    assert figures["copy_transposed"] > 0.9  # it knows ids, not intervals


def test_passages_shrink_to_the_context_and_distances_go_where_it_is_too_short(music: Music) -> None:
    assert {row.distance for row in music.copies(64, passages=4)} < set(DISTANCES)
    assert all(len(row.ids) <= 65 for row in music.copies(64, passages=4))
    assert music.copies(8) == []
    assert copy_figures(nn.Identity(), []) == {}


def test_a_network_of_the_project_takes_the_test(music: Music) -> None:
    torch.manual_seed(0)
    config = NETWORK.model_copy(update={"context": 400})
    config = config.model_copy(update={"recall": True})
    picture, bars = PictureShape("features", tokens=4, channels=4), BarTokens.of(music.vocabulary)
    network = HuesongNetwork(config, music.vocabulary.size, picture, bars).eval()
    figures = copy_figures(network, music.copies(400, passages=4))
    assert 0.8 < figures["copy_exact"] < 1.2  # has learnt nothing yet
    assert np.isfinite(list(figures.values())).all()


def test_the_rows_depend_on_the_seed_alone(music: Music) -> None:
    def ids(rows: Sequence[Row]) -> list[list[int]]:
        return [row.ids.tolist() for row in rows]

    assert ids(music.copies(passages=4)) == ids(music.copies(passages=4))
    assert ids(music.copies(passages=4)) != ids(music.copies(passages=4, seed=1))
