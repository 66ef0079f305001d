"""A cadence that the plan says is heard: its chord on the beat, the root in the bass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from huesong.music import tokens
from huesong.music.form import header
from huesong.music.form.heads import Arrival, arrival_of
from huesong.music.form.plan import QUALITIES
from huesong.music.reading import listen
from tests.tiny_music import grammar, planned, tokenizer, walk

CHORDS = {2: [(0, 7, "7")], 4: [(0, 4, "maj"), (2, 9, "min")], 6: [(0, 8, "maj7")]}
"""Of bars with a cadence, counted from 1."""


def head(bar: int, cadence: str = "authentic") -> tuple[str, ...]:
    return tuple(
        header.head(
            left=1, relation="new", back=0, density=0.3, loudness=0.6, chords=CHORDS.get(bar, [(0, 0, "maj")]),
            cadence=cadence if bar in CHORDS else "",
        )
    )  # fmt: skip


@pytest.mark.parametrize("habit", ["any", "Pitch", "Position", "Bar"])
@pytest.mark.parametrize("metre", [(4, 4), (3, 4), (6, 8)])
def test_a_cadence_arrives_on_its_chord_and_root(habit: str, metre: tuple[int, int]) -> None:
    crowd = {
        "notes_per_bar": 10**6,
        "polyphony": 10**6,
        "notes_per_second": 1e9,
        "high_notes": 10**6,
    }  # it gives way to caps
    asked = dataclasses.replace(planned(8, metre, **crowd), heads=tuple(head(bar) for bar in range(1, 9)))
    struck = 0
    for seed in range(8):
        ids, _ = walk(grammar(), asked, seed, habit)
        notes = listen(tokens.decode(tokenizer(), ids, asked.tempo))
        for bar, chords in CHORDS.items():
            beat, root, quality = chords[-1]
            at = ((bar - 1) * metre[0] + beat) * 4 / metre[1]
            pitches = notes.pitch[np.abs(notes.onset_q - at) < 1e-6]
            assert len(pitches) or beat, "the bar line is not passed over"
            if len(pitches):
                struck += 1
                assert pitches.min() % 12 == root
                assert {int(pitch - root) % 12 for pitch in pitches} <= set(QUALITIES[quality])
    assert struck >= 2 * 8


def test_bars_without_a_cadence_are_free() -> None:
    asked = dataclasses.replace(planned(8), heads=tuple(head(bar, cadence="") for bar in range(1, 9)))
    found = set()
    for seed in range(4):
        ids, _ = walk(grammar(), asked, seed, "Pitch")
        notes = listen(tokens.decode(tokenizer(), ids, asked.tempo))
        found |= {int(pitch) % 12 for pitch in notes.pitch[(notes.onset_q % 4 == 0) & (notes.onset_q < 28)]}
    assert len(found) > 6


def test_where_a_bar_arrives() -> None:
    assert arrival_of(head(4), 8) == Arrival(16, 9, "min")
    assert arrival_of(head(1), 8) is None, "no cadence"
    silent = header.head(left=1, relation="new", back=0, density=0, loudness=0, chords=[(0, 0, "N")], cadence="half")
    assert arrival_of(silent, 8) is None, "no chord"
