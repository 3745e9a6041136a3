"""The filters of the preprocessing contract: band-pass, resampling, scaling and decimation of whole recordings.

Each equals what scipy computes in the original project, and is several times faster for 12 leads at once.
"""

from functools import lru_cache

import numpy as np
from scipy import fft, signal

SCALE_EPSILON_MV = 1e-8
"""Added to each lead's range before dividing by it, as in the original."""

TAPS_PER_HZ = 0.3
"""The band-pass has this many taps per Hz of sampling rate (150 at 500 Hz), plus one where that is even."""


def bandpass(samples: np.ndarray, *, low_hz: float, high_hz: float, sampling_rate_hz: float) -> np.ndarray:
    """Zero-phase band-pass of each lead. [lead, time] mV -> [lead, time] mV, float32.

    Equal to scipy.signal.filtfilt with the Hamming-windowed FIR filter of `firwin` and its default padding: for an FIR
    filter, filtering forth and back is one convolution of the oddly extended signal with the taps' autocorrelation,
    and only taps - 1 samples of the extension reach the result. That convolution is done by FFT for all leads at once.
    """
    num_taps = _num_taps(sampling_rate_hz)
    edge = num_taps - 1
    # float32 is enough once the electrode offset, which can dwarf the signal, is out of the way.
    mean = samples.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    extended = np.pad(samples - mean, ((0, 0), (edge, edge)), mode="reflect", reflect_type="odd")
    length = fft.next_fast_len(extended.shape[1], real=True)
    response = _bandpass_response(low_hz, high_hz, sampling_rate_hz, length)
    filtered = fft.irfft(fft.rfft(extended, n=length) * response, n=length)
    return filtered[:, edge : edge + samples.shape[1]] + mean * response[0]


def resample(samples: np.ndarray, num_samples: int) -> np.ndarray:
    """FFT resampling of each lead to `num_samples` samples. [lead, time] -> [lead, num_samples], same dtype."""
    return signal.resample(samples, num_samples, axis=1)


def scale_min_max(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each lead to [-1, 1] by its own extremes; a flat lead to -1.

    [lead, time] mV -> (scaled [lead, time], offset [lead] mV, gain [lead] mV), with mV = offset + gain * scaled.
    """
    low = samples.min(axis=1)
    gain = (samples.max(axis=1) - low + np.float32(SCALE_EPSILON_MV)) / 2
    scaled = (samples - low[:, None]) / gain[:, None] - 1
    return scaled, low + gain, gain


def scale_by_range(samples: np.ndarray, range_mv: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every lead in units of `range_mv`, cut off at [-1, 1]; shapes as those of `scale_min_max`, the offsets zero."""
    scaled = (samples / np.float32(range_mv)).clip(-1, 1)
    return scaled, np.zeros(len(samples), np.float32), np.full(len(samples), range_mv, np.float32)


def decimate(samples: np.ndarray, factor: int) -> np.ndarray:
    """Zero-phase decimation along the last axis. [..., time] -> [..., ceil(time / factor)] float32.

    Equal within 1e-6 of the signal's range to scipy.signal.decimate (Chebyshev filter of order 8, forth and back).
    The inside is filtered by FFT; the ends, where that filter's start-up matters, by a small precomputed matrix.
    """
    num_samples = samples.shape[-1]
    reach = _decimation_reach(factor)
    if num_samples < 2 * reach:
        return signal.decimate(samples, factor, axis=-1).astype(np.float32, copy=False)
    samples = samples.astype(np.float32, copy=False)
    num_outputs = -(-num_samples // factor)
    folded = fft.next_fast_len(num_outputs, real=True)
    spectrum = fft.rfft(samples, n=folded * factor, axis=-1)
    spectrum *= _decimation_response(factor, folded * factor)
    decimated = fft.irfft(_fold_spectrum(spectrum, factor, folded), n=folded, axis=-1)[..., :num_outputs]
    head, tail = _decimation_ends(factor, num_samples % factor)
    decimated[..., : head.shape[1]] = samples[..., : head.shape[0]] @ head
    decimated[..., -tail.shape[1] :] = samples[..., -tail.shape[0] :] @ tail
    return decimated


def _num_taps(sampling_rate_hz: float) -> int:
    return int(TAPS_PER_HZ * sampling_rate_hz) // 2 * 2 + 1


@lru_cache(maxsize=64)
def _bandpass_response(low_hz: float, high_hz: float, sampling_rate_hz: float, length: int) -> np.ndarray:
    """[length // 2 + 1] float32: the squared magnitude of the FIR filter, which is the response of filtfilt."""
    taps = signal.firwin(_num_taps(sampling_rate_hz), [low_hz, high_hz], pass_zero=False, fs=sampling_rate_hz)
    return (np.abs(fft.rfft(taps, n=length)) ** 2).astype(np.float32)


@lru_cache(maxsize=8)
def _decimation_filter(factor: int) -> np.ndarray:
    """Second-order sections of the filter of scipy.signal.decimate."""
    return signal.cheby1(8, 0.05, 0.8 / factor, output="sos")


def _fold_spectrum(spectrum: np.ndarray, factor: int, length: int) -> np.ndarray:
    """Half spectrum of every `factor`-th sample, `length` of them, from that of all samples: aliases added up."""
    bins = length // 2 + 1
    folded = sum(spectrum[..., m * length : m * length + bins] for m in range((factor - 1) // 2 + 1))
    mirrored = sum(spectrum[..., m * length : m * length - bins : -1] for m in range(1, factor // 2 + 1))
    return (folded + np.conj(mirrored)) / np.float32(factor)


def _decimation_reach(factor: int) -> int:
    """Samples after which the zero-phase impulse response has fallen below 1e-7 of its peak, rounded up."""
    return 90 * factor


def decimation_gain(factor: int) -> float:
    """What decimation does to a constant: just below 1, the ripple of the filter's pass band."""
    return float(_decimation_response(factor, 2)[0])


@lru_cache(maxsize=64)
def _decimation_response(factor: int, length: int) -> np.ndarray:
    """[length // 2 + 1] float32: the squared magnitude of the filter, applied forth and back."""
    frequencies = np.arange(length // 2 + 1) / length
    _, response = signal.freqz_sos(_decimation_filter(factor), worN=frequencies, fs=1.0)
    return (np.abs(response) ** 2).astype(np.float32)


@lru_cache(maxsize=32)
def _decimation_ends(factor: int, remainder: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices [input, output] float32 of the first and last outputs, for lengths of this remainder modulo `factor`.

    They are read off the filter itself, applied to unit impulses in a record long enough that its ends do not meet.
    """
    reach = _decimation_reach(factor)
    num_samples = 4 * reach + remainder
    impulses = signal.sosfiltfilt(_decimation_filter(factor), np.eye(num_samples), axis=-1)[:, ::factor]
    num_outputs = reach // factor
    head = impulses[: 2 * reach, :num_outputs]
    tail = impulses[-2 * reach :, -num_outputs:]
    return np.ascontiguousarray(head, np.float32), np.ascontiguousarray(tail, np.float32)
