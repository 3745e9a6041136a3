"""The filter that takes wander and muscle noise off the ECG that is shown; what the model sees has its own.

The preprocessing contract's band-pass is not used for this: its 0.3 s of taps cannot hold an edge at 0.5 Hz.
"""

import numpy as np
from scipy import signal

LOW_HZ, HIGH_HZ = 0.5, 40.0
"""Where the filter has taken 3 dB. A high-pass without phase distortion may reach 0.67 Hz (Kligfield et al.,
Circulation 2007); above 40 Hz there is muscle, mains, and some of the QRS: notches and small q waves are for the
unfiltered ECG."""
_LOW_ORDER, _HIGH_ORDER = 2, 4
_HIGHEST_FRACTION = 0.45
"""Of the sampling rate: above it there is nothing to take away."""
_LOWEST_RATE_HZ = 10.0
"""What is slower shows no wave of an ECG; it is left as it is."""


def pass_band(sampling_rate_hz: float) -> str:
    """What the filter lets through at a sampling rate, in the words of a sheet's foot."""
    return f"{LOW_HZ:g}-{HIGH_HZ:g} Hz" if _has_low_pass(sampling_rate_hz) else f"from {LOW_HZ:g} Hz"


def display_filter(samples_mv: np.ndarray, sampling_rate_hz: float) -> np.ndarray:
    """Zero-phase Butterworth band-pass of each lead. [lead, time] mV -> [lead, time] float64 mV around 0.

    Gaps are bridged by straight lines for the filter and are gaps again afterwards; a lead without a number stays so.
    """
    filtered = np.full(samples_mv.shape, np.nan)
    for row, target in zip(samples_mv, filtered, strict=True):
        known = np.isfinite(row)
        if known.any():
            places = np.arange(row.size)
            target[:] = _filtered(np.interp(places, places[known], row[known]), sampling_rate_hz)
            target[~known] = np.nan
    return filtered


def _filtered(row: np.ndarray, rate_hz: float) -> np.ndarray:
    row = row - np.median(row)
    if rate_hz < _LOWEST_RATE_HZ:
        return row
    padlen = min(row.size - 1, round(3 * rate_hz))
    # Forth and back takes twice the decibels, so that either way has to take 1.5 dB where both take 3.
    share = np.sqrt(2) - 1
    sections = signal.butter(_LOW_ORDER, LOW_HZ * share ** (0.5 / _LOW_ORDER), "highpass", fs=rate_hz, output="sos")
    row = signal.sosfiltfilt(sections, row, padlen=padlen)
    if _has_low_pass(rate_hz):
        edge_hz = HIGH_HZ / share ** (0.5 / _HIGH_ORDER)
        row = signal.sosfiltfilt(signal.butter(_HIGH_ORDER, edge_hz, fs=rate_hz, output="sos"), row, padlen=padlen)
    return np.asarray(row)


def _has_low_pass(sampling_rate_hz: float) -> bool:
    return HIGH_HZ / (np.sqrt(2) - 1) ** (0.5 / _HIGH_ORDER) <= _HIGHEST_FRACTION * sampling_rate_hz
