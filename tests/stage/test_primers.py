"""Primers that are odd but legitimate: continued, or refused in one line; what is changed of them is said."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from symusic import Note, Score, Tempo, TimeSignature, Track

from huesong.compose.composer import Composer, compose, opened
from huesong.compose.primer import MOST_NOTES, fitted, playable
from huesong.model.requests import Request, sampling_config
from huesong.music.keys import Constraints, find_key
from huesong.runtime.errors import UserError
from tests.tiny_sets import midi

Given = Sequence[tuple[int, int, int]]
"""Onset and length in quarters, and pitch."""
QUARTER = 480
SCALE: Given = [(n, 1, 60 + pitch) for n, pitch in enumerate((0, 2, 4, 5, 7, 9, 11, 12))]


def song(
    *tracks: Given, tempo: float = 120, drums: Sequence[Given] = (), metre: tuple[int, int] | None = None
) -> Score:
    score = Score(QUARTER)
    score.tempos.append(Tempo(0, tempo))
    if metre:
        score.time_signatures.append(TimeSignature(0, *metre))
    for is_drum, parts in ((False, tracks), (True, drums)):
        for part in parts:
            track = Track(program=0, is_drum=is_drum)
            track.notes.extend(
                [Note(round(on * QUARTER), round(long * QUARTER), pitch, 70) for on, long, pitch in part]
            )
            score.tracks.append(track)
    return score


def notes(score: Score) -> list[tuple[float, float, int]]:
    found = [(n.time / score.tpq, n.duration / score.tpq, n.pitch) for track in score.tracks for n in track.notes]
    return sorted(found)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(Path(__file__).parents[2] / "models/huesong-small")


def continued(composer: Composer, primer: Score | Path, seconds: float = 12) -> Score:
    request = opened(Request(valence=0.2, arousal=0.1, seconds=seconds, primer=primer))
    return composer.compose([request], sampling_config(candidates=1))[0].notes


# --- refused in one line -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "what"),
    [
        (song(), "has no piano notes (no notes at all)"),
        (song(drums=[SCALE]), "has no piano notes (drums only)"),
        (song([(0, 1, 10), (1, 1, 120)]), "has no note on a piano's keys (21 to 108)"),
        (song([(n / 64, 1 / 64, 60) for n in range(MOST_NOTES + 1)]), f"has more than {MOST_NOTES} notes"),
    ],
)
def test_what_cannot_be_a_primer(tmp_path: Path, score: Score, what: str) -> None:
    path = tmp_path / "song.mid"
    score.dump_midi(path)
    with pytest.raises(UserError) as caught:
        opened(Request(valence=0, arousal=0, primer=path))
    assert str(caught.value).startswith(f"{path} {what}")


@pytest.mark.parametrize("tempo", [30, 300])
def test_a_tempo_that_the_model_does_not_know_is_refused(composer: Composer, tempo: float) -> None:
    with pytest.raises(UserError, match=rf"goes at {tempo} quarters a minute: this model knows 40 to 220"):
        continued(composer, song(SCALE, tempo=tempo))


def test_too_long_says_what_is_allowed(composer: Composer) -> None:
    with pytest.raises(
        UserError, match=r"too long for a piece of 4 s: it has \d+ bars, [0-9.]+ s, and may have [0-9.]+ s; ask for"
    ):
        continued(composer, song([(n, 1, 60 + n % 5) for n in range(9)]), seconds=4)


# --- continued -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [8, 9, 10, 12])
def test_many_notes_at_the_last_position(composer: Composer, at_once: int) -> None:
    chord = [(4, 2, 36 + 5 * n) for n in range(at_once)]
    made = notes(continued(composer, song([*SCALE[:4], *chord], metre=(4, 4))))
    assert {pitch for on, _, pitch in made if on == 4} >= {pitch for _, _, pitch in chord}
    assert max(on for on, _, _ in made) > 4


def test_the_mask_is_not_empty_after_too_many_notes(composer: Composer) -> None:
    """Nothing more at that position, but something later."""
    grammar, table = composer.model.grammar, composer.model.grammar.table
    for count in (8, 9, 20):
        state = grammar.start(Constraints(bars=10, tempo=float(table.tempos[16])))
        begin = [("Bar", 0), ("Position", 0), ("Tempo", 16)]
        for pitch in range(40, 40 + count):
            begin += [("Pitch", pitch), ("Velocity", min(table.ids["Velocity"])), ("Duration", grammar.durations[0])]
        for kind, value in begin:
            state.planned.clear()  # what the plan says has no part in this
            grammar.advance(state, table.ids[kind][value])
        mask = grammar.mask(state)
        assert mask.any()
        assert not mask[[table.ids["Pitch"][pitch] for pitch in range(60, 100)]].any()


def test_all_tracks_of_a_band_are_one_piano(composer: Composer, lines: pytest.LogCaptureFixture) -> None:
    bass: Given = [(2 * n, 2, 40 + n) for n in range(4)]
    band = song(SCALE, bass, drums=[[(n, 1, 36) for n in range(8)]], metre=(4, 4))
    assert notes(playable(band)) == sorted([*SCALE, *bass])
    made = {(on, pitch) for on, _, pitch in notes(continued(composer, band))}
    assert made >= {(on, pitch) for on, _, pitch in (*SCALE, *bass)}
    assert lines.messages == []


def test_silence_at_the_beginning_is_left_out(lines: pytest.LogCaptureFixture) -> None:
    late = song([(17 + on, long, pitch) for on, long, pitch in SCALE])
    late.tempos.append(Tempo(8 * QUARTER, 90))
    late.tempos.append(Tempo(20 * QUARTER, 100))
    fit = playable(late, "song.mid")
    assert notes(fit) == [(1 + on, long, pitch) for on, long, pitch in SCALE]
    assert [(mark.time // QUARTER, round(mark.qpm)) for mark in fit.tempos] == [(0, 90), (4, 100)]
    assert lines.messages == ["song.mid: 4 bars of silence at its beginning are left out"]
    waltz = song([(9 + on, long, pitch) for on, long, pitch in SCALE], metre=(3, 4))
    assert notes(playable(waltz))[0][0] == 0
    assert notes(playable(playable(late))) == notes(fit)


def test_what_is_left_out_is_said_once(
    picture: Path, composer: Composer, tmp_path: Path, lines: pytest.LogCaptureFixture
) -> None:
    song([(8 + on, long, pitch) for on, long, pitch in [*SCALE, (0, 1, 5)]], metre=(4, 4)).dump_midi(tmp_path / "s.mid")
    compose(
        picture,
        tmp_path / "out" / "piece",
        composer,
        config=sampling_config(seconds=12, candidates=1),
        primer=tmp_path / "s.mid",
    )
    said = [line for line in lines.messages if "s.mid" in line]
    assert [("no key" in line, "silence" in line) for line in said] == [(True, False), (False, True)]


def test_keys_that_no_piano_has_are_said(lines: pytest.LogCaptureFixture) -> None:
    assert notes(playable(song([*SCALE, (0, 1, 5)]), "song.mid")) == SCALE
    assert lines.messages == ["song.mid: 1 of 9 notes are on no key of a piano and left out"]


def test_long_notes_and_notes_off_the_grid_are_said(composer: Composer, lines: pytest.LogCaptureFixture) -> None:
    grammar = composer.model.grammar
    fitted(song([(0, 24, 36), *SCALE]), grammar, "song.mid")
    longest = max(grammar.durations) / grammar.beat
    assert lines.messages == [f"song.mid: 1 notes are longer than this model's longest ({longest:g} quarters) and cut"]
    lines.clear()
    fitted(song([(n / 3, 1 / 3, 60 + n) for n in range(24)]), grammar, "song.mid")
    fitted(song(SCALE, metre=(3, 4)), grammar, "song.mid")
    assert lines.messages == [], "this model's grid holds triplets, and it knows other metres"
    fitted(song([(n / 7, 1 / 7, 60 + n) for n in range(28)]), grammar, "song.mid")
    assert lines.messages == ["song.mid: 16 of 28 notes lie off the grid (triplets?) and move to it"]
    lines.clear()
    fitted(song(SCALE, metre=(4, 4)), grammar)
    assert lines.messages == []


CHORD = (48, 60, 64, 67)


@pytest.mark.parametrize(
    ("end", "left_out"),
    [
        ([(8, 4, pitch) for pitch in CHORD], True),
        ([(8, 1, pitch) for pitch in CHORD], False),  # short: one chord of many
        ([(8, 4, pitch + 5) for pitch in CHORD], False),  # the subdominant closes nothing
        ([(8, 4, pitch) for pitch in CHORD[:2]], False),
        ([(8, 4, pitch) for pitch in CHORD[:3]] + [(8, 6, CHORD[3])], False),  # something still sounds
    ],
)
def test_a_closing_chord_does_not_stand_in_the_middle(
    composer: Composer, end: Given, left_out: bool, lines: pytest.LogCaptureFixture
) -> None:
    got = notes(fitted(playable(song([*SCALE, *end])), composer.model.grammar, "song.mid"))
    assert got == (list(SCALE) if left_out else sorted([*SCALE, *end]))
    assert (lines.messages == ["song.mid: its closing chord is left out, for the music goes on"]) == left_out


def test_pieces_of_huesong_are_primers_without_their_last_chord(composer: Composer) -> None:
    asked = [
        Request(valence=v, arousal=a, seconds=8, seed=seed) for v, a in ((0.5, 0.5), (-0.5, -0.5)) for seed in range(4)
    ]
    clear = 0
    for piece in composer.compose(asked, sampling_config(candidates=1)):
        last = max(on for on, _, _ in notes(piece.notes))
        sounded = np.zeros(12)
        for on, long, pitch in notes(piece.notes):
            sounded[pitch % 12] += long * (on < last)
        if find_key(sounded) != piece.plan.key:
            continue  # the notes dwell on another key than the plan's: its chord closes nothing that is heard
        clear += 1
        fit = notes(fitted(playable(piece.notes), composer.model.grammar))
        assert fit == [note for note in notes(piece.notes) if note[0] < last]
    assert clear


def test_a_chord_alone_is_a_primer(composer: Composer) -> None:
    chord = song([(0, 4, pitch) for pitch in CHORD])
    assert notes(fitted(playable(chord), composer.model.grammar)) == notes(chord)


def test_a_single_note_is_a_primer(composer: Composer, tmp_path: Path) -> None:
    made = continued(composer, midi(tmp_path / "one.mid"))
    assert (0, 60) in {(on, pitch) for on, _, pitch in notes(made)}
