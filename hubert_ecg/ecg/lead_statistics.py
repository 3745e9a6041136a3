"""What the quality findings rest on, computed for all leads at once: ranges, noise, wander and mains, in few passes."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

BLOCK_S = 0.5
"""Ranges are taken in stretches of this length: each holds a QRS or most of a TP segment."""
_NOISE_BLOCK_S = 0.1
_NOISE_BLOCKS = 10
_QUIET_RANK = 2
"""Of the ten 100 ms blocks of a second the third quietest: it holds no QRS, even at 200 beats per minute."""
_SPACING_S = 0.004
_SPECTRUM_S = 10.0
_WANDER_HZ = 0.55
_MAINS_REACH_HZ = 0.35
_NEIGHBOUR_HZ = (0.8, 1.6)
_TWICE_RMS = 2 * 2**0.5
_GAUSSIAN = float(np.sqrt(np.pi / 2) / np.sqrt(6))
"""Mean absolute second difference of white noise times this is its root mean square."""


@dataclass(frozen=True, kw_only=True)
class LeadStatistics:
    """Figures of each lead. Blocks and seconds that do not fill the end of the record are left out."""

    low_mv: np.ndarray
    """[lead]"""
    high_mv: np.ndarray
    """[lead]"""
    mean_mv: np.ndarray
    """[lead]"""
    block_range_mv: np.ndarray
    """[lead, block of BLOCK_S]"""
    noise_mv: np.ndarray
    """[lead, second] root mean square of what is fast (above some 20 Hz) between the QRS complexes."""
    wander_mv: np.ndarray
    """[lead] peak to peak below 0.55 Hz, in the worst 10 s."""
    mains_mv: np.ndarray
    """[lead, 2] peak to peak of the lines at 50 and 60 Hz above their neighbourhood, in the worst 10 s."""
    gram_mv2: np.ndarray
    """[lead, lead] mean over time of the products of two leads, without what is below 0.55 Hz."""


def lead_statistics(samples: np.ndarray, sampling_rate_hz: float) -> LeadStatistics:
    """[lead, time] mV float32 without missing values, at least a second long."""
    num_leads, length = samples.shape
    block = max(int(BLOCK_S * sampling_rate_hz), 1)
    blocks = samples[:, : length // block * block].reshape(num_leads, -1, block)
    block_high, block_low = blocks.max(axis=2), blocks.min(axis=2)
    fast = _fast_blocks(samples, sampling_rate_hz)
    quiet = np.partition(fast, _QUIET_RANK, axis=2)[:, :, _QUIET_RANK]
    lines = _lines(samples, sampling_rate_hz)
    # The end that fills no block can hold the extreme, too.
    rest = samples[:, -block:]
    return LeadStatistics(
        low_mv=np.minimum(block_low.min(axis=1), rest.min(axis=1)),
        high_mv=np.maximum(block_high.max(axis=1), rest.max(axis=1)),
        mean_mv=lines.mean_mv,
        block_range_mv=block_high - block_low,
        noise_mv=quiet * _GAUSSIAN,
        wander_mv=lines.wander_mv,
        mains_mv=lines.mains_mv,
        gram_mv2=lines.gram_mv2,
    )


def _fast_blocks(samples: np.ndarray, sampling_rate_hz: float) -> np.ndarray:
    """[lead, second, 10] mean absolute second difference over 4 ms (or one sample, if that is longer)."""
    step = max(round(_SPACING_S * sampling_rate_hz), 1)
    size = max(int(_NOISE_BLOCK_S * sampling_rate_hz), 1)
    count = samples.shape[1] - 2 * step
    whole = max(count // (size * _NOISE_BLOCKS), 1)
    bend = samples[:, step:-step] * np.float32(-2)
    bend += samples[:, 2 * step :]
    bend += samples[:, : -2 * step]
    np.abs(bend, out=bend)
    used = bend[:, : whole * size * _NOISE_BLOCKS]
    if used.shape[1] < whole * size * _NOISE_BLOCKS:  # a record of hardly a second: fewer samples per block
        size = used.shape[1] // _NOISE_BLOCKS
        used = used[:, : size * _NOISE_BLOCKS]
    return np.asarray(used.reshape(len(samples), whole, _NOISE_BLOCKS, size).mean(axis=3))


@dataclass(frozen=True, kw_only=True)
class _LineFigures:
    """The fields of the same names in LeadStatistics."""

    mean_mv: np.ndarray
    wander_mv: np.ndarray
    mains_mv: np.ndarray
    gram_mv2: np.ndarray


def _lines(samples: np.ndarray, sampling_rate_hz: float) -> _LineFigures:
    """What follows from the few Fourier lines that matter, in stretches of 10 s (or the record, if it is shorter)."""
    num_leads, length = samples.shape
    window = min(round(_SPECTRUM_S * sampling_rate_hz), length)
    whole = length // window
    lines = _line_basis(window, float(sampling_rate_hz))
    used = samples[:, : whole * window]
    parts = (used.reshape(num_leads * whole, window) @ lines.basis).reshape(num_leads, whole, 2, lines.count)
    power = np.square(parts).sum(axis=2)
    mains = np.zeros((num_leads, 2), np.float32)
    for k, (line, beside) in enumerate(lines.mains):
        excess = power[:, :, line].sum(axis=2) - (line.stop - line.start) * power[:, :, beside].mean(axis=2)
        mains[:, k] = _TWICE_RMS * np.sqrt(np.maximum(excess.max(axis=1), 0))
    slow = parts[..., : lines.wander.stop].reshape(num_leads, -1)
    return _LineFigures(
        mean_mv=parts[:, :, 0, 0].mean(axis=1),
        wander_mv=_TWICE_RMS * np.sqrt(power[:, :, lines.wander].sum(axis=2).max(axis=1)),
        mains_mv=mains,
        # The lines are orthogonal, so that leaving the slow ones out is a subtraction.
        gram_mv2=used @ used.T / used.shape[1] - slow @ slow.T / whole,
    )


@dataclass(frozen=True)
class _Lines:
    basis: np.ndarray
    """[time, 2 * count] float32: cosines, then sines; squares add up to mean squares."""
    count: int
    wander: slice
    mains: tuple[tuple[slice, np.ndarray], ...]
    """For each of 50 and 60 Hz that the rate can hold: its lines and those beside it."""


@lru_cache(maxsize=8)
def _line_basis(length: int, sampling_rate_hz: float) -> _Lines:
    spacing_hz = sampling_rate_hz / length
    slow = np.arange(0, int(_WANDER_HZ / spacing_hz) + 1)
    groups, mains, used = [slow], [], slow.size
    for centre_hz in (50.0, 60.0):
        if centre_hz + _NEIGHBOUR_HZ[1] >= 0.5 * sampling_rate_hz:
            continue
        near = np.arange(
            int(np.ceil((centre_hz - _NEIGHBOUR_HZ[1]) / spacing_hz)),
            int((centre_hz + _NEIGHBOUR_HZ[1]) / spacing_hz) + 1,
        )
        distance = np.abs(near * spacing_hz - centre_hz)
        line, beside = np.flatnonzero(distance <= _MAINS_REACH_HZ), np.flatnonzero(distance >= _NEIGHBOUR_HZ[0])
        if line.size == 0 or beside.size == 0:
            continue
        mains.append((slice(used + line[0], used + line[-1] + 1), used + beside))
        groups.append(near)
        used += near.size
    angle = 2 * np.pi * np.outer(np.arange(length), np.concatenate(groups)) / length
    scale = np.where(np.concatenate(groups) == 0, 1.0, 2**0.5) / length
    basis = np.concatenate([np.cos(angle) * scale, np.sin(angle) * scale], axis=1).astype(np.float32)
    return _Lines(basis, used, slice(1, slow.size), tuple(mains))
