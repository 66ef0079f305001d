from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from symusic import Note, Score, Tempo, TimeSignature, Track

from huesong.config import TokenizerConfig
from huesong.music import tokens
from huesong.music.reading import listen, parse_score
from huesong.music.vocabulary import Vocabulary
from huesong.runtime.errors import UserError
from tests.examples import examples, many
from tests.tiny_music import encoded, pieces, tokenizer

TICK = 60  # of tokenizer()'s grid: 480 / 8


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
    begin = ["Bar", "TimeSig", "Position"]
    assert kinds == [*begin, "Tempo", *chord, *chord, *begin, *chord]
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
        st.tuples(st.integers(0, 200), st.integers(1, 32), st.integers(21, 108), st.sampled_from([10, 63, 127])),
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


def test_bars_are_joined_with_their_metre_and_velocities_with_durations_and_nothing_else() -> None:
    table = tokens.base_tokens(tokenizer())
    joined = {tuple(name.partition("_")[0] for name in token) for token in table if len(token) > 1}
    assert joined == tokens.MERGED
    assert all(token for token in table)
    assert ["Bar_None", "TimeSig_4/4"] in table


def test_training_is_deterministic_and_survives_saving(tmp_path: Path) -> None:
    made = tokenizer()
    again = tokens.build_tokenizer(TokenizerConfig(positions_per_beat=8, vocabulary_size=800))
    tokens.train_bpe(again, [encoded(again, score) for score in pieces()], 800)
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
        score = tokens.decode(made, rng.integers(0, len(made), size=30).tolist())
        assert score.ticks_per_quarter == 480


def test_the_vocabulary_file(tmp_path: Path) -> None:
    made = tokenizer()
    path = tmp_path / "vocabulary.json"
    tokens.write_vocabulary(made, path)
    raw = json.loads(path.read_text())
    assert raw["tokens"] == tokens.base_tokens(made)
    vocabulary = Vocabulary.load(path)
    assert (vocabulary.size, vocabulary.pad, vocabulary.bos, vocabulary.eos) == (len(made), 0, 1, 2)
    assert vocabulary.positions_per_beat == 8
    assert vocabulary.has_heads
    assert raw["format"] == 2


# --- metres ----------------------------------------------------------------------------------------


def in_metre(metres: list[tuple[int, int, int]], notes: list[tuple[int, int, int, int]]) -> Score:
    """Ticks of 480 a quarter; metres as (tick, upper, lower)."""
    score, track = Score(480), Track(program=0)
    score.tempos.append(Tempo(0, 120))
    for metre in metres:
        score.time_signatures.append(TimeSignature(*metre))
    for note in notes:
        track.notes.append(Note(*note))
    score.tracks.append(track)
    return score


def rows(score: Score) -> list[tuple[int, int, int, int]]:
    return [(note.time, note.duration, note.pitch, note.velocity) for note in score.tracks[0].notes]


def signs(score: Score) -> list[tuple[int, int, int]]:
    return [(sign.time, sign.numerator, sign.denominator) for sign in score.time_signatures]


@pytest.mark.parametrize(("upper", "lower"), [(a, lower) for lower, uppers in tokens.METRES.items() for a in uppers])
def test_every_metre_there_and_back(upper: int, lower: int) -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    bar, beat = 1920 * upper // lower, 1920 // lower
    notes = [(bar * number + beat * place, beat, 60 + place, 84) for number in (0, 1, 3) for place in range(upper)]
    ids = tokens.encode(made, in_metre([(0, upper, lower)], notes))
    found = names(made, ids)
    assert [name for name in found if name.startswith("TimeSig")] == [f"TimeSig_{upper}/{lower}"] * 4
    assert found.count("Bar_None") == 4, "a silent bar has its place"
    assert {name for name in found if name.startswith("Position")} == {f"Position_{12 * b}" for b in range(upper)}
    assert {name for name in found if name.startswith("Duration")} == {"Duration_1.0.12"}
    back = tokens.decode(made, ids)
    assert rows(back) == notes
    assert signs(back) == [(0, upper, lower)]


def test_a_change_of_metre_there_and_back() -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    metres = [(0, 4, 4), (1920, 6, 8), (1920 + 2 * 1440, 3, 4)]
    notes = [(480 * place, 240, 60 + place % 7, 84) for place in range(4 + 6 + 3)]
    ids = tokens.encode(made, in_metre(metres, notes))
    found = [name for name in names(made, ids) if name.startswith("TimeSig")]
    assert found == ["TimeSig_4/4", "TimeSig_6/8", "TimeSig_6/8", "TimeSig_3/4"]
    back = tokens.decode(made, ids)
    assert rows(back) == notes
    assert signs(back) == metres
    assert tokens.encode(made, parse_score(bytes(back.dumps_midi()))) == ids


