"""Modes, functional progressions, voice leading and left-hand patterns of the rule-based composer.

Pitch classes are semitones above the tonic (0-11), pitches are MIDI numbers, time is in sixteenths
(16 a 4/4 bar). The modes are ordered by brightness: Ionian is heard as happiest and each flat added makes the
same tune sadder (Temperley & Tan 2013, Music Perception 30(3), 237-257), Phrygian being the darkest used here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MODES = {
    "ionian": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "aeolian": (0, 2, 3, 5, 7, 8, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}

CHORDS = {
    # diatonic in major
    "I": (0, 4, 7), "ii": (2, 5, 9), "iii": (4, 7, 11), "IV": (5, 9, 0), "V": (7, 11, 2), "vi": (9, 0, 4),
    "V7": (7, 11, 2, 5), "ii7": (2, 5, 9, 0), "vi7": (9, 0, 4, 7), "Imaj7": (0, 4, 7, 11), "Iadd9": (0, 4, 7, 2),
    "IVmaj7": (5, 9, 0, 4), "Vsus": (7, 0, 2), "V9": (7, 11, 2, 5, 9),
    # secondary dominants and mixture
    "V7/V": (2, 6, 9, 0), "V7/vi": (4, 8, 11, 2), "V7/IV": (0, 4, 7, 10), "II": (2, 6, 9),
    "viio7/V": (6, 9, 0, 3), "Ger6": (8, 0, 3, 6),
    # minor and modal
    "i": (0, 3, 7), "i7": (0, 3, 7, 10), "iadd9": (0, 3, 7, 2), "iio": (2, 5, 8), "bIII": (3, 7, 10),
    "iv": (5, 8, 0), "iv7": (5, 8, 0, 3), "v": (7, 10, 2), "bVI": (8, 0, 3), "bVImaj7": (8, 0, 3, 7),
    "bVII": (10, 2, 5), "bII": (1, 5, 8), "bvii": (10, 1, 5), "viio7": (11, 2, 5, 8),
}  # fmt: skip
"""Roman numerals as pitch classes, root first."""

RAISING = ("V7/V", "V7/vi", "II", "viio7/V", "Ger6")
"""Chords whose chromatic tone is a scale tone raised (all others lower one)."""

# A phrase is a head of two bars (the basic idea's harmony) and a tail of two: to the dominant or to the tonic.
# Chords are separated by blanks, bars by |; ":1" is the first inversion, ":2" the second.
HEADS = {
    "ionian": ("I | V:1", "I | vi", "I | IV:2", "I | iii", "I IV | I:1", "I | ii:1"),
    "mixolydian": ("I | bVII", "I | v", "I IV | bVII", "I | IV:2", "I bVII | IV"),
    "dorian": ("i | IV", "i | bVII", "i7 | ii", "i bVII | IV", "i | IV:1"),
    "aeolian": ("i | V:1", "i | bVI", "i | iv:2", "i | v:1", "i bVI | iv"),
    "phrygian": ("i | bII", "i | viio7", "i | bII:1", "i bII | bvii", "i | bVI"),
}
HALF_TAILS = {
    "ionian": ("vi IV | V", "IV | V", "ii:1 | V", "vi | Vsus V", "V7/V:1 | V"),
    "mixolydian": ("IV | v", "bVII | IV", "ii | v", "IV | V"),
    "dorian": ("bIII | v", "bVII | v", "IV | bVII", "ii | v"),
    "aeolian": ("iv:1 | V", "bVI | V", "iio:1 | V", "iv iv:1 | V"),
    "phrygian": ("bII:1 | V7", "Ger6 | V", "viio7/V | V7", "iv:1 | V"),
}
FULL_TAILS = {
    "ionian": ("ii:1 V7 | I", "IV V7 | I", "I:2 V7 | I", "ii7 V7 | I"),
    "mixolydian": ("bVII IV | I", "v bVII | I", "ii bVII | I", "IV bVII | I"),
    "dorian": ("IV bVII | i", "bVII v | i", "ii v | i", "bIII bVII | i"),
    "aeolian": ("iv V7 | i", "iio:1 V7 | i", "i:2 V7 | i", "bVI V7 | i"),
    "phrygian": ("bII:1 V7 | i", "viio7/V V7 | i", "bII viio7 | i", "Ger6 V7 | i"),
}
CONTRASTS = {
    "ionian": ("vi | iii | IV | V", "IV | I:1 | ii | V7", "V7/vi | vi | V7/V | V7", "IV V:1 | vi | ii:1 | V7"),
    "mixolydian": ("vi | IV | bVII | v", "IV | I:1 | v | bVII", "bVII | IV | ii | v"),
    "dorian": ("bIII | bVII | IV | v", "IV | i:1 | bVII | v", "bVII | bIII | ii | v"),
    "aeolian": ("bVI | bIII | iv | V", "bIII | bVII | bVI | V7", "iv | bVII | bIII | V7"),
    "phrygian": ("bVI | bII | viio7 | V7", "iv | viio7/V | Ger6 | V", "bII | bvii | bII:1 | V7"),
}
CODAS = {
    "ionian": "I | IV:2 | I", "mixolydian": "I | bVII | I", "dorian": "i | IV:2 | i", "aeolian": "i | iv:2 | i",
    "phrygian": "i | bII | i",
}  # fmt: skip
SOFT = {"I": "Iadd9", "IV": "IVmaj7", "vi": "vi7", "ii": "ii7", "i": "iadd9", "bVI": "bVImaj7", "iv": "iv7"}
"""Colour tones for quiet music: the chord with an added ninth or seventh."""


@dataclass(frozen=True)
class Chord:
    """A chord in time: onset and length in sixteenths from the start of the piece."""

    name: str
    tones: tuple[int, ...]
    bass: int
    start: int
    length: int


def mode_for(valence: float, arousal: float) -> str:
    """The mode for an emotion: bright to dark with falling valence, darker still when tense (V- A+)."""
    brightness = valence - 0.2 * max(arousal, 0.0) * (valence < 0)
    for floor, mode in ((0.3, "ionian"), (0.0, "mixolydian"), (-0.3, "dorian"), (-0.68, "aeolian")):
        if brightness >= floor:
            return mode
    return "phrygian"


def parse(text: str, start_bar: int, soft: bool = False) -> list[Chord]:
    """Chords of a progression written like "I | ii:1 V7 | I", the first bar at `start_bar`."""
    chords = []
    for bar, names in enumerate(text.split("|")):
        parts = names.split()
        length = 16 // len(parts)
        for index, part in enumerate(parts):
            name, _, inversion = part.partition(":")
            name = SOFT.get(name, name) if soft else name
            tones = CHORDS[name]
            chords.append(
                Chord(name, tones, tones[int(inversion or 0)], 16 * (start_bar + bar) + index * length, length)
            )
    return chords


def scale_for(mode: str, chord: Chord) -> frozenset[int]:
    """The seven-tone scale of `mode`, bent so that it holds the chord's chromatic tones."""
    scale = set(MODES[mode])
    for tone in chord.tones:
        if tone in scale:
            continue
        below, above = (tone - 1) % 12, (tone + 1) % 12
        order = (below, above) if chord.name in RAISING else (above, below)
        for neighbour in order:
            if neighbour in scale and neighbour not in chord.tones and neighbour != 0:
                scale.discard(neighbour)
                break
        scale.add(tone)
    return frozenset(scale)


