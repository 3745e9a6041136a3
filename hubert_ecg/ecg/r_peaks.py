"""R peaks: NeuroKit2 on each lead at 500 Hz, then a vote over the leads on where the beats are."""

import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from scipy import ndimage, signal

from hubert_ecg.ecg.recording import Recording

WORK_RATE_HZ = 500
"""Rate at which beats are found and measured, Hz: 2 ms per sample, and what NeuroKit2's filters are tuned for."""

_PASS_BAND_HZ = (0.5, 90.0)
_LARGEST_MISSING_FRACTION = 0.2
"""A lead of which more than this was not recorded is left out."""
_SMALLEST_RANGE_FRACTION = 0.02
"""A lead whose range is less than this part of the median lead's shows no beats worth reading."""
_SHORTEST_S = 1.5
"""NeuroKit2 averages over 0.75 s; what is shorter than two of these holds too few beats anyway."""
_SPIKE_S = 0.006
_SPIKE_RATE_HZ = 400.0
_SPIKE_FRACTION = 0.15
"""A spike stands out of the running median by this part of the lead's range; a normal R peak by up to a tenth."""
_QRS_BAND_HZ = (5.0, 20.0)
_ENVELOPE_SAMPLES = 60
_ENVELOPE_CEILING = 1.5
"""An artefact in one lead counts at most this many beat heights."""
_STRETCH_SAMPLES = 750
_CERTAIN_BEAT = 0.45
"""What reaches this part of the median beat's envelope is a beat: P and T waves do not."""
_SMALLEST_BEAT = 0.2
"""What reaches this part is a beat where NeuroKit2 finds it in most leads: ectopic beats may be slow and small."""
_END_SAMPLES = 40
_SAME_BEAT_SAMPLES = 60
"""R peaks at most 120 ms from a beat's middle belong to it; a broad QRS peaks late in some leads."""
_T_WAVE_SAMPLES = 250
"""The T wave is steepest within 500 ms of the QRS."""
_T_WAVE_HEIGHT = 0.7
_REFRACTORY_SAMPLES = 110
"""Two beats are at least 220 ms apart: 270 beats per minute."""


@dataclass(frozen=True, kw_only=True)
class WorkingLeads:
    """The usable leads of a recording, filtered, at `WORK_RATE_HZ`."""

    samples: np.ndarray
    """[lead, time] float64 in the recording's unit, 0.5-90 Hz; no missing values."""
    unfiltered: np.ndarray
    """[lead, time] the same without the high-pass, which bends ST segments: for what is measured."""
    names: tuple[str, ...]


_NO_LEADS = WorkingLeads(samples=np.empty((0, 0)), unfiltered=np.empty((0, 0)), names=())


@dataclass(frozen=True, kw_only=True)
class Beats:
    """Where the beats are."""

    peaks: np.ndarray
    """[beat] samples at `WORK_RATE_HZ`, the middle of each QRS over all leads."""
    lead_peaks: tuple[np.ndarray, ...]
    """For each working lead its own R peaks by NeuroKit2, samples."""
    lead_middles: tuple[np.ndarray, ...]
    """For each working lead the middles of the QRS complexes in its own envelope, samples."""

    @property
    def rr_s(self) -> np.ndarray:
        """[beat - 1] seconds from each beat to the next."""
        return np.diff(self.peaks) / WORK_RATE_HZ


def working_leads(recording: Recording) -> WorkingLeads:
    """The leads on which beats can be looked for: recorded, not flat, not shorter than 1.5 s.

    Gaps are bridged by straight lines; then a zero-phase Butterworth band-pass of 0.5-90 Hz (less at low rates) and a
    polyphase resampling to 500 Hz. May hold no lead at all.
    """
    samples = np.asarray(recording.samples, np.float64)
    rate = Fraction(recording.sampling_rate_hz).limit_denominator(1000)
    if recording.duration_s < _SHORTEST_S:
        return _NO_LEADS
    rows, names = [], []
    for name, row in zip(recording.lead_names, samples, strict=True):
        there = np.isfinite(row)
        if there.mean() < 1 - _LARGEST_MISSING_FRACTION:
            continue
        if not there.all():
            row = np.interp(np.arange(row.size), np.flatnonzero(there), row[there])
        rows.append(row - np.median(row))
        names.append(name)
    if not rows:
        return _NO_LEADS
    wide = _filtered(_without_spikes(np.stack(rows), float(rate)), float(rate), "lowpass", _PASS_BAND_HZ[1])
    ratio = WORK_RATE_HZ / rate
    if ratio != 1:
        wide = signal.resample_poly(wide, ratio.numerator, ratio.denominator, axis=1, padtype="line")
    narrow = _filtered(wide, WORK_RATE_HZ, "highpass", _PASS_BAND_HZ[0])
    ranges = np.ptp(narrow, axis=1)
    keep = ranges > max(_SMALLEST_RANGE_FRACTION * float(np.median(ranges)), 1e-9)
    kept = tuple(name for name, there in zip(names, keep, strict=True) if there)
    return WorkingLeads(samples=narrow[keep], unfiltered=wide[keep], names=kept)


