from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from huesong.music import keys as ending
from huesong.music import tokens
from huesong.music.grammar import Constraints, LastRead
from huesong.music.keys import (
    BASS,
    CHORD_NOTES,
    HIGHEST,
    KEY_PROFILES,
    SCALES,
    Key,
    LastChord,
    degree_odds,
    find_key,
    key_correlations,
    plan,
)
from huesong.music.reading import listen, parse_score
from huesong.music.vocabulary import Vocabulary, digest_of
from huesong.runtime.errors import UserError
from tests.examples import examples
from tests.tiny_music import grammar, pieces, tokenizer, vocabulary_of, walk

HABITS = ("any", "Bar", "Position", "Pitch", "Tempo", "Duration", "long")
LOOSE: dict[str, Any] = {"notes_per_bar": 10**6, "polyphony": 10**6, "notes_per_second": 1e9, "silent_bars": 10**6}


def base_names(ids: list[int], positions_per_beat: int = 8) -> list[tuple[str, int]]:
    return [part for token in ids for part in grammar(positions_per_beat).table.base[token]]


@examples(120)
@given(
    seed=st.integers(0, 2**32 - 1), seconds=st.floats(4, 40), habit=st.sampled_from(HABITS),
    positions=st.sampled_from([8, 8, 8, 2, 3, 12]),
)  # fmt: skip
@example(seed=247541, seconds=5.0, habit="Tempo", positions=2)  # a slower tempo after a long note, in one token
def test_whatever_is_drawn_is_a_piece_of_the_asked_length(
    seed: int, seconds: float, habit: str, positions: int
) -> None:
    rules = grammar(positions)
    ids, state = walk(rules, Constraints(seconds=seconds), seed, habit)
    assert state.done
    assert rules.count_violations(ids) == 0
    score = parse_score(bytes(tokens.decode(tokenizer(positions), ids).dumps_midi()))  # valid, and no damage in writing
    assert score.to("second").end() == pytest.approx(seconds, rel=0.05 if positions > 3 else 0.1)
    notes = listen(score)
    assert len(score.tracks) == 1
    assert len(notes) == state.notes  # none was lost as a double
    _, sizes = np.unique(notes.onset_s, return_counts=True)
    assert sizes.max() <= Constraints().notes_per_position
    final = notes.onset_s == notes.onset_s.max()
    assert CHORD_NOTES[0] <= final.sum() <= CHORD_NOTES[1]
    assert np.ptp(notes.end_s[final]) == 0
    assert (notes.end_s[~final] <= notes.onset_s.max() + 1e-6).all()


@pytest.mark.parametrize("seconds", [4.0, 60.0, 120.0])
@pytest.mark.parametrize("habit", HABITS)
def test_the_ends_of_the_range_of_lengths(seconds: float, habit: str) -> None:
    ids, _ = walk(grammar(), Constraints(seconds=seconds), seed=7, habit=habit)
    end = tokens.decode(tokenizer(), ids).to("second").end()
    assert end == pytest.approx(seconds, rel=0.05)


@pytest.mark.parametrize("bars", [1, 2, 3, 16])
@pytest.mark.parametrize("habit", HABITS)
def test_a_length_in_bars(bars: int, habit: str) -> None:
    ids, _ = walk(grammar(), Constraints(bars=bars), seed=3, habit=habit)
    score = tokens.decode(tokenizer(), ids)
    assert score.end() == bars * 4 * 480
    assert max(note.time for note in score.tracks[0].notes) == (max(bars - 1, 0.5)) * 4 * 480


@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1), seconds=st.floats(6, 40), habit=st.sampled_from(HABITS), tempo=st.integers(0, 30),
    key=st.tuples(st.integers(0, 11), st.booleans()),
)  # fmt: skip
def test_tempo_and_key_are_kept(seed: int, seconds: float, habit: str, tempo: int, key: Key) -> None:
    rules = grammar()
    asked = Constraints(seconds=seconds, tempo=tempo % len(rules.table.tempos), key=key)
    assume(rules.can_be(asked))
    ids, state = walk(rules, asked, seed, habit)
    base = base_names(ids)
    assert [value for kind, value in base if kind == "Tempo"] == [asked.tempo]
    scale = {(key[0] + step) % 12 for step in SCALES[key[1]]}
    assert {value % 12 for kind, value in base if kind == "Pitch"} <= scale
    assert rules.count_violations(ids) == 0
    assert state.chord is not None
    assert (state.chord.root, state.chord.major) == key
    assert tokens.decode(tokenizer(), ids).to("second").end() == pytest.approx(seconds, rel=0.05)


