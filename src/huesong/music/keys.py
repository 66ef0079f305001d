"""Keys: finding the key of pitch classes, the notes that a key allows; and the last chord of a piece, in its key.

Ticks are positions of the grid; L = number of tempos planned for at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Key = tuple[int, bool]
"""The pitch class of the tonic (C = 0), and whether it is major."""
KEY_PROFILES = {
    "krumhansl": (
        (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
        (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
    ),
    "albrecht": (
        (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081),
        (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052),
    ),
}
"""Of the twelve degrees of major and minor: probe-tone ratings (Krumhansl & Kessler 1982), and shares of the notes in
music (Albrecht & Shanahan 2013)."""
SCALES = {True: (0, 2, 4, 5, 7, 9, 11), False: (0, 2, 3, 5, 7, 8, 10, 11)}
"""Steps above the tonic: major; minor, natural and with the raised seventh."""
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


@dataclass(frozen=True)
class Constraints:
    """What a sampled score is held to: its length, tempo and key, and caps on what would be a runaway and no music.

    `notes_per_position` always holds. The other caps give way where they would leave no token at all (a bar's first
    position, say, must bring a note).
    """

    seconds: float | None = None
    bars: int | None = None
    """The length; neither = endless, for tests of the grammar alone."""
    tempo: int | None = None
    """Index into the vocabulary's tempos, kept throughout; None = as it comes."""
    key: Key | None = None
    """Whose scale all notes are from, and whose tonic ends the piece; None = as it comes."""
    notes_per_position: int = 8
    notes_per_bar: int = 72
    polyphony: int = 24
    """Notes sounding at once."""
    notes_per_second: float = 30.0
    silent_bars: int = 1
    """Neighbouring bars in which no note begins."""
    silence: float = 1.0
    """Seconds in which nothing sounds. A merged token may hold a longer silence between notes of its own."""

    def __post_init__(self) -> None:
        assert self.seconds is None or self.bars is None, "either seconds or bars"
        assert self.seconds is None or self.seconds >= 1, "at least one second"
        assert self.bars is None or self.bars >= 1, "at least one bar"


def key_correlations(profile: np.ndarray, kind: str = "krumhansl") -> np.ndarray:
    """Pearson r of pitch-class profiles [..., 12] with major and minor on each of the 12 tonics: [..., 2, 12]."""
    return np.einsum("...p,mtp->...mt", _standard(profile), _SHAPES[kind])


def _standard(profile: np.ndarray) -> np.ndarray:
    """Profiles [..., 12] with mean 0 and norm 1 (all 0 for a flat one)."""
    centred = profile - profile.mean(axis=-1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-12)


_SHAPES = {
    kind: _standard(np.array([[np.roll(shape, tonic) for tonic in range(12)] for shape in profiles]))
    for kind, profiles in KEY_PROFILES.items()
}


def find_key(weights: np.ndarray, kind: str = "krumhansl") -> Key:
    """The key whose profile correlates best with pitch-class weights [12] (Krumhansl-Schmuckler key finding).

    Of equals the first, major before minor: C major if there are no notes.
    """
    fit = key_correlations(weights, kind).ravel()
    minor, root = divmod(int(np.argmax(fit > fit.max() - 1e-9)), 12)
    return root, not minor


def degree_odds(key: Key) -> np.ndarray:
    """How much more often than evenly each pitch class [12] stands in music of that key; 0 outside of its scale."""
    root, major = key
    odds = np.zeros(12)
    scale = list(SCALES[major])
    odds[scale] = np.array(KEY_PROFILES["albrecht"][not major])[scale]
    return np.roll(odds / odds[scale].mean(), root)


def plan(
    wanted: Constraints, now: int, now_s: float, tick_s_L: np.ndarray, beat: int, bar: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ticks at which the last chord begins and ends [L], if from `now` (tick; `now_s` seconds) a tick lasts `tick_s_L`.

    The end is the tick nearest to the asked length. The chord begins on a beat, if it can on the first of a bar, and
    lasts 0.6 to 3 s, at most four beats (so that a duration of exactly that length exists).
    """
    count = len(tick_s_L)
    if wanted.bars is not None:
        end = wanted.bars * bar
        return np.full(count, end - bar if wanted.bars > 1 else bar // 2), np.full(count, end)
    if wanted.seconds is None:
        return np.full(count, 10**9), np.full(count, 10**9)
    end_L = np.maximum(now + np.rint((wanted.seconds - now_s) / tick_s_L).astype(np.int64), 2)
    shortest_L = np.clip(np.ceil(CHORD_SECONDS[0] / tick_s_L).astype(np.int64), beat, 4 * beat)
    longest = min(CHORD_SECONDS[1], CHORD_SHARE * wanted.seconds)
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
