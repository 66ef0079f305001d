"""Loudness and true peak, beside pyloudnorm and an oversampled signal."""

from __future__ import annotations

import numpy as np
import pyloudnorm
import pytest
from scipy.signal import fftconvolve, resample_poly

from huesong.music.rendering.loudness import CEILING, RATE, convolved, levelled, loudness, target_lufs, true_peak

METER = pyloudnorm.Meter(RATE)


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal((round(seconds * RATE), 2)).astype(np.float32)


def tone(frequency: float, seconds: float = 3.0, level: float = 0.5, phase: float = 0.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.repeat(level * np.sin(2 * np.pi * frequency * time + phase)[:, None], 2, 1).astype(np.float32)


@pytest.mark.parametrize(
    "audio",
    [tone(60), tone(1000), tone(8000), noise(5, 0.1), np.concatenate([noise(3, 0.2), noise(4, 0.001), tone(440)])],
    ids=["low", "middle", "high", "noise", "gated"],
)
def test_loudness_is_that_of_the_standard(audio: np.ndarray) -> None:
    assert loudness(audio) == pytest.approx(METER.integrated_loudness(audio), abs=0.1)


def test_a_full_tone_in_one_channel_has_the_loudness_that_the_standard_names() -> None:
    audio = tone(997, level=1.0)
    audio[:, 1] = 0
    assert loudness(audio) == pytest.approx(-3.01, abs=0.02)


def test_silence_has_no_loudness_and_stays_silence() -> None:
    silence = np.zeros((RATE, 2), np.float32)
    assert loudness(silence) == loudness(noise(0.3, 0.1)) == -np.inf
    assert not levelled(silence, -20).any()
    assert loudness(levelled(noise(2, 1e-6), -20)) == pytest.approx(-20, abs=0.1)


def test_the_true_peak_lies_between_the_samples() -> None:
    audio = tone(RATE / 4, phase=np.pi / 4, level=0.9)[4800:-4800]
    assert np.abs(audio).max() == pytest.approx(0.9 / np.sqrt(2), abs=1e-3)
    assert true_peak(audio) == pytest.approx(0.9, abs=0.02)
    assert true_peak(noise(2, 0.1)) == pytest.approx(np.abs(resample_poly(noise(2, 0.1), 4, 1)).max(), rel=0.03)


@pytest.mark.parametrize("lufs", [-28.0, -18.0])
def test_audio_is_brought_to_its_loudness_under_the_ceiling(lufs: float) -> None:
    strokes = noise(6, 0.3) * np.exp(-(np.arange(6 * RATE) % 24000) / 4000, dtype=np.float32)[:, None]
    out = levelled(strokes, lufs)
    assert METER.integrated_loudness(out) == pytest.approx(lufs, abs=0.15)
    assert np.abs(resample_poly(out, 4, 1)).max() < 10 ** (-1 / 20)
    if lufs == -28:  # nothing to limit: the same sound, softer
        assert np.allclose(out / strokes, (out / strokes)[0, 0], rtol=1e-3)


def test_the_limiter_moves_smoothly() -> None:
    audio = tone(200, level=0.3)
    audio[RATE] = 3.0
    out = levelled(audio, -10)
    gain = (out / np.where(np.abs(audio) > 0.1, audio, np.nan))[:, 0]
    known = gain[~np.isnan(gain)]
    assert known.min() < 0.5 * known.max()
    assert np.abs(np.diff(known)).max() < 0.03 * known.max()
    assert true_peak(out) <= CEILING * 1.001


def test_target_follows_arousal() -> None:
    assert [target_lufs(a) for a in (-2, -1, 0, 0.5, 1, 3)] == [-28, -28, -23, -20.5, -18, -18]


@pytest.mark.parametrize(("length", "kernel"), [(100, 7), (70000, 5000), (33000, 40000), (1, 1)])
def test_convolution(length: int, kernel: int) -> None:
    audio, response = noise(1, 0.3)[:length], noise(1, 0.1, 1)[:kernel]
    expected = fftconvolve(audio.astype(float), response.astype(float), axes=0)
    assert np.allclose(convolved(audio, response), expected, atol=1e-4)
