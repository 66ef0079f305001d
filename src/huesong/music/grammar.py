"""The token grammar: which tokens may come next, so that every sampled piece is a valid score of the asked length.

An automaton over REMI's base tokens (vocabulary.FOLLOWS) says what may follow what; the state adds what the automaton
cannot know: the bar, the position, the seconds gone by, the pitches already struck. Tokens merged by BPE are judged by
summaries of their base tokens (vocabulary.TokenTable), so one mask is a handful of comparisons of arrays of length V.

A piece has two parts. In the first the model is free: nothing may begin at the onset of the last chord or later, and
what would sound beyond it is written down shorter, as a player lifts the hands for the last chord; and a token that would
move on to that onset or beyond is read as moving to it. Were either forbidden instead, the model would fill the time that
is left with hasty notes. The second is that chord, from base tokens: the
tonic triad, ending at the asked length; then EOS.

Why a mask is never empty: after a Position any Pitch is allowed; after a note the next Position (or, at the end of the
bar, Bar) is, or the last chord begins there.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from huesong.music.keys import FEWEST_BEATS, TOLERANCE, Constraints, Key, LastChord, degree_odds, find_key, plan
from huesong.music.vocabulary import FAR, LastRead, TokenTable, Vocabulary, read_next, violations

__all__ = ["Constraints", "Grammar", "LastRead", "State", "Vocabulary"]

ENDLESS = 10**9


@dataclass
class State:
    """A piece so far. Ticks are positions of the grid, counted from the first bar."""

    constraints: Constraints
    last_read: LastRead = LastRead.START
    bar: int = -1
    bar_tick: int = 0
    bar_s: float = 0.0
    """Seconds at which the bar begins."""
    position: int = -1
    tempo: int = -1
    """Index into the table's tempos; -1 before the first Tempo."""
    tick_s: float = 0.0
    """Seconds a tick lasts."""
    pitch: int = -1
    """Last (highest) pitch at this position."""
    velocity: int = 0
    notes_here: int = 0
    notes_in_bar: int = 0
    notes: int = 0
    silent_bars: int = 0
    last_onset: int = ENDLESS
    """Tick of the last chord."""
    end: int = ENDLESS
    """Tick at which the piece ends."""
    latest_end: int = 0
    sounding: list[int] = field(default_factory=list)
    """End ticks of notes that still sound, ascending."""
    onsets_s: list[float] = field(default_factory=list)
    """Onsets in seconds."""
    velocity_sum: int = 0
    pitch_classes: np.ndarray = field(default_factory=lambda: np.zeros(12))
    """Ticks sounded by each pitch class."""
    chord: LastChord | None = None
    tempo_limits: np.ndarray | None = None
    """Cache of the bar: `Grammar._tempo_limits`."""

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
        return self.bar_s + max(self.position, 0) * self.tick_s


