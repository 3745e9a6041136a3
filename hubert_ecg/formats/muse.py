"""Read a GE MUSE XML export (RestingECG): its rhythm waveform in mV.

MUSE stores the 8 independent leads; the limb leads that follow from I and II are derived where 12 are wanted.
"""

import base64
import binascii
import os
from xml.etree.ElementTree import Element

import numpy as np

from hubert_ecg.ecg.finding import Finding, Severity
from hubert_ecg.ecg.leads import canonical_lead
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.person import age_between, age_in_years, known_id, known_sex
from hubert_ecg.formats.voltage import required_mv_per_unit, to_millivolts
from hubert_ecg.formats.xml import number, read_xml, required_number, text_at

_FLAGS: dict[str, tuple[str, Severity]] = {
    "LeadOff": ("lead off", "severe"),
    "BaselineSway": ("baseline", "warning"),
    "ExcessiveACNoise": ("noise", "warning"),
    "MuscleNoise": ("noise", "warning"),
}
"""What the cart may have noticed of a lead, as the kind and severity of a finding."""


def read_muse(path: str, *, record_id: str | None = None) -> Recording:
    """The rhythm of a MUSE export in mV, leads as stored, with the patient's id, age and sex where they are given.

    Findings say what the cart flagged of a lead (off, noisy, swaying), and whether the file holds further rhythms.

    Raises RecordingError: `missing file`, `too large`, `unreadable`, `unknown format`, `truncated`, `unknown unit`,
    `bad sampling rate`.
    """
    root = read_xml(path, "RestingECG")
    rhythm, *others = _rhythms(root, path)
    leads = rhythm.findall("LeadData")
    if not leads:
        raise RecordingError("missing leads", f"{path}: wanted leads in the rhythm waveform, got none")
    names = tuple(text_at(lead, "LeadID") for lead in leads)
    rows = [_counts(lead, f"{path}: lead {name[:40]}") for lead, name in zip(leads, names, strict=True)]
    lengths = sorted({row.size for row in rows})
    if lengths[0] == 0 or len(lengths) > 1:
        raise RecordingError(
            "truncated", f"{path}: wanted leads of one length, got {lengths[0]} to {lengths[-1]} samples"
        )
    gains_mv = np.array([_gain_mv(lead, path) for lead in leads])
    person, test = root.find("PatientDemographics"), root.find("TestDemographics")
    return Recording(
        samples=to_millivolts(np.stack(rows), gain_mv=gains_mv, offset_mv=np.zeros(len(rows)), what=path),
        sampling_rate_hz=_sampling_rate_hz(rhythm, path),
        lead_names=names,
        record_id=record_id or os.path.splitext(os.path.basename(path))[0],
        patient_id=known_id(text_at(person, "PatientID")),
        age_years=_age_years(person, test),
        sex=known_sex(text_at(person, "Gender")),
        findings=(*_left_out(len(others)), *(finding for lead in leads for finding in _flagged(lead))),
    )


def _rhythms(root: Element, path: str) -> list[Element]:
    """All waveforms of the type Rhythm, at least one, in the file's order."""
    waveforms = root.findall("Waveform")
    rhythms = [waveform for waveform in waveforms if text_at(waveform, "WaveformType").lower() == "rhythm"]
    if not rhythms:
        raise RecordingError("unreadable", f"{path}: wanted a Rhythm waveform, got {len(waveforms)} of other types")
    return rhythms


def _counts(lead: Element, what: str) -> np.ndarray:
    """[time] int16: the lead's numbers as the converter gave them. `what` names file and lead."""
    size = number(text_at(lead, "LeadSampleSize"))
    if size not in (None, 2.0):
        raise RecordingError("unreadable", f"{what}: wanted samples of 2 bytes, got {size:g}")
    try:
        content = base64.b64decode("".join(text_at(lead, "WaveFormData").split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordingError("unreadable", f"{what}: wanted samples in base64; {error!s:.200}") from error
    declared = number(text_at(lead, "LeadSampleCountTotal"))
    held = len(content) // 2
    if declared is not None and held < declared:
        raise RecordingError("truncated", f"{what}: wanted {declared:.0f} samples, got {held}; export it again")
    if len(content) % 2 or (declared is not None and held > declared):
        raise RecordingError("unreadable", f"{what}: wanted {declared} samples of 2 bytes, got {len(content)} bytes")
    return np.frombuffer(content, "<i2")


def _gain_mv(lead: Element, path: str) -> float:
    """mV per count."""
    what = f"{path}: lead {text_at(lead, 'LeadID')[:40]}"
    gain = required_number(text_at(lead, "LeadAmplitudeUnitsPerBit"), f"{what}, LeadAmplitudeUnitsPerBit")
    if gain == 0:
        raise RecordingError("unreadable", f"{what}: wanted LeadAmplitudeUnitsPerBit other than 0")
    return gain * required_mv_per_unit(text_at(lead, "LeadAmplitudeUnits"), what)


def _sampling_rate_hz(rhythm: Element, path: str) -> float:
    base, exponent = number(text_at(rhythm, "SampleBase")), number(text_at(rhythm, "SampleExponent"))
    if base is None or base <= 0 or abs(exponent or 0) > 6:
        raise RecordingError("bad sampling rate", f"{path}: wanted a SampleBase above 0 Hz, got {base}")
    return base * 10.0 ** (exponent or 0)


def _age_years(person: Element | None, test: Element | None) -> float | None:
    age = age_in_years(number(text_at(person, "PatientAge")), text_at(person, "AgeUnits"))
    return age_between(text_at(person, "DateofBirth"), text_at(test, "AcquisitionDate")) if age is None else age


def _left_out(num_waveforms: int) -> list[Finding]:
    if not num_waveforms:
        return []
    detail = f"The file holds {num_waveforms} more rhythm waveforms; they were not read."
    return [Finding(kind="waveforms left out", severity="info", detail=detail)]


def _flagged(lead: Element) -> list[Finding]:
    name = canonical_lead(text_at(lead, "LeadID"))
    return [
        Finding(kind=kind, severity=severity, lead=name, detail=f"The cart flagged this lead with {flag}.")
        for flag, (kind, severity) in _FLAGS.items()
        if text_at(lead, flag).upper() == "TRUE"
    ]
