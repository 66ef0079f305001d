from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from miditok import REMI

from huesong.music import tokens
from huesong.music.form import header
from huesong.music.form.analysis import analyse
from huesong.music.form.heads import heads_of
from huesong.music.grammar import Constraints, Grammar, LastRead
from huesong.music.keys import (
    CHORD_NOTES,
    SCALES,
    Key,
)
from huesong.music.reading import listen, parse_score
from huesong.music.vocabulary import violations
from tests import older
from tests.examples import examples
from tests.tiny_music import encoded, grammar, pieces, planned, tokenizer, walk

HABITS = ("any", "Bar", "Position", "Pitch", "Duration", "long")
LOOSE: dict[str, Any] = {
    "notes_per_bar": 10**6, "polyphony": 10**6, "notes_per_second": 1e9, "high_notes": 10**6,
    "silent_bars": 10**6, "silence": 1e6, "arrivals": False,
}  # fmt: skip
METRES = [(upper, lower) for lower, uppers in tokens.METRES.items() for upper in uppers]
OLD = 0
"""In place of the positions a beat: the grammar of a vocabulary without time signatures and heads."""


def made_by(positions: int) -> tuple[Grammar, REMI]:
    return (older.grammar(), older.tokenizer()) if positions == OLD else (grammar(positions), tokenizer(positions))


def base_names(ids: list[int], rules: Grammar | None = None) -> list[tuple[str, int]]:
    return [part for token in ids for part in (rules or grammar()).table.base[token]]


def values(ids: list[int], kind: str, rules: Grammar | None = None) -> list[int]:
    return [value for found, value in base_names(ids, rules) if found == kind]


@examples(160)
@given(
    seed=st.integers(0, 2**32 - 1), bars=st.integers(1, 14), habit=st.sampled_from(HABITS),
    positions=st.sampled_from([8, 8, 8, 12, 2, 3, OLD]), metre=st.sampled_from(METRES), tempo=st.floats(40, 220),
    closing=st.booleans(),
)  # fmt: skip
def test_whatever_is_drawn_is_a_piece_as_it_was_planned(
    seed: int, bars: int, habit: str, positions: int, metre: tuple[int, int], tempo: float, closing: bool
) -> None:
    rules, made = made_by(positions)
    metre = (4, 4) if positions == OLD else metre
    asked = planned(bars, metre, tempo, closing=closing)
    ids, state = walk(rules, asked, seed, habit)
    assert state.done
    assert rules.count_violations(ids) == 0
    score = parse_score(bytes(tokens.decode(made, ids, tempo).dumps_midi()))  # valid, and no damage in writing
    end = bars * 1920 * metre[0] // metre[1]
    assert score.end() == end if closing else score.end() <= end
    assert score.to("second").end() <= end / 480 * 60 / tempo + 0.01
    assert [(sign.time, sign.numerator, sign.denominator) for sign in score.time_signatures] == [(0, *metre)]
    assert len(values(ids, "Bar", rules)) == bars
    if positions != OLD:
        assert values(ids, "TimeSig", rules) == [100 * metre[0] + metre[1]] * bars
        assert [rules.vocabulary.tokens[token] for token in ids if rules.table.base[token][0][0] in header.KINDS] == [
            (name,) for name in (*asked.beginning, *(name for head in asked.heads for name in head))
        ]
    notes = listen(score)
    assert len(score.tracks) == 1
    assert len(notes) == state.notes  # none was lost as a double
    _, sizes = np.unique(notes.onset_s, return_counts=True)
    assert sizes.max() <= Constraints().notes_per_position
    if closing:
        final = notes.onset_s == notes.onset_s.max()
        assert CHORD_NOTES[0] <= final.sum() <= CHORD_NOTES[1]
        assert np.ptp(notes.end_s[final]) == 0
        assert (notes.end_s[~final] <= notes.onset_s.max() + 1e-6).all()


@pytest.mark.parametrize("positions", [8, OLD])
@pytest.mark.parametrize("bars", [1, 2, 3, 60])
@pytest.mark.parametrize("habit", HABITS)
def test_the_last_bar_is_one_chord(bars: int, habit: str, positions: int) -> None:
    rules, made = made_by(positions)
    ids, state = walk(rules, planned(bars), seed=3, habit=habit)
    score = tokens.decode(made, ids)
    assert score.end() == bars * 4 * 480
    assert max(note.time for note in score.tracks[0].notes) == (max(bars - 1, 0.5)) * 4 * 480
    assert state.bar == bars - 1


