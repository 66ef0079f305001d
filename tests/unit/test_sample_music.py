import numpy as np
import pytest
from symusic import Score

from huesong.data.sample import harmony
from huesong.data.sample.melody import FASTEST, FULL_CADENCES, HALF_CADENCES, RHYTHMS, SLOWEST, Theme
from huesong.data.sample.music import compose_by_rule, form


def grid(count: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.95, 0.95, (count, 2))


def notes_of(score: Score) -> list:
    return [note for track in score.tracks for note in track.notes]


def cues(score: Score) -> dict[str, float]:
    """What a listener gets: no knowledge of the composer's plan."""
    notes = notes_of(score)
    seconds = score.end() / 480 * 60 / score.tempos[0].qpm
    weights = np.zeros(12)
    for note in notes:
        weights[note.pitch % 12] += note.duration
    final = [note for note in notes if note.time == max(n.time for n in notes)]
    root = min(note.pitch for note in final) % 12
    return {
        "onsets_per_second": len({note.time for note in notes}) / seconds,
        "tempo": score.tempos[0].qpm,
        "velocity": float(np.mean([note.velocity for note in notes])),
        "pitch": float(np.mean([note.pitch for note in notes])),
        "seconds_a_note": float(np.mean([note.duration for note in notes])) / 480 * 60 / score.tempos[0].qpm,
        "major_third": weights[(root + 4) % 12] - weights[(root + 3) % 12] > 0,
        "flat_tones": sum(weights[(root + step) % 12] for step in (1, 3, 6, 8, 10)) / weights.sum(),
    }


@pytest.fixture(scope="module")
def pieces() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    emotions = grid(120)
    rows = [cues(compose_by_rule(v, a, seed=i)) for i, (v, a) in enumerate(emotions)]
    return emotions, {name: np.array([row[name] for row in rows], float) for name in rows[0]}


@pytest.mark.parametrize(
    ("cue", "axis", "least"),
    [
        ("onsets_per_second", 1, 0.7), ("tempo", 1, 0.9), ("velocity", 1, 0.9), ("seconds_a_note", 1, -0.7),
        ("major_third", 0, 0.7), ("flat_tones", 0, -0.7), ("pitch", 0, 0.6),
    ],
)  # fmt: skip
def test_emotion_is_in_the_notes(pieces, cue, axis, least):
    emotions, measured = pieces
    r = np.corrcoef(emotions[:, axis], measured[cue])[0, 1]
    assert r * np.sign(least) > abs(least)


def test_cues_of_one_axis_do_not_follow_the_other(pieces):
    emotions, measured = pieces
    assert abs(np.corrcoef(emotions[:, 0], measured["tempo"])[0, 1]) < 0.35
    assert abs(np.corrcoef(emotions[:, 1], measured["major_third"])[0, 1]) < 0.35


def test_same_seed_same_bytes_and_another_seed_another_piece():
    first = compose_by_rule(0.4, -0.2, seed=5, bars=12)
    assert first.dumps_midi() == compose_by_rule(0.4, -0.2, seed=5, bars=12).dumps_midi()
    assert first.dumps_midi() != compose_by_rule(0.4, -0.2, seed=6, bars=12).dumps_midi()


@pytest.mark.parametrize("bars", [4, 7, 8, 11, 12, 16, 21])
@pytest.mark.parametrize("emotion", [(0.9, 0.9), (-0.9, 0.9), (-0.9, -0.9), (0.9, -0.9), (0.0, 0.0)])
def test_form_and_engraving(bars, emotion):
    score = compose_by_rule(*emotion, seed=bars, bars=bars)
    assert score.ticks_per_quarter == 480
    assert [track.name for track in score.tracks] == ["Right hand", "Left hand"]
    assert all(track.program == 0 and not track.is_drum and len(track.notes) >= bars for track in score.tracks)
    assert SLOWEST <= round(score.tempos[0].qpm) <= FASTEST
    assert len(score.tempos) == 1
    assert (score.time_signatures[0].numerator, score.time_signatures[0].denominator) == (4, 4)
    assert score.end() == bars * 1920
    notes = notes_of(score)
    assert all(note.time % 120 == 0 and note.duration % 60 == 0 and note.duration > 0 for note in notes)
    assert all(21 <= note.pitch <= 108 and 20 <= note.velocity <= 118 for note in notes)
    last_end: dict[int, int] = {}
    for note in sorted(notes, key=lambda n: n.time):  # no key is struck while it is down
        assert last_end.get(note.pitch, 0) <= note.time
        last_end[note.pitch] = note.end


