"""What a player adds: pedal by harmony, timing and dynamics by metre and phrase; the notes of the file stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from symusic import Note, Score, Tempo, TimeSignature, Track

from huesong.music.form.plan import BarPlan, Chord, Plan
from huesong.music.reading import clean, listen, parse_score
from huesong.music.rendering.performance import humanized, pedalled

TICKS = 480


def plan(
    chords: tuple[tuple[int, str], ...] = ((0, "maj"), (5, "maj"), (7, "7"), (0, "maj")), phrases: int = 2
) -> Plan:
    """Phrases of four bars in 4/4, a chord a bar; 100 quarters a minute."""
    bars = tuple(
        BarPlan((4, 4), "new", 0, "AB"[i % 2], 4 - k, "authentic" if k == 3 else "", (Chord(0.0, *chords[k]),))
        for i in range(phrases)
        for k in range(4)
    )
    return Plan(0, "major", 100.0, bars, (0.6,) * len(bars), (0.2,) * len(bars))


def played(of: Plan, length: float = 0.95, step: float = 1.0, foreign: bool = False) -> Score:
    """The chord's tones one after the other, each `length` of a step long; `foreign`: a semitone above them."""
    score = Score(TICKS)
    score.tempos.append(Tempo(0, of.tempo))
    score.time_signatures.append(TimeSignature(0, 4, 4))
    track = Track(program=0)
    for index, bar in enumerate(of.bars):
        tones = sorted(bar.chords[0].tones) or [0]
        for number in range(round(4 / step)):
            pitch = 60 + tones[number % len(tones)] + foreign
            onset = round(TICKS * (4 * index + number * step))
            track.notes.append(Note(onset, round(TICKS * step * length), pitch, 70))
    score.tracks.append(track)
    return score


def pedals(score: Score) -> list[tuple[float, float]]:
    """Down and up in quarters, as a file says them."""
    read = parse_score(bytes(score.dumps_midi()))
    return [(p.time / TICKS, (p.time + p.duration) / TICKS) for track in read.tracks for p in track.pedals]


def held(score: Score) -> float:
    return sum(up - down for down, up in pedals(score))


def test_the_pedal_goes_down_after_each_chord_and_up_before_the_next() -> None:
    found = pedals(pedalled(played(plan()), plan(), -1.0))
    assert len(found) == 8
    for bar, (down, up) in enumerate(found):
        assert 4 * bar < down < 4 * bar + 0.2
        assert 4 * bar + 3.5 < up < 4 * (bar + 1)


def test_two_chords_in_a_bar_have_a_pedal_each() -> None:
    bars = tuple(
        BarPlan((4, 4), "new", 0, "A", 2 - k, "", (Chord(0.0, 0, "maj"), Chord(2.0, 7, "maj"))) for k in range(2)
    )
    two = Plan(0, "major", 100.0, bars, (0.5, 0.5), (0.2, 0.2))
    downs = [down for down, _ in pedals(pedalled(played(two), two, -1.0))]
    assert [round(down) for down in downs] == [0, 2, 4, 6]


def test_the_calmer_the_more_pedal_and_staccato_has_none_where_it_is_lively() -> None:
    shares = [held(pedalled(played(plan()), plan(), arousal)) for arousal in (-1.0, 0.0, 0.5, 1.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 2 * shares[-1] > 0
    short = played(plan(), length=0.3)
    assert held(pedalled(short, plan(), -0.5)) > 0
    assert held(pedalled(short, plan(), 0.5)) == 0


def test_foreign_notes_lift_the_pedal_sooner_where_it_is_lively() -> None:
    eighths = played(plan(), step=0.5, foreign=True)
    clear = played(plan(), step=0.5)
    for arousal in (-1.0, 0.3):
        assert held(pedalled(eighths, plan(), arousal)) < held(pedalled(clear, plan(), arousal))
    assert held(pedalled(eighths, plan(), 0.3)) < held(pedalled(eighths, plan(), -1.0))


def test_no_chord_no_pedal() -> None:
    none = plan(((0, "N"), (0, "N"), (0, "N"), (0, "N")))
    assert held(pedalled(played(none), none, -1.0)) == 0
    assert not len(pedalled(Score(TICKS), plan(), 0.0).tracks)


def test_a_file_with_pedal_has_the_same_notes_as_without() -> None:
    bare = played(plan())
    before = bytes(bare.dumps_midi())
    with_pedal = pedalled(bare, plan(), -1.0)
    assert bytes(bare.dumps_midi()) == before
    data = bytes(with_pedal.dumps_midi())
    assert data.count(bytes((0xB0, 64, 127))) == 8
    read, plain = parse_score(data), parse_score(before)
    assert vars(listen(read)).keys() == vars(listen(plain)).keys()
    assert all((value == vars(listen(plain))[name]).all() for name, value in vars(listen(read)).items())
    assert [bytes(one.score.dumps_midi()) for one in clean(read)] == [
        bytes(one.score.dumps_midi()) for one in clean(plain)
    ]


def rows(score: Score) -> dict[str, np.ndarray]:
    return {name: value.astype(float) for name, value in score.tracks[0].notes.numpy().items()}


@pytest.mark.parametrize("tempo", [40.0, 100.0, 200.0])
def test_humanized_onsets_move_a_little_and_the_same_for_a_seed(tempo: float) -> None:
    score = played(plan(), step=0.25)
    score.tempos[0].qpm = tempo
    one, same, other = (humanized(score, plan(), seed) for seed in (3, 3, 4))
    assert bytes(one.dumps_midi()) == bytes(same.dumps_midi()) != bytes(other.dumps_midi())
    moved_s = (rows(one)["time"] - rows(score)["time"]) / TICKS * 60 / tempo
    assert np.abs(moved_s).max() <= 0.020
    assert 0.002 < moved_s.std() < 0.010
    assert rows(one)["time"].min() >= 0
    assert (rows(one)["pitch"] == rows(score)["pitch"]).all()
    notes = listen(one)
    for pitch in np.unique(notes.pitch):
        mine = notes.pitch == pitch
        assert (notes.end_s[mine][:-1] <= notes.onset_s[mine][1:] + 1e-9).all()


def mean_over_seeds(score: Score, of: Plan, name: str) -> np.ndarray:
    return np.mean([rows(humanized(score, of, seed))[name] for seed in range(60)], axis=0)


def test_a_phrase_swells_to_its_goal_and_broadens_at_its_end() -> None:
    score = played(plan(phrases=1))
    loud = mean_over_seeds(score, plan(phrases=1), "velocity").reshape(4, 4)
    assert loud[2].mean() > loud[1].mean() > loud[0].mean()
    assert loud[2].mean() > loud[3].mean()
    assert (loud[:, 0] > loud[:, 1:].mean(axis=1) - 1).all()
    assert np.abs(loud - 70).max() < 14
    late_s = (mean_over_seeds(score, plan(phrases=1), "time") - rows(score)["time"]) / TICKS * 0.6
    assert late_s[-1] > 0.005
    assert np.abs(late_s[:8]).max() < 0.003


def test_downbeats_are_stronger_than_what_is_off_the_beat() -> None:
    loud = mean_over_seeds(played(plan(), step=0.5), plan(), "velocity").reshape(8, 8)
    assert (loud[:, 0] > loud[:, 1] + 3).all()
    assert (loud[:, 2] > loud[:, 3] + 1).all()


def test_pedals_stay_where_they_are() -> None:
    score = pedalled(played(plan()), plan(), -1.0)
    assert pedals(humanized(score, plan(), 1)) == pedals(score)
