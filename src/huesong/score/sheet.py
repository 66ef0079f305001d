"""A piece as sheet music: MusicXML (music21 writes it), SVG and PDF (verovio draws it)."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from huesong.runtime.errors import UserError
from huesong.score.hands import right_hand
from huesong.score.writing import (
    LETTERS,
    UNITS,
    Bar,
    Event,
    bar_units,
    beat_units,
    fifths_of,
    in_bars,
    quantised,
    spelled,
    voices_of,
)

if TYPE_CHECKING:
    from symusic import Score as Notes

    from huesong.music.form.plan import Plan

DYNAMICS = ((36, "pp"), (48, "p"), (62, "mp"), (78, "mf"), (96, "f"), (128, "ff"))
"""Below which mean velocity of a phrase each is written."""
BRIEFEST_PEDAL = 9
"""Units of the shortest pedal that is written."""
INSTALL = "sheet music needs more packages: `pip install 'huesong[score]'`"
ONE_AT_A_TIME = threading.Lock()
"""music21 and verovio keep settings for the whole process."""


@dataclass(frozen=True)
class Sheet:
    """What is written down: the bars, and what stands above and below them.

    tonic, major: the key. tempos: (bar, quarters a minute) where another one begins, first of all bar 0. dynamics: (bar,
    mark). pedals: (down, up) in units.
    """

    title: str
    bars: tuple[Bar, ...]
    tonic: int
    major: bool
    tempos: tuple[tuple[int, float], ...]
    dynamics: tuple[tuple[int, str], ...]
    pedals: tuple[tuple[int, int], ...]


def sheet_of(notes: Notes, plan: Plan, title: str = "") -> Sheet:
    """Write a piece down. `notes`: as composed (not humanized), whose bars are those of `plan`."""
    rows = _rows(notes, plan)
    is_right = right_hand(rows[:, 0], rows[:, 2])
    metres = [(4, 4) if bar.metre == (2, 2) else bar.metre for bar in plan.bars]
    starts = np.cumsum([0, *map(bar_units, metres)]).tolist()[:-1]
    hands = []
    for hand in (rows[~is_right], rows[is_right]):
        moving, held = voices_of(hand)
        hands.append((in_bars(moving, starts, metres), in_bars(held, starts, metres)))
    bars = [
        Bar(start, metre, *(_voices(moving[index], held[index]) for moving, held in hands))
        for index, (start, metre) in enumerate(zip(starts, metres, strict=True))
    ]
    return Sheet(
        title, tuple(bars), plan.tonic, plan.mode == "major", _tempos(notes, plan, starts), _dynamics(rows, plan, starts),
        _pedals(notes),
    )  # fmt: skip


def _rows(notes: Notes, plan: Plan) -> np.ndarray:
    """Onset and end in units, pitch, velocity of every note [N, 4], by onset and pitch."""
    found = [(n.time, n.time + n.duration, n.pitch, n.velocity) for track in notes.tracks for n in track.notes]
    rows = np.array(sorted(found), dtype=np.int64).reshape(-1, 4)
    simple = all(metre[1] == 4 for metre in (bar.metre for bar in plan.bars))
    onset_q, end_q = rows[:, 0] / notes.tpq, rows[:, 1] / notes.tpq
    last = round(plan.quarters * UNITS)
    rows[:, 0] = np.minimum(quantised(onset_q, simple), last - 3)
    rows[:, 1] = np.clip(np.rint(end_q * UNITS), rows[:, 0] + 1, last)
    rows = rows[np.lexsort((rows[:, 0], rows[:, 2]))]
    again = np.flatnonzero((np.diff(rows[:, 2]) == 0) & (np.diff(rows[:, 0]) >= 0))
    rows[again, 1] = np.minimum(rows[again, 1], rows[again + 1, 0])  # the key is struck again
    rows = rows[rows[:, 1] > rows[:, 0]]
    return rows[np.lexsort((rows[:, 2], rows[:, 0]))]


def _voices(moving: list[Event], held: list[Event]) -> tuple[tuple[Event, ...], ...]:
    """The voices of a hand in a bar: a second one only where it has notes."""
    has_held = any(event.pitches for event in held)
    has_moving = any(event.pitches for event in moving)
    if has_held and has_moving:
        return tuple(moving), tuple(held)
    return (tuple(held if has_held else moving),)


def _dynamics(rows: np.ndarray, plan: Plan, starts: list[int]) -> tuple[tuple[int, str], ...]:
    """A mark at the beginning of each phrase that is louder or softer than the one before."""
    found: list[tuple[int, str]] = []
    for phrase in plan.phrases:
        first, after = phrase.start, phrase.start + phrase.bars
        until = starts[after] if after < len(starts) else 1 << 60
        velocity = rows[(rows[:, 0] >= starts[first]) & (rows[:, 0] < until), 3]
        if len(velocity):
            mark = next(mark for below, mark in DYNAMICS if velocity.mean() < below)
            if not found or found[-1][1] != mark:
                found.append((first, mark))
    return tuple(found)


def _tempos(notes: Notes, plan: Plan, starts: list[int]) -> tuple[tuple[int, float], ...]:
    """The plan's tempo, or, where the notes have several (the scenes of a video), each from the bar that is nearest to it on."""
    if len(notes.tempos) < 2:
        return ((0, plan.tempo),)
    at = {int(np.abs(np.array(starts) - one.time / notes.tpq * UNITS).argmin()): one.qpm for one in notes.tempos}
    return tuple(sorted(({0: plan.tempo} | at).items()))


