"""The average beat: the beats of the prevailing shape, aligned on their QRS, freed of wander and averaged."""

from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.r_peaks import WORK_RATE_HZ, WorkingLeads

_BEFORE_SAMPLES = 300
"""An average beat begins 600 ms before the middle of the QRS: room for the longest PR."""
_AFTER_SAMPLES = 350
"""And ends 700 ms after it."""
_QRS_REACH_SAMPLES = 50
_SHIFT_SAMPLES = 25
"""Beats are aligned within 50 ms of where they were found."""
_SAME_SHAPE = 0.8
"""Least correlation of a beat's QRS, over all leads, with the average's."""
_PREMATURE = 0.85
"""A beat that comes after less than this part of the median RR has a P wave and a T wave of its own."""
_FEWEST_BEATS = 3
_BEATS_AT_ONCE = 64
"""Beats that the first template is chosen from, and that are aligned together: each takes half a megabyte."""
_BASELINE_SAMPLES = (55, 35)
"""Before the QRS onset is known, the baseline is taken 110-70 ms before the middle of the QRS."""


@dataclass(frozen=True, kw_only=True)
class AverageBeat:
    """One beat per lead, standing for all beats of the prevailing shape."""

    samples: np.ndarray
    """[lead, time] in the recording's unit at `WORK_RATE_HZ`; 0 is the level just before the QRS."""
    members: np.ndarray
    """[beat, lead, time] what was averaged; NaN beyond the record's ends."""
    centre: int
    """Sample of the middle of the QRS."""
    peaks: np.ndarray
    """[beat] the members' middles on the recording's clock, samples at `WORK_RATE_HZ`."""
    rr_s: float
    """Median RR of all beats of the recording, seconds."""


def average_beat(leads: WorkingLeads, peaks: np.ndarray) -> AverageBeat | None:
    """The average of the beats at `peaks`; None where fewer than three share a shape."""
    if peaks.size < _FEWEST_BEATS:
        return None
    aligned, alike = _aligned(leads.samples, peaks)
    rr_s = float(np.median(np.diff(peaks))) / WORK_RATE_HZ
    preceding_s = np.concatenate([[rr_s], np.diff(peaks) / WORK_RATE_HZ])
    timely = alike & (preceding_s >= _PREMATURE * rr_s)
    chosen = timely if timely.sum() >= _FEWEST_BEATS else alike
    if chosen.sum() < _FEWEST_BEATS:
        return None
    members = _cut(_level(leads.unfiltered, aligned[chosen], _BASELINE_SAMPLES), aligned[chosen])
    return AverageBeat(
        samples=_middle(members), members=members, centre=_BEFORE_SAMPLES, peaks=aligned[chosen], rr_s=rr_s
    )


def relevelled(beat: AverageBeat, leads: WorkingLeads, onset: int) -> AverageBeat:
    """The same beats with the 16 ms before the QRS onset (a sample of the average beat) as their baseline."""
    before = beat.centre - onset
    members = _cut(_level(leads.unfiltered, beat.peaks, (before + 9, before + 1)), beat.peaks)
    return AverageBeat(samples=_middle(members), members=members, centre=beat.centre, peaks=beat.peaks, rr_s=beat.rr_s)


def _middle(members: np.ndarray) -> np.ndarray:
    """[lead, time] mean of the middle half of the members: as robust as the median here, and less noisy."""
    ordered = np.sort(members, axis=0)  # NaN goes last
    count = np.isfinite(members[:, 0, :]).sum(axis=0)
    low, high = count // 4, count - count // 4
    rank = np.arange(len(members))[:, None]
    weight = ((rank >= low) & (rank < high)).astype(float)[:, None, :]
    total = np.where(weight > 0, np.nan_to_num(ordered), 0.0).sum(axis=0)
    return np.asarray(total / np.maximum(weight.sum(axis=0), 1.0))


def _aligned(samples: np.ndarray, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(peaks [beat] moved so that the QRS complexes coincide, [beat] whether the shape is the prevailing one)."""
    every = -(-peaks.size // _BEATS_AT_ONCE)
    candidates = _candidates(samples, peaks[::every])
    middle = candidates[:, _SHIFT_SAMPLES]
    # The first template is the beat that the others resemble most, wherever they have to be moved for it.
    likeness = np.einsum("asn,bn->abs", candidates, middle).max(axis=2)
    template = middle[np.median(likeness, axis=0).argmax()]
    parts = [peaks[start : start + _BEATS_AT_ONCE] for start in range(0, peaks.size, _BEATS_AT_ONCE)]
    for _ in range(3):
        fits = [_fitted(candidates if every == 1 else _candidates(samples, part), template) for part in parts]
        shift, score, moved = (np.concatenate(each) for each in zip(*fits, strict=True))
        alike = score >= _SAME_SHAPE
        if not alike.any():
            break
        template = moved[alike].mean(axis=0)
        template = template / np.linalg.norm(template)
    return peaks + shift - _SHIFT_SAMPLES, alike


def _candidates(samples: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """[beat, shift, lead x time] the QRS of each beat wherever it may be moved to; mean 0 and norm 1."""
    reach = _QRS_REACH_SAMPLES + _SHIFT_SAMPLES
    padded = np.pad(samples, ((0, 0), (reach, reach)), mode="edge")
    wide = np.stack([padded[:, peak : peak + 2 * reach] for peak in peaks])
    windows = np.lib.stride_tricks.sliding_window_view(wide, 2 * _QRS_REACH_SAMPLES, axis=2)
    candidates = np.moveaxis(windows, 2, 1).reshape(peaks.size, windows.shape[2], -1)
    candidates = candidates - candidates.mean(axis=2, keepdims=True)
    return np.asarray(candidates / np.maximum(np.linalg.norm(candidates, axis=2, keepdims=True), 1e-12))


def _fitted(candidates: np.ndarray, template: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each beat the shift that fits best, its correlation with the template, and the beat moved by it."""
    scores = candidates @ template
    shift = scores.argmax(axis=1)
    return shift, scores.max(axis=1), candidates[np.arange(len(candidates)), shift]


def _level(samples: np.ndarray, peaks: np.ndarray, before: tuple[int, int]) -> np.ndarray:
    """[lead, time] minus the line through its means from `before[0]` to `before[1]` samples ahead of each peak."""
    knots = peaks - sum(before) / 2
    starts = np.clip(peaks - before[0], 0, samples.shape[1] - 1)
    stops = np.clip(peaks - before[1], starts + 1, samples.shape[1])
    levels = np.stack([samples[:, a:b].mean(axis=1) for a, b in zip(starts, stops, strict=True)], axis=1)
    times = np.arange(samples.shape[1])
    return samples - np.stack([np.interp(times, knots, row) for row in levels])


def _cut(samples: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """[beat, lead, time] around each peak, NaN beyond the ends."""
    padded = np.pad(samples, ((0, 0), (_BEFORE_SAMPLES, _AFTER_SAMPLES)), constant_values=np.nan)
    return np.stack([padded[:, peak : peak + _BEFORE_SAMPLES + _AFTER_SAMPLES] for peak in peaks])