def voice(chord: Chord, tonic: int, previous: list[int], centre: int, ceiling: int) -> list[int]:
    """Pitches of a chord in the left hand, bass first, moving as little as possible from `previous`.

    Args:
        tonic: MIDI pitch class of the tonic.
        previous: the last voicing ([] at the beginning).
        centre: preferred pitch of the bass.
        ceiling: no pitch lies above it (the melody's floor).
    """
    anchor = 0.6 * previous[0] + 0.4 * centre if previous else centre
    bass_class = (tonic + chord.bass) % 12
    bass = min((p for p in range(centre - 9, centre + 10) if p % 12 == bass_class), key=lambda p: abs(p - anchor))
    classes = [(tonic + tone) % 12 for tone in chord.tones]
    if len(classes) > 3:  # the fifth is the tone least missed
        classes = [classes[0], classes[1], *classes[3:]] if chord.bass != chord.tones[2] else classes[1:]
    if len(classes) > 3:
        classes = classes[1:]
    floor = max(bass + 3, 46)  # close chords below are mud
    best: list[int] = []
    best_cost = np.inf
    for start in range(floor, floor + 12):
        upper = sorted(start + (pitch_class - start) % 12 for pitch_class in classes)
        if start % 12 not in classes:
            continue
        if len(previous) > 1:
            cost = float(sum(min(abs(p - q) for q in previous[1:]) for p in upper))
        else:
            cost = abs(float(np.mean(upper)) - (centre + 14))
        cost += 4.0 * max(0, upper[-1] - ceiling) + 0.15 * abs(float(np.mean(upper)) - (centre + 14))
        if cost < best_cost:
            best, best_cost = upper, cost
    return [bass, *best]


