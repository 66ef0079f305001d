"""The vocabulary as the token grammar sees it: what each id means for bars, positions and notes.

Times are counted in ticks of the position grid: `positions_per_beat` a beat of the metre (a quarter in 3/4, an eighth in
6/8). V = vocabulary size, P = members of LastRead that FOLLOWS has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from huesong.music.form import header
from huesong.runtime.errors import UserError

FORMATS = (1, 2)
"""1: all bars are 4/4, and none has a head. 2: time signatures, and heads of bars (header.py)."""
FAR = 10**6
"""Further than any tick, higher than any pitch."""


class LastRead(IntEnum):
    """What was read last, as far as it decides what may come next."""

    START = 0
    FIRST_BAR = 1
    FIRST_POSITION = 2
    BAR = 3
    DOWNBEAT = 4
    POSITION = 5
    TEMPO = 6
    PITCH = 7
    VELOCITY = 8
    NOTE = 9
    # The ending: one chord, base tokens only.
    LAST_BAR = 10
    CHORD = 11
    CHORD_PITCH = 12
    CHORD_VELOCITY = 13
    CHORD_NOTE = 14
    DONE = 15


RANKS = {"TimeSig": 0, "Left": 1, **dict.fromkeys(header.RELATIONS, 2), "Density": 3, "Loudness": 4, "Cadence": 6}
RANKS |= {"Chord": 5, "At": 5}
"""What stands between `Bar` and the first position, in ascending order; only chords and their beats may be several."""
FOLLOWS: dict[LastRead, tuple[str, ...]] = {
    LastRead.START: ("Style", "Key", "Bar"),
    LastRead.FIRST_BAR: (*RANKS, "Position"),  # 0 only: the tempo has to stand there
    LastRead.FIRST_POSITION: ("Tempo",),
    LastRead.BAR: (*RANKS, "Position", "Bar"),
    LastRead.DOWNBEAT: ("Tempo", "Pitch"),
    LastRead.POSITION: ("Pitch",),
    LastRead.TEMPO: ("Pitch", "Position", "Bar"),
    LastRead.PITCH: ("Velocity",),
    LastRead.VELOCITY: ("Duration",),
    LastRead.NOTE: ("Pitch", "Position", "Bar"),
}
"""The automaton of REMI: kinds of base tokens that may follow what was read last."""


def read_next(last: LastRead, kind: str, value: int) -> LastRead:
    """What was read last, once this base token is read, too."""
    if kind == "Bar":
        return LastRead.FIRST_BAR if last == LastRead.START else LastRead.BAR
    if kind in RANKS or kind in ("Style", "Key"):
        return last
    if kind == "Position":
        if last == LastRead.FIRST_BAR:
            return LastRead.FIRST_POSITION
        return LastRead.DOWNBEAT if value == 0 else LastRead.POSITION
    return {"Tempo": LastRead.TEMPO, "Pitch": LastRead.PITCH, "Velocity": LastRead.VELOCITY, "Duration": LastRead.NOTE}[
        kind
    ]


def violations(
    base: Iterable[tuple[str, int]], last: LastRead = LastRead.START, positions_per_beat: int = FAR
) -> tuple[int, LastRead]:
    """How many base tokens (kind, value) break REMI's order after `last`; and what was read last in the end.

    Wrong are kinds that may not follow, heads out of order, positions of a bar or pitches of a position that do not
    ascend, and positions beyond the bar's end.
    """
    wrong, position, pitch, rank, end = 0, -1, -1, -1, FAR
    for kind, value in base:
        bad = kind not in FOLLOWS[last]
        bad |= kind == "Position" and (not position < value < end or (last == LastRead.FIRST_BAR and value > 0))
        bad |= kind == "Pitch" and value <= pitch
        bad |= kind in RANKS and (RANKS[kind] < rank or (RANKS[kind] == rank and kind not in ("Chord", "At")))
        wrong += bad
        rank = RANKS.get(kind, -1)
        if kind == "Bar":
            position = pitch = -1
        elif kind == "TimeSig":
            end = positions_per_beat * (value // 100)
        elif kind == "Position":
            position, pitch = value, -1
        elif kind == "Pitch":
            pitch = value
        last = read_next(last, kind, value)
    return wrong, last


def digest_of(tokens: Sequence[Sequence[str]]) -> str:
    """SHA-256 of the list of tokens in compact JSON."""
    return hashlib.sha256(json.dumps(tokens, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Vocabulary:
    """Each id as a tuple of base token names; ids of more than one base token come from BPE."""

    tokens: tuple[tuple[str, ...], ...]
    pad: int
    bos: int
    eos: int
    positions_per_beat: int
    digest: str

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self.tokens)

    @cached_property
    def has_heads(self) -> bool:
        """Whether bars have time signatures and heads (format 2)."""
        return any(name.startswith("TimeSig_") for token in self.tokens for name in token)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a vocabulary file.

        Raises:
            UserError: missing, damaged, of another format, or without a token the grammar cannot do without.
        """
        remedy = "run `huesong preprocess` again, or copy the model folder again"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw["format"] not in FORMATS:
                known = " and ".join(map(str, FORMATS))
                raise UserError(f"{path} has format {raw['format']!r}, this huesong reads formats {known}: {remedy}")
            tokens = tuple(tuple(str(name) for name in token) for token in raw["tokens"])
            vocabulary = cls(
                tokens, int(raw["pad"]), int(raw["bos"]), int(raw["eos"]), int(raw["positions_per_beat"]),
                str(raw["digest"]),
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path} is not a vocabulary ({error}): {remedy}") from error
        if digest_of(tokens) != vocabulary.digest:
            raise UserError(f"{path} is damaged (its tokens do not have the digest it states): {remedy}")
        try:
            table_of(vocabulary)
        except (ValueError, IndexError) as error:
            raise UserError(f"{path} does not fit the token grammar ({error}): {remedy}") from error
        return vocabulary


