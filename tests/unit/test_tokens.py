from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from symusic import Note, Score, Tempo, Track

from huesong.config import TokenizerConfig
from huesong.music import tokens
from huesong.music.reading import listen, parse_score
from huesong.music.vocabulary import Vocabulary
from huesong.runtime.errors import UserError
from tests.examples import examples, many
from tests.tiny_music import pieces, tokenizer

TICK = 60  # of the grid: 480 / 8


def score_of(notes: list[tuple[int, int, int, int]], tempos: list[tuple[int, float]] = [(0, 120.0)]) -> Score:  # noqa: B006
    """Notes as (onset, duration, pitch, velocity), times in grid ticks."""
    score, track = Score(480), Track(program=0)
    for onset, duration, pitch, velocity in notes:
        track.notes.append(Note(onset * TICK, duration * TICK, pitch, velocity))
    for tick, qpm in tempos:
        score.tempos.append(Tempo(tick * TICK, qpm))
    score.tracks.append(track)
    return score


def names(made: object, ids: list[int]) -> list[str]:
    table = tokens.base_tokens(made)  # type: ignore[arg-type]
    return [name for token in ids for name in table[token]]


def grid_notes(score: Score) -> list[tuple[int, int, int]]:
    return [(n.time // TICK, n.duration // TICK, n.pitch) for n in score.tracks[0].notes]


def test_the_order_of_base_tokens() -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    ids = tokens.encode_base(made, score_of([(0, 8, 64, 80), (0, 8, 60, 80), (40, 4, 50, 80)]))
    kinds = [name.rsplit("_", 1)[0] for name in names(made, ids)]
    chord = ["Pitch", "Velocity", "Duration"]
    assert kinds == ["Bar", "Position", "Tempo", *chord, *chord, "Bar", "Position", *chord]
    pitches = [name for name in names(made, ids) if name.startswith("Pitch")]
    assert pitches == ["Pitch_60", "Pitch_64", "Pitch_50"]


def test_special_tokens_and_the_whole_keyboard() -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    vocabulary = made.vocab
    assert [vocabulary[name] for name in ("PAD_None", "BOS_None", "EOS_None")] == [0, 1, 2]
    assert {int(name[6:]) for name in vocabulary if name.startswith("Pitch_")} == set(range(21, 109))
    lowest_and_highest = score_of([(0, 8, 21, 80), (8, 8, 108, 80)])
    assert grid_notes(tokens.decode(made, tokens.encode(made, lowest_and_highest))) == [(0, 8, 21), (8, 8, 108)]


@examples(40)
@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(1, 32), st.integers(21, 108), st.sampled_from([7, 63, 127])),
        min_size=1, max_size=40, unique_by=lambda note: (note[0] // 33, note[2]),
    )
)  # fmt: skip
def test_notes_on_the_grid_survive(notes: list[tuple[int, int, int, int]]) -> None:
    made = tokenizer()
    struck: dict[int, int] = {}
    wanted = []
    for onset, duration, pitch, velocity in sorted(notes, reverse=True):
        end = min(onset + duration, struck.get(pitch, 10**6))
        struck[pitch] = onset
        wanted.append((onset, end - onset, pitch, velocity))
    back = tokens.decode(made, tokens.encode(made, score_of(notes)))
    got = [(n.time // TICK, n.duration // TICK, n.pitch, n.velocity) for n in back.tracks[0].notes]
    assert sorted(got) == sorted(wanted)
    assert back.ticks_per_quarter == 480


def test_a_second_round_trip_changes_nothing() -> None:
    made = tokenizer()
    for score in pieces():
        ids = tokens.encode(made, score)
        decoded = tokens.decode(made, ids)
        assert tokens.encode(made, decoded) == ids
        assert tokens.encode(made, parse_score(bytes(decoded.dumps_midi()))) == ids  # through a MIDI file
        assert abs(decoded.to("second").end() - score.to("second").end()) < 0.06 * score.to("second").end()


def test_bpe_shortens_and_says_the_same() -> None:
    made = tokenizer()
    base = [tokens.encode_base(made, score) for score in pieces()]
    merged = [tokens.apply_bpe(made, ids) for ids in base]
    assert sum(map(len, merged)) < 0.8 * sum(map(len, base))
    for short, long in zip(merged, base, strict=True):
        assert names(made, short) == names(made, long)


def test_no_merge_crosses_a_bar_line() -> None:
    table = tokens.base_tokens(tokenizer())
    assert len(table) == 600
    assert any(len(token) > 2 for token in table)
    assert all(token for token in table)
    assert not [token for token in table if "Bar_None" in token[1:]]


def test_training_is_deterministic_and_survives_saving(tmp_path: Path) -> None:
    made = tokenizer()
    again = tokens.build_tokenizer(TokenizerConfig(vocabulary_size=600))
    tokens.train_bpe(again, [tokens.encode_base(again, score) for score in pieces()], 600)
    assert tokens.base_tokens(again) == tokens.base_tokens(made)
    for name, one in (("a", made), ("b", again)):
        tokens.save(one, tmp_path / f"{name}.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    loaded = tokens.load(tmp_path / "a.json")
    for score in pieces():
        assert tokens.encode(loaded, score) == tokens.encode(made, score)


def test_tempos_within_a_bar_become_one_that_keeps_its_length() -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    score = score_of([(0, 8, 60, 80), (40, 8, 60, 80)], [(0, 60.0), (16, 120.0), (32, 180.0)])
    found = [name for name in names(made, tokens.encode(made, score)) if name.startswith("Tempo")]
    assert len(found) == 2
    # half a bar at 60 and half at 120 last 3 s, as a bar at 80 does; the grid of tempos is 5.6 % wide
    assert float(found[0][6:]) == pytest.approx(80, rel=0.03)
    assert float(found[1][6:]) == pytest.approx(180, rel=0.03)


def test_a_repeated_tempo_is_not_written_again() -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    score = score_of([(0, 8, 60, 80), (100, 8, 60, 80)], [(0, 100.0), (32, 100.2), (64, 100.0)])
    assert sum(name.startswith("Tempo") for name in names(made, tokens.encode(made, score))) == 1


def test_a_key_struck_again_ends_its_first_note() -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    back = tokens.decode(made, tokens.encode(made, score_of([(0, 32, 60, 80), (8, 8, 60, 80)])))
    assert grid_notes(back) == [(0, 8, 60), (8, 8, 60)]


def test_tracks_are_merged_and_drums_left_out() -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    score = score_of([(0, 8, 60, 80)])
    drums, left = Track(program=0, is_drum=True), Track(program=40)
    drums.notes.append(Note(0, 60, 38, 100))
    left.notes.append(Note(0, 480, 40, 80))
    score.tracks.extend([drums, left])
    assert grid_notes(tokens.decode(made, tokens.encode(made, score))) == [(0, 8, 40), (0, 8, 60)]


def test_nothing_to_say() -> None:
    made = tokenizer()
    assert tokens.encode(made, Score(480)) == []
    assert len(listen(tokens.decode(made, [0, 1, 2]))) == 0


@pytest.mark.fuzz
def test_decoding_a_torn_sequence_never_fails() -> None:
    made = tokenizer()
    rng = np.random.default_rng(0)
    for _ in range(many(50)):
        score = tokens.decode(made, rng.integers(0, 600, size=30).tolist())
        assert score.ticks_per_quarter == 480


def test_the_vocabulary_file(tmp_path: Path) -> None:
    made = tokenizer()
    path = tmp_path / "vocabulary.json"
    tokens.write_vocabulary(made, path)
    raw = json.loads(path.read_text())
    assert raw["tokens"] == tokens.base_tokens(made)
    vocabulary = Vocabulary.load(path)
    assert (vocabulary.size, vocabulary.pad, vocabulary.bos, vocabulary.eos) == (600, 0, 1, 2)
    assert vocabulary.ticks_per_bar == 32


@pytest.mark.parametrize("positions", [2, 3, 4, 6, 12, 24])
def test_other_grids(positions: int) -> None:
    made = tokens.build_tokenizer(TokenizerConfig(positions_per_beat=positions))
    score = score_of([(0, 8, 60, 80), (8, 16, 64, 80), (32, 88, 67, 80)])
    assert grid_notes(tokens.decode(made, tokens.encode(made, score))) == [(0, 8, 60), (8, 16, 64), (32, 88, 67)]


def test_a_vocabulary_too_small_for_its_settings() -> None:
    with pytest.raises(UserError, match=r"vocabulary_size = 300 .* raise it to at least"):
        tokens.build_tokenizer(TokenizerConfig(vocabulary_size=300, velocities=127))


@pytest.mark.parametrize("content", [None, "", "{}", '{"config": 3}', "[]"])
def test_a_damaged_tokenizer_file(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="huesong preprocess"):
        tokens.load(path)
