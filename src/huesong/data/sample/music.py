"""A composer by rule: piano pieces whose valence and arousal are known by construction.

The rules follow the literature on musical structure and perceived emotion:

* Gabrielsson & Lindström (2010), The role of structure in the musical expression of emotions, in Juslin & Sloboda
  (eds.), Handbook of Music and Emotion, OUP, 367-400: mode, tempo, loudness, density, register, articulation, contour.
* Juslin & Laukka (2004), Expression, perception, and induction of musical emotions, Journal of New Music Research
  33(3), 217-238: happiness fast, major, staccato, high; sadness slow, minor, legato, low, soft; tenderness slow, major,
  legato, soft; anger and fear fast, minor, dissonant, with sharp contrasts.
* Eerola, Friberg & Bresin (2013), Emotional expression in music: contribution, linearity, and additivity of primary
  musical cues, Frontiers in Psychology 4:487: the cues add up, mostly linearly (mode and tempo weigh most); so each cue
  here is a linear function of valence and arousal.

A piece has a theme (key, two-bar basic idea, rhythm cells), an antecedent that ends on the dominant, a consequent
that begins alike and ends on the tonic, from twelve bars on a contrasting phrase, and a held final chord. The melody is
the cheapest path (dynamic programming) through the scale between the theme's contour, the chords and the rules of
melodic motion. Time is in sixteenths of a 4/4 bar; pitches are MIDI numbers; tempo is quarter notes a minute.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from symusic.core import NoteTick, ScoreTick, TempoTick, TimeSignatureTick, TrackTick

from huesong.data.sample import harmony
from huesong.data.sample.harmony import Chord
from huesong.data.sample.melody import Character, MelodyNote, Theme, melodise

TICKS_PER_QUARTER = 480
TICKS = TICKS_PER_QUARTER // 4
"""Ticks a sixteenth."""


def form(bars: int) -> list[tuple[str, int]]:
    """Phrases of a piece as (kind, bars): open, close, contrast, coda. The last one closes on the tonic."""
    phrases = bars // 4
    extra = bars % 4
    kinds = {1: ["close"], 2: ["open", "close"], 3: ["open", "contrast", "close"]}.get(phrases)
    if kinds is None:
        kinds = [("open", "close", "contrast", "close")[i % 4] for i in range(phrases)]
        kinds[-1] = "close"
    return [(kind, 4) for kind in kinds] + ([("coda", extra)] if extra else [])


def compose_by_rule(
    valence: float, arousal: float, seed: int, bars: int = 8, theme_seed: int | None = None
) -> ScoreTick:
    """A two-handed piano piece that carries an emotion by its mode, tempo, density, register, touch and loudness.

    Args:
        valence, arousal: the emotion, each in [-1, 1].
        seed: everything free in the piece follows from it; the same arguments give the same bytes.
        bars: length in 4/4 bars, at least 4.
        theme_seed: pieces with the same theme seed are variations of one theme (default: `seed`).

    Returns:
        A score at 480 ticks a quarter with the tracks `Right hand` and `Left hand` (program 0) and one tempo.

    Raises:
        ValueError: an emotion outside [-1, 1] or fewer than 4 bars.
    """
    if not (-1 <= valence <= 1 and -1 <= arousal <= 1):
        raise ValueError(f"valence {valence} and arousal {arousal} must lie in [-1, 1]")
    if bars < 4:
        raise ValueError(f"a piece needs at least 4 bars, not {bars}")
    rng = np.random.default_rng([seed, 2])
    theme = Theme.of(seed if theme_seed is None else theme_seed)
    character = Character.of(valence, arousal, rng)
    plan = form(bars)
    chords = harmonise(character, plan, rng)
    melody = melodise(character, theme, plan, chords, rng)
    right = play_melody(melody, character, valence, arousal, theme.tonic, plan, rng)
    left = accompany(chords, character, valence, arousal, theme.tonic, plan, melody, rng)
    return engrave(right, left, character)


def harmonise(character: Character, plan: list[tuple[str, int]], rng: np.random.Generator) -> list[list[Chord]]:
    """Chords by phrase: antecedent and consequent share their head."""
    mode, soft = character.mode, character.soft

    def pick(table: Mapping[str, tuple[str, ...]]) -> str:
        return str(rng.choice(np.array(table[mode], dtype=object)))

    head, half, contrast = pick(harmony.HEADS), pick(harmony.HALF_TAILS), pick(harmony.CONTRASTS)
    phrases, bar = [], 0
    for kind, length in plan:
        if kind == "open":
            text = f"{head} | {half}"
        elif kind == "close":
            text = f"{head} | {pick(harmony.FULL_TAILS)}"
        elif kind == "contrast":
            text = contrast
        else:
            text = " | ".join(harmony.CODAS[mode].split(" | ")[-length:])
        phrases.append(harmony.parse(text, bar, soft))
        bar += length
    return phrases


Event = tuple[int, float, int, float]
"""onset and length in sixteenths, pitch, velocity"""


def loudness(start: int, phrase: float, character: Character, last_phrase: bool) -> float:
    """Velocity at a moment: the emotion's level, an arch over the phrase, metric accents that grow with energy."""
    energy = (character.velocity - 45) / 60
    arch = 9.0 * np.sin(np.pi * min(phrase * 1.15, 1.0)) - 4.0
    accent = (5.0 + 4.0 * energy) if start % 16 == 0 else (2.0 + 2.0 * energy) if start % 8 == 0 else 0.0
    accent -= 2.0 if start % 2 else 0.0
    return character.velocity + arch + accent + (3.0 * energy if last_phrase else 0.0)


