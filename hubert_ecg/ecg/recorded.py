"""What of a recording was really recorded: where each lead ends, and its gaps filled, so that filters can run."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.recording import MissingLeads, Recording
from hubert_ecg.errors import RecordingError

MAX_MISSING_FRACTION = 0.5
"""A lead of which more than this is not a number is not worth filling in."""

NOTABLE_GAP_S = 0.1
"""Gaps of a lead that add up to more than this are a warning: about as long as a QRS complex."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """The samples of a recording up to where its last lead ends."""

    samples: np.ndarray
    """[lead, time] float32 mV, all finite: gaps are interpolated, ends held, missing leads 0."""
    until: np.ndarray
    """[lead] int: samples recorded, counted from the start; 0 for a lead that is missing."""
    findings: tuple[Finding, ...] = ()

    @cached_property
    def flat(self) -> np.ndarray:
        """[lead] bool: the lead never changes."""
        return (self.samples == self.samples[:, :1]).all(axis=1)

    def valid_samples(self, num_samples: int) -> np.ndarray:
        """[lead] int32: how much of a lead was recorded, when the recording is resampled to `num_samples`."""
        return (self.until * num_samples // self.samples.shape[1]).astype(np.int32)


def recorded_part(recording: Recording, *, missing_leads: MissingLeads) -> Recorded:
    """Cut off the end where no lead was recorded and fill gaps by linear interpolation, end runs by holding.

    Raises RecordingError: `missing leads` (a lead holds nothing, and `missing_leads` is `refuse`), `not a number` (no
    lead holds anything, or a lead is missing for more than half of what was recorded).
    """
    samples = recording.samples
    finite = np.isfinite(samples)
    if finite.all():
        # Readers often hand over transposed [time, lead] arrays, on which everything else is several times slower.
        return Recorded(
            samples=np.ascontiguousarray(samples, np.float32), until=np.full(len(samples), samples.shape[1])
        )
    name = recording.record_id or "recording"
    until = np.where(finite.any(axis=1), samples.shape[1] - finite[:, ::-1].argmax(axis=1), 0)
    end = int(until.max())
    if end == 0:
        raise RecordingError("not a number", f"{name}: no lead holds a single number; nothing was recorded")
    samples, finite = samples[:, :end], finite[:, :end]
    _check_gaps(recording, until, finite, missing_leads, name)
    filled = samples.astype(np.float32, order="C")
    findings: list[Finding] = []
    places = np.arange(end)
    for lead in np.flatnonzero(~finite.all(axis=1)):
        known = finite[lead]
        filled[lead] = np.interp(places, places[known], samples[lead, known]) if until[lead] else 0
        findings += _describe(recording, int(lead), known, int(until[lead]))
    return Recorded(samples=filled, until=until, findings=tuple(findings))


def _check_gaps(
    recording: Recording, until: np.ndarray, finite: np.ndarray, missing_leads: MissingLeads, name: str
) -> None:
    empty = [recording.lead_names[lead] for lead in np.flatnonzero(until == 0)]
    if empty and missing_leads == "refuse":
        raise RecordingError(
            "missing leads",
            f"{name}: nothing was recorded in {', '.join(empty)}; wanted all 12 leads, or missing_leads zero, which "
            "masks them",
        )
    missing = np.where(until > 0, 1 - finite.mean(axis=1), 0)
    worst = int(missing.argmax())
    if missing[worst] > MAX_MISSING_FRACTION:
        raise RecordingError(
            "not a number",
            f"{name}: lead {recording.lead_names[worst]} is missing for {missing[worst]:.0%} of its samples, "
            f"wanted at most {MAX_MISSING_FRACTION:.0%}",
        )


def _describe(recording: Recording, lead: int, known: np.ndarray, until: int) -> list[Finding]:
    """The findings of one lead that has gaps; `known` is [time] bool."""
    name, rate_hz = recording.lead_names[lead], recording.sampling_rate_hz
    if until == 0:
        if any(finding.kind == "missing lead" and finding.lead == name for finding in recording.findings):
            return []
        detail = f"Nothing was recorded in lead {name}; it is zero and not attended to."
        return [Finding(kind="missing lead", severity="warning", lead=name, detail=detail)]
    findings = []
    gaps = np.flatnonzero(~known[:until])
    if len(gaps):
        total_s = len(gaps) / rate_hz
        runs = 1 + int((np.diff(gaps) > 1).sum())
        findings.append(
            Finding(
                kind="filled",
                severity="warning" if total_s > NOTABLE_GAP_S else "info",
                lead=name,
                detail=f"{len(gaps)} samples ({total_s:.3f} s, {runs} {'gap' if runs == 1 else 'gaps'}) were not "
                "numbers and were interpolated.",
                start_s=float(gaps[0] / rate_hz),
                end_s=float((gaps[-1] + 1) / rate_hz),
            )
        )
    if until < len(known):
        early_s = (len(known) - until) / rate_hz
        detail = f"Lead {name} ends {early_s:.3f} s before the others; its rest is zero and not attended to."
        findings.append(
            Finding(
                kind="padded",
                severity="warning",
                lead=name,
                detail=detail,
                start_s=until / rate_hz,
                end_s=len(known) / rate_hz,
            )
        )
    return findings
