"""How often bars are found, and the weights they are found by, on a tiny collection of tunes in three metres."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huesong.experiments.bars import learning, measure
from huesong.experiments.bars.learning import events, excerpts, logit
from huesong.experiments.bars.scores import beat_f, bent, held_back, known_pieces
from huesong.metre import downbeats
from huesong.metre.align import align
from huesong.metre.downbeats import HYPOTHESES, weights
from huesong.music.reading import listen
from huesong.runtime.errors import UserError
from tests.console import huesong
from tests.played_tunes import Notes, tune, written

TUNES = {"pop909": (4, 4), "asap_scores": (3, 4), "mozart": (6, 8), "nottingham": (4, 4)}
SHIFT = 2.5
"""Quarters by which the songs' files are late, as POP909's are."""


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def with_sixteenths(notes: Notes, metre: tuple[int, int]) -> Notes:
    """A short note leads to the first of every other bar."""
    bar = 4 * metre[0] / metre[1]
    return sorted([*notes, *((2 * number * bar - 0.25, 0.25, 71, 60) for number in range(1, 16))])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each set two tunes that are held back, two that are learnt from, and one that `val` keeps from it."""
    folder = tmp_path_factory.mktemp("collection")
    rows: dict[str, list[dict[str, Any]]] = {"music_unlabelled": [], "music_annotated": []}
    songs = []
    for name, metre in TUNES.items():
        for number, (held, split) in enumerate([(True, "train")] * 2 + [(False, "train")] * 2 + [(False, "val")]):
            key = next(key for i in count() if held_back(key := f"{name}_{number}_{i}") == held)
            late = SHIFT if name == "pop909" else 0
            score = written(
                with_sixteenths(tune(metre, number), metre), None if name == "pop909" else metre, later=late
            )
            score.dump_midi(folder / f"{key}.mid")
            of = "music_annotated" if name == "mozart" else "music_unlabelled"
            rows[of].append({"id": key, "set": name, "path": f"{key}.mid", "split": split})
            if name == "pop909":
                songs.append({"id": key, "first_barline_quarters": SHIFT, "quarters_per_bar": 4, "match_share": 1})
    for of, listed in rows.items():
        table(folder / of / "index.csv", listed)
    chords = [{"id": song["id"], "start_quarters": SHIFT + 4 * bar} for song in songs for bar in range(32)]
    table(folder / "music_unlabelled/pop909_structure/songs.csv", songs)
    table(folder / "music_unlabelled/pop909_structure/chords.csv", chords)
    return folder


@pytest.fixture
def own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package's weights, in use instead of them."""
    file = tmp_path / "weights.json"
    file.write_text(downbeats.WEIGHTS.read_text())
    monkeypatch.setattr(downbeats, "WEIGHTS", file)
    weights.cache_clear()
    yield file
    monkeypatch.undo()
    weights.cache_clear()


def rows(text: str, head: str) -> dict[str, list[str]]:
    """The cells of the rows of the part under a heading, by their first cell."""
    part = text.split(f"## {head}", 1)[1].split("\n## ", 1)[0]
    found = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| ")
    ]
    return {cells[0]: cells[1:] for cells in found}


@pytest.mark.slow
def test_the_command_writes_how_often_bars_are_found(data: Path, tmp_path: Path) -> None:
    report = tmp_path / "bars.md"
    report.write_text("before\n<!-- bars -->\n<!-- /bars -->\nafter\n")
    done = huesong("experiment", "bars", data, "--most", 1, "--report", report)
    assert done.returncode == 0, done.stderr
    text = report.read_text()
    assert text.startswith("before")
    assert text.endswith("after\n")
    kept = rows(text, "Scores as they are")
    assert {name: cells[1].split()[0] for name, cells in kept.items() if name in TUNES} == {
        "asap_scores": "1", "mozart": "1", "nottingham": "1",
    }  # fmt: skip
    song = rows(text, "POP909")
    assert song["bar lines where the annotation has them"][0].split()[0] == "1"
    assert song["chord changes on bar lines or half bars, bars as annotated"][0].split()[0] == "1"
    bent_pieces = rows(text, "Scores bent")
    assert bent_pieces["all"][0] == "4"
    assert float(bent_pieces["all"][1].split()[0]) > 0.7


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    done = huesong("experiment", "bars", tmp_path)
    assert done.returncode == 2
    assert "holds none of music_unlabelled/index.csv" in done.stderr