def _pedals(notes: Notes) -> tuple[tuple[int, int], ...]:
    """When the pedal is down, in whole sixteenths: a reader is not told of the moment between chord and pedal.

    A touch of it is not written: the two signs would stand on each other.
    """
    spans = []
    for pedal in next((track.pedals for track in notes.tracks if len(track.pedals)), ()):  # both hands have the same
        down = round(pedal.time / notes.tpq * 4) * 3
        up = int((pedal.time + pedal.duration) / notes.tpq * 4) * 3  # before the next chord, so that both can be read
        spans.append((down, max(up, down + 3)))
    spans.sort()
    cut = [(down, min(up, after)) for (down, up), (after, _) in pairwise([*spans, (1 << 60, 0)])]
    return tuple((down, up) for down, up in cut if up - down >= BRIEFEST_PEDAL)


def music21_score(sheet: Sheet) -> Any:
    """The sheet as a music21 score: a piano part of two staves.

    Raises:
        UserError: music21 is not installed.
    """
    try:
        from music21 import layout, metadata, stream
    except ImportError:
        raise UserError(INSTALL) from None
    score = stream.Score()
    score.metadata = metadata.Metadata(title=sheet.title or "huesong", composer="huesong")
    staves = [stream.PartStaff(id=name) for name in ("right", "left")]
    for index, bar in enumerate(sheet.bars):
        for staff, voices in zip(staves, (bar.right, bar.left), strict=True):
            staff.append(_measure(sheet, index, bar, voices, staff is staves[0]))
    for staff in staves:
        for measure in staff.getElementsByClass(stream.Measure):
            measure.makeBeams(inPlace=True)
    for staff in staves:
        score.insert(0, staff)
    score.insert(0, layout.StaffGroup(staves, symbol="brace", barTogether=True))
    return score


def _measure(sheet: Sheet, index: int, bar: Bar, voices: tuple[tuple[Event, ...], ...], right: bool) -> Any:
    """A bar of one staff."""
    from music21 import bar as bars
    from music21 import clef, dynamics, key, meter, stream, tempo

    measure = stream.Measure(number=index + 1)
    if index == 0:
        measure.insert(0, clef.TrebleClef() if right else clef.BassClef())
        measure.insert(0, key.KeySignature(fifths_of(sheet.tonic, sheet.major)))
    if index == 0 or bar.metre != sheet.bars[index - 1].metre:
        measure.insert(0, meter.TimeSignature(f"{bar.metre[0]}/{bar.metre[1]}"))
    if right and (number := _per_minute(sheet, index)) and number != _per_minute(sheet, index - 1):
        measure.insert(0, tempo.MetronomeMark(number=number, referent=beat_units(bar.metre) / UNITS))
    for at, mark in sheet.dynamics:
        if at == index and right:
            measure.insert(0, dynamics.Dynamic(mark))
    accidentals = _Accidentals(fifths_of(sheet.tonic, sheet.major), sheet.major)
    stems = _stems(voices)
    made = [_voice(voice, index + 1, stems[index], accidentals) for index, voice in enumerate(voices)]
    if len(made) == 1:
        for element in made[0]:
            measure.insert(element.offset, element)
    else:
        for voice in made:
            measure.insert(0, voice)
    if index == len(sheet.bars) - 1:
        measure.rightBarline = bars.Barline("final")
    return measure


def _per_minute(sheet: Sheet, index: int) -> int:
    """Beats a minute in a bar, as they are written; 0 before the first one."""
    if index < 0:
        return 0
    quarters = next(tempo for first, tempo in reversed(sheet.tempos) if first <= index)
    return round(quarters * UNITS / beat_units(sheet.bars[index].metre))


