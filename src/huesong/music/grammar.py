"""The token grammar: which tokens may come next, so that every sampled piece is a valid score of the planned length.

An automaton over REMI's base tokens (vocabulary.FOLLOWS) says what may follow what; the state adds what the automaton
cannot know: the bar, the position, the seconds gone by, the pitches already struck. Tokens merged by BPE are judged by
summaries of their base tokens (vocabulary.TokenTable), so one mask is a handful of comparisons of arrays of length V.

What the plan says is not sampled: metre, tempo, and the head of every bar are the only tokens allowed where they stand.
Between them the model is free, but where a cadence arrives (form/heads.py), up to the last bar; what would sound beyond its
bar line is written down shorter, as a player lifts the hands for the last chord. The last bar is that chord, from base
tokens: the tonic triad; then EOS. (A piece without closing chord is free to its end.)

Why a mask is never empty: after a Position any Pitch is allowed; after a note the next Position (or, at the end of the
bar, Bar) is.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from huesong.music.form.heads import Arrival, Arrivals, arrival_of
from huesong.music.keys import HIGHEST, Constraints, Key, LastChord, degree_odds, find_key
from huesong.music.vocabulary import Frame, LastRead, Vocabulary, read_next, table_of, violations

__all__ = ["Constraints", "Grammar", "LastRead", "State", "Vocabulary"]

ENDLESS = 10**9


@dataclass
class State:
    """A piece so far. Ticks are positions of the grid, counted from the first bar."""

    constraints: Constraints
    bar_ticks: int
    """Of every bar."""
    tick_s: float
    """Seconds a tick lasts."""
    last_onset: int = ENDLESS
    """Tick of the last chord, or of the end if there is none."""
    end: int = ENDLESS
    """Tick at which the piece ends."""
    last_read: LastRead = LastRead.START
    planned: list[int] = field(default_factory=list)
    """Tokens that the plan says come next."""
    bar: int = -1
    bar_tick: int = 0
    arrival: Arrival | None = None
    """Of a cadence in the present bar."""
    position: int = -1
    pitch: int = -1
    """Last (highest) pitch at this position."""
    velocity: int = 0
    notes_here: int = 0
    top_before: int = 0
    """Highest pitch of the position with notes before this one."""
    strokes: int = 0
    """How many positions with notes in a row, up to that one, had this highest pitch."""
    notes_in_bar: int = 0
    notes: int = 0
    silent_bars: int = 0
    latest_end: int = 0
    ends: dict[int, int] = field(default_factory=dict)
    """End tick of the last note of each pitch; a key struck again ends its note before."""
    sounding: list[int] = field(default_factory=list)
    """End ticks of notes that still sound, ascending."""
    onsets_s: list[float] = field(default_factory=list)
    """Onsets in seconds."""
    velocity_sum: int = 0
    pitch_classes: np.ndarray = field(default_factory=lambda: np.zeros(12))
    """Ticks sounded by each pitch class."""
    chord: LastChord | None = None

    @property
    def done(self) -> bool:
        """Whether EOS was read."""
        return self.last_read == LastRead.DONE

    @property
    def tick(self) -> int:
        """Where the piece has come to."""
        return self.bar_tick + max(self.position, 0)

    @property
    def seconds(self) -> float:
        """Where the piece has come to, in seconds."""
        return self.tick * self.tick_s


class Grammar:
    """Masks over the vocabulary and the transitions between states."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.table = table_of(vocabulary)
        self.beat = vocabulary.positions_per_beat
        ids = self.table.ids
        self.velocities = np.array(sorted(ids["Velocity"]))
        self.durations = sorted(ids["Duration"])
        # Named masks of the ending, where only single base tokens are allowed.
        self.only_eos = self._only([vocabulary.eos])
        self.only_first_position = self._only([ids["Position"][0]])
        self.notes_begin = self.table.onsets > 0
        self.first_here = self.table.first_onset < 0
        self._arrivals = Arrivals(self.table)
        self._bars: dict[tuple[int, int], int] = {}
        self._frames: dict[tuple[tuple[int, int], Key | None], Frame] = {}
        self._key_biases: dict[Key, np.ndarray] = {}

    def _only(self, ids: Iterable[int]) -> np.ndarray:
        mask = np.zeros(self.vocabulary.size, dtype=bool)
        mask[list(ids)] = True
        return mask

    def start(self, constraints: Constraints) -> State:
        """The state after BOS."""
        upper, lower = constraints.metre
        bar_ticks, tick_s = upper * self.beat, 240.0 / (lower * constraints.tempo * self.beat)
        state = State(constraints, bar_ticks, tick_s)
        if constraints.bars is not None:
            state.end = constraints.bars * bar_ticks
            one_bar = self.beat * max(1, upper // 2)  # a piece of one bar ends within it
            chord = state.end - bar_ticks if constraints.bars > 1 else one_bar
            state.last_onset = chord if constraints.closing else state.end
        if self.vocabulary.has_heads:
            state.planned = [self.table.heads[name] for name in constraints.beginning]
        nearest = int(np.abs(np.log(self.table.tempos / constraints.tempo)).argmin())
        state.planned += [*self._bar(state, 0), self.table.ids["Position"][0], self.table.ids["Tempo"][nearest]]
        return state

    def bar_token(self, metre: tuple[int, int]) -> int:
        """The token that begins a bar of this metre: `Bar`, or what BPE made of `Bar` and `TimeSig`."""
        if metre not in self._bars:
            sign = ("TimeSig", 100 * metre[0] + metre[1])
            self._bars[metre] = self.table.merged.get((("Bar", 0), sign), self.table.ids["Bar"][0])
        return self._bars[metre]

    def _bar(self, state: State, bar: int) -> list[int]:
        """The planned tokens of a bar: its beginning, metre and head."""
        metre = state.constraints.metre
        found = [self.bar_token(metre)]
        if not self.vocabulary.has_heads:
            return found
        if self.table.metre[found[0]] < 0:
            found.append(self.table.ids["TimeSig"][100 * metre[0] + metre[1]])
        heads = state.constraints.heads
        return found + [self.table.heads[name] for name in (heads[bar] if heads else ())]

    def masks(self, states: Sequence[State]) -> np.ndarray:
        """Allowed tokens, bool [B, V]; no row is empty."""
        return np.stack([self.mask(state) for state in states])

    def mask(self, state: State) -> np.ndarray:
        """Allowed tokens, bool [V]; never empty."""
        if state.planned:
            return self._only(state.planned[:1])
        if state.last_read >= LastRead.LAST_BAR:
            return self._ending_mask(state)
        table, frame, room = self.table, self._frame(state), state.last_onset - state.bar_tick
        allowed = frame.allowed_PV[state.last_read] & (frame.reach < room)
        allowed &= table.first_position > state.position
        if state.position >= 0:
            allowed &= table.lead_pitch > state.pitch
            allowed &= table.lead_notes <= max(0, state.constraints.notes_per_position - state.notes_here)
        if not self.next_bar(state):  # the piece ends at this bar's end, or within it
            allowed &= ~table.bar
        if room <= state.bar_ticks and self._may_end(state):
            allowed[self._ending_token(state, room)] = True
        kept = self._within_caps(state, allowed)
        kept = kept if kept.any() else allowed
        if state.arrival is not None:
            arriving = kept & self._arrivals.mask(state.arrival, state.position, state.notes_here)
            kept = arriving if arriving.any() else kept
        return kept

    def _frame(self, state: State) -> Frame:
        """What holds of the metre and key at every step."""
        metre, key = state.constraints.metre, state.constraints.key
        if (metre, key) not in self._frames:
            bar = self.bar_token(metre)
            self._frames[metre, key] = Frame.of(self.table, state.bar_ticks, bar, self.key_bias(state))
        return self._frames[metre, key]

    def next_bar(self, state: State) -> bool:
        """Whether another free bar follows the present one."""
        return state.bar_tick + state.bar_ticks < state.last_onset

    def _may_end(self, state: State) -> bool:
        """Whether what was read may be followed by the closing chord, or the end."""
        return state.last_read in (LastRead.BAR, LastRead.TEMPO, LastRead.NOTE) and state.notes > 0

    def _ending_token(self, state: State, room: int) -> int:
        """What leads to the ending: EOS, the last bar's beginning, or (in a piece of one bar) the chord's position."""
        if state.last_onset == state.end:
            return self.vocabulary.eos
        return self.bar_token(state.constraints.metre) if room == state.bar_ticks else self.table.ids["Position"][room]

    def key_bias(self, state: State) -> np.ndarray | None:
        """What a logit gains where a key was asked for [V]: the log-odds of each of the token's notes in that key.

        A scale alone makes no key: a network that thinks in another one dwells on the notes that both have. -inf for
        notes outside of the scale; None if no key was asked for, and in the last chord.
        """
        key = state.constraints.key
        if key is None or state.last_read >= LastRead.LAST_BAR:
            return None
        if key not in self._key_biases:
            odds = degree_odds(key)
            logs = np.log(np.where(odds > 0, odds, 1.0))
            outside = self.table.pitch_classes[:, odds == 0].any(axis=1)
            self._key_biases[key] = np.where(outside, -np.inf, self.table.pitch_classes @ logs)
        return self._key_biases[key]

    def advance(self, state: State, token: int) -> list[int]:
        """Read an allowed token: `state` is changed in place; returns the ids to write down for it.

        That is the token itself, or its base tokens with shorter durations where the last chord cuts notes off; nothing
        for EOS.

        Raises:
            ValueError: the plan says another token.
        """
        if token == self.vocabulary.eos:
            state.last_read = LastRead.DONE
            return []
        base, planned = self.table.base[token], bool(state.planned)
        self._follow_plan(state, base)
        written = [(kind, self._read(state, kind, value)) for kind, value in base]
        if base[0][0] == "Bar" and not planned:
            state.planned = self._bar(state, state.bar)[1:]
        return [token] if written == base else [self.table.ids[kind][value] for kind, value in written]

    def _follow_plan(self, state: State, base: list[tuple[str, int]]) -> None:
        """Take what was read off the plan; a primer may have it in tokens that BPE joined otherwise."""
        left = list(base)
        while state.planned and left:
            wanted = self.table.base[state.planned.pop(0)]
            if left[: len(wanted)] != wanted[: len(left)]:
                raise ValueError(f"the plan says {wanted}, not {left}")
            state.planned[:0] = [self.table.merged[(part,)] for part in wanted[len(left) :]]
            left = left[len(wanted) :]

    def count_violations(self, ids: Sequence[int]) -> int:
        """Base tokens that break the grammar's order: wrong kind, position or pitch not ascending, an unfinished note.

        A leading BOS, PAD and everything from EOS on are not counted.
        """
        music = itertools.takewhile(lambda token: token != self.vocabulary.eos, ids)
        parts = (part for token in music for part in self.table.base[token] if part[0] not in ("PAD", "BOS", "EOS"))
        wrong, last = violations(parts, positions_per_beat=self.beat)
        return wrong + (last not in (LastRead.NOTE, LastRead.START, LastRead.TEMPO, LastRead.BAR))

    # --- the free part ---------------------------------------------------------------------------

    def _within_caps(self, state: State, allowed: np.ndarray) -> np.ndarray:
        """`allowed` without what would be silence or a runaway; may be empty."""
        table, caps, frame = self.table, state.constraints, self._frame(state)
        crowded = self._high_notes(state) >= caps.high_notes
        kept = allowed & (table.top_pitch <= (caps.high if crowded else caps.highest))
        if state.strokes >= caps.strokes:
            kept &= (table.lead_notes == 0) | ~table.first_struck_VP[:, state.top_before]
        top, strokes = self._strokes(state)
        if strokes >= caps.strokes:
            kept &= (table.lead_notes > 0) | ~table.first_struck_VP[:, top]
        empty_bar = state.notes_in_bar == 0
        if empty_bar and (state.bar >= 0) and (not state.notes or state.silent_bars >= caps.silent_bars):
            kept &= ~table.bar
        if state.notes_in_bar >= caps.notes_per_bar:
            kept &= table.bar | ~self.notes_begin
        tick = state.tick
        sounding = state.sounding[bisect_right(state.sounding, tick) :]
        held = len(sounding) + (
            state.last_read in (LastRead.PITCH, LastRead.VELOCITY)
        )  # a note without its duration as yet
        if held + table.most_onsets > caps.polyphony:
            # At most this many sound at a token's first onset; they can only become fewer at its later ones.
            places = state.bar_tick + np.where(self.first_here, max(state.position, 0), frame.first_onset)
            still = held - np.searchsorted(np.array(sounding), places, side="right")
            kept &= ~self.notes_begin | (still + table.onsets <= caps.polyphony)
        now_s, rate = state.seconds, caps.notes_per_second
        recent = state.onsets_s[bisect_right(state.onsets_s, now_s - 1.0) :]
        if len(recent) + table.most_onsets > rate:
            later_s = np.where(self.first_here, 0, frame.first_onset - max(state.position, 0)) * state.tick_s
            still = len(recent) - np.searchsorted(np.array(recent), now_s + later_s - 1.0, side="right")
            kept &= ~self.notes_begin | (still + table.onsets <= rate)
        # A token that first ends the note at hand may move on from there.
        in_time = frame.after_note <= max(state.position, 0) + self._rest(state)
        sounds = kept & (in_time | (frame.moves_to <= self._quiet_until(state)))
        return sounds if sounds.any() else kept

    def _high_notes(self, state: State) -> int:
        """How many notes above `Constraints.high` sound, the one at hand included."""
        high, at_hand = state.constraints.high, state.last_read in (LastRead.PITCH, LastRead.VELOCITY)
        return sum(pitch > high and end > state.tick for pitch, end in state.ends.items()) + (
            at_hand and state.pitch > high
        )

    def _strokes(self, state: State) -> tuple[int, int]:
        """The highest pitch of the last position with notes, and how many of them in a row have it."""
        if not state.notes_here:
            return state.top_before, state.strokes
        return state.pitch, state.strokes + 1 if state.pitch == state.top_before else 1

    def _leave_position(self, state: State) -> None:
        state.top_before, state.strokes = self._strokes(state)
        state.pitch, state.notes_here = -1, 0

    def _rest(self, state: State) -> int:
        """The longest silence, in ticks."""
        return int(state.constraints.silence / state.tick_s) if state.tick_s else ENDLESS

    def _quiet_until(self, state: State) -> int:
        """Tick, from the bar's start, at which the next note must begin at the latest, after those read so far."""
        return state.latest_end - state.bar_tick + self._rest(state)

    def _read(self, state: State, kind: str, value: int) -> int:
        """One base token; returns its value as it is to be written."""
        if state.last_read >= LastRead.LAST_BAR:
            self._read_ending(state, kind, value)
            return value
        state.last_read = read_next(state.last_read, kind, value)
        if kind == "Bar":
            self._begin_bar(state)
        elif kind == "Position":
            self._leave_position(state)
            state.position = value
            if state.tick == state.last_onset:
                self._begin_last_chord(state)
        elif kind == "Pitch":
            state.pitch = value
            state.notes_here += 1
            state.notes_in_bar += 1
            state.notes += 1
            state.onsets_s.append(state.seconds)
        elif kind == "Velocity":
            state.velocity_sum += value
        elif kind == "Duration":
            room = state.last_onset - state.tick
            if value > room:
                value = self.durations[bisect_right(self.durations, room) - 1]
            end = state.tick + value
            if state.ends.get(state.pitch, 0) > state.tick:
                state.sounding.remove(state.ends[state.pitch])
            state.ends[state.pitch] = end
            state.latest_end = max(state.ends.values())
            insort(state.sounding, end)
            state.pitch_classes[state.pitch % 12] += value
        return value

    def _begin_bar(self, state: State) -> None:
        if state.bar >= 0:
            state.silent_bars = 0 if state.notes_in_bar else state.silent_bars + 1
            state.bar_tick += state.bar_ticks
        state.bar += 1
        self._leave_position(state)
        state.position, state.notes_in_bar = -1, 0
        state.sounding = state.sounding[bisect_right(state.sounding, state.bar_tick) :]
        state.onsets_s = state.onsets_s[bisect_right(state.onsets_s, state.bar_tick * state.tick_s - 1.0) :]
        asked = state.constraints
        if asked.arrivals and asked.heads and self.vocabulary.has_heads:
            state.arrival = arrival_of(asked.heads[state.bar], self.beat)
        if state.bar_tick == state.last_onset:
            state.last_read = LastRead.LAST_BAR

    # --- the last chord --------------------------------------------------------------------------

    def _begin_last_chord(self, state: State) -> None:
        state.last_read = LastRead.CHORD
        wanted = state.constraints
        root, major = wanted.tonic or wanted.key or find_key(state.pitch_classes)
        mean = state.velocity_sum / max(1, state.notes)
        nearest = np.argsort(np.abs(self.velocities - mean), kind="stable")[:5]
        velocities = tuple(int(velocity) for velocity in self.velocities[nearest])
        longest = self.durations[bisect_right(self.durations, state.end - state.last_onset) - 1]
        # It ends near the line that leads to it: no more than a fourth above what the bar before had.
        heard = [pitch for pitch, end in state.ends.items() if end > state.last_onset - state.bar_ticks]
        highest = min(HIGHEST, max(heard, default=HIGHEST) + 5)
        state.chord = LastChord(root, major, longest, velocities, [], highest)

    def _ending_mask(self, state: State) -> np.ndarray:
        ids = self.table.ids
        if state.last_read == LastRead.LAST_BAR:
            return self.only_first_position
        chord = state.chord
        if state.last_read == LastRead.DONE or chord is None:
            return self.only_eos
        if state.last_read == LastRead.CHORD_PITCH:
            return self._only([ids["Velocity"][velocity] for velocity in chord.velocities])
        if state.last_read == LastRead.CHORD_VELOCITY:
            return self._only([ids["Duration"][chord.duration]])
        mask = self._only([ids["Pitch"][pitch] for pitch in chord.choices()])
        mask[self.vocabulary.eos] = chord.complete
        return mask

    def _read_ending(self, state: State, kind: str, value: int) -> None:
        if kind not in ("Position", "Pitch", "Velocity", "Duration"):
            return  # the metre and head of the last bar
        if kind == "Position":
            state.position = value
            self._begin_last_chord(state)
        elif kind == "Pitch":
            assert state.chord is not None
            state.chord.pitches.append(value)
            state.notes += 1
            state.last_read = LastRead.CHORD_PITCH
        elif kind == "Velocity":
            state.last_read = LastRead.CHORD_VELOCITY
        else:
            state.latest_end = max(state.latest_end, state.tick + value)
            state.last_read = LastRead.CHORD_NOTE
