"""Tunes in the form A A B A with an accompaniment, in any metre, as a score says them or as somebody might play them."""

from __future__ import annotations

import numpy as np
from symusic import Note, Score, Tempo, TimeSignature, Track

CHORDS = {"A": (0, 5, 7, 0, 9, 5, 7, 0), "B": (9, 4, 5, 7, 2, 9, 5, 7)}
"""Roots of the eight bars of each part, in C."""
RHYTHMS = {
    (4, 4): ((0, 1, 1.5, 2, 3), (0, 1.5, 2, 2.5, 3, 3.5), (0, 1, 2, 3), (0, 2)),
    (3, 4): ((0, 1, 2), (0, 2), (0, 1, 1.5, 2), (0,)),
    (6, 8): ((0, 1, 1.5, 2.5), (0, 0.5, 1, 1.5, 2, 2.5), (0, 1, 1.5, 2, 2.5), (0, 1.5)),
}
BASS = {(4, 4): (0, 2), (3, 4): (0,), (6, 8): (0, 1.5)}
CHORD = {(4, 4): (1, 3), (3, 4): (1, 2), (6, 8): (0.5, 1, 2, 2.5)}

Notes = list[tuple[float, float, int, int]]
"""Onset, length (quarters), pitch, velocity."""


def tune(metre: tuple[int, int], seed: int = 0, upbeat: bool = False, form: str = "AABA") -> Notes:
    """Thirty-two bars from quarter 0 on (an upbeat lies before it): a melody over bass and chords."""
    bar = 4 * metre[0] / metre[1]
    parts = {}
    for name, roots in CHORDS.items():
        rng = np.random.default_rng([seed, ord(name)])
        parts[name] = [_bar(metre, root, bar, rng, index) for index, root in enumerate(roots)]
    notes = [
        (bar * i + at, length, pitch, loud)
        for i, one in enumerate(one for part in form for one in parts[part])
        for at, length, pitch, loud in one
    ]
    if upbeat:
        notes += [(-0.5, 0.5, 67, 70)] if metre[1] == 8 else [(-1.0, 1.0, 67, 70)]
    return sorted(notes)


def _bar(metre: tuple[int, int], root: int, bar: float, rng: np.random.Generator, index: int) -> Notes:
    rhythm = RHYTHMS[metre][3 if index % 4 == 3 else int(rng.integers(3))]
    notes: Notes = []
    for at, until in zip(rhythm, (*rhythm[1:], bar), strict=True):
        scale = np.array([0, 4, 7, 12]) if at in (0, *BASS[metre]) else np.array([0, 2, 4, 5, 7, 9, 11])
        pitch = 60 + (root if at in (0, *BASS[metre]) else 0) % 12 + int(rng.choice(scale))
        notes.append((at, until - at, pitch, 84))
    notes += [(at, bar / len(BASS[metre]), 36 + root % 12, 76) for at in BASS[metre]]
    for at in CHORD[metre]:
        notes += [(at, 0.4, 48 + (root + step) % 12, 60) for step in (4, 7)]
    return notes


def written(
    notes: Notes, metre: tuple[int, int] | None, tempo: float = 100.0, later: float = 0.0, tpq: int = 480
) -> Score:
    """A score of the notes, `later` quarters after tick 0; melody and accompaniment are two tracks."""
    score = Score(tpq)
    score.tempos.append(Tempo(0, tempo))
    if metre:
        score.time_signatures.append(TimeSignature(0, *metre))
    tracks = Track("right"), Track("left")
    for onset, length, pitch, loud in notes:
        tracks[pitch < 60].notes.append(Note(round((onset + later) * tpq), max(1, round(length * tpq)), pitch, loud))
    score.tracks.extend(tracks)
    return score


def played(
    notes: Notes, tempo: float, seed: int = 0, bend: float = 0.08, scatter_s: float = 0.008
) -> tuple[Score, np.ndarray]:
    """The notes as a transcription of a performance at a nominal 120: the score, and the seconds of quarters 0, 1, 2 ...

    The tempo swells in arcs of eight quarters and drifts, by about `bend` (log); onsets scatter by `scatter_s`.
    """
    rng = np.random.default_rng(seed)
    first = min(note[0] for note in notes)
    quarters = np.arange(first, max(on + length for on, length, _, _ in notes) + 1.25, 0.25)
    drift = np.convolve(rng.normal(size=len(quarters) + 63), np.ones(64) / 8, "valid")
    qpm = tempo * np.exp(bend * (0.5 * drift - np.cos(2 * np.pi * quarters / 8)))
    seconds = 1.0 + np.concatenate(([0.0], np.cumsum(0.25 * 60 / qpm)))[:-1]

    def when(quarter: float) -> float:
        return float(np.interp(quarter, quarters, seconds))

    out = [
        (2 * (when(on) + float(rng.normal()) * scatter_s), 2 * (when(on + length) - when(on)), pitch, loud)
        for on, length, pitch, loud in notes
    ]
    whole = np.arange(np.ceil(first), quarters[-1])
    return written(out, None, 120.0), np.interp(whole, quarters, seconds)
