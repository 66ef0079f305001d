"""The listening table (benchmarks/listening.py): what it measures in music whose notes are known."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from symusic import Note, Score, Tempo, Track

from huesong.compose.piece import Piece
from huesong.model.requests import Request
from huesong.music.form.analysis import analyse
from tests.benchmark_modules import benchmark


@pytest.fixture(scope="module")
def listening() -> ModuleType:
    return benchmark("listening")


def piece(pitches: list[int], velocity: int, arousal: float = -0.5) -> Piece:
    """Quarter notes at 120 a minute, two a second."""
    score = Score(480)
    score.tempos.append(Tempo(0, 120))
    track = Track()
    for place, pitch in enumerate(pitches):
        track.notes.append(Note(480 * place, 480, pitch, velocity))
    score.tracks.append(track)
    plan, midi = analyse(score), bytes(score.dumps_midi())
    return Piece(
        midi, score, plan, (0.5, arousal), None, (0.25, -0.75), (0.0, 0.0), None, Request(None, 0.5, arousal), "a model"
    )  # fmt: skip


def test_a_scale_is_measured(listening: ModuleType, tmp_path: Path) -> None:
    c_major = [60, 62, 64, 65, 67, 69, 71, 72, 67, 60]
    found = listening.measured(piece(c_major, 90), 5.0, tmp_path / "loud.wav")
    assert found["rate"] == 2.0
    assert found["tempo"] == 120
    assert found["velocity"] == 90
    assert found["major"] == 1
    assert found["in_scale"] == 1
    assert found["pitch"] == pytest.approx(65.7)
    assert found["loudness"] == pytest.approx(-25.5, abs=0.2)
    excited = listening.measured(piece(c_major, 90, arousal=1.0), 5.0, tmp_path / "excited.wav")
    assert excited["loudness"] == pytest.approx(-18.0, abs=0.2)


def test_a_row_names_mean_and_range(listening: ModuleType, tmp_path: Path) -> None:
    pieces = [piece([60, 62, 64, 67], 80), piece([60, 63, 67, 60], 100)]
    figures = [listening.measured(one, 2.0, tmp_path / "one.wav") for one in pieces]
    cells = listening.row("a corner", pieces, figures)
    assert cells[:5] == ["a corner", "+0.50, -0.50", "2.0", "120", "90 (80 to 100)"]
    assert cells[7] == "1 of 2"
    assert cells[-1] == "+0.25, -0.75"
    assert len(cells) == len(listening.HEAD)