def test_alla_breve_is_written_as_common_time() -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    notes = [(480 * place, 480, 60 + place, 84) for place in range(8)]
    assert tokens.encode(made, in_metre([(0, 2, 2)], notes)) == tokens.encode(made, in_metre([(0, 4, 4)], notes))


def test_triplets_and_sixteenths_are_both_on_the_grid() -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    notes = [(160 * place, 160, 60 + place, 84) for place in range(12)]
    notes += [(1920 + 120 * place, 120, 60 + place, 84) for place in range(16)]
    assert rows(tokens.decode(made, tokens.encode(made, in_metre([(0, 4, 4)], notes)))) == notes


def test_the_asked_tempo_is_played_instead_of_the_nearest_that_has_a_token() -> None:
    made = tokenizer()
    ids = tokens.encode(made, score_of([(0, 8, 60, 84)], [(0, 97.0)]))
    assert float(tokens.decode(made, ids).tempos[0].qpm) != pytest.approx(97, abs=0.1)
    [tempo] = tokens.decode(made, ids, 97.0).tempos
    assert (tempo.time, tempo.qpm) == (0, pytest.approx(97, abs=1e-3))


# --- heads -----------------------------------------------------------------------------------------


def test_heads_stand_between_metre_and_notes_and_are_not_heard() -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    score = score_of([(0, 8, 60, 84), (32, 8, 62, 84), (96, 8, 64, 84)])
    heads = [[f"Left_{left}", "New_0", "Chord_0.maj"] for left in (4, 3, 2, 1)]
    plain = tokens.encode_base(made, score)
    planned = tokens.encode_base(made, score, heads, ["Style_folk", "Key_0.major"])
    found = names(made, planned)
    assert found[:2] == ["Style_folk", "Key_0.major"]
    places = [place for place, name in enumerate(found) if name == "Bar_None"]
    assert [found[place + 2 : place + 5] for place in places] == heads
    assert [name for name in found[2:] if name not in {part for head in heads for part in head}] == names(made, plain)
    assert rows(tokens.decode(made, planned)) == rows(tokens.decode(made, plain)) == rows(score)


def test_a_note_that_is_rounded_into_one_more_bar_has_the_last_head() -> None:
    made = tokens.build_tokenizer(TokenizerConfig())
    score = in_metre([(0, 4, 4)], [(0, 480, 60, 84), (1919, 480, 62, 84)])
    found = names(made, tokens.encode_base(made, score, [["Left_1", "New_0"]]))
    assert found.count("Bar_None") == found.count("Left_1") == 2


def test_pieces_with_heads_are_the_same_music() -> None:
    made = tokenizer()
    for score in pieces():
        with_heads = tokens.apply_bpe(made, encoded(made, score))
        assert names(made, with_heads) == names(made, encoded(made, score))
        assert rows(tokens.decode(made, with_heads)) == rows(tokens.decode(made, tokens.encode(made, score)))


def test_a_repeat_is_the_same_tokens_and_a_transposed_one_differs_in_its_pitches() -> None:
    """Whatever stands around it: what BPE joins never reaches beyond a note."""
    made = tokenizer()
    for score in pieces():
        notes = [row for row in rows(score) if row[0] + row[1] <= 4 * 1920 and row[0] < 3 * 1920]
        twice = in_metre([(0, 4, 4)], notes + [(time + 4 * 1920, *rest) for time, *rest in notes])
        higher = in_metre([(0, 4, 4)], [(time, length, pitch + 3, loud) for time, length, pitch, loud in notes])
        once = tokens.encode(made, in_metre([(0, 4, 4)], notes))
        second = [place for place, token in enumerate(once) if names(made, [token])[0] == "Bar_None"][1]
        assert tokens.encode(made, twice)[second - len(once) :] == once[second:], "but for the tempo in the first bar"
        changed = [(a, b) for a, b in zip(once, tokens.encode(made, higher), strict=True) if a != b]
        assert len(changed) == len(notes)
        for pair in changed:
            below, above = (int(names(made, [token])[0].removeprefix("Pitch_")) for token in pair)
            assert above == below + 3


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
