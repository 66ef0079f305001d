"""Chords and keys of a piece: the likeliest path through them, given the notes of each beat.

A hidden Markov model (as in Sheh & Ellis 2003 for audio, on notes here): of each beat the pitch classes, weighted by how
long they sound, and the lowest note; a chord of every kind on every root. What each kind of chord sounds like was
counted on annotated music (statistics.json); changes cost least on bar lines, then in the middle of a bar.

S beats, C chords, B bars.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from huesong.music.form.heard.grid import EARLY, Grid
from huesong.music.form.plan import QUALITIES, Chord
from huesong.music.form.statistics import statistics
from huesong.music.keys import SCALES, Key, key_correlations
from huesong.music.reading import Notes

KINDS = tuple(QUALITIES)[:-1]
"""Those with a root, in the order of the states."""
STRUCK = 0.25
"""Quarters that an onset counts beside the length of its note."""
HALF_FULL = 0.5
"""Weight of a beat, in quarters of notes, at which it counts half."""


@dataclass(frozen=True)
class Weighing:
    """How evidence and habit are weighed against each other, in nats; chosen on split `train` (docs/results/form.md)."""

    evidence: float = 9.0
    bass: float = 0.75
    change: tuple[float, float, float] = (1.0, 1.5, 3.0)
    """Cost of a change on a bar line, in the middle of a bar, on another beat."""
    kind: float = 0.75
    """How much the frequency of the chord's kind counts."""
    scale: float = 0.7
    """Cost of each tone of the chord outside of the key."""


WEIGHING = Weighing()


