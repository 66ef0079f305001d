"""The cues of an emotion, themes and melodies of the rule-based composer.

A melody is the cheapest path (dynamic programming) through the scale between the theme's contour, the chords and the
rules of melodic motion. Time is in sixteenths of a 4/4 bar; pitches are MIDI numbers; tempo is quarter notes a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huesong.data.sample import harmony
from huesong.data.sample.harmony import Chord

SLOWEST, FASTEST = 55.0, 160.0

CONTOURS = (
    (0, 1, 2, 4, 3, 2, 1, 0), (0, 2, 4, 7, 5, 4, 2, 4), (0, -1, 0, 2, 1, 0, 1, 3), (2, 1, 0, 1, 2, 4, 3, 2),
    (0, 0, 1, 2, 4, 4, 5, 4), (4, 2, 0, 2, 4, 5, 4, 2), (0, 4, 3, 2, 1, 3, 2, 1), (2, 2, 4, 2, 1, 1, 3, 1),
    (4, 3, 2, 1, 2, 1, 0, -1), (7, 5, 4, 2, 3, 2, 1, 0), (4, 4, 3, 2, 3, 3, 2, 1), (5, 4, 4, 3, 3, 2, 2, 1),
    (0, 4, 4, 3, 2, 2, 1, 1), (2, 3, 2, 1, 0, 1, 0, -1),
)  # fmt: skip
"""Basic ideas: scale steps above the anchor at the eight beats of two bars; from rising to falling."""

RHYTHMS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((16,), (8, 8), (12, 4), (8, 4, 4), (6, 10)),
    ((4, 4, 8), (8, 4, 4), (6, 2, 8), (12, 4), (4, 8, 4)),
    ((4, 4, 4, 4), (6, 2, 4, 4), (4, 2, 2, 8), (2, 2, 4, 8), (6, 2, 6, 2)),
    ((2, 2, 4, 2, 2, 4), (4, 2, 2, 4, 2, 2), (3, 3, 2, 4, 4), (6, 2, 2, 2, 4), (-2, 2, 4, 2, 2, 4)),
    ((2, 2, 2, 2, 2, 2, 2, 2), (3, 1, 2, 2, 3, 1, 4), (2, 1, 1, 2, 2, 2, 1, 1, 4), (3, 3, 2, 2, 2, 4),
     (-2, 2, 2, 2, 4, 2, 2)),
    ((1, 1, 2, 1, 1, 2, 2, 2, 2, 2), (2, 1, 1, 2, 1, 1, 2, 2, 2, 2), (3, 1, 3, 1, 2, 2, 2, 2),
     (1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 4)),
)  # fmt: skip
"""Rhythm cells of one bar by density level (durations in sixteenths; negative: a rest)."""

HALF_CADENCES = ((4, 4, 8), (8, -8), (12, -4), (2, 2, 4, 8), (4, 8, -4))
FULL_CADENCES = ((12, -4), (8, -8), (16,), (4, 12))


@dataclass(frozen=True)
class Character:
    """The musical cues of one emotion."""

    mode: str
    tempo: float
    """Quarter notes a minute."""
    level: float
    """Density of the melody: 0 (whole notes) to 5 (sixteenths)."""
    velocity: float
    """Mean MIDI velocity of the melody."""
    gate: float
    """Articulation: sounding share of a note's written length (1 legato, .5 staccato)."""
    melody_centre: float
    bass_centre: int
    soft: bool
    """Added ninths and sevenths."""

    @classmethod
    def of(cls, valence: float, arousal: float, rng: np.random.Generator) -> Character:
        """Linear cues of (valence, arousal) in [-1, 1], with a little freedom from `rng`."""
        tempo = 107.0 + 46.0 * arousal + 4.0 * valence + rng.uniform(-4, 4)
        return cls(
            mode=harmony.mode_for(valence, arousal),
            tempo=float(round(np.clip(tempo, SLOWEST, FASTEST))),
            level=float(np.clip(2.3 + 2.3 * arousal + rng.uniform(-0.3, 0.3), 0, 5)),
            velocity=72.0 + 23.0 * arousal - 3.0 * valence,
            gate=float(np.clip(1.0 - 0.22 * max(arousal, 0.0) - 0.28 * max(valence * (arousal + 0.4), 0.0), 0.5, 1.0)),
            melody_centre=70.0 + 4.5 * valence + 1.5 * arousal,
            bass_centre=round(45 + 3.0 * valence - 3.0 * max(arousal, 0.0) * (valence < 0)),
            soft=arousal < -0.15 and valence > -0.5 and bool(rng.random() < 0.75),
        )