def test_only_pieces_that_are_not_held_back_and_may_be_passed_on_are_learnt_from(data: Path) -> None:
    learnt = {piece.id for piece in known_pieces(data, list(learning.SOURCES), None, 0, learnt=True)}
    measured = {piece.id for piece in known_pieces(data, list(TUNES), None, 0)}
    assert len(learnt) == 6  # of three sets two, those of split val left out
    assert not learnt & measured
    assert not any(name.startswith("nottingham") for name in learnt)
    assert not any("_4_" in name for name in learnt)


@pytest.mark.slow
def test_weights_are_learnt_by_which_bars_are_found(data: Path, own_weights: Path) -> None:
    assert learning.learn(data) == own_weights
    content = json.loads(own_weights.read_text())
    assert {source["licence"] for source in content["sources"]} == {"MIT", "CC BY-NC-SA 4.0"}
    assert np.array(content["mark"]).shape == (3, 10)
    assert sum(content["share"]) == pytest.approx(1, abs=0.002)
    for piece in known_pieces(data, ["pop909", "asap_scores", "mozart"], 2, 0):
        assert measure.right(align(piece.score), piece.bars) == (True, True), piece.id
        score, _, _ = bent(piece, 0)
        assert align(score).bars.source == "tracked"


def test_an_error_leaves_the_weights_as_they_were(
    data: Path, own_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = own_weights.read_text()

    def broken(*_: object) -> None:
        assert json.loads(own_weights.read_text())["choice"] == [0.0] * 18
        raise RuntimeError("in the midst")

    monkeypatch.setattr(learning, "choice", broken)
    with pytest.raises(RuntimeError, match="midst"):
        learning.learn(data)
    assert own_weights.read_text() == before


def test_excerpts_know_their_first_bar_line(data: Path) -> None:
    piece = next(known_pieces(data, ["asap_scores"], 1, 0))
    found = list(excerpts(piece, np.random.default_rng(0)))
    steps = round(piece.notes.onset.max() / piece.score.tpq * 4) + 1
    assert len(found) == sum(min(most, steps // width) for width, most in learning.WINDOWS.items())
    assert {HYPOTHESES[true][0] for _, true in found} == {(3, 4)}
    # The true hypothesis is the one under which chords change on downbeats most: there is its greatest "harmony 16".
    of_metre = [i for i, (metre, _) in enumerate(HYPOTHESES) if metre == (3, 4)]
    assert all(max(of_metre, key=lambda i: seen[i, 8] + seen[i, 9]) == true for seen, true in found)


def test_events_a_beat_are_counted(data: Path) -> None:
    found = events([piece for piece in known_pieces(data, ["mozart", "asap_scores"], None, 0, learnt=True)])
    assert found["compound"][0] == 1.0  # each has a bass note
    assert found["compound"][3:5] == [0.0, 0.0]  # sixteenths lead to every other bar, of two beats each
    assert found["compound"][5] == pytest.approx(15 / 64, abs=0.01)
    assert found["simple"][0] > 0.95
    assert 0 < found["simple"][1] < 0.5


def test_logit_finds_the_weights_that_made_the_choices() -> None:
    rng = np.random.default_rng(0)
    seen, true = rng.normal(size=(4000, 5, 3)), np.array([1.0, -2.0, 0.0])
    chosen = (seen @ true + rng.gumbel(size=(4000, 5))).argmax(axis=1)
    assert logit(seen, np.eye(5)[chosen], np.ones(4000), 1e-6) == pytest.approx(true, abs=0.12)


def test_bent_scores_know_their_beats(data: Path) -> None:
    piece = next(known_pieces(data, ["pop909"], 1, 0))
    score, beats, lines = bent(piece, 0)
    onsets = listen(score).onset_s
    near = np.abs(beats[:, None] - onsets).min(axis=1)
    assert np.median(near) < 0.015
    assert np.isin(lines, beats).all()
    assert np.diff(beats).std() / np.diff(beats).mean() > 0.015
    assert beat_f(beats, beats + 0.05, onsets) == 1
    assert beat_f(beats, beats + 0.1, onsets) < 0.2


def test_without_mir_eval_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mir_eval", None)
    with pytest.raises(UserError, match="dev"):
        beat_f(np.arange(3.0), np.arange(3.0), np.arange(3.0))


def test_too_few_pieces_are_refused(data: Path) -> None:
    songs = list(known_pieces(data, ["pop909"], None, 0, learnt=True))
    with pytest.raises(UserError, match="compound beats"):
        events(songs)