BASE_KINDS = ("Bar", "TimeSig", "Position", "Tempo", "Pitch", "Velocity", "Duration")


class TokenTable:
    """Per-token summaries, computed once: with them one step's mask is a few comparisons of arrays of length V.

    Ticks count from the start of the bar in which they lie: of the bar that is open, or, in a token with a `Bar` (at most
    one, always first), of the one that begins there. "Lead" is what a token says of the position that is already open,
    before its own first Position or Bar.

    fits_PV: the base tokens may follow each other, and the first one what was read last.
    bar: holds a Bar. metre: 100 * upper + lower of its TimeSig (-1: none). planned: is of a head. lead_pitch: first lead
    pitch (FAR: none). lead_notes: lead pitches. top_pitch: highest pitch (0: none). first_struck_VP:
    has this pitch among the notes that begin with its first one.
    first_position: first Position of the bar already open (FAR: none). reach:
    tick of the last onset, or -1 if there is none. tempo: index into `tempos` (-1: none). onsets: notes begun, plus one
    if a Position is left that demands a note. pitch_classes: notes of each pitch class [V, 12]. opens: the Position a
    token begins with (-1: another kind). first_onset: tick of the first note (-1: the open position). moves_to: tick of
    the first Position, or 0 if there is only a Bar (-1: none). lead_duration: longest Duration before that.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        size = vocabulary.size
        self.base: list[list[tuple[str, int]]] = []
        tempos = sorted({float(n[6:]) for token in vocabulary.tokens for n in token if n.startswith("Tempo_")})
        self.tempos = np.array(tempos)  # quarters a minute
        self.ids: dict[str, dict[int, int]] = {kind: {} for kind in BASE_KINDS}
        self.heads: dict[str, int] = {}
        """Ids of the tokens of heads, by their names."""
        self.merged: dict[tuple[tuple[str, int], ...], int] = {}
        """Ids of all tokens by what they stand for."""
        for index, names in enumerate(vocabulary.tokens):
            meaning = [self._parse(name) for name in names]
            self.base.append(meaning)
            self.merged.setdefault(tuple(meaning), index)
            if len(meaning) == 1 and meaning[0][0] in self.ids:
                self.ids[meaning[0][0]][meaning[0][1]] = index
            elif len(meaning) == 1 and meaning[0][0] in header.KINDS:
                self.heads[names[0]] = index
        self._require()
        self.fits_PV = np.zeros((len(FOLLOWS), size), dtype=bool)
        self.bar, self.planned = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
        self.lead_pitch, self.first_position = np.full(size, FAR), np.full(size, FAR)
        self.first_struck_VP = np.zeros((size, 128), dtype=bool)
        self.reach, self.opens, self.tempo = np.full(size, -1), np.full(size, -1), np.full(size, -1)
        self.first_onset, self.moves_to, self.metre = np.full(size, -1), np.full(size, -1), np.full(size, -1)
        self.lead_notes, self.top_pitch = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
        self.onsets, self.lead_duration = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
        self.pitch_classes = np.zeros((size, 12), dtype=np.int64)
        for index, meaning in enumerate(self.base):
            self._summarise(index, meaning)
        self.most_onsets = int(self.onsets.max())

    @property
    def heads_V(self) -> np.ndarray:
        """Whether each id is of a head."""
        return np.array([bool(meaning) and meaning[0][0] in header.KINDS for meaning in self.base])

    @property
    def metres(self) -> list[tuple[int, int]]:
        """Time signatures that there are tokens for; of format 1 that of all its bars."""
        return [divmod(value, 100) for value in sorted(self.ids["TimeSig"])] or [(4, 4)]

    def _parse(self, name: str) -> tuple[str, int]:
        """A base token's kind and value: durations in ticks, tempos as an index, otherwise the number in its name."""
        kind, _, value = name.partition("_")
        if kind == "Duration":
            beats, part, resolution = (int(number) for number in value.split("."))
            ticks, rest = divmod(part * self.vocabulary.positions_per_beat, resolution)
            if rest:
                raise ValueError(f"{name} is off the grid of positions")
            return kind, beats * self.vocabulary.positions_per_beat + ticks
        if kind == "Tempo":
            return kind, int(np.searchsorted(self.tempos, float(value)))
        if kind == "TimeSig":
            upper, lower = value.split("/")
            return kind, 100 * int(upper) + int(lower)
        if kind in ("Position", "Pitch", "Velocity"):
            return kind, int(value)
        if kind in ("Bar", "PAD", "BOS", "EOS"):
            return kind, 0
        if kind in header.KINDS:
            return kind, _HEAD_VALUES[name]
        raise ValueError(f"unknown base token {name}")

    def _require(self) -> None:
        """The base tokens without which a mask could become empty."""
        beat = self.vocabulary.positions_per_beat
        wanted = {
            "Bar": {0}, "Position": set(range(beat * max(upper for upper, _ in self.metres))),
            "Tempo": set(range(max(1, len(self.tempos)))), "Pitch": set(range(33, 109)),
            "Duration": set(range(1, 4 * beat + 1)),
        }  # fmt: skip
        for kind, values in wanted.items():
            if missing := values - self.ids[kind].keys():
                raise ValueError(f"no {kind} token of value {min(missing)}")
        if not self.ids["Velocity"]:
            raise ValueError("no Velocity token")
        if self.ids["TimeSig"] and (missing_names := set(header.names()) - self.heads.keys()):
            raise ValueError(f"no token {min(missing_names)}")

    def _summarise(self, index: int, meaning: list[tuple[str, int]]) -> None:
        if meaning and meaning[0][0] in (*header.KINDS, "TimeSig"):
            self.planned[index] = True  # never sampled: the plan says them
            return
        if not meaning or any(kind not in self.ids for kind, _ in meaning):
            return  # padding, beginning and end are nowhere in the music
        if any(kind == "Bar" for kind, _ in meaning[1:]):
            return  # tokens that reach across a bar line are never sampled
        for last in FOLLOWS:
            self.fits_PV[last, index] = not violations(meaning, last)[0]
        if meaning[0][0] == "Position":
            self.opens[index] = meaning[0][1]
        place, first_place = -1, None  # tick of the position; of the first note
        for kind, value in meaning:
            if kind == "Bar":
                self.bar[index], self.moves_to[index] = True, 0
            elif kind == "TimeSig":
                self.metre[index] = value
            elif kind == "Position":
                if place < 0:
                    self.moves_to[index] = value
                    if not self.lead_notes[index]:
                        self.first_onset[index] = value
                    if not self.bar[index]:
                        self.first_position[index] = value
                place = self.reach[index] = value
            elif kind == "Tempo":
                self.tempo[index] = value
            elif kind == "Pitch":
                first_place = place if first_place is None else first_place
                self.first_struck_VP[index, value] |= place == first_place
                self.onsets[index] += 1
                self.top_pitch[index] = max(self.top_pitch[index], value)
                self.pitch_classes[index, value % 12] += 1
                if place < 0:
                    self.lead_notes[index] += 1
                    self.lead_pitch[index] = min(self.lead_pitch[index], value)
            elif kind == "Duration" and place < 0:
                self.lead_duration[index] = max(self.lead_duration[index], value)
        self.onsets[index] += meaning[-1][0] == "Position"


