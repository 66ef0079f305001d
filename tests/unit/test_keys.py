"""Keys, and the last chord of a piece: music/keys.py, alone and through the grammar."""

from __future__ import annotations

import numpy as np
import pytest

from huesong.music import tokens
from huesong.music.grammar import LastRead
from huesong.music.keys import (
    BASS,
    HIGHEST,
    KEY_PROFILES,
    SCALES,
    LastChord,
    degree_odds,
    find_key,
    key_correlations,
)
from huesong.music.reading import listen
from tests.tiny_music import grammar, pieces, planned, tokenizer, walk


def test_the_notes_of_an_asked_key_are_more_likely() -> None:
    rules = grammar()
    assert rules.key_bias(rules.start(planned(6))) is None
    state = rules.start(planned(6, key=(9, False)))
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


@pytest.mark.parametrize("habit", ["any", "Pitch"])
def test_the_last_chord_ends_near_the_line_that_leads_to_it(habit: str) -> None:
    for seed in range(8):
        asked = planned(4, highest=72)
        ids, _ = walk(grammar(), asked, seed, habit)
        notes = listen(tokens.decode(tokenizer(), ids, asked.tempo))
        final = notes.onset_s == notes.onset_s.max()
        bar_before = ~final & (notes.end_s > notes.onset_s.max() - 2)
        assert notes.pitch[final].max() <= notes.pitch[bar_before].max() + 5


@pytest.mark.parametrize("key", [0, 5, 10])
def test_a_piece_ends_in_its_own_key(key: int) -> None:
    """Heard pitch classes decide the last chord, through the grammar itself."""
    rules = grammar()
    scale = np.array([5, 0, 2, 0, 4, 2, 0, 4, 0, 2, 0, 1.0])
    share = np.array([
        np.prod([scale[(value - key) % 12] for kind, value in base if kind == "Pitch"]) for base in rules.table.base
    ])  # fmt: skip
    rng = np.random.default_rng(key)
    state = rules.start(planned(40))
    while not state.chord:
        chance = rules.mask(state) * share
        rules.advance(state, int(rng.choice(len(chance), p=chance / chance.sum())))
    assert (state.chord.root, state.chord.major) == (key, True)