@pytest.mark.parametrize("metre", METRES)
def test_a_piece_of_one_bar_closes_within_it(metre: tuple[int, int]) -> None:
    ids, state = walk(grammar(), planned(1, metre), seed=5, habit="Pitch")
    notes = tokens.decode(tokenizer(), ids).tracks[0].notes
    beat = 1920 // metre[1]
    assert max(note.time for note in notes) == beat * max(1, metre[0] // 2)
    assert min(note.time for note in notes) < max(note.time for note in notes)
    assert max(note.end for note in notes) == beat * metre[0]
    assert state.chord is not None


@pytest.mark.parametrize("positions", [8, OLD])
@pytest.mark.parametrize("habit", HABITS)
def test_without_a_closing_chord_the_last_bar_is_as_free_as_any(habit: str, positions: int) -> None:
    rules, made = made_by(positions)
    seen = set()
    for seed in range(6):
        ids, state = walk(rules, planned(4, closing=False), seed, habit)
        assert state.chord is None
        assert state.bar == 3
        assert rules.count_violations(ids) == 0
        score = tokens.decode(made, ids)
        assert score.end() <= 4 * 1920, "what would sound on is cut at the end"
        seen |= {note.time % 1920 for note in score.tracks[0].notes if note.time > 3 * 1920}
    assert seen or habit in ("Bar", "Duration", "long"), "notes, not only a chord on the bar line"


def test_what_the_plan_says_is_all_that_may_come_where_it_stands() -> None:
    rules = grammar()
    heads = [
        header.head(
            left=3 - bar, relation="repeat" if bar else "new", back=bar, density=0.1 * bar, loudness=0.5,
            chords=[(0, 9, "min"), (2, 4, "7")], cadence="authentic" if bar == 2 else "",
        )
        for bar in range(3)
    ]  # fmt: skip
    wanted = Constraints(3, (3, 4), 90.0, beginning=("Style_folk", "Key_9.minor"), heads=tuple(map(tuple, heads)))
    state, told, rng = rules.start(wanted), list[str](), np.random.default_rng(0)
    while not state.done:
        allowed = rules.mask(state)
        if state.planned:
            assert np.flatnonzero(allowed).tolist() == state.planned[:1]
            told += rules.vocabulary.tokens[state.planned[0]]
            with pytest.raises(ValueError, match="the plan says"):
                rules.advance(copy.deepcopy(state), rules.table.ids["Pitch"][60])
        rules.advance(state, int(rng.choice(np.flatnonzero(allowed))))
    begin = [["Style_folk", "Key_9.minor", "Bar_None", "TimeSig_3/4", *heads[0], "Position_0", told[-1]]]
    tempo = next(name for name in told if name.startswith("Tempo"))
    assert float(tempo[6:]) == pytest.approx(90, rel=0.03)
    begin = ["Style_folk", "Key_9.minor", "Bar_None", "TimeSig_3/4", *heads[0], "Position_0", tempo]
    assert told == [*begin, "TimeSig_3/4", *heads[1], "TimeSig_3/4", *heads[2]]


@pytest.mark.parametrize("tempo", [30.0, 40.0, 97.0, 150.0, 300.0])
@pytest.mark.parametrize("positions", [8, OLD])
def test_the_one_tempo_stands_first_and_is_the_nearest(tempo: float, positions: int) -> None:
    rules, _ = made_by(positions)
    ids, _ = walk(rules, planned(5, tempo=tempo), seed=1, habit="Bar")
    base = base_names(ids, rules)
    [place] = [place for place, (kind, _) in enumerate(base) if kind == "Tempo"]
    assert base[place - 1] == ("Position", 0)
    assert [kind for kind, _ in base[:place]].count("Bar") == 1
    assert not any(kind == "Pitch" for kind, _ in base[:place])
    tempos = rules.table.tempos
    assert base[place][1] == np.abs(np.log(tempos / tempo)).argmin()


@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1), bars=st.integers(2, 12), habit=st.sampled_from(HABITS),
    key=st.tuples(st.integers(0, 11), st.booleans()), positions=st.sampled_from([8, OLD]),
)  # fmt: skip
def test_a_key_is_kept(seed: int, bars: int, habit: str, key: Key, positions: int) -> None:
    rules, _ = made_by(positions)
    ids, state = walk(rules, planned(bars, key=key), seed, habit)
    scale = {(key[0] + step) % 12 for step in SCALES[key[1]]}
    assert {value % 12 for value in values(ids, "Pitch", rules)} <= scale
    assert rules.count_violations(ids) == 0
    assert state.chord is not None
    assert (state.chord.root, state.chord.major) == key