@dataclass(frozen=True)
class Frame:
    """What tokens mean in a metre and key, the same at every step; ticks from the start of the present bar.

    allowed_PV: what may follow what, as far as no state has to be known. reach: last onset. first_onset: first note.
    moves_to: where the piece moves on to. after_note: the same, from the end of the note at hand (largest: ends none).
    """

    allowed_PV: np.ndarray
    reach: np.ndarray
    first_onset: np.ndarray
    moves_to: np.ndarray
    after_note: np.ndarray

    @classmethod
    def of(cls, table: TokenTable, bar_ticks: int, bar_token: int, bias_V: np.ndarray | None) -> Frame:
        """Of bars that last so long and begin with this token; `bias_V` is -inf for notes outside of the key."""
        # What no piece is free to say: tempos and heads are the plan's.
        allowed = (table.tempo < 0) & ~table.planned & (np.where(table.bar, 0, table.reach) < bar_ticks)
        begins = table.bar & (table.reach < 0)  # a bar line alone
        allowed &= ~begins | (np.arange(len(begins)) == bar_token)
        if bias_V is not None:
            allowed &= np.isfinite(bias_V)
        bars = table.bar * bar_ticks  # ticks of what lies behind the next bar line
        moves_to = bars + table.moves_to
        after_note = np.where(table.lead_duration > 0, moves_to - table.lead_duration, np.iinfo(np.int64).max)
        first_onset = bars + table.first_onset
        return cls(table.fits_PV & allowed, table.reach + bars, first_onset, moves_to, after_note)


@lru_cache(maxsize=4)
def table_of(vocabulary: Vocabulary) -> TokenTable:
    """Its table, made once; nobody changes it."""
    return TokenTable(vocabulary)


_HEAD_VALUES = {name: place for place, name in enumerate(header.names())}
"""Of each token of a head the place among all of them: its value."""