def play_melody(
    melody: list[MelodyNote], character: Character, valence: float, arousal: float, tonic: int,
    plan: list[tuple[str, int]], rng: np.random.Generator,
) -> list[Event]:  # fmt: skip
    """The right hand: melody with dynamics and touch, and what thickens it (thirds, sixths, octaves, chords)."""
    bars = sum(length for _, length in plan)
    final = 16 * (bars - 1)
    returning = 16 * (bars - 4) if bars >= 12 else final
    events: list[Event] = []
    for note in melody:
        velocity = loudness(note.start, note.phrase, character, note.start >= returning) + rng.normal(0, 1.5)
        gate = 1.0 if note.length >= 8 else character.gate
        length = float(note.length) if note.start == final else max(note.length * gate, 0.5)
        events.append((note.start, length, note.pitch, velocity))
        tones = {(tonic + tone) % 12 for tone in note.chord.tones}
        below = [p for p in range(note.pitch - 9, note.pitch - 2) if p % 12 in tones and p >= 55]
        if note.start == final:
            third_and_fifth = {(tonic + tone) % 12 for tone in note.chord.tones[1:3]}
            added = [p for p in range(note.pitch - 11, note.pitch) if p % 12 in third_and_fifth]
            events += [(note.start, length, p, velocity - 8) for p in added]
        elif arousal > 0.25 and note.start % 8 == 0 and rng.random() < 0.35 + 0.5 * arousal:
            added = [note.pitch - 12] if valence < 0 or note.start >= returning else below[-2:]
            events += [(note.start, length, p, velocity - 6) for p in added if p >= 52]
        elif note.length >= 4 and below and rng.random() < 0.25 + 0.3 * valence:
            events.append((note.start, length, below[-1], velocity - 9))
    return events


def accompany(
    chords: list[list[Chord]], character: Character, valence: float, arousal: float, tonic: int,
    plan: list[tuple[str, int]], melody: list[MelodyNote], rng: np.random.Generator,
) -> list[Event]:  # fmt: skip
    """The left hand: voiced chords in one pattern for the outer phrases and another one for the contrast."""
    names = harmony.patterns_for(valence, arousal)
    main, other = (names[int(i)] for i in rng.choice(len(names), size=2, replace=False))
    ceiling = min(note.pitch for note in melody) - 1
    bars = sum(length for _, length in plan)
    short = main in ("oom_pah", "stride", "habanera") or character.gate < 0.8
    voicing: list[int] = []
    events: list[Event] = []
    for (kind, length), phrase_chords in zip(plan, chords, strict=True):
        start = phrase_chords[0].start
        for chord in phrase_chords:
            voicing = harmony.voice(chord, tonic, voicing, character.bass_centre, max(ceiling, 58))
            above = [
                n.pitch for n in melody if n.start < chord.start + chord.length and n.start + n.length > chord.start
            ]
            under = [pitch for pitch in voicing[1:] if pitch < min(above, default=127)]  # never over the melody
            voicing = [voicing[0], *(under or [voicing[1]])]
            phrase = (chord.start - start) / (16 * length)
            last = chord.start == 16 * (bars - 1)
            pattern = "final" if last else other if kind == "contrast" else main
            for onset, duration, pitch, first in harmony.strike(pattern, chord, voicing):
                velocity = loudness(onset, phrase, character, False) - (4 if first else 10) + rng.normal(0, 1.5)
                gate = character.gate if short and not last and duration <= 4 else 1.0
                events.append((onset, max(duration * gate, 0.5), pitch, velocity))
            if last and character.bass_centre >= 40 and voicing[0] - 12 >= 28:
                events.append((chord.start, 16.0, voicing[0] - 12, loudness(chord.start, 1.0, character, True) - 4))
    return events


def engrave(right: list[Event], left: list[Event], character: Character) -> ScoreTick:
    """The score: one note a pitch at a time over both hands, durations on the grid of thirty-seconds."""
    struck: dict[tuple[int, int], tuple[int, int, int]] = {}  # (onset, pitch) -> hand, duration, velocity
    for hand, events in enumerate((right, left)):  # where both hands meet on a key the right hand's note stays
        for start, length, pitch, velocity in events:
            duration = max(round(length * 2), 1) * TICKS // 2
            struck.setdefault((start * TICKS, pitch), (hand, duration, int(np.clip(round(velocity), 20, 118))))
    hands: tuple[list[NoteTick], list[NoteTick]] = ([], [])
    following: dict[int, int] = {}
    for (onset, pitch), (hand, duration, loud) in sorted(struck.items(), reverse=True):
        hands[hand].append(NoteTick(onset, min(duration, following.get(pitch, 1 << 30) - onset), pitch, loud))
        following[pitch] = onset
    score = ScoreTick(TICKS_PER_QUARTER)
    score.tempos.append(TempoTick(0, character.tempo))
    score.time_signatures.append(TimeSignatureTick(0, 4, 4))
    for name, notes in zip(("Right hand", "Left hand"), hands, strict=True):
        track = TrackTick(name, 0, False)
        for note in reversed(notes):
            track.notes.append(note)
        score.tracks.append(track)
    return score