def test_ends_on_a_held_tonic_chord():
    for seed, (v, a) in enumerate(grid(40, 8)):
        score = compose_by_rule(v, a, seed)
        tonic = Theme.of(seed).tonic
        final = [note for note in notes_of(score) if note.time >= score.end() - 1920]
        assert all(note.time == score.end() - 1920 and note.duration == 1920 for note in final)
        assert min(note.pitch for note in final) % 12 == tonic
        assert max(note.pitch for note in final) % 12 == tonic  # the melody's last note, above all others
        thirds = {(note.pitch - tonic) % 12 for note in final} & {3, 4}
        assert thirds == ({4} if harmony.mode_for(v, a) in ("ionian", "mixolydian") else {3})


def test_consequent_repeats_the_antecedents_idea():
    for seed, (v, a) in enumerate(grid(20, 9)):
        right = compose_by_rule(v, a, seed, bars=8).tracks[0].notes
        tops: list[dict[int, int]] = [{}, {}]
        for note in right:
            if note.time % 7680 < 3840:
                line = tops[note.time // 7680]
                line[note.time % 7680] = max(line.get(note.time % 7680, 0), note.pitch)
        assert tops[0] == tops[1]


def test_melody_moves_mostly_by_step():
    moves = []
    for seed, (v, a) in enumerate(grid(30, 10)):
        line: dict[int, int] = {}
        for note in compose_by_rule(v, a, seed).tracks[0].notes:
            line[note.time] = max(line.get(note.time, 0), note.pitch)
        moves += np.abs(np.diff([line[t] for t in sorted(line)])).tolist()
    assert np.mean(np.array(moves) <= 2) > 0.55
    assert np.mean(np.array(moves) > 7) < 0.04
    assert np.mean(np.array(moves) == 0) < 0.25


def test_variations_share_key_and_theme_but_not_the_mood():
    bright = compose_by_rule(0.8, 0.6, seed=1, theme_seed=7)
    dark = compose_by_rule(-0.8, -0.6, seed=2, theme_seed=7)
    basses = [min(n.pitch for n in notes_of(s) if n.time >= s.end() - 1920) % 12 for s in (bright, dark)]
    assert basses[0] == basses[1] == Theme.of(7).tonic
    assert bright.tempos[0].qpm > dark.tempos[0].qpm + 30


@pytest.mark.parametrize("arguments", [(1.2, 0.0, 0), (0.0, -1.01, 0), (float("nan"), 0.0, 0), (0.0, 0.0, 0, 3)])
def test_refuses_what_it_cannot_compose(arguments):
    with pytest.raises(ValueError):
        compose_by_rule(*arguments)


@pytest.mark.parametrize("bars", range(4, 20))
def test_form_adds_up_and_closes(bars):
    plan = form(bars)
    assert sum(length for _, length in plan) == bars
    assert plan[-1][0] in ("close", "coda")


@pytest.mark.parametrize("mode", harmony.MODES)
def test_progressions_are_spelt_and_scales_hold_their_chords(mode):
    for table in (harmony.HEADS, harmony.HALF_TAILS, harmony.FULL_TAILS, harmony.CONTRASTS):
        for text in table[mode]:
            chords = harmony.parse(text, 0)
            assert sum(chord.length for chord in chords) in (32, 64)
            for chord in chords:
                scale = harmony.scale_for(mode, chord)
                assert set(chord.tones) <= scale
                assert 0 in scale
                assert 6 <= len(scale) <= 8


def test_rhythm_cells_fill_a_bar():
    for cell in [*(cell for level in RHYTHMS for cell in level), *HALF_CADENCES, *FULL_CADENCES]:
        assert sum(map(abs, cell)) == 16
    density = [np.mean([len(cell) for cell in level]) for level in RHYTHMS]
    assert density == sorted(density)


def test_voices_move_little():
    previous: list[int] = []
    for chord in harmony.parse("I | vi | ii:1 V7 | I", 0):
        voicing = harmony.voice(chord, 0, previous, 45, 64)
        assert voicing == sorted(voicing)
        if previous:
            assert np.mean([min(abs(p - q) for q in previous[1:]) for p in voicing[1:]]) <= 3
        previous = voicing