@dataclass(frozen=True)
class Theme:
    """What variations share: key, basic idea, contrasting idea, rhythm cells."""

    tonic: int
    contour: tuple[int, ...]
    contrast: tuple[int, ...]
    cells: tuple[int, int, int]
    """Choices among the rhythm cells of a level: first bar, second bar, contrasting phrase."""

    @classmethod
    def of(cls, seed: int) -> Theme:
        """The theme of a seed."""
        rng = np.random.default_rng([seed, 1])
        first, second = rng.choice(len(CONTOURS), size=2, replace=False)
        a, b, c = (int(x) for x in rng.integers(0, 60, size=3))
        return cls(int(rng.integers(0, 12)), CONTOURS[first], CONTOURS[second], (a, b, c))


@dataclass
class MelodyNote:
    """A melody note; onset and length in sixteenths, `target` is the pitch its contour asks for."""

    start: int
    length: int
    target: float
    chord: Chord
    goal: tuple[int, ...] = ()
    """Pitch classes above the tonic that a cadence demands here."""
    pitch: int = 0
    phrase: float = 0.0
    """Position in its phrase, 0 to 1."""


def melodise(
    character: Character, theme: Theme, plan: list[tuple[str, int]], chords: list[list[Chord]], rng: np.random.Generator
) -> list[MelodyNote]:
    """The melody: rhythm and contour from the theme, pitches by dynamic programming, heads repeated exactly."""
    level = int(character.level)
    next_level = min(level + 1, len(RHYTHMS) - 1)
    blend = character.level - level
    first, second, other = theme.cells
    cells = [RHYTHMS[level][first % len(RHYTHMS[level])], RHYTHMS[level][second % len(RHYTHMS[level])]]
    if blend > 0.35:  # between two levels the second bar is the livelier one
        cells[1] = RHYTHMS[next_level][second % len(RHYTHMS[next_level])]
    lively = RHYTHMS[next_level if blend > 0.6 else level]
    contrast_cells = [lively[other % len(lively)], cells[0]]
    spread = 1.0 + 0.3 * max(character.level / 2.5 - 1, -0.5)
    half, full = (int(rng.integers(0, 60)) for _ in range(2))

    melody: list[MelodyNote] = []
    head: list[MelodyNote] | None = None
    bar = 0
    for (kind, length), phrase_chords in zip(plan, chords, strict=True):
        rhythm = [*cells, cells[0], cells[1]]
        contour = [*theme.contour, *(step + 1 for step in theme.contour[:4]), 2, 1, 1, 1]
        lift = 0.0
        goal: tuple[int, ...] = (7, 2, 11) if kind == "open" else (0,)
        if kind == "contrast":
            rhythm = [contrast_cells[0], contrast_cells[1]] * 2
            contour = [*theme.contrast, *(step - 1 for step in theme.contrast)]
            lift, goal = 5.0, (7, 2, 11, 5)
        elif kind == "close":
            contour[8:] = [contour[8] + 1, contour[9], 2, 1, 0, 0, 0, 0]
        elif kind == "coda":
            rhythm, contour = [cells[0]] * 4, [4, 4, 3, 2] * 2 + [0] * 8
        last = (phrase_chords[-1].start + phrase_chords[-1].length) // 16 == sum(b for _, b in plan)
        ending = HALF_CADENCES[half % len(HALF_CADENCES)] if goal[0] == 7 else FULL_CADENCES[full % len(FULL_CADENCES)]
        rhythm = [*rhythm[: length - 1], (16,) if last else ending]
        notes = lay_out(rhythm, contour, phrase_chords, bar, length, character.melody_centre + lift, spread)
        notes[-1].goal = goal
        shared = kind in ("open", "close") and head is not None
        pinned = [note.pitch for note in head] if shared and head is not None else []
        solve(notes, pinned, character, theme.tonic, rng, melody[-1].pitch if melody else None)
        if head is None and kind in ("open", "close"):
            head = [note for note in notes if note.start < 16 * (bar + 2)]
        melody += notes
        bar += length
    return melody