def test_a_tempo_too_slow_for_the_length() -> None:
    assert not grammar().can_be(Constraints(seconds=1, tempo=0))
    assert grammar().can_be(Constraints(seconds=60, tempo=0))


@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1), seconds=st.floats(4, 30), habit=st.sampled_from(HABITS),
    key=st.none() | st.tuples(st.integers(0, 11), st.booleans()),
)  # fmt: skip
def test_a_merged_token_is_allowed_only_if_its_parts_are(
    seed: int, seconds: float, habit: str, key: Key | None
) -> None:
    """The array summaries against the automaton itself, one base token at a time."""
    rules = grammar()
    rng = np.random.default_rng(seed)
    merged = [token for token, base in enumerate(rules.table.base) if len(base) > 1]
    state = rules.start(Constraints(seconds=seconds, key=key, **LOOSE))
    for _ in range(25):
        allowed = rules.mask(state)
        for token in rng.choice(merged, 12):
            single, legal, ended, moved = copy.deepcopy(state), True, False, False
            for place, (kind, value) in enumerate(rules.table.base[token]):
                part = rules.table.ids[kind][value]
                legal = legal and bool(rules.mask(single)[part])
                if not legal:
                    break
                rules.advance(single, part)
                ended = ended or single.last_read >= LastRead.LAST_BAR
                # To the last chord: what else the token says is dropped.
                moved = moved or (ended and place == 0 and state.last_read < LastRead.LAST_BAR)
                if moved:
                    break
            assert allowed[token] == (moved or (legal and not ended)), (rules.vocabulary.tokens[token], state)
        rules.advance(state, int(rng.choice(np.flatnonzero(allowed))))
        if state.done:
            break


def test_music_is_within_the_grammar() -> None:
    """What the tokenizer makes of real scores is allowed, token by token."""
    rules = grammar()
    for score in pieces():
        ids = tokens.encode(tokenizer(), score)
        assert rules.count_violations(ids) == 0
        state = rules.start(Constraints())
        for token in ids:
            assert rules.mask(state)[token], rules.vocabulary.tokens[token]
            rules.advance(state, token)
        assert state.seconds <= score.to("second").end() * 1.05
        assert state.notes == sum(kind == "Pitch" for kind, _ in base_names(ids))


@pytest.mark.parametrize("habit", HABITS)
def test_one_tempo_a_bar_and_only_at_its_start(habit: str) -> None:
    ids, _ = walk(grammar(), Constraints(seconds=30), seed=1, habit=habit)
    base = base_names(ids)
    assert [kind for kind, _ in base[:3]] == ["Bar", "Position", "Tempo"]
    in_bar = 0
    for before, (kind, _) in zip([("", 0), *base], base, strict=False):
        in_bar = 0 if kind == "Bar" else in_bar + (kind == "Tempo")
        assert in_bar <= 1
        assert kind != "Tempo" or before == ("Position", 0)


def test_the_state_counts_seconds_as_a_player_does() -> None:
    ids, state = walk(grammar(), Constraints(seconds=25), seed=4, habit="Tempo")
    assert len({value for kind, value in base_names(ids) if kind == "Tempo"}) > 2
    notes = listen(tokens.decode(tokenizer(), ids))
    assert state.seconds == pytest.approx(notes.onset_s.max(), abs=1e-3)
    assert state.notes == len(notes)


def test_caps_hold_back_a_runaway() -> None:
    caps = Constraints(seconds=20, notes_per_position=4, notes_per_bar=12, polyphony=5, notes_per_second=10)
    ids, _ = walk(grammar(), caps, seed=2, habit="Pitch")
    notes = listen(tokens.decode(tokenizer(), ids))
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
    ids, _ = walk(grammar(), Constraints(seconds=40), seed=0, habit="Bar")
    notes = listen(tokens.decode(tokenizer(), ids))
    assert notes.onset_q[0] < 4
    assert np.diff(np.unique(notes.onset_q)).max() < 3 * 4


def longest_silence(ids: list[int]) -> float:
    notes = listen(tokens.decode(tokenizer(), ids))
    order = np.argsort(notes.onset_s, kind="stable")
    ends = np.maximum.accumulate(np.concatenate([[0.0], notes.end_s[order]]))[:-1]
    return float((notes.onset_s[order] - ends).max())


