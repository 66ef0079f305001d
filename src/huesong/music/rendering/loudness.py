"""How loud audio is heard to be (ITU-R BS.1770-4), its true peak, and audio brought to a loudness without clipping.

In numpy alone: importing scipy.signal would cost a composition more than all of this. Shapes: N samples, 2 channels,
at `RATE`.
"""

from __future__ import annotations

import numpy as np

RATE = 48000
"""Samples a second; the filters' coefficients are for it."""
CALMEST_LUFS, LOUDEST_LUFS = -28.0, -18.0
"""Integrated loudness asked for at arousal -1 and +1."""
CEILING = 10 ** (-1.2 / 20)
"""Highest true peak: -1 dBFS with some room for another estimate of it."""
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0
BLOCK_S, STEP_S = 0.4, 0.1
FILTERS = (
    ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)),
    ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)
"""Head and revised low-frequency curve (annex 1, tables 1 and 2): numerator and denominator."""
FILTER_SAMPLES = 1 << 14
"""The filters have rung out by then (-100 dB)."""
OVERSAMPLING, TAPS = 4, 24
STEP, REACH = 64, 32
"""Limiter: samples of a step of its gain, and steps that a change of gain takes (43 ms)."""
ROUNDS, CLOSE_LU = 6, 0.05


def target_lufs(arousal: float) -> float:
    """The loudness that suits an arousal in [-1, 1]."""
    return CALMEST_LUFS + (LOUDEST_LUFS - CALMEST_LUFS) * (min(max(arousal, -1.0), 1.0) + 1) / 2


def convolved(audio: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Each channel with the kernel's (overlap-add). audio [N, 2], kernel [K, 2] or [K, 1] -> [N + K - 1, 2], float32."""
    frames = 1 << max(15, (2 * len(kernel) - 1).bit_length())
    step = frames - len(kernel) + 1
    count = -(-len(audio) // step)
    padded = np.zeros((audio.shape[1], count * step), np.float32)
    padded[:, : len(audio)] = audio.T
    response = np.fft.rfft(kernel.T, frames)
    out = np.zeros((len(padded), count * step + frames - step), np.float32)
    for start in range(0, count * step, step):
        spectrum = np.fft.rfft(padded[:, start : start + step], frames)
        out[:, start : start + frames] += np.fft.irfft(spectrum * response, frames)
    return out[:, : len(audio) + len(kernel) - 1].T


def _weighting() -> np.ndarray:
    """The impulse response [FILTER_SAMPLES, 1] of the two filters."""
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(FILTER_SAMPLES))
    response = np.ones(len(turn), complex)
    for above, below in FILTERS:
        response *= np.polyval(above[::-1], turn) / np.polyval(below[::-1], turn)
    return np.fft.irfft(response, FILTER_SAMPLES)[:, None].astype(np.float32)


def loudness(audio: np.ndarray) -> float:
    """Integrated loudness of audio [N, 2] in LUFS; of silence, or less than a block, -inf."""
    weighted = convolved(audio, _weighting())[: len(audio)].astype(np.float64)
    energy = np.concatenate(([0.0], np.cumsum((weighted**2).sum(axis=1))))
    block, step = round(BLOCK_S * RATE), round(STEP_S * RATE)
    starts = np.arange(0, len(audio) - block + 1, step)
    power = (energy[starts + block] - energy[starts]) / block
    with np.errstate(divide="ignore"):
        level = -0.691 + 10 * np.log10(power)
        kept = power[level > ABSOLUTE_GATE_LUFS]
        if not len(kept):
            return -np.inf
        gate = -0.691 + 10 * np.log10(kept.mean()) + RELATIVE_GATE_LU
        return float(-0.691 + 10 * np.log10(power[(level > ABSOLUTE_GATE_LUFS) & (level > gate)].mean()))


def _peaks(audio: np.ndarray) -> np.ndarray:
    """The highest magnitude of each step of STEP samples, between the samples too (4x oversampled): [steps]."""
    highest = np.abs(audio).max(axis=1)
    for phase in range(1, OVERSAMPLING):
        offset = np.arange(-TAPS // 2, TAPS // 2) + 1 - phase / OVERSAMPLING
        kernel = np.sinc(offset) * np.cos(np.pi * offset / (TAPS + 2)) ** 2
        for channel in audio.T:
            between = np.convolve(channel, kernel[::-1].astype(np.float32), "full")[TAPS // 2 :][: len(channel)]
            np.maximum(highest, np.abs(between), out=highest)
    highest = np.pad(highest, (0, -len(highest) % STEP))
    return highest.reshape(-1, STEP).max(axis=1)


def true_peak(audio: np.ndarray) -> float:
    """The highest magnitude of audio [N, 2] between its samples too, of full scale 1."""
    return float(_peaks(audio).max(initial=0.0))


def limited(audio: np.ndarray, peaks: np.ndarray, ceiling: float = CEILING) -> np.ndarray:
    """The audio with its gain turned down smoothly around whatever would pass the ceiling; `peaks` from `_peaks`."""
    if peaks.max(initial=0.0) <= ceiling:
        return audio
    gain = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9))
    # A gain that is the least of all around it, then a mean over as many: it is low enough wherever it stands.
    lowest = np.lib.stride_tricks.sliding_window_view(np.pad(gain, 2 * REACH + 2, mode="edge"), 2 * REACH + 3).min(
        axis=1
    )
    bell = np.hanning(2 * REACH + 3)[1:-1]
    smooth = np.convolve(lowest, bell / bell.sum(), "valid")
    middle = (np.arange(len(smooth)) - 0.5) * STEP
    return audio * np.interp(np.arange(len(audio)), middle, smooth)[:, None].astype(np.float32)


def levelled(audio: np.ndarray, lufs: float) -> np.ndarray:
    """Audio [N, 2] at an integrated loudness, its true peak at most `CEILING`; silence as it is."""
    peaks = _peaks(audio)
    if not (highest := peaks.max(initial=0.0)):
        return audio
    audio, peaks = audio / highest, peaks / highest  # however soft it is: no gate takes it for silence
    if not np.isfinite(level := loudness(audio)):
        return audio * highest
    change, out = lufs - level, audio
    for _ in range(ROUNDS):
        gain = np.float32(10 ** (change / 20))
        out = limited(audio * gain, peaks * gain)
        missing = lufs - loudness(out)
        if abs(missing) < CLOSE_LU:
            break
        change += missing
    return out