def test_a_tonic_ends_the_piece_and_binds_nothing_else() -> None:
    ids, state = walk(grammar(), planned(6, tonic=(1, False)), seed=2, habit="Pitch")
    assert state.chord is not None
    assert (state.chord.root, state.chord.major) == (1, False)
    assert len({value % 12 for value in values(ids, "Pitch")}) == 12


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1), bars=st.integers(2, 9), habit=st.sampled_from(HABITS),
    key=st.none() | st.tuples(st.integers(0, 11), st.booleans()), positions=st.sampled_from([8, OLD, OLD]),
)  # fmt: skip
def test_a_merged_token_is_allowed_only_if_its_parts_are(
    seed: int, bars: int, habit: str, key: Key | None, positions: int
) -> None:
    """The array summaries against the automaton itself, one base token at a time."""
    rules, _ = made_by(positions)
    rng = np.random.default_rng(seed)
    merged = [t for t, base in enumerate(rules.table.base) if len(base) > 1 and base[1][0] != "TimeSig"]
    state = rules.start(planned(bars, key=key, **LOOSE))
    while state.planned:
        rules.advance(state, state.planned[0])
    for _ in range(40):
        allowed = rules.mask(state)
        for token in rng.choice(merged, 12 * (not state.planned)):
            single, legal, ended = copy.deepcopy(state), True, False
            for kind, value in rules.table.base[token]:
                part = rules.table.ids[kind][value]
                legal = legal and bool(rules.mask(single)[part])
                if not legal:
                    break
                rules.advance(single, part)
                ended = ended or single.last_read >= LastRead.LAST_BAR
            assert allowed[token] == (legal and not ended), (rules.vocabulary.tokens[token], state)
        rules.advance(state, int(rng.choice(np.flatnonzero(allowed))))
        if state.done:
            break


@pytest.mark.parametrize("metre", [(4, 4), (3, 4)])
def test_a_bar_begins_with_its_metre_whether_or_not_they_are_one_token(metre: tuple[int, int]) -> None:
    rules = grammar()
    ids, _ = walk(rules, planned(4, metre), seed=3, habit="Bar")
    begins = [rules.vocabulary.tokens[token] for token in ids if rules.table.bar[token]]
    assert begins == ([("Bar_None", "TimeSig_4/4")] if metre == (4, 4) else [("Bar_None",)]) * 4
    state = rules.start(planned(4, metre))
    while state.planned:
        rules.advance(state, state.planned[0])
    rules.advance(state, rules.table.ids["Pitch"][60])
    rules.advance(state, rules.table.ids["Velocity"][84])
    rules.advance(state, rules.table.ids["Duration"][24])
    assert [token for token in np.flatnonzero(rules.mask(state)) if rules.table.bar[token]] == [rules.bar_token(metre)]


def test_music_is_within_the_grammar() -> None:
    """What the tokenizer makes of real scores with their plans is allowed, token by token."""
    rules = grammar()
    for score in pieces():
        plan = analyse(score)
        ids = tokens.apply_bpe(tokenizer(), encoded(tokenizer(), score))
        assert rules.count_violations(ids) == 0
        state = rules.start(
            Constraints(
                len(plan.bars), tempo=plan.tempo, closing=False, heads=tuple(map(tuple, heads_of(plan))),
                beginning=tuple(header.beginning("mixed", plan.tonic, plan.mode)), **LOOSE,
            )
        )  # fmt: skip
        for token in ids:
            assert rules.mask(state)[token], rules.vocabulary.tokens[token]
            assert rules.advance(state, token) == [token]
        assert rules.mask(state)[rules.vocabulary.eos]
        assert state.seconds <= score.to("second").end() * 1.05
        assert state.notes == len(values(ids, "Pitch"))