@pytest.mark.parametrize("habit", ["any", "Bar", "Position"])
@pytest.mark.parametrize("silence", [0.3, 1.0])
def test_silence_is_as_short_as_asked_up_to_the_last_chord(habit: str, silence: float) -> None:
    rules = grammar()
    # Merged tokens may hold a silence of their own, so pieces of base tokens show the rule.
    merged = np.array([len(base) > 1 for base in rules.table.base])
    found = {}
    for name, longest_s in (("capped", silence), ("free", 1e6)):
        longest = []
        for seed in range(6):
            rng, state, ids = np.random.default_rng(seed), rules.start(Constraints(seconds=20, silence=longest_s)), []
            while not state.done:
                allowed = rules.mask(state) & ~merged
                liked = np.array([any(kind == habit for kind, _ in base) for base in rules.table.base])
                chance = allowed * (1.0 + 20 * liked)
                ids += rules.advance(state, int(rng.choice(len(chance), p=chance / chance.sum())))
            longest.append(longest_silence(ids))
            assert listen(tokens.decode(tokenizer(), ids)).end_s.max() == pytest.approx(20, rel=0.05)
        found[name] = max(longest)
    assert found["capped"] <= silence + 1e-6
    assert found["free"] > silence


@pytest.mark.parametrize(
    ("spoil", "wrong"),
    [
        (lambda base: base[1:], 1),  # no Bar first
        (lambda base: base[:-1], 1),  # an unfinished note
        (lambda base: [*base, ("Velocity", 79)], 2),
        (lambda base: [*base, ("Position", 0), *base[3:6]], 1),  # backwards
        (lambda base: [*base, *base[3:6]], 1),  # the same pitch again
        (lambda base: base, 0),
    ],
)
def test_violations_are_counted(spoil, wrong: int) -> None:
    rules = grammar()
    ids = rules.table.ids
    tempo, velocity = next(iter(ids["Tempo"])), 79
    good = [("Bar", 0), ("Position", 0), ("Tempo", tempo), ("Pitch", 60), ("Velocity", velocity), ("Duration", 8)]
    good += [("Position", 4), ("Pitch", 60), ("Velocity", velocity), ("Duration", 8)]
    broken = [ids[kind][value] for kind, value in spoil(good[:6] if wrong != 1 else good)]
    if wrong:
        assert rules.count_violations(broken) >= 1
    else:
        assert rules.count_violations([rules.vocabulary.bos, *broken, rules.vocabulary.eos]) == 0


def test_padding_and_beginning_are_never_drawn() -> None:
    rules = grammar()
    for seed in range(5):
        ids, _ = walk(rules, Constraints(seconds=6), seed)
        assert not {rules.vocabulary.pad, rules.vocabulary.bos, rules.vocabulary.eos} & set(ids)


# --- the ending ----------------------------------------------------------------------------------


def test_the_notes_of_an_asked_key_are_more_likely() -> None:
    rules = grammar()
    assert rules.key_bias(rules.start(Constraints(seconds=12.0))) is None
    state = rules.start(Constraints(seconds=12.0, key=(9, False)))
    bias = rules.key_bias(state)
    assert bias is not None
    pitch, table = rules.table.ids["Pitch"], rules.table
    a, c, g_sharp, c_sharp = (float(bias[pitch[value]]) for value in (57, 60, 56, 61))
    assert a > c > 0 > g_sharp
    assert c_sharp == -np.inf
    assert bias[table.ids["Bar"][0]] == 0, "what holds no note is as likely as before"
    for index, base in enumerate(table.base):
        if any(table.pitch_classes[index]):
            notes = [value for kind, value in base if kind == "Pitch"]
            assert bias[index] == pytest.approx(sum(bias[pitch[value]] for value in notes))
    state.last_read = LastRead.CHORD
    assert rules.key_bias(state) is None


@pytest.mark.parametrize("kind", KEY_PROFILES)
def test_keys_are_told_by_correlation_with_published_profiles(kind: str) -> None:
    weights = np.random.default_rng(0).random(12)
    found = key_correlations(weights, kind)
    for mode, profile in enumerate(KEY_PROFILES[kind]):
        for root in range(12):
            assert found[mode, root] == pytest.approx(np.corrcoef(np.roll(profile, root), weights)[0, 1])


@pytest.mark.parametrize("major", [True, False])
def test_an_asked_key_has_its_degrees_as_often_as_music_has(major: bool) -> None:
    scale, shares = list(SCALES[major]), np.array(KEY_PROFILES["albrecht"][0 if major else 1])
    odds = np.roll(degree_odds((5, major)), -5)
    assert odds[scale] / odds[0] == pytest.approx(shares[scale] / shares[0])
    assert odds[scale].mean() == pytest.approx(1)
    assert not np.delete(odds, scale).any()