def lay_out(
    rhythm: list[tuple[int, ...]],
    contour: list[int],
    chords: list[Chord],
    bar: int,
    bars: int,
    anchor: float,
    spread: float,
) -> list[MelodyNote]:
    """Unpitched notes of a phrase: onsets from the rhythm, target pitches from the contour (in scale steps)."""
    notes = []
    beats = np.arange(len(contour))
    centre = float(np.mean(contour))
    for index, cell in enumerate(rhythm):
        position = 0
        for duration in cell:
            start = 16 * (bar + index) + position
            position += abs(duration)
            if duration < 0:
                continue
            step = float(np.interp((start - 16 * bar) / 4, beats, contour)) - centre
            if start % 4:  # fast notes sway around the contour, so that they make figures and not repetitions
                step += 0.6 if (start // 2) % 2 else -0.6
            chord = next(c for c in reversed(chords) if c.start <= start)
            note = MelodyNote(start, duration, anchor + spread * step * 12 / 7, chord)
            note.phrase = (start - 16 * bar) / (16 * bars)
            notes.append(note)
    return notes


def solve(
    notes: list[MelodyNote], pinned: list[int], character: Character, tonic: int, rng: np.random.Generator,
    before: int | None,
) -> None:  # fmt: skip
    """Choose the pitches of a phrase: the cheapest path (Viterbi) under the rules of melodic writing.

    Costs: distance from the contour, non-chord tones on strong beats or long notes, minor ninths over the chord,
    leaps (tritones and sevenths most), unresolved dissonance, repeated notes; a cadence's goal is demanded.

    Args:
        pinned: pitches of the first notes, when the phrase repeats a head ([] when it does not).
        before: the pitch that sounded last.
    """
    low, high = round(character.melody_centre) - 11, round(character.melody_centre) + 15
    pitches = np.arange(low, high + 1)
    classes = (pitches - tonic) % 12
    leap_cost = np.array([1.2, 0, 0, 0.4, 0.6, 0.9, 6, 1.3, 2, 2.4, 7, 9, 2.6])
    distance = np.abs(pitches[:, None] - pitches[None, :])
    motion = np.where(distance <= 12, leap_cost[np.minimum(distance, 12)], 9.0 + distance)
    quick = character.level > 3
    if quick:
        motion = motion - 0.5 * (distance == 0)
    unary = np.zeros((len(notes), len(pitches)))
    in_chord = np.zeros((len(notes), len(pitches)), dtype=bool)
    for i, note in enumerate(notes):
        in_chord[i] = np.isin(classes, note.chord.tones)
        scale = np.isin(classes, list(harmony.scale_for(character.mode, note.chord)))
        strong = 3.5 if note.start % 8 == 0 else 2.0 if note.start % 4 == 0 else 0.5
        strong += 0.35 * (note.length - 2) if note.length > 2 else 0.0
        above = np.isin((classes - 1) % 12, note.chord.tones)
        unary[i] = 0.55 * np.abs(pitches - note.target) + rng.normal(0, 0.3, len(pitches))
        unary[i] += np.where(in_chord[i], 0.0, strong + 1.5 * above * (note.length >= 3))
        unary[i] += np.where(scale, 0.0, 50.0)
        if note.goal:
            unary[i] += np.where(np.isin(classes, note.goal) & in_chord[i], 0.0, 30.0)
        if i < len(pinned):
            unary[i] = np.where(pitches == pinned[i], 0.0, 1000.0)
    best = unary[0].copy()
    if before is not None:
        best += 0.5 * np.where(np.abs(pitches - before) > 12, 9.0, leap_cost[np.minimum(np.abs(pitches - before), 12)])
    back = np.zeros((len(notes), len(pitches)), dtype=int)
    for i in range(1, len(notes)):
        step = motion + np.where(~in_chord[i - 1][:, None] & (distance > 2), 2.5, 0.0)  # unresolved
        step += np.where(~in_chord[i][None, :] & (distance > 4), 1.2, 0.0)  # leapt into
        leading = (classes == 11)[:, None] & (notes[i].chord is not notes[i - 1].chord)
        step += np.where(leading & (pitches[None, :] - pitches[:, None] != 1), 0.7, 0.0)
        total = best[:, None] + step
        back[i] = total.argmin(axis=0)
        best = total.min(axis=0) + unary[i]
    index = int(best.argmin())
    for i in range(len(notes) - 1, -1, -1):
        notes[i].pitch = int(pitches[index])
        index = int(back[i, index])
