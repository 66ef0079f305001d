"""Sheet music: the notes of the piece, in bars that add up, spelled for its key; read back by another library."""

from __future__ import annotations

import io
import os
import re
import xml.etree.ElementTree as ElementTree
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import partitura
import pypdfium2
import pytest
from symusic import ControlChange, Note, Pedal, Score, Tempo, TimeSignature, Track

from huesong.music.form.plan import BarPlan, Chord, Plan
from huesong.music.form.planner import Settings, invent
from huesong.runtime.errors import UserError
from huesong.score import drawing, sheet
from huesong.score.hands import REACH, right_hand
from huesong.score.writing import Event, bar_units, fifths_of, in_bars, quantised, spelled, voices_of

NOTES = np.random.default_rng


def piece(metre: tuple[int, int], bars: int, seed: int, tonic: int = 0, major: bool = True) -> tuple[Score, Plan]:
    """Notes by chance on the model's grid (a twelfth of a quarter), chords in the left and right, a pedal a bar."""
    plan = invent(0.3, 0.3, 20.0, seed, Settings(metre=metre, key=(tonic, major), bars=bars))
    random, units = NOTES(seed), bar_units(metre)
    score = Score(480)
    score.tempos.append(Tempo(0, plan.tempo))
    score.time_signatures.append(TimeSignature(0, *metre))
    track = Track(program=0)
    last = units * len(plan.bars)
    for start in range(0, last, 3):
        for low, high in ((36, 58), (62, 84)):
            if random.random() < 0.3:
                length = int(random.choice([2, 3, 6, 7, 12, 24, 30, 60]))
                for pitch in random.choice(np.arange(low, high), size=random.integers(1, 3), replace=False):
                    duration = max(1, min(length, last - start))
                    track.notes.append(Note(start * 40, duration * 40, int(pitch), int(random.integers(30, 110))))
    for bar in range(len(plan.bars)):
        track.controls.append(ControlChange(bar * units * 40 + 30, 64, 127))
        track.controls.append(ControlChange((bar + 1) * units * 40 - 30, 64, 0))
    score.tracks.append(track)
    return Score.from_midi(score.dumps_midi()), plan


@pytest.mark.parametrize(
    ("metre", "seed", "tonic", "major"),
    [((4, 4), 1, 0, True), ((3, 4), 2, 6, False), ((6, 8), 3, 10, False), ((2, 4), 4, 8, True)],
)
def test_another_library_reads_the_same_notes(
    metre: tuple[int, int], seed: int, tonic: int, major: bool, tmp_path: Path
) -> None:
    notes, plan = piece(metre, 6, seed, tonic, major)
    path = drawing.Score(notes, plan, "By chance").save(tmp_path / "score.musicxml")
    [part] = partitura.load_score(str(path)).parts
    rows = part.note_array(include_pitch_spelling=True, include_staff=True)
    own = {(note.time / 480, note.pitch) for note in notes.tracks[0].notes}
    assert {(round(float(row["onset_quarter"]), 4), int(row["pitch"])) for row in rows} == own
    assert set(rows["staff"].tolist()) == {1, 2}
    measures = list(part.iter_all(partitura.score.Measure))
    quarter = part.quarter_duration_map(0)
    assert len(measures) == len(plan.bars)
    assert {(bar.end.t - bar.start.t) / quarter for bar in measures} == {4 * metre[0] / metre[1]}
    [signature] = part.iter_all(partitura.score.KeySignature)
    assert signature.fifths == fifths_of(tonic, major)
    [time] = part.iter_all(partitura.score.TimeSignature)
    assert (time.beats, time.beat_type) == metre


def test_every_voice_fills_its_bar_and_every_tie_ends() -> None:
    notes, plan = piece((4, 4), 8, 5)
    root = ElementTree.fromstring(drawing.Score(notes, plan).musicxml())
    divisions = int(root.findtext("part/measure/attributes/divisions", ""))
    left_open: set[tuple[str, str]] = set()
    for measure in root.findall("part/measure"):
        filled: dict[tuple[str, str], int] = {}
        for note in measure.findall("note"):
            place = (note.findtext("staff", ""), note.findtext("voice", ""))
            filled.setdefault(place, 0)
            if note.find("chord") is None:
                filled[place] += int(note.findtext("duration", ""))
            pitch = "".join(note.findtext(f"pitch/{tag}", "") for tag in ("step", "alter", "octave"))
            for tie in note.findall("tie"):
                (left_open.remove if tie.get("type") == "stop" else left_open.add)((place[0], pitch))
        assert set(filled.values()) == {4 * divisions}
    assert left_open == set()