def test_music_of_an_older_vocabulary_is_within_its_grammar() -> None:
    rules = older.grammar()
    for score in pieces():
        ids = tokens.encode(older.tokenizer(), score)
        assert rules.count_violations(ids) == 0
        state = rules.start(Constraints(tempo=analyse(score).tempo, **LOOSE))
        kinds = [[kind for kind, _ in rules.table.base[token]] for token in ids]
        [tempo] = [place for place, part in enumerate(kinds) if "Tempo" in part]
        while state.planned:
            rules.advance(state, state.planned[0])
        after = rules.table.base[ids[tempo]][kinds[tempo].index("Tempo") + 1 :]
        for token in [*(rules.table.ids[kind][value] for kind, value in after), *ids[tempo + 1 :]]:
            assert rules.mask(state)[token], rules.vocabulary.tokens[token]
            rules.advance(state, token)
        assert state.notes == len(values(ids, "Pitch", rules))


@pytest.mark.parametrize(("metre", "positions"), [((4, 4), 8), ((6, 8), 8), ((3, 4), 12), ((4, 4), OLD)])
def test_the_state_counts_seconds_as_a_player_does(metre: tuple[int, int], positions: int) -> None:
    rules, made = made_by(positions)
    ids, state = walk(rules, planned(9, metre, 77.0), seed=4)
    notes = listen(tokens.decode(made, ids, 77.0))
    assert state.seconds == pytest.approx(notes.onset_s.max(), abs=1e-3)
    assert state.notes == len(notes)


GOOD = [
    ("Style", 0), ("Key", 0), ("Bar", 0), ("TimeSig", 304), ("Left", 0), ("New", 0), ("Density", 0), ("Loudness", 0),
    ("Chord", 0), ("At", 0), ("Chord", 0), ("Cadence", 0), ("Position", 0), ("Tempo", 0), ("Pitch", 60), ("Velocity", 84),
    ("Duration", 8), ("Pitch", 64), ("Velocity", 84), ("Duration", 8), ("Position", 23), ("Pitch", 60), ("Velocity", 84),
    ("Duration", 8), ("Bar", 0), ("TimeSig", 304), ("Repeat", 0), ("Position", 4), ("Pitch", 60), ("Velocity", 84),
    ("Duration", 8),
]  # fmt: skip
FIRST_NOTE = 14


def test_the_order_of_a_piece_with_heads() -> None:
    assert violations(GOOD, positions_per_beat=8) == (0, LastRead.NOTE)


@pytest.mark.parametrize(
    ("place", "new"),
    [
        (2, []),  # no Bar first
        (4, [("New", 0), ("Left", 0)]),  # a head out of order
        (5, [("New", 0), ("Repeat", 0)]),  # two relations
        (11, [("Cadence", 0), ("Chord", 0)]),  # a chord after the cadence
        (12, [("Position", 1)]),  # the tempo stands at position 0
        (FIRST_NOTE + 1, []),  # a note without velocity
        (FIRST_NOTE + 3, [("Pitch", 60)]),  # the same pitch again
        (FIRST_NOTE + 6, [("Position", 0)]),  # backwards
        (FIRST_NOTE + 6, [("Position", 24)]),  # beyond the end of a bar of 3/4
        (FIRST_NOTE + 6, [("Left", 0), ("Position", 23)]),  # a head within the bar
        (-1, [("Duration", 8), ("Velocity", 84)]),
    ],
)
def test_violations_are_counted(place: int, new: list[tuple[str, int]]) -> None:
    spoilt = [*GOOD[:place], *new, *(GOOD[place + 1 :] if place >= 0 else [])]
    assert violations(spoilt, positions_per_beat=8)[0] >= 1


@pytest.mark.parametrize("positions", [8, OLD])
def test_violations_of_ids(positions: int) -> None:
    rules, made = made_by(positions)
    ids = tokens.encode(made, pieces()[0])
    special = rules.vocabulary
    assert rules.count_violations([special.bos, *ids, special.eos, special.pad]) == 0
    assert rules.count_violations([*ids, special.eos, *ids[5:]]) == 0, "nothing after the end counts"
    single = [rules.table.ids[kind][value] for kind, value in base_names(ids, rules)]
    assert rules.count_violations(single[:-1]) == 1, "an unfinished note"
    assert rules.count_violations(single[1:]) >= 1


def test_padding_and_beginning_are_never_drawn() -> None:
    rules = grammar()
    for seed in range(5):
        ids, _ = walk(rules, planned(3), seed)
        assert not {rules.vocabulary.pad, rules.vocabulary.bos, rules.vocabulary.eos} & set(ids)


# --- the ending ----------------------------------------------------------------------------------
