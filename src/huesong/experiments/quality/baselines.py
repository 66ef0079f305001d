"""Two composers that show what the figures are worth: a copier that repeats by a plan, and a Markov chain of notes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from huesong.evaluate.quality.piece import GRID, Piece, on_grid
from huesong.music.reading import Notes

PLAN = "AABA"
"""Each letter is a passage of PASSAGE_BARS of a training piece, word for word."""
PASSAGE_BARS = 4
ORDER = 3
"""Notes that the next note depends on; fewer where these were never heard."""
MOST_TOGETHER = 10
"""Notes at one onset, after which the chain moves on."""
LOW, HIGH = 36, 96
"""Pitches that the chain turns back at."""


def copier(pieces: Sequence[Piece], seconds: float, count: int, seed: int) -> list[Piece]:
    """`count` pieces of at least `seconds`, each two passages of one piece by PLAN, again and again."""
    rng = np.random.default_rng([seed, 1])
    fit = [piece for piece in pieces if piece.barred and len(piece.starts) > 3 * PASSAGE_BARS]
    if not fit:
        return []
    made: list[Piece] = []
    while len(made) < count:
        piece = fit[int(rng.integers(len(fit)))]
        first, second = rng.choice((len(piece.starts) - 1) // PASSAGE_BARS, 2, replace=False) * PASSAGE_BARS
        quarter_s = seconds_a_quarter(piece)
        parts: list[tuple[int, float]] = []
        length = 0.0
        while length * quarter_s < seconds:
            bar = first if PLAN[len(parts) % len(PLAN)] == "A" else second
            parts.append((int(bar), length))
            length += float(piece.starts[bar + PASSAGE_BARS] - piece.starts[bar])
        made.append(assembled(piece, parts, length, quarter_s))
    return made


def assembled(piece: Piece, parts: Sequence[tuple[int, float]], length: float, quarter_s: float) -> Piece:
    """The passages of `piece` that begin at these bars, at these places (quarters), one after the other."""
    rows, shifts, starts, beats = [], [], [], []
    for bar, place in parts:
        inside = np.flatnonzero((piece.bar >= bar) & (piece.bar < bar + PASSAGE_BARS))
        rows.append(inside)
        shifts.append(np.full(len(inside), place - piece.starts[bar]))
        starts.append(piece.starts[bar : bar + PASSAGE_BARS] - piece.starts[bar] + place)
        beats.append(piece.beats[bar : bar + PASSAGE_BARS])
    row, shift, notes = np.concatenate(rows), np.concatenate(shifts), piece.notes
    onset = np.maximum(notes.onset_q[row] + shift, 0)
    end = np.minimum(notes.end_q[row] + shift, length)
    bars = np.append(np.concatenate(starts), length)
    return piece_from(
        onset, np.maximum(end, onset + 1 / GRID), notes.pitch[row], quarter_s, bars, np.concatenate(beats)
    )


def markov(pieces: Sequence[Piece], seconds: float, count: int, seed: int) -> list[Piece]:
    """`count` pieces of about `seconds` from a chain over (interval, time since the note before, length), in 4/4."""
    rng = np.random.default_rng([seed, 2])
    follows: dict[tuple[tuple[int, ...], ...], list[tuple[int, ...]]] = defaultdict(list)
    tempos = [seconds_a_quarter(piece) for piece in pieces if len(piece) > ORDER]
    for piece in pieces:
        notes = on_grid(piece).notes
        table = np.stack([
            np.diff(notes.pitch, prepend=notes.pitch[:1]), np.round(np.diff(notes.onset_q, prepend=notes.onset_q[:1]) * GRID),
            np.round((notes.end_q - notes.onset_q) * GRID),
        ], axis=1).astype(int)  # fmt: skip
        symbols = [tuple(row) for row in table.tolist()]
        for place in range(len(symbols)):
            for order in range(ORDER + 1):
                if place >= order:
                    follows[tuple(symbols[place - order : place])].append(symbols[place])
    return (
        [chain(follows, seconds, tempos[int(rng.integers(len(tempos)))], rng) for _ in range(count)] if tempos else []
    )


def chain(
    follows: dict[tuple[tuple[int, ...], ...], list[tuple[int, ...]]],
    seconds: float,
    quarter_s: float,
    rng: np.random.Generator,
) -> Piece:
    """One walk along the chain."""
    past: list[tuple[int, ...]] = []
    onset, pitch = [0], [60]
    length = [GRID]
    while onset[-1] / GRID * quarter_s < seconds:
        order = next(n for n in range(min(ORDER, len(past)), -1, -1) if tuple(past[len(past) - n :]) in follows)
        choices = follows[tuple(past[len(past) - order :])]
        if (
            all(gap == 0 for _, gap, _ in past[-MOST_TOGETHER:]) and len(past) >= MOST_TOGETHER
        ):  # or it might stay there
            choices = [one for one in follows[()] if one[1] > 0] or [(0, GRID, GRID)]
        symbol = choices[int(rng.integers(len(choices)))]
        past.append(symbol)
        step, gap, long = symbol
        step = -step if not LOW <= pitch[-1] + step <= HIGH else step
        onset.append(onset[-1] + min(max(gap, 0), 8 * GRID))
        pitch.append(int(np.clip(pitch[-1] + step, LOW, HIGH)))
        length.append(max(long, 1))
    begin = np.array(onset) / GRID
    bars = np.arange(0, begin[-1] + 4.001, 4)
    end = begin + np.array(length) / GRID
    return piece_from(begin, end, np.array(pitch), quarter_s, bars, np.ones(len(bars) - 1))


def seconds_a_quarter(piece: Piece) -> float:
    """The mean length of a quarter."""
    notes = piece.notes
    quarters = float(notes.end_q.max() - notes.onset_q[0])
    return float(np.clip((notes.end_s.max() - notes.onset_s[0]) / max(quarters, 1e-6), 0.2, 2.0))


def piece_from(
    onset: np.ndarray, end: np.ndarray, pitch: np.ndarray, quarter_s: float, starts: np.ndarray, beats: np.ndarray
) -> Piece:
    """A piece at one tempo."""
    order = np.lexsort((pitch, onset))
    onset, end, pitch = onset[order], end[order], pitch[order]
    velocity = np.full(len(onset), 64)
    return Piece(Notes(onset * quarter_s, end * quarter_s, onset, end, pitch, velocity), starts, beats)
