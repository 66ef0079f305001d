"""A planner: invents the plan of a piece for an emotion, a length and what the user has settled."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from huesong.music.form.heard.cadences import kind_of
from huesong.music.form.heard.grid import beat_of
from huesong.music.form.plan import DENSEST, BarPlan, Cadence, Chord, Plan, Relation
from huesong.music.form.progressions import Arrival, Chain, Functional, chain_of
from huesong.music.form.settings import STYLES, Settings
from huesong.music.form.shapes import SHORT, cadences_of, outline, relations_of
from huesong.music.form.statistics import statistics
from huesong.music.keys import SCALES, Key
from huesong.va import Trajectory, mean_of, value_at

__all__ = ["Settings", "invent"]


@dataclass(frozen=True)
class Character:
    """How plans depend on emotion, as simple monotone functions: by published findings, or as rated music has it.

    Mode, tempo, loudness and density carry most of a piece's emotion, additively and mostly linearly (Eerola, Friberg &
    Bresin 2013, Frontiers in Psychology 4:487; Gabrielsson & Lindstrom 2010). Of pairs the first is the value at the
    middle of the plane, then come its changes by arousal and by valence.
    """

    mode: float = 12.0
    """Log odds of major, by valence. Steeper than in EMOPIA (1.9), where songs of any mode have all quadrants: what a listener
    hears of valence first is the mode, and a request names one side. With 4.5 a third of the requests near the middle had the
    other one (docs/lab-diary.md)."""
    tempo: tuple[float, float, float] = (6.45, 0.6, 0.35)
    """Octaves above one quarter a minute. By valence, this and notes: clips that people rated on a scale (EIMG, VGMIDI, split
    `train`, arousal held fixed) have .23 and .6 octaves of tempo and .43 and .84 of notes a second for a unit of valence."""
    tempo_range: tuple[float, float] = (5.8, 7.35)
    """Slowest and fastest for an emotion (56 and 163 quarters a minute): a slower bar makes a short piece of two bars."""
    tempo_spread: float = 0.12
    """Standard deviation, octaves."""
    notes: tuple[float, float, float] = (2.65, 1.4, 0.65)
    """Octaves above one note a second. This and loudness: in the training clips of EMOPIA (869 segments, whose quadrants
    count as +-0.5) 1.9 and 3.1 octaves, .43 and .61 of the loudest, where arousal is low and high; steeper here, as mode.
    The middle lies between EMOPIA's 2.5 and the 2.7 to 3.0 of POP909 and scores of classical music."""
    notes_range: tuple[float, float] = (0.9, 4.0)
    """Fewest and most for an emotion: between them lie 94 of 100 rated clips or more of every set."""
    notes_spread: tuple[tuple[Relation, float], ...] = (
        ("new", 0.4), ("variation", 0.25), ("sequence", 0.2), ("repeat", 0.0),
    )  # fmt: skip
    """Standard deviation, octaves, of a bar's density about the piece's, or about that of the bar that it refers to. Of new
    bars a little less than in POP909 (.56) and scores of classical music (.48): runs and long notes take turns."""
    loudness: tuple[float, float, float] = (0.52, 0.32, -0.05)
    metres: tuple[tuple[tuple[int, int], float, float], ...] = (
        ((4, 4), 0.68, 0.0), ((3, 4), 0.17, -0.6), ((6, 8), 0.09, -0.4), ((2, 4), 0.06, 0.5),
    )  # fmt: skip
    """Metre, its share (of EIMG's clips, rounded), and how its log odds change by arousal."""


CHARACTER = Character()
AT_HOME = 0.75
"""How often a piece is made to begin on the tonic, and its first theme after an introduction."""
ARC, LETTER, FRAME = 0.05, 0.04, 0.07
"""How much louder the middle of a phrase is than its ends, how much phrases of other letters differ from the first
one's, and how much softer introductions and endings are."""