def test_keys_are_found() -> None:
    for score in pieces():
        weights = np.zeros(12)
        for note in score.tracks[0].notes:
            weights[note.pitch % 12] += note.duration
        root, _ = find_key(weights)
        assert weights[root] > 0
    scale = np.zeros(12)
    scale[[0, 2, 4, 5, 7, 9, 11]] = [5, 2, 4, 2, 4, 2, 1]
    for shift in range(12):
        assert find_key(np.roll(scale, shift)) == (shift, True)
    minor = np.zeros(12)
    minor[[0, 2, 3, 5, 7, 8, 11]] = [5, 2, 4, 2, 4, 2, 2]
    assert find_key(np.roll(minor, 9)) == (9, False)
    assert find_key(np.zeros(12)) == (0, True)


@pytest.mark.parametrize("root", range(12))
@pytest.mark.parametrize("major", [True, False])
def test_every_last_chord_is_the_whole_triad_over_its_root(root: int, major: bool) -> None:
    rng = np.random.default_rng(root)
    for _ in range(20):
        chord = LastChord(root, major, 16, (80,), [])
        while choices := chord.choices():
            if chord.complete and rng.random() < 0.3:
                break
            chord.pitches.append(int(rng.choice(choices)))
        assert chord.complete
        assert {pitch % 12 for pitch in chord.pitches} == set(chord.triad)
        assert chord.pitches[0] in BASS
        assert chord.pitches[0] % 12 == root
        assert chord.pitches == sorted(set(chord.pitches))
        assert chord.pitches[-1] <= HIGHEST


@pytest.mark.parametrize("key", [0, 5, 10])
def test_a_piece_ends_in_its_own_key(key: int) -> None:
    """Heard pitch classes decide the last chord, through the grammar itself."""
    rules = grammar()
    scale = np.array([5, 0, 2, 0, 4, 2, 0, 4, 0, 2, 0, 1.0])
    share = np.array([
        np.prod([scale[(value - key) % 12] for kind, value in base if kind == "Pitch"]) for base in rules.table.base
    ])  # fmt: skip
    rng = np.random.default_rng(key)
    state = rules.start(Constraints(seconds=30))
    while not state.chord:
        chance = rules.mask(state) * share
        rules.advance(state, int(rng.choice(len(chance), p=chance / chance.sum())))
    assert (state.chord.root, state.chord.major) == (key, True)


@given(
    seconds=st.floats(4, 120), now=st.integers(0, 40).map(lambda bars: bars * 32), share=st.floats(0, 0.7),
    tempo=st.floats(40, 220),
)  # fmt: skip
@example(seconds=4.0, now=32, share=0.5859375, tempo=216.0)  # two beats are shorter than 0.6 s
def test_the_plan_of_the_ending(seconds: float, now: int, share: float, tempo: float) -> None:
    tick_s = 60 / (tempo * 8)
    now_s = share * seconds if now else 0.0
    onsets, ends = plan(Constraints(seconds=seconds), now, now_s, np.array([tick_s]), beat=8, bar=32)
    onset, end = int(onsets[0]), int(ends[0])
    assert 0 < onset < end
    assert end - onset <= 32  # a duration of that length exists
    assert abs(now_s + (end - now) * tick_s - seconds) <= tick_s / 2 + 1e-9
    if end >= 64:
        assert onset % 8 == 0
        assert ending.CHORD_SECONDS[0] - tick_s <= (end - onset) * tick_s


# --- the vocabulary ------------------------------------------------------------------------------


def written(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "vocabulary.json"
    tokens.write_vocabulary(tokenizer(), path)
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"tokens": None}, "not a vocabulary"),
        ({"digest": "0" * 64}, "damaged"),
        ({"bos": "x"}, "not a vocabulary"),
    ],
)
def test_a_bad_vocabulary_file(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Vocabulary.load(written(tmp_path, **changes))


def test_a_vocabulary_without_a_token_the_grammar_needs(tmp_path: Path) -> None:
    names = [name for name in tokens.base_tokens(tokenizer()) if name != ["Position_7"]]
    path = written(tmp_path, tokens=names, digest=digest_of(names))
    with pytest.raises(UserError, match="no Position token of value 7"):
        Vocabulary.load(path)
    with pytest.raises(UserError, match="cannot be read"):
        Vocabulary.load(tmp_path / "nothing.json")


def test_the_same_tokenizer_has_the_same_digest() -> None:
    assert vocabulary_of(tokenizer()).digest == grammar().vocabulary.digest
    assert vocabulary_of(tokenizer(12)).digest != grammar().vocabulary.digest
