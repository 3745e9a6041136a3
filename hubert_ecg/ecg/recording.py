"""One ECG recording in memory: samples in mV with lead names, rate and ids, and its standard 12-lead form."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.leads import STANDARD_LEADS, canonical_lead, is_electrode_name, signed_lead
from hubert_ecg.errors import ConfigError, RecordingError

__all__ = ["STANDARD_LEADS", "MissingLeads", "Recording", "canonical_lead", "signed_lead", "standard_12_lead"]

MissingLeads = Literal["refuse", "zero"]
"""What becomes of a recording that lacks a lead: refused, or kept with that lead zero-filled and masked."""

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1.0, 1e6
"""What lies below is a trend of measurements, no ECG; beyond, a damaged header, for which filters take all memory."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """An ECG as it was read: nothing filtered, nothing resampled."""

    samples: np.ndarray
    """[lead, time] in mV, float32; NaN where nothing was recorded."""
    sampling_rate_hz: float
    """Samples per second of every lead."""
    lead_names: tuple[str, ...] = STANDARD_LEADS
    """One name per row of `samples`, in the source's spelling."""
    record_id: str = ""
    """Unique within its data set."""
    patient_id: str | None = None
    """Groups recordings of one person, so that they stay in one split."""
    age_years: float | None = None
    sex: str | None = None
    """`female`, `male` or None."""
    findings: tuple[Finding, ...] = ()
    """What its reader noticed: units that were converted, gains that contradict one another, padding."""

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.shape[0] != len(self.lead_names):
            raise RecordingError(
                "wrong shape",
                f"{self.record_id or 'recording'}: wanted samples [lead, time] with {len(self.lead_names)} leads "
                f"{list(self.lead_names)}, got an array of shape {self.samples.shape}; name one lead per row",
            )
        if not LOWEST_RATE_HZ <= self.sampling_rate_hz <= HIGHEST_RATE_HZ:
            raise RecordingError(
                "bad sampling rate",
                f"{self.record_id or 'recording'}: wanted a sampling rate of {LOWEST_RATE_HZ:g} to "
                f"{HIGHEST_RATE_HZ:g} Hz, got {self.sampling_rate_hz:g} Hz",
            )

    @property
    def duration_s(self) -> float:
        return self.samples.shape[1] / self.sampling_rate_hz


def standard_12_lead(recording: Recording, *, missing: MissingLeads = "refuse") -> Recording:
    """The same recording with its leads in `STANDARD_LEADS` order, III, aVR, aVL and aVF derived where missing.

    Lead names match in any spelling that `signed_lead` knows; other rows are left out, -aVR is turned over. Derivation
    follows Einthoven and Goldberger: III = II - I, aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2; each one
    that is derived is a finding. With `missing="zero"` every other absent lead is a row of NaN,
    which preprocessing turns into masked zeros, and a finding.

    Raises RecordingError (`missing leads`) when a lead is absent and cannot be derived, or with `missing="zero"` when
    none of the 12 is there, (`duplicate lead`) when one lead stands twice.
    """
    if missing not in ("refuse", "zero"):
        raise ConfigError(f"missing leads: wanted refuse or zero, got {missing!r}")
    if recording.lead_names == STANDARD_LEADS:
        return recording
    rows = _rows_by_lead(recording)
    findings = list(recording.findings)
    for lead, row in _derived_limb_leads(rows).items():
        rows[lead] = row
        findings.append(
            Finding(kind="derived lead", severity="info", lead=lead, detail=f"Lead {lead} was derived from I and II.")
        )
    absent = [lead for lead in STANDARD_LEADS if lead not in rows]
    if absent and (missing == "refuse" or not rows):
        raise RecordingError("missing leads", _missing_message(recording, absent))
    for lead in absent:
        rows[lead] = np.full(recording.samples.shape[1], np.nan, np.float32)
        findings.append(
            Finding(kind="missing lead", severity="warning", lead=lead, detail=f"Lead {lead} is not in the recording.")
        )
    samples = np.stack([rows[lead] for lead in STANDARD_LEADS]).astype(np.float32, copy=False)
    return replace(recording, samples=samples, lead_names=STANDARD_LEADS, findings=tuple(findings))


def _rows_by_lead(recording: Recording) -> dict[str, np.ndarray]:
    """Canonical name -> [time], of the leads that the recording holds itself."""
    electrodes = {canonical_lead(name) for name in recording.lead_names if is_electrode_name(name)}
    rows: dict[str, np.ndarray] = {}
    inverted: dict[str, np.ndarray] = {}
    for name, row in zip(recording.lead_names, recording.samples, strict=True):
        lead, sign = signed_lead(name)
        # C3 and C4 alone are an EEG's; all six together are the chest leads.
        if lead is None or (is_electrode_name(name) and len(electrodes) < 6):
            continue
        target = rows if sign > 0 else inverted
        if lead in target:
            raise RecordingError("duplicate lead", f"{recording.record_id}: lead {lead} stands twice; keep one of them")
        target[lead] = row if sign > 0 else -row
    return inverted | rows


def _derived_limb_leads(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The limb leads that are missing and follow from I and II."""
    wanted = [lead for lead in ("III", "aVR", "aVL", "aVF") if lead not in rows]
    if not wanted or "I" not in rows or "II" not in rows:
        return {}
    i, ii = rows["I"], rows["II"]
    derived = {"III": ii - i, "aVR": -(i + ii) / 2, "aVL": i - ii / 2, "aVF": ii - i / 2}
    return {lead: derived[lead] for lead in wanted}


def _missing_message(recording: Recording, absent: list[str]) -> str:
    names = list(recording.lead_names)
    shown = f"{names[:15]} and {len(names) - 15} more" if len(names) > 15 else f"{names}"
    return (
        f"{recording.record_id or 'recording'}: wanted 12 leads, got {len(names)} {shown}; missing {', '.join(absent)}"
    )