def find_beats(leads: WorkingLeads) -> Beats:
    """The beats that the leads show together, and NeuroKit2's R peaks in each lead to confirm them.

    A lead's vote is its envelope (5-20 Hz, where a QRS has more than a P or T wave has) over the envelope's own height.
    """
    if not leads.names:
        return Beats(peaks=np.empty(0, int), lead_peaks=(), lead_middles=())
    lead_peaks = tuple(_lead_peaks(row) for row in leads.samples)
    envelopes = _envelopes(leads.samples)
    # Cut off above, so that an artefact in a few leads makes no beat.
    common = np.minimum(envelopes, _ENVELOPE_CEILING).mean(axis=0)
    return Beats(
        peaks=_agreed_peaks(common, lead_peaks),
        lead_peaks=lead_peaks,
        lead_middles=tuple(_maxima(row, _CERTAIN_BEAT) for row in envelopes),
    )


def _without_spikes(samples: np.ndarray, rate_hz: float) -> np.ndarray:
    """Pacemaker spikes, shorter than 7 ms, replaced by the running median; it takes 400 Hz to tell them apart."""
    if rate_hz < _SPIKE_RATE_HZ:
        return samples
    smooth = ndimage.median_filter(samples, size=(1, 2 * round(_SPIKE_S * rate_hz) + 1), mode="nearest")
    spike = np.abs(samples - smooth) > _SPIKE_FRACTION * np.ptp(smooth, axis=1, keepdims=True)
    return np.where(spike, smooth, samples)


def _filtered(samples: np.ndarray, rate_hz: float, kind: Literal["lowpass", "highpass"], edge_hz: float) -> np.ndarray:
    """Zero-phase second-order Butterworth; nothing is done where the rate cannot hold the edge."""
    if edge_hz > 0.45 * rate_hz:
        return samples
    sections = signal.butter(2, edge_hz, kind, fs=rate_hz, output="sos")
    return np.asarray(
        signal.sosfiltfilt(sections, samples, axis=1, padlen=min(samples.shape[1] - 1, round(2 * rate_hz)))
    )


def _lead_peaks(row: np.ndarray) -> np.ndarray:
    """[beat] samples. NeuroKit2 stops with an error of numpy's where it finds nothing to stand on: no peaks then."""
    import neurokit2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cleaned = neurokit2.ecg_clean(row, sampling_rate=WORK_RATE_HZ)
            _, found = neurokit2.ecg_peaks(cleaned, sampling_rate=WORK_RATE_HZ)
        except (ValueError, IndexError, ZeroDivisionError, KeyError):
            return np.empty(0, int)
    return np.asarray(found["ECG_R_Peaks"], int)


def _envelopes(samples: np.ndarray) -> np.ndarray:
    """[lead, time] the smoothed QRS-band signal, each lead scaled to a beat height near 1."""
    sections = signal.butter(2, _QRS_BAND_HZ, "bandpass", fs=WORK_RATE_HZ, output="sos")
    band = np.abs(signal.sosfiltfilt(sections, samples, axis=1))
    window = signal.windows.hann(_ENVELOPE_SAMPLES)
    envelope = signal.fftconvolve(band, window[None] / window.sum(), mode="same", axes=1)
    return np.asarray(envelope / np.maximum(_beat_height(envelope), 1e-12)[:, None])


def _beat_height(envelope: np.ndarray) -> np.ndarray:
    """[...] median of the maxima of 1.5 s stretches, each of which holds a beat in all but extreme bradycardia."""
    stretch = min(_STRETCH_SAMPLES, envelope.shape[-1])
    whole = envelope.shape[-1] // stretch
    stretches = envelope[..., : whole * stretch].reshape(*envelope.shape[:-1], whole, stretch)
    return np.asarray(np.median(stretches.max(axis=-1), axis=-1))


def _maxima(envelope: np.ndarray, least: float) -> np.ndarray:
    """[beat] samples of the maxima that reach `least` of the usual height; half a QRS at an end does not count."""
    height = float(_beat_height(envelope))
    if height < 1e-9:
        return np.empty(0, int)
    peaks, _ = signal.find_peaks(envelope, height=least * height, distance=_REFRACTORY_SAMPLES)
    return np.asarray(peaks[(peaks >= _END_SAMPLES) & (peaks < envelope.size - _END_SAMPLES)], int)


def _agreed_peaks(envelope: np.ndarray, lead_peaks: tuple[np.ndarray, ...]) -> np.ndarray:
    """[beat] samples of the maxima that are high enough, or that are lower and that most leads take for a beat."""
    height = float(_beat_height(envelope))
    peaks = _maxima(envelope, _SMALLEST_BEAT)
    share = _share_of_leads(peaks, lead_peaks)
    tall = envelope[peaks] >= _CERTAIN_BEAT * height
    return peaks[(tall & ~_steep_t_waves(peaks, envelope[peaks], share)) | (share > 0.5)]


def _steep_t_waves(peaks: np.ndarray, heights: np.ndarray, share: np.ndarray) -> np.ndarray:
    """[beat] whether this is lower than what comes shortly before it, and most leads take only that for a beat."""
    if peaks.size == 0:
        return np.zeros(0, bool)
    before, height_before = np.roll(share, 1), np.roll(heights, 1)
    suspect = (np.diff(peaks, prepend=peaks[0]) < _T_WAVE_SAMPLES) & (before > 0.5)
    suspect &= (share <= 0.5 * before) & (heights < _T_WAVE_HEIGHT * height_before)
    suspect[0] = False
    return np.asarray(suspect)


def _share_of_leads(peaks: np.ndarray, lead_peaks: tuple[np.ndarray, ...]) -> np.ndarray:
    """[beat] the part of the leads that have an R peak of their own near."""
    near = [
        (np.abs(peaks[:, None] - own) <= _SAME_BEAT_SAMPLES).any(axis=1) if own.size else np.zeros(peaks.size, bool)
        for own in lead_peaks
    ]
    return np.asarray(np.mean(near, axis=0))