def test_what_stands_around_the_notes() -> None:
    notes, plan = piece((6, 8), 4, 7, 9, False)
    text = drawing.Score(notes, plan, "A & B").musicxml()
    root = ElementTree.fromstring(text)
    assert root.findtext("movement-title") == "A & B"
    assert [clef.findtext("sign") for clef in root.iter("clef")] == ["G", "F"]
    assert (root.findtext(".//beat-unit"), root.find(".//beat-unit-dot") is not None) == ("quarter", True)
    assert root.findtext(".//per-minute") == str(round(plan.tempo / 1.5))
    assert root.find(".//dynamics") is not None
    pedals = [pedal.get("type") for pedal in root.iter("pedal")]
    assert pedals == ["start", "stop"] * len(plan.bars)
    assert text == drawing.Score(notes, plan, "A & B").musicxml(), "the same text for the same piece"
    assert not re.findall("[\ue000-\uf8ff]", "".join(drawing.Score(notes, plan).svg())), "no text needs a music font"
    spans = [(down, down + 24) for down in (0, 48)] + [(96, 102)]
    for track in notes.tracks:
        track.pedals = [Pedal(down * 40, (up - down) * 40) for down, up in spans]
    assert sheet.sheet_of(notes, plan).pedals == tuple(spans[:2]), "a touch of the pedal is not written"


@pytest.mark.skipif(
    find_library("cairo") is None and "CI" not in os.environ, reason="a PDF needs the system's libcairo2"
)
def test_the_pages_are_drawn(tmp_path: Path) -> None:
    notes, plan = piece((4, 4), 40, 9)
    score = drawing.Score(notes, plan, "Long")
    pages = score.svg()
    assert len(pages) > 1
    assert all(page.count('class="staff"') >= 2 for page in pages)
    assert sum(page.count('class="measure"') for page in pages) == len(plan.bars)
    assert not re.search("[\ue000-\uf8ff]", "".join(re.sub(r"&#x.*?;", "", page) for page in pages)), (
        "signs of no usual font"
    )
    document = pypdfium2.PdfDocument(score.save(tmp_path / "score.pdf"))
    assert len(document) == len(pages)
    width, height = document[0].get_size()
    assert (width, height) == pytest.approx((630, 891), abs=40), "upright, of A4's shape"
    shown = np.asarray(document[0].render(scale=1).to_pil().convert("L"))
    assert 0.01 < (shown < 128).mean() < 0.3
    score.save(tmp_path / "score.svg")
    assert (tmp_path / "score-2.svg").is_file()
    with pytest.raises(UserError, match=r"score\.doc: no such score is written: end the name in \.musicxml"):
        score.save(tmp_path / "score.doc")


def test_without_the_packages_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    notes, plan = piece((4, 4), 1, 9)
    monkeypatch.setitem(__import__("sys").modules, "music21", None)
    with pytest.raises(UserError, match=re.escape("pip install 'huesong[score]'")):
        drawing.Score(notes, plan).pdf()


@pytest.mark.parametrize("seed", range(5))
def test_hands_do_not_reach_too_far(seed: int) -> None:
    random = NOTES(seed)
    onset = np.sort(random.integers(0, 64, 200))
    pitch = np.where(random.random(200) < 0.5, random.integers(40, 52, 200), random.integers(66, 78, 200))
    right = right_hand(onset, pitch)
    for time in np.unique(onset):
        for hand in (right, ~right):
            held = pitch[(onset == time) & hand]
            assert len(held) == 0 or held.max() - held.min() <= REACH
    assert (right == (pitch > 58)).all()
    assert len(right_hand(np.zeros(0), np.zeros(0))) == 0


@pytest.mark.parametrize(
    ("pitch", "key", "name"),
    [
        (68, (9, False), ("G", 1, 4)), (68, (3, True), ("A", -1, 4)), (70, (10, False), ("B", -1, 4)),
        (69, (10, False), ("A", 0, 4)), (66, (7, True), ("F", 1, 4)), (61, (2, False), ("C", 1, 4)),
        (61, (7, False), ("C", 1, 4)), (60, (1, False), ("B", 1, 3)), (59, (11, True), ("B", 0, 3)), (66, (6, True), ("F", 1, 4)),
    ],
)  # fmt: skip
def test_notes_are_spelled_for_their_key(pitch: int, key: tuple[int, bool], name: tuple[str, int, int]) -> None:
    """G sharp leads to A in A minor, but is A flat in E flat major."""
    assert spelled(pitch, fifths_of(*key), key[1]) == name


@pytest.mark.parametrize("major", [True, False])
def test_no_accidental_stands_before_what_the_signature_says(major: bool) -> None:
    """In every key its scale has none; another note has one, which holds to the end of the bar."""
    steps = (0, 2, 4, 5, 7, 9, 11) if major else (0, 2, 3, 5, 7, 8, 10)
    bar = BarPlan((4, 4), "new", 0, "A", 1, "", (Chord(0.0, 0, "maj"),))
    for tonic in range(12):
        score = Score(480)
        score.tracks.append(Track(program=0))
        foreign = tonic + 6
        for index, step in enumerate([*(tonic + step for step in steps), foreign, foreign, foreign]):
            score.tracks[0].notes.append(Note(index * 240, 240, 60 + step, 60))
        plan = Plan(tonic, "major" if major else "minor", 100.0, (bar,) * 2, (0.5,) * 2, (0.5,) * 2)
        notes = list(ElementTree.fromstring(drawing.Score(score, plan).musicxml()).iter("note"))
        shown = [note.find("accidental") is not None for note in notes if note.find("rest") is None]
        assert shown == [False] * 7 + [True, True, False], (
            tonic
        )  # the bar line falls between the first two of the foreign ones


