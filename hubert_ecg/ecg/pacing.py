"""Pacemaker spikes: jumps out of the quiet before a beat that no heart makes. Many carts filter them out.

Few false alarms come first: fewer than 2 in 1,000 recordings. At 500 Hz the spikes of 7 of 8 paced recordings are found
(LUDB and PhysioNet Challenge 2021, on which the limits were chosen) and none in the 120 others. At 100 Hz the limits
were chosen on PTB-XL's folds 1 to 7: 25 of 42, and 3 of 3,740 others; folds 8 and 9 then gave 2 of 15, and 1 of 1,063.
The same 8 taken from 500 to 100 Hz gave 1: filters for a low rate take most of a spike away.
"""

import numpy as np
from scipy import ndimage, signal

LEAST_SPIKES = 3
"""Fewer are artefacts: cables move now and then, a pacemaker works with most beats."""
_SEPARATE_S = 0.2
_FINE_CEILING_MV, _COARSE_CEILING_MV = 0.5, 1.0
"""More than this in one lead counts as this: a spike is seen in many leads, what is in one alone is an artefact."""
_EDGE_S = 0.08
"""Filters of the cart may ring at the ends of a recording."""

_FINE_RATE_HZ = 200.0
_STEP_S = 0.002
_QUIET_S = (0.008, 0.05)
_RINGING_SAMPLES = 4
"""Before a spike's step, without the ringing of filters; a QRS complex takes longer from its first movement to its
steepest."""
_STEP_FLOOR_MV = 0.08
_STEP_RATIO = 3.5

_COARSE_RATE_HZ = 100.0
_CORNER_FLOOR_MV = 0.25
_CORNER_RATIO = 1.5
_BEAT_AFTER_S = (0.06, 0.2)
_BEAT_STEP_MV = 0.15
"""At 100 Hz a narrow QRS complex is as sharp as a spike, but no other QRS complex, this steep, comes after it."""


def pacing_spikes(samples: np.ndarray, sampling_rate_hz: float) -> np.ndarray:
    """[spike] seconds at which pacemaker spikes stand; empty for fewer than `LEAST_SPIKES`. [lead, time] mV, no gaps.

    From 200 Hz on, a spike is a step within 2 ms (or one sample) that is several times as large as any in the 8 to 50
    ms before it. Below, samples are taken to 100 Hz, where a spike is one sample that its neighbours do not foretell,
    with a beat after it: fewer are found. Nothing is found below 100 Hz.
    """
    if sampling_rate_hz < _COARSE_RATE_HZ or samples.shape[1] < sampling_rate_hz or not len(samples):
        return np.empty(0)
    if sampling_rate_hz >= _FINE_RATE_HZ:
        rate_hz, spikes = sampling_rate_hz, _steps(samples, sampling_rate_hz)
    else:
        rate_hz, spikes = _COARSE_RATE_HZ, _corners(_at_coarse_rate(samples, sampling_rate_hz))
    edge = round(_EDGE_S * rate_hz)
    places = np.flatnonzero(spikes[edge:-edge]) + edge
    first = _first_of_each(places, round(_SEPARATE_S * rate_hz))
    return first / rate_hz if first.size >= LEAST_SPIKES else np.empty(0)


def _steps(samples: np.ndarray, rate_hz: float) -> np.ndarray:
    """[time] bool: a step ends here that is far larger than those before it."""
    lag = max(round(_STEP_S * rate_hz), 1)
    step = _size(samples[:, lag:] - samples[:, :-lag], _FINE_CEILING_MV, before=lag)
    nearest, farthest = (round(second * rate_hz) for second in _QUIET_S)
    quiet = _largest(step, -farthest, -max(nearest, _RINGING_SAMPLES))
    return np.asarray(step > _STEP_RATIO * (quiet + _STEP_FLOOR_MV))


def _corners(samples: np.ndarray) -> np.ndarray:
    """[time] bool: a sample at 100 Hz that the two on each side of it do not foretell, and a beat after it."""
    middle, near = samples[:, 2:-2], samples[:, 1:-3] + samples[:, 3:-1]
    foretold = (4 * near - samples[:, :-4] - samples[:, 4:]) / 6
    corner = _size(middle - foretold, _COARSE_CEILING_MV, before=2, after=2)
    step = _size(np.diff(samples), _COARSE_CEILING_MV, before=1)
    first, last = (round(second * _COARSE_RATE_HZ) for second in _BEAT_AFTER_S)
    sharp = corner > _CORNER_RATIO * (_largest(step, -2, -2) + _CORNER_FLOOR_MV)
    return np.asarray(sharp & (_largest(step, first, last) >= _BEAT_STEP_MV))


def _at_coarse_rate(samples: np.ndarray, rate_hz: float) -> np.ndarray:
    if rate_hz == _COARSE_RATE_HZ:
        return samples
    length = round(samples.shape[1] * _COARSE_RATE_HZ / rate_hz)
    return np.asarray(signal.resample(samples, length, axis=1))


def _size(change: np.ndarray, ceiling_mv: float, *, before: int, after: int = 0) -> np.ndarray:
    """[time] root mean square over the leads of a change, with zeros before and after. [lead, time] mV, overwritten."""
    bounded = np.clip(change, -ceiling_mv, ceiling_mv, out=change)
    size = np.zeros(before + change.shape[1] + after, np.float32)
    size[before : before + change.shape[1]] = np.sqrt(np.einsum("lt,lt->t", bounded, bounded) / len(bounded))
    return size


def _largest(size: np.ndarray, first: int, last: int) -> np.ndarray:
    """[time] the maximum from `first` to `last` samples after each place, negative: before it; 0 beyond the ends."""
    width = last - first + 1
    around = ndimage.maximum_filter1d(size, width, mode="constant")
    middle = first + width // 2
    shifted = np.zeros_like(around)
    if middle < 0:
        shifted[-middle:] = around[:middle]
    else:
        shifted[: around.size - middle] = around[middle:]
    return shifted


def _first_of_each(places: np.ndarray, apart: int) -> np.ndarray:
    """The places that have no other within `apart` samples before them."""
    return places[np.diff(places, prepend=-apart - 1) > apart] if places.size else places