def invent(
    valence: Trajectory,
    arousal: Trajectory,
    seconds: float,
    seed: int,
    settings: Settings | None = None,
    metres: Collection[tuple[int, int]] | None = None,
) -> Plan:
    """A plan for an emotion, or a course of it; the same arguments give the same plan.

    Args:
        valence, arousal: each in [-1, 1], or a course of such values over the piece.
        seconds: the length: exact, but where the tempo is settled within 10 %; not looked at if `settings.bars` is given.
        seed: any integer.
        settings: what the user has settled.
        metres: to choose from, where the user has not settled one; None = all.

    Raises:
        UserError: the settings do not fit each other or the length; says the remedy.
    """
    settings = settings or Settings()
    rng = np.random.default_rng([seed % 2**63, 7])
    mood = mean_of(valence), mean_of(arousal)
    metre = settings.metre or _metre(mood, seconds <= SHORT, metres, rng)
    key = _key(mood, settings, rng)
    styles = STYLES[settings.style or "mixed"]
    style = str(rng.choice(styles))
    quarters = 4 * metre[0] / metre[1]
    octaves = float(
        np.clip(_by_emotion(CHARACTER.tempo, mood), *CHARACTER.tempo_range)
    ) + CHARACTER.tempo_spread * float(np.clip(rng.normal(), -2, 2))
    shape = outline(seconds, 2**octaves, quarters, settings, rng)
    labels = [label for label, _ in shape.phrases]
    relations = relations_of(shape.phrases, style, rng)
    cadences = cadences_of(labels, style, settings.loop, rng)
    course = [(value_at(valence, (bar + 0.5) / shape.bars), value_at(arousal, (bar + 0.5) / shape.bars))
              for bar in range(shape.bars)]  # fmt: skip
    if settings.chords is None:
        writer = _Harmony(chain_of(styles, key[1]), style, metre, key, rng)
        chords = writer.write(shape.phrases, cadences, relations, [v for v, _ in course])
    else:
        chords = _given_chords(settings, shape.phrases, metre, key)
    bars = _bars(shape.phrases, metre, relations, cadences if settings.chords is None else None, chords, key)
    dynamics, density = _levels(shape.phrases, course, shape.tempo, _fullness(bars, rng))
    return Plan(key[0], "major" if key[1] else "minor", shape.tempo, bars, dynamics, density)


def _by_emotion(line: tuple[float, float, float], mood: tuple[float, float]) -> float:
    return line[0] + line[1] * mood[1] + line[2] * mood[0]


def _metre(
    mood: tuple[float, float], short: bool, metres: Collection[tuple[int, int]] | None, rng: np.random.Generator
) -> tuple[int, int]:
    """A short piece takes no short bars; where none of CHARACTER's will do, the first of `metres`."""
    odds = np.array([
        share * math.exp(by * mood[1]) * (upper / lower > 0.5 or not short) * (metres is None or (upper, lower) in metres)
        for (upper, lower), share, by in CHARACTER.metres
    ])  # fmt: skip
    if metres and not odds.any():
        return next(iter(metres))
    return CHARACTER.metres[int(rng.choice(len(odds), p=odds / odds.sum()))][0]


def _key(mood: tuple[float, float], settings: Settings, rng: np.random.Generator) -> Key:
    tonic, chance = int(rng.integers(12)), float(rng.random())
    if settings.key is not None:
        return settings.key
    if settings.chords is not None:
        return key_of([chord for bar in settings.chords for chord in bar])
    return tonic, chance < 1 / (1 + math.exp(-CHARACTER.mode * mood[0]))


def key_of(chords: Sequence[Chord]) -> Key:
    """The key whose scale holds most of the chords' tones; of such keys one whose tonic triad begins or ends them."""
    named = [chord for chord in chords if chord.quality != "N"]
    if not named:
        return 0, True

    def worth(key: Key) -> float:
        scale = {(key[0] + step) % 12 for step in SCALES[key[1]][:7]}
        third = (key[0] + (4 if key[1] else 3)) % 12
        inside = sum(len(chord.tones & scale) / len(chord.tones) for chord in named) / len(named)
        home = [chord.root == key[0] and third in chord.tones for chord in (named[0], named[-1])]
        return inside + 0.15 * home[0] + 0.1 * home[1]

    return max(((tonic, major) for major in (True, False) for tonic in range(12)), key=worth)


# --- chords ------------------------------------------------------------------------------------------


