"""A tune of sixteen bars over held chords, whose bars, chords, phrases and cadences are known by construction."""

from __future__ import annotations

from collections.abc import Sequence

from symusic import Note, Score, Tempo, TimeSignature, Track

TRIADS = {"C": (0, 4, 7), "F": (5, 9, 0), "G": (7, 11, 2), "G7": (7, 11, 2, 5), "Am": (9, 0, 4), "Dm": (2, 5, 9)}
Tune = Sequence[tuple[float, float, int]]
"""Onset in the bar, length (both quarters), pitch."""


def piece(
    bars: Sequence[tuple[Tune, Sequence[str]]], metre: tuple[int, int] = (4, 4), tempo: float = 100, velocity: int = 80
) -> Score:
    """A melody over held chords, each of which lasts its equal share of the bar."""
    score = Score(480)
    score.tempos.append(Tempo(0, tempo))
    score.time_signatures.append(TimeSignature(0, *metre))
    track = Track()
    length = 4 * metre[0] / metre[1]
    for number, (tune, chords) in enumerate(bars):
        start = number * length
        for onset, lasts, pitch in tune:
            track.notes.append(Note(round(480 * (start + onset)), round(480 * lasts), pitch, velocity))
        for index, name in enumerate(chords):
            share = length / len(chords)
            for step, tone in enumerate(TRIADS[name]):
                pitch = 36 + tone if step == 0 else 48 + tone
                track.notes.append(Note(round(480 * (start + index * share)), round(480 * share), pitch, velocity - 20))
    score.tracks.append(track)
    return score


def quarters(*pitches: int, last: float = 1) -> Tune:
    """A note a quarter, the last one of length `last`."""
    return [(i, last if i == len(pitches) - 1 else 1, pitch) for i, pitch in enumerate(pitches)]


A1: list[tuple[Tune, Sequence[str]]] = [
    (quarters(76, 74, 72, 74), ["C"]), (quarters(76, 76, 76, last=2), ["C"]),
    (quarters(74, 74, 74, last=2), ["G"]), ([(0, 1, 76), (1, 1, 79), (2, 2, 79)], ["C"]),
    (quarters(76, 74, 72, 74), ["C"]), (quarters(77, 77, 81, 77), ["F"]),
    (quarters(74, 74, 76, 74), ["Dm", "G7"]), ([(0, 4, 72)], ["C"]),
]  # fmt: skip
B1: list[tuple[Tune, Sequence[str]]] = [
    ([(0, 0.5, 81), (0.5, 0.5, 79), (1, 1, 77), (2, 2, 81)], ["F"]), ([(0, 1.5, 79), (1.5, 0.5, 76), (2, 2, 72)], ["C"]),
    ([(0, 0.5, 81), (0.5, 0.5, 79), (1, 1, 77), (2, 2, 81)], ["F"]), ([(0, 1.5, 79), (1.5, 0.5, 76), (2, 2, 72)], ["C"]),
    ([(0, 0.5, 77), (0.5, 0.5, 77), (1, 1, 81), (2, 2, 77)], ["Dm"]), ([(0, 1, 76), (1, 1, 81), (2, 2, 76)], ["Am"]),
    ([(0, 0.5, 78 - 1), (0.5, 0.5, 74), (1, 1, 77), (2, 2, 74)], ["Dm"]), ([(0, 4, 67)], ["G"]),
]  # fmt: skip