class _Accidentals:
    """Which accidentals are shown in a bar of a staff."""

    def __init__(self, fifths: int, major: bool) -> None:
        self.fifths, self.major = fifths, major
        self.valid: dict[tuple[str, int], int] = {}

    def pitch(self, number: int, tied: bool) -> Any:
        """A music21 pitch; its accidental is shown where the key, or the bar so far, says otherwise."""
        from music21 import pitch

        letter, alter, octave = spelled(number, self.fifths, self.major)
        step: Any = letter
        made = pitch.Pitch(step=step, octave=octave, accidental=alter or None)
        of_key = (self.fifths - LETTERS.index(letter) + 6) // 7
        before = self.valid.get((letter, octave), of_key)
        if alter != before and alter == 0:
            made.accidental = pitch.Accidental(0)
        if made.accidental is not None:
            made.accidental.displayStatus = alter != before and not tied
        if not tied:
            self.valid[letter, octave] = alter
        return made


def _stems(voices: tuple[tuple[Event, ...], ...]) -> list[str | None]:
    """Which way the stems of each voice point: of two, the higher one's up."""
    if len(voices) == 1:
        return [None]
    height = [np.mean([pitch for event in voice for pitch in event.pitches]) for voice in voices]
    return ["up", "down"] if height[0] >= height[1] else ["down", "up"]


def _voice(voice: tuple[Event, ...], number: int, stem: str | None, accidentals: _Accidentals) -> Any:
    """Events as a music21 voice; `stem`: where its stems point, None for a voice that is alone."""
    from music21 import articulations, chord, duration, note, stream, tie

    made = stream.Voice(id=str(number))
    for event in voice:
        length = duration.Duration(Fraction(event.end - event.start, UNITS))
        if not event.pitches:
            element: Any = note.Rest(duration=length)
            if number == 2:
                element.style.hideObjectOnPrint = True
        else:
            pitches = [accidentals.pitch(one, event.continued) for one in event.pitches]
            element = note.Note(pitches[0]) if len(pitches) == 1 else chord.Chord(pitches)
            element.duration = length
            element.volume.velocity = event.velocity
            if stem is not None:
                element.stemDirection = stem
            if event.tied or event.continued:
                both = event.tied and event.continued
                element.tie = tie.Tie("continue" if both else "start" if event.tied else "stop")
            if event.short and not event.continued:
                element.articulations.append(articulations.Staccato())
        made.insert(Fraction(event.start - voice[0].start, UNITS), element)
    return made


def musicxml(sheet: Sheet) -> str:
    """The sheet as MusicXML 4.

    Raises:
        UserError: music21 is not installed.
    """
    with ONE_AT_A_TIME:
        score = music21_score(sheet)
        from music21.musicxml.m21ToXml import GeneralObjectExporter

        exporter = GeneralObjectExporter(score)
        data = exporter.parse()
    return _with_pedals(data, sheet)


def _with_pedals(data: bytes, sheet: Sheet) -> str:
    """The same with pedal marks below the lower staff, and without the day it was made: the same bytes for the same piece."""
    root = ElementTree.fromstring(data)
    for encoding in root.iter("encoding"):
        for child in list(encoding):
            if child.tag == "encoding-date":
                encoding.remove(child)
    for part in (*root.iter("score-part"), *root.iter("part")):
        part.set("id", "P1")  # not by chance
    measures = root.findall("part/measure")
    divisions = int(root.findtext("part/measure/attributes/divisions", "1"))
    for measure, bar in zip(measures, sheet.bars, strict=True):
        marks = [(down, "start") for down, _ in sheet.pedals] + [(up, "stop") for _, up in sheet.pedals]
        place = next((i for i, child in enumerate(measure) if child.tag in ("note", "backup", "direction")), 0)
        for at, kind in sorted(marks, key=lambda mark: (mark[0], mark[1] == "start")):
            last = bar is sheet.bars[-1] and at == bar.start + bar.units
            if bar.start <= at < bar.start + bar.units or last:
                measure.insert(place, _pedal(kind, (at - bar.start) * divisions // UNITS))
                place += 1
    ElementTree.indent(root)
    head = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" '
    return f'{head}"http://www.musicxml.org/dtds/partwise.dtd">\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _pedal(kind: str, offset: int) -> ElementTree.Element:
    direction = ElementTree.Element("direction", placement="below")
    ElementTree.SubElement(
        ElementTree.SubElement(direction, "direction-type"), "pedal", type=kind, line="no", sign="yes"
    )
    if offset:
        ElementTree.SubElement(direction, "offset").text = str(offset)
    ElementTree.SubElement(direction, "staff").text = "2"
    return direction
