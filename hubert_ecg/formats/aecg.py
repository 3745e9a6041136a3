"""Read an HL7 annotated ECG (AnnotatedECG, urn:hl7-org:v3): its rhythm series in mV.

Standard: ANSI/HL7 V3 ECG R1-2004 and the aECG implementation guide of 2005. A value is origin + scale * digit.
"""

import os
from itertools import repeat
from xml.etree.ElementTree import Element

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.leads import signed_lead
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.person import age_between, age_in_years, known_id, known_sex
from hubert_ecg.formats.voltage import mv_per_unit, required_mv_per_unit, to_millivolts
from hubert_ecg.formats.xml import attribute_at, number, read_xml, required_number, text_at

_SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6}
_SUBJECT = "componentOf/timepointEvent/componentOf/subjectAssignment/subject/trialSubject"
_LEAD_PREFIX = "MDC_ECG_LEAD_"
_REPORTED_AGE = "21612-7"
"""LOINC code of an age that was told rather than reckoned."""


def read_aecg(path: str, *, record_id: str | None = None) -> Recording:
    """The first rhythm series of an annotated ECG in mV, with the subject's id, age and sex where they are given.

    The representative beat is left out; so are further series, which a finding counts. The age is the reported one, or
    the completed years between the date of birth and the recording.

    Raises RecordingError: `missing file`, `too large`, `unreadable`, `unknown format`, `truncated`, `unknown unit`,
    `missing leads`, `bad sampling rate`.
    """
    root = read_xml(path, "AnnotatedECG")
    sets = _rhythm_sets(root)
    if not sets:
        raise RecordingError("unreadable", f"{path}: wanted a rhythm series, got none; the file holds no waveform")
    sequences = [(attribute_at(item, "code", "code"), item) for item in sets[0].iterfind("component/sequence")]
    names, values = _voltages(sequences, path)
    digits = _digits(values, path)
    gains_mv, offsets_mv = zip(*map(_gain_and_offset_mv, values, names, repeat(path)), strict=True)
    subject = root.find(_SUBJECT)
    return Recording(
        samples=to_millivolts(digits, gain_mv=np.array(gains_mv), offset_mv=np.array(offsets_mv), what=path),
        sampling_rate_hz=_sampling_rate_hz(sequences, path),
        lead_names=names,
        record_id=record_id or os.path.splitext(os.path.basename(path))[0],
        patient_id=known_id(attribute_at(subject, "id", "extension")),
        age_years=_age_years(root, subject),
        sex=known_sex(attribute_at(subject, "subjectDemographicPerson/administrativeGenderCode", "code")),
        findings=_sets_left_out(len(sets)),
    )


def _rhythm_sets(root: Element) -> list[Element]:
    """The sequence sets of all series that are not a representative beat, in the file's order."""
    return [
        sequence_set
        for series in root.iterfind("component/series")
        if attribute_at(series, "code", "code").upper() != "REPRESENTATIVE_BEAT"
        for sequence_set in series.iterfind("component/sequenceSet")
    ]


def _voltages(sequences: list[tuple[str, Element]], path: str) -> tuple[tuple[str, ...], list[Element]]:
    """Names and value elements of the leads. What is neither a time, a lead of the 12 nor a voltage is left out."""
    names, values = [], []
    for code, sequence in sequences:
        value = sequence.find("value")
        is_voltage = mv_per_unit(attribute_at(value, "scale", "unit")) is not None
        if value is not None and not code.upper().startswith("TIME_") and (is_voltage or signed_lead(code)[0]):
            names.append(code[len(_LEAD_PREFIX) :] if code.upper().startswith(_LEAD_PREFIX) else code)
            values.append(value)
    if not names:
        codes = [code[:40] for code, _ in sequences[:20]]
        raise RecordingError("missing leads", f"{path}: wanted ECG leads, got the sequences {codes}")
    return tuple(names), values


def _digits(values: list[Element], path: str) -> np.ndarray:
    """[lead, time] float64 as written; a digit of NaN was not recorded."""
    try:
        rows = [np.array(text_at(value, "digits").split(), dtype=np.float64) for value in values]
    except ValueError as error:
        raise RecordingError("unreadable", f"{path}: wanted numbers as digits; {error!s:.200}") from error
    lengths = sorted({row.size for row in rows})
    if lengths[0] == 0 or len(lengths) > 1:
        raise RecordingError(
            "truncated", f"{path}: wanted leads of one length, got {lengths[0]} to {lengths[-1]} samples"
        )
    return np.stack(rows)


def _gain_and_offset_mv(value: Element, name: str, path: str) -> tuple[float, float]:
    what = f"{path}: lead {name[:40]}"
    unit = attribute_at(value, "scale", "unit")
    gain = required_number(attribute_at(value, "scale", "value"), f"{what}, scale")
    if gain == 0:
        raise RecordingError("unreadable", f"{what}: wanted a scale other than 0")
    origin = number(attribute_at(value, "origin", "value")) or 0.0
    origin_unit = attribute_at(value, "origin", "unit") or unit
    return gain * required_mv_per_unit(unit, what), origin * required_mv_per_unit(origin_unit, what)


def _sampling_rate_hz(sequences: list[tuple[str, Element]], path: str) -> float:
    for sequence in [item for code, item in sequences if code in ("TIME_RELATIVE", "TIME_ABSOLUTE")]:
        step = number(attribute_at(sequence, "value/increment", "value"))
        unit = attribute_at(sequence, "value/increment", "unit")
        if step is not None and step > 0 and unit in _SECONDS_PER_UNIT:
            # A step of 0.002 s is 500 Hz, not the 499.99999 that binary fractions make of some.
            return round(1 / (step * _SECONDS_PER_UNIT[unit]), 6)
    raise RecordingError(
        "bad sampling rate", f"{path}: wanted a time sequence with an increment above 0 in s, ms or us, got none"
    )


def _age_years(root: Element, subject: Element | None) -> float | None:
    for observation in root.iterfind(".//relatedObservation"):
        if attribute_at(observation, "code", "code") == _REPORTED_AGE:
            reported = number(attribute_at(observation, "value", "value"))
            if (age := age_in_years(reported, attribute_at(observation, "value", "unit"))) is not None:
                return age
    born = attribute_at(subject, "subjectDemographicPerson/birthTime", "value")
    times = [
        attribute_at(root, path, "value") for path in ("effectiveTime/low", "effectiveTime/center", "effectiveTime")
    ]
    return age_between(born, next((time for time in times if time), ""))


def _sets_left_out(num_sets: int) -> tuple[Finding, ...]:
    if num_sets < 2:
        return ()
    detail = f"The file holds {num_sets} rhythm sequences; the first was read."
    return (Finding(kind="waveforms left out", severity="info", detail=detail),)
