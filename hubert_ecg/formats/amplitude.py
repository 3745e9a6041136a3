"""Whether amplitudes can be those of an ECG in mV, and the unit of samples that come without one."""

from dataclasses import replace

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.formats.options import Units

_MV_PER_UNIT = {"mV": 1.0, "uV": 1e-3, "V": 1e3}

PLAUSIBLE_MV = (0.1, 10.0)
"""Amplitudes of an ECG, from low voltage to hypertrophy with a drifting baseline, mV."""

_MAX_SAMPLES_JUDGED = 2000
"""Every so many-th sample of a lead is enough for its percentiles."""


def amplitude(samples: np.ndarray) -> float:
    """Median over the leads of the range from the 1st to the 99th percentile, in the samples' unit.

    [lead, time], NaN where nothing was recorded; leads without a sample do not count, without any the result is 0.
    """
    step = max(1, samples.shape[1] // _MAX_SAMPLES_JUDGED)
    ranges = [
        np.subtract(*np.percentile(known, [99, 1]))
        for lead in samples[:, ::step]
        if (known := lead[np.isfinite(lead)]).size
    ]
    return float(np.median(ranges)) if ranges else 0.0


def to_mv(samples: np.ndarray, units: Units) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """Samples of a format that knows no units, in mV. [lead, time] float32 -> the same, and what was noticed.

    With `auto` they are mV if that is plausible; otherwise uV or V, whichever is plausible, with a finding; otherwise
    mV still, with a severe one. A recording without any amplitude is left alone.
    """
    if units != "auto":
        factor = _MV_PER_UNIT[units]
        return (samples if factor == 1 else samples * np.float32(factor)), ()
    if _extremes_are_plausible(samples):
        return samples, ()
    span = amplitude(samples)
    if span == 0 or _is_plausible(span):
        return samples, ()
    for unit in ("uV", "V"):
        factor = _MV_PER_UNIT[unit]
        if _is_plausible(span * factor):
            return samples * np.float32(factor), (_converted(unit, span, factor),)
    return samples, (_wrong_units(span),)


def with_checked_amplitude(recording: Recording) -> Recording:
    """The recording, with a severe finding where its amplitudes cannot be those of an ECG in mV."""
    if recording.samples.size == 0 or any(finding.kind == "wrong units" for finding in recording.findings):
        return recording
    if _extremes_are_plausible(recording.samples):
        return recording
    span = amplitude(recording.samples)
    if span == 0 or _is_plausible(span):
        return recording
    return replace(recording, findings=(*recording.findings, _wrong_units(span)))


def _extremes_are_plausible(samples: np.ndarray) -> bool:
    """The quick test that nearly every recording passes: by the median lead's whole range."""
    ranges = np.fmax.reduce(samples, axis=1) - np.fmin.reduce(samples, axis=1)
    return _is_plausible(float(np.median(ranges)))


def _is_plausible(span_mv: float) -> bool:
    return PLAUSIBLE_MV[0] <= span_mv <= PLAUSIBLE_MV[1]


def _converted(unit: str, span: float, factor: float) -> Finding:
    return Finding(
        kind="unit converted",
        severity="warning",
        detail=f"The file names no unit. Its amplitude, {span:.4g} (median over the leads, 1st to 99th percentile), is "
        f"an ECG's in {unit} and not in mV, so the values were multiplied by {factor:g}.",
    )


def _wrong_units(span: float) -> Finding:
    return Finding(
        kind="wrong units",
        severity="severe",
        detail=f"The amplitude, {span:.4g} mV (median over the leads, 1st to 99th percentile), lies outside the "
        f"{PLAUSIBLE_MV[0]:g} to {PLAUSIBLE_MV[1]:g} mV of an ECG; the unit or the gain is wrong.",
    )