@dataclass
class _Harmony:
    """Writes the chords of phrase after phrase; those of a label that returns come back."""

    chain: Chain
    style: str
    metre: tuple[int, int]
    key: Key
    rng: np.random.Generator

    def write(
        self, phrases: Sequence[tuple[str, int]], cadences: list[Cadence], relations: list[tuple[Relation, int]],
        valences: list[float],
    ) -> list[tuple[Chord, ...]]:  # fmt: skip
        """The chords of every bar."""
        found: list[tuple[Chord, ...]] = []
        known: dict[str, tuple[int, int, Cadence]] = {}
        for (label, bars), cadence in zip(phrases, cadences, strict=True):
            begin = len(found)
            arrival = Arrival(cadence, self.key[1], float(np.mean(valences[begin : begin + bars])))
            source = known.get(label) or (known.get(label[0]) if label not in ("i", "o") else None)
            if source is not None and source[1] == bars:
                found += found[source[0] : source[0] + bars]
                if source[2] != cadence:
                    self._end_anew(found, begin, arrival)
            else:
                rhythm = self._rhythm(bars)
                first = not any(name != "i" for name in known)
                tonic = (0, "maj" if self.key[1] else "min") if first and self.rng.random() < AT_HOME else None
                names = self.chain.sample(sum(map(len, rhythm)), arrival, self.rng, start=tonic)
                self._place(found, rhythm, names)
                self._repeat_within(found, begin, bars, relations)
            known.setdefault(label, (begin, bars, cadence))
            known.setdefault(label[0], (begin, bars, cadence))
        return found

    def _rhythm(self, bars: int) -> list[list[float]]:
        """Per bar where chords begin, quarters; a phrase begins with one, and arrives on its last bar line."""
        table = statistics()["habits"]["rhythms"]
        name = "/".join(map(str, self.metre))
        shares = table.get(f"{self.style} {name}") or table.get(f"classical {name}") or {"0": 1.0}
        patterns, odds = list(shares), np.array(list(shares.values()))
        beat = beat_of(*self.metre)
        found = []
        for bar in range(bars):
            pattern = str(self.rng.choice(patterns, p=odds / odds.sum()))
            beats = [int(word) * beat for word in pattern.split()]
            if bar == bars - 1:
                beats = [0.0]
            elif (bar == 0 or bar == bars - 2) and 0.0 not in beats:
                beats = [0.0, *beats]
            found.append(beats)
        return found

    def _place(self, found: list[tuple[Chord, ...]], rhythm: list[list[float]], names: list[Functional]) -> None:
        waiting = iter(names)
        for beats in rhythm:
            chords = [self._chord(beat, next(waiting)) for beat in beats]
            if not beats or beats[0] > 0:  # the chord before holds on
                chords.insert(0, found[-1][-1]._replace(position=0.0))
            found.append(tuple(chords))

    def _chord(self, beat: float, name: Functional) -> Chord:
        return Chord(beat, (self.key[0] + name[0]) % 12, name[1])

    def _functional(self, chord: Chord) -> Functional:
        return (chord.root - self.key[0]) % 12, chord.quality

    def _end_anew(self, found: list[tuple[Chord, ...]], begin: int, arrival: Arrival) -> None:
        """Another cadence for a phrase that returns: its last two bars, going on from what stands before."""
        keep = max(begin, len(found) - 2)
        rhythm = self._rhythm(len(found) - keep)
        before = self._functional(found[keep - 1][-1]) if keep > begin else None
        del found[keep:]
        count = sum(map(len, rhythm))
        if before in self.chain.names:
            names = self.chain.sample(count + 1, arrival, self.rng, start=before)[1:]
        else:
            names = self.chain.sample(count, arrival, self.rng)
        self._place(found, rhythm, names)

    def _repeat_within(
        self, found: list[tuple[Chord, ...]], begin: int, bars: int, relations: list[tuple[Relation, int]]
    ) -> None:
        """Bars that repeat or vary one of their own phrase have its chords; the last two are the cadence's."""
        for bar in range(begin, begin + bars - 2):
            relation, back = relations[bar]
            if relation in ("repeat", "variation") and back <= bar - begin:
                found[bar] = found[bar - back]