def test_signatures() -> None:
    assert [fifths_of(tonic, True) for tonic in (0, 7, 2, 5, 10, 6, 1)] == [0, 1, 2, -1, -2, 6, -5]
    assert [fifths_of(tonic, False) for tonic in (9, 4, 6, 2, 10, 3)] == [0, 1, 3, -1, -5, 6]


def test_a_beat_is_of_sixteenths_or_of_triplets() -> None:
    onset = np.array([0, 1 / 3, 2 / 3, 1, 1.25, 1.5, 2.02, 2.27])
    assert quantised(onset, True).tolist() == [0, 4, 8, 12, 15, 18, 24, 27]
    assert quantised(onset, False).tolist() == [0, 3, 9, 12, 15, 18, 24, 27], "in 6/8 beats are divided by three anyway"


def test_values_that_have_a_sign() -> None:
    def cut(*events: Event, metre: tuple[int, int] = (4, 4)) -> list[tuple[int, int]]:
        [bar] = in_bars(list(events), [0], [metre])
        return [(event.end - event.start, len(event.pitches)) for event in bar]

    assert cut() == [(48, 0)]
    assert cut(Event(0, 48, (60,))) == [(48, 1)]
    assert cut(Event(0, 30, (60,))) == [(24, 1), (6, 1), (6, 0), (12, 0)]
    assert cut(Event(6, 18, (60,)), Event(18, 48, (62,))) == [(6, 0), (12, 1), (6, 1), (24, 1)]
    assert cut(Event(0, 4, (60,)), Event(4, 8, (62,)), Event(8, 12, (64,)), metre=(2, 4)) == [(4, 1)] * 3 + [(12, 0)]
    assert cut(Event(0, 18, (60,)), Event(18, 36, (60,)), metre=(6, 8)) == [(18, 1), (18, 1)]


def test_a_held_note_has_a_voice_of_its_own() -> None:
    rows = np.array([[0, 48, 40, 60], [0, 12, 52, 60], [12, 24, 55, 60], [24, 36, 52, 60], [36, 48, 55, 60]])
    moving, held = voices_of(rows)
    assert [(event.start, event.end) for event in held] == [(0, 48)]
    assert [event.pitches for event in moving] == [(52,), (55,), (52,), (55,)]
    moving, held = voices_of(rows[1:])
    assert held == []


def test_a_brief_note_on_an_eighth_is_an_eighth_with_a_dot() -> None:
    rows = np.array([[0, 3, 60, 60], [12, 15, 60, 60], [24, 30, 60, 60], [39, 42, 60, 60]])
    moving, _ = voices_of(rows)
    assert [(event.start, event.end, event.short) for event in moving] == [
        (0, 6, True), (12, 18, True), (24, 30, False), (39, 42, False),
    ]  # fmt: skip


def test_a_tempo_is_written_where_it_changes() -> None:
    """As in the music of a video, each of whose scenes has a tempo of its own; a change that is not seen in writing is none."""
    notes, plan = piece((4, 4), 6, 3)
    bar = 4 * notes.tpq
    notes.tempos = [Tempo(0, 84.0), Tempo(2 * bar, 112.6), Tempo(3 * bar, 113.2), Tempo(5 * bar, 60.0)]
    notes = Score.from_midi(notes.dumps_midi())
    root = ElementTree.fromstring(drawing.Score(notes, plan).musicxml())
    marks = {
        measure.get("number"): [mark.text for mark in measure.iter("per-minute")]
        for measure in root.findall("part/measure")
    }
    assert marks == {"1": ["84"], "2": [], "3": ["113"], "4": [], "5": [], "6": ["60"]}
    assert [sound.get("tempo") for sound in root.iter("sound") if sound.get("tempo")] == ["84", "113", "60"]
    [first] = sheet.sheet_of(piece((4, 4), 6, 3)[0], plan).tempos
    assert first == (0, plan.tempo)


def test_dynamics_change_with_the_phrases() -> None:
    bar = BarPlan((4, 4), "new", 0, "A", 1, "", (Chord(0.0, 0, "maj"),))
    plan = Plan(0, "major", 100.0, (bar,) * 3, (0.5,) * 3, (0.5,) * 3)
    score = Score(480)
    score.tracks.append(Track(program=0))
    for index, velocity in enumerate((40, 42, 100)):
        score.tracks[0].notes.append(Note(index * 1920, 1920, 60, velocity))
    assert sheet.sheet_of(score, plan).dynamics == ((0, "p"), (2, "ff"))
    assert io.BytesIO(drawing.Score(score, plan).musicxml().encode()).read(5) == b"<?xml"
