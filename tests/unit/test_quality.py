"""Figures of quality on pieces whose values are known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from symusic import Note, Score, Tempo, TimeSignature, Track

from huesong.evaluate.quality import cadences, structure
from huesong.evaluate.quality.figures import TITLES, piece_figures, set_figures
from huesong.evaluate.quality.piece import Piece, cut, on_grid, piece_of
from huesong.va import Bootstrap

A = [
    (60, 1),
    (62, 0.5),
    (64, 0.5),
    (65, 1),
    (64, 1),
    (67, 1.5),
    (65, 0.5),
    (64, 2),
    (62, 1),
    (64, 1),
    (65, 1),
    (62, 1),
    (60, 4),
]
"""Four bars of 4/4: (pitch, quarters)."""
B = [(69, 1), (67, 0.5), (69, 0.5), (71, 2), (72, 1), (71, 1), (69, 2), (65, 2), (69, 1), (65, 1), (67, 4)]


def score_of(notes: list[tuple[float, float, int]], tempo: float = 120, metre: tuple[int, int] = (4, 4)) -> Score:
    """Notes as (onset, quarters, pitch)."""
    score, track = Score(480), Track()
    score.tempos.append(Tempo(0, tempo))
    score.time_signatures.append(TimeSignature(0, *metre))
    for onset, length, pitch in notes:
        track.notes.append(Note(round(onset * 480), round(length * 480), pitch, 80))
    score.tracks.append(track)
    return score


def tune(*parts: list[tuple[int, float]], **options: object) -> Piece:
    onset, notes = 0.0, []
    for pitch, length in [note for part in parts for note in part]:
        notes.append((onset, length, pitch))
        onset += length
    return piece_of(score_of(notes, **options))  # type: ignore[arg-type]


def random_piece(seed: int, quarters: int = 128) -> Piece:
    rng = np.random.default_rng(seed)
    onsets = np.cumsum(rng.choice([0.25, 0.5, 0.75, 1.0], 4 * quarters))
    return piece_of(score_of([(t, 0.5, int(rng.integers(40, 90))) for t in onsets[onsets < quarters]]))


def test_a_tune_in_the_form_aaba_comes_back() -> None:
    figures = piece_figures(tune(A, A, B, A))
    assert figures["bar_repetition"] == pytest.approx(8 / 16)  # the second and third A, bar by bar
    assert figures["motif4"] == pytest.approx(3 * 9 / 46)  # an A has 12 intervals, the whole tune 49
    assert figures["motif8"] == pytest.approx(3 * 5 / 42)
    assert figures["si_short"] > 0.5
    assert figures["si_middle"] > 0.4  # A is 8 seconds
    alone = piece_figures(tune(A))
    assert alone["motif8"] == alone["bar_repetition"] == 0


def test_random_notes_do_not() -> None:
    figures = [piece_figures(random_piece(seed)) for seed in range(4)]
    mean = {name: np.nanmean([one[name] for one in figures]) for name in TITLES}
    form = piece_figures(tune(A, A, B, A))
    assert mean["motif4"] < 0.01
    assert mean["bar_repetition"] == 0
    assert mean["step"] < 0.12
    assert mean["leap"] > 0.6
    for name in ("si_short", "si_middle", "groove_pairs", "chord_fit", "key_stability", "chord_repetition"):
        assert mean[name] < form[name], name


def test_a_scale_is_all_steps_and_one_motif() -> None:
    scale = [(60 + 12 * octave + degree, 1) for octave in range(2) for degree in (0, 2, 4, 5, 7, 9, 11)]
    figures = piece_figures(tune(scale))
    assert figures["step"] == 1
    assert figures["leap"] == 0
    assert figures["key_stability"] == 1
    assert figures["groove_pairs"] > 0.9
    assert np.isnan(figures["si_short"])  # seven seconds


def test_intervals_are_counted_to_the_semitone() -> None:
    figures = piece_figures(tune([(60, 1), (61, 1), (63, 1), (66, 1), (66, 1), (73, 1), (81, 1)]))
    assert figures["step"] == pytest.approx(2 / 6)
    assert figures["leap"] == pytest.approx(1 / 6)


def test_a_bar_is_the_same_from_seven_tenths_on_and_two_bars_later() -> None:
    bar = {(0, 60), (12, 62), (24, 64)}
    other = {(0, 50), (12, 51)}
    assert structure.bar_repetition([bar, bar, other]) == 0  # only the neighbour is alike
    assert structure.bar_repetition([bar, other, bar]) == pytest.approx(1 / 3)
    assert structure.bar_repetition([bar, other, {(0, 60), (12, 62), (24, 65)}]) == 0  # Jaccard 2 / 4
    assert structure.bar_repetition([bar, set(), other, bar | {(36, 70)}]) == pytest.approx(1 / 3)  # 3 / 4
    assert np.isnan(structure.bar_repetition([bar, set(), bar]))


def test_groove_over_all_pairs_is_what_all_pairs_give() -> None:
    piece = tune(A, B)
    begins = np.zeros((8, 16), bool)
    place = np.round(piece.notes.onset_q * 4).astype(int)
    begins[place // 16, place % 16] = True
    alike = [1 - np.mean(begins[i] ^ begins[j]) for i in range(8) for j in range(i)]
    assert structure.groove_of_all_pairs(piece) == pytest.approx(np.mean(alike))


def test_bars_have_their_true_length() -> None:
    waltz = [(onset + 3 * bar, 1.0, pitch + bar) for bar in range(4) for onset, pitch in ((0, 48), (1, 60), (2, 64))]
    piece = piece_of(score_of(waltz, metre=(3, 4)))
    assert piece.starts.tolist() == [0, 3, 6, 9, 12]
    assert structure.groove_of_all_pairs(piece) == 1
    assert piece_of(score_of(waltz, metre=(6, 8))).beats.tolist() == [1.5] * 4


def chords(*voicings: tuple[int, ...], lengths: tuple[float, ...]) -> list[tuple[float, float, int]]:
    onsets = np.cumsum((0, *lengths))
    return [
        (float(onset), length, pitch)
        for onset, length, voicing in zip(onsets, lengths, voicings, strict=False)
        for pitch in voicing
    ]


TONIC, SUBDOMINANT, DOMINANT, SEVENTH = (48, 64, 67, 72), (53, 65, 69, 72), (43, 62, 67, 71), (43, 62, 65, 71)
SIXTH, SECOND = (45, 64, 69, 72), (50, 65, 69, 74)


def chorale() -> tuple[Piece, list[float]]:
    """Four phrases of four bars: half, authentic, half, authentic cadence, each arriving on the first beat of bar four."""
    half = [TONIC, TONIC, SIXTH, SIXTH, SUBDOMINANT, TONIC, SIXTH, SECOND, TONIC, SUBDOMINANT, SECOND, SECOND, DOMINANT]
    whole = [
        SIXTH,
        TONIC,
        SUBDOMINANT,
        SECOND,
        SIXTH,
        TONIC,
        SECOND,
        SIXTH,
        SUBDOMINANT,
        SECOND,
        DOMINANT,
        SEVENTH,
        TONIC,
    ]
    lengths = (*12 * (1.0,), 3.0)
    notes, arrivals = [], []
    for phrase, voicings in enumerate((half, whole, half, whole)):
        notes += [(16 * phrase + onset, length, pitch) for onset, length, pitch in chords(*voicings, lengths=lengths)]
        arrivals.append(16 * phrase + 12.0)
    return piece_of(score_of(notes, tempo=80)), arrivals


def test_cadences_of_a_chorale_are_found() -> None:
    piece, arrivals = chorale()
    phrases, found = cadences.found_places(piece)
    assert found.tolist() == phrases.tolist() == arrivals
    assert cadences.cadence_figures(piece) == {"cadence_share": 1, "phrase_bars": 4, "cadences": 1}
    assert cadences.cadence_figures(piece, np.array(arrivals) - 8)["cadence_share"] == 0


def test_chords_and_keys_of_a_chorale() -> None:
    figures = piece_figures(chorale()[0])
    assert figures["chord_fit"] > 0.85
    assert figures["key_stability"] == 1
    assert figures["chord_repetition"] > 0.4  # the second half is the first
    assert figures["bar_repetition"] >= 0.5


def test_random_notes_have_fewer_cadences_than_a_chorale() -> None:
    rate = np.mean([piece_figures(random_piece(seed))["cadences"] for seed in range(3)])
    assert rate < 0.5 * piece_figures(chorale()[0])["cadences"]


def test_the_detector_was_measured_on_scores_that_were_left_out() -> None:
    for head in cadences.HEADS:
        found = cadences.weights()[head]
        assert len(found["weights"]) == len(found["mean"]) == len(found["features"]) * (1 + len(cadences.NEIGHBOURS))
        assert tuple(found["features"]) == cadences.HEADS[head]
        assert found["val"]["pieces"] > 5
        assert 0.1 < found["val"]["f1"] < 1


def test_pieces_without_bars_have_no_figures_of_bars() -> None:
    figures = piece_figures(piece_of(score_of([(i / 2, 0.5, 60 + i % 5) for i in range(80)]), barred=False))
    undefined = {name for name, value in figures.items() if np.isnan(value)}
    assert {"bar_repetition", "groove_pairs", "cadence_share", "cadences"} <= undefined
    assert figures["step"] > 0.5
    assert all(np.isnan(value) for value in piece_figures(piece_of(Score(480))).values())


def test_a_piece_is_cut_after_its_first_onset_and_notes_with_it() -> None:
    piece = cut(tune(A, A, B, A, tempo=120), 5)
    assert piece.notes.onset_s.max() < 5
    assert piece.notes.end_s.max() == pytest.approx(5)
    assert piece.notes.end_q.max() == pytest.approx(10)
    assert piece.starts.tolist() == [0, 4, 8, 12]
    assert piece.seconds == pytest.approx(5)


def test_on_the_grid_small_deviations_are_gone() -> None:
    straight = tune(A, B)
    rng = np.random.default_rng(0)
    bent = [
        (float(onset + rng.uniform(0, 0.03)), float(end - onset), int(pitch))
        for onset, end, pitch in zip(straight.notes.onset_q, straight.notes.end_q, straight.notes.pitch, strict=True)
    ]
    assert np.allclose(on_grid(piece_of(score_of(bent))).notes.onset_q, straight.notes.onset_q)


def test_means_are_of_the_pieces_that_have_the_figure() -> None:
    found = set_figures([{"step": 0.2, "leap": float("nan")}, {"step": 0.4}], Bootstrap(200), "q_", ("step", "leap"))
    assert found["q_step"] == pytest.approx(0.3)
    assert found["q_step_low"] <= 0.3 <= found["q_step_high"]
    assert "q_leap" not in found
    assert set_figures([{"step": 0.2}, {"leap": 0.5}], names=("step",))["step_n"] == 1


def test_a_piece_without_a_note_on_a_beat_has_no_cadence() -> None:
    figures = piece_figures(piece_of(score_of([(i + 0.5, 0.25, 60 + i) for i in range(12)])))
    assert figures["cadences"] == 0
    assert np.isnan(figures["cadence_share"])