def _given_chords(
    settings: Settings, phrases: Sequence[tuple[str, int]], metre: tuple[int, int], key: Key
) -> list[tuple[Chord, ...]]:
    """The user's chords, from the first one on in each phrase; the last bar is the tonic, unless the piece is a loop."""
    assert settings.chords is not None, "asked for"
    quarters, beat = 4 * metre[0] / metre[1], beat_of(*metre)
    bars = []
    for given in settings.chords:
        placed: dict[float, Chord] = {}
        for chord in given:
            place = min(round(chord.position / 4 * quarters / beat), math.ceil(quarters / beat) - 1) * beat
            placed.setdefault(float(place), chord._replace(position=float(place)))
        bars.append(tuple(placed.values()))
    found = [bars[bar % len(bars)] for _, length in phrases for bar in range(length)]
    if not settings.loop and len(found) > 1:
        found[-1] = (Chord(0.0, key[0], "maj" if key[1] else "min"),)
    return found


def _bars(
    phrases: Sequence[tuple[str, int]], metre: tuple[int, int], relations: list[tuple[Relation, int]],
    cadences: list[Cadence] | None, chords: list[tuple[Chord, ...]], key: Key,
) -> tuple[BarPlan, ...]:  # fmt: skip
    """The bars; a repeat with other chords than before is a variation; cadences None: those that the chords make."""
    found: list[BarPlan] = []
    for index, (label, length) in enumerate(phrases):
        for left in range(length, 0, -1):
            bar = len(found)
            relation, back = relations[bar]
            if relation == "repeat" and chords[bar] != chords[bar - back]:
                relation = "variation"
            cadence: Cadence = ""
            if left == 1:
                before = chords[bar][-2] if len(chords[bar]) > 1 else chords[bar - 1][-1] if bar else None
                heard = kind_of(before, chords[bar][-1], key) if before else ""
                cadence = heard if cadences is None else cadences[index]
            found.append(BarPlan(metre, relation, back, label, left, cadence, chords[bar]))
    return tuple(found)


# --- levels --------------------------------------------------------------------------------------------


def _fullness(bars: Sequence[BarPlan], rng: np.random.Generator) -> list[float]:
    """How much fuller each bar is than the emotion says, octaves; a bar that returns is about as full as it was."""
    spread, found = dict(CHARACTER.notes_spread), list[float]()
    for index, bar in enumerate(bars):
        about = found[index - bar.back] if bar.back else 0.0
        found.append(about + spread[bar.relation] * float(np.clip(rng.normal(), -2, 2)))
    return found


def _levels(
    phrases: Sequence[tuple[str, int]], course: list[tuple[float, float]], tempo: float, fullness: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Dynamics and density of every bar: the emotion's there, an arc in each phrase, contrast between letters and bars."""
    dynamics: list[float] = []
    density: list[float] = []
    letters = list(dict.fromkeys(label[0] for label, _ in phrases))
    last = len(phrases) - 1
    for index, (label, bars) in enumerate(phrases):
        other = 0 if label[0] in "io" else LETTER * (-1) ** letters.index(label[0]) * (letters.index(label[0]) > 0)
        frame = FRAME * (label[0] in "io")
        for bar in range(bars):
            mood, fuller = course[len(dynamics)], fullness[len(dynamics)]
            arc = ARC * (math.sin(math.pi * (bar + 0.5) / bars) - 0.5)
            dynamics.append(_by_emotion(CHARACTER.loudness, mood) + arc - other - frame)
            full = float(np.clip(_by_emotion(CHARACTER.notes, mood), *CHARACTER.notes_range))
            notes = 2 ** (full - 8 * frame - 4 * other + fuller)
            closing = 0.5 if bar == bars - 1 and index == last else 0.8 if bar == bars - 1 else 1.0
            density.append(notes * 60 / tempo / DENSEST * closing)
    return (
        tuple(round(float(np.clip(level, 0.1, 0.95)), 3) for level in dynamics),
        tuple(round(float(np.clip(level, 0.03, 1)), 3) for level in density),
    )
