"""What is asked of a score, and how it ends at the asked length: where its last chord stands, and of which pitches it is made.

Ticks are positions of the grid; L = number of tempos planned for at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Probe-tone profiles of Krumhansl & Kessler (1982), C major and C minor.
MAJOR_PROFILE = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR_PROFILE = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
BASS = range(36, 52)
"""Pitches of the last bass note: C2 to D sharp 3, so every pitch class is there."""
HIGHEST = 88
"""Highest pitch of the last chord, E6."""
CHORD_NOTES = (3, 5)
"""Fewest and most notes of the last chord."""
CHORD_SECONDS = (0.6, 3.0)
CHORD_SHARE = 0.25
"""The last chord takes at most this share of the piece (if a beat stands there)."""
FEWEST_BEATS = 4
"""No tempo is chosen at which the whole piece has fewer beats."""
TOLERANCE = 0.05

Key = tuple[int, bool]
"""The pitch class of the tonic (C = 0), and whether it is major."""
SCALES = {True: (0, 2, 4, 5, 7, 9, 11), False: (0, 2, 3, 5, 7, 8, 10, 11)}
"""Steps above the tonic: major; minor, natural and with the raised seventh."""
SHARES = {
    True: (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081),
    False: (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052),
}
"""Shares of the twelve degrees in major and minor music (Albrecht & Shanahan 2013)."""


@dataclass(frozen=True)
class Asked:
    """What is asked of a score.

    seconds, bars: its length, or neither (endless, for tests of the grammar alone). tempo: index into the vocabulary's
    tempos, kept throughout; None = as it comes. key: whose scale all notes are from and whose tonic ends the piece.
    """

    seconds: float | None = None
    bars: int | None = None
    tempo: int | None = None
    key: Key | None = None

    def __post_init__(self) -> None:
        assert self.seconds is None or self.bars is None, "either seconds or bars"
        assert self.seconds is None or self.seconds >= 1, "at least one second"
        assert self.bars is None or self.bars >= 1, "at least one bar"


def plan(
    asked: Asked, now: int, now_s: float, tick_s_L: np.ndarray, beat: int, bar: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ticks at which the last chord begins and ends [L], if from `now` (tick; `now_s` seconds) a tick lasts `tick_s_L`.

    The end is the tick nearest to the asked length. The chord begins on a beat, if it can on the first of a bar, and
    lasts 0.6 to 3 s, at most four beats (so that a duration of exactly that length exists).
    """
    count = len(tick_s_L)
    if asked.bars is not None:
        end = asked.bars * bar
        return np.full(count, end - bar if asked.bars > 1 else bar // 2), np.full(count, end)
    if asked.seconds is None:
        return np.full(count, 10**9), np.full(count, 10**9)
    end_L = np.maximum(now + np.rint((asked.seconds - now_s) / tick_s_L).astype(np.int64), 2)
    shortest_L = np.clip(np.ceil(CHORD_SECONDS[0] / tick_s_L).astype(np.int64), beat, 4 * beat)
    longest = min(CHORD_SECONDS[1], CHORD_SHARE * asked.seconds)
    longest_L = np.clip(np.floor(longest / tick_s_L).astype(np.int64), shortest_L + beat, 4 * beat)
    shortest_L = np.minimum(shortest_L, np.maximum(1, end_L // 3))
    longest_L = np.minimum(longest_L, np.maximum(1, end_L // 2))
    first_L = -(-(end_L - longest_L) // beat) * beat
    onset_LC = first_L[:, None] + np.arange(4) * beat
    strength_LC = np.where(onset_LC % bar == 0, 2, np.where(onset_LC % (bar // 2) == 0, 1, 0))
    # Strong beats first; among equals the chord nearest to two beats of length.
    worth_LC = 10.0 * strength_LC - np.abs(end_L[:, None] - onset_LC - 2 * beat) / beat
    worth_LC[(onset_LC > (end_L - shortest_L)[:, None]) | (onset_LC < 1)] = -np.inf
    best_L = worth_LC.argmax(axis=1)
    rows = np.arange(count)
    on_a_beat_L = np.isfinite(worth_LC[rows, best_L])
    return np.where(on_a_beat_L, onset_LC[rows, best_L], end_L - shortest_L), end_L


def tonic(weights: np.ndarray) -> Key:
    """The key whose profile correlates best with pitch-class weights [12].

    Krumhansl-Schmuckler key finding with the profiles of Krumhansl & Kessler (1982). C major if there are no notes.
    """
    centred = weights - weights.mean()
    if not centred.any():
        return 0, True
    best = (-np.inf, 0, True)
    for major, profile in ((True, MAJOR_PROFILE), (False, MINOR_PROFILE)):
        deviation = profile - profile.mean()
        deviation = deviation / np.linalg.norm(deviation)
        for pitch_class in range(12):
            match = float(np.dot(np.roll(deviation, pitch_class), centred))
            if match > best[0] + 1e-9:
                best = (match, pitch_class, major)
    return best[1], best[2]


def degree_odds(key: Key) -> np.ndarray:
    """How much more often than evenly each pitch class [12] stands in music of that key; 0 outside of its scale."""
    root, major = key
    odds = np.zeros(12)
    scale = list(SCALES[major])
    odds[scale] = np.array(SHARES[major])[scale]
    return np.roll(odds / odds[scale].mean(), root)


@dataclass
class LastChord:
    """The tonic triad being built from the bass upwards."""

    root: int
    major: bool
    duration: int
    """Ticks."""
    velocities: tuple[int, ...]
    """Velocities its notes may have."""
    pitches: list[int]
    """Chosen so far, ascending."""

    @property
    def triad(self) -> tuple[int, int, int]:
        """Pitch classes of root, third and fifth."""
        return self.root, (self.root + (4 if self.major else 3)) % 12, (self.root + 7) % 12

    @property
    def missing(self) -> set[int]:
        """Pitch classes of the triad that no note has yet."""
        return set(self.triad) - {pitch % 12 for pitch in self.pitches}

    @property
    def complete(self) -> bool:
        """Whether the piece may end here."""
        return len(self.pitches) >= CHORD_NOTES[0] and not self.missing

    def choices(self) -> list[int]:
        """Pitches the next note may have: a bass, the two other classes of the triad, then doublings; [] = no more.

        A window holds twelve neighbouring keys, so the classes still missing are always to be found in it.
        """
        if not self.pitches:
            return [pitch for pitch in BASS if pitch % 12 == self.root]
        if len(self.pitches) >= CHORD_NOTES[1]:
            return []
        # A gap above the bass keeps the chord clear; thirds at least above that.
        lowest = max(self.pitches[0] + 7, 52) if len(self.pitches) == 1 else self.pitches[-1] + 3
        classes = self.missing or set(self.triad)
        return [pitch for pitch in range(lowest, min(lowest + 12, HIGHEST + 1)) if pitch % 12 in classes]
