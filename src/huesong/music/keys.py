"""Keys: finding the key of pitch classes, the notes that a key allows; and the last chord of a piece, in its key."""

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


@dataclass(frozen=True)
class Constraints:
    """What a sampled score is held to: metre, tempo, length and heads of bars, and caps on what would be a runaway.

    `notes_per_position` always holds. The other caps give way where they would leave no token at all (a bar's first
    position, say, must bring a note).
    """

    bars: int | None = None
    """The length; None = endless, for tests of the grammar alone."""
    metre: tuple[int, int] = (4, 4)
    tempo: float = 120.0
    """Quarters a minute."""
    key: Key | None = None
    """Whose scale all notes are from; None = as they come."""
    tonic: Key | None = None
    """Whose triad ends the piece; None = `key`, or what is found in the notes."""
    beginning: tuple[str, ...] = ()
    """Names of tokens before the first bar (header.beginning)."""
    heads: tuple[tuple[str, ...], ...] = ()
    """Of each bar (header.head); none where the vocabulary has none."""
    closing: bool = True
    """Whether the last bar is one long chord; else it is composed like all others."""
    arrivals: bool = True
    """Whether the cadences of `heads` are held to (form/heads.py)."""
    notes_per_position: int = 8
    notes_per_bar: int = 72
    polyphony: int = 24
    """Notes sounding at once."""
    notes_per_second: float = 30.0
    highest: int = 96
    """Highest pitch, C7: of the notes that were learnt from 1.6 in a thousand lie above."""
    high: int = 84
    """C6. In the scores that were learnt from less than 1.5 notes in a thousand begin above it while `high_notes` others
    sound there, and most of those have none; in performances with the pedal written into the notes 2 to 5 in a hundred."""
    high_notes: int = 2
    """Notes above `high` sounding at once: without this, what is asked to be unpleasant is a cluster at the top."""
    strokes: int = 8
    """Neighbouring positions with the same highest pitch; at the next one it is not struck. Of training pieces 98 in 100 have
    no longer run within 30 s (n = 400); what was asked to be unpleasant and excited tapped one tone up to 23 times."""
    silent_bars: int = 1
    """Neighbouring bars in which no note begins."""
    silence: float = 1.0
    """Seconds in which nothing sounds. A merged token may hold a longer silence between notes of its own."""

    def __post_init__(self) -> None:
        assert self.bars is None or self.bars >= 1, "at least one bar"
        assert not self.heads or len(self.heads) == self.bars, "a head a bar"


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
    highest: int = HIGHEST
    """What lies above is taken only where the triad needs it."""

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
        found = [pitch for pitch in range(lowest, min(lowest + 12, HIGHEST + 1)) if pitch % 12 in classes]
        return [pitch for pitch in found if pitch <= self.highest] or (found[:1] if self.missing else [])