# --- left-hand patterns --------------------------------------------------------------------------
# Each pattern is a list of (onset, duration, voices) over one bar of sixteenths. A voice is an index into the
# voicing (0 = bass); "8" is the bass an octave up, "5" the chord's fifth below or above the bass.
Step = tuple[int, int, str]
PATTERNS: dict[str, tuple[Step, ...]] = {
    "final": ((0, 16, "0123"),),
    "sustained": ((0, 16, "012"), (8, 8, "3")),
    "halves": ((0, 16, "0"), (0, 8, "123"), (8, 8, "123")),
    "bass_then_chord": ((0, 16, "0"), (4, 12, "123")),
    "broken_halves": ((0, 16, "0"), (4, 12, "1"), (8, 8, "2"), (12, 4, "3")),
    "broken_quarters": ((0, 16, "0"), (4, 12, "1"), (8, 8, "23"), (12, 4, "1")),
    "rocking": ((0, 8, "0"), (4, 4, "12"), (8, 8, "8"), (12, 4, "12")),
    "slow_arpeggio": (
        (0, 16, "0"), (2, 14, "8"), (4, 12, "1"), (6, 10, "2"), (8, 8, "3"), (10, 6, "2"), (12, 4, "1"), (14, 2, "2"),
    ),
    "alberti": tuple((2 * i, 2, v) for i, v in enumerate("03230323")),
    "arpeggio": tuple((2 * i, 4, v) for i, v in enumerate("01232123")),
    "oom_pah": ((0, 3, "0"), (4, 2, "123"), (8, 3, "5"), (12, 2, "123")),
    "habanera": ((0, 3, "0"), (3, 1, "5"), (4, 2, "12"), (6, 2, "3"), (8, 3, "0"), (12, 2, "123")),
    "tresillo": ((0, 3, "08"), (3, 3, "12"), (6, 2, "3"), (8, 3, "08"), (11, 3, "12"), (14, 2, "3")),
    "pulse": tuple((2 * i, 2, "0" if i in (0, 3, 6) else "12") for i in range(8)),
    "stride": tuple(
        (2 * i, 2, v) for i, v in enumerate(("08", "123", "5", "123", "0", "123", "5", "123"))
    ),
    "octaves": tuple((2 * i, 2, v) for i, v in enumerate("08080808")),
    "driving_octaves": tuple((2 * i, 2, "08" if i in (0, 3, 6) else "0") for i in range(8)),
    "murky": tuple((i, 1, "0" if i % 2 == 0 else "8") for i in range(16)),
    "sixteenths": tuple((i, 1, v) for i, v in enumerate("0123212301232123")),
    "toccata": tuple((i, 1, v) for i, v in enumerate("0812081208120812")),
}  # fmt: skip
"""By rising density; the two ends are the Gabrielsson & Lindström (2010) ends of energy: sustained against driving."""

CHOICES: tuple[tuple[float, tuple[str, ...], tuple[str, ...]], ...] = (
    # arousal below, names when valence >= 0, names when valence < 0
    (-0.62, ("sustained", "bass_then_chord", "halves"), ("sustained", "halves", "bass_then_chord")),
    (-0.3, ("broken_quarters", "broken_halves", "bass_then_chord"), ("broken_halves", "broken_quarters", "halves")),
    (0.0, ("slow_arpeggio", "rocking", "broken_quarters"), ("slow_arpeggio", "rocking", "broken_halves")),
    (0.3, ("alberti", "arpeggio", "oom_pah", "habanera"), ("arpeggio", "slow_arpeggio", "pulse")),
    (0.62, ("oom_pah", "habanera", "tresillo", "alberti", "pulse"), ("tresillo", "pulse", "octaves", "alberti")),
    (9.0, ("stride", "sixteenths", "tresillo", "stride"), ("driving_octaves", "murky", "toccata", "sixteenths")),
)


def patterns_for(valence: float, arousal: float) -> tuple[str, ...]:
    """Names of the left-hand patterns that suit an emotion."""
    for limit, bright, dark in CHOICES:
        if arousal < limit:
            return bright if valence >= 0 else dark
    raise AssertionError("the last row has no limit")


def strike(pattern: str, chord: Chord, voicing: list[int]) -> list[tuple[int, int, int, bool]]:
    """Notes of `pattern` under one chord: (onset, duration, pitch, first of the pattern).

    A chord of half a bar takes the first half of the pattern; durations end with the chord.
    """
    fifth = next((p for p in (voicing[0] - 5, voicing[0] + 7) if p % 12 in {v % 12 for v in voicing[1:]}), voicing[0])
    notes = []
    for onset, duration, voices in PATTERNS[pattern]:
        if onset >= chord.length:
            break
        for symbol in voices:
            if symbol == "8":
                pitch = voicing[0] + 12
            elif symbol == "5":
                pitch = fifth
            else:
                pitch = voicing[min(int(symbol), len(voicing) - 1)]
            notes.append((chord.start + onset, min(duration, chord.length - onset), pitch, onset == 0))
    return notes
