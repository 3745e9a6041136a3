"""Where P, QRS and T of an average beat begin and end, over all leads at once or over any part of them.

The QRS by its spatial velocity (the steepness over all leads), P and T by the tangent at their steepest flank on the
principal component of the leads, where it meets the baseline: the classical definition of the end of T (Lepeschkin
and Surawicz, Circulation 1952).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, signal

_VELOCITY_WINDOW = 5
_QRS_CORE = 0.35
"""The QRS holds every sample near its middle that is this steep, relative to the steepest."""
_QRS_EDGE = 0.07
"""The QRS ends where the beat is less steep than this part of the steepest for `_QUIET_SAMPLES`."""
_QUIET_SAMPLES = 12
_QRS_SEARCH_SAMPLES = 150
_LONG_QRS_SAMPLES = 80
_VALLEY = 0.2
_CALM_SAMPLES = 30
_FLANK_WINDOW = 9
_T_FLANK_SAMPLES = 110
_P_FLANK_SAMPLES = 60
_PROMINENCE = 0.2
_ECHO_LAGS = (75, 150)


@dataclass(frozen=True, kw_only=True)
class Wave:
    """A P or T wave of an average beat."""

    peak: int
    """Sample."""
    edge: float
    """Where the tangent of the flank that is away from the QRS meets the baseline, samples."""
    height: float
    """Of the leads' principal component at the peak, in the recording's unit."""


def qrs_bounds(samples: np.ndarray, centre: int) -> tuple[int, int] | None:
    """(onset, offset) of the QRS around `centre`. [lead, time] -> samples; None where nothing is steep."""
    speed = velocity(samples)
    first = max(centre - _QRS_SEARCH_SAMPLES, 0)
    search = speed[first : centre + _QRS_SEARCH_SAMPLES]
    top = search[_QRS_SEARCH_SAMPLES // 2 : -_QRS_SEARCH_SAMPLES // 2].max(initial=0.0)
    if not top > 0:
        return None
    floor = float(np.median(speed[max(centre - 200, 0) : centre + 300]))
    edge = max(_QRS_EDGE * top, 1.5 * floor) if 1.5 * floor < 0.25 * top else _QRS_EDGE * top
    steep = np.flatnonzero(search[: 2 * _QRS_SEARCH_SAMPLES] >= _QRS_CORE * top)
    core = steep[np.abs(steep + first - centre) <= 75]
    if core.size == 0:
        return None
    onset = _first_quiet(search[: core[0] + 1][::-1], edge)
    offset = _first_quiet(search[core[-1] :], edge)
    if offset is None or core[-1] - core[0] + offset > _LONG_QRS_SAMPLES:
        # A steep ST segment: the J point is where the QRS turns into it.
        valley = _first_valley(search[core[-1] :], _VALLEY * top)
        offset = offset if valley is None else valley
    if onset is None or offset is None:
        return None
    return first + int(core[0]) - onset, first + int(core[-1]) + offset


def t_wave(samples: np.ndarray, *, start: int, stop: int) -> Wave | None:
    """The T wave between two samples, its end by the tangent. [lead, time] -> samples; None without a clear wave."""
    trace = principal(samples, start, stop)
    peak = _main_peak(np.abs(trace[start:stop]))
    if peak is None:
        return None
    peak += start
    flank = trace[peak : min(peak + _T_FLANK_SAMPLES, samples.shape[1])] * np.sign(trace[peak])
    end = _tangent(flank)
    return None if end is None else Wave(peak=peak, edge=peak + end, height=float(abs(trace[peak])))


def p_wave(samples: np.ndarray, *, start: int, stop: int) -> Wave | None:
    """The P wave between two samples, its beginning by the tangent; otherwise as `t_wave`."""
    trace = principal(samples, start, stop)
    peak = _main_peak(np.abs(trace[start:stop]))
    if peak is None:
        return None
    peak += start
    flank = (trace[max(peak - _P_FLANK_SAMPLES, 0) : peak + 1] * np.sign(trace[peak]))[::-1]
    begin = _tangent(flank)
    return None if begin is None else Wave(peak=peak, edge=peak - begin, height=float(abs(trace[peak])))


def principal(samples: np.ndarray, start: int, stop: int) -> np.ndarray:
    """[lead, time] -> [time], the combination of leads that shows most of what lies between two samples."""
    part = samples[:, start:stop]
    _, vectors = np.linalg.eigh(part @ part.T)
    return np.asarray(vectors[:, -1] @ samples)


def _main_peak(height: np.ndarray) -> int | None:
    """The most prominent maximum that is not at an end."""
    smooth = ndimage.uniform_filter1d(height, _VELOCITY_WINDOW)
    peaks, found = signal.find_peaks(smooth, prominence=_PROMINENCE * float(smooth.max(initial=0.0)))
    return int(peaks[found["prominences"].argmax()]) if peaks.size else None


def _tangent(flank: np.ndarray) -> float | None:
    """Samples from a peak to where the tangent at its steepest descent meets 0. `flank` starts at the peak."""
    if flank.size < 2 * _FLANK_WINDOW:
        return None
    reach = _FLANK_WINDOW // 2
    slope = (flank[2 * reach :] - flank[: -2 * reach]) / (2 * reach)
    # Only down to the first turn: what comes after it is another wave.
    turn = np.flatnonzero((slope[reach:] > 0) & (flank[2 * reach : flank.size - reach] < 0.7 * flank[0]))
    slope = slope[: int(turn[0]) + reach] if turn.size else slope
    steepest = int(slope.argmin())
    if not slope[steepest] < 0:
        return None
    return steepest + reach - float(flank[steepest + reach] / slope[steepest])


def velocity(samples: np.ndarray) -> np.ndarray:
    """[lead, time] -> [time] root mean square over the leads of the change per sample, smoothed over 10 ms."""
    slope = np.gradient(samples, axis=1)
    return np.asarray(ndimage.uniform_filter1d(np.sqrt((slope**2).mean(axis=0)), _VELOCITY_WINDOW))


def _first_quiet(speed: np.ndarray, edge: float) -> int | None:
    """The first sample from which on the signal stays below `edge` for `_QUIET_SAMPLES`."""
    quiet = speed < edge
    runs = np.convolve(quiet, np.ones(_QUIET_SAMPLES), "valid") if quiet.size >= _QUIET_SAMPLES else np.empty(0)
    where = np.flatnonzero(runs >= _QUIET_SAMPLES - 0.5)
    return int(where[0]) if where.size else None


def _first_valley(speed: np.ndarray, edge: float) -> int | None:
    """The first minimum below `edge` after which 60 ms stay below it: the J point before a steep ST segment."""
    smooth = ndimage.uniform_filter1d(speed, 2 * _VELOCITY_WINDOW)
    for k in range(1, smooth.size - _CALM_SAMPLES):
        if smooth[k] <= smooth[k + 1] and smooth[k] < edge and smooth[k : k + _CALM_SAMPLES].max() < edge:
            return k
    return None


def steadiness(members: np.ndarray, start: int, stop: int) -> float:
    """How alike the beats are between two samples: the median correlation of each with the sum of the others.

    `members` is [beat, lead, time]; levels do not count. NaN with fewer than three whole beats or 20 ms.
    """
    part = members[:, :, start:stop]
    part = part[np.isfinite(part).all(axis=(1, 2))]
    if len(part) < 3 or part.shape[2] < 10:
        return float("nan")
    part = (part - part.mean(axis=2, keepdims=True)).reshape(len(part), -1)
    others = part.sum(axis=0) - part
    norms = np.linalg.norm(part, axis=1) * np.linalg.norm(others, axis=1)
    return float(np.median((part * others).sum(axis=1) / np.maximum(norms, 1e-12)))


def echo(samples: np.ndarray, p: Wave, qrs_onset: int) -> float:
    """How much a stretch 150-300 ms before or after the P wave looks like it, 0 to 1: flutter waves come in a row."""
    start, stop = int(p.edge) - 5, min(round(2 * p.peak - p.edge) + 5, qrs_onset - 3)
    if stop - start < 15:
        return 0.0
    wave = _without_line(samples[:, start:stop])
    size, best = max(float(np.linalg.norm(wave)), 1e-12), 0.0
    for lag in range(*_ECHO_LAGS):
        for first in (start - lag, start + lag):
            if first < 0 or first + stop - start > qrs_onset - 3:
                continue
            other = _without_line(samples[:, first : first + stop - start])
            best = max(best, float((wave * other).sum()) / size / max(size, float(np.linalg.norm(other))))
    return best


def _without_line(samples: np.ndarray) -> np.ndarray:
    """[lead, time] minus each lead's mean and slope, which is most of what a T wave adds to a stretch of it."""
    line = np.linspace(-1, 1, samples.shape[1])
    line /= np.linalg.norm(line)
    return np.asarray(samples - samples.mean(axis=1, keepdims=True) - np.outer(samples @ line, line))
