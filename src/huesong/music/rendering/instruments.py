"""Other instruments than the piano: their place in General MIDI, their range, and the soundfont that has them."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from symusic import Note, Score

from huesong.music.midi import SUSTAIN
from huesong.music.rendering.soundfont import SOUNDFONT_VARIABLE, find_soundfont
from huesong.runtime.errors import UserError


@dataclass(frozen=True)
class Instrument:
    """program: of General MIDI, from 0. lowest, highest: MIDI pitches. pedal: whether it has a sustain pedal or rings on."""

    program: int
    lowest: int
    highest: int
    pedal: bool = False


PIANO = "piano"
INSTRUMENTS = {
    PIANO: Instrument(0, 21, 108, pedal=True),
    "strings": Instrument(48, 28, 100),
    "music-box": Instrument(10, 60, 103, pedal=True),
    "guitar": Instrument(24, 40, 88, pedal=True),
    "organ": Instrument(19, 36, 96),
}
"""An ensemble from the double bass's E to the violin's top; a music box as its combs are cut; a nylon guitar of 24 frets; a
church organ's keys."""
PLACES = (
    "/usr/share/sounds/sf3/MuseScore_General.sf3", "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/sounds/sf3/MuseScore_General_Lite.sf3", "/usr/share/sounds/sf3/FluidR3Mono_GM.sf3",
    "/usr/share/sounds/sf3/default-GM.sf3", "/usr/share/sounds/sf2/default-GM.sf2", "/usr/share/sounds/sf2/TimGM6mb.sf2",
)  # fmt: skip
"""Where systems keep General MIDI soundfonts, the best ones first."""
REMEDY = "`pip install 'huesong[instruments]'`, or name one with --soundfont"


def instrument_of(name: str) -> Instrument:
    """The instrument of that name.

    Raises:
        UserError: there is none.
    """
    if name not in INSTRUMENTS:
        raise UserError(f"--instrument {name}: give one of {', '.join(INSTRUMENTS)}")
    return INSTRUMENTS[name]


def soundfont_of(name: str, given: Path | None = None) -> Path:
    """The soundfont that plays an instrument: the one that is named, the piano's own, else a General MIDI one found here.

    Raises:
        UserError: none is found; names the command that brings one.
    """
    instrument_of(name)
    if name == PIANO or given is not None or os.environ.get(SOUNDFONT_VARIABLE):
        return find_soundfont(given)
    carried = importlib.util.find_spec("pretty_midi")  # its wheel brings TimGM6mb; it is not imported
    places = [*PLACES, *((str(Path(carried.origin).parent / "TimGM6mb.sf2"),) if carried and carried.origin else ())]
    found = next((Path(place) for place in places if Path(place).is_file()), None)
    if found is None:
        raise UserError(f"--instrument {name}: no General MIDI soundfont is here: {REMEDY}")
    return find_soundfont(found)


def arranged(score: Score, name: str) -> Score:
    """A copy for an instrument: its program, notes beyond its range moved by octaves, no pedal where it has none."""
    own = instrument_of(name)
    score = score.copy()
    taken: set[tuple[int, int]] = set()
    for track in score.tracks:
        track.program = own.program
        if not own.pedal:
            track.controls = [one for one in track.controls if one.number != SUSTAIN]
        notes = track.notes.numpy()
        pitch = within(notes["pitch"].astype(int), own.lowest, own.highest)
        fresh: list[Note] = []
        sounding: dict[int, Note] = {}
        for index in np.argsort(notes["time"], kind="stable"):
            place = int(notes["time"][index]), int(pitch[index])
            if place not in taken:  # two notes of different octaves may now be one
                taken.add(place)
                if (before := sounding.get(place[1])) is not None:  # struck again
                    before.duration = min(before.duration, place[0] - before.time)
                note = Note(place[0], int(notes["duration"][index]), place[1], int(notes["velocity"][index]))
                sounding[place[1]] = note
                fresh.append(note)
        track.notes = fresh
    return score


def within(pitch: np.ndarray, lowest: int, highest: int) -> np.ndarray:
    """Pitches [N] moved by as few octaves as bring them into a range of an octave or more."""
    up = -(-np.maximum(lowest - pitch, 0) // 12)
    down = -(-np.maximum(pitch - highest, 0) // 12)
    return np.asarray(pitch + 12 * (up - down))
