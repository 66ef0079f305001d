"""The room around the piano: a generated impulse response, always the same, larger and wetter for calm music.

Noise that decays as sound does in a small hall (high frequencies first), different in both ears, behind a few early
reflections (the model of Moorer 1979, "About This Reverberation Business").
"""

from __future__ import annotations

import numpy as np

from huesong.music.rendering.loudness import RATE, convolved

SEED = 60
CALMEST, LIVELIEST = (1.7, -8.0), (0.9, -14.0)
"""Seconds until the room is 60 dB down, and its energy beside the direct sound (dB), at arousal -1 and +1."""
BANDS_HZ = (125.0, 1000.0, 4000.0, 12000.0)
BAND_DECAY = (1.0, 1.0, 0.7, 0.35)
"""Share of the decay time in each band."""
BAND_LEVEL = (0.5, 1.0, 0.7, 0.3)
REFLECTIONS, FIRST_S, LAST_S = 7, 0.007, 0.05
BEGIN_S = 0.015
"""When the noise sets in."""


def impulse_response(arousal: float) -> np.ndarray:
    """The room's answer to a click, with the click itself: float32 [K, 2]."""
    share = (min(max(arousal, -1.0), 1.0) + 1) / 2
    decay_s, wet_db = (calm + (lively - calm) * share for calm, lively in zip(CALMEST, LIVELIEST, strict=True))
    random = np.random.default_rng(SEED)
    frames = round(decay_s * RATE)
    time_s = np.arange(frames) / RATE
    spectrum = np.fft.rfft(random.standard_normal((2, round(CALMEST[0] * RATE))))[:, : frames // 2 + 1]
    frequency = np.fft.rfftfreq(frames, 1 / RATE)
    octave = np.log2(np.maximum(frequency, 20.0))
    wet = np.zeros((2, frames))
    for band, (decay, level) in enumerate(zip(BAND_DECAY, BAND_LEVEL, strict=True)):
        weight = np.interp(octave, np.log2(BANDS_HZ), np.eye(len(BANDS_HZ))[band]) * (frequency > 60)
        wet += level * np.fft.irfft(spectrum * weight, frames) * 10 ** (-3 * time_s / (decay_s * decay))
    wet *= np.clip((time_s - BEGIN_S) / BEGIN_S, 0, 1)
    for side in wet:
        at = (RATE * random.uniform(FIRST_S, LAST_S, REFLECTIONS)).astype(int)
        side[at] += random.choice((-1, 1), REFLECTIONS) * 3 * np.abs(side).max() * np.linspace(1, 0.4, REFLECTIONS)
    wet *= np.sqrt(10 ** (wet_db / 10) / (wet**2).sum(axis=1, keepdims=True))
    wet[:, 0] = 1.0
    return wet.T.astype(np.float32)


def in_room(audio: np.ndarray, arousal: float) -> np.ndarray:
    """Audio [N, 2] as it is heard in the room that suits the arousal; as long as before."""
    return convolved(audio, impulse_response(arousal))[: len(audio)]
