"""Plans read from notes beside those of people: the command on a tiny annotated set, and how agreement is counted."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from huesong.experiments.structure import page
from huesong.experiments.structure.annotated import local_key, pieces, pop_chord, pop_key
from huesong.experiments.structure.habits import canonical
from huesong.experiments.structure.scoring import matched, pairs, score_piece, summarise
from huesong.music.form import statistics
from huesong.music.form.plan import Chord
from huesong.runtime.errors import UserError
from tests.console import huesong
from tests.tiny_tunes import A1, B1, TRIADS, piece

SHIFT = 2.5
"""Quarters by which the song's file is late, as POP909's are."""
FORM = [("A", 0, 8), ("A", 8, 8), ("B", 16, 8), ("A", 24, 8)]
"""Label, first bar, bars."""


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The same tune as a song of POP909 (late by a constant) and as an annotated score, in both splits."""
    bars = A1 + A1 + B1 + A1
    score = piece(bars)
    spans = [
        (4 * bar + 4 * index / len(chords), 4 * bar + 4 * (index + 1) / len(chords), name)
        for bar, (_, chords) in enumerate(bars)
        for index, name in enumerate(chords)
    ]
    songs, index, phrases, chords_, scores, harmony = [], [], [], [], [], []
    for split in ("train", "val"):
        name = f"pop909_{split}"
        late = score.shift_time(round(SHIFT * 480))
        late.dump_midi(tmp_path / f"{name}.mid")
        score.dump_midi(tmp_path / f"score_{split}.mid")
        index.append({"id": name, "path": f"{name}.mid", "split": split})
        songs.append(
            {"id": name, "first_barline_quarters": SHIFT, "quarters_per_bar": 4, "match_share": 1, "key": "C:maj"}
        )
        for annotator in (1, 2):
            phrases += [
                {"id": name, "annotator": annotator, "start_quarters": SHIFT + 4 * first,
                 "end_quarters": SHIFT + 4 * (first + count), "label": label}
                for label, first, count in FORM
            ]  # fmt: skip
        for start, end, chord in spans:
            kind = {"G7": "7", "Am": "min", "Dm": "min"}.get(chord, "maj")
            chords_.append({"id": name, "start_quarters": SHIFT + start, "end_quarters": SHIFT + end,
                            "chord": f"{chord[0]}:{kind}"})  # fmt: skip
            bar = int(start // 4)
            last = end == 4 * (bar + 1) and bar in (15, 23, 31)
            fifths = {"C": 0, "F": -1, "G": 1, "G7": 1, "Am": 3, "Dm": 2}[chord]
            harmony.append({
                "id": f"score_{split}", "start_quarters": start, "end_quarters": end, "globalkey": "C", "localkey": "I",
                "chord_type": {"7": "Mm7", "min": "m", "maj": "M"}[kind], "root_fifths": fifths,
                "cadence": {15: "PAC", 23: "HC", 31: "PAC"}[bar] if last else "", "phraseend": "}" if last else "",
            })  # fmt: skip
        scores.append({"id": f"score_{split}", "set": "mozart", "path": f"score_{split}.mid", "split": split})
    folder = tmp_path / "music_unlabelled"
    table(folder / "index.csv", index)
    table(folder / "pop909_structure" / "songs.csv", songs)
    table(folder / "pop909_structure" / "phrases.csv", phrases)
    table(folder / "pop909_structure" / "chords.csv", chords_)
    table(tmp_path / "music_annotated" / "index.csv", scores)
    table(tmp_path / "music_annotated" / "harmony.csv", harmony)
    return tmp_path


def test_the_command_writes_the_tables(data: Path, tmp_path: Path) -> None:
    report = tmp_path / "form.md"
    report.write_text("before\n<!-- form -->\n<!-- /form -->\nafter\n")
    done = huesong("experiment", "structure", data, "--report", report)
    assert done.returncode == 0, done.stderr
    text = report.read_text()
    assert text.startswith("before")
    figures = dict(
        (cells[1], cells[3].split()[0])
        for line in text.splitlines()
        if len(cells := line.replace("| ", "|").split("|")) > 4
    )
    figures = {name.strip(): value for name, value in figures.items()}
    assert figures["chord root"] == "1"
    assert figures["chord triad"] == "1"
    assert figures["key"] == "1"
    assert figures["letters: annotators"] == "1"
    assert float(figures["letters: annotator 1"]) > 0.6
    assert figures["kind, given the bar: authentic"] == "1"
    assert figures["kind, given the bar: half"] == "1"


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    done = huesong("experiment", "structure", tmp_path)
    assert done.returncode == 2
    assert "does not exist: give the folder that holds music_unlabelled and music_annotated" in done.stderr


def test_a_song_is_moved_onto_its_bar_lines(data: Path) -> None:
    song = next(pieces(data, "val"))
    assert min(note.time for note in song.score.tracks[0].notes) == 4 * 480
    assert song.chords[0].start == 4
    assert song.forms[0][0] == (4, 36, "A")


def test_statistics_are_learnt_and_planned_with(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "statistics.json"
    file.write_text(statistics.FILE.read_text())
    monkeypatch.setattr(statistics, "FILE", file)
    statistics.statistics.cache_clear()
    try:
        assert page.learn(data) == file
        learnt = json.loads(file.read_text())
    finally:
        monkeypatch.undo()
        statistics.statistics.cache_clear()
    major = learnt["habits"]["chords"]["pop major"]
    assert set(major["names"]) == {"0:maj", "5:maj", "7:maj", "7:7", "2:min", "9:min"}
    pair = [major["names"].index("7:7"), major["names"].index("0:maj")]
    # The dominant seventh goes to the tonic in all three A's.
    assert [count for *both, count in major["pairs"] if both == pair] == [3]
    # Two annotators agree.
    assert learnt["habits"]["forms"]["4"] == {"AABA": 1.0}
    assert len(learnt["phrases"]["weights"]) == len(statistics.statistics()["phrases"]["weights"])
    assert learnt["chord_sounds"]["maj"]["share"] > 0.5


def test_hits_are_counted_once() -> None:
    assert matched([4, 5, 12], [4, 8, 13], 1) == (2, 3, 3)
    assert matched([4, 5, 12], [4, 8, 13], 0) == (1, 3, 3)
    assert matched([], [1], 1) == (0, 0, 1)


def test_pairs_of_bars_with_one_letter() -> None:
    assert pairs("AABB", "AABB") == (2, 2, 2)
    assert pairs("AAAA", "AABB") == (2, 6, 2)
    assert pairs(["A", "A'", "B"], ["C", "C", ""]) == (1, 1, 1)


def test_names_of_annotators() -> None:
    assert pop_chord("Bb:min7/b7") == Chord(0.0, 10, "min7")
    assert pop_chord("C#:sus4(b7)") == Chord(0.0, 1, "sus4")
    assert pop_chord("N") is None
    assert pop_key("Gb:maj") == (6, True)
    assert local_key((0, True), "vi") == (9, False)
    assert local_key((0, True), "V/V") == (2, True)
    assert local_key((9, False), "III") == (0, True)
    assert local_key((0, True), "bVI") == (8, True)
    assert canonical(list("CCDC")) == "AABA"
    assert set(TRIADS) == {"C", "F", "G", "G7", "Am", "Dm"}


def test_a_missing_table_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give the folder"):
        list(pieces(tmp_path, "val"))


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get("HUESONG_REAL_DATA"), reason="HUESONG_REAL_DATA is not set")
def test_plans_of_real_pieces_agree_with_people_better_than_chance() -> None:
    data = Path(os.environ["HUESONG_REAL_DATA"])
    figures = summarise([score_piece(piece) for piece in pieces(data, "val", 20)], resamples=20)
    song = {name: figure.value for (group, name), figure in figures.items() if group == "POP909"}
    assert song["chord root"] > 0.8
    assert song["chord triad"] > song["chord triad, chance: the tonic"] + 0.3
    for within in (0, 1):
        found = song[f"boundaries within {within} bar: annotator 1"]
        assert found > song[f"boundaries within {within} bar: chance 4"] + 0.05
        assert found > song[f"boundaries within {within} bar: chance 8"] + 0.05
    assert song["letters: annotator 1"] > song["letters: chance 4"] + 0.1
