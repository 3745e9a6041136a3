"""One ECG recording in memory: samples in mV with lead names, rate and ids, and its standard 12-lead form."""

from dataclasses import dataclass, replace

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.errors import RecordingError

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The 12 leads in the order in which every array of this project holds them."""

_CANONICAL = {lead.lower(): lead for lead in STANDARD_LEADS}


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
        if not self.sampling_rate_hz > 0:
            raise RecordingError(
                "bad sampling rate",
                f"{self.record_id or 'recording'}: wanted a sampling rate above 0 Hz, got {self.sampling_rate_hz}",
            )

    @property
    def duration_s(self) -> float:
        return self.samples.shape[1] / self.sampling_rate_hz


def standard_12_lead(recording: Recording) -> Recording:
    """The same recording with its leads in `STANDARD_LEADS` order, III, aVR, aVL and aVF derived where missing.

    Lead names match in any case. Derivation follows Einthoven and Goldberger: III = II - I, aVR = -(I + II) / 2,
    aVL = I - II / 2, aVF = II - I / 2.

    Raises RecordingError (`missing leads`) when a lead is absent and cannot be derived, (`duplicate lead`) when one
    name stands twice.
    """
    rows: dict[str, np.ndarray] = {}
    for name, row in zip(recording.lead_names, recording.samples, strict=True):
        lead = _CANONICAL.get(name.strip().lower())
        if lead is None:
            continue
        if lead in rows:
            raise RecordingError("duplicate lead", f"{recording.record_id}: lead {lead} stands twice; keep one of them")
        rows[lead] = row
    if "I" in rows and "II" in rows:
        i, ii = rows["I"], rows["II"]
        derived = {"III": ii - i, "aVR": -(i + ii) / 2, "aVL": i - ii / 2, "aVF": ii - i / 2}
        rows = derived | rows
    missing = [lead for lead in STANDARD_LEADS if lead not in rows]
    if missing:
        raise RecordingError(
            "missing leads",
            f"{recording.record_id}: wanted 12 leads, got {len(recording.lead_names)} {list(recording.lead_names)}; "
            f"missing {', '.join(missing)}",
        )
    samples = np.stack([rows[lead] for lead in STANDARD_LEADS]).astype(np.float32, copy=False)
    return replace(recording, samples=samples, lead_names=STANDARD_LEADS)