def beat_weights(notes: Notes, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """How much each pitch class sounds in each beat, and in its bass: twice [S, 12], in quarters."""
    starts = grid.beats.starts
    count = len(starts) - 1
    onset = notes.onset_q
    first = np.clip(np.searchsorted(starts, onset + EARLY, side="right") - 1, 0, count - 1)
    last = np.clip(np.searchsorted(starts, notes.end_q - EARLY, side="left") - 1, first, count - 1)
    note = np.repeat(np.arange(len(notes)), last - first + 1)
    beat = np.arange(len(note)) - np.repeat(np.cumsum(last - first + 1) - (last - first + 1), last - first + 1)
    beat += first[note]
    lasts = np.minimum(notes.end_q[note], starts[beat + 1]) - np.maximum(notes.onset_q[note], starts[beat])
    weight = np.maximum(lasts, 0) + STRUCK * (beat == first[note])
    pitch = notes.pitch[note]
    sound = np.bincount(beat * 12 + pitch % 12, weights=weight, minlength=12 * count).reshape(count, 12)
    lowest = np.full(count, 128)
    np.minimum.at(lowest, beat, pitch)
    low = pitch <= lowest[beat]
    bass = np.bincount((beat * 12 + pitch % 12)[low], weights=weight[low], minlength=12 * count).reshape(count, 12)
    return sound, bass


@cache
def _templates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log probability of each pitch class in each chord [C, 12], as its bass [C, 12]; of each chord's kind [C]."""
    learnt = statistics()["chord_sounds"]
    sound, bass, share = [], [], []
    for kind in KINDS:
        for root in range(12):
            sound.append(np.roll(learnt[kind]["sound"], root))
            bass.append(np.roll(learnt[kind]["bass"], root))
            share.append(learnt[kind]["share"])
    return tuple(np.log(np.maximum(np.array(table), 1e-3)) for table in (sound, bass, share))


@cache
def _outside(key: Key) -> np.ndarray:
    """Tones of each chord [C] that the key's scale does not hold; the raised sixth of minor does not count fully."""
    inside = np.zeros(12)
    inside[[(key[0] + step) % 12 for step in SCALES[key[1]]]] = 1
    if not key[1]:
        inside[(key[0] + 9) % 12] = 0.5
    tones = np.array([[(root + step) % 12 for step in (*QUALITIES[k], *(QUALITIES[k][:1] * 4))][:4]
                      for k in KINDS for root in range(12)])  # fmt: skip
    counted = (1 - inside[tones]) * np.array(
        [[i < len(QUALITIES[k]) for i in range(4)] for k in KINDS for _ in range(12)]
    )
    return np.asarray(counted.sum(axis=1))


def find_chords(
    sound: np.ndarray, bass: np.ndarray, grid: Grid, keys: list[Key], weighing: Weighing = WEIGHING
) -> np.ndarray:
    """The chord of each beat [S]: 12 * kind + root, -1 in a piece's silent head.

    Args:
        sound, bass: as `beat_weights` gives them.
        keys: the key of each bar.
    """
    tones, lows, kinds = _templates()
    total = sound.sum(axis=1, keepdims=True)
    heard = sound / (total + HALF_FULL)
    low = bass / np.maximum(bass.sum(axis=1, keepdims=True), 1e-9)
    worth = weighing.evidence * heard @ tones.T + weighing.bass * low @ lows.T
    outside = np.stack([_outside(key) for key in keys])[grid.beats.bar]
    entry = weighing.kind * kinds - weighing.scale * outside
    cost = np.array(weighing.change)[grid.beats.strength]
    worth[0] += entry[0]
    count = len(worth)
    back = np.zeros(worth.shape, np.int64)
    best = worth[0]
    states = np.arange(len(kinds))
    for beat in range(1, count):
        top = int(best.argmax())
        moved = best[top] - cost[beat] + entry[beat]
        stays = best >= moved
        back[beat] = np.where(stays, states, top)
        best = np.where(stays, best, moved) + worth[beat]
    path = np.zeros(count, np.int64)
    path[-1] = best.argmax()
    for beat in range(count - 1, 0, -1):
        path[beat - 1] = back[beat, path[beat]]
    silent = np.flatnonzero(total[:, 0] > 0)
    path[: silent[0] if len(silent) else count] = -1
    return path


def chords_of_bars(path: np.ndarray, grid: Grid) -> list[tuple[Chord, ...]]:
    """The chords of each bar, as a plan holds them."""
    beats = grid.beats
    found: list[list[Chord]] = [[] for _ in range(len(grid))]
    before = None
    for start, bar, state in zip(beats.starts.tolist(), beats.bar.tolist(), path.tolist(), strict=False):
        chord = Chord(round(start - float(grid.starts[bar]), 4), *chord_named(state))
        if not found[bar] or before != state:
            found[bar].append(chord)
        before = state
    return [tuple(chords) for chords in found]


def chord_named(state: int) -> tuple[int, str]:
    """Root and quality of a state of `find_chords`."""
    return (0, "N") if state < 0 else (state % 12, KINDS[state // 12])


@dataclass(frozen=True)
class Hearing:
    """How keys are found; in units of the correlation, chosen on split `train`."""

    ending: float = 0.2
    """What the bass of the last beats adds to a key on that tonic."""
    opening: float = 0.1
    """Likewise that of the first beats."""
    change: float = 1.0
    """Cost of a change of the local key."""
    home: float = 0.12
    """What the home key has in advance of other local keys."""
    around: int = 2
    """Bars before and after, from which a bar's key is heard."""


HEARING = Hearing()


def find_home(sound: np.ndarray, bass: np.ndarray, hearing: Hearing = HEARING) -> Key:
    """The key of the whole piece: by its notes, and by the bass of its first and last beats."""
    fit = key_correlations(sound.sum(axis=0), "albrecht")
    heard = np.flatnonzero(sound.sum(axis=1))
    for beats, weight in ((heard[-4:], hearing.ending), (heard[:4], hearing.opening)):
        low = bass[beats].sum(axis=0)
        fit = fit + weight * low / max(low.sum(), 1e-9)
    minor, tonic = divmod(int(fit.argmax()), 12)
    return tonic, not minor


def find_keys(sound: np.ndarray, grid: Grid, home: Key, hearing: Hearing = HEARING) -> list[Key]:
    """The local key of each bar: the likeliest path, given the notes around."""
    bars = np.zeros((len(grid), 12))
    np.add.at(bars, grid.beats.bar, sound)
    bars /= np.maximum(bars.sum(axis=1, keepdims=True), 1e-9)
    wide = hearing.around
    padded = np.cumsum(np.pad(bars, ((wide + 1, wide), (0, 0))), axis=0)
    fit = key_correlations(padded[2 * wide + 1 :] - padded[: -2 * wide - 1], "albrecht").reshape(len(grid), 24)
    fit[:, home[0] + (0 if home[1] else 12)] += hearing.home
    back = np.zeros(fit.shape, np.int64)
    best = fit[0]
    for bar in range(1, len(fit)):
        top = int(best.argmax())
        stays = best >= best[top] - hearing.change
        back[bar] = np.where(stays, np.arange(24), top)
        best = np.where(stays, best, best[top] - hearing.change) + fit[bar]
    path = [int(best.argmax())]
    for bar in range(len(fit) - 1, 0, -1):
        path.append(int(back[bar, path[-1]]))
    return [(state % 12, state < 12) for state in reversed(path)]