class Grammar:
    """Masks over the vocabulary and the transitions between states."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.table = TokenTable(vocabulary)
        self.bar_ticks, self.beat = self.table.bar_ticks, vocabulary.positions_per_beat
        self.tick_s = 60.0 / (self.table.tempos * self.beat)
        ids = self.table.ids
        self.velocities = np.array(sorted(ids["Velocity"]))
        self.bar_id = ids["Bar"][0]
        self.durations = sorted(ids["Duration"])
        # Named masks of the ending, where only single base tokens are allowed.
        self.only_bos = self._only([vocabulary.bos])
        self.only_eos = self._only([vocabulary.eos])
        self.only_first_position = self._only([ids["Position"][0]])
        self.notes_begin = self.table.onsets > 0
        self._key_biases: dict[Key, np.ndarray] = {}

    def _only(self, ids: Iterable[int]) -> np.ndarray:
        mask = np.zeros(self.vocabulary.size, dtype=bool)
        mask[list(ids)] = True
        return mask

    def start(self, constraints: Constraints) -> State:
        """The state after BOS."""
        return State(constraints)

    def can_be(self, wanted: Constraints) -> bool:
        """Whether the asked length can be had at the asked tempo."""
        return wanted.tempo is None or bool(self._tempo_limits(self.start(wanted), 0)[wanted.tempo] > -FAR)

    def masks(self, states: Sequence[State]) -> np.ndarray:
        """Allowed tokens, bool [B, V]; no row is empty."""
        return np.stack([self.mask(state) for state in states])

    def mask(self, state: State) -> np.ndarray:
        """Allowed tokens, bool [V]; never empty."""
        if state.last_read >= LastRead.LAST_BAR:
            return self._ending_mask(state)
        table, room = self.table, state.last_onset - state.bar_tick
        limit = self._limits(state, room)
        allowed = table.fits_PV[state.last_read] & (table.reach < limit)
        allowed &= table.first_position > state.position
        if (bias := self.key_bias(state)) is not None:
            allowed &= np.isfinite(bias)
        if state.position >= 0:
            allowed &= table.lead_pitch > state.pitch
            allowed &= table.lead_notes <= max(0, state.constraints.notes_per_position - state.notes_here)
        last_chord = self._last_chord_token(state, room)
        kept = self._within_caps(state, allowed)
        if last_chord is not None and (room <= self._quiet_until(state) or not kept.any()):
            kept[last_chord] = True
            kept |= table.fits_PV[state.last_read] & (table.bar | (table.opens >= room))
        elif room == self.bar_ticks and kept[self.bar_id]:
            kept |= table.fits_PV[state.last_read] & table.bar
        return kept if kept.any() else allowed

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
        """
        if token == self.vocabulary.eos:
            state.last_read = LastRead.DONE
            return []
        base = self._moved(state, self.table.base[token])
        if base != self.table.base[token]:
            token = self.table.ids[base[0][0]][base[0][1]]
        written = [(kind, self._read(state, kind, value)) for kind, value in base]
        return [token] if written == base else [self.table.ids[kind][value] for kind, value in written]

    def count_violations(self, ids: Sequence[int]) -> int:
        """Base tokens that break the grammar's order: wrong kind, position or pitch not ascending, an unfinished note.

        A leading BOS, PAD and everything from EOS on are not counted.
        """
        music = itertools.takewhile(lambda token: token != self.vocabulary.eos, ids)
        parts = (part for token in music for part in self.table.base[token] if part[0] in self.table.ids)
        wrong, last = violations(parts)
        return wrong + (last not in (LastRead.NOTE, LastRead.START, LastRead.TEMPO, LastRead.BAR))

    def _moved(self, state: State, base: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """What a token's base tokens are read as: the step to the last chord alone, if they begin with it or go beyond."""
        kind, value = base[0]
        room = state.last_onset - state.bar_tick
        if state.last_read >= LastRead.LAST_BAR or (
            not (kind == "Bar" and room <= self.bar_ticks) and not (kind == "Position" and value >= room)
        ):
            return base
        return [("Bar", 0)] if room == self.bar_ticks else [("Position", room)]

    # --- the free part ---------------------------------------------------------------------------

    def _limits(self, state: State, room: int) -> np.ndarray:
        """Ticks from the bar's start before which a token's onsets must lie [V]; tokens with a tempo have their own."""
        if state.tempo_limits is None:
            state.tempo_limits = np.concatenate(
                ([0], self._tempo_limits(state, 0), self._tempo_limits(state, self.bar_ticks))
            )
        # Notes read since the cache was made may sound longer than before: no tempo may let the last chord begin under them.
        lookup = np.where(state.tempo_limits + state.bar_tick >= state.latest_end, state.tempo_limits, -FAR)
        lookup[0] = room
        return lookup[self.table.limit_entry]

    def _tempo_limits(self, state: State, ahead: int) -> np.ndarray:
        """For each tempo, if it comes at the start of this bar (`ahead` 0) or the next: the tick of the last chord.

        It counts from the start of this bar. -FAR where the tempo may not come: it is in force already, the last chord
        begins there, or would then have to begin in that very bar. Notes that still sound are `_limits`' matter.
        """
        first, asked_tempo = state.tempo < 0, state.constraints.tempo
        if state.bar < 0:
            ahead = 0  # the first bar is both this one and the next
        now, now_s = state.bar_tick + ahead, state.bar_s + ahead * state.tick_s
        onset, end = plan(state.constraints, now, now_s, self.tick_s, self.beat, self.bar_ticks)
        if first:
            asked = state.constraints.seconds
            allowed = np.ones(len(onset), dtype=bool)
            if asked is not None:
                allowed = (end >= FEWEST_BEATS * self.beat) & (np.abs(end * self.tick_s / asked - 1) <= TOLERANCE)
                if asked_tempo is None and not allowed.any():
                    allowed[-1] = True  # the fastest: its grid is the finest
        else:
            allowed = (onset >= now + self.bar_ticks) & (now < state.last_onset)
            allowed[state.tempo] = False
        if asked_tempo is not None:
            allowed &= np.arange(len(allowed)) == asked_tempo
        # Before the first bar its own start is yet to come, one bar ahead in the token's own count.
        shift = self.bar_ticks if state.bar < 0 else 0
        return np.where(allowed, onset - state.bar_tick + shift, -FAR)

    def _last_chord_token(self, state: State, room: int) -> int | None:
        """The Position at which the last chord begins, if it may begin next."""
        if state.last_read not in (LastRead.BAR, LastRead.TEMPO, LastRead.NOTE) or not state.notes:
            return None
        if state.position < room < self.bar_ticks:
            return self.table.ids["Position"][room]
        return None

    def _within_caps(self, state: State, allowed: np.ndarray) -> np.ndarray:
        """`allowed` without what would be silence or a runaway; may be empty."""
        table, caps = self.table, state.constraints
        kept = allowed.copy()
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
            places = state.bar_tick + np.where(table.first_onset < 0, max(state.position, 0), table.first_onset)
            still = held - np.searchsorted(np.array(sounding), places, side="right")
            kept &= ~self.notes_begin | (still + table.onsets <= caps.polyphony)
        now_s, rate = state.seconds, caps.notes_per_second
        recent = state.onsets_s[bisect_right(state.onsets_s, now_s - 1.0) :]
        if len(recent) + table.most_onsets > rate:
            later_s = np.where(table.first_onset < 0, 0, table.first_onset - max(state.position, 0)) * state.tick_s
            still = len(recent) - np.searchsorted(np.array(recent), now_s + later_s - 1.0, side="right")
            kept &= ~self.notes_begin | (still + table.onsets <= rate)
        # A token that first ends the note at hand may move on from there.
        ends = np.where(table.lead_duration > 0, max(state.position, 0) + table.lead_duration + self._rest(state), -FAR)
        sounds = kept & (table.moves_to <= np.maximum(ends, self._quiet_until(state)))
        return sounds if sounds.any() else kept

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
            if state.bar >= 0:
                state.silent_bars = 0 if state.notes_in_bar else state.silent_bars + 1
                state.bar_tick += self.bar_ticks
                state.bar_s += self.bar_ticks * state.tick_s
            state.bar += 1
            state.position = state.pitch = -1
            state.notes_here = state.notes_in_bar = 0
            state.tempo_limits = None
            state.sounding = state.sounding[bisect_right(state.sounding, state.bar_tick) :]
            state.onsets_s = state.onsets_s[bisect_right(state.onsets_s, state.bar_s - 1.0) :]
            if state.bar_tick == state.last_onset:
                state.last_read = LastRead.LAST_BAR
        elif kind == "Position":
            state.position, state.pitch, state.notes_here = value, -1, 0
            if state.tick == state.last_onset:
                self._begin_last_chord(state)
        elif kind == "Tempo":
            state.tempo, state.tick_s = value, float(self.tick_s[value])
            state.tempo_limits = None
            onset_1, end_1 = plan(
                state.constraints,
                state.bar_tick,
                state.bar_s,
                self.tick_s[value : value + 1],
                self.beat,
                self.bar_ticks,
            )
            state.last_onset, state.end = int(onset_1[0]), int(end_1[0])
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
            state.latest_end = max(state.latest_end, end)
            insort(state.sounding, end)
            state.pitch_classes[state.pitch % 12] += value
        return value

    # --- the last chord --------------------------------------------------------------------------

    def _begin_last_chord(self, state: State) -> None:
        state.last_read = LastRead.CHORD
        root, major = state.constraints.key or find_key(state.pitch_classes)
        mean = state.velocity_sum / max(1, state.notes)
        nearest = np.argsort(np.abs(self.velocities - mean), kind="stable")[:5]
        velocities = tuple(int(velocity) for velocity in self.velocities[nearest])
        state.chord = LastChord(root, major, state.end - state.last_onset, velocities, [])

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
        assert kind in ("Position", "Pitch", "Velocity", "Duration"), f"{kind} in the last chord"
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
